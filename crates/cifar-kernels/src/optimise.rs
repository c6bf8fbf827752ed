//! The update loops of optimisers.

use rayon::prelude::*;

use crate::error::{Result, check_len};
use crate::portable::reduce::CHUNK;
use crate::portable::vectorised;

/// Stochastic gradient descent with momentum and decoupled weight decay (Loshchilov & Hutter 2017, arXiv 1711.05101):
/// v ← momentum · v + g; w ← w · (1 − lr · decay) − lr · (nesterov ? g + momentum · v : v).
pub fn sgd_update(
    weight: &mut [f32],
    gradient: &[f32],
    velocity: &mut [f32],
    learning_rate: f32,
    momentum: f32,
    nesterov: bool,
    weight_decay: f32,
) -> Result<()> {
    const OP: &str = "sgd_update";
    check_len(OP, "gradient", gradient, weight.len())?;
    check_len(OP, "velocity", velocity, weight.len())?;
    let keep = 1.0 - learning_rate * weight_decay;
    let chunks = weight.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(velocity.par_chunks_mut(CHUNK));
    chunks.for_each(|((weight, gradient), velocity)| {
        vectorised(|| {
            for ((w, g), v) in weight.iter_mut().zip(gradient).zip(velocity) {
                *v = momentum * *v + g;
                let step = if nesterov { g + momentum * *v } else { *v };
                *w = *w * keep - learning_rate * step;
            }
        });
    });
    Ok(())
}
