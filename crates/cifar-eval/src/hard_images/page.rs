//! The page of an analysis: one HTML file.

use cifar_data::duplicates::{Kind, Pair};
use cifar_data::{Progress, SampleId, store};
use cifar_model::{Model, images_per_pass};

use super::figures::Figures;
use super::patterns::FALSE_DISCOVERY_RATE;
use super::{Category, ErrorPattern, HardImage, HardImages, Statistic};
use crate::Result;
use crate::page::{self, ActivationMaps, Embed, Measures, PageData, Patterns, embedded_rows, hard_images_page};

/// Returns the page.
pub(super) fn page(found: &HardImages, progress: &dyn Progress) -> Result<Vec<u8>> {
    let HardImages { images, patterns, summary, inputs, .. } = found;
    let neighbours: Vec<Vec<SampleId>> =
        images.iter().map(|image| image.neighbours.iter().map(|n| n.id).collect()).collect();
    let mut pairs: Vec<Pair> = inputs.pairs.iter().copied().filter(|pair| pair.kind != Kind::Similar).collect();
    pairs.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then((a.first, a.second).cmp(&(b.first, b.second))));
    let fingerprints: Vec<String> = inputs.with_images().map(|split| store::fingerprint(split.images)).collect();
    let rows: Vec<page::Row> =
        images.iter().zip(&neighbours).map(|(image, neighbours)| row(image, neighbours)).collect();
    let mut data = PageData {
        header: found.header(),
        dataset_version: &summary.dataset_version,
        model: &inputs.model,
        seeds: inputs.seed.as_slice(),
        fingerprint: &fingerprints.join("-"),
        rows: &rows,
        pairs: &pairs,
        patterns: &significant(patterns),
        withheld: &summary.withheld(),
        review: &inputs.review,
        embed: Embed::default(),
        activation_maps: None,
    };
    let maps = match inputs.network {
        Some(model) => activation_maps(model, &embedded_rows(&data)?, &rows, progress)?,
        None => None,
    };
    data.activation_maps = maps.as_ref();
    Ok(hard_images_page(&data)?)
}

/// Returns the class-activation maps of embedded images, each of the class that is predicted; `None`
/// if the network has no such maps.
fn activation_maps(
    model: &Model,
    embedded: &[usize],
    rows: &[page::Row],
    progress: &dyn Progress,
) -> Result<Option<ActivationMaps>> {
    const WHAT: &str = "explaining predictions";
    let (classes, batch) = (model.spec().classes.len(), images_per_pass(model.spec().size));
    let mut found = ActivationMaps::default();
    for (done, chunk) in embedded.chunks(batch).enumerate() {
        progress.check()?;
        progress.update(WHAT, (done * batch) as u64, embedded.len() as u64);
        let pixels: Vec<u8> = chunk.iter().flat_map(|row| rows[*row].pixels).copied().collect();
        let Some(maps) = model.class_activations(&pixels)? else {
            return Ok(None);
        };
        found.size = [maps.dims()[1], maps.dims()[2]];
        let of_image =
            maps.values().map_err(cifar_model::ModelError::from)?.chunks_exact(found.size[0] * found.size[1] * classes);
        for (row, places) in chunk.iter().map(|row| &rows[*row]).zip(of_image) {
            let map = places.iter().skip(usize::from(row.predicted)).step_by(classes).copied().collect();
            found.maps.insert(row.id, map);
        }
    }
    progress.update(WHAT, embedded.len() as u64, embedded.len() as u64);
    Ok(Some(found))
}

/// Returns the significant patterns as the page shows them.
fn significant(patterns: &[ErrorPattern]) -> Patterns {
    let shown = |pattern: &ErrorPattern| page::PatternLine {
        sentence: pattern.words.clone(),
        effect: match pattern.statistic {
            Statistic::OddsRatio => format!("odds ratio {:.2}", pattern.effect),
            Statistic::Auroc => format!("AUROC {:.2}", pattern.effect),
        },
        n: pattern.n,
        q: pattern.q,
    };
    let significant = patterns.iter().filter(|pattern| pattern.is_significant());
    Patterns { tested: patterns.len(), level: FALSE_DISCOVERY_RATE, significant: significant.map(shown).collect() }
}

/// Returns the row of an image.
fn row<'a>(image: &'a HardImage, neighbours: &'a [SampleId]) -> page::Row<'a> {
    let (sample, figures) = (image.sample, &image.figures);
    page::Row {
        id: sample.id,
        content: image.content,
        split: image.split,
        file: &sample.file,
        label: sample.label,
        original_label: sample.original_label,
        predicted: figures.predicted,
        suggested: figures.suggested.map(|(class, _)| class),
        measures: measures(figures),
        category: image.category.map_or("", Category::name),
        reason: &image.reason,
        neighbours,
        position: image.position,
        pixels: image.pixels,
    }
}

/// Returns the figures of an image as the page shows them.
pub(super) fn measures(figures: &Figures) -> Measures {
    let over_epochs = figures.trajectory;
    Measures {
        label_issue_score: Some(figures.label_issue),
        hardness_score: Some(figures.hardness),
        outlier_score: figures.outlier,
        p_label: Some(f64::from(figures.p_label)),
        p_suggested: figures.suggested.map(|(_, p)| f64::from(p)),
        margin: Some(figures.margin),
        entropy: Some(figures.entropy),
        loss: Some(figures.loss),
        aum: over_epochs.map(|t| t.aum),
        mean_margin: over_epochs.map(|t| t.mean_margin),
        el2n: over_epochs.map(|t| t.el2n),
        forgetting_events: over_epochs.map(|t| f64::from(t.forgetting_events)),
        first_learnt_epoch: over_epochs.and_then(|t| t.first_learnt).map(f64::from),
        confidence: over_epochs.map(|t| t.confidence),
        variability: over_epochs.map(|t| t.variability),
        correctness: over_epochs.map(|t| t.correctness),
        oof_self_confidence: figures.out_of_fold.map(|(p, _)| f64::from(p)),
        oof_margin: figures.out_of_fold.map(|(_, margin)| margin),
    }
}
