//! The analysis of one split: class probabilities, and the scores that follow from them.

use super::competence::{Competence, Evidence};
use super::figures::{Figures, LIKELY_WRONG, p_wrong, two_highest};
use super::inputs::SplitPredictions;
use crate::measures::{ConfidentJoint, NoiseRates, ranks};
use crate::metrics::{entropy, loss, margin};
use crate::predictions::predicted_class;

/// The images of a split with everything that was found about them, in the order of the set.
#[derive(Debug)]
pub(super) struct SplitAnalysis<'a> {
    pub(super) input: &'a SplitPredictions<'a>,
    /// The probabilities that labels are judged by: images × classes.
    class_probabilities: Vec<f32>,
    pub(super) joint: ConfidentJoint,
    rates: NoiseRates,
    /// Whether the predictions are good enough to judge labels.
    pub(super) competence: Competence,
    log_odds_wrong: Vec<f64>,
    label_issue: Vec<f64>,
    hardness: Vec<f64>,
}

impl<'a> SplitAnalysis<'a> {
    /// Analyses the images by their labels; no original label is read.
    ///
    /// Class probabilities are ½ · (predictions + mean over the epochs) or, without trajectories,
    /// the predictions. Later epochs have a greater weight in the mean
    /// ([`Trajectories::late_probabilities`](crate::measures::Trajectories::late_probabilities)).
    /// With out-of-fold predictions, half of the class probabilities is theirs. The final network
    /// counts even for images that it was trained on: wrong labels are then found better
    /// (docs/measurements.md).
    ///
    /// `label_issue_score` is the percentile rank in the split ([`ranks()`]) of the odds that the
    /// label is wrong, given the class probabilities and how often images of each class carry each
    /// label ([`NoiseRates`]). `hardness_score` is that of the entropy of the class probabilities,
    /// regardless of the label.
    pub(super) fn new(input: &'a SplitPredictions<'a>) -> Self {
        let (classes, labels) = (input.images.classes().len(), input.images.labels());
        let class_probabilities = class_probabilities(input);
        let rows = || class_probabilities.chunks_exact(classes).zip(labels.iter().map(|l| usize::from(*l)));
        let rates = NoiseRates::estimate(classes, &labels, &class_probabilities);
        let log_odds_wrong: Vec<f64> = rows().map(|(row, label)| rates.log_odds_wrong(label, row)).collect();
        let uncertainty: Vec<f64> = rows().map(|(row, _)| entropy(row)).collect();
        let (label_issue, hardness) = (ranks(&log_odds_wrong), ranks(&uncertainty));
        let joint = ConfidentJoint::estimate(classes, &labels, &class_probabilities);
        let has_suggestion =
            |row: &[f32], label: usize| rates.most_probable_class(label, row) != label || predicted_class(row) != label;
        let is_suspicious: Vec<bool> = rows()
            .zip(&log_odds_wrong)
            .map(|((row, label), log_odds)| p_wrong(*log_odds) > LIKELY_WRONG && has_suggestion(row, label))
            .collect();
        let competence = Competence::of(&Evidence {
            classes: input.images.classes(),
            labels: &labels,
            probabilities: &input.probabilities,
            class_probabilities: &class_probabilities,
            rates: &rates,
            is_suspicious: &is_suspicious,
        });
        Self { input, class_probabilities, joint, rates, competence, log_odds_wrong, label_issue, hardness }
    }

    /// Returns the number of epochs of the trajectories; 0 without any.
    pub(super) fn epochs(&self) -> usize {
        self.input.trajectories.as_ref().map_or(0, |t| t.epochs)
    }

    /// Returns the figures of the image at `index`.
    pub(super) fn figures(&self, index: usize) -> Figures {
        let classes = self.input.images.classes().len();
        let row = index * classes..(index + 1) * classes;
        let (p, class_p) = (&self.input.probabilities[row.clone()], &self.class_probabilities[row.clone()]);
        let leading = two_highest(class_p);
        let label = usize::from(self.input.images.samples()[index].label);
        let most_probable = self.rates.most_probable_class(label, class_p);
        let other = if most_probable == label { usize::from(leading[0].0) } else { most_probable };
        let suggested = (other != label).then_some(other);
        Figures {
            predicted: predicted_class(p) as u16,
            p_label: p[label],
            suggested: suggested.map(|class| (class as u16, class_p[class])),
            margin: margin(p, label),
            entropy: entropy(p),
            loss: loss(p[label]),
            trajectory: self.input.trajectories.as_ref().map(|t| t.images[index]),
            out_of_fold: self.input.out_of_fold.as_ref().map(|p| (p[row.start + label], margin(&p[row], label))),
            label_issue: self.label_issue[index],
            hardness: self.hardness[index],
            outlier: None,
            p_wrong: p_wrong(self.log_odds_wrong[index]),
            rate: suggested.map(|class| self.rates.get(class, label)),
            leading,
            class_p_label: class_p[label],
            knows_label: self.competence.knows(label as u16),
            knows_suggested: suggested.is_some_and(|class| self.competence.knows(class as u16)),
        }
    }
}

/// Returns the mean of the predictions, the epochs and the out-of-fold predictions.
fn class_probabilities(input: &SplitPredictions) -> Vec<f32> {
    let mean = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| f32::midpoint(*a, *b)).collect();
    let own: Vec<f32> = match &input.trajectories {
        None => input.probabilities.clone(),
        Some(trajectories) => mean(&trajectories.late_probabilities, &input.probabilities),
    };
    match &input.out_of_fold {
        None => own,
        Some(others) => mean(&own, others),
    }
}
