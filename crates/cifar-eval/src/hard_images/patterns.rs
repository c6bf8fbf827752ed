//! What missed test images have in common: every question that is asked is a test, and only answers that survive a correction for
//! the number of questions are told in words.
//!
//! The tests take images as independent of each other, which copies are not: of test images that show the same picture (exact
//! and near pairs), the one with the smallest id stands for all.

use std::collections::BTreeSet;

use cifar_data::duplicates::{Kind, Pair};
use cifar_data::splits::Split;
use cifar_data::{Dataset, SampleId};
use serde::{Deserialize, Serialize};

use super::{Inputs, Part};
use crate::data_quality::Quality;
use crate::predictions::predicted_class;
use crate::statistics::association::{Association, benjamini_hochberg, fisher_test, rank_test};

/// The false discovery rate that what is told keeps to.
pub(crate) const LEVEL: f64 = 0.05;

/// What an association's strength is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// Odds of the outcome with the property over those without, ½ added to every cell; Fisher's exact test.
    OddsRatio,
    /// Probability that the number is greater for a missed image than for another of its class; van Elteren's test.
    Auroc,
}

/// An answered question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pattern {
    /// A short name, such as `class cat` or `brightness within cat`.
    pub name: String,
    /// What `effect` is.
    pub statistic: Statistic,
    /// Its strength: 1 or ½ if there is nothing to tell.
    pub effect: f64,
    /// Images that it was tested on.
    pub n: usize,
    /// Two-sided probability of so strong an effect if there was none.
    pub p: f64,
    /// Corrected for the number of questions (Benjamini & Hochberg 1995).
    pub q: f64,
    /// A sentence, told only if q is at most 0.05.
    pub words: String,
}

impl Pattern {
    /// Whether it survives the correction.
    pub fn is_told(&self) -> bool {
        self.q <= LEVEL
    }
}

/// A question with its answer, before the correction.
struct Question {
    name: String,
    statistic: Statistic,
    found: Association,
    words: String,
}

/// Something that is a number for every image.
type Property = (&'static str, [&'static str; 2], fn(&Quality) -> Option<f64>);

/// Name, words for less and more of it, value.
const PROPERTIES: [Property; 5] = [
    ("brightness", ["darker", "brighter"], |q| Some(q.mean)),
    ("contrast", ["lower in contrast", "higher in contrast"], |q| Some(q.contrast)),
    ("information", ["plainer", "richer in shades"], |q| Some(q.entropy)),
    ("saturation", ["less colourful", "more colourful"], |q| Some(q.saturation)),
    ("sharpness", ["more blurred", "sharper"], |q| q.sharpness),
];

/// Asks all questions about the test images; the most certain answers first.
pub(super) fn patterns(inputs: &Inputs, parts: &[Part]) -> Vec<Pattern> {
    let Some(test) = parts.iter().find(|part| part.split == Split::Test) else { return Vec::new() };
    let cases = Cases::new(test, inputs.pairs);
    let mut questions = classes(&cases);
    questions.extend(pairs(&cases));
    questions.extend(properties(&cases, test.set));
    questions.extend(copies(&cases, inputs, test.set));
    let q = benjamini_hochberg(&questions.iter().map(|question| question.found.p).collect::<Vec<_>>());
    let answered = |(Question { name, statistic, found, words }, q): (Question, f64)| Pattern {
        name,
        statistic,
        effect: found.effect,
        n: found.n,
        p: found.p,
        q,
        words,
    };
    let mut patterns: Vec<Pattern> = questions.into_iter().zip(q).map(answered).collect();
    patterns.sort_by(|a, b| a.q.total_cmp(&b.q).then(a.p.total_cmp(&b.p)).then_with(|| a.name.cmp(&b.name)));
    patterns
}

/// Labels and answers of the test images, one for each picture.
struct Cases<'a> {
    classes: &'a [String],
    /// Where each image is in the set.
    places: Vec<usize>,
    /// Label and answer of each image.
    images: Vec<(usize, usize)>,
}

impl<'a> Cases<'a> {
    fn new(part: &Part<'a>, pairs: &[Pair]) -> Self {
        let classes = part.set.classes();
        let answers: Vec<usize> =
            part.beliefs.probabilities().chunks_exact(classes.len()).map(predicted_class).collect();
        let places = one_per_picture(part.set, pairs);
        let label = |at: usize| usize::from(part.set.samples()[at].label);
        let images = places.iter().map(|at| (label(*at), answers[*at])).collect();
        Self { classes, places, images }
    }

    /// (hits, images) among the images that `wanted` picks.
    fn count(&self, wanted: impl Fn(usize, usize) -> bool, hit: impl Fn(usize, usize) -> bool) -> (usize, usize) {
        let of = || self.images.iter().filter(|(label, answer)| wanted(*label, *answer));
        (of().filter(|(label, answer)| hit(*label, *answer)).count(), of().count())
    }
}

/// Places of the images without those that show the same picture as an image with a smaller id.
fn one_per_picture(set: &Dataset, pairs: &[Pair]) -> Vec<usize> {
    // Each image points at a smaller one of its group, or at itself.
    let mut first: Vec<usize> = (0..set.len()).collect();
    let root = |first: &[usize], mut at: usize| {
        while first[at] != at {
            at = first[at];
        }
        at
    };
    for pair in pairs.iter().filter(|pair| pair.kind != Kind::Similar) {
        if let (Some(one), Some(other)) = (set.index_of(pair.first), set.index_of(pair.second)) {
            let (one, other) = (root(&first, one), root(&first, other));
            first[one.max(other)] = one.min(other);
        }
    }
    (0..set.len()).filter(|at| first[*at] == *at).collect()
}

/// Are images of a class missed more often than the others?
fn classes(cases: &Cases) -> Vec<Question> {
    let ask = |(class, name): (usize, &String)| {
        let missed = |label, answer| label != answer;
        let with = cases.count(|label, _| label == class, missed);
        let without = cases.count(|label, _| label != class, missed);
        let found = fisher_test(with, without)?;
        let words = format!(
            "Images labelled {name} are missed {} often than the others ({} against {}).",
            more_or_less(with, without),
            percent(with),
            percent(without)
        );
        Some(Question { name: format!("class {name}"), statistic: Statistic::OddsRatio, found, words })
    };
    cases.classes.iter().enumerate().filter_map(ask).collect()
}

/// When an image of one class is missed, is a certain other class the answer more often than for missed images of the rest?
fn pairs(cases: &Cases) -> Vec<Question> {
    let count = cases.classes.len();
    let mut questions = Vec::new();
    for (class, other) in (0..count).flat_map(|class| (0..count).map(move |other| (class, other))) {
        let (name, answer_name) = (&cases.classes[class], &cases.classes[other]);
        let taken_for = |_, answer| answer == other;
        let with = cases.count(|label, answer| label == class && answer != class, taken_for);
        let without = cases.count(|label, answer| label != class && label != other && answer != label, taken_for);
        let Some(found) = fisher_test(with, without).filter(|_| class != other) else { continue };
        let words = format!(
            "Missed images labelled {name} are taken for {answer_name} {} often than missed images of the other classes ({} against {}).",
            more_or_less(with, without),
            percent(with),
            percent(without)
        );
        let name = format!("{name} taken for {answer_name}");
        questions.push(Question { name, statistic: Statistic::OddsRatio, found, words });
    }
    questions
}

/// Do missed images look different from others of their class, by their pixels?
fn properties(cases: &Cases, set: &Dataset) -> Vec<Question> {
    let qualities: Vec<Quality> = cases.places.iter().map(|at| Quality::of(set.image(*at), set.size().width)).collect();
    let mut questions = Vec::new();
    for (property, words, value) in PROPERTIES {
        let mut strata = vec![Vec::new(); cases.classes.len()];
        for ((label, answer), quality) in cases.images.iter().zip(&qualities) {
            strata[*label].extend(value(quality).map(|value| (value, label != answer)));
        }
        let direction = |found: &Association| words[usize::from(found.effect > 0.5)];
        let mut ask = |name: String, strata: &[Vec<(f64, bool)>], who: &str| {
            if let Some(found) = rank_test(strata) {
                let words = format!("{who} tend to be {} than others of their class.", direction(&found));
                questions.push(Question { name, statistic: Statistic::Auroc, found, words });
            }
        };
        ask(property.to_string(), &strata, "Missed images");
        for (stratum, class) in strata.iter().zip(cases.classes) {
            let who = format!("Missed images labelled {class}");
            ask(format!("{property} within {class}"), std::slice::from_ref(stratum), &who);
        }
    }
    questions
}

/// Are images missed less often if a training image shows the same picture?
fn copies(cases: &Cases, inputs: &Inputs, set: &Dataset) -> Option<Question> {
    let is_learnt = |id: SampleId| inputs.data.train.index_of(id).is_some();
    let near = inputs.pairs.iter().filter(|pair| pair.kind != Kind::Similar);
    let known: BTreeSet<SampleId> = near
        .flat_map(|pair| [(pair.first, pair.second), (pair.second, pair.first)])
        .filter(|(_, other)| is_learnt(*other))
        .map(|(own, _)| own)
        .collect();
    let count = |wanted: bool| {
        let samples = || cases.places.iter().map(|at| &set.samples()[*at]);
        let of = || samples().zip(&cases.images).filter(|(s, _)| known.contains(&s.id) == wanted);
        (of().filter(|(_, (label, answer))| label != answer).count(), of().count())
    };
    let (with, without) = (count(true), count(false));
    let found = fisher_test(with, without)?;
    let words = format!(
        "Test images with a near copy among the training images are missed {} often than the others ({} against {}).",
        more_or_less(with, without),
        percent(with),
        percent(without)
    );
    Some(Question { name: "near copy in training".into(), statistic: Statistic::OddsRatio, found, words })
}

/// By the shares themselves: the odds ratio has ½ added to every cell, which turns it round where images are very few.
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
    fn copies_of_a_picture_count_once() {
        let set = synthetic::generate(&SyntheticParams { count: 30, ..Default::default() }).unwrap().dataset;
        let set = set.filter(|s| s.id.0 < 12 && s.id.0 != 5);
        let pair =
            |first, second, kind| Pair { first: SampleId(first), second: SampleId(second), kind, similarity: 1.0 };
        // 1, 3, 7 and 9 are one picture, found in an order that joins two groups; 5 is in another split; similar is not the same.
        let pairs = [
            pair(7, 9, Kind::Near),
            pair(1, 3, Kind::Exact),
            pair(3, 9, Kind::Near),
            pair(5, 6, Kind::Exact),
            pair(10, 11, Kind::Similar),
        ];
        let ids: Vec<u32> = one_per_picture(&set, &pairs).iter().map(|at| set.samples()[*at].id.0).collect();
        assert_eq!(ids, [0, 1, 2, 4, 6, 8, 10, 11]);
        assert_eq!(one_per_picture(&set, &[]).len(), 11);
    }

    #[test]
    fn words_follow_the_shares() {
        // With ½ in every cell the odds of 0 of 1 are above those of 1 of 1,000.
        assert!(fisher_test((0, 1), (1, 1000)).unwrap().effect > 1.0);
        assert_eq!(more_or_less((0, 1), (1, 1000)), "less");
        assert_eq!(more_or_less((1, 10), (1, 11)), "more");
    }
}
