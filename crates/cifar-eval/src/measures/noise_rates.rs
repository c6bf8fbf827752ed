//! Label noise rates per class, and the probability that a label is wrong (Bayes' rule).
//!
//! Two kinds of label noise need opposite rules. If the wrong label can be any class, a label is
//! suspicious when its predicted probability is low. If cats are only ever labelled dog, the
//! network learns the wrong label too, and only the probability of cat matters. The noise rates,
//! estimated from the data, distinguish the two.

/// Fraction of the images predicted as a class that are its anchors: those with the highest
/// probability of the class. Anchors are assumed to belong to their class.
const ANCHOR_FRACTION: f64 = 0.15;
/// Weight of the prior, in images: each class's rates shrink towards the mean over all classes.
const PRIOR_IMAGES: f64 = 100.0;
/// Smallest fraction of wrong labels that is assumed, spread over the other classes. It is the mean
/// over ten common test sets (Northcutt, Athalye & Mueller 2021, arXiv 2103.14749).
const MIN_WRONG_FRACTION: f64 = 0.033;

/// For each class, the fraction of its images that carry each label.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseRates {
    classes: usize,
    /// Class (row) by label (column); rows add up to 1.
    rates: Vec<f64>,
    /// For each class, the number of its anchors that carry its label, and the number of its
    /// anchors.
    anchors: Vec<(usize, usize)>,
}

impl NoiseRates {
    /// Estimates the rates from labels and probabilities (images × classes; each row sums to 1).
    ///
    /// A class's rates are the label frequencies among its anchors: the 15 % of the images
    /// predicted as the class that have the highest probability of it. The anchors are those of
    /// Patrini et al. 2017 (arXiv 1609.03683), who read the rates from the network's probabilities
    /// instead.
    ///
    /// Each class's rates shrink towards the mean over all classes with the weight of 100 images.
    /// No rate is below 3.3 % divided by the number of other classes.
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
        let least = MIN_WRONG_FRACTION / others;
        let of_class = |class: usize| &counts[class * classes..(class + 1) * classes];
        let anchors =
            (0..classes).map(|class| (of_class(class)[class] as usize, of_class(class).iter().sum::<f64>() as usize));
        let anchors = anchors.collect();
        let mean = ((total - correct) / total.max(1.0)).max(MIN_WRONG_FRACTION) / others;
        let mut rates = counts;
        for (class, row) in rates.chunks_exact_mut(classes).enumerate() {
            let images = row.iter().sum::<f64>() + PRIOR_IMAGES;
            for rate in row.iter_mut() {
                *rate = ((*rate + PRIOR_IMAGES * mean) / images).max(least);
            }
            row[class] = 0.0;
            // Even where nearly all labels of a class are wrong, a few are right.
            row[class] = (1.0 - row.iter().sum::<f64>()).max(least);
        }
        Self { classes, rates, anchors }
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

    /// Returns each class's weight for an image: probability² · rate of the label. Divided by their
    /// sum, the weights are the posterior probabilities of the classes. The square corrects
    /// probabilities that are too flat: networks learn from smoothed labels, and early epochs are
    /// uncertain about everything.
    fn weights<'a>(&'a self, label: usize, probabilities: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
        probabilities.iter().enumerate().map(move |(class, p)| {
            let p = f64::from(p.max(f32::MIN_POSITIVE));
            p * p * self.get(class, label)
        })
    }

    /// Returns the log-odds that the label of an image with these probabilities is wrong.
    pub fn log_odds_wrong(&self, label: usize, probabilities: &[f32]) -> f64 {
        let (mut of_label, mut of_others) = (0.0, 0.0);
        for (class, weight) in self.weights(label, probabilities).enumerate() {
            *(if class == label { &mut of_label } else { &mut of_others }) += weight;
        }
        // With a single class no label is wrong.
        libm::log(of_others.max(f64::MIN_POSITIVE)) - libm::log(of_label.max(f64::MIN_POSITIVE))
    }

    /// Returns the class with the highest posterior probability; of ties, the first.
    pub fn most_probable_class(&self, label: usize, probabilities: &[f32]) -> usize {
        let better = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
        self.weights(label, probabilities).enumerate().fold((label, f64::NEG_INFINITY), better).0
    }
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
    fn rates_are_the_label_frequencies_of_the_anchors() {
        let (labels, probabilities) = noisy();
        let rates = NoiseRates::estimate(3, &labels, &probabilities);
        // All images of a class tie, so its anchors are the first 150. 15 of those of class 0 are
        // labelled 1. The mean is 15 of 450, spread over two classes.
        let mean = 15.0 / 450.0 / 2.0;
        assert!((rates.get(0, 1) - (15.0 + 100.0 * mean) / 250.0).abs() < 1e-12);
        assert_eq!([0, 1, 2].map(|class| rates.anchors(class)), [(135, 150), (150, 150), (150, 150)]);
        assert!((rates.get(0, 2) - 0.0165).abs() < 1e-12, "the smallest rate: {rates:?}");
        for class in 0..3 {
            let sum: f64 = (0..3).map(|label| rates.get(class, label)).sum();
            assert!((sum - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn the_same_probability_is_more_suspicious_where_the_label_is_often_wrong() {
        let (labels, probabilities) = noisy();
        let rates = NoiseRates::estimate(3, &labels, &probabilities);
        // 0.6² · P(label 1 | class 0) / (0.3² · P(label 1 | class 1)), and likewise for class 2.
        let (often, rarely) = ([0.6, 0.3, 0.1], [0.1, 0.3, 0.6]);
        let expected = |row: [f64; 3]| {
            (row[0].powi(2) * rates.get(0, 1) + row[2].powi(2) * rates.get(2, 1)) / (0.09 * rates.get(1, 1))
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
            }
        }
    }
}
