//! Input types of the hard-images page.

use cifar_data::duplicates::Pair;
use cifar_data::labels::{Entries, Review};
use cifar_data::splits::Split;
use cifar_data::{Content, Header, SampleId};
use serde::Serialize;

use crate::measures::Harder;

/// Everything that the page shows. The page reads and computes nothing else.
#[derive(Debug, Clone, Copy)]
pub struct PageData<'a> {
    /// Classes, image size and data source. A synthetic source adds a banner to the page.
    pub header: &'a Header,
    /// The partitions, for example `v1+v2`.
    pub dataset_version: &'a str,
    /// A short description of the model, for example `airbench94, 8 epochs`.
    pub model: &'a str,
    /// The seeds of the runs that produced the measures.
    pub seeds: &'a [u64],
    /// A fingerprint of the data. The browser stores decisions under it, one store per data set.
    pub fingerprint: &'a str,
    /// One row per image of all splits, hardest first. The position of a row is the image's rank.
    pub rows: &'a [Row<'a>],
    /// Pairs of similar images, most important first.
    pub pairs: &'a [Pair],
    /// Patterns among misclassified images.
    pub patterns: &'a Patterns,
    /// Why categories that need a competent network are empty for some images. Whole sentences,
    /// often none.
    pub withheld: &'a [String],
    /// Earlier decisions, from `labels/review.csv`. Those about images without a row are kept.
    pub review: &'a Entries<Review>,
    /// Which images have their pixels embedded in the file.
    pub embed: Embed,
}

/// One image. `hard_images.csv` has the same columns.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its id.
    pub id: SampleId,
    /// The hash of its pixels, stored next to the id in `review.csv`.
    pub content: Content,
    /// Its split.
    pub split: Split,
    /// Its file name, as in the manifest.
    pub file: &'a str,
    /// The current label, an index into the classes.
    pub label: u16,
    /// The label before any correction.
    pub original_label: u16,
    /// The class that the network predicts.
    pub predicted: u16,
    /// The class that the analysis suggests as label, if any.
    pub suggested: Option<u16>,
    /// Its measures.
    pub measures: Measures,
    /// Its category, for example `ambiguous`. Empty if the image is not flagged.
    pub category: &'a str,
    /// Why it is in this category, in words. May be empty.
    pub reason: &'a str,
    /// The nearest training images in feature space, nearest first. Each needs a row.
    pub neighbours: &'a [SampleId],
    /// height × width × RGB, one byte per value.
    pub pixels: &'a [u8],
}

/// The measures of one image, `None` where a measure does not apply. [`MEASURES`] describes each.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[expect(missing_docs, reason = "MEASURES describes each field")]
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

/// A measure and its description.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Measure {
    /// The column of `hard_images.csv`.
    pub key: &'static str,
    /// The name that the page shows.
    pub title: &'static str,
    /// What it is and its range, in one line.
    pub meaning: &'static str,
    /// Whether higher or lower values are harder.
    pub harder: Harder,
    /// Reads the measure from [`Measures`].
    #[serde(skip)]
    pub(super) get: fn(&Measures) -> Option<f64>,
}

impl Measure {
    /// Returns the value of this measure, or `None` if it does not apply.
    ///
    /// ```
    /// use cifar_eval::page::{MEASURES, Measures};
    ///
    /// let loss = MEASURES.iter().find(|measure| measure.key == "loss").unwrap();
    /// let measures = Measures { loss: Some(0.5), ..Measures::default() };
    /// assert_eq!(loss.of(&measures), Some(0.5));
    /// ```
    pub fn of(&self, measures: &Measures) -> Option<f64> {
        (self.get)(measures)
    }
}

/// One entry of [`MEASURES`].
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

/// All measures, in the order of the image view.
pub const MEASURES: [Measure; 17] = [
    measure!(
        label_issue_score,
        "Label issue",
        Higher,
        "Percentile rank within the split of the odds that the label is wrong, 0 to 1. A rank, not a probability."
    ),
    measure!(
        hardness_score,
        "Hardness",
        Higher,
        "Percentile rank within the split of the entropy of the class probabilities, regardless of the label, 0 to 1. A rank, not a probability."
    ),
    measure!(p_label, "P(label)", Lower, "Probability of the label under the final network, 0 to 1."),
    measure!(
        p_suggested,
        "P(suggested)",
        Higher,
        "Probability of the suggested label, 0 to 1. Empty if there is no suggestion."
    ),
    measure!(
        margin,
        "Margin",
        Lower,
        "Probability of the label minus the highest other probability, −1 to 1. Negative if the image is misclassified."
    ),
    measure!(
        entropy,
        "Entropy",
        Higher,
        "Entropy of the predicted probabilities in nats, 0 to the logarithm of the number of classes."
    ),
    measure!(loss, "Loss", Higher, "Cross-entropy of the label under the final network in nats, 0 or more."),
    measure!(
        aum,
        "AUM",
        Lower,
        "Area under the margin: logit of the label minus the largest other logit, mean over epochs. Unbounded."
    ),
    measure!(mean_margin, "Mean margin", Lower, "Margin of the probabilities, mean over epochs, −1 to 1."),
    measure!(
        el2n,
        "EL2N",
        Higher,
        "Euclidean distance between the probabilities and the one-hot label, mean over the first half of the epochs, 0 to √2."
    ),
    measure!(
        forgetting_events,
        "Forgetting events",
        Higher,
        "How often the image was classified correctly in one epoch and misclassified in the next, 0 or more."
    ),
    measure!(
        first_learnt_epoch,
        "First learned",
        Higher,
        "First epoch in which the image was classified correctly. Empty if there is none."
    ),
    measure!(confidence, "Confidence", Lower, "Probability of the label, mean over epochs, 0 to 1."),
    measure!(
        variability,
        "Variability",
        Higher,
        "Standard deviation of the label's probability over epochs, 0 to 0.5. High for ambiguous images, low for wrong labels."
    ),
    measure!(
        correctness,
        "Correctness",
        Lower,
        "Fraction of epochs in which the image was classified correctly, 0 to 1."
    ),
    measure!(
        oof_self_confidence,
        "Out-of-fold P(label)",
        Lower,
        "Probability of the label under networks that were not trained on the image, 0 to 1."
    ),
    measure!(
        oof_margin,
        "Out-of-fold margin",
        Lower,
        "Margin under networks that were not trained on the image, −1 to 1."
    ),
];

/// Statistically significant patterns among misclassified images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Patterns {
    /// Number of patterns that were tested, significant or not.
    pub tested: usize,
    /// False discovery rate of the significant ones, for example 0.05 (Benjamini & Hochberg 1995).
    pub level: f64,
    /// The significant patterns, strongest first.
    pub significant: Vec<Pattern>,
}

/// A statistically significant pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// The pattern in words, a whole sentence.
    pub sentence: String,
    /// Its effect size in words, for example `odds ratio 2.1`.
    pub effect: String,
    /// Number of images in the test.
    pub n: usize,
    /// The q value, at most [`Patterns::level`].
    pub q: f64,
}

/// Which images have their pixels embedded in the file. The page lists all other images without a
/// picture and says how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embed {
    /// The number of hardest images to embed.
    pub images: usize,
    /// The number of hardest images whose neighbours are embedded.
    pub neighbours_of: usize,
    /// The number of pairs, from the first, whose images are embedded.
    pub pairs: usize,
}

impl Default for Embed {
    /// A file of about 10 MB for 32×32 photographs.
    fn default() -> Self {
        Self { images: 2000, neighbours_of: 200, pairs: 200 }
    }
}
