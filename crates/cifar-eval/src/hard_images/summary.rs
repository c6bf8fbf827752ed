//! What an analysis comes to: `summary.json`.

use std::collections::BTreeMap;

use cifar_data::splits::Split;
use serde::{Deserialize, Serialize};

use super::tables::confusion;
use super::{Category, Inputs, Part, Pattern, Row};
use crate::interval::{Interval, wilson};
use crate::{EvalError, Result};

/// Counts of one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// Number of images.
    pub images: usize,
    /// Images whose label is not the most probable class.
    pub missed: usize,
    /// Their share, with its 95 % interval (Wilson).
    pub missed_share: f64,
    /// Lower end of the interval.
    pub missed_low: f64,
    /// Upper end of the interval.
    pub missed_high: f64,
    /// Images with a wrong label, as confident learning estimates from their joint with the classes that were found. An
    /// estimate that is too high where classes are hard to tell apart; none where the network knows too little of the split.
    pub estimated_mislabelled: Option<f64>,
    /// Images that confident learning puts into another class than their label's; none as above.
    pub doubted_by_confident_learning: Option<usize>,
    /// Why images have no category that rests on the network's answers (likely mislabelled, ambiguous, clear but missed): one
    /// sentence for the whole split, or one for each class that the network does not know. Empty if nothing is withheld.
    pub withheld: Vec<String>,
    /// Images of each category, with the share and its 95 % interval (Wilson).
    pub categories: BTreeMap<String, CategorySummary>,
}

/// Images of one category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CategorySummary {
    /// Number of images.
    pub images: usize,
    /// Their share of the split.
    pub share: f64,
    /// The interval of the share.
    pub interval: Interval,
}

/// `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HardImagesSummary {
    /// Training images, which the network learnt from.
    pub train: SplitSummary,
    /// Validation images, by which its epoch was chosen.
    pub val: Option<SplitSummary>,
    /// Test images.
    pub test: SplitSummary,
    /// The pair that is confused most often among test images, such as `cat → dog (12 of 100)`.
    pub most_confused: Option<String>,
    /// What missed test images have in common, in words: the patterns that survive the correction.
    pub patterns: Vec<String>,
    /// Epochs that training recorded.
    pub epochs: usize,
    /// Where the images came from.
    pub source: String,
    /// The partitions.
    pub dataset_version: String,
    /// The run's seed.
    pub seed: u64,
}

impl HardImagesSummary {
    /// Why some images have no category that rests on the network's answers, each reason with its split.
    pub fn withheld(&self) -> Vec<String> {
        let splits = [("training", Some(&self.train)), ("validation", self.val.as_ref()), ("test", Some(&self.test))];
        let of_split = |(name, split): (&str, Option<&SplitSummary>)| -> Vec<String> {
            split.iter().flat_map(|s| &s.withheld).map(|reason| format!("Of the {name} images, {reason}.")).collect()
        };
        splits.into_iter().flat_map(of_split).collect()
    }

    /// A few lines for people.
    pub fn in_words(&self) -> String {
        let line = |name: &str, s: &SplitSummary| {
            let found: Vec<String> = (Category::ALL.iter())
                .filter_map(|category| Some((category.name(), s.categories.get(category.name())?)))
                .map(|(name, found)| format!("{} {name}", found.images))
                .collect();
            let withheld: Vec<String> = s.withheld.iter().map(|reason| format!("\n       {reason}")).collect();
            let withheld = withheld.concat();
            format!(
                "{name}: {} of {} images missed, {:.2} % (95 % interval {:.2} to {:.2}); {}{withheld}",
                s.missed,
                s.images,
                s.missed_share * 100.0,
                s.missed_low * 100.0,
                s.missed_high * 100.0,
                found.join(", ")
            )
        };
        let mut lines = vec![line("train", &self.train)];
        lines.extend(self.val.as_ref().map(|val| line("val  ", val)));
        lines.push(line("test ", &self.test));
        lines.extend(self.most_confused.as_ref().map(|pair| format!("most confused on test: {pair}")));
        lines.push(format!("({})", self.source));
        lines.join("\n")
    }
}

/// Counts what was found.
pub(super) fn summarise(
    inputs: &Inputs,
    parts: &[Part],
    rows: &[Row],
    patterns: &[Pattern],
) -> Result<HardImagesSummary> {
    let missing =
        || EvalError::Parameter { key: "test images", value: "none".into(), allowed: "there must be some".into() };
    let of_split = |wanted| parts.iter().find(|part| part.split == wanted).and_then(|part| split_summary(part, rows));
    let test = parts.iter().find(|part| part.split == Split::Test).ok_or_else(missing)?;
    let (confusion, classes) = (confusion(test).ok_or_else(missing)?, test.set.classes());
    let report = &inputs.data.report;
    Ok(HardImagesSummary {
        train: of_split(Split::Train).ok_or_else(missing)?,
        val: of_split(Split::Val),
        test: of_split(Split::Test).ok_or_else(missing)?,
        most_confused: confusion.confused_pairs().first().map(|pair| {
            let (label, predicted) = (&classes[pair.label], &classes[pair.predicted]);
            format!("{label} → {predicted} ({} of {})", pair.count, confusion.row_sum(pair.label))
        }),
        patterns: patterns.iter().filter(|pattern| pattern.is_told()).map(|pattern| pattern.words.clone()).collect(),
        epochs: inputs.dynamics.epochs(),
        source: report.source.description.clone(),
        dataset_version: report.dataset_version.to_string(),
        seed: inputs.model.origin.as_ref().map_or(0, |o| o.seed),
    })
}

fn split_summary(part: &Part, rows: &[Row]) -> Option<SplitSummary> {
    let confusion = confusion(part)?;
    let images: usize = part.set.len();
    let missed = images - (0..confusion.classes()).map(|k| confusion.get(k, k)).sum::<usize>();
    let Interval { low, high } = wilson(missed, images);
    let knows = part.beliefs.competence.knows_split;
    let count = |category| {
        let found =
            rows.iter().filter(|r| r.split == part.split && r.finding.as_ref().is_some_and(|f| f.category == category));
        let found = found.count();
        CategorySummary { images: found, share: found as f64 / images as f64, interval: wilson(found, images) }
    };
    Some(SplitSummary {
        images,
        missed,
        missed_share: missed as f64 / images as f64,
        missed_low: low,
        missed_high: high,
        estimated_mislabelled: knows.then(|| part.beliefs.joint.mislabelled()),
        doubted_by_confident_learning: knows.then(|| part.beliefs.joint.label_issues.iter().flatten().count()),
        withheld: part.beliefs.competence.withheld.clone(),
        categories: Category::ALL.iter().map(|category| (category.name().to_string(), count(*category))).collect(),
    })
}
