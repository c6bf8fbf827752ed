//! The analysis as one HTML file.

use cifar_data::duplicates::{Kind, Pair};
use cifar_data::{SampleId, store};

use super::beliefs::Figures;
use super::patterns::LEVEL;
use super::{HardImagesSummary, Inputs, Part, Pattern, Row, Statistic};
use crate::Result;
use crate::page::{self, Embed, Measures, PageData, Patterns, hard_images_page};

/// The bytes of the page over `rows`, in their order.
pub(super) fn page(
    inputs: &Inputs,
    parts: &[Part],
    rows: &[Row],
    summary: &HardImagesSummary,
    patterns: &[Pattern],
) -> Result<Vec<u8>> {
    let train = &inputs.data.train;
    let neighbours: Vec<Vec<SampleId>> =
        rows.iter().map(|row| row.neighbours.iter().map(|n| train.samples()[n.place].id).collect()).collect();
    let mut pairs: Vec<Pair> = inputs.pairs.iter().copied().filter(|pair| pair.kind != Kind::Similar).collect();
    pairs.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then((a.first, a.second).cmp(&(b.first, b.second))));
    let fingerprints: Vec<String> = parts.iter().map(|part| store::fingerprint(part.set)).collect();
    Ok(hard_images_page(&PageData {
        header: train.header(),
        dataset_version: &summary.dataset_version,
        model: &format!("{}, {} epochs", inputs.model.spec().params.architecture.name(), summary.epochs),
        seeds: &[summary.seed],
        fingerprint: &fingerprints.join("-"),
        rows: &rows.iter().zip(&neighbours).map(|(row, neighbours)| shown(row, neighbours)).collect::<Vec<_>>(),
        pairs: &pairs,
        patterns: &told(patterns),
        withheld: &summary.withheld(),
        review: inputs.review,
        embed: Embed::default(),
    })?)
}

/// The patterns that survive.
fn told(patterns: &[Pattern]) -> Patterns {
    let significant = |pattern: &Pattern| page::PatternLine {
        sentence: pattern.words.clone(),
        effect: match pattern.statistic {
            Statistic::OddsRatio => format!("odds ratio {:.2}", pattern.effect),
            Statistic::Auroc => format!("AUROC {:.2}", pattern.effect),
        },
        n: pattern.n,
        q: pattern.q,
    };
    let survive = patterns.iter().filter(|pattern| pattern.is_told());
    Patterns { tested: patterns.len(), level: LEVEL, significant: survive.map(significant).collect() }
}

/// A row as the page has it.
fn shown<'a>(row: &'a Row, neighbours: &'a [SampleId]) -> page::Row<'a> {
    let (sample, figures) = (row.sample, &row.figures);
    page::Row {
        id: sample.id,
        content: row.content,
        split: row.split,
        file: &sample.file,
        label: sample.label,
        original_label: sample.original_label,
        predicted: figures.predicted,
        suggested: figures.suggested.map(|(class, _)| class),
        measures: measures(figures),
        category: row.finding.as_ref().map_or("", |finding| finding.category.name()),
        reason: row.finding.as_ref().map_or("", |finding| &finding.reason),
        neighbours,
        pixels: row.pixels,
    }
}

/// The figures of an image as the page has them.
pub(super) fn measures(figures: &Figures) -> Measures {
    let over_epochs = figures.trajectory;
    Measures {
        label_issue_score: Some(figures.label_issue),
        hardness_score: Some(figures.hardness),
        p_label: Some(f64::from(figures.p_label)),
        p_suggested: figures.suggested.map(|(_, belief)| f64::from(belief)),
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
