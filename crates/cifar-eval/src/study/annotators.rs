//! Label noise like that of people, who mislabel hard images more often than easy ones.

use cifar_data::random::{Purpose, stream};
use cifar_data::{Dataset, Sample, SampleId};

use crate::{EvalError, Result};

/// Halvings of an interval by bisection. The result is then exact to rounding.
const HALVINGS: usize = 60;
/// Powers that are searched, from nearly constant to nearly certain probabilities.
const POWERS: [f64; 2] = [1.0 / 64.0, 64.0];

/// Simulated annotators: for each image, the probability that they give it each label.
///
/// The confusions of people are approximated by those of networks that were not trained on the
/// image. Where these hesitate between cat and dog, annotators sometimes write dog on a cat.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotators {
    /// In ascending order.
    ids: Vec<SampleId>,
    classes: usize,
    /// Calibrated probabilities: images × classes.
    probabilities: Vec<f32>,
}

impl Annotators {
    /// Creates annotators from predicted probabilities (images × classes) of networks that were not
    /// trained on these images.
    ///
    /// The probabilities are calibrated first: they are raised to the power under which the labels
    /// in force are most likely (temperature scaling: Guo et al. 2017, arXiv 1706.04599).
    ///
    /// # Errors
    /// If there is not one row per image or a value is not a probability.
    pub fn calibrated(images: &Dataset, probabilities: &[f32]) -> Result<Self> {
        let (labels, classes) = (images.labels(), images.classes().len());
        crate::metrics::Scores::new(probabilities, &labels, classes)?;
        let power = calibrating_power(probabilities, &labels, classes);
        let mut calibrated = probabilities.to_vec();
        for row in calibrated.chunks_exact_mut(classes) {
            let raised = raised(row, power);
            row.iter_mut().zip(raised).for_each(|(p, value)| *p = value as f32);
        }
        Ok(Self { ids: images.samples().iter().map(|s| s.id).collect(), classes, probabilities: calibrated })
    }

    /// Returns annotators of the images of both.
    #[must_use]
    pub fn with(self, other: &Self) -> Self {
        let rows = |of: &Self| {
            let rows = of.probabilities.chunks_exact(of.classes).map(<[f32]>::to_vec);
            of.ids.iter().copied().zip(rows).collect::<Vec<_>>()
        };
        let mut all: Vec<(SampleId, Vec<f32>)> = rows(&self).into_iter().chain(rows(other)).collect();
        all.sort_by_key(|(id, _)| *id);
        let (ids, rows): (Vec<SampleId>, Vec<Vec<f32>>) = all.into_iter().unzip();
        Self { ids, classes: self.classes, probabilities: rows.concat() }
    }

    /// Checks that annotators of `classes` classes can make this fraction of labels wrong.
    ///
    /// # Errors
    /// If pure guessing would make fewer labels wrong.
    pub fn check_rate(rate: f64, classes: usize) -> Result<()> {
        let limit = 1.0 - 1.0 / classes as f64;
        if rate < limit {
            return Ok(());
        }
        Err(EvalError::Parameter {
            key: "flip",
            value: rate.to_string(),
            allowed: format!("allowed is less than {limit:.3}, the fraction that pure guessing makes wrong"),
        })
    }

    fn row(&self, sample: &Sample) -> Option<&[f32]> {
        let at = self.ids.binary_search(&sample.id).ok()?;
        Some(&self.probabilities[at * self.classes..(at + 1) * self.classes])
    }

    /// Returns ⌊rate · N + ½⌋ images of `set` with a wrong label for each.
    ///
    /// Annotators who are careful look again: they give the calibrated probabilities a weight of
    /// less than 1, and the label in force the rest. Careless ones hesitate more: the probabilities
    /// are flattened by a power below 1. The weight or power is that under which the expected
    /// fraction of wrong labels is `rate`. An image is drawn with its own probability of a wrong
    /// label by sequential Poisson sampling (Ohlsson 1998), which fixes the number of images.
    pub(super) fn wrong_labels(&self, set: &Dataset, rate: f64, seed: u64) -> Result<Vec<(SampleId, u16)>> {
        let mut rows = Vec::with_capacity(set.len());
        for sample in set.samples() {
            let row = self.row(sample).filter(|row| row.len() == set.classes().len());
            let row = row.ok_or_else(|| EvalError::Parameter {
                key: "annotators",
                value: format!("no probabilities for image {}", sample.id),
                allowed: "every image needs as many as there are classes".into(),
            })?;
            rows.push((sample, row));
        }
        Self::check_rate(rate, set.classes().len())?;
        let power = flattening_power(&rows, rate);
        let mut drawn: Vec<(f64, SampleId, u16)> = Vec::with_capacity(rows.len());
        for (sample, row) in rows {
            let (key, mut others) = (u64::from(sample.id.0), raised(row, power));
            others[usize::from(sample.label)] = 0.0;
            let sum: f64 = others.iter().sum();
            if sum == 0.0 {
                continue;
            }
            let order = stream(seed, Purpose::LabelNoise, 0, key).unit() / sum;
            let mut left = stream(seed, Purpose::LabelNoise, 1, key).unit() * sum;
            let class = others.iter().position(|p| {
                left -= p;
                left < 0.0
            });
            // Rounding may leave a rest; it belongs to the last class with a probability.
            let class = class.or_else(|| others.iter().rposition(|p| *p > 0.0)).unwrap_or_default();
            drawn.push((order, sample.id, class as u16));
        }
        drawn.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        drawn.truncate((rate * set.len() as f64).round() as usize);
        Ok(drawn.into_iter().map(|(_, id, class)| (id, class)).collect())
    }
}

/// Returns a row of probabilities raised to `power`, divided by their sum.
fn raised(row: &[f32], power: f64) -> Vec<f64> {
    let logs = row.iter().map(|p| power * libm::log(f64::from(p.max(f32::MIN_POSITIVE))));
    let logs: Vec<f64> = logs.collect();
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logs.iter().map(|log| libm::exp(log - largest)).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// Returns the power under which the labels are most likely.
fn calibrating_power(probabilities: &[f32], labels: &[u16], classes: usize) -> f64 {
    // The derivative of the log-likelihood by the power falls as the power rises.
    let slope = |power: f64| -> f64 {
        let rows = probabilities.chunks_exact(classes).zip(labels);
        rows.map(|(row, label)| {
            let log = |p: &f32| libm::log(f64::from(p.max(f32::MIN_POSITIVE)));
            let mean: f64 = raised(row, power).iter().zip(row).map(|(weight, p)| weight * log(p)).sum();
            log(&row[usize::from(*label)]) - mean
        })
        .sum()
    };
    bisect(|power| slope(power) > 0.0)
}

/// Returns the power that flattens the probabilities so much that the mean probability of a wrong
/// label is `rate`; 1 if it is at least that already.
fn flattening_power(rows: &[(&Sample, &[f32])], rate: f64) -> f64 {
    let wrong = |power: f64| {
        let of_row = |(sample, row): &(&Sample, &[f32])| 1.0 - raised(row, power)[usize::from(sample.label)];
        rows.iter().map(of_row).sum::<f64>() / rows.len().max(1) as f64
    };
    if wrong(1.0) >= rate { 1.0 } else { bisect(|power| wrong(power) > rate).min(1.0) }
}

/// Returns the power up to which `is_below` holds.
fn bisect(is_below: impl Fn(f64) -> bool) -> f64 {
    let [mut low, mut high] = POWERS.map(libm::log);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if is_below(libm::exp(middle)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    libm::exp(f64::midpoint(low, high))
}

#[cfg(test)]
mod tests {
    use cifar_data::ImageSize;

    use super::*;

    /// 3,000 images of three classes. A tenth of each class is hard: there the networks are right
    /// in six of ten cases, elsewhere in 99 of 100. Their probabilities are the cube of honest
    /// ones.
    fn images() -> (Dataset, Vec<f32>) {
        let size = ImageSize { height: 8, width: 8 };
        let labels: Vec<u16> = (0..3000).map(|i| (i % 3) as u16).collect();
        let set = Dataset::from_arrays(&["ape", "bee", "cat"], size, &labels, vec![0; 3000 * size.bytes()]).unwrap();
        let row = |i: usize| {
            let (is_hard, turn) = ((i / 3).is_multiple_of(10), i / 30 % 100);
            let right = if is_hard { 0.6 } else { 0.99 };
            let shift = usize::from(turn as f64 >= right * 100.0);
            (0..3).map(move |k| {
                let honest: f64 = match (k + 3 - (i + shift) % 3) % 3 {
                    0 => right,
                    1 => (1.0 - right) * 0.75,
                    _ => (1.0 - right) * 0.25,
                };
                honest.powi(3) as f32
            })
        };
        let rows = (0..3000).flat_map(row).collect::<Vec<f32>>();
        let sums = rows.chunks_exact(3).map(|row| row.iter().sum::<f32>());
        let normalised = rows.chunks_exact(3).zip(sums).flat_map(|(row, sum)| row.iter().map(move |p| p / sum));
        (set.clone(), normalised.collect())
    }

    #[test]
    fn overconfident_probabilities_are_calibrated() {
        let (set, probabilities) = images();
        let power = calibrating_power(&probabilities, &set.labels(), 3);
        assert!((0.25..0.45).contains(&power), "{power}: a third is expected");
    }

    #[test]
    fn hard_images_get_most_of_the_wrong_labels() {
        let (set, probabilities) = images();
        let annotators = Annotators::calibrated(&set, &probabilities).unwrap();
        for (rate, least_hard) in [(0.02, 0.6), (0.2, 0.15)] {
            let found = annotators.wrong_labels(&set, rate, 7).unwrap();
            assert_eq!(found, annotators.wrong_labels(&set, rate, 7).unwrap());
            assert_ne!(found, annotators.wrong_labels(&set, rate, 8).unwrap());
            assert_eq!(found.len(), (rate * 3000.0_f64).round() as usize);
            assert!(found.iter().all(|(id, class)| set.labels()[id.0 as usize] != *class));
            let hard = found.iter().filter(|(id, _)| id.0 / 3 % 10 == 0).count() as f64 / found.len() as f64;
            assert!(hard > least_hard, "at {rate}, {hard} of the wrong labels are on the tenth that is hard");
        }
        let error = annotators.wrong_labels(&set, 0.7, 7).unwrap_err().to_string();
        assert!(error.contains("allowed is less than 0.667"), "{error}");
    }

    #[test]
    fn every_image_needs_probabilities() {
        let (set, probabilities) = images();
        let first = set.filter(|s| s.id.0 < 1500);
        let known = Annotators::calibrated(&first, &probabilities[..4500]).unwrap();
        let error = known.wrong_labels(&set, 0.1, 1).unwrap_err().to_string();
        assert!(error.contains("no probabilities for image 1500"), "{error}");
        let rest = Annotators::calibrated(&set.filter(|s| s.id.0 >= 1500), &probabilities[4500..]).unwrap();
        assert!(rest.with(&known).wrong_labels(&set, 0.1, 1).is_ok());
        assert!(Annotators::calibrated(&set, &probabilities[3..]).is_err());
    }
}
