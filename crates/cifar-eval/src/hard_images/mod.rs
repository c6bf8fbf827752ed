//! The images that a trained network finds hard: which are likely mislabelled, which ambiguous, which just missed, and why.
//!
//! In: the model, what training recorded ([`Dynamics`]), the images and what `evaluate` wrote of the test images. Out, in one
//! folder: `hard_images.csv` (every image, the likeliest mislabels first), `index.html` (the same to look at and to review),
//! `patterns.csv` (what the mistakes have in common), `confusion_pairs.csv`, `neighbours.csv`, `review_candidates.csv`,
//! `summary.json` and a contact sheet a class. [`crate::measures`] explains the measures.
//!
//! Categories that rest on the network's answers are empty where the network knows too little to doubt a label
//! (`competence`); scores are places and are always there.
//!
//! No measure, threshold or reason reads an original label or what is known to be planted: the label in force is all.

mod beliefs;
mod competence;
mod neighbours;
mod page;
mod patterns;
mod summary;
mod suspects;
mod tables;
mod triage;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use cifar_data::duplicates::Pair;
use cifar_data::labels::{Decision, Entries, Review};
use cifar_data::output::OutputFolder;
use cifar_data::prepare::{TestSet, TrainingData};
use cifar_data::splits::Split;
use cifar_data::{Content, Dataset, Progress, Sample, SampleId, provenance, store};
use cifar_model::{Model, Seen, predict_with_features};
use cifar_train::Dynamics;
use cifar_train::folds::OutOfFold;
use serde::{Deserialize, Serialize};

use self::beliefs::{Beliefs, Figures, follow};
use self::neighbours::{Neighbour, features, nearest};
use self::patterns::patterns;
use self::triage::{Finding, Partner, Subject, triage};
use crate::confusion::check_memory;
use crate::data_quality::{Issue, Quality};
use crate::plots::{Caption, Tile, contact_sheet};
use crate::predictions::Predictions;
use crate::{EvalError, Result};

pub use self::patterns::{Pattern, Statistic};
pub use self::summary::{HardImagesSummary, SplitSummary};
pub use self::suspects::{Suspect, suspects};
pub use self::triage::Category;

/// The command that writes the folder.
pub const COMMAND: &str = "hard-images";
/// File name of the table of all images.
pub const HARD_IMAGES: &str = "hard_images.csv";
/// File name of the page.
pub const PAGE: &str = "index.html";

/// Parameters of the search for hard images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "UncheckedHardImagesParams")]
pub struct HardImagesParams {
    /// Images on each class's contact sheet, 1 to 500.
    pub per_class: usize,
    /// Networks that are trained anew, each without a part of the training images, for measures that do not know them by heart: 0,
    /// or 2 to 20.
    pub folds: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedHardImagesParams {
    per_class: usize,
    folds: usize,
}

impl TryFrom<UncheckedHardImagesParams> for HardImagesParams {
    type Error = EvalError;

    fn try_from(p: UncheckedHardImagesParams) -> Result<Self> {
        let wrong = |key, value: usize, allowed: &str| EvalError::Parameter {
            key,
            value: value.to_string(),
            allowed: allowed.into(),
        };
        if !(1..=500).contains(&p.per_class) {
            return Err(wrong("per_class", p.per_class, "allowed is 1 to 500"));
        }
        if p.folds != 0 && !(2..=20).contains(&p.folds) {
            return Err(wrong("folds", p.folds, "allowed is 0 (none) or 2 to 20"));
        }
        Ok(Self { per_class: p.per_class, folds: p.folds })
    }
}

impl Default for HardImagesParams {
    fn default() -> Self {
        Self { per_class: 30, folds: 0 }
    }
}

/// What an analysis is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The trained network.
    pub model: &'a Model,
    /// What it said of each image while it was trained.
    pub dynamics: &'a Dynamics,
    /// Training and validation images.
    pub data: &'a TrainingData,
    /// Test images.
    pub test: &'a TestSet,
    /// What `evaluate` wrote about them.
    pub predictions: &'a Predictions,
    /// Images that show the same picture.
    pub pairs: &'a [Pair],
    /// What people decided about images; one whose label they found to be right has no category.
    pub review: &'a Entries<Review>,
    /// What networks say that did not learn from the training images, if some were trained.
    pub out_of_fold: Option<&'a OutOfFold>,
}

/// One image and what was found of it.
pub(crate) struct Row<'a> {
    split: Split,
    sample: &'a Sample,
    content: Content,
    pixels: &'a [u8],
    figures: Figures,
    finding: Option<Finding>,
    /// Of images with a finding.
    neighbours: Vec<Neighbour>,
}

/// A split's images with what is believed of them.
struct Part<'a> {
    split: Split,
    set: &'a Dataset,
    beliefs: Beliefs<'a>,
    /// What the final network sees in them.
    seen: Seen,
}

/// Looks at the images of all splits and writes `out`.
///
/// # Errors
/// If inputs do not belong together, a file cannot be written or the user asks to stop.
pub fn identify(
    params: &HardImagesParams,
    inputs: &Inputs,
    out: &Path,
    monitor: &dyn Progress,
) -> Result<HardImagesSummary> {
    check_memory(inputs.data.train.classes().len())?;
    let parts = parts(inputs, monitor)?;
    let mut rows = rows(&parts, inputs);
    add_neighbours(&mut rows, &parts, monitor)?;
    rows.sort_by(|a, b| {
        let (one, other) = (&a.figures, &b.figures);
        (other.label_issue.total_cmp(&one.label_issue))
            .then(other.hardness.total_cmp(&one.hardness))
            .then(a.sample.id.cmp(&b.sample.id))
    });
    let patterns = patterns(inputs, &parts);
    let summary = summary::summarise(inputs, &parts, &rows, &patterns)?;

    let (classes, train) = (inputs.data.train.classes(), &inputs.data.train);
    let source = &summary.source;
    let folder = OutputFolder::create(out)?;
    folder.write(HARD_IMAGES, &tables::hard_images(&rows, classes, source))?;
    folder.write("confusion_pairs.csv", &tables::confusion_pairs(&parts, classes, source))?;
    folder.write("patterns.csv", &tables::patterns(&patterns, source))?;
    folder.write("neighbours.csv", &tables::neighbours(&rows, train, source))?;
    folder.write("review_candidates.csv", &tables::review_candidates(&rows, classes, inputs.review))?;
    folder.write("summary.json", (serde_json::to_string_pretty(&summary).unwrap_or_default() + "\n").as_bytes())?;
    for (label, class) in classes.iter().enumerate() {
        monitor.check()?;
        monitor.update("drawing", label as u64, classes.len() as u64);
        let sheet = sheet(&rows, label, params.per_class, train, &summary)?;
        // `Dataset` lets only such names through as a file may have.
        folder.write(&format!("sheets/{class}.png"), &sheet)?;
    }
    monitor.update("drawing", classes.len() as u64, classes.len() as u64);
    folder.write(PAGE, &page::page(inputs, &parts, &rows, &summary, &patterns)?)?;
    let [train, val, test] = [train, &inputs.data.val, inputs.test.dataset()].map(store::fingerprint);
    let made_from = [("model", inputs.model.seal()), ("train", &train), ("val", &val), ("test", &test)];
    provenance::write(folder.path(), COMMAND, &made_from, &[HARD_IMAGES])?;
    monitor.check()?;
    folder.commit()?;
    Ok(summary)
}

/// What is believed of each split's images.
fn parts<'a>(inputs: &Inputs<'a>, monitor: &dyn Progress) -> Result<Vec<Part<'a>>> {
    let Inputs { model, dynamics, data, test, out_of_fold, .. } = *inputs;
    dynamics.check_train()?;
    let epochs = dynamics.epochs();
    if epochs < 2 {
        monitor.warn(&format!(
            "training recorded {epochs} epoch: forgetting events, variability and other measures over epochs mean little with fewer than two"
        ));
    }
    let mut parts = Vec::new();
    let seen = predict_with_features(model, &data.train, "scoring training images", monitor)?;
    let trajectories = follow(&data.train, epochs, |epoch| dynamics.of_train(epoch).unwrap_or_default())?;
    let others = out_of_fold.map(|found| found.train.as_slice());
    let beliefs = Beliefs::new(&data.train, seen.logits.probabilities()?, trajectories, others);
    parts.push(Part { split: Split::Train, set: &data.train, beliefs, seen });
    if !data.val.is_empty() {
        let seen = predict_with_features(model, &data.val, "scoring validation images", monitor)?;
        let trajectories = follow(&data.val, epochs, |epoch| dynamics.of_val(epoch))?;
        let others = out_of_fold.map(|found| found.val.as_slice());
        let beliefs = Beliefs::new(&data.val, seen.logits.probabilities()?, trajectories, others);
        parts.push(Part { split: Split::Val, set: &data.val, beliefs, seen });
    }
    let test = test.dataset();
    let probabilities = inputs.predictions.probabilities.clone();
    crate::metrics::Scores::new(&probabilities, &test.labels(), test.classes().len())?;
    let seen = predict_with_features(model, test, "features of test images", monitor)?;
    parts.push(Part { split: Split::Test, set: test, beliefs: Beliefs::new(test, probabilities, None, None), seen });
    Ok(parts)
}

/// A row an image, split by split.
fn rows<'a>(parts: &[Part<'a>], inputs: &Inputs) -> Vec<Row<'a>> {
    let place = |id: SampleId| parts.iter().find_map(|part| Some((part, part.set.index_of(id)?)));
    let partner = |id: SampleId, pair: &Pair| {
        let (part, index) = place(id)?;
        Some(Partner { id, kind: pair.kind, split: part.split, label: part.set.samples()[index].label })
    };
    let mut partners: BTreeMap<SampleId, Vec<Partner>> = BTreeMap::new();
    for pair in inputs.pairs {
        for (own, other) in [(pair.first, pair.second), (pair.second, pair.first)] {
            partners.entry(own).or_default().extend(partner(other, pair));
        }
    }
    let mut rows = Vec::new();
    for part in parts {
        let set = part.set;
        for (index, sample) in set.samples().iter().enumerate() {
            let figures = part.beliefs.figures(index, sample.label);
            let failed = Quality::of(set.image(index), set.size().width).issues();
            let issues: Vec<Issue> = failed.into_iter().map(|(issue, _)| issue).collect();
            let subject = Subject {
                classes: set.classes(),
                split: part.split,
                label: sample.label,
                figures: &figures,
                epochs: part.beliefs.epochs(),
                partners: partners.get(&sample.id).map_or(&[], Vec::as_slice),
                issues: &issues,
            };
            let is_dismissed =
                inputs.review.get(&sample.id).is_some_and(|entry| entry.says.decision == Decision::Dismiss);
            let finding = if is_dismissed { None } else { triage(&subject) };
            let neighbours = Vec::new();
            let (content, pixels) = (set.content(index), set.image(index));
            rows.push(Row { split: part.split, sample, content, pixels, figures, finding, neighbours });
        }
    }
    rows
}

/// Gives the images with a finding their neighbours, and tells in words what those are.
fn add_neighbours(rows: &mut [Row], parts: &[Part], monitor: &dyn Progress) -> Result<()> {
    const ROUND: usize = 1024;
    let Some(Part { set: train, seen, .. }) = parts.iter().find(|part| part.split == Split::Train) else {
        return Ok(());
    };
    let found: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].finding.is_some()).collect();
    for (round, chunk) in found.chunks(ROUND).enumerate() {
        monitor.check()?;
        monitor.update("finding neighbours", (round * ROUND) as u64, found.len() as u64);
        let queries: Vec<(&[f32], Option<usize>)> = (chunk.iter())
            .filter_map(|at| {
                let row = &rows[*at];
                let part = parts.iter().find(|part| part.split == row.split)?;
                let index = part.set.index_of(row.sample.id)?;
                Some((features(&part.seen, index), (row.split == Split::Train).then_some(index)))
            })
            .collect();
        for (at, neighbours) in chunk.iter().zip(nearest(seen, &queries)?) {
            let row = &mut rows[*at];
            let same = neighbours::with_label(&neighbours, train, row.sample.label);
            // The only training image has none.
            if let Some(finding) = row.finding.as_mut().filter(|_| !neighbours.is_empty()) {
                let _ = write!(
                    finding.reason,
                    "; {same} of its {} nearest training images have its label",
                    neighbours.len()
                );
            }
            row.neighbours = neighbours;
        }
    }
    monitor.update("finding neighbours", found.len() as u64, found.len() as u64);
    Ok(())
}

/// The images with one label that rank first.
fn sheet(rows: &[Row], label: usize, count: usize, set: &Dataset, summary: &HardImagesSummary) -> Result<Vec<u8>> {
    const COLUMNS: usize = 10;
    let classes = set.classes();
    let of_class = rows.iter().filter(|r| usize::from(r.sample.label) == label);
    let total = of_class.clone().count();
    let tiles: Vec<Tile> = of_class
        .take(count)
        .map(|r| Tile {
            pixels: r.pixels,
            lines: vec![
                format!("{} {:.3}", classes[label], r.figures.p_label),
                format!("{} {:.3}", classes[usize::from(r.figures.leading[0].0)], r.figures.leading[0].1),
                format!("#{} {}", r.sample.id, r.split),
            ],
            warn: usize::from(r.figures.predicted) != label,
        })
        .collect();
    let title = format!("Hardest images labelled {}", classes[label]);
    let footer = format!(
        "{} of {total} images of {} by label_issue_score; label with its probability, likeliest class with the belief in it, id, split; framed if missed. {}, seed {}",
        tiles.len(),
        summary.dataset_version,
        summary.source,
        summary.seed
    );
    let caption = Caption { title: &title, footer: &footer, synthetic: set.header().source.is_synthetic() };
    Ok(contact_sheet(&tiles, set.size().height, set.size().width, COLUMNS, &caption)?)
}
