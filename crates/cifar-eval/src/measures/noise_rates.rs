//! Label noise rates per class, and the probability that a label is wrong (Bayes' rule).
//!
//! Two kinds of label noise need opposite rules. If the wrong label can be any class, a label is
//! suspicious when its predicted probability is low. If cats are only ever labelled dog, the network
//! learns the wrong label too, and only the probability of cat matters. The noise rates, estimated
//! from the data, distinguish the two.

/// Fraction of the images predicted as a class that are its anchors: those with the highest
/// probability of it. Their true class is taken as known.
const ANCHOR_FRACTION: f64 = 0.15;
/// Weight of the prior, in images: each class's rates shrink towards the mean over all classes.
const PRIOR_IMAGES: f64 = 100.0;
/// Smallest fraction of wrong labels that is assumed, spread over the other classes. It is the mean
/// of ten common test sets (Northcutt, Athalye & Mueller 2021, arXiv 2103.14749).
const MIN_WRONG_FRACTION: f64 = 0.033;

/// For each class, the fraction of its images that carry each label.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseRates {
    classes: usize,
    /// Class (row) by label (column); rows add up to 1.
    rates: Vec<f64>,
    /// For each class, the number of its anchors that carry its label, and the number of its anchors.
    surest: Vec<(usize, usize)>,
}

impl NoiseRates {
    /// Estimates the rates from labels and probabilities (images × classes; each row sums to 1).
    ///
    /// A class's rates are the label frequencies among its anchors: the 15 % of the images predicted
    /// as the class that have the highest probability of it. The anchors are those of Patrini et al.
    /// 2017 (arXiv 1609.03683), who read the rates from the network's probabilities instead.
    ///
    /// Each class's rates shrink towards the mean over all classes with the weight of 100 images.
    /// No rate is below 3.3 % divided by the number of other classes.
    pub fn estimate(classes: usize, labels: &[u16], beliefs: &[f32]) -> Self {
        let rows: Vec<&[f32]> = beliefs.chunks_exact(classes).collect();
        let mut believed = vec![Vec::new(); classes];
        for (image, row) in rows.iter().enumerate() {
            believed[crate::predictions::predicted_class(row)].push(image);
        }
        let mut counts = vec![0.0; classes * classes];
        for (class, images) in believed.iter_mut().enumerate() {
            images.sort_by(|a, b| rows[*b][class].total_cmp(&rows[*a][class]).then(a.cmp(b)));
            images.truncate((images.len() as f64 * ANCHOR_FRACTION).ceil() as usize);
            for image in images {
                counts[class * classes + usize::from(labels[*image])] += 1.0;
            }
        }
        let total: f64 = counts.iter().sum();
        let right: f64 = (0..classes).map(|class| counts[class * classes + class]).sum();
        let others = (classes - 1).max(1) as f64;
        let least = MIN_WRONG_FRACTION / others;
        let of_class = |class: usize| &counts[class * classes..(class + 1) * classes];
        let surest =
            (0..classes).map(|class| (of_class(class)[class] as usize, of_class(class).iter().sum::<f64>() as usize));
        let surest = surest.collect();
        let mean = ((total - right) / total.max(1.0)).max(MIN_WRONG_FRACTION) / others;
        let mut rates = counts;
        for (class, row) in rates.chunks_exact_mut(classes).enumerate() {
            let images = row.iter().sum::<f64>() + PRIOR_IMAGES;
            for rate in row.iter_mut() {
                *rate = ((*rate + PRIOR_IMAGES * mean) / images).max(least);
            }
            row[class] = 0.0;
            // Where nearly all labels of a class are wrong, some are right all the same.
            row[class] = (1.0 - row.iter().sum::<f64>()).max(least);
        }
        Self { classes, rates, surest }
    }

    /// Returns the number of anchors of `class` that carry its label, and the number of its anchors.
    pub fn anchors(&self, class: usize) -> (usize, usize) {
        self.surest[class]
    }

    /// Returns the fraction of the images of `class` that carry `label`, 0 to 1.
    pub fn get(&self, class: usize, label: usize) -> f64 {
        self.rates[class * self.classes + label]
    }

    /// Returns each class's weight for an image: probability² · rate of the label. Divided by their
    /// sum, the weights are the posterior probabilities of the classes. The square corrects
    /// probabilities that are too flat: networks learn from smoothed labels, and early epochs are
    /// uncertain about everything.
    fn weights<'a>(&'a self, label: usize, beliefs: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
        beliefs.iter().enumerate().map(move |(class, belief)| {
            let belief = f64::from(belief.max(f32::MIN_POSITIVE));
            belief * belief * self.get(class, label)
        })
    }

    /// Returns the log-odds that the label of an image with these probabilities is wrong.
    pub fn log_odds_wrong(&self, label: usize, beliefs: &[f32]) -> f64 {
        let (mut own, mut others) = (0.0, 0.0);
        for (class, weight) in self.weights(label, beliefs).enumerate() {
            *(if class == label { &mut own } else { &mut others }) += weight;
        }
        // With a single class no label is wrong.
        libm::log(others.max(f64::MIN_POSITIVE)) - libm::log(own.max(f64::MIN_POSITIVE))
    }

    /// Returns the class with the highest posterior probability; the first one of a tie.
    pub fn most_probable_class(&self, label: usize, beliefs: &[f32]) -> usize {
        let better = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
        self.weights(label, beliefs).enumerate().fold((label, f64::NEG_INFINITY), better).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 images of each of three classes, of which every tenth of class 0 carries the label 1; the network knows the classes.
    fn noisy() -> (Vec<u16>, Vec<f32>) {
        let classes = || (0..3000).map(|i| i / 1000);
        let labels = classes().enumerate().map(|(i, class)| if class == 0 && i % 10 == 0 { 1 } else { class as u16 });
        let beliefs = classes().flat_map(|class| (0..3).map(move |k| if k == class { 0.8 } else { 0.1 }));
        (labels.collect(), beliefs.collect())
    }

    #[test]
    fn rates_are_the_label_frequencies_of_the_anchors() {
        let (labels, beliefs) = noisy();
        let rates = NoiseRates::estimate(3, &labels, &beliefs);
        // The surest of equals are the first 150 of each class: 15 of class 0 are labelled 1. The mean is 15 of 450, spread over two.
        let mean = 15.0 / 450.0 / 2.0;
        assert!((rates.get(0, 1) - (15.0 + 100.0 * mean) / 250.0).abs() < 1e-12);
        assert_eq!([0, 1, 2].map(|class| rates.anchors(class)), [(135, 150), (150, 150), (150, 150)]);
        assert!((rates.get(0, 2) - 0.0165).abs() < 1e-12, "not below the least rate: {rates:?}");
        for class in 0..3 {
            let sum: f64 = (0..3).map(|label| rates.get(class, label)).sum();
            assert!((sum - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn the_same_probability_is_more_suspicious_where_the_label_is_often_wrong() {
        let (labels, beliefs) = noisy();
        let rates = NoiseRates::estimate(3, &labels, &beliefs);
        // By hand: 0.6² · P(label 1 | class 0) over 0.3² · P(label 1 | class 1), and the same of class 2.
        let (often, seldom) = ([0.6, 0.3, 0.1], [0.1, 0.3, 0.6]);
        let by_hand = |row: [f64; 3]| {
            (row[0].powi(2) * rates.get(0, 1) + row[2].powi(2) * rates.get(2, 1)) / (0.09 * rates.get(1, 1))
        };
        for row in [often, seldom] {
            assert!((rates.log_odds_wrong(1, &row.map(|p| p as f32)) - by_hand(row).ln()).abs() < 1e-6);
        }
        assert!(
            rates.log_odds_wrong(1, &often.map(|p| p as f32))
                > rates.log_odds_wrong(1, &seldom.map(|p| p as f32)) + 1.0
        );
        assert_eq!(rates.most_probable_class(1, &[0.9, 0.1, 0.0]), 0);
        assert_eq!(rates.most_probable_class(1, &[0.5, 0.4, 0.1]), 1, "the label counts too");
    }

    #[test]
    fn odd_sets_give_finite_numbers() {
        for (classes, labels, beliefs) in
            [(1, vec![0, 0], vec![1.0, 1.0]), (2, vec![], vec![]), (2, vec![1, 1], vec![1.0, 0.0, 1.0, 0.0])]
        {
            let rates = NoiseRates::estimate(classes, &labels, &beliefs);
            for row in beliefs.chunks_exact(classes) {
                assert!((0..classes).all(|label| rates.log_odds_wrong(label, row).is_finite()), "{rates:?}");
                assert!(rates.most_probable_class(0, row) < classes);
            }
        }
    }
}
