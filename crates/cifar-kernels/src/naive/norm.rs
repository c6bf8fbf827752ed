//! Batch norm and the loss.

use super::Real;
use crate::Activation;

/// The gradients of batch norm.
#[derive(Debug, Clone)]
pub struct NormGradients<R> {
    /// With respect to the input.
    pub input: Vec<R>,
    /// With respect to the scale.
    pub scale: Vec<R>,
    /// With respect to the shift.
    pub shift: Vec<R>,
    /// With respect to the residual.
    pub residual: Vec<R>,
}

/// Returns the mean and 1 / √(variance + ε) of channel `c`.
fn statistics<R: Real>(channels: usize, input: &[R], c: usize, epsilon: R) -> (R, R) {
    let n = R::from_f64((input.len() / channels) as f64);
    let column = || input.iter().skip(c).step_by(channels);
    let mean = column().fold(R::ZERO, |s, x| s + *x) / n;
    let variance = column().fold(R::ZERO, |s, x| s + (*x - mean) * (*x - mean)) / n;
    (mean, R::ONE / (variance + epsilon).square_root())
}

/// Returns batch norm in training mode, with a residual addition and an activation.
pub fn batch_norm_forward<R: Real>(
    channels: usize,
    input: &[R],
    scale: &[R],
    shift: &[R],
    epsilon: R,
    activation: Activation,
    residual: Option<&[R]>,
) -> Vec<R> {
    let mut output = vec![R::ZERO; input.len()];
    for c in 0..channels {
        let (mean, inverse_std) = statistics(channels, input, c, epsilon);
        for at in (c..input.len()).step_by(channels) {
            let z = (input[at] - mean) * inverse_std * scale[c] + shift[c] + residual.map_or(R::ZERO, |r| r[at]);
            output[at] = activation.value(z);
        }
    }
    output
}

/// Returns the gradients of [`batch_norm_forward`].
pub fn batch_norm_backward<R: Real>(
    channels: usize,
    input: &[R],
    scale: &[R],
    shift: &[R],
    epsilon: R,
    activation: Activation,
    residual: Option<&[R]>,
    output_grad: &[R],
) -> NormGradients<R> {
    let zeros = |len| vec![R::ZERO; len];
    let mut grads = NormGradients {
        input: zeros(input.len()),
        scale: zeros(channels),
        shift: zeros(channels),
        residual: zeros(input.len()),
    };
    let n = R::from_f64((input.len() / channels) as f64);
    for c in 0..channels {
        let (mean, inverse_std) = statistics(channels, input, c, epsilon);
        let normalised = |at: usize| (input[at] - mean) * inverse_std;
        let column = || (c..input.len()).step_by(channels);
        for at in column() {
            let z = normalised(at) * scale[c] + shift[c] + residual.map_or(R::ZERO, |r| r[at]);
            grads.residual[at] = output_grad[at] * activation.derivative(z);
            grads.shift[c] += grads.residual[at];
            grads.scale[c] += grads.residual[at] * normalised(at);
        }
        for at in column() {
            let centred = grads.residual[at] - grads.shift[c] / n - normalised(at) * grads.scale[c] / n;
            grads.input[at] = scale[c] * inverse_std * centred;
        }
    }
    grads
}

/// Returns the loss of each row, and the gradient of their sum with respect to the logits.
pub fn softmax_cross_entropy<R: Real>(classes: usize, logits: &[R], labels: &[u32], smoothing: R) -> (Vec<R>, Vec<R>) {
    softmax_cross_entropy_weighted(classes, logits, labels, smoothing, &vec![R::ONE; classes])
}

/// Returns the loss of each row with a weight per class, and the gradient of their sum with respect
/// to the logits.
pub fn softmax_cross_entropy_weighted<R: Real>(
    classes: usize,
    logits: &[R],
    labels: &[u32],
    smoothing: R,
    weights: &[R],
) -> (Vec<R>, Vec<R>) {
    let (mut losses, mut grads) = (Vec::new(), Vec::new());
    for (row, label) in logits.chunks_exact(classes).zip(labels) {
        let largest = row.iter().fold(row[0], |m, l| if *l > m { *l } else { m });
        let sum = row.iter().fold(R::ZERO, |s, l| s + (*l - largest).exponential());
        let target = |k: usize| {
            let mut target = smoothing / R::from_f64(classes as f64);
            if k == *label as usize {
                target += R::ONE - smoothing;
            }
            weights[k] * target
        };
        let total = (0..classes).fold(R::ZERO, |s, k| s + target(k));
        let mut loss = R::ZERO;
        for (k, logit) in row.iter().enumerate() {
            let log_p = *logit - largest - sum.logarithm();
            loss += -(target(k) * log_p);
            grads.push(total * log_p.exponential() - target(k));
        }
        losses.push(loss);
    }
    (losses, grads)
}
