//! The tables of an analysis, as CSV.

use cifar_data::Dataset;
use cifar_data::labels::{Entries, Review};
use cifar_data::spreadsheet::csv as table;

use super::{Category, Part, Pattern, Row, Statistic};
use crate::confusion::ConfusionMatrix;
use crate::interval::wilson;
use crate::metrics::Scores;

/// Columns of `hard_images.csv`.
const COLUMNS: [&str; 29] = [
    "id",
    "content",
    "split",
    "file",
    "label",
    "original_label",
    "pred",
    "suggested_label",
    "p_label",
    "p_suggested",
    "margin",
    "entropy",
    "loss",
    "aum",
    "mean_margin",
    "el2n",
    "forgetting_events",
    "first_learnt_epoch",
    "confidence",
    "variability",
    "correctness",
    "oof_self_confidence",
    "oof_margin",
    "label_issue_score",
    "hardness_score",
    "category",
    "reason",
    "rank",
    "source",
];

/// A figure that may not apply: empty then.
fn optional<T: ToString>(value: Option<T>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

/// Every image, in the order of `rows`. As in all tables, the last column names the source of the images.
pub(super) fn hard_images(rows: &[Row], classes: &[String], source: &str) -> Vec<u8> {
    let class = |label: u16| classes[usize::from(label)].clone();
    table(
        &COLUMNS,
        (1..).zip(rows).map(|(rank, row): (usize, _)| {
            let (s, f, t) = (row.sample, &row.figures, row.figures.trajectory);
            vec![
                s.id.to_string(),
                row.content.to_string(),
                row.split.to_string(),
                s.file.clone(),
                class(s.label),
                class(s.original_label),
                class(f.predicted),
                optional(f.suggested.map(|(label, _)| class(label))),
                f.p_label.to_string(),
                optional(f.suggested.map(|(_, p)| p)),
                f.margin.to_string(),
                f.entropy.to_string(),
                f.loss.to_string(),
                optional(t.map(|t| t.aum)),
                optional(t.map(|t| t.mean_margin)),
                optional(t.map(|t| t.el2n)),
                optional(t.map(|t| t.forgetting_events)),
                optional(t.and_then(|t| t.first_learnt)),
                optional(t.map(|t| t.confidence)),
                optional(t.map(|t| t.variability)),
                optional(t.map(|t| t.correctness)),
                optional(f.out_of_fold.map(|(p, _)| p)),
                optional(f.out_of_fold.map(|(_, margin)| margin)),
                f.label_issue.to_string(),
                f.hardness.to_string(),
                row.finding.as_ref().map(|finding| finding.category.name().to_string()).unwrap_or_default(),
                row.finding.as_ref().map(|finding| finding.reason.clone()).unwrap_or_default(),
                rank.to_string(),
                source.into(),
            ]
        }),
    )
}

/// For each split, which class is taken for which, and how many images of the one confident learning finds to be the other;
/// that is empty where the network knows too little of the split.
pub(super) fn confusion_pairs(parts: &[Part], classes: &[String], source: &str) -> Vec<u8> {
    let rows = parts.iter().flat_map(|part| {
        let confusion = confusion(part);
        confusion.as_ref().map(ConfusionMatrix::confused_pairs).unwrap_or_default().into_iter().map(move |pair| {
            let total = confusion.as_ref().map_or(0, |c| c.row_sum(pair.label));
            let interval = wilson(pair.count, total);
            vec![
                part.split.to_string(),
                classes[pair.label].clone(),
                classes[pair.predicted].clone(),
                pair.count.to_string(),
                (pair.count as f64 / total as f64).to_string(),
                interval.low.to_string(),
                interval.high.to_string(),
                optional(
                    (part.beliefs.competence.knows_split).then(|| part.beliefs.joint.get(pair.label, pair.predicted)),
                ),
                source.into(),
            ]
        })
    });
    let columns = [
        "split",
        "label",
        "predicted",
        "images",
        "share_of_label",
        "share_low",
        "share_high",
        "estimated_mislabelled",
        "source",
    ];
    table(&columns, rows)
}

/// Every question that was asked; words for what survives only.
pub(super) fn patterns(patterns: &[Pattern], source: &str) -> Vec<u8> {
    let rows = patterns.iter().map(|pattern| {
        vec![
            pattern.name.clone(),
            match pattern.statistic {
                Statistic::OddsRatio => "odds_ratio".into(),
                Statistic::Auroc => "auroc".into(),
            },
            pattern.effect.to_string(),
            pattern.n.to_string(),
            pattern.p.to_string(),
            pattern.q.to_string(),
            if pattern.is_told() { pattern.words.clone() } else { String::new() },
            source.into(),
        ]
    });
    table(&["pattern", "statistic", "effect_size", "n", "p", "q", "words", "source"], rows)
}

/// Label and prediction of a split's images; none without images.
pub(super) fn confusion(part: &Part) -> Option<ConfusionMatrix> {
    let labels = part.set.labels();
    Scores::new(part.beliefs.probabilities(), &labels, part.set.classes().len()).ok().map(|scores| scores.confusion())
}

/// The nearest training images of every image with a finding.
pub(super) fn neighbours(rows: &[Row], train: &Dataset, source: &str) -> Vec<u8> {
    let rows = rows.iter().flat_map(|row| {
        (1..).zip(&row.neighbours).map(|(nearness, neighbour): (usize, _)| {
            let other = &train.samples()[neighbour.place];
            vec![
                row.sample.id.to_string(),
                row.content.to_string(),
                nearness.to_string(),
                other.id.to_string(),
                train.content(neighbour.place).to_string(),
                train.classes()[usize::from(other.label)].clone(),
                neighbour.similarity.to_string(),
                source.into(),
            ]
        })
    });
    let columns =
        ["id", "content", "nearness", "neighbour_id", "neighbour_content", "neighbour_label", "similarity", "source"];
    table(&columns, rows)
}

/// What a person might look at, in an order that makes the most of their time: likely mislabels, then copies with another label
/// or across the test set; not what was decided before. The columns `decision`, `label` (the suggestion stands there) and `note` are for that
/// person; the lines may then go into `labels/review.csv` as they are.
pub(super) fn review_candidates(rows: &[Row], classes: &[String], review: &Entries<Review>) -> Vec<u8> {
    let class = |label: u16| classes[usize::from(label)].clone();
    let is_wanted = |category| matches!(category, Category::LikelyMislabelled | Category::DuplicateOrLeak);
    let candidates = rows.iter().filter(|row| !review.contains_key(&row.sample.id)).filter_map(|row| {
        let finding = row.finding.as_ref().filter(|finding| is_wanted(finding.category))?;
        let (s, f) = (row.sample, &row.figures);
        Some(vec![
            s.id.to_string(),
            row.content.to_string(),
            s.file.clone(),
            String::new(),
            optional(f.suggested.map(|(label, _)| class(label))),
            String::new(),
            row.split.to_string(),
            class(s.label),
            optional(f.suggested.map(|(_, p)| p)),
            f.label_issue.to_string(),
            finding.category.name().to_string(),
            finding.reason.clone(),
        ])
    });
    let columns = [
        "id",
        "content",
        "file",
        "decision",
        "label",
        "note",
        "split",
        "label_in_force",
        "p_suggested",
        "label_issue_score",
        "category",
        "reason",
    ];
    table(&columns, candidates)
}
