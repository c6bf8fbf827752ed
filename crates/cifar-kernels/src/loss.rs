//! Softmax and cross-entropy with label smoothing.
//!
//! Exponentials are computed here, logarithms by the `libm` crate. The system's library selects an
//! implementation for the processor at run time, and these implementations differ in the last bit.
//! Both operations have the same bits on every ISA.

use rayon::prelude::*;

use crate::Isa;
use crate::error::{KernelError, Result, check_len, product};
use crate::isa::vectorised;

/// Rows that one task works on.
const ROWS: usize = 64;

/// Computes the softmax of each row: `p[k] = exp(l[k]) / Σ exp(l[j])`.
///
/// `logits` and `probabilities` are `[rows, classes]`.
///
/// # Errors
/// If a dimension is 0 or a slice has the wrong length.
///
/// ```
/// let mut probabilities = [0.0; 2];
/// cifar_kernels::softmax(1, 2, &[7.0, 7.0], &mut probabilities)?;
/// assert_eq!(probabilities, [0.5, 0.5]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn softmax(rows: usize, classes: usize, logits: &[f32], probabilities: &mut [f32]) -> Result<()> {
    const OP: &str = "softmax";
    let len = product(OP, &[rows, classes])?;
    check_len(OP, "logits", logits, len)?;
    check_len(OP, "probabilities", probabilities, len)?;
    let isa = crate::isa()?;
    probabilities.par_chunks_mut(classes * ROWS).zip(logits.par_chunks(classes * ROWS)).for_each(|(p, l)| {
        softmax_rows(isa, classes, l, p);
    });
    Ok(())
}

/// Writes the softmax of at most [`ROWS`] rows. Returns the largest logit of each row and
/// Σ e^{l − largest}.
fn softmax_rows(isa: Isa, classes: usize, logits: &[f32], probabilities: &mut [f32]) -> [(f32, f32); ROWS] {
    let mut sums = [(0.0, 0.0); ROWS];
    for ((p, l), (largest, _)) in
        probabilities.chunks_exact_mut(classes).zip(logits.chunks_exact(classes)).zip(&mut sums)
    {
        *largest = l.iter().fold(f32::NEG_INFINITY, |m, l| m.max(*l));
        p.iter_mut().zip(l).for_each(|(p, l)| *p = l - *largest);
    }
    vectorised(isa, || probabilities.iter_mut().for_each(|p| *p = exp(*p)));
    for (p, (_, sum)) in probabilities.chunks_exact_mut(classes).zip(&mut sums) {
        *sum = p.iter().sum();
        for p in p {
            *p /= *sum;
        }
    }
    sums
}

/// Computes eˣ for x ≤ 0 with an error of at most one unit in the last place. Below e⁻⁸⁷, where
/// normal numbers end, the result is 0. Only multiplications and additions in a fixed order are
/// used, so the bits are the same everywhere.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³: when added to a small number, its last bits hold the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // x − n ln 2, with ln 2 as a sum of two numbers. The first has so few digits that its product
    // with n is exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    // The polynomial of Cephes' expf for |r| ≤ ln 2 / 2.
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let p = p * r * r + r + 1.0;
    // 2ⁿ: n + 127 in the exponent bits.
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    // In this order, NaN stays NaN.
    if x < -87.0 { 0.0 } else { p * power }
}

/// The second label of each row, for images that are a mixture of two (mixup; Zhang et al. 2018,
/// arXiv 1710.09412).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixedLabels<'a> {
    /// The second labels.
    pub partners: &'a [u32],
    /// The weight of the first label of each row, 0 to 1; the second label has the rest.
    pub shares: &'a [f32],
}

/// Computes the cross-entropy loss of each row, and the gradient with respect to the logits.
///
/// The loss, in nats, is between softmax(logits) and (1 − s) · target + s / classes, where s is
/// `smoothing`, 0 ≤ s < 1. The target is the one-hot label. With `mix` it is
/// share · one-hot(label) + (1 − share) · one-hot(partner). `logits` and `logits_grad` are
/// `[rows, classes]`, and the gradient is that of the *sum* of the losses.
///
/// # Errors
/// If a dimension is 0, a slice has the wrong length, or a label, share or `smoothing` is out of
/// range.
///
/// ```
/// use cifar_kernels::softmax_cross_entropy;
///
/// let (mut losses, mut gradient) = ([0.0], [0.0; 2]);
/// softmax_cross_entropy(1, 2, &[7.0, 7.0], &[0], None, 0.0, &mut losses, &mut gradient)?;
/// assert_eq!((losses, gradient), ([std::f32::consts::LN_2], [-0.5, 0.5]));
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn softmax_cross_entropy(
    rows: usize,
    classes: usize,
    logits: &[f32],
    labels: &[u32],
    mix: Option<MixedLabels>,
    smoothing: f32,
    losses: &mut [f32],
    logits_grad: &mut [f32],
) -> Result<()> {
    cross_entropy(rows, classes, logits, labels, mix, smoothing, None, losses, logits_grad)
}

/// Computes [`softmax_cross_entropy`] with a weight per class, as in PyTorch's
/// `CrossEntropyLoss(weight)`.
///
/// The loss of a row is −Σₖ wₖ · tₖ · log pₖ, where t is the smoothed target of
/// [`softmax_cross_entropy`] and w the `class_weights`. It is not divided by any sum of weights.
///
/// # Errors
/// As [`softmax_cross_entropy`], and if there is not one weight per class or a weight is not a
/// finite number above 0.
///
/// ```
/// use cifar_kernels::softmax_cross_entropy_weighted;
///
/// let (mut losses, mut gradient) = ([0.0], [0.0; 2]);
/// let weights = [3.0, 1.0];
/// softmax_cross_entropy_weighted(1, 2, &[7.0, 7.0], &[0], None, 0.0, &weights, &mut losses, &mut gradient)?;
/// assert_eq!((losses, gradient), ([3.0 * std::f32::consts::LN_2], [-1.5, 1.5]));
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn softmax_cross_entropy_weighted(
    rows: usize,
    classes: usize,
    logits: &[f32],
    labels: &[u32],
    mix: Option<MixedLabels>,
    smoothing: f32,
    class_weights: &[f32],
    losses: &mut [f32],
    logits_grad: &mut [f32],
) -> Result<()> {
    cross_entropy(rows, classes, logits, labels, mix, smoothing, Some(class_weights), losses, logits_grad)
}

fn cross_entropy(
    rows: usize,
    classes: usize,
    logits: &[f32],
    labels: &[u32],
    mix: Option<MixedLabels>,
    smoothing: f32,
    class_weights: Option<&[f32]>,
    losses: &mut [f32],
    logits_grad: &mut [f32],
) -> Result<()> {
    const OP: &str = "softmax_cross_entropy";
    let len = product(OP, &[rows, classes])?;
    check_len(OP, "logits", logits, len)?;
    check_len(OP, "labels", labels, rows)?;
    check_len(OP, "losses", losses, rows)?;
    check_len(OP, "logits_grad", logits_grad, len)?;
    if !(0.0..1.0).contains(&smoothing) {
        let found = smoothing.to_string();
        return Err(KernelError::Range { op: OP, argument: "smoothing", found, allowed: "0 up to, not including, 1" });
    }
    let partners = mix.map_or(labels, |mix| mix.partners);
    check_len(OP, "partners", partners, rows)?;
    for labels in [labels, partners] {
        if let Some((row, label)) = labels.iter().enumerate().find(|(_, label)| **label as usize >= classes) {
            return Err(KernelError::Label { row, label: *label, classes });
        }
    }
    if let Some(mix) = mix {
        check_len(OP, "shares", mix.shares, rows)?;
        if let Some(share) = mix.shares.iter().find(|share| !(0.0..=1.0).contains(*share)) {
            let found = share.to_string();
            return Err(KernelError::Range { op: OP, argument: "shares", found, allowed: "0 to 1" });
        }
    }
    if let Some(weights) = class_weights {
        check_len(OP, "class_weights", weights, classes)?;
        if let Some(weight) = weights.iter().find(|weight| !(weight.is_finite() && **weight > 0.0)) {
            let (found, allowed) = (weight.to_string(), "a finite number above 0");
            return Err(KernelError::Range { op: OP, argument: "class_weights", found, allowed });
        }
    }
    let isa = crate::isa()?;
    let uniform = smoothing / classes as f32;
    let tasks = logits_grad
        .par_chunks_mut(classes * ROWS)
        .zip(logits.par_chunks(classes * ROWS))
        .zip(losses.par_chunks_mut(ROWS))
        .enumerate();
    tasks.for_each(|(task, ((grads, logits), losses))| {
        let sums = softmax_rows(isa, classes, logits, grads);
        let rows = grads.chunks_exact_mut(classes).zip(logits.chunks_exact(classes)).zip(losses).zip(sums);
        for (row, (((grad, logits), loss), (largest, sum))) in (task * ROWS..).zip(rows) {
            let log_sum = libm::logf(sum);
            let (label, partner) = (labels[row] as usize, partners[row] as usize);
            let share = mix.map_or(1.0, |mix| mix.shares[row]);
            // −log p via the largest logit: log Σ e^l itself would round away the loss of large
            // logits.
            let distance = |logit: f32| largest - logit + log_sum;
            if let Some(weights) = class_weights {
                let target = |class: usize| {
                    let own = if class == label { share } else { 0.0 };
                    let other = if class == partner { 1.0 - share } else { 0.0 };
                    weights[class] * (uniform + (1.0 - smoothing) * (own + other))
                };
                let total = (0..classes).map(target).sum::<f32>();
                *loss = logits.iter().enumerate().map(|(class, logit)| target(class) * distance(*logit)).sum();
                for (class, g) in grad.iter_mut().enumerate() {
                    *g = *g * total - target(class);
                }
                continue;
            }
            let mean_distance = logits.iter().map(|l| distance(*l)).sum::<f32>() / classes as f32;
            let mixed = match mix {
                None => distance(logits[label]),
                Some(_) => share * distance(logits[label]) + (1.0 - share) * distance(logits[partner]),
            };
            *loss = (1.0 - smoothing) * mixed + smoothing * mean_distance;
            for g in grad.iter_mut() {
                *g -= uniform;
            }
            grad[label] -= (1.0 - smoothing) * share;
            if mix.is_some() {
                grad[partner] -= (1.0 - smoothing) * (1.0 - share);
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_within_one_ulp() {
        let check = |x: f32| {
            let (found, expected) = (exp(x), libm::exp(f64::from(x)));
            let rounded = expected as f32;
            let unit = f64::from(rounded) - f64::from(rounded.next_down());
            assert!((f64::from(found) - expected).abs() <= unit, "e^{x} = {found} instead of {expected}");
        };
        (0..=87 << 12).for_each(|i| check(-(i as f32) / 4096.0));
        (1..150).for_each(|k| check(-1.37 * libm::exp2f(-(k as f32))));
        let ends = [0.0, -0.0, -87.5, f32::NEG_INFINITY].map(|x| exp(x).to_bits());
        assert_eq!(ends, [1.0, 1.0, 0.0, 0.0].map(f32::to_bits));
        assert!(exp(f32::NAN).is_nan());
    }

    /// Fails if a processor, a system or a compiler changes a bit.
    #[test]
    fn the_bits_of_losses_are_pinned_on_every_isa() {
        const ROWS: usize = 200;
        const CLASSES: usize = 10;
        // From integers, so that they are the same on every machine.
        let logits: Vec<f32> =
            (0..ROWS * CLASSES).map(|i| (i as u32).wrapping_mul(2_654_435_761) as f32 / (1u64 << 28) as f32).collect();
        let labels: Vec<u32> = (0..ROWS as u32).map(|row| row % CLASSES as u32).collect();
        for isa in Isa::available() {
            let (mut losses, mut grads) = (vec![0.0; ROWS], vec![0.0; ROWS * CLASSES]);
            crate::with_isa(isa, || {
                softmax_cross_entropy(ROWS, CLASSES, &logits, &labels, None, 0.1, &mut losses, &mut grads)
            })
            .unwrap()
            .unwrap();
            let hash = |values: &[f32]| {
                values.iter().fold(0u32, |hash, v| hash.rotate_left(5).wrapping_mul(16_777_619) ^ v.to_bits())
            };
            assert_eq!([hash(&losses), hash(&grads)], PINNED, "{isa}");
        }
    }
    const PINNED: [u32; 2] = [1_870_761_976, 1_501_375_504];
}
