//! Softmax cross-entropy with label smoothing (Szegedy et al. 2016, arXiv 1512.00567).

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Device, Error, Layout, Result, Shape, Tensor};
use cifar_kernels::{MixedLabels, softmax_cross_entropy as kernel, softmax_cross_entropy_weighted as weighted_kernel};

use super::values;

/// The targets of a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Targets<'a> {
    /// The label of each image: an index into the classes.
    pub labels: &'a [u32],
    /// For mixtures of two images (mixup; Zhang et al. 2018, arXiv 1710.09412): the labels of the
    /// partners and the weights of the images themselves. The target is the weighted mean of both
    /// one-hot vectors.
    pub mix: Option<(&'a [u32], &'a [f32])>,
    /// The weight of each image's loss, 0 or more; 1 if `None`.
    pub weights: Option<&'a [f32]>,
    /// The weight of each class, above 0; 1 if `None`.
    pub class_weights: Option<&'a [f32]>,
    /// Weight of the uniform distribution in the target, 0 ≤ smoothing < 1.
    pub smoothing: f32,
}

impl Targets<'_> {
    /// Returns what the sum of the losses is divided by: the number of images or, with class
    /// weights, the sum over the images of the weight of their label. A mixture has the mean of the
    /// weights of its two labels.
    ///
    /// Labels without a weight count as 0; [`softmax_cross_entropy`] refuses them.
    pub fn divisor(&self) -> f64 {
        let Some(weights) = self.class_weights else { return self.labels.len() as f64 };
        let weight = |label: &u32| weights.get(*label as usize).map_or(0.0, |weight| f64::from(*weight));
        match self.mix {
            None => self.labels.iter().map(weight).sum(),
            Some((partners, shares)) => (self.labels.iter().zip(partners).zip(shares))
                .map(|((label, partner), share)| {
                    let share = f64::from(*share);
                    share * weight(label) + (1.0 - share) * weight(partner)
                })
                .sum(),
        }
    }
}

/// Computes the weighted mean cross-entropy of a batch, in nats: a scalar.
///
/// The losses are between softmax(`logits` `[N, C]`) and (1 − smoothing) · one-hot(labels) +
/// smoothing / C. Each is multiplied by the weight of its image. The sum is divided by N, not by
/// the sum of these weights.
///
/// Class weights are those of PyTorch's `CrossEntropyLoss(weight)`: they multiply the terms of the
/// classes in each loss, also those of label smoothing, and the sum of the losses is divided by
/// [`Targets::divisor`].
///
/// # Errors
/// If a label is not below C, a share is not between 0 and 1, a weight is negative or not finite, a
/// class weight is not above 0, a list does not have N elements (class weights: C), or the smoothing
/// is out of range.
pub fn softmax_cross_entropy(logits: &Tensor, targets: &Targets) -> Result<Tensor> {
    if let Some(weights) = targets.weights {
        let rows = targets.labels.len();
        if weights.len() != rows || weights.iter().any(|w| !w.is_finite() || *w < 0.0) {
            let problem = format!("softmax_cross_entropy: expected {rows} weights of 0 or more, found {weights:?}");
            return Err(Error::Msg(problem));
        }
    }
    logits.apply_op1(SoftmaxCrossEntropy {
        labels: targets.labels.to_vec(),
        mix: targets.mix.map(|(partners, shares)| (partners.to_vec(), shares.to_vec())),
        weights: targets.weights.map(<[f32]>::to_vec),
        class_weights: targets.class_weights.map(<[f32]>::to_vec),
        divisor: targets.divisor(),
        smoothing: targets.smoothing,
        gradient: OnceLock::new(),
    })
}

struct SoftmaxCrossEntropy {
    labels: Vec<u32>,
    mix: Option<(Vec<u32>, Vec<f32>)>,
    weights: Option<Vec<f32>>,
    class_weights: Option<Vec<f32>>,
    divisor: f64,
    smoothing: f32,
    /// The gradient of the sum of the losses with respect to the logits.
    gradient: OnceLock<Vec<f32>>,
}

impl CustomOp1 for SoftmaxCrossEntropy {
    fn name(&self) -> &'static str {
        "softmax-cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let &[rows, classes] = layout.dims() else {
            return Err(Error::Msg(format!("softmax_cross_entropy: expected [N, C], found {:?}", layout.dims())));
        };
        let (mut losses, mut gradient) = (vec![0.0; rows], vec![0.0; rows * classes]);
        let mix = self.mix.as_ref().map(|(partners, shares)| MixedLabels { partners, shares });
        let (logits, labels, smoothing) = (values(storage, layout)?, &self.labels, self.smoothing);
        match &self.class_weights {
            None => kernel(rows, classes, logits, labels, mix, smoothing, &mut losses, &mut gradient),
            Some(w) => weighted_kernel(rows, classes, logits, labels, mix, smoothing, w, &mut losses, &mut gradient),
        }
        .map_err(Error::wrap)?;
        if let Some(weights) = &self.weights {
            losses.iter_mut().zip(weights).for_each(|(loss, weight)| *loss *= weight);
            let rows = gradient.chunks_exact_mut(classes).zip(weights);
            rows.for_each(|(row, weight)| row.iter_mut().for_each(|g| *g *= weight));
        }
        // An op value is used for one call, so the cell is empty.
        let _ = self.gradient.set(gradient);
        let mean = losses.iter().map(|l| f64::from(*l)).sum::<f64>() / self.divisor;
        Ok((CpuStorage::F32(vec![mean as f32]), ().into()))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let gradient =
            self.gradient.get().ok_or_else(|| Error::Msg("softmax_cross_entropy: backward before forward".into()))?;
        let share = grad.to_scalar::<f32>()? / self.divisor as f32;
        let values = gradient.iter().map(|g| g * share).collect();
        Tensor::from_vec(values, logits.shape(), &Device::Cpu).map(Some)
    }
}

/// Computes [`softmax_cross_entropy`] by candle's own operations.
pub fn softmax_cross_entropy_slow(logits: &Tensor, targets: &Targets) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    let Targets { labels, mix, weights, class_weights, smoothing } = *targets;
    let mut rows_of_targets = vec![smoothing / classes as f32; rows * classes];
    for (index, row) in rows_of_targets.chunks_exact_mut(classes).enumerate() {
        let share = mix.map_or(1.0, |(_, shares)| shares[index]);
        row[labels[index] as usize] += (1.0 - smoothing) * share;
        if let Some((partners, _)) = mix {
            row[partners[index] as usize] += (1.0 - smoothing) * (1.0 - share);
        }
        let weight = weights.map_or(1.0, |weights| weights[index]);
        for (class, target) in row.iter_mut().enumerate() {
            *target *= weight * class_weights.map_or(1.0, |weights| weights[class]);
        }
    }
    let rows_of_targets = Tensor::from_vec(rows_of_targets, (rows, classes), &Device::Cpu)?;
    (candle_nn::ops::log_softmax(logits, 1)? * rows_of_targets)?.sum_all()?.affine(-1.0 / targets.divisor(), 0.0)
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{check_gradient, check_same, random};
    use super::*;

    #[test]
    fn values_and_gradients_are_right() {
        let (labels, partners, shares) = ([0, 3, 4, 1, 1], [2, 3, 0, 4, 0], [0.3, 0.6, 1.0, 0.0, 0.5]);
        // Both labels of a mixture may be equal, and a fraction or weight may be 0 or 1.
        let weights = [1.0, 0.25, 0.0, 2.0, 0.5];
        for smoothing in [0.0, 0.2] {
            for mix in [None, Some((&partners[..], &shares[..]))] {
                for weights in [None, Some(&weights[..])] {
                    for class_weights in [None, Some(&[0.1, 5.0, 1.0, 0.7, 2.0][..])] {
                        let targets = Targets { labels: &labels, mix, weights, class_weights, smoothing };
                        let args = [random(&[5, 5], 1)];
                        let fast = |a: &[Tensor]| softmax_cross_entropy(&a[0], &targets);
                        check_same(&args, fast, |a| softmax_cross_entropy_slow(&a[0], &targets));
                        check_gradient(&args, fast);
                    }
                }
            }
        }
    }

    #[test]
    fn class_weights_have_the_meaning_of_pytorch() {
        let logits = Tensor::new(&[[1.0f32, -0.5, 0.25], [0.0, 2.0, -1.0], [0.5, 0.5, -0.75]], &Device::Cpu).unwrap();
        let check = |smoothing, expected: f32| {
            let class_weights = Some(&[0.5, 2.0, 10.0][..]);
            let targets = Targets { labels: &[0, 1, 2], class_weights, smoothing, ..Targets::default() };
            let found = softmax_cross_entropy(&logits, &targets).unwrap().to_scalar::<f32>().unwrap();
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            // The sum of the losses is PyTorch's loss with `reduction="sum"`.
            assert!((targets.divisor() - 12.5).abs() < 1e-12);
        };
        // torch.nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2, 10]), label_smoothing=smoothing) of
        // PyTorch 2 on these logits and labels.
        check(0.0, 1.709_914);
        check(0.2, 1.757_588);
    }

    #[test]
    fn equal_class_weights_change_nothing_and_mixtures_have_those_of_both_labels() {
        let logits = random(&[2, 3], 1);
        let loss = |targets: &Targets| softmax_cross_entropy(&logits, targets).unwrap().to_scalar::<f32>().unwrap();
        let plain = Targets { labels: &[0, 2], mix: Some((&[1, 1], &[0.25, 1.0])), ..Targets::default() };
        let equal = Targets { class_weights: Some(&[3.0; 3]), ..plain };
        assert!((loss(&plain) - loss(&equal)).abs() < 1e-6);
        let weighted = Targets { class_weights: Some(&[4.0, 8.0, 1.0]), ..plain };
        assert!((weighted.divisor() - (0.25 * 4.0 + 0.75 * 8.0 + 1.0)).abs() < 1e-12);
    }

    #[test]
    fn wrong_targets_are_refused() {
        let logits = random(&[2, 3], 1);
        let is_fine = |targets: Targets| softmax_cross_entropy(&logits, &targets).is_ok();
        assert!(!is_fine(Targets { labels: &[0, 3], ..Targets::default() }));
        assert!(!is_fine(Targets { labels: &[0], ..Targets::default() }));
        let fine = Targets { labels: &[0, 1], ..Targets::default() };
        assert!(is_fine(fine) && !is_fine(Targets { smoothing: 1.0, ..fine }));
        let mixed = |partners: &[u32], shares: &[f32]| is_fine(Targets { mix: Some((partners, shares)), ..fine });
        assert!(mixed(&[2, 2], &[0.0, 1.0]));
        assert!(!mixed(&[2, 3], &[0.5, 0.5]) && !mixed(&[2], &[0.5, 0.5]));
        assert!(!mixed(&[2, 2], &[0.5]) && !mixed(&[2, 2], &[0.5, 1.1]) && !mixed(&[2, 2], &[0.5, f32::NAN]));
        let weighted = |weights: &[f32]| is_fine(Targets { weights: Some(weights), ..fine });
        assert!(weighted(&[0.0, 3.0]));
        assert!(!weighted(&[1.0]) && !weighted(&[1.0, -0.1]) && !weighted(&[1.0, f32::NAN]));
        let by_class = |weights: &[f32]| is_fine(Targets { class_weights: Some(weights), ..fine });
        assert!(by_class(&[0.5, 1.0, 3.0]));
        assert!(!by_class(&[1.0, 1.0]) && !by_class(&[1.0, 1.0, 0.0]) && !by_class(&[1.0, -1.0, 1.0]));
        assert!(!by_class(&[1.0, f32::NAN, 1.0]));
    }
}
