//! Elementwise kernels: activations, pixels, optimisers.

use cifar_kernels::{
    PixelView, activation_backward, activation_forward, adamw_update, normalise_pixels, normalise_views, sgd_update,
};

use super::{ACCEPTED, Memory, Outputs};
use crate::common::{ACTIVATIONS, values};

/// A table of numbers for elementwise kernels.
pub(crate) struct Table {
    pub(crate) channels: usize,
    pub(crate) input: Vec<f32>,
    pub(crate) output_grad: Vec<f32>,
    pub(crate) velocity: Vec<f32>,
    pub(crate) pixels: Vec<u8>,
    pub(crate) mean: Vec<f32>,
    pub(crate) std: Vec<f32>,
}

impl Table {
    pub(crate) const LEARNING_RATE: f32 = 0.3;
    pub(crate) const MOMENTUM: f32 = 0.85;
    pub(crate) const DECAY: f32 = 0.02;
    pub(crate) const BETAS: [f32; 2] = [0.9, 0.98];
    pub(crate) const EPSILON: f32 = 1e-6;
    pub(crate) const STEPS: u32 = 4;

    pub(crate) fn new([rows, c]: [usize; 2], seed: u64) -> Self {
        Self {
            channels: c,
            input: values(seed, rows * c).into_iter().map(|v| 4.0 * v).collect(),
            output_grad: values(seed + 1, rows * c),
            velocity: values(seed + 2, rows * c),
            pixels: values(seed + 3, rows * c).into_iter().map(|v| ((v + 1.0) * 128.0) as u8).collect(),
            mean: values(seed + 4, c),
            std: values(seed + 5, c).into_iter().map(|v| 1.25 + v).collect(),
        }
    }

    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let len = self.input.len();
        let [x, dy, mean, std] = [&self.input, &self.output_grad, &self.mean, &self.std].map(|v| memory.place(v));
        let pixels = memory.place(&self.pixels);
        let mut outputs =
            vec![("normalise_pixels", memory.made(len, |y| normalise_pixels(&pixels, self.channels, &mean, &std, y)))];
        for (size, view) in self.views() {
            let output =
                memory.made(len, |y| normalise_views(&[&pixels], size, self.channels, &[view], &mean, &std, y));
            outputs.push(("normalise_views", output));
        }
        for f in ACTIVATIONS {
            outputs.push(("activation_forward", memory.made(len, |y| activation_forward(f, &x, y))));
            outputs.push(("activation_backward", memory.made(len, |dx| activation_backward(f, &x, &dy, dx))));
        }
        for nesterov in [false, true] {
            let [mut w, mut v] = [&self.input, &self.velocity].map(|v| memory.place(v));
            sgd_update(&mut w, &dy, &mut v, Self::LEARNING_RATE, Self::MOMENTUM, nesterov, Self::DECAY)
                .expect(ACCEPTED);
            outputs.extend([("sgd_update, weight", w.to_vec()), ("sgd_update, velocity", v.to_vec())]);
        }
        let [mut w, mut first, mut second] = [x.to_vec(), vec![0.0; len], vec![0.0; len]].map(|v| memory.place(&v));
        for step in 1..=Self::STEPS {
            let gradient = memory.place(&self.gradient(step));
            let [rate, decay, epsilon] = [Self::LEARNING_RATE, Self::DECAY, Self::EPSILON];
            adamw_update(&mut w, &gradient, &mut first, &mut second, rate, Self::BETAS, epsilon, decay, step)
                .expect(ACCEPTED);
        }
        outputs.extend([
            ("adamw_update, weight", w.to_vec()),
            ("adamw_update, first moment", first.to_vec()),
            ("adamw_update, second moment", second.to_vec()),
        ]);
        outputs
    }

    /// Returns the pixels as an image of one column and of one row, with the largest possible
    /// views.
    pub(crate) fn views(&self) -> [([usize; 2], PixelView); 3] {
        let rows = self.pixels.len() / self.channels;
        let most = rows as isize - 1;
        [
            ([rows, 1], PixelView { down: -most.min(2), right: 0, mirrored: true }),
            ([1, rows], PixelView { down: 0, right: most, mirrored: false }),
            ([1, rows], PixelView { down: 0, right: -most.min(3), mirrored: true }),
        ]
    }

    /// Returns the gradient for a step of `AdamW`, which differs from step to step and has both
    /// signs.
    pub(crate) fn gradient(&self, step: u32) -> Vec<f32> {
        let rotated = self.output_grad.iter().cycle().skip(7 * step as usize).take(self.output_grad.len());
        rotated.map(|g| g * step as f32).collect()
    }
}
