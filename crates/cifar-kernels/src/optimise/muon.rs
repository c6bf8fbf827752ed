//! Muon (Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>): orthogonalised
//! momentum.

use crate::error::{Result, check_len, product};
use crate::generic::reduce::CHUNK;
use crate::isa::vectorised;
use crate::{Buffer, linear_forward, linear_input_gradient, linear_weight_gradient};
use rayon::prelude::*;

use super::{scale_values, squared_norm};

/// Coefficients of the quintic a·x + b·x³ + c·x⁵, which moves singular values towards 1.
pub const NEWTON_SCHULZ: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Number of Newton–Schulz steps. Singular values above about 0.05 of the norm end between 0.3 and
/// 1.3.
pub const NEWTON_SCHULZ_STEPS: usize = 3;
/// Added to the norm by which a matrix is divided.
const EPSILON: f64 = 1e-7;

/// Updates a bank of filters by Muon. The filters are the columns of a matrix `[rows, columns]`.
///
/// v ← momentum · v + g; u = nesterov ? g + momentum · v : v; the weight is scaled to the Frobenius
/// norm √columns unless its norm is 0; w ← w − lr · [`orthogonalise`]\(u).
///
/// # Errors
/// If a dimension is 0 or a slice has the wrong length.
///
/// ```
/// let (mut weight, mut velocity) = ([1.0_f32], [0.0]);
/// cifar_kernels::muon_update(1, 1, &mut weight, &[2.0], &mut velocity, 0.5, 0.6, true)?;
/// assert!(weight[0] < 1.0);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn muon_update(
    rows: usize,
    columns: usize,
    weight: &mut [f32],
    gradient: &[f32],
    velocity: &mut [f32],
    learning_rate: f32,
    momentum: f32,
    nesterov: bool,
) -> Result<()> {
    const OP: &str = "muon_update";
    check_len(OP, "weight", weight, product(OP, &[rows, columns])?)?;
    check_len(OP, "gradient", gradient, weight.len())?;
    check_len(OP, "velocity", velocity, weight.len())?;
    let isa = crate::isa()?;
    let mut update = Buffer::new(weight.len());
    let chunks = update.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(velocity.par_chunks_mut(CHUNK));
    chunks.for_each(|((update, gradient), velocity)| {
        vectorised(isa, || {
            for ((u, g), v) in update.iter_mut().zip(gradient).zip(velocity) {
                *v = momentum * *v + g;
                *u = if nesterov { g + momentum * *v } else { *v };
            }
        });
    });
    orthogonalise(rows, columns, &mut update)?;
    let norm = squared_norm(weight)?.sqrt();
    let scale = if norm > 0.0 { ((columns as f64).sqrt() / norm) as f32 } else { 1.0 };
    weight.par_chunks_mut(CHUNK).zip(update.par_chunks(CHUNK)).for_each(|(weight, update)| {
        vectorised(isa, || {
            for (w, u) in weight.iter_mut().zip(update) {
                *w = *w * scale - learning_rate * u;
            }
        });
    });
    Ok(())
}

/// Moves the singular values of `matrix` `[rows, columns]` towards 1 and keeps its singular
/// vectors.
///
/// The method is Newton–Schulz: X = M / (‖M‖ + 1e-7), then X ← a·X + (b·A + c·A²)·X with A = X·Xᵀ.
/// A matrix of zeros does not change.
///
/// # Errors
/// If a dimension is 0 or the matrix has the wrong length.
///
/// ```
/// let mut matrix = [3.0_f32, 0.0, 0.0, 4.0];
/// cifar_kernels::orthogonalise(2, 2, &mut matrix)?;
/// assert!((0.3..1.3).contains(&matrix[0]) && (0.3..1.3).contains(&matrix[3]));
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn orthogonalise(rows: usize, columns: usize, matrix: &mut [f32]) -> Result<()> {
    const OP: &str = "orthogonalise";
    check_len(OP, "matrix", matrix, product(OP, &[rows, columns])?)?;
    let norm = squared_norm(matrix)?.sqrt();
    scale_values(matrix, (1.0 / (norm + EPSILON)) as f32)?;
    // Uses Xᵀ·X if it is smaller: (X·Xᵀ)·X = X·(Xᵀ·X), so the result is the same.
    let tall = rows > columns;
    let side = rows.min(columns);
    let [mut gram, mut square] = [Buffer::new(side * side), Buffer::new(side * side)];
    let mut product = Buffer::new(matrix.len());
    let [a, b, c] = NEWTON_SCHULZ;
    for _ in 0..NEWTON_SCHULZ_STEPS {
        if tall {
            linear_weight_gradient(rows, columns, columns, matrix, matrix, &mut gram)?;
        } else {
            linear_input_gradient(rows, rows, columns, matrix, matrix, &mut gram)?;
        }
        linear_forward(side, side, side, &gram, &gram, None, &mut square)?;
        for (square, gram) in square.iter_mut().zip(&*gram) {
            *square = b * gram + c * *square;
        }
        if tall {
            linear_forward(rows, columns, columns, matrix, &square, None, &mut product)?;
        } else {
            linear_forward(rows, rows, columns, &square, matrix, None, &mut product)?;
        }
        for (x, product) in matrix.iter_mut().zip(&*product) {
            *x = a * *x + product;
        }
    }
    Ok(())
}
