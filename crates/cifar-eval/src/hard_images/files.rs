//! The files of an analysis.

use std::path::Path;

use cifar_data::output::OutputFolder;
use cifar_data::splits::Split;
use cifar_data::{Progress, provenance, store};

use super::evidence::{self, EVIDENCE};
use super::{COMMAND, FIRST_EPOCH_INPUT, HARD_IMAGES, HardImage, HardImages, HardImagesParams, PAGE, page, tables};
use crate::Result;
use crate::plots::{Caption, Tile, contact_sheet};

/// Tiles per row of a contact sheet.
const COLUMNS: usize = 10;

/// Writes the folder `out`.
pub(super) fn save(found: &HardImages, params: &HardImagesParams, out: &Path, progress: &dyn Progress) -> Result<()> {
    let HardImages { images, patterns, summary, splits, inputs } = found;
    let (classes, source) = (&found.header().classes, &summary.source);

    let folder = OutputFolder::create(out)?;
    folder.write(HARD_IMAGES, &tables::hard_images(images, classes, source))?;
    folder.write("confusion_pairs.csv", &tables::confusion_pairs(splits, classes, source)?)?;
    folder.write("patterns.csv", &tables::patterns(patterns, source))?;
    folder.write("neighbours.csv", &tables::neighbours(images, inputs.images(Split::Train), source))?;
    folder.write("map.csv", &tables::map(images, source))?;
    folder.write("review_candidates.csv", &tables::review_candidates(images, classes, &inputs.review))?;
    let evidence = splits.iter().map(|split| (split.input.split, &split.evidence));
    folder.write(EVIDENCE, &evidence::encode(evidence, classes, &out.join(EVIDENCE))?)?;
    folder.write_json("summary.json", summary)?;
    for (label, class) in classes.iter().enumerate() {
        progress.check()?;
        progress.update("drawing", label as u64, classes.len() as u64);
        // `Dataset` only accepts class names that can be file names.
        folder.write(&format!("sheets/{class}.png"), &sheet(found, label, params.per_class)?)?;
    }
    progress.update("drawing", classes.len() as u64, classes.len() as u64);
    folder.write(PAGE, &page::page(found, progress)?)?;
    let fingerprints: Vec<(&str, String)> =
        inputs.splits.iter().map(|split| (split.split.name(), store::fingerprint(split.images))).collect();
    let mut made_from = vec![("model", inputs.model_seal.as_str())];
    if !inputs.first_epoch_seal.is_empty() {
        made_from.push((FIRST_EPOCH_INPUT, inputs.first_epoch_seal.as_str()));
    }
    made_from.extend(fingerprints.iter().map(|(name, fingerprint)| (*name, fingerprint.as_str())));
    provenance::write(folder.path(), COMMAND, &made_from, &[HARD_IMAGES, EVIDENCE])?;
    progress.check()?;
    Ok(folder.commit()?)
}

/// Draws the contact sheet of the `count` most suspicious images with this label.
fn sheet(found: &HardImages, label: usize, count: usize) -> Result<Vec<u8>> {
    let (header, summary) = (found.header(), &found.summary);
    let classes = &header.classes;
    let of_class = found.images.iter().filter(|image| usize::from(image.sample.label) == label);
    let total = of_class.clone().count();
    let tile = |image: &HardImage| {
        let (most_probable, p) = image.figures.leading[0];
        vec![
            format!("{} {:.3}", classes[label], image.figures.p_label),
            format!("{} {p:.3}", classes[usize::from(most_probable)]),
            format!("#{} {}", image.sample.id, image.split),
        ]
    };
    let is_wrong = |image: &HardImage| usize::from(image.figures.predicted) != label;
    let tiles: Vec<Tile> = of_class
        .take(count)
        .map(|image| Tile { pixels: image.pixels, lines: tile(image), warn: is_wrong(image) })
        .collect();
    let title = format!("Hardest images labelled {}", classes[label]);
    let version = &summary.dataset_version;
    let version = if version.is_empty() { String::new() } else { format!(" of {version}") };
    let seed = found.inputs.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
    let footer = format!(
        "{} of {total} images{version} by label_issue_score; label and its probability, most probable class and its probability, id, split; framed if misclassified. {}{seed}",
        tiles.len(),
        summary.source,
    );
    let caption = Caption { title: &title, footer: &footer, synthetic: header.source.is_synthetic() };
    Ok(contact_sheet(&tiles, header.size.height, header.size.width, COLUMNS, &caption)?)
}
