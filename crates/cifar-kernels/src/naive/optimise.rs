//! The update loops of optimisers.

use super::Real;

/// Stochastic gradient descent with momentum and decoupled weight decay.
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

/// `AdamW`; `step` is counted from 1.
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
        let step = *m / unbias[0] / ((*v / unbias[1]).sqrt() + epsilon);
        *w = *w - learning_rate * weight_decay * *w - learning_rate * step;
    }
}
