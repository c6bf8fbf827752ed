//! Softmax, and its cross-entropy with smoothed labels.

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
        *p = (l - largest).exp();
        sum += *p;
    }
    for p in probabilities {
        *p /= sum;
    }
    (largest, sum.ln())
}

/// Each row's cross-entropy (nats) between softmax(logits) and (1 − s) · one-hot(label) + s / classes, where s is
/// `smoothing` (0 ≤ s < 1), and the gradient of the *sum* of the losses with respect to the logits: p − target.
pub fn softmax_cross_entropy(
    rows: usize,
    classes: usize,
    logits: &[f32],
    labels: &[u32],
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
    if let Some((row, label)) = labels.iter().enumerate().find(|(_, label)| **label as usize >= classes) {
        return Err(KernelError::Label { row, label: *label, classes });
    }
    crate::arm()?; // as above
    let uniform = smoothing / classes as f32;
    let tasks = logits_grad
        .par_chunks_mut(classes * ROWS)
        .zip(logits.par_chunks(classes * ROWS))
        .zip(losses.par_chunks_mut(ROWS))
        .zip(labels.par_chunks(ROWS));
    tasks.for_each(|(((grads, logits), losses), labels)| {
        let rows = grads.chunks_exact_mut(classes).zip(logits.chunks_exact(classes)).zip(losses).zip(labels);
        for (((grad, logits), loss), label) in rows {
            let (largest, log_sum) = softmax_row(logits, grad);
            let label = *label as usize;
            // −log p by way of the largest logit: log Σ e^l itself would round the loss away where logits are large.
            let distance = |logit: f32| largest - logit + log_sum;
            let mean_distance = logits.iter().map(|l| distance(*l)).sum::<f32>() / classes as f32;
            *loss = (1.0 - smoothing) * distance(logits[label]) + smoothing * mean_distance;
            for g in grad.iter_mut() {
                *g -= uniform;
            }
            grad[label] -= 1.0 - smoothing;
        }
    });
    Ok(())
}
