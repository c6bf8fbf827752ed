//! Makes labels wrong on purpose.

use cifar_data::random::{Purpose, stream};
use cifar_data::{Dataset, Sample, SampleId};

use super::Annotators;
use crate::confusion::ConfusionMatrix;
use crate::{EvalError, Result};

/// Which wrong label an image gets.
#[derive(Debug, Clone, PartialEq)]
pub enum NoiseKind {
    /// Any other class, with equal probability.
    Symmetric,
    /// For each class, a fixed other class, such as that of [`most_confused`].
    Confused(Vec<u16>),
    /// What annotators would write by mistake. Hard images get a wrong label more often.
    HumanLike(Annotators),
}

/// Label noise.
#[derive(Debug, Clone, PartialEq)]
pub struct Noise {
    /// Fraction of images that get a wrong label, above 0 and below 1.
    pub rate: f64,
    /// Which labels they get.
    pub kind: NoiseKind,
}

impl Noise {
    /// Gives ⌊rate · N + ½⌋ images of the set another label than the one in force. The original
    /// labels stay. Which images and which labels depends only on the seed and the ids.
    ///
    /// ```
    /// use cifar_data::sources::synthetic::{SyntheticParams, generate};
    /// use cifar_eval::study::{Noise, NoiseKind};
    ///
    /// let clean = generate(&SyntheticParams { count: 100, ..Default::default() })?.dataset;
    /// let mut noisy = clean.clone();
    /// Noise { rate: 0.2, kind: NoiseKind::Symmetric }.corrupt(&mut noisy, 1)?;
    /// let changed = noisy.labels().into_iter().zip(clean.labels()).filter(|(new, old)| new != old);
    /// assert_eq!(changed.count(), 20);
    /// # Ok::<(), cifar_eval::EvalError>(())
    /// ```
    ///
    /// # Errors
    /// If the rate is out of range, there is only one class, or the confused classes or the
    /// annotators do not fit the set.
    pub fn corrupt(&self, set: &mut Dataset, seed: u64) -> Result<()> {
        let classes = set.classes().len() as u16;
        let wrong = |value: String, allowed: &str| EvalError::Parameter { key: "flip", value, allowed: allowed.into() };
        if !(self.rate > 0.0 && self.rate < 1.0) {
            return Err(wrong(self.rate.to_string(), "allowed is more than 0 and less than 1"));
        }
        if classes < 2 {
            return Err(wrong(format!("{classes} class"), "at least two classes are needed"));
        }
        if let NoiseKind::Confused(others) = &self.kind {
            let fits = |(class, other): (usize, &u16)| *other < classes && usize::from(*other) != class;
            if others.len() != usize::from(classes) || !others.iter().enumerate().all(fits) {
                return Err(wrong(format!("{others:?}"), "each class needs another class of the set"));
            }
        }
        let mut labels = match &self.kind {
            NoiseKind::HumanLike(annotators) => annotators.wrong_labels(set, self.rate, seed)?,
            NoiseKind::Symmetric => self.drawn(set, seed, |sample| {
                let offset = stream(seed, Purpose::LabelNoise, 1, u64::from(sample.id.0)).below(u64::from(classes) - 1);
                // In 64 bits, because the sum may be twice the number of classes.
                ((u64::from(sample.label) + 1 + offset) % u64::from(classes)) as u16
            }),
            NoiseKind::Confused(others) => self.drawn(set, seed, |sample| others[usize::from(sample.label)]),
        };
        labels.sort_unstable();
        set.relabel(|sample| {
            let at = labels.binary_search_by_key(&sample.id, |(id, _)| *id).ok()?;
            Some(labels[at].1)
        })?;
        Ok(())
    }

    /// Returns ⌊rate · N + ½⌋ random images, each with the label that `wrong` gives it.
    fn drawn(&self, set: &Dataset, seed: u64, wrong: impl Fn(&Sample) -> u16) -> Vec<(SampleId, u16)> {
        let key = |sample: &Sample| stream(seed, Purpose::LabelNoise, 0, u64::from(sample.id.0)).bits();
        let mut order: Vec<(u64, SampleId, u16)> =
            set.samples().iter().map(|sample| (key(sample), sample.id, wrong(sample))).collect();
        order.sort_unstable();
        order.truncate((self.rate * set.len() as f64).round() as usize);
        order.into_iter().map(|(_, id, label)| (id, label)).collect()
    }
}

/// Returns, for each class, the other class that it is most often predicted as. Of ties, and for a
/// class that is never misclassified, it is the next class.
///
/// ```
/// use cifar_eval::confusion::ConfusionMatrix;
/// use cifar_eval::study::most_confused;
///
/// // Pairs of label and prediction. Class 0 is mostly confused with class 2.
/// let pairs = [(0, 0), (0, 2), (0, 2), (0, 1), (1, 1), (2, 0)];
/// assert_eq!(most_confused(&ConfusionMatrix::count(3, pairs.into_iter())), [2, 2, 0]);
/// ```
pub fn most_confused(confusion: &ConfusionMatrix) -> Vec<u16> {
    let classes = confusion.classes();
    let of = |class: usize| {
        let others = (1..classes).map(|offset| (class + offset) % classes);
        others.fold(None, |best: Option<usize>, other| match best {
            Some(best) if confusion.get(class, best) >= confusion.get(class, other) => Some(best),
            _ => Some(other),
        })
    };
    (0..classes).map(|class| of(class).unwrap_or(class) as u16).collect()
}

#[cfg(test)]
mod tests {
    use cifar_data::sources::synthetic::{self, SyntheticParams};

    use super::*;

    fn images() -> Dataset {
        let mut images = synthetic::generate(&SyntheticParams { count: 1000, ..Default::default() }).unwrap().dataset;
        // Removes the planted wrong labels.
        images.relabel(|s| Some(s.original_label)).unwrap();
        images
    }

    #[test]
    fn the_given_fraction_of_labels_is_wrong_and_nothing_else_changes() {
        let clean = images();
        for kind in [NoiseKind::Symmetric, NoiseKind::Confused((0..10).map(|k| (k + 1) % 10).collect())] {
            let noise = Noise { rate: 0.2, kind };
            let corrupted = |seed| {
                let mut set = clean.clone();
                noise.corrupt(&mut set, seed).unwrap();
                set
            };
            let set = corrupted(1);
            assert_eq!(set.samples().iter().filter(|s| s.label != s.original_label).count(), 200);
            assert_eq!((&set, set.pixels()), (&corrupted(1), clean.pixels()));
            assert_ne!(set.labels(), corrupted(2).labels());
            if let NoiseKind::Symmetric = noise.kind {
                let offsets: std::collections::BTreeSet<u16> = set
                    .samples()
                    .iter()
                    .filter(|s| s.label != s.original_label)
                    .map(|s| (s.label + 10 - s.original_label) % 10)
                    .collect();
                assert_eq!(offsets, (1..10).collect(), "every other class is drawn");
            }
        }
        for (rate, kind) in [
            (0.0, NoiseKind::Symmetric),
            (1.0, NoiseKind::Symmetric),
            (f64::NAN, NoiseKind::Symmetric),
            (0.1, NoiseKind::Confused(vec![0; 10])),
            (0.1, NoiseKind::Confused(vec![1])),
        ] {
            assert!(Noise { rate, kind }.corrupt(&mut clean.clone(), 1).is_err());
        }
    }

    #[test]
    fn the_most_confused_class_is_another_class() {
        let pairs = [(0, 0), (0, 2), (0, 2), (0, 1), (1, 1), (2, 0), (2, 2)];
        assert_eq!(most_confused(&ConfusionMatrix::count(3, pairs.into_iter())), [2, 2, 0]);
    }
}
