//! How hard an image is, whatever its label.

use super::figures::two_highest;
use crate::measures::ranks;
use crate::metrics::entropy;

/// Weight of the log-probabilities after the first epoch; those of the trained network have the
/// rest. A network that has seen each image once shows what is hard before it learns it by heart.
/// Both weights are those of an analysis of how people hesitate on CIFAR-10's test images.
const FIRST_EPOCH: f64 = 0.25;
/// Weight of the percentile ranks of contrast and of brightness, next to 1 for the predictions.
const APPEARANCE: f64 = 0.1;

/// Contrast and mean brightness of an image, 0 to 255.
pub type Appearance = [f32; 2];

/// Returns the `hardness_score` of each image: the percentile rank ([`ranks()`]) of
///
/// ½ · (rank of a small margin + rank of the entropy) − 0.1 · rank of contrast − 0.1 · rank of
/// brightness.
///
/// The margin is the difference between the logarithms of the two highest probabilities. No label
/// is read. An image that is clearly a cat is easy, even if it is labelled dog.
pub(super) fn hardness(classes: usize, probabilities: &[f32], appearance: &[Appearance]) -> Vec<f64> {
    let rows = || probabilities.chunks_exact(classes);
    let small_margin = ranks(&rows().map(|row| -margin(row)).collect::<Vec<_>>());
    let uncertainty = ranks(&rows().map(entropy).collect::<Vec<_>>());
    let [contrast, brightness] =
        [0, 1].map(|at| ranks(&appearance.iter().map(|found| f64::from(found[at])).collect::<Vec<_>>()));
    let score = |index: usize| {
        f64::midpoint(small_margin[index], uncertainty[index]) - APPEARANCE * (contrast[index] + brightness[index])
    };
    ranks(&(0..small_margin.len()).map(score).collect::<Vec<f64>>())
}

fn log(p: f32) -> f64 {
    libm::log(f64::from(p.max(f32::MIN_POSITIVE)))
}

/// Mixes the log-probabilities after the first epoch into those of `row`.
pub(super) fn blend(row: &mut [f32], first: &[f32]) {
    let mixed = |(p, first): (&f32, &f32)| (1.0 - FIRST_EPOCH) * log(*p) + FIRST_EPOCH * log(*first);
    let logits: Vec<f64> = row.iter().zip(first).map(mixed).collect();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|logit| libm::exp(logit - largest)).collect();
    let sum: f64 = powers.iter().sum();
    row.iter_mut().zip(powers).for_each(|(p, power)| *p = (power / sum) as f32);
}

/// Returns the difference between the logarithms of the two highest probabilities; 0 with a single
/// class.
fn margin(row: &[f32]) -> f64 {
    let [(first, highest), (second, next)] = two_highest(row);
    if first == second { 0.0 } else { log(highest) - log(next) }
}

#[cfg(test)]
mod tests {
    use cifar_data::splits::Split;
    use cifar_data::{Dataset, ImageSize};

    use super::super::evidence::Evidence;
    use super::super::inputs::SplitPredictions;
    use super::*;

    /// Returns the scores of images with these probabilities. The pixels of image k alternate
    /// between 100 and 100 + `steps[k]`.
    fn scores(probabilities: &[f32], first_epoch: Option<&[f32]>, steps: &[u8]) -> Vec<f64> {
        let looks: Vec<[u8; 2]> = steps.iter().map(|step| [100, 100 + step]).collect();
        scores_of(probabilities, first_epoch, &looks)
    }

    /// Returns the scores of images with these probabilities, whose pixels alternate between two
    /// values.
    fn scores_of(probabilities: &[f32], first_epoch: Option<&[f32]>, looks: &[[u8; 2]]) -> Vec<f64> {
        let size = ImageSize { height: 8, width: 8 };
        let pixels = looks.iter().flat_map(|look| (0..size.bytes()).map(move |at| look[at / 3 % 2]));
        let pixels: Vec<u8> = pixels.collect();
        let found = [0, 2].map(|label| {
            let labels = vec![label; looks.len()];
            let images = Dataset::from_arrays(&["ape", "bee", "cat"], size, &labels, pixels.clone()).unwrap();
            let mut input = SplitPredictions::new(Split::Test, &images, probabilities.to_vec());
            input.first_epoch = first_epoch.map(<[f32]>::to_vec);
            Evidence::new(&input).hardness()
        });
        assert!(found[0] == found[1], "labels do not count");
        found[0].clone()
    }

    #[test]
    fn a_clear_image_is_easy_whatever_its_label() {
        let found = scores(&[0.98, 0.01, 0.01, 0.01, 0.01, 0.98, 0.5, 0.45, 0.05], None, &[50; 3]);
        assert!(found[2] > found[0] && found[2] > found[1], "{found:?}");
    }

    #[test]
    fn the_first_epoch_tells_images_apart_that_were_learnt_alike() {
        let learnt = [0.9, 0.05, 0.05].repeat(3);
        let found = scores(&learnt, Some(&[0.4, 0.3, 0.3, 0.9, 0.05, 0.05, 0.6, 0.2, 0.2]), &[50; 3]);
        assert!(found[0] > found[2] && found[2] > found[1], "{found:?}");
    }

    #[test]
    fn flat_and_dark_images_are_harder_if_the_predictions_are_equal() {
        let alike = [0.8, 0.1, 0.1].repeat(3);
        // The same brightness, then the same contrast.
        for looks in [[[95, 105], [50, 150], [75, 125]], [[20, 40], [200, 220], [100, 120]]] {
            let found = scores_of(&alike, None, &looks);
            assert!(found[0] > found[2] && found[2] > found[1], "{looks:?}: {found:?}");
        }
    }

    #[test]
    fn impossible_and_few_classes_give_finite_scores() {
        let found = scores(&[1.0, 0.0, 0.0, 0.5, 0.5, 0.0], None, &[10, 10]);
        assert!(found[1] > found[0] && found.iter().all(|score| score.is_finite()), "{found:?}");
        assert!(margin(&[0.5]) == 0.0);
    }
}
