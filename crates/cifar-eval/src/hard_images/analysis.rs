//! What a training run believes of each image of a split, and the scores that follow.

use cifar_data::Dataset;

use super::competence::{Competence, Evidence};
use super::triage::LIKELY_WRONG;
use crate::Result;
use crate::measures::{Joint, NoiseRates, Trajectories, Trajectory, ranks};
use crate::metrics::{entropy, loss, margin};
use crate::predictions::predicted_class;

/// What was found of the images of a split, in the set's order.
pub(super) struct Beliefs<'a> {
    classes: usize,
    /// Of the final network: images × classes.
    probabilities: Vec<f32>,
    trajectories: Option<Trajectories>,
    /// Of networks that did not learn from the images, if there are any: images × classes.
    out_of_fold: Option<&'a [f32]>,
    /// The probabilities that decide: the final network's, and where there are trajectories half of their means over the epochs.
    belief: Vec<f32>,
    pub(super) joint: Joint,
    rates: NoiseRates,
    /// Whether the network may be believed.
    pub(super) competence: Competence,
    /// ln of the odds that the label is wrong.
    doubts: Vec<f64>,
    label_issue: Vec<f64>,
    hardness: Vec<f64>,
}

/// The figures of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    /// The final network's class.
    pub(super) predicted: u16,
    /// The final network's probability of the label.
    pub(super) p_label: f32,
    /// The class that is most probable given the label too or, if that is the label, the one with the greatest belief; and the
    /// belief in it. None where both are the label.
    pub(super) suggested: Option<(u16, f32)>,
    /// Normalised margin of the final network: `p_label` less the greatest other probability. −1 to 1.
    pub(super) margin: f64,
    /// Of the final network's probabilities, nats.
    pub(super) entropy: f64,
    /// −ln `p_label`, nats.
    pub(super) loss: f64,
    pub(super) trajectory: Option<Trajectory>,
    /// Of networks that did not learn from the image: their probability of the label, and the margin of it.
    pub(super) out_of_fold: Option<(f32, f64)>,
    pub(super) label_issue: f64,
    pub(super) hardness: f64,
    /// The probability that the label is wrong.
    pub(super) p_wrong: f64,
    /// Where a class is suggested, the share of its images that carry this label.
    pub(super) rate: Option<f64>,
    /// The two greatest beliefs with their classes.
    pub(super) leading: [(u16, f32); 2],
    /// Belief in the label.
    pub(super) belief_in_label: f32,
    /// Whether the network knows the label's class ([`Competence`]); if not, its answers say nothing of the label.
    pub(super) knows_label: bool,
    /// Whether it knows the suggested class too.
    pub(super) knows_suggested: bool,
}

impl<'a> Beliefs<'a> {
    /// From the final network's probabilities and, where the split has them, the trajectories. Labels are those in force;
    /// no original label is read.
    ///
    /// The belief is ½ · (final + mean over the epochs) of the probabilities, and the final network's where there is nothing
    /// else (test). Later epochs weigh more in the mean ([`Trajectories::late_probabilities`]). Where there are networks
    /// that did not learn from the images, half of the belief is theirs. The final network has a part also where it
    /// learnt from the images: with it wrong labels are found better (docs/measurements.md).
    ///
    /// `label_issue_score` is the image's place in its split ([`ranks()`]) by the odds that its label is wrong, given the belief and how often each class
    /// carries which label in the split ([`NoiseRates`]); `hardness_score` that by the entropy of the belief, whatever the label is.
    pub(super) fn new(
        set: &Dataset,
        probabilities: Vec<f32>,
        trajectories: Option<Trajectories>,
        out_of_fold: Option<&'a [f32]>,
    ) -> Self {
        let (classes, labels) = (set.classes().len(), set.labels());
        let belief: Vec<f32> = match &trajectories {
            None => probabilities.clone(),
            Some(t) => {
                t.late_probabilities.iter().zip(&probabilities).map(|(mean, p)| f32::midpoint(*mean, *p)).collect()
            }
        };
        let belief = match out_of_fold {
            None => belief,
            Some(others) => belief.iter().zip(others).map(|(own, other)| f32::midpoint(*own, *other)).collect(),
        };
        let rows = || belief.chunks_exact(classes).zip(labels.iter().map(|l| usize::from(*l)));
        let rates = NoiseRates::estimate(classes, &labels, &belief);
        let doubts: Vec<f64> = rows().map(|(row, label)| rates.log_odds_wrong(label, row)).collect();
        let uncertainty: Vec<f64> = rows().map(|(row, _)| entropy(row)).collect();
        let (label_issue, hardness) = (ranks(&doubts), ranks(&uncertainty));
        let joint = Joint::estimate(classes, &labels, &belief);
        let suggests =
            |row: &[f32], label: usize| rates.most_probable_class(label, row) != label || predicted_class(row) != label;
        let is_accused: Vec<bool> = rows()
            .zip(&doubts)
            .map(|((row, label), doubt)| p_wrong(*doubt) > LIKELY_WRONG && suggests(row, label))
            .collect();
        let competence = Competence::of(&Evidence {
            classes: set.classes(),
            labels: &labels,
            probabilities: &probabilities,
            belief: &belief,
            rates: &rates,
            is_accused: &is_accused,
        });
        Self {
            classes,
            probabilities,
            trajectories,
            out_of_fold,
            belief,
            joint,
            rates,
            competence,
            doubts,
            label_issue,
            hardness,
        }
    }

    /// The final network's probabilities: images × classes.
    pub(super) fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }

    /// Epochs of the trajectories.
    pub(super) fn epochs(&self) -> usize {
        self.trajectories.as_ref().map_or(0, |t| t.epochs)
    }

    /// The figures of the image at `index`, whose label is `label`.
    pub(super) fn figures(&self, index: usize, label: u16) -> Figures {
        let row = index * self.classes..(index + 1) * self.classes;
        let (p, belief) = (&self.probabilities[row.clone()], &self.belief[row.clone()]);
        let leading = leading(belief);
        let label_at = usize::from(label);
        let likeliest = self.rates.most_probable_class(label_at, belief);
        let other = if likeliest == label_at { usize::from(leading[0].0) } else { likeliest };
        let suggested = (other != label_at).then_some(other);
        Figures {
            predicted: predicted_class(p) as u16,
            p_label: p[label_at],
            suggested: suggested.map(|class| (class as u16, belief[class])),
            margin: margin(p, label_at),
            entropy: entropy(p),
            loss: loss(p[label_at]),
            trajectory: self.trajectories.as_ref().map(|t| t.images[index]),
            out_of_fold: self.out_of_fold.map(|p| (p[row.start + label_at], margin(&p[row], label_at))),
            label_issue: self.label_issue[index],
            hardness: self.hardness[index],
            p_wrong: p_wrong(self.doubts[index]),
            rate: suggested.map(|class| self.rates.get(class, label_at)),
            leading,
            belief_in_label: belief[label_at],
            knows_label: self.competence.knows(label),
            knows_suggested: suggested.is_some_and(|class| self.competence.knows(class as u16)),
        }
    }
}

/// The probability that a label is wrong, from ln of its odds.
fn p_wrong(doubt: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-doubt))
}

/// The two greatest values with their places; the first of equals.
fn leading(row: &[f32]) -> [(u16, f32); 2] {
    let first = predicted_class(row);
    let second = (0..row.len()).filter(|k| *k != first).fold(None, |best: Option<usize>, k| match best {
        Some(best) if row[best] >= row[k] => Some(best),
        _ => Some(k),
    });
    let second = second.unwrap_or(first);
    [(first as u16, row[first]), (second as u16, row[second])]
}

/// Trajectories of a split, if something was recorded.
pub(super) fn follow(
    set: &Dataset,
    epochs: usize,
    logits: impl FnMut(usize) -> Vec<f32>,
) -> Result<Option<Trajectories>> {
    Trajectories::follow(set.classes().len(), &set.labels(), epochs, logits)
}
