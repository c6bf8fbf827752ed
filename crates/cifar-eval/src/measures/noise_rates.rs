//! How often images of a class carry the label of another, and what that says of a label (Bayes' rule).
//!
//! Two kinds of wrong labels ask for opposite things. Where any class may be the wrong one, a label is suspicious if belief
//! in it is low. Where cats are labelled dog and nothing else, half of the network believes in the wrong label, and what
//! counts is belief in cat alone. The rates, found in the data, tell the two apart.

/// Of the images believed to be of a class, the share that is beyond doubt: those with the greatest belief in it.
const SUREST: f64 = 0.15;
/// The rates found among the surest are drawn to their mean as if so many images more had shown it.
const PRIOR_IMAGES: f64 = 100.0;
/// The least share of wrong labels that is reckoned with, spread over the other classes: the mean of ten test sets in common use
/// (Northcutt, Athalye & Mueller 2021, arXiv 2103.14749).
const LEAST_WRONG: f64 = 0.033;

/// For each class, the share of its images that carry each label.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseRates {
    classes: usize,
    /// Class (row) by label (column); rows add up to 1.
    rates: Vec<f64>,
    /// For each class, how many of the surest images carry its label, and how many there are.
    surest: Vec<(usize, usize)>,
}

impl NoiseRates {
    /// From labels and beliefs (images × classes, rows that add up to 1): the labels' shares among the 15 % of the images believed to be of
    /// a class that are believed in most. Such images stand for those whose class is known, as the "anchors" of Patrini et al. 2017
    /// (arXiv 1609.03683), who read the rates off the network's probabilities instead.
    ///
    /// Few images say little: each class's rates are drawn to the mean over all classes, by the weight of 100 images. And no rate is
    /// below 3.3 % over the number of other classes.
    pub fn estimate(classes: usize, labels: &[u16], beliefs: &[f32]) -> Self {
        let rows: Vec<&[f32]> = beliefs.chunks_exact(classes).collect();
        let mut believed = vec![Vec::new(); classes];
        for (image, row) in rows.iter().enumerate() {
            believed[crate::predictions::predicted_class(row)].push(image);
        }
        let mut counts = vec![0.0; classes * classes];
        for (class, images) in believed.iter_mut().enumerate() {
            images.sort_by(|a, b| rows[*b][class].total_cmp(&rows[*a][class]).then(a.cmp(b)));
            images.truncate((images.len() as f64 * SUREST).ceil() as usize);
            for image in images {
                counts[class * classes + usize::from(labels[*image])] += 1.0;
            }
        }
        let total: f64 = counts.iter().sum();
        let right: f64 = (0..classes).map(|class| counts[class * classes + class]).sum();
        let others = (classes - 1).max(1) as f64;
        let least = LEAST_WRONG / others;
        let of_class = |class: usize| &counts[class * classes..(class + 1) * classes];
        let surest =
            (0..classes).map(|class| (of_class(class)[class] as usize, of_class(class).iter().sum::<f64>() as usize));
        let surest = surest.collect();
        let mean = ((total - right) / total.max(1.0)).max(LEAST_WRONG) / others;
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

    /// Of the images that the network most surely predicts as `class`, 15 % of those that it predicts as
    /// that class: how many carry its label, and how many there are.
    pub fn surest(&self, class: usize) -> (usize, usize) {
        self.surest[class]
    }

    /// The share of the images of `class` that carry `label`.
    pub fn get(&self, class: usize, label: usize) -> f64 {
        self.rates[class * self.classes + label]
    }

    /// What weighs for each class of an image with this label and beliefs: belief² · rate of the label. Divided by their sum they are the
    /// classes' probabilities. The square makes up for beliefs that are flatter than shares: networks learn from smoothed
    /// labels, and early epochs are unsure of everything.
    fn weights<'a>(&'a self, label: usize, beliefs: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
        beliefs.iter().enumerate().map(move |(class, belief)| {
            let belief = f64::from(belief.max(f32::MIN_POSITIVE));
            belief * belief * self.get(class, label)
        })
    }

    /// ln of the odds that the label of an image with these beliefs is wrong.
    pub fn doubt(&self, label: usize, beliefs: &[f32]) -> f64 {
        let (mut own, mut others) = (0.0, 0.0);
        for (class, weight) in self.weights(label, beliefs).enumerate() {
            *(if class == label { &mut own } else { &mut others }) += weight;
        }
        // Of one class alone, nothing is wrong.
        libm::log(others.max(f64::MIN_POSITIVE)) - libm::log(own.max(f64::MIN_POSITIVE))
    }

    /// The most probable class of such an image; of equals the first.
    pub fn likeliest(&self, label: usize, beliefs: &[f32]) -> usize {
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
    fn rates_are_those_of_the_surest_images() {
        let (labels, beliefs) = noisy();
        let rates = NoiseRates::estimate(3, &labels, &beliefs);
        // The surest of equals are the first 150 of each class: 15 of class 0 are labelled 1. The mean is 15 of 450, spread over two.
        let mean = 15.0 / 450.0 / 2.0;
        assert!((rates.get(0, 1) - (15.0 + 100.0 * mean) / 250.0).abs() < 1e-12);
        assert_eq!([0, 1, 2].map(|class| rates.surest(class)), [(135, 150), (150, 150), (150, 150)]);
        assert!((rates.get(0, 2) - 0.0165).abs() < 1e-12, "not below the least rate: {rates:?}");
        for class in 0..3 {
            let sum: f64 = (0..3).map(|label| rates.get(class, label)).sum();
            assert!((sum - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn the_same_belief_is_a_doubt_where_such_labels_are_often_wrong_only() {
        let (labels, beliefs) = noisy();
        let rates = NoiseRates::estimate(3, &labels, &beliefs);
        // By hand: 0.6² · P(label 1 | class 0) over 0.3² · P(label 1 | class 1), and the same of class 2.
        let (often, seldom) = ([0.6, 0.3, 0.1], [0.1, 0.3, 0.6]);
        let by_hand = |row: [f64; 3]| {
            (row[0].powi(2) * rates.get(0, 1) + row[2].powi(2) * rates.get(2, 1)) / (0.09 * rates.get(1, 1))
        };
        for row in [often, seldom] {
            assert!((rates.doubt(1, &row.map(|p| p as f32)) - by_hand(row).ln()).abs() < 1e-6);
        }
        assert!(rates.doubt(1, &often.map(|p| p as f32)) > rates.doubt(1, &seldom.map(|p| p as f32)) + 1.0);
        assert_eq!(rates.likeliest(1, &[0.9, 0.1, 0.0]), 0);
        assert_eq!(rates.likeliest(1, &[0.5, 0.4, 0.1]), 1, "the label has a say");
    }

    #[test]
    fn odd_sets_give_finite_numbers() {
        for (classes, labels, beliefs) in
            [(1, vec![0, 0], vec![1.0, 1.0]), (2, vec![], vec![]), (2, vec![1, 1], vec![1.0, 0.0, 1.0, 0.0])]
        {
            let rates = NoiseRates::estimate(classes, &labels, &beliefs);
            for row in beliefs.chunks_exact(classes) {
                assert!((0..classes).all(|label| rates.doubt(label, row).is_finite()), "{rates:?}");
                assert!(rates.likeliest(0, row) < classes);
            }
        }
    }
}
