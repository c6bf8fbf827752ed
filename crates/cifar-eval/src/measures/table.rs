//! The measures that an analysis reports: their names, meanings and directions.
//!
//! The page of hard images, the comparison with known labels ([`crate::truth`]) and the study
//! ([`crate::study`]) all use this table.

use serde::Serialize;

/// Whether high or low values of a measure mean a hard image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// High values are hard.
    Higher,
    /// Low values are hard.
    Lower,
}

impl Direction {
    /// Returns the direction in words.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Higher => "higher is harder",
            Self::Lower => "lower is harder",
        }
    }

    /// Returns `value` with the sign that makes higher harder.
    pub fn higher_is_harder(self, value: f64) -> f64 {
        match self {
            Self::Higher => value,
            Self::Lower => -value,
        }
    }
}

/// The values of all measures for one image; none where a measure does not apply. [`MEASURES`]
/// explains each of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[expect(missing_docs, reason = "MEASURES describes each field")]
pub struct Measures {
    pub label_issue_score: Option<f64>,
    pub hardness_score: Option<f64>,
    pub outlier_score: Option<f64>,
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

/// A measure: its names, meaning and direction.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Measure {
    /// Its column in `hard_images.csv`.
    pub key: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it is, with its range, in one line.
    pub meaning: &'static str,
    /// Its direction.
    #[serde(rename = "harder")]
    pub direction: Direction,
    /// Reads it from [`Measures`].
    #[serde(skip)]
    get: fn(&Measures) -> Option<f64>,
}

impl Measure {
    /// Returns its value for an image; none where it does not apply.
    ///
    /// ```
    /// use cifar_eval::measures::{MEASURES, Measures};
    ///
    /// let image = Measures { loss: Some(2.5), ..Measures::default() };
    /// let known: Vec<_> = MEASURES.iter().filter_map(|m| Some((m.key, m.of(&image)?))).collect();
    /// assert_eq!(known, [("loss", 2.5)]);
    /// ```
    pub fn of(&self, measures: &Measures) -> Option<f64> {
        (self.get)(measures)
    }

    /// Returns its value for an image, with the sign that makes higher harder. An image that was
    /// never learnt has an infinite first learnt epoch.
    pub fn hardness(&self, measures: &Measures) -> Option<f64> {
        let is_never_learnt = self.is_first_learnt() && measures.forgetting_events.is_some();
        let value = self.of(measures).or(is_never_learnt.then_some(f64::INFINITY))?;
        Some(self.direction.higher_is_harder(value))
    }

    /// Returns whether tables of earlier versions of this program may lack the measure.
    ///
    /// ```
    /// let recent = cifar_eval::measures::MEASURES.iter().filter(|measure| measure.is_recent());
    /// assert_eq!(recent.map(|measure| measure.key).collect::<Vec<_>>(), ["outlier_score"]);
    /// ```
    pub fn is_recent(&self) -> bool {
        self.key == "outlier_score"
    }

    /// Returns whether this is the first learnt epoch, which is empty for images that were never
    /// learnt.
    pub(crate) fn is_first_learnt(&self) -> bool {
        self.key == "first_learnt_epoch"
    }
}

/// An entry of [`MEASURES`].
macro_rules! measure {
    ($field:ident, $title:literal, $direction:ident, $meaning:literal) => {
        Measure {
            key: stringify!($field),
            title: $title,
            meaning: $meaning,
            direction: Direction::$direction,
            get: |measures| measures.$field,
        }
    };
}

/// Number of scores, which are the last entries of [`MEASURES`].
const SCORES: usize = 3;

/// All measures, in the order of the columns of `hard_images.csv`: figures of single images first,
/// then the scores that rank images.
pub const MEASURES: [Measure; 18] = [
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
        "Percentile rank within the split of how uncertain the class is, whatever the label, 0 to 1: small margin and high entropy, with some weight on the first epoch and on low contrast and brightness. A rank, not a probability."
    ),
    measure!(
        outlier_score,
        "Outlier",
        Higher,
        "Percentile rank within the split of the mean cosine distance between the features of the image and those of its five nearest training images, 0 to 1. Copies of the image do not count. A rank, not a probability."
    ),
];

/// Returns all measures in the order of the page: the scores, then the other measures in the
/// order of [`MEASURES`].
///
/// ```
/// let keys: Vec<_> = cifar_eval::measures::scores_first().map(|measure| measure.key).collect();
/// assert_eq!(keys[..4], ["label_issue_score", "hardness_score", "outlier_score", "p_label"]);
/// ```
pub fn scores_first() -> impl Iterator<Item = &'static Measure> {
    let measures: &'static [Measure] = &MEASURES;
    let (others, scores) = measures.split_at(measures.len() - SCORES);
    scores.iter().chain(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_is_listed_once_in_either_order() {
        let columns: Vec<&str> = MEASURES.iter().map(|measure| measure.key).collect();
        assert_eq!(columns[15..], ["label_issue_score", "hardness_score", "outlier_score"]);
        let page: Vec<&str> = scores_first().map(|measure| measure.key).collect();
        assert_eq!(page, [&columns[15..], &columns[..15]].concat());
        assert_eq!(columns.iter().collect::<std::collections::BTreeSet<_>>().len(), columns.len());
    }

    #[test]
    fn hardness_points_upwards_and_never_learnt_is_the_hardest() {
        let hardness = |key: &str, measures: &Measures| {
            MEASURES.iter().find(|measure| measure.key == key).and_then(|measure| measure.hardness(measures))
        };
        let image = Measures { loss: Some(2.0), margin: Some(0.5), ..Measures::default() };
        assert_eq!((hardness("loss", &image), hardness("margin", &image)), (Some(2.0), Some(-0.5)));
        assert_eq!(hardness("first_learnt_epoch", &image), None, "no epochs were recorded");
        let never = Measures { forgetting_events: Some(0.0), ..image };
        assert_eq!(hardness("first_learnt_epoch", &never), Some(f64::INFINITY));
        let third = Measures { first_learnt_epoch: Some(3.0), ..never };
        assert_eq!(hardness("first_learnt_epoch", &third), Some(3.0));
    }
}
