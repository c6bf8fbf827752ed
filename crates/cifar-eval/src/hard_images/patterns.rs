//! What misclassified test images have in common.
//!
//! Every question is a statistical test. Only answers that are significant after a correction for
//! the number of questions appear in words.
//!
//! The tests assume that images are independent, and copies are not. Of test images that show the
//! same picture (exact and near pairs), only the one with the smallest id counts.

use std::collections::BTreeSet;

use cifar_data::duplicates::{Kind, Pair};
use cifar_data::splits::Split;
use cifar_data::{Dataset, SampleId};
use serde::{Deserialize, Serialize};

use super::Inputs;
use super::analysis::SplitAnalysis;
use crate::data_quality::Quality;
use crate::predictions::predicted_class;
use crate::statistics::association::{Association, benjamini_hochberg, fisher_test, rank_test};

/// The false discovery rate of the patterns that appear in words.
pub(super) const FALSE_DISCOVERY_RATE: f64 = 0.05;

/// The measure of an association's strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// Odds of the outcome with the property divided by those without, with ½ added to every cell;
    /// Fisher's exact test.
    OddsRatio,
    /// Probability that the property is greater for a misclassified image than for another image of
    /// its class; van Elteren's test.
    Auroc,
}

/// The answer to a question about the misclassified images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorPattern {
    /// A short name, such as `class cat` or `brightness within cat`.
    pub name: String,
    /// The measure of `effect`.
    pub statistic: Statistic,
    /// Its strength. Without an association the odds ratio is 1 and AUROC ½.
    pub effect: f64,
    /// Number of images of the test.
    pub n: usize,
    /// The two-sided p value.
    pub p: f64,
    /// The p value corrected for the number of questions (Benjamini & Hochberg 1995).
    pub q: f64,
    /// The answer as a sentence. It holds only if the pattern is significant.
    pub words: String,
}

impl ErrorPattern {
    /// Returns whether `q` is at most 0.05.
    pub fn is_significant(&self) -> bool {
        self.q <= FALSE_DISCOVERY_RATE
    }
}

/// A question with its answer, before the correction.
struct Question {
    name: String,
    statistic: Statistic,
    found: Association,
    words: String,
}

/// A property of an image: its name, words for less and for more of it, and its value.
type Property = (&'static str, [&'static str; 2], fn(&Quality) -> Option<f64>);

const PROPERTIES: [Property; 5] = [
    ("brightness", ["darker", "brighter"], |q| Some(q.mean)),
    ("contrast", ["lower in contrast", "higher in contrast"], |q| Some(q.contrast)),
    ("information", ["lower in information", "higher in information"], |q| Some(q.entropy)),
    ("saturation", ["less colourful", "more colourful"], |q| Some(q.saturation)),
    ("sharpness", ["more blurred", "sharper"], |q| q.sharpness),
];

/// Returns the answers to all questions about the test images, the most significant first.
pub(super) fn patterns(inputs: &Inputs, splits: &[SplitAnalysis]) -> Vec<ErrorPattern> {
    let Some(test) = splits.iter().find(|found| found.input.split == Split::Test) else { return Vec::new() };
    let set = test.input.images;
    let cases = Cases::new(test, &inputs.pairs);
    let mut questions = classes(&cases);
    questions.extend(pairs(&cases));
    questions.extend(properties(&cases, set));
    questions.extend(copies(&cases, inputs, set));
    let q = benjamini_hochberg(&questions.iter().map(|question| question.found.p).collect::<Vec<_>>());
    let answered = |(Question { name, statistic, found, words }, q): (Question, f64)| ErrorPattern {
        name,
        statistic,
        effect: found.effect,
        n: found.n,
        p: found.p,
        q,
        words,
    };
    let mut patterns: Vec<ErrorPattern> = questions.into_iter().zip(q).map(answered).collect();
    patterns.sort_by(|a, b| a.q.total_cmp(&b.q).then(a.p.total_cmp(&b.p)).then_with(|| a.name.cmp(&b.name)));
    patterns
}

/// Labels and predictions of the test images, one per picture.
struct Cases<'a> {
    classes: &'a [String],
    /// The index of each image in the set.
    indices: Vec<usize>,
    /// Label and predicted class of each image.
    images: Vec<(usize, usize)>,
}

impl<'a> Cases<'a> {
    fn new(test: &SplitAnalysis<'a>, pairs: &[Pair]) -> Self {
        let (set, probabilities) = (test.input.images, &test.input.probabilities);
        let classes = set.classes();
        let predicted: Vec<usize> = probabilities.chunks_exact(classes.len()).map(predicted_class).collect();
        let indices = one_per_picture(set, pairs);
        let label = |index: usize| usize::from(set.samples()[index].label);
        let images = indices.iter().map(|index| (label(*index), predicted[*index])).collect();
        Self { classes, indices, images }
    }

    /// Returns the number of hits among the images that are in the group, and the size of the
    /// group. Both functions take a label and a predicted class.
    fn count(&self, in_group: impl Fn(usize, usize) -> bool, hit: impl Fn(usize, usize) -> bool) -> (usize, usize) {
        let group = || self.images.iter().filter(|(label, predicted)| in_group(*label, *predicted));
        (group().filter(|(label, predicted)| hit(*label, *predicted)).count(), group().count())
    }
}

/// Returns the indices of the images, without those that show the same picture as an image with a
/// smaller id.
fn one_per_picture(set: &Dataset, pairs: &[Pair]) -> Vec<usize> {
    // Each image points to an earlier image of its group, or to itself.
    let mut first: Vec<usize> = (0..set.len()).collect();
    let root = |first: &[usize], mut at: usize| {
        while first[at] != at {
            at = first[at];
        }
        at
    };
    for pair in pairs.iter().filter(|pair| pair.kind != Kind::Similar) {
        if let (Some(a), Some(b)) = (set.index_of(pair.first), set.index_of(pair.second)) {
            let (a, b) = (root(&first, a), root(&first, b));
            first[a.max(b)] = a.min(b);
        }
    }
    (0..set.len()).filter(|at| first[*at] == *at).collect()
}

/// Are images of a class misclassified more often than the others?
fn classes(cases: &Cases) -> Vec<Question> {
    let ask = |(class, name): (usize, &String)| {
        let is_error = |label, predicted| label != predicted;
        let with = cases.count(|label, _| label == class, is_error);
        let without = cases.count(|label, _| label != class, is_error);
        let found = fisher_test(with, without)?;
        let words = format!(
            "Images labelled {name} are misclassified {} often than others ({} against {}).",
            more_or_less(with, without),
            percent(with),
            percent(without)
        );
        Some(Question { name: format!("class {name}"), statistic: Statistic::OddsRatio, found, words })
    };
    cases.classes.iter().enumerate().filter_map(ask).collect()
}

/// Are misclassified images of one class predicted as another class more often than those of the
/// remaining classes are?
fn pairs(cases: &Cases) -> Vec<Question> {
    let count = cases.classes.len();
    let mut questions = Vec::new();
    for (class, other) in (0..count).flat_map(|class| (0..count).map(move |other| (class, other))) {
        let (name, other_name) = (&cases.classes[class], &cases.classes[other]);
        let is_other = |_, predicted| predicted == other;
        let with = cases.count(|label, predicted| label == class && predicted != class, is_other);
        let without = cases.count(|label, predicted| label != class && label != other && predicted != label, is_other);
        let Some(found) = fisher_test(with, without).filter(|_| class != other) else { continue };
        let words = format!(
            "Misclassified images labelled {name} are predicted as {other_name} {} often than misclassified images of other classes ({} against {}).",
            more_or_less(with, without),
            percent(with),
            percent(without)
        );
        let name = format!("{name} predicted as {other_name}");
        questions.push(Question { name, statistic: Statistic::OddsRatio, found, words });
    }
    questions
}

/// Do the pixels of misclassified images differ from those of others of their class?
fn properties(cases: &Cases, set: &Dataset) -> Vec<Question> {
    let qualities: Vec<Quality> =
        cases.indices.iter().map(|index| Quality::of(set.image(*index), set.size().width)).collect();
    let mut questions = Vec::new();
    for (property, words, value) in PROPERTIES {
        let mut strata = vec![Vec::new(); cases.classes.len()];
        for ((label, predicted), quality) in cases.images.iter().zip(&qualities) {
            strata[*label].extend(value(quality).map(|value| (value, label != predicted)));
        }
        let direction = |found: &Association| words[usize::from(found.effect > 0.5)];
        let mut ask = |name: String, strata: &[Vec<(f64, bool)>], who: &str| {
            if let Some(found) = rank_test(strata) {
                let words = format!("{who} tend to be {} than others of their class.", direction(&found));
                questions.push(Question { name, statistic: Statistic::Auroc, found, words });
            }
        };
        ask(property.to_string(), &strata, "Misclassified images");
        for (stratum, class) in strata.iter().zip(cases.classes) {
            let who = format!("Misclassified images labelled {class}");
            ask(format!("{property} within {class}"), std::slice::from_ref(stratum), &who);
        }
    }
    questions
}

/// Are images misclassified less often if a training image shows the same picture?
fn copies(cases: &Cases, inputs: &Inputs, set: &Dataset) -> Option<Question> {
    let train = inputs.images(Split::Train)?;
    let is_trained_on = |id: SampleId| train.index_of(id).is_some();
    let near = inputs.pairs.iter().filter(|pair| pair.kind != Kind::Similar);
    let with_copy: BTreeSet<SampleId> = near
        .flat_map(|pair| [(pair.first, pair.second), (pair.second, pair.first)])
        .filter(|(_, other)| is_trained_on(*other))
        .map(|(own, _)| own)
        .collect();
    let count = |has_copy: bool| {
        let samples = || cases.indices.iter().map(|index| &set.samples()[*index]);
        let group = || samples().zip(&cases.images).filter(|(s, _)| with_copy.contains(&s.id) == has_copy);
        (group().filter(|(_, (label, predicted))| label != predicted).count(), group().count())
    };
    let (with, without) = (count(true), count(false));
    let found = fisher_test(with, without)?;
    let words = format!(
        "Test images with a near copy among the training images are misclassified {} often than others ({} against {}).",
        more_or_less(with, without),
        percent(with),
        percent(without)
    );
    Some(Question { name: "near copy in training".into(), statistic: Statistic::OddsRatio, found, words })
}

/// Compares the fractions themselves. The odds ratio has ½ added to every cell, which can reverse
/// it where there are very few images.
fn more_or_less(with: (usize, usize), without: (usize, usize)) -> &'static str {
    if with.0 * without.1 > without.0 * with.1 { "more" } else { "less" }
}

fn percent((hits, n): (usize, usize)) -> String {
    format!("{:.1} % of {n}", 100.0 * hits as f64 / n as f64)
}

#[cfg(test)]
mod tests {
    use cifar_data::sources::synthetic::{self, SyntheticParams};

    use super::*;

    #[test]
    fn copies_of_an_image_count_once() {
        let set = synthetic::generate(&SyntheticParams { count: 30, ..Default::default() }).unwrap().dataset;
        let set = set.filter(|s| s.id.0 < 12 && s.id.0 != 5);
        let pair =
            |first, second, kind| Pair { first: SampleId(first), second: SampleId(second), kind, similarity: 1.0 };
        // Images 1, 3, 7 and 9 are copies of one image: the pairs join two groups. 5 is in
        // another split. Similar images are not copies.
        let pairs = [
            pair(7, 9, Kind::Near),
            pair(1, 3, Kind::Exact),
            pair(3, 9, Kind::Near),
            pair(5, 6, Kind::Exact),
            pair(10, 11, Kind::Similar),
        ];
        let ids: Vec<u32> = one_per_picture(&set, &pairs).iter().map(|index| set.samples()[*index].id.0).collect();
        assert_eq!(ids, [0, 1, 2, 4, 6, 8, 10, 11]);
        assert_eq!(one_per_picture(&set, &[]).len(), 11);
    }

    #[test]
    fn the_wording_follows_the_fractions() {
        // With ½ added to every cell, the odds of 0 of 1 exceed those of 1 of 1,000.
        assert!(fisher_test((0, 1), (1, 1000)).unwrap().effect > 1.0);
        assert_eq!(more_or_less((0, 1), (1, 1000)), "less");
        assert_eq!(more_or_less((1, 10), (1, 11)), "more");
    }
}
