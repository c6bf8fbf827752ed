//! Parameters for classes of different sizes: weights in the loss, and balanced sampling.

use std::fmt;

use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The words for errors.
pub(super) const ALLOWED_WEIGHTS: &str = "none, balanced, or a list with one weight above 0 per class";

/// The weights of the classes in the training loss, as in PyTorch's `CrossEntropyLoss(weight)`.
///
/// A class's weight multiplies its term in each loss, also in label smoothing. Under a mean
/// reduction, the sum of a batch's losses is divided by the sum over its images of the weight of
/// their label; a mixture has the mean of the weights of its two labels. Under a sum it is not
/// divided.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ClassWeights {
    /// Every class has the same weight.
    #[default]
    None,
    /// Inversely proportional to the number of training images: N / (C · n) for a class with n of
    /// the N training images, where C classes have any. The mean over the training images is 1. A
    /// class without training images has weight 1.
    Balanced,
    /// One finite weight above 0 per class, in the order of the classes.
    PerClass(Vec<f32>),
}

impl ClassWeights {
    /// Returns whether every class has the same weight.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// Returns the weight of each class for a training set with these `counts` of images by class.
    /// `None` if all are equal.
    ///
    /// ```
    /// use cifar_train::ClassWeights;
    ///
    /// assert_eq!(ClassWeights::Balanced.weights(&[90, 10, 0]), Some(vec![100.0 / 180.0, 5.0, 1.0]));
    /// assert_eq!(ClassWeights::None.weights(&[90, 10, 0]), None);
    /// ```
    pub fn weights(&self, counts: &[usize]) -> Option<Vec<f32>> {
        match self {
            Self::None => None,
            Self::Balanced => {
                let images = counts.iter().sum::<usize>() as f64;
                let present = counts.iter().filter(|count| **count > 0).count() as f64;
                let weight = |count: &usize| if *count > 0 { images / (present * *count as f64) } else { 1.0 };
                Some(counts.iter().map(|count| weight(count) as f32).collect())
            }
            Self::PerClass(weights) => Some(weights.clone()),
        }
    }

    /// Returns the first weight of a list that is not a finite number above 0.
    pub(super) fn first_wrong(&self) -> Option<f32> {
        let Self::PerClass(weights) = self else { return None };
        weights.iter().copied().find(|weight| !(weight.is_finite() && *weight > 0.0))
    }
}

impl Serialize for ClassWeights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Balanced => serializer.serialize_str("balanced"),
            Self::PerClass(weights) => weights.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ClassWeights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WeightsVisitor)
    }
}

struct WeightsVisitor;

impl<'de> Visitor<'de> for WeightsVisitor {
    type Value = ClassWeights;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(ALLOWED_WEIGHTS)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ClassWeights, E> {
        match text {
            "none" => Ok(ClassWeights::None),
            "balanced" => Ok(ClassWeights::Balanced),
            other => Err(E::invalid_value(Unexpected::Str(other), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<ClassWeights, A::Error> {
        let mut weights = Vec::new();
        while let Some(weight) = sequence.next_element::<f32>()? {
            weights.push(weight);
        }
        Ok(ClassWeights::PerClass(weights))
    }
}

/// Which training images an epoch shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Every image once.
    #[default]
    Natural,
    /// As many images as there are, every class equally often
    /// ([`cifar_data::batches::balanced_draws`]). Images of rare classes appear several times in an
    /// epoch, augmented differently each time but with the same dropout; those of frequent classes
    /// appear in some epochs only. So [`Dynamics`](crate::Dynamics) follow single training images
    /// only with a `dynamics_fraction` of 1.
    Balanced,
}

impl Sampling {
    /// Returns whether every epoch shows every image once.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde expects")]
    pub(super) fn is_natural(&self) -> bool {
        *self == Self::Natural
    }
}
