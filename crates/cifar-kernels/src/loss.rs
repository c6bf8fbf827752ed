//! Softmax, and its cross-entropy with smoothed labels.
//!
//! Exponentials and logarithms come from the `libm` crate. The system's own library picks an
//! implementation for the processor it runs on, and the implementations differ in the last bit.

use rayon::prelude::*;

use crate::error::{KernelError, Result, check_len, product};

/// Rows that one task works on.
const ROWS: usize = 64;

/// `p[k] = exp(l[k]) / Σ exp(l[j])` for every row of `logits` [rows, classes].
pub fn softmax(rows: usize, classes: usize, logits: &[f32], probabilities: &mut [f32]) -> Result<()> {
    const OP: &str = "softmax";
    let len = product(OP, &[rows, classes])?;
    check_len(OP, "logits", logits, len)?;
    check_len(OP, "probabilities", probabilities, len)?;
    crate::arm()?; // the same on every arm, but one that cannot be used is an error of every kernel
    probabilities.par_chunks_mut(classes * ROWS).zip(logits.par_chunks(classes * ROWS)).for_each(|(p, l)| {
        for (p, l) in p.chunks_exact_mut(classes).zip(l.chunks_exact(classes)) {
            softmax_row(l, p);
        }
    });
    Ok(())
}

/// Writes the softmax of a row and returns its largest logit and log Σ e^{l − largest}.
fn softmax_row(logits: &[f32], probabilities: &mut [f32]) -> (f32, f32) {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |m, l| m.max(*l));
    let mut sum = 0.0;
    for (p, l) in probabilities.iter_mut().zip(logits) {
        *p = libm::expf(l - largest);
        sum += *p;
    }
    for p in probabilities {
        *p /= sum;
    }
    (largest, libm::logf(sum))
}

/// The second label of each row, for images that are mixed of two (Zhang et al. 2018, arXiv 1710.09412).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixedLabels<'a> {
    /// The labels.
    pub partners: &'a [u32],
    /// How much of each row belongs to its first label, 0 to 1; the rest belongs to the second.
    pub shares: &'a [f32],
}

/// Each row's cross-entropy (nats) between softmax(logits) and (1 − s) · target + s / classes, where s is `smoothing`
/// (0 ≤ s < 1), and the gradient of the *sum* of the losses with respect to the logits. The target is the one-hot label, or
/// under `mix` share · one-hot(label) + (1 − share) · one-hot(partner).
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
    crate::arm()?; // as above
    let uniform = smoothing / classes as f32;
    let tasks = logits_grad
        .par_chunks_mut(classes * ROWS)
        .zip(logits.par_chunks(classes * ROWS))
        .zip(losses.par_chunks_mut(ROWS))
        .enumerate();
    tasks.for_each(|(task, ((grads, logits), losses))| {
        let rows = grads.chunks_exact_mut(classes).zip(logits.chunks_exact(classes)).zip(losses);
        for (row, ((grad, logits), loss)) in (task * ROWS..).zip(rows) {
            let (largest, log_sum) = softmax_row(logits, grad);
            let (label, partner) = (labels[row] as usize, partners[row] as usize);
            let share = mix.map_or(1.0, |mix| mix.shares[row]);
            // −log p by way of the largest logit: log Σ e^l itself would round the loss away where logits are large.
            let distance = |logit: f32| largest - logit + log_sum;
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
