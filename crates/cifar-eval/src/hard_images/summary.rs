//! The summary of an analysis, `summary.json`.

use std::collections::BTreeMap;

use cifar_data::splits::Split;
use serde::{Deserialize, Serialize};

use super::analysis::SplitAnalysis;
use super::tables::confusion;
use super::{Category, ErrorPattern, HardImage, Inputs};
use crate::Result;
use crate::interval::{Interval, wilson};

/// The counts of one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// Number of images.
    pub images: usize,
    /// Number of misclassified images.
    #[serde(rename = "missed")]
    pub misclassified: usize,
    /// Fraction of the images that are misclassified, 0..1.
    #[serde(rename = "missed_share")]
    pub misclassified_fraction: f64,
    /// Lower end of the fraction's 95 % interval (Wilson).
    #[serde(rename = "missed_low")]
    pub misclassified_low: f64,
    /// Upper end of that interval.
    #[serde(rename = "missed_high")]
    pub misclassified_high: f64,
    /// Number of images with a wrong label, as estimated by confident learning. Too high if classes
    /// are hard to tell apart. `None` if the network knows too little of the split.
    pub estimated_mislabelled: Option<f64>,
    /// Number of images that confident learning assigns to another class than their label; `None`
    /// as above.
    #[serde(rename = "doubted_by_confident_learning")]
    pub label_issues_by_confident_learning: Option<usize>,
    /// Why categories that depend on the predictions are empty (likely mislabelled, ambiguous,
    /// clear but missed): one sentence for the whole split, or one per class that the network does
    /// not know. Empty if nothing is withheld.
    pub withheld: Vec<String>,
    /// The images of each category.
    pub categories: BTreeMap<String, CategorySummary>,
}

/// Images of one category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CategorySummary {
    /// Number of images.
    pub images: usize,
    /// Their fraction of the split, 0..1.
    #[serde(rename = "share")]
    pub fraction: f64,
    /// The 95 % interval of the fraction (Wilson).
    pub interval: Interval,
}

/// The content of `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HardImagesSummary {
    /// Training images.
    pub train: Option<SplitSummary>,
    /// Validation images.
    pub val: Option<SplitSummary>,
    /// Test images.
    pub test: Option<SplitSummary>,
    /// The most frequent confusion among test images, such as `cat → dog (12 of 100)`.
    pub most_confused: Option<String>,
    /// What misclassified test images have in common, in words: the significant patterns.
    pub patterns: Vec<String>,
    /// Number of recorded epochs.
    pub epochs: usize,
    /// The source of the images.
    pub source: String,
    /// The partitions; empty if the images are not from partitions.
    pub dataset_version: String,
    /// The run's seed; 0 without one.
    pub seed: u64,
}

impl HardImagesSummary {
    /// Returns why categories that depend on the predictions are empty, each reason with its split.
    pub fn withheld(&self) -> Vec<String> {
        let splits = [("training", &self.train), ("validation", &self.val), ("test", &self.test)];
        let of_split = |(name, split): (&str, &Option<SplitSummary>)| -> Vec<String> {
            split.iter().flat_map(|s| &s.withheld).map(|reason| format!("Of the {name} images, {reason}.")).collect()
        };
        splits.into_iter().flat_map(of_split).collect()
    }

    /// Returns a few lines for people.
    pub fn in_words(&self) -> String {
        let line = |name: &str, s: &SplitSummary| {
            let found: Vec<String> = (Category::ALL.iter())
                .filter_map(|category| Some((category.name(), s.categories.get(category.name())?)))
                .map(|(name, found)| format!("{} {name}", found.images))
                .collect();
            let withheld: Vec<String> = s.withheld.iter().map(|reason| format!("\n       {reason}")).collect();
            let withheld = withheld.concat();
            format!(
                "{name}: {} of {} images misclassified, {:.2} % (95 % interval {:.2} to {:.2}); {}{withheld}",
                s.misclassified,
                s.images,
                s.misclassified_fraction * 100.0,
                s.misclassified_low * 100.0,
                s.misclassified_high * 100.0,
                found.join(", ")
            )
        };
        let splits = [("train", &self.train), ("val  ", &self.val), ("test ", &self.test)];
        let mut lines: Vec<String> =
            splits.into_iter().filter_map(|(name, split)| Some(line(name, split.as_ref()?))).collect();
        lines.extend(self.most_confused.as_ref().map(|pair| format!("most confused on test: {pair}")));
        lines.push(format!("({})", self.source));
        lines.join("\n")
    }
}

/// Summarises an analysis.
pub(super) fn summarise(
    inputs: &Inputs,
    splits: &[SplitAnalysis],
    images: &[HardImage],
    patterns: &[ErrorPattern],
) -> Result<HardImagesSummary> {
    let of_split = |wanted| splits.iter().find(|found| found.input.split == wanted);
    let summary = |wanted| of_split(wanted).map(|split| split_summary(split, images)).transpose();
    let most_confused = match of_split(Split::Test) {
        None => None,
        Some(test) => {
            let (confusion, classes) = (confusion(test)?, test.input.images.classes());
            confusion.confused_pairs().first().map(|pair| {
                let (label, predicted) = (&classes[pair.label], &classes[pair.predicted]);
                format!("{label} → {predicted} ({} of {})", pair.count, confusion.row_sum(pair.label))
            })
        }
    };
    let source = splits.first().map(|split| split.input.images.header().source.description.clone());
    Ok(HardImagesSummary {
        train: summary(Split::Train)?,
        val: summary(Split::Val)?,
        test: summary(Split::Test)?,
        most_confused,
        patterns: patterns.iter().filter(|p| p.is_significant()).map(|p| p.words.clone()).collect(),
        epochs: splits.iter().map(SplitAnalysis::epochs).max().unwrap_or_default(),
        source: source.unwrap_or_default(),
        dataset_version: inputs.dataset_version.clone(),
        seed: inputs.seed.unwrap_or_default(),
    })
}

fn split_summary(split: &SplitAnalysis, all: &[HardImage]) -> Result<SplitSummary> {
    let confusion = confusion(split)?;
    let images = split.input.images.len();
    let misclassified = images - (0..confusion.classes()).map(|k| confusion.get(k, k)).sum::<usize>();
    let Interval { low, high } = wilson(misclassified, images);
    let knows = split.competence.knows_split;
    let count = |category| {
        let found = all.iter().filter(|i| i.split == split.input.split && i.category == Some(category)).count();
        CategorySummary { images: found, fraction: found as f64 / images as f64, interval: wilson(found, images) }
    };
    Ok(SplitSummary {
        images,
        misclassified,
        misclassified_fraction: misclassified as f64 / images as f64,
        misclassified_low: low,
        misclassified_high: high,
        estimated_mislabelled: knows.then(|| split.joint.mislabelled()),
        label_issues_by_confident_learning: knows.then(|| split.joint.label_issues.iter().flatten().count()),
        withheld: split.competence.withheld.clone(),
        categories: Category::ALL.iter().map(|category| (category.name().to_string(), count(*category))).collect(),
    })
}
