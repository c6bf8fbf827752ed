//! What the page of hard images is made from.

use cifar_data::duplicates::Pair;
use cifar_data::labels::{Entries, Review};
use cifar_data::splits::Split;
use cifar_data::{Content, Header, SampleId};
use serde::Serialize;

use crate::measures::Harder;

/// Everything that the page shows. Plain data: nothing is read or computed by the page that is not in here.
#[derive(Debug, Clone, Copy)]
pub struct PageData<'a> {
    /// Classes, size of images and where they came from. A synthetic source puts a banner over the page.
    pub header: &'a Header,
    /// The partitions, such as `v1+v2`.
    pub dataset_version: &'a str,
    /// What was trained, in a few words, such as `airbench94, 8 epochs`.
    pub model: &'a str,
    /// The seeds of the runs that the measures come from.
    pub seeds: &'a [u64],
    /// A fingerprint of the data. A browser keeps decisions under it, so that those for other data stay apart.
    pub fingerprint: &'a str,
    /// A row an image, of every split, hardest first: an image's rank is its place.
    pub rows: &'a [Row<'a>],
    /// Pairs of images that look alike, the most telling first.
    pub pairs: &'a [Pair],
    /// What the mistakes have in common.
    pub patterns: &'a Patterns,
    /// Why some images have no category that rests on the network's answers: whole sentences, often none.
    pub withheld: &'a [String],
    /// The decisions of before, from `labels/review.csv`. Those on images that are not among the rows are kept.
    pub review: &'a Entries<Review>,
    /// Whose pictures the file holds.
    pub embed: Embed,
}

/// One image. `hard_images.csv` has the same columns.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its identity.
    pub id: SampleId,
    /// What it shows: goes beside the id in `review.csv`.
    pub content: Content,
    /// Its split.
    pub split: Split,
    /// Its file, as in the manifest.
    pub file: &'a str,
    /// The label in force, an index into the classes.
    pub label: u16,
    /// The label before any correction.
    pub original_label: u16,
    /// The class that the network finds most probable.
    pub predicted: u16,
    /// The class that the analysis would give it, if it has a suggestion.
    pub suggested: Option<u16>,
    /// Figures.
    pub measures: Measures,
    /// What kind of trouble this is, such as `ambiguous`; empty for an image that was not flagged.
    pub category: &'a str,
    /// Why it is in this category, in words; may be empty.
    pub reason: &'a str,
    /// The nearest training images by the network's features, nearest first; each is among the rows.
    pub neighbours: &'a [SampleId],
    /// height × width × RGB.
    pub pixels: &'a [u8],
}

/// The figures of one image; none where a measure does not apply. [`MEASURES`] explains each.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[expect(missing_docs, reason = "MEASURES explains each, for the page too")]
pub struct Measures {
    pub label_issue_score: Option<f64>,
    pub hardness_score: Option<f64>,
    pub p_label: Option<f64>,
    pub p_suggested: Option<f64>,
    pub margin: Option<f64>,
    pub entropy: Option<f64>,
    pub loss: Option<f64>,
    pub aum: Option<f64>,
    pub mean_margin: Option<f64>,
    pub el2n: Option<f64>,
    pub forgetting_events: Option<f64>,
    pub first_learnt_epoch: Option<f64>,
    pub confidence: Option<f64>,
    pub variability: Option<f64>,
    pub correctness: Option<f64>,
    pub oof_self_confidence: Option<f64>,
    pub oof_margin: Option<f64>,
}

/// A measure, as the page explains it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Measure {
    /// The column of `hard_images.csv`.
    pub key: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// One line: what it is, and its range.
    pub meaning: &'static str,
    /// Its direction.
    pub harder: Harder,
    /// Where [`Measures`] keeps it.
    #[serde(skip)]
    pub(super) get: fn(&Measures) -> Option<f64>,
}

impl Measure {
    /// Its value, if it applies.
    pub fn of(&self, measures: &Measures) -> Option<f64> {
        (self.get)(measures)
    }
}

/// A line of [`MEASURES`].
macro_rules! measure {
    ($field:ident, $title:literal, $harder:ident, $meaning:literal) => {
        Measure {
            key: stringify!($field),
            title: $title,
            meaning: $meaning,
            harder: Harder::$harder,
            get: |measures| measures.$field,
        }
    };
}

/// All measures, in the order of the detail view.
pub const MEASURES: [Measure; 17] = [
    measure!(
        label_issue_score,
        "Label issue",
        Higher,
        "Place among the images of the split by the odds that the label is wrong, 0 to 1; a place, not a probability."
    ),
    measure!(
        hardness_score,
        "Hardness",
        Higher,
        "Place among the images of the split by the entropy of the belief, whatever the label is, 0 to 1; a place, not a probability."
    ),
    measure!(p_label, "P(label)", Lower, "Probability that the trained network gives the label, 0 to 1."),
    measure!(
        p_suggested,
        "P(suggested)",
        Higher,
        "Belief in the suggested label, 0 to 1; empty where the label is the likeliest class."
    ),
    measure!(
        margin,
        "Margin",
        Lower,
        "Probability of the label less that of the most probable other class, −1 to 1; below 0 the image is missed."
    ),
    measure!(
        entropy,
        "Entropy",
        Higher,
        "How evenly the probabilities are spread, in nats, 0 to the logarithm of the number of classes."
    ),
    measure!(loss, "Loss", Higher, "Cross-entropy of the label under the trained network, in nats, from 0."),
    measure!(
        aum,
        "AUM",
        Lower,
        "Area under the margin: the label's logit less the largest other one, mean over the epochs; any number."
    ),
    measure!(mean_margin, "Mean margin", Lower, "The margin of probabilities, mean over the epochs, −1 to 1."),
    measure!(
        el2n,
        "EL2N",
        Higher,
        "Distance between the probabilities and certainty of the label, mean over the first half of the epochs, 0 to √2."
    ),
    measure!(
        forgetting_events,
        "Forgetting events",
        Higher,
        "How often the image was got right in one epoch and missed in the next, from 0."
    ),
    measure!(
        first_learnt_epoch,
        "First learnt",
        Higher,
        "The first epoch in which the image was got right; empty if it never was."
    ),
    measure!(confidence, "Confidence", Lower, "Probability of the label, mean over the epochs, 0 to 1."),
    measure!(
        variability,
        "Variability",
        Higher,
        "Standard deviation of the label's probability over the epochs, 0 to 0.5; high for ambiguous images, low for wrong labels."
    ),
    measure!(correctness, "Correctness", Lower, "Share of the epochs in which the image was got right, 0 to 1."),
    measure!(
        oof_self_confidence,
        "Out-of-fold P(label)",
        Lower,
        "Probability of the label under networks that did not learn from this image, 0 to 1."
    ),
    measure!(
        oof_margin,
        "Out-of-fold margin",
        Lower,
        "The margin under networks that did not learn from this image, −1 to 1."
    ),
];

/// What the mistakes have in common, as far as it survives statistics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Patterns {
    /// How many patterns were tested, told or not.
    pub tested: usize,
    /// The false discovery rate that the told ones keep to, such as 0.05 (Benjamini & Hochberg 1995).
    pub level: f64,
    /// Those that survived, strongest first.
    pub told: Vec<Pattern>,
}

/// A pattern that survived.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// What it is, in words: a whole sentence.
    pub sentence: String,
    /// Its size, in words, such as `odds ratio 2.1`.
    pub effect: String,
    /// Images that it was found on.
    pub n: usize,
    /// The q value, not above [`Patterns::level`].
    pub q: f64,
}

/// Whose pictures the file holds. All other images are listed without theirs, and the page says how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embed {
    /// The hardest so many images.
    pub images: usize,
    /// The neighbours of the hardest so many.
    pub neighbours_of: usize,
    /// Both images of the first so many pairs.
    pub pairs: usize,
}

impl Default for Embed {
    /// About 10 MB for photographs of 32×32 pixels.
    fn default() -> Self {
        Self { images: 2000, neighbours_of: 200, pairs: 200 }
    }
}
