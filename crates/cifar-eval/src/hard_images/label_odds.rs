//! The odds that labels are wrong.

use super::evidence::Evidence;
use super::figures::p_wrong;
use crate::measures::{NoiseRates, ranks};

/// Minimum number of held-out images whose odds are used for images that networks were trained on.
const MIN_HELD_OUT: usize = 100;

/// For each image of a split, the odds that its label is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelOdds {
    /// How often images of each class carry each label.
    pub rates: NoiseRates,
    /// The log-odds of each image.
    pub log_odds: Vec<f64>,
    /// `label_issue_score`: the percentile rank of the odds ([`ranks()`]).
    pub scores: Vec<f64>,
    /// Whether the odds are those of held-out images with the same rank.
    pub is_rank_matched: bool,
}

impl LabelOdds {
    /// Computes the odds of images that no network was trained on.
    pub fn held_out(evidence: &Evidence, labels: &[u16]) -> Self {
        Self::under(NoiseRates::of_anchors(evidence.classes, labels, &evidence.class_probabilities), evidence, labels)
    }

    /// Computes the odds under these noise rates.
    fn under(rates: NoiseRates, evidence: &Evidence, labels: &[u16]) -> Self {
        let Evidence { classes, class_probabilities, .. } = evidence;
        let rows = class_probabilities.chunks_exact(*classes).zip(labels);
        let log_odds: Vec<f64> = rows.map(|(row, label)| rates.log_odds_wrong(usize::from(*label), row)).collect();
        Self { scores: ranks(&log_odds), rates, log_odds, is_rank_matched: false }
    }

    /// Computes the odds of images that networks were trained on.
    ///
    /// Networks also learn wrong labels, so they contradict too few of them. The order of the
    /// images hardly changes. Each image gets the odds of the `held_out` image with the same
    /// percentile rank: if images were divided at random, the same fraction of labels is wrong in
    /// both.
    ///
    /// Without at least 100 held-out images, the odds are not adjusted.
    pub fn trained_on(evidence: &Evidence, labels: &[u16], held_out: Option<&Self>) -> Self {
        let rates = NoiseRates::estimate(evidence.classes, labels, &evidence.class_probabilities);
        let found = Self::under(rates, evidence, labels);
        let Some(held_out) = held_out.filter(|odds| odds.log_odds.len() >= MIN_HELD_OUT) else { return found };
        let mut sorted = held_out.log_odds.clone();
        sorted.sort_by(f64::total_cmp);
        let log_odds = found.scores.iter().map(|rank| quantile(&sorted, *rank)).collect();
        Self { log_odds, is_rank_matched: true, ..found }
    }

    /// Returns the probability that the label of the image at `index` is wrong.
    pub fn p_wrong(&self, index: usize) -> f64 {
        p_wrong(self.log_odds[index])
    }
}

/// Returns the value with this percentile rank among sorted values, between two of them if need be.
/// A value at index i has the rank (i + ½) / n, as in [`ranks()`].
fn quantile(sorted: &[f64], rank: f64) -> f64 {
    let last = sorted.len() - 1;
    let place = (rank * sorted.len() as f64 - 0.5).clamp(0.0, last as f64);
    let (below, part) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(last);
    sorted[below] + part * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use cifar_data::SampleId;
    use cifar_data::random::{Purpose, stream};

    use super::*;

    #[test]
    fn quantiles_are_the_inverse_of_ranks() {
        let sorted = [-3.0, -1.0, 0.5, 2.0];
        for (rank, value) in ranks(&sorted).into_iter().zip(sorted) {
            assert!((quantile(&sorted, rank) - value).abs() < 1e-12, "{rank}");
        }
        for (rank, value) in [(0.0, -3.0), (0.25, -2.0), (1.0, 2.0)] {
            assert!((quantile(&sorted, rank) - value).abs() < 1e-12, "{rank}");
        }
        assert!((quantile(&[7.0], 0.9) - 7.0).abs() < 1e-12);
    }

    /// Returns evidence of two classes. 5 % of the labels are wrong. `learnt` is how much of the
    /// label the network has learnt by heart.
    fn evidence(images: usize, learnt: f32, seed: u64) -> (Evidence, Vec<u16>, Vec<bool>) {
        let mut draws = stream(seed, Purpose::Synthetic, 3, 0);
        let (mut labels, mut wrong, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for image in 0..images {
            let (class, is_wrong) = (image % 2, draws.chance(0.05));
            let label = if is_wrong { 1 - class } else { class };
            let known = (0.86 + 0.1 * draws.unit()) as f32;
            let of_class = |k| if k == class { known } else { 1.0 - known };
            let of_label = |k| if k == label { 1.0 } else { 0.0 };
            rows.extend([0, 1].map(|k| (1.0 - learnt) * of_class(k) + learnt * of_label(k)));
            labels.push(label as u16);
            wrong.push(is_wrong);
        }
        let evidence = Evidence {
            ids: (0..images as u32).map(SampleId).collect(),
            classes: 2,
            class_probabilities: rows.clone(),
            hardness_probabilities: rows,
            appearance: vec![[50.0, 100.0]; images],
        };
        (evidence, labels, wrong)
    }

    #[test]
    fn only_rates_of_training_images_are_refined_by_all_images() {
        let (evidence, labels, _) = evidence(1000, 0.0, 1);
        let of_anchors = NoiseRates::of_anchors(2, &labels, &evidence.class_probabilities);
        let of_all = NoiseRates::estimate(2, &labels, &evidence.class_probabilities);
        assert_ne!(of_anchors, of_all);
        assert_eq!(LabelOdds::held_out(&evidence, &labels).rates, of_anchors);
        assert_eq!(LabelOdds::trained_on(&evidence, &labels, None).rates, of_all);
    }

    #[test]
    fn learnt_labels_are_flagged_as_often_as_held_out_ones() {
        let (evidence_of_val, labels, wrong) = evidence(1000, 0.0, 1);
        let val = LabelOdds::held_out(&evidence_of_val, &labels);
        let flags = |odds: &LabelOdds| (0..odds.log_odds.len()).filter(|i| odds.p_wrong(*i) > 0.5).count();
        let planted = wrong.iter().filter(|wrong| **wrong).count();
        assert!(flags(&val).abs_diff(planted) <= 2, "{} of {planted}", flags(&val));

        // The network has learnt the labels: no other class is more probable.
        let (evidence_of_train, labels, wrong) = evidence(4000, 0.6, 2);
        assert_eq!(flags(&LabelOdds::trained_on(&evidence_of_train, &labels, None)), 0);
        let train = LabelOdds::trained_on(&evidence_of_train, &labels, Some(&val));
        let planted = wrong.iter().filter(|wrong| **wrong).count();
        let right = (0..4000).filter(|i| train.p_wrong(*i) > 0.5 && wrong[*i]).count();
        assert!(flags(&train).abs_diff(planted) < 60, "{} of {planted}", flags(&train));
        assert!(right as f64 > 0.9 * flags(&train).min(planted) as f64, "{right} of {} flags", flags(&train));
        let few = LabelOdds::held_out(&evidence(99, 0.0, 1).0, &evidence(99, 0.0, 1).1);
        assert_eq!(flags(&LabelOdds::trained_on(&evidence_of_train, &labels, Some(&few))), 0, "too few to tell");
    }
}
