//! The page of an analysis: one HTML file.

use cifar_data::duplicates::{Kind, Pair};
use cifar_data::{SampleId, store};

use super::figures::Figures;
use super::patterns::FALSE_DISCOVERY_RATE;
use super::{Category, ErrorPattern, HardImage, HardImages, Statistic};
use crate::Result;
use crate::page::{self, Embed, Measures, PageData, Patterns, hard_images_page};

/// Returns the page.
pub(super) fn page(found: &HardImages) -> Result<Vec<u8>> {
    let HardImages { images, patterns, summary, inputs, .. } = found;
    let neighbours: Vec<Vec<SampleId>> =
        images.iter().map(|image| image.neighbours.iter().map(|n| n.id).collect()).collect();
    let mut pairs: Vec<Pair> = inputs.pairs.iter().copied().filter(|pair| pair.kind != Kind::Similar).collect();
    pairs.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then((a.first, a.second).cmp(&(b.first, b.second))));
    let fingerprints: Vec<String> = inputs.with_images().map(|split| store::fingerprint(split.images)).collect();
    Ok(hard_images_page(&PageData {
        header: found.header(),
        dataset_version: &summary.dataset_version,
        model: &inputs.model,
        seeds: inputs.seed.as_slice(),
        fingerprint: &fingerprints.join("-"),
        rows: &images.iter().zip(&neighbours).map(|(image, neighbours)| row(image, neighbours)).collect::<Vec<_>>(),
        pairs: &pairs,
        patterns: &significant(patterns),
        withheld: &summary.withheld(),
        review: &inputs.review,
        embed: Embed::default(),
    })?)
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
        pixels: image.pixels,
    }
}

/// Returns the figures of an image as the page shows them.
pub(super) fn measures(figures: &Figures) -> Measures {
    let over_epochs = figures.trajectory;
    Measures {
        label_issue_score: Some(figures.label_issue),
        hardness_score: Some(figures.hardness),
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
