//! Label noise rates per class, and the probability that a label is wrong (Bayes' rule).
//!
//! Two kinds of label noise need opposite rules. If the wrong label can be any class, a label is
//! suspicious when its predicted probability is low. If cats are only ever labelled dog, the
//! network learns the wrong label too, and only the probability of cat matters. The noise rates,
//! estimated from the data, distinguish the two.

use rayon::prelude::*;

/// Fraction of the images predicted as a class that are its anchors: those with the highest
/// probability of the class. Anchors are assumed to belong to their class.
const ANCHOR_FRACTION: f64 = 0.15;
/// Weight of the prior, in images: each class's rates shrink towards the mean over all classes.
const PRIOR_IMAGES: f64 = 100.0;
/// Smallest fraction of wrong labels that is assumed, spread over the other classes. It is the mean
/// over ten common test sets (Northcutt, Athalye & Mueller 2021, arXiv 2103.14749).
const MIN_WRONG_FRACTION: f64 = 0.033;
/// Power of the probabilities. Networks that learn from smoothed or wrong labels are
/// underconfident, and so are means over epochs. The power is not fitted to held-out labels: the
/// fit falls as noise rises (docs/log/2026-11.md).
const POWER: f64 = 2.0;
/// Steps of expectation maximisation. More change little.
const STEPS: usize = 5;
/// Weight of the anchors' rates, in images of each class, when all images refine them.
const ANCHOR_WEIGHT: f64 = 300.0;
/// Most partial sums, each of which is a table of classes × classes. They are added in order, so
/// the number of threads changes no bit.
const MOST_CHUNKS: usize = 4;
/// Least images per partial sum.
const CHUNK: usize = 1024;

/// For each class, the fraction of its images that carry each label.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseRates {
    classes: usize,
    /// Class (row) by label (column); rows add up to 1.
    rates: Vec<f64>,
    /// Their natural logarithms.
    log_rates: Vec<f64>,
    /// For each class, the number of its anchors that carry its label, and the number of its
    /// anchors.
    anchors: Vec<(usize, usize)>,
}

impl NoiseRates {
    /// Estimates the rates from labels and probabilities (images × classes; each row sums to 1) of
    /// images that the network was trained on.
    ///
    /// The rates are first those of [`NoiseRates::of_anchors`]. All images then refine them in five
    /// steps of expectation maximisation: each counts for each class by its posterior probability,
    /// and the anchors' rates count as 300 images. Anchors alone underestimate the rates here, since
    /// the network has learnt wrong labels of easy images. No rate is below 3.3 % divided by the
    /// number of other classes.
    ///
    /// ```
    /// use cifar_eval::measures::NoiseRates;
    ///
    /// // 500 images of each of two classes; every tenth image of class 0 is labelled 1.
    /// let labels: Vec<u16> = (0..1000).map(|i| u16::from(i >= 500 || i % 10 == 0)).collect();
    /// let probabilities: Vec<f32> =
    ///     (0..1000).flat_map(|i| if i < 500 { [0.9, 0.1] } else { [0.1, 0.9] }).collect();
    /// let rates = NoiseRates::estimate(2, &labels, &probabilities);
    /// assert!(rates.get(0, 1) > 0.05 && rates.get(1, 0) < 0.05);
    /// // The first image is labelled 1 and looks like class 0.
    /// assert!(rates.log_odds_wrong(1, &probabilities[..2]) > 0.0);
    /// assert_eq!(rates.most_probable_class(1, &probabilities[..2]), 0);
    /// ```
    pub fn estimate(classes: usize, labels: &[u16], probabilities: &[f32]) -> Self {
        let of_anchors = Self::of_anchors(classes, labels, probabilities);
        (0..STEPS).fold(of_anchors.clone(), |rates, _| rates.refined(&of_anchors, labels, probabilities))
    }

    /// Estimates the rates from labels and probabilities (images × classes; each row sums to 1) of
    /// images that the network was not trained on.
    ///
    /// A class's rates are the label frequencies among its anchors: the 15 % of the images predicted
    /// as the class that have the highest probability of it. The anchors are those of Patrini et al.
    /// 2017 (arXiv 1609.03683), who read the rates from the network's probabilities instead.
    ///
    /// Each class's rates shrink towards the mean over all classes with the weight of 100 images. No
    /// rate is below 3.3 % divided by the number of other classes.
    ///
    /// Refining them by all images, as [`NoiseRates::estimate`] does, ranks wrong labels worse here:
    /// images that the network confuses then count as wrong labels (docs/measurements.md).
    ///
    /// ```
    /// use cifar_eval::measures::NoiseRates;
    ///
    /// // 500 images of each of two classes; every tenth image of class 0 is labelled 1.
    /// let labels: Vec<u16> = (0..1000).map(|i| u16::from(i >= 500 || i % 10 == 0)).collect();
    /// let probabilities: Vec<f32> =
    ///     (0..1000).flat_map(|i| if i < 500 { [0.9, 0.1] } else { [0.1, 0.9] }).collect();
    /// let rates = NoiseRates::of_anchors(2, &labels, &probabilities);
    /// assert_eq!(rates.anchors(0), (67, 75)); // the first 15 % of 500 equally probable images
    /// assert!(rates.get(0, 1) > rates.get(1, 0));
    /// ```
    pub fn of_anchors(classes: usize, labels: &[u16], probabilities: &[f32]) -> Self {
        let rows: Vec<&[f32]> = probabilities.chunks_exact(classes).collect();
        let mut predicted = vec![Vec::new(); classes];
        for (image, row) in rows.iter().enumerate() {
            predicted[crate::predictions::predicted_class(row)].push(image);
        }
        let mut counts = vec![0.0; classes * classes];
        for (class, images) in predicted.iter_mut().enumerate() {
            images.sort_by(|a, b| rows[*b][class].total_cmp(&rows[*a][class]).then(a.cmp(b)));
            images.truncate((images.len() as f64 * ANCHOR_FRACTION).ceil() as usize);
            for image in images {
                counts[class * classes + usize::from(labels[*image])] += 1.0;
            }
        }
        let total: f64 = counts.iter().sum();
        let correct: f64 = (0..classes).map(|class| counts[class * classes + class]).sum();
        let others = (classes - 1).max(1) as f64;
        let of_class = |class: usize| &counts[class * classes..(class + 1) * classes];
        let anchors =
            (0..classes).map(|class| (of_class(class)[class] as usize, of_class(class).iter().sum::<f64>() as usize));
        let anchors = anchors.collect();
        let mean = ((total - correct) / total.max(1.0)).max(MIN_WRONG_FRACTION) / others;
        let mut rates = counts;
        for (class, row) in rates.chunks_exact_mut(classes).enumerate() {
            let images = row.iter().sum::<f64>() + PRIOR_IMAGES;
            for rate in row.iter_mut() {
                *rate = (*rate + PRIOR_IMAGES * mean) / images;
            }
            keep_floor(row, class);
        }
        Self { classes, log_rates: logs(&rates), rates, anchors }
    }

    /// Returns the number of anchors of `class` that carry its label, and the number of its
    /// anchors.
    pub fn anchors(&self, class: usize) -> (usize, usize) {
        self.anchors[class]
    }

    /// Returns the fraction of the images of `class` that carry `label`, 0 to 1.
    pub fn get(&self, class: usize, label: usize) -> f64 {
        self.rates[class * self.classes + label]
    }

    /// Returns the rates over all images: each image counts for each class by its posterior
    /// probability under these rates. This is one step of expectation maximisation (Dempster, Laird
    /// & Rubin 1977), with the anchors' rates as prior.
    fn refined(self, of_anchors: &Self, labels: &[u16], probabilities: &[f32]) -> Self {
        let classes = self.classes;
        let counts = |(labels, rows): (&[u16], &[f32])| {
            let mut counts = vec![0.0; classes * classes];
            for (label, row) in labels.iter().map(|l| usize::from(*l)).zip(rows.chunks_exact(classes)) {
                let weights: Vec<f64> = self.log_weights(label, row).collect();
                let largest = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = weights.iter().map(|weight| libm::exp(weight - largest)).sum();
                for (class, weight) in weights.iter().enumerate() {
                    counts[class * classes + label] += libm::exp(weight - largest) / sum;
                }
            }
            counts
        };
        let size = CHUNK.max(labels.len().div_ceil(MOST_CHUNKS));
        let chunks = labels.par_chunks(size).zip(probabilities.par_chunks(size * classes.max(1)));
        let chunks: Vec<Vec<f64>> = chunks.map(counts).collect();
        let mut rates: Vec<f64> = of_anchors.rates.iter().map(|rate| ANCHOR_WEIGHT * rate).collect();
        for counts in chunks {
            rates.iter_mut().zip(counts).for_each(|(rate, count)| *rate += count);
        }
        for (class, row) in rates.chunks_exact_mut(classes).enumerate() {
            let images: f64 = row.iter().sum();
            for count in row.iter_mut() {
                *count /= images;
            }
            keep_floor(row, class);
        }
        Self { log_rates: logs(&rates), rates, ..self }
    }

    /// Returns the logarithm of each class's weight for an image: that of probability^power · rate
    /// of the label. Divided by their sum, the weights are the posterior probabilities of the
    /// classes.
    fn log_weights<'a>(&'a self, label: usize, probabilities: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
        let weight = move |(class, p): (usize, &f32)| POWER * log(*p) + self.log_rates[class * self.classes + label];
        probabilities.iter().enumerate().map(weight)
    }

    /// Returns the log-odds that the label of an image with these probabilities is wrong.
    pub fn log_odds_wrong(&self, label: usize, probabilities: &[f32]) -> f64 {
        let weights: Vec<f64> = self.log_weights(label, probabilities).collect();
        let largest = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let others = weights.iter().enumerate().filter(|(class, _)| *class != label);
        let sum: f64 = others.map(|(_, weight)| libm::exp(weight - largest)).sum();
        // With a single class no label is wrong.
        libm::log(sum.max(f64::MIN_POSITIVE)) - (weights[label] - largest)
    }

    /// Returns the class with the highest posterior probability; of ties, the first.
    pub fn most_probable_class(&self, label: usize, probabilities: &[f32]) -> usize {
        most_probable(self.log_weights(label, probabilities).enumerate()).unwrap_or(label)
    }

    /// Returns the class other than the label with the highest posterior probability; of ties, the
    /// first. `None` if there is a single class.
    pub fn most_probable_other(&self, label: usize, probabilities: &[f32]) -> Option<usize> {
        most_probable(self.log_weights(label, probabilities).enumerate().filter(|(class, _)| *class != label))
    }
}

fn logs(rates: &[f64]) -> Vec<f64> {
    rates.iter().map(|rate| libm::log(*rate)).collect()
}

fn log(p: f32) -> f64 {
    libm::log(f64::from(p.max(f32::MIN_POSITIVE)))
}

fn most_probable(weights: impl Iterator<Item = (usize, f64)>) -> Option<usize> {
    weights.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(class, _)| class)
}

/// Raises the rates of other labels than the class's own to the floor, and sets the own one to the
/// rest.
fn keep_floor(row: &mut [f64], class: usize) {
    let least = MIN_WRONG_FRACTION / (row.len() - 1).max(1) as f64;
    for rate in row.iter_mut() {
        *rate = rate.max(least);
    }
    row[class] = 0.0;
    // Even where nearly all labels of a class are wrong, a few are right.
    row[class] = (1.0 - row.iter().sum::<f64>()).max(least);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns labels and probabilities of 1,000 images of each of three classes. Every tenth image
    /// of class 0 carries the label 1. The network predicts every class correctly.
    fn noisy() -> (Vec<u16>, Vec<f32>) {
        let classes = || (0..3000).map(|i| i / 1000);
        let labels = classes().enumerate().map(|(i, class)| if class == 0 && i % 10 == 0 { 1 } else { class as u16 });
        let probabilities = classes().flat_map(|class| (0..3).map(move |k| if k == class { 0.8 } else { 0.1 }));
        (labels.collect(), probabilities.collect())
    }

    #[test]
    fn rates_follow_from_anchors_and_then_from_all_images() {
        let (labels, probabilities) = noisy();
        let rates = NoiseRates::estimate(3, &labels, &probabilities);
        // All images of a class tie, so its anchors are the first 150. 15 of those of class 0 are
        // labelled 1. The mean is 15 of 450, spread over two classes.
        assert_eq!([0, 1, 2].map(|class| rates.anchors(class)), [(135, 150), (150, 150), (150, 150)]);
        let (mean, floor) = (15.0 / 450.0 / 2.0, 0.0165);
        let first = |class: usize, label: usize| {
            let carried = [[135.0, 15.0, 0.0], [0.0, 150.0, 0.0], [0.0, 0.0, 150.0]][class][label];
            let rate: f64 = (carried + 100.0 * mean) / 250.0;
            rate.max(floor)
        };
        let own =
            |class: usize| 1.0 - (0..3).filter(|other| *other != class).map(|other| first(class, other)).sum::<f64>();
        let first = |class: usize, label: usize| if class == label { own(class) } else { first(class, label) };
        let first = [0, 1, 2].map(|class| [0, 1, 2].map(|label| first(class, label)));
        let of_anchors = NoiseRates::of_anchors(3, &labels, &probabilities);
        for (class, label) in (0..9).map(|at| (at / 3, at % 3)) {
            assert!((of_anchors.get(class, label) - first[class][label]).abs() < 1e-12, "{class} {label}");
        }
        let mut expected = first;
        for _ in 0..5 {
            let mut counts = first.map(|row| row.map(|rate| 300.0 * rate));
            for (label, row) in labels.iter().map(|l| usize::from(*l)).zip(probabilities.chunks_exact(3)) {
                let weights = [0, 1, 2].map(|class: usize| f64::from(row[class]).powi(2) * expected[class][label]);
                let sum: f64 = weights.iter().sum();
                (0..3).for_each(|class| counts[class][label] += weights[class] / sum);
            }
            for class in 0..3 {
                let images: f64 = counts[class].iter().sum();
                expected[class] = counts[class].map(|count| (count / images).max(floor));
                expected[class][class] = 0.0;
                expected[class][class] = 1.0 - expected[class].iter().sum::<f64>();
            }
        }
        for class in 0..3 {
            for label in 0..3 {
                let (found, expected) = (rates.get(class, label), expected[class][label]);
                assert!((found - expected).abs() < 1e-9, "{class} {label}: {found}, expected {expected}");
            }
        }
        assert!(rates.get(0, 1) > 0.06, "nearly a tenth: {rates:?}");
    }

    #[test]
    fn the_same_probability_is_more_suspicious_where_the_label_is_often_wrong() {
        let (labels, probabilities) = noisy();
        let rates = NoiseRates::estimate(3, &labels, &probabilities);
        // 0.6² · P(label 1 | class 0) / (0.3² · P(label 1 | class 1)), and likewise for class 2.
        let (often, rarely) = ([0.6, 0.3, 0.1], [0.1, 0.3, 0.6]);
        let expected = |row: [f64; 3]| {
            let [p, q, r] = row.map(|p| p * p);
            (p * rates.get(0, 1) + r * rates.get(2, 1)) / (q * rates.get(1, 1))
        };
        for row in [often, rarely] {
            assert!((rates.log_odds_wrong(1, &row.map(|p| p as f32)) - expected(row).ln()).abs() < 1e-6);
        }
        assert!(
            rates.log_odds_wrong(1, &often.map(|p| p as f32))
                > rates.log_odds_wrong(1, &rarely.map(|p| p as f32)) + 1.0
        );
        assert_eq!(rates.most_probable_class(1, &[0.9, 0.1, 0.0]), 0);
        assert_eq!(rates.most_probable_class(1, &[0.5, 0.4, 0.1]), 1, "the label counts too");
    }

    #[test]
    fn degenerate_sets_give_finite_numbers() {
        for (classes, labels, probabilities) in
            [(1, vec![0, 0], vec![1.0, 1.0]), (2, vec![], vec![]), (2, vec![1, 1], vec![1.0, 0.0, 1.0, 0.0])]
        {
            let rates = NoiseRates::estimate(classes, &labels, &probabilities);
            for row in probabilities.chunks_exact(classes) {
                assert!((0..classes).all(|label| rates.log_odds_wrong(label, row).is_finite()), "{rates:?}");
                assert!(rates.most_probable_class(0, row) < classes);
                assert_eq!(rates.most_probable_other(0, row).is_none(), classes == 1);
            }
        }
    }
}
