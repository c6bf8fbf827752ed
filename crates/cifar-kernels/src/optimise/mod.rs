//! The update steps of optimisers, and sums and averages for them.

mod muon;

use rayon::prelude::*;

use crate::error::{KernelError, Result, check_len};
use crate::generic::reduce::CHUNK;
use crate::isa::vectorised;

pub use muon::{NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, muon_update, orthogonalise};

/// Updates weights by stochastic gradient descent with momentum and decoupled weight decay
/// (Loshchilov & Hutter 2017, arXiv 1711.05101).
///
/// v ← momentum · v + g; w ← w · (1 − lr · decay) − lr · (nesterov ? g + momentum · v : v).
///
/// # Errors
/// If the slices differ in length.
///
/// ```
/// let (mut weight, mut velocity) = ([1.0], [0.0]);
/// cifar_kernels::sgd_update(&mut weight, &[2.0], &mut velocity, 0.25, 0.9, false, 0.0)?;
/// assert_eq!((weight, velocity), ([0.5], [2.0]));
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
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
    let isa = crate::isa()?;
    let keep = 1.0 - learning_rate * weight_decay;
    let chunks = weight.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(velocity.par_chunks_mut(CHUNK));
    chunks.for_each(|((weight, gradient), velocity)| {
        vectorised(isa, || {
            for ((w, g), v) in weight.iter_mut().zip(gradient).zip(velocity) {
                *v = momentum * *v + g;
                let step = if nesterov { g + momentum * *v } else { *v };
                *w = *w * keep - learning_rate * step;
            }
        });
    });
    Ok(())
}

/// Updates weights by `AdamW` (Loshchilov & Hutter 2017, arXiv 1711.05101).
///
/// m ← β₁ · m + (1 − β₁) · g; v ← β₂ · v + (1 − β₂) · g²;
/// w ← w · (1 − lr · decay) − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε).
/// `step` is t, counted from 1.
///
/// # Errors
/// If the slices differ in length, or `step` is 0.
///
/// ```
/// use cifar_kernels::adamw_update;
///
/// let (mut weight, mut first, mut second) = ([1.0_f32], [0.0], [0.0]);
/// adamw_update(&mut weight, &[2.0], &mut first, &mut second, 0.5, [0.9, 0.999], 1e-8, 0.0, 1)?;
/// assert!((weight[0] - 0.5).abs() < 1e-5);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn adamw_update(
    weight: &mut [f32],
    gradient: &[f32],
    first_moment: &mut [f32],
    second_moment: &mut [f32],
    learning_rate: f32,
    betas: [f32; 2],
    epsilon: f32,
    weight_decay: f32,
    step: u32,
) -> Result<()> {
    const OP: &str = "adamw_update";
    check_len(OP, "gradient", gradient, weight.len())?;
    check_len(OP, "first_moment", first_moment, weight.len())?;
    check_len(OP, "second_moment", second_moment, weight.len())?;
    if step == 0 {
        return Err(KernelError::Range { op: OP, argument: "step", found: "0".into(), allowed: "1 or more" });
    }
    let isa = crate::isa()?;
    let keep = 1.0 - learning_rate * weight_decay;
    // In f64, since β₂ᵗ is close to 1 in the first steps.
    let unbias = betas.map(|beta| (1.0 - f64::from(beta).powi(step.min(i32::MAX as u32) as i32)) as f32);
    let chunks = (weight.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)))
        .zip(first_moment.par_chunks_mut(CHUNK).zip(second_moment.par_chunks_mut(CHUNK)));
    chunks.for_each(|((weight, gradient), (first, second))| {
        vectorised(isa, || {
            for ((w, g), (m, v)) in weight.iter_mut().zip(gradient).zip(first.iter_mut().zip(second)) {
                *m = betas[0] * *m + (1.0 - betas[0]) * g;
                *v = betas[1] * *v + (1.0 - betas[1]) * g * g;
                *w = *w * keep - learning_rate * (*m / unbias[0]) / ((*v / unbias[1]).sqrt() + epsilon);
            }
        });
    });
    Ok(())
}

/// Returns Σ v², computed in `f64`.
///
/// # Errors
/// As [`isa`](crate::isa()).
///
/// ```
/// assert_eq!(cifar_kernels::squared_norm(&[3.0, 4.0])?, 25.0);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn squared_norm(values: &[f32]) -> Result<f64> {
    let isa = crate::isa()?;
    // Eight sums per chunk, so that additions do not wait for each other. Their number is fixed,
    // and so is the order of additions.
    let chunk_sum = |chunk: &[f32]| {
        vectorised(isa, || {
            let mut sums = [0.0f64; 8];
            let (eights, rest) = chunk.as_chunks::<8>();
            for eight in eights {
                for (sum, v) in sums.iter_mut().zip(eight) {
                    *sum += f64::from(*v) * f64::from(*v);
                }
            }
            sums.iter().sum::<f64>() + rest.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>()
        })
    };
    let sums: Vec<f64> = values.par_chunks(CHUNK).map(chunk_sum).collect();
    Ok(sums.iter().sum())
}

/// Multiplies values by a factor: v ← v · `factor`.
///
/// # Errors
/// As [`isa`](crate::isa()).
///
/// ```
/// let mut values = [1.0, 2.0];
/// cifar_kernels::scale_values(&mut values, 0.5)?;
/// assert_eq!(values, [0.5, 1.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn scale_values(values: &mut [f32], factor: f32) -> Result<()> {
    let isa = crate::isa()?;
    values.par_chunks_mut(CHUNK).for_each(|chunk| vectorised(isa, || chunk.iter_mut().for_each(|v| *v *= factor)));
    Ok(())
}

/// Moves an exponential average towards new values: a ← a + `share` · (v − a).
///
/// # Errors
/// If the slices differ in length.
///
/// ```
/// let mut average = [1.0];
/// cifar_kernels::move_average(&mut average, &[3.0], 0.25)?;
/// assert_eq!(average, [1.5]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn move_average(average: &mut [f32], values: &[f32], share: f32) -> Result<()> {
    check_len("move_average", "values", values, average.len())?;
    let isa = crate::isa()?;
    average.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(average, values)| {
        vectorised(isa, || average.iter_mut().zip(values).for_each(|(a, v)| *a += share * (v - *a)));
    });
    Ok(())
}
