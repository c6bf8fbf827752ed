//! The tables of an analysis, as CSV.

use cifar_data::Dataset;
use cifar_data::labels::{Entries, Review};
use cifar_data::spreadsheet::csv as table;

use super::analysis::SplitAnalysis;
use super::{Category, ErrorPattern, HardImage, Statistic};
use crate::Result;
use crate::confusion::ConfusionMatrix;
use crate::interval::wilson;
use crate::metrics::Scores;

/// Columns of `hard_images.csv`.
const COLUMNS: [&str; 30] = [
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
    "outlier_score",
    "category",
    "reason",
    "rank",
    "source",
];

/// Returns a figure as a field; empty if it does not apply.
fn optional<T: ToString>(value: Option<T>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

/// Returns one row per image, in the order of `images`. As in all tables, the last column is the
/// source of the images.
pub(super) fn hard_images(images: &[HardImage], classes: &[String], source: &str) -> Vec<u8> {
    let class = |label: u16| classes[usize::from(label)].clone();
    table(
        &COLUMNS,
        (1..).zip(images).map(|(rank, image): (usize, _)| {
            let (s, f, t) = (image.sample, &image.figures, image.figures.trajectory);
            vec![
                s.id.to_string(),
                image.content.to_string(),
                image.split.to_string(),
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
                optional(f.outlier),
                optional(image.category.map(Category::name)),
                image.reason.clone(),
                rank.to_string(),
                source.into(),
            ]
        }),
    )
}

/// Returns, for each split, how many images of each class are predicted as each other class, and
/// how many confident learning estimates to be mislabelled so. The estimate is empty if the network
/// knows too little of the split.
pub(super) fn confusion_pairs(splits: &[SplitAnalysis], classes: &[String], source: &str) -> Result<Vec<u8>> {
    let confusions = splits.iter().map(|split| Ok((split, confusion(split)?))).collect::<Result<Vec<_>>>()?;
    let rows = confusions.iter().flat_map(|(split, confusion)| {
        confusion.confused_pairs().into_iter().map(|pair| {
            let total = confusion.row_sum(pair.label);
            let interval = wilson(pair.count, total);
            vec![
                split.input.split.to_string(),
                classes[pair.label].clone(),
                classes[pair.predicted].clone(),
                pair.count.to_string(),
                (pair.count as f64 / total as f64).to_string(),
                interval.low.to_string(),
                interval.high.to_string(),
                optional(split.competence.knows_split.then(|| split.joint.get(pair.label, pair.predicted))),
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
    Ok(table(&columns, rows))
}

/// Returns one row per question; only significant answers have words.
pub(super) fn patterns(patterns: &[ErrorPattern], source: &str) -> Vec<u8> {
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
            if pattern.is_significant() { pattern.words.clone() } else { String::new() },
            source.into(),
        ]
    });
    table(&["pattern", "statistic", "effect_size", "n", "p", "q", "words", "source"], rows)
}

/// Returns the numbers of images of a split by label and predicted class.
pub(super) fn confusion(split: &SplitAnalysis) -> Result<ConfusionMatrix> {
    let (set, labels) = (split.input.images, split.input.images.labels());
    Ok(Scores::new(&split.input.probabilities, &labels, set.classes().len())?.confusion())
}

/// Returns the nearest training images of every image that has some.
pub(super) fn neighbours(images: &[HardImage], train: Option<&Dataset>, source: &str) -> Vec<u8> {
    let rows = images.iter().flat_map(|image| {
        (1..).zip(&image.neighbours).filter_map(|(nearness, neighbour): (usize, _)| {
            let index = train?.index_of(neighbour.id)?;
            let train = train?;
            Some(vec![
                image.sample.id.to_string(),
                image.content.to_string(),
                nearness.to_string(),
                neighbour.id.to_string(),
                train.content(index).to_string(),
                train.classes()[usize::from(train.samples()[index].label)].clone(),
                neighbour.similarity.to_string(),
                source.into(),
            ])
        })
    });
    let columns =
        ["id", "content", "nearness", "neighbour_id", "neighbour_content", "neighbour_label", "similarity", "source"];
    table(&columns, rows)
}

/// Returns the position of every image on the map of features, in the order of `images`. Images
/// without a position have no row.
pub(super) fn map(images: &[HardImage], source: &str) -> Vec<u8> {
    let rows = images.iter().filter_map(|image| {
        let [x, y] = image.position?;
        Some([image.sample.id.to_string(), image.content.to_string(), x.to_string(), y.to_string(), source.into()])
    });
    table(&["id", "content", "x", "y", "source"], rows)
}

/// Returns the images to review, the most suspicious labels first: likely mislabels, and copies
/// with another label or on the other side of the test split. Images that people decided on are
/// left out.
///
/// A person fills in the columns `decision`, `label` (which has the suggestion) and `note`. The
/// table is then a valid `labels/review.csv`.
pub(super) fn review_candidates(images: &[HardImage], classes: &[String], review: &Entries<Review>) -> Vec<u8> {
    let class = |label: u16| classes[usize::from(label)].clone();
    let is_wanted = |category: Category| matches!(category, Category::LikelyMislabelled | Category::DuplicateOrLeak);
    let open = images.iter().filter(|image| !review.contains_key(&image.sample.id));
    let candidates = open.filter_map(|image| {
        let category = image.category.filter(|category| is_wanted(*category))?;
        let (s, f) = (image.sample, &image.figures);
        Some(vec![
            s.id.to_string(),
            image.content.to_string(),
            s.file.clone(),
            String::new(),
            optional(f.suggested.map(|(label, _)| class(label))),
            String::new(),
            image.split.to_string(),
            class(s.label),
            optional(f.suggested.map(|(_, p)| p)),
            f.label_issue.to_string(),
            category.name().to_string(),
            image.reason.clone(),
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
