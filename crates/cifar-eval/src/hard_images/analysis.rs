//! The analysis of one split: class probabilities, and the scores that follow from them.

use super::competence::{Competence, CompetenceInputs};
use super::evidence::Evidence;
use super::figures::{Figures, LIKELY_WRONG, two_highest};
use super::inputs::SplitPredictions;
use super::label_odds::LabelOdds;
use crate::measures::ConfidentJoint;
use crate::metrics::{entropy, loss, margin};
use crate::predictions::predicted_class;

/// The images of a split with everything that was found about them, in the order of the set.
#[derive(Debug)]
pub(super) struct SplitAnalysis<'a> {
    pub(super) input: &'a SplitPredictions<'a>,
    pub(super) evidence: Evidence,
    pub(super) joint: ConfidentJoint,
    odds: LabelOdds,
    /// Whether the predictions are good enough to judge labels.
    pub(super) competence: Competence,
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
    /// `label_issue_score` and the probability that a label is wrong are those of [`LabelOdds`].
    /// `val` is the analysis of the validation images, by which those of training images are
    /// judged. `hardness_score` ([`hardness`](super::hardness)) disregards the label.
    pub(super) fn new(input: &'a SplitPredictions<'a>, val: Option<&Self>) -> Self {
        let (classes, labels) = (input.images.classes().len(), input.images.labels());
        let evidence = Evidence::new(input);
        // Odds that are not good enough to judge validation labels do not judge training labels
        // either.
        let judge = val.filter(|val| val.competence.knows_split);
        let odds = if input.is_held_out() {
            LabelOdds::held_out(&evidence, &labels)
        } else {
            LabelOdds::trained_on(&evidence, &labels, judge.map(|val| &val.odds))
        };
        let joint = ConfidentJoint::estimate(classes, &labels, &evidence.class_probabilities);
        let is_suspicious: Vec<bool> =
            (0..labels.len()).map(|index| classes > 1 && odds.p_wrong(index) > LIKELY_WRONG).collect();
        let competence = Competence::of(&CompetenceInputs {
            classes: input.images.classes(),
            labels: &labels,
            probabilities: &input.probabilities,
            class_probabilities: &evidence.class_probabilities,
            rates: &odds.rates,
            is_suspicious: &is_suspicious,
        });
        let competence = match judge {
            Some(val) if odds.is_rank_matched => competence.and(&val.competence),
            _ => competence,
        };
        let hardness = evidence.hardness();
        Self { input, evidence, joint, odds, competence, hardness }
    }

    /// Returns the number of epochs of the trajectories; 0 without any.
    pub(super) fn epochs(&self) -> usize {
        self.input.trajectories.as_ref().map_or(0, |t| t.epochs)
    }

    /// Returns the figures of the image at `index`.
    pub(super) fn figures(&self, index: usize) -> Figures {
        let classes = self.input.images.classes().len();
        let row = index * classes..(index + 1) * classes;
        let (p, class_p) = (&self.input.probabilities[row.clone()], &self.evidence.class_probabilities[row.clone()]);
        let leading = two_highest(class_p);
        let label = usize::from(self.input.images.samples()[index].label);
        let (rates, p_wrong) = (&self.odds.rates, self.odds.p_wrong(index));
        let most_probable = rates.most_probable_class(label, class_p);
        let other = if most_probable == label { usize::from(leading[0].0) } else { most_probable };
        let suggested = if other == label && p_wrong > LIKELY_WRONG {
            rates.most_probable_other(label, class_p)
        } else {
            (other != label).then_some(other)
        };
        Figures {
            predicted: predicted_class(p) as u16,
            p_label: p[label],
            suggested: suggested.map(|class| (class as u16, class_p[class])),
            margin: margin(p, label),
            entropy: entropy(p),
            loss: loss(p[label]),
            trajectory: self.input.trajectories.as_ref().map(|t| t.images[index]),
            out_of_fold: self.input.out_of_fold.as_ref().map(|p| (p[row.start + label], margin(&p[row], label))),
            label_issue: self.odds.scores[index],
            hardness: self.hardness[index],
            outlier: None,
            p_wrong,
            is_rank_matched: self.odds.is_rank_matched,
            rate: suggested.map(|class| rates.get(class, label)),
            leading,
            class_p_label: class_p[label],
            knows_label: self.competence.knows(label as u16),
            knows_suggested: suggested.is_some_and(|class| self.competence.knows(class as u16)),
        }
    }
}
