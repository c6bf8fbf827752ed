//! Softmax cross-entropy with label smoothing (Szegedy et al. 2016, arXiv 1512.00567).

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Device, Error, Layout, Result, Shape, Tensor};
use cifar_kernels::softmax_cross_entropy as kernel;

use super::values;

/// The mean over the batch, in nats, of the cross-entropy between softmax(`logits` [N, C]) and the targets
/// (1 − `smoothing`) · one-hot(`labels`) + `smoothing` / C. A scalar.
///
/// # Errors
/// If a label is not below C, there are not N of them, or `smoothing` lies outside of 0 ≤ smoothing < 1.
pub fn softmax_cross_entropy(logits: &Tensor, labels: &[u32], smoothing: f32) -> Result<Tensor> {
    logits.apply_op1(SoftmaxCrossEntropy { labels: labels.to_vec(), smoothing, gradient: OnceLock::new() })
}

struct SoftmaxCrossEntropy {
    labels: Vec<u32>,
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
        kernel(rows, classes, values(storage, layout)?, &self.labels, self.smoothing, &mut losses, &mut gradient)
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
    let (rows, classes) = logits.dims2()?;
    let smooth = smoothing / classes as f32;
    let mut targets = vec![smooth; rows * classes];
    for (row, label) in targets.chunks_exact_mut(classes).zip(labels) {
        row[*label as usize] += 1.0 - smoothing;
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
    fn wrong_labels_are_refused() {
        let logits = random(&[2, 3], 1);
        assert!(softmax_cross_entropy(&logits, &[0, 3], 0.0).is_err());
        assert!(softmax_cross_entropy(&logits, &[0], 0.0).is_err());
        assert!(softmax_cross_entropy(&logits, &[0, 1], 1.0).is_err());
    }
}
