//! Softmax cross-entropy with label smoothing (Szegedy et al. 2016, arXiv 1512.00567).

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Device, Error, Layout, Result, Shape, Tensor};
use cifar_kernels::{MixedLabels, softmax_cross_entropy as kernel};

use super::values;

/// The mean over the batch, in nats, of the cross-entropy between softmax(`logits` [N, C]) and the targets
/// (1 − `smoothing`) · one-hot(`labels`) + `smoothing` / C. A scalar.
///
/// # Errors
/// If a label is not below C, there are not N of them, or `smoothing` lies outside of 0 ≤ smoothing < 1.
pub fn softmax_cross_entropy(logits: &Tensor, labels: &[u32], smoothing: f32) -> Result<Tensor> {
    logits.apply_op1(SoftmaxCrossEntropy { labels: labels.to_vec(), mix: None, smoothing, gradient: OnceLock::new() })
}

/// The same for images that are mixed of two (Zhang et al. 2018, arXiv 1710.09412): `shares` of each belong to its label,
/// the rest to its partner's, and the target is the mean of both one-hot vectors with these weights.
///
/// # Errors
/// As above; also if a share lies outside of 0 to 1 or there are not N shares and partners.
pub fn softmax_cross_entropy_mixed(
    logits: &Tensor,
    labels: &[u32],
    partners: &[u32],
    shares: &[f32],
    smoothing: f32,
) -> Result<Tensor> {
    let mix = Some((partners.to_vec(), shares.to_vec()));
    logits.apply_op1(SoftmaxCrossEntropy { labels: labels.to_vec(), mix, smoothing, gradient: OnceLock::new() })
}

struct SoftmaxCrossEntropy {
    labels: Vec<u32>,
    /// Labels of the partners, and shares of the images themselves.
    mix: Option<(Vec<u32>, Vec<f32>)>,
    smoothing: f32,
    /// Of the sum of the losses with respect to the logits.
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
        kernel(rows, classes, values(storage, layout)?, &self.labels, mix, self.smoothing, &mut losses, &mut gradient)
            .map_err(Error::wrap)?;
        // An op value is made for one call, so the cell is empty.
        let _ = self.gradient.set(gradient);
        let mean = losses.iter().map(|l| f64::from(*l)).sum::<f64>() / rows as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), ().into()))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let gradient =
            self.gradient.get().ok_or_else(|| Error::Msg("softmax_cross_entropy: backward before forward".into()))?;
        let share = grad.to_scalar::<f32>()? / self.labels.len() as f32;
        let values = gradient.iter().map(|g| g * share).collect();
        Tensor::from_vec(values, logits.shape(), &Device::Cpu).map(Some)
    }
}

/// The same by candle's own operations.
pub fn softmax_cross_entropy_slow(logits: &Tensor, labels: &[u32], smoothing: f32) -> Result<Tensor> {
    softmax_cross_entropy_mixed_slow(logits, labels, labels, &vec![1.0; labels.len()], smoothing)
}

/// [`softmax_cross_entropy_mixed`] by candle's own operations.
pub fn softmax_cross_entropy_mixed_slow(
    logits: &Tensor,
    labels: &[u32],
    partners: &[u32],
    shares: &[f32],
    smoothing: f32,
) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    let smooth = smoothing / classes as f32;
    let mut targets = vec![smooth; rows * classes];
    for (index, row) in targets.chunks_exact_mut(classes).enumerate() {
        row[labels[index] as usize] += (1.0 - smoothing) * shares[index];
        row[partners[index] as usize] += (1.0 - smoothing) * (1.0 - shares[index]);
    }
    let targets = Tensor::from_vec(targets, (rows, classes), &Device::Cpu)?;
    (candle_nn::ops::log_softmax(logits, 1)? * targets)?.sum_all()?.affine(-1.0 / rows as f64, 0.0)
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{check_gradient, check_same, random};
    use super::*;

    #[test]
    fn values_and_gradients_are_right() {
        let labels = [0, 3, 4, 1, 1];
        for smoothing in [0.0, 0.2] {
            let args = [random(&[5, 5], 1)];
            let fast = |a: &[Tensor]| softmax_cross_entropy(&a[0], &labels, smoothing);
            check_same(&args, fast, |a| softmax_cross_entropy_slow(&a[0], &labels, smoothing));
            check_gradient(&args, fast);
        }
    }

    #[test]
    fn values_and_gradients_of_mixed_images_are_right() {
        // Both labels may be the same, and a share may be all or nothing.
        let (labels, partners, shares) = ([0, 3, 4, 1, 1], [2, 3, 0, 4, 0], [0.3, 0.6, 1.0, 0.0, 0.5]);
        for smoothing in [0.0, 0.2] {
            let args = [random(&[5, 5], 1)];
            let fast = |a: &[Tensor]| softmax_cross_entropy_mixed(&a[0], &labels, &partners, &shares, smoothing);
            let slow = |a: &[Tensor]| softmax_cross_entropy_mixed_slow(&a[0], &labels, &partners, &shares, smoothing);
            check_same(&args, fast, slow);
            check_gradient(&args, fast);
        }
    }

    #[test]
    fn wrong_labels_are_refused() {
        let logits = random(&[2, 3], 1);
        assert!(softmax_cross_entropy(&logits, &[0, 3], 0.0).is_err());
        assert!(softmax_cross_entropy(&logits, &[0], 0.0).is_err());
        assert!(softmax_cross_entropy(&logits, &[0, 1], 1.0).is_err());
        let mixed = |partners: &[u32], shares: &[f32]| {
            softmax_cross_entropy_mixed(&logits, &[0, 1], partners, shares, 0.0).is_ok()
        };
        assert!(mixed(&[2, 2], &[0.0, 1.0]));
        assert!(!mixed(&[2, 3], &[0.5, 0.5]) && !mixed(&[2], &[0.5, 0.5]));
        assert!(!mixed(&[2, 2], &[0.5]) && !mixed(&[2, 2], &[0.5, 1.1]) && !mixed(&[2, 2], &[0.5, f32::NAN]));
    }
}
