//! Wrong labels on purpose.

use cifar_data::random::{Purpose, stream};
use cifar_data::{Dataset, SampleId};
use serde::{Deserialize, Serialize};

use crate::confusion::ConfusionMatrix;
use crate::{EvalError, Result};

/// Which wrong labels an image may get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseKind {
    /// Any other, all alike.
    Symmetric,
    /// For each class a certain other one: [`most_confused`] makes the list from answers.
    Confused(Vec<u16>),
}

/// Labels to be spoilt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Share of the images, more than 0 and less than 1.
    pub rate: f64,
    /// What they get.
    pub kind: NoiseKind,
}

impl Noise {
    /// Gives ⌊rate · N + ½⌋ images of the set another label than the one in force; which ones and which labels depends on the
    /// seed and the ids alone. The original labels stay.
    ///
    /// # Errors
    /// If the rate is out of range, there is one class only, or the list of confused classes does not fit the set.
    pub fn spoil(&self, set: &mut Dataset, seed: u64) -> Result<()> {
        let classes = set.classes().len() as u16;
        let wrong = |value: String, allowed: &str| EvalError::Parameter { key: "flip", value, allowed: allowed.into() };
        if !(self.rate > 0.0 && self.rate < 1.0) {
            return Err(wrong(self.rate.to_string(), "allowed is more than 0 and less than 1"));
        }
        if classes < 2 {
            return Err(wrong(format!("{classes} class"), "there must be two classes or more"));
        }
        if let NoiseKind::Confused(others) = &self.kind {
            let fits = |(class, other): (usize, &u16)| *other < classes && usize::from(*other) != class;
            if others.len() != usize::from(classes) || !others.iter().enumerate().all(fits) {
                return Err(wrong(format!("{others:?}"), "each class needs another one"));
            }
        }
        let mut order: Vec<(u64, SampleId)> = set
            .samples()
            .iter()
            .map(|s| (stream(seed, Purpose::LabelNoise, 0, u64::from(s.id.0)).bits(), s.id))
            .collect();
        order.sort_unstable();
        order.truncate((self.rate * set.len() as f64).round() as usize);
        let mut chosen: Vec<SampleId> = order.into_iter().map(|(_, id)| id).collect();
        chosen.sort_unstable();
        set.relabel(|sample| {
            chosen.binary_search(&sample.id).ok()?;
            Some(match &self.kind {
                NoiseKind::Confused(others) => others[usize::from(sample.label)],
                NoiseKind::Symmetric => {
                    let further =
                        stream(seed, Purpose::LabelNoise, 1, u64::from(sample.id.0)).below(u64::from(classes) - 1);
                    // In 64 bits: the sum may be twice the number of classes.
                    ((u64::from(sample.label) + 1 + further) % u64::from(classes)) as u16
                }
            })
        })?;
        Ok(())
    }
}

/// For each class the one that it is most often taken for; of those that are never missed, the next.
pub fn most_confused(confusion: &ConfusionMatrix) -> Vec<u16> {
    let classes = confusion.classes();
    let of = |class: usize| {
        let others = (1..classes).map(|further| (class + further) % classes);
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
        let images = synthetic::generate(&SyntheticParams { count: 1000, ..Default::default() }).unwrap().dataset;
        // Without planted mislabels.
        let mut images = images;
        images.relabel(|s| Some(s.original_label)).unwrap();
        images
    }

    #[test]
    fn so_many_labels_are_wrong_and_nothing_else_has_changed() {
        let clean = images();
        for kind in [NoiseKind::Symmetric, NoiseKind::Confused((0..10).map(|k| (k + 1) % 10).collect())] {
            let noise = Noise { rate: 0.2, kind };
            let spoilt = |seed| {
                let mut set = clean.clone();
                noise.spoil(&mut set, seed).unwrap();
                set
            };
            let set = spoilt(1);
            assert_eq!(set.samples().iter().filter(|s| s.label != s.original_label).count(), 200);
            assert_eq!((&set, set.pixels()), (&spoilt(1), clean.pixels()));
            assert_ne!(set.labels(), spoilt(2).labels());
            if let NoiseKind::Symmetric = noise.kind {
                let labels: std::collections::BTreeSet<u16> = set
                    .samples()
                    .iter()
                    .filter(|s| s.label != s.original_label)
                    .map(|s| (s.label + 10 - s.original_label) % 10)
                    .collect();
                assert_eq!(labels, (1..10).collect(), "every other class is drawn");
            }
        }
        for (rate, kind) in [
            (0.0, NoiseKind::Symmetric),
            (1.0, NoiseKind::Symmetric),
            (f64::NAN, NoiseKind::Symmetric),
            (0.1, NoiseKind::Confused(vec![0; 10])),
            (0.1, NoiseKind::Confused(vec![1])),
        ] {
            assert!(Noise { rate, kind }.spoil(&mut clean.clone(), 1).is_err());
        }
    }

    #[test]
    fn the_most_confused_class_is_another_one() {
        let pairs = [(0, 0), (0, 2), (0, 2), (0, 1), (1, 1), (2, 0), (2, 2)];
        assert_eq!(most_confused(&ConfusionMatrix::count(3, pairs.into_iter())), [2, 2, 0]);
    }
}
