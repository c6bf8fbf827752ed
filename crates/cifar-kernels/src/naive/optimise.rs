//! The update steps of optimisers.

use super::Real;

/// Updates weights by SGD; see [`crate::sgd_update`].
pub fn sgd_update<R: Real>(
    weight: &mut [R],
    gradient: &[R],
    velocity: &mut [R],
    learning_rate: R,
    momentum: R,
    nesterov: bool,
    weight_decay: R,
) {
    for ((w, g), v) in weight.iter_mut().zip(gradient).zip(velocity) {
        *v = momentum * *v + *g;
        let step = if nesterov { *g + momentum * *v } else { *v };
        *w = *w - learning_rate * weight_decay * *w - learning_rate * step;
    }
}

/// Updates weights by `AdamW`; see [`crate::adamw_update`].
pub fn adamw_update<R: Real>(
    weight: &mut [R],
    gradient: &[R],
    first_moment: &mut [R],
    second_moment: &mut [R],
    learning_rate: R,
    betas: [R; 2],
    epsilon: R,
    weight_decay: R,
    step: u32,
) {
    let unbias = betas.map(|beta| R::ONE - (0..step).fold(R::ONE, |power, _| power * beta));
    for ((w, g), (m, v)) in weight.iter_mut().zip(gradient).zip(first_moment.iter_mut().zip(second_moment)) {
        *m = betas[0] * *m + (R::ONE - betas[0]) * *g;
        *v = betas[1] * *v + (R::ONE - betas[1]) * *g * *g;
        let step = *m / unbias[0] / ((*v / unbias[1]).square_root() + epsilon);
        *w = *w - learning_rate * weight_decay * *w - learning_rate * step;
    }
}

/// Updates weights by Muon; see [`crate::muon_update`].
pub fn muon_update<R: Real>(
    columns: usize,
    weight: &mut [R],
    gradient: &[R],
    velocity: &mut [R],
    learning_rate: R,
    momentum: R,
    nesterov: bool,
) {
    let mut step = Vec::new();
    for (g, v) in gradient.iter().zip(velocity) {
        *v = momentum * *v + *g;
        step.push(if nesterov { *g + momentum * *v } else { *v });
    }
    let step = orthogonalise(columns, &step);
    let norm = norm(weight);
    let scale = if norm > R::ZERO { R::from_f64(columns as f64).square_root() / norm } else { R::ONE };
    for (w, s) in weight.iter_mut().zip(step) {
        *w = *w * scale - learning_rate * s;
    }
}

/// Returns the result of Newton–Schulz steps; see [`crate::orthogonalise`].
pub fn orthogonalise<R: Real>(columns: usize, matrix: &[R]) -> Vec<R> {
    let [a, b, c] = crate::NEWTON_SCHULZ.map(|x| R::from_f64(f64::from(x)));
    let rows = matrix.len() / columns;
    let divisor = norm(matrix) + R::from_f64(1e-7);
    let mut x: Vec<R> = matrix.iter().map(|m| *m / divisor).collect();
    for _ in 0..crate::NEWTON_SCHULZ_STEPS {
        // A · X for a square A.
        let times = |left: &[R], right: &[R], width: usize| -> Vec<R> {
            let element = |at: usize| {
                let (row, column) = (at / width, at % width);
                (0..rows).fold(R::ZERO, |sum, k| sum + left[row * rows + k] * right[k * width + column])
            };
            (0..rows * width).map(element).collect()
        };
        let gram: Vec<R> = (0..rows * rows)
            .map(|at| {
                let (i, j) = (at / rows, at % rows);
                (0..columns).fold(R::ZERO, |sum, k| sum + x[i * columns + k] * x[j * columns + k])
            })
            .collect();
        let square = times(&gram, &gram, rows);
        let polynomial: Vec<R> = gram.iter().zip(&square).map(|(g, s)| b * *g + c * *s).collect();
        let moved = times(&polynomial, &x, columns);
        x = x.iter().zip(moved).map(|(x, m)| a * *x + m).collect();
    }
    x
}

/// Returns the Frobenius norm.
fn norm<R: Real>(values: &[R]) -> R {
    values.iter().fold(R::ZERO, |sum, v| sum + *v * *v).square_root()
}
