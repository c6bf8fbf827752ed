//! Linear layers, pools and the loss.

use cifar_kernels::{
    PoolShape, Result, average_pool_backward, average_pool_forward, linear_forward, linear_input_gradient,
    linear_weight_gradient, max_pool_backward, max_pool_forward, softmax, softmax_cross_entropy,
    softmax_cross_entropy_weighted,
};

use super::{Memory, Outputs};
use crate::common::{pool_shape, values};

pub(crate) struct Linear {
    pub(crate) dims: [usize; 3],
    pub(crate) input: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) output_grad: Vec<f32>,
}

impl Linear {
    pub(crate) fn new([rows, i, o]: [usize; 3], seed: u64) -> Self {
        Self {
            dims: [rows, i, o],
            input: values(seed, rows * i),
            weight: values(seed + 1, i * o),
            bias: values(seed + 2, o),
            output_grad: values(seed + 3, rows * o),
        }
    }

    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let [rows, i, o] = self.dims;
        let [x, w, b, dy] = [&self.input, &self.weight, &self.bias, &self.output_grad].map(|v| memory.place(v));
        vec![
            ("linear_forward", memory.made(rows * o, |y| linear_forward(rows, i, o, &x, &w, Some(&b), y))),
            ("linear_forward without bias", memory.made(rows * o, |y| linear_forward(rows, i, o, &x, &w, None, y))),
            ("linear_input_gradient", memory.made(rows * i, |dx| linear_input_gradient(rows, i, o, &dy, &w, dx))),
            ("linear_weight_gradient", memory.made(i * o, |dw| linear_weight_gradient(rows, i, o, &x, &dy, dw))),
        ]
    }
}

pub(crate) struct Pool {
    pub(crate) shape: PoolShape,
    pub(crate) input: Vec<f32>,
    pub(crate) output_grad: Vec<f32>,
}

impl Pool {
    pub(crate) fn new([n, h, w, c, window, stride]: [usize; 6], seed: u64) -> Result<Self> {
        let shape = pool_shape([n, h, w, c, window, stride])?;
        // Few different values, so that windows have equal maxima.
        let input = values(seed, shape.input_len()).into_iter().map(|v| (v * 8.0).round() / 8.0).collect();
        Ok(Self { shape, input, output_grad: values(seed + 1, shape.output_len()) })
    }

    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let s = &self.shape;
        let [x, dy] = [&self.input, &self.output_grad].map(|v| memory.place(v));
        let mut argmax = memory.place(&vec![u8::MAX; s.output_len()]);
        vec![
            ("max_pool_forward", memory.made(s.output_len(), |y| max_pool_forward(s, &x, y, &mut argmax))),
            ("max_pool_forward, places", argmax.iter().map(|place| f32::from(*place)).collect()),
            ("max_pool_backward", memory.made(s.input_len(), |dx| max_pool_backward(s, &argmax, &dy, dx))),
            ("average_pool_forward", memory.made(s.output_len(), |y| average_pool_forward(s, &x, y))),
            ("average_pool_backward", memory.made(s.input_len(), |dx| average_pool_backward(s, &dy, dx))),
        ]
    }
}

pub(crate) struct Loss {
    pub(crate) dims: [usize; 2],
    pub(crate) logits: Vec<f32>,
    pub(crate) labels: Vec<u32>,
    pub(crate) smoothing: f32,
}

impl Loss {
    pub(crate) fn new([rows, classes]: [usize; 2], smoothing: f32, seed: u64) -> Self {
        let logits = values(seed, rows * classes).into_iter().map(|v| 10.0 * v).collect();
        Self { dims: [rows, classes], logits, labels: (0..rows).map(|r| (7 * r % classes) as u32).collect(), smoothing }
    }

    /// Returns class weights from 0.02 to 1, a ratio of 50.
    pub(crate) fn weights(classes: usize) -> Vec<f32> {
        (0..classes).map(|class| 0.02 + 0.98 * (class * 3 % 5) as f32 / 4.0).collect()
    }

    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let ([rows, k], len) = (self.dims, self.logits.len());
        let (logits, labels) = (memory.place(&self.logits), memory.place(&self.labels));
        let mut losses = memory.place(&vec![f32::NAN; rows]);
        let grad = memory.made(len, |grad| {
            softmax_cross_entropy(rows, k, &logits, &labels, None, self.smoothing, &mut losses, grad)
        });
        let (weights, mut weighted) = (memory.place(&Self::weights(k)), memory.place(&vec![f32::NAN; rows]));
        let weighted_grad = memory.made(len, |grad| {
            let smoothing = self.smoothing;
            softmax_cross_entropy_weighted(rows, k, &logits, &labels, None, smoothing, &weights, &mut weighted, grad)
        });
        vec![
            ("softmax_cross_entropy", losses.to_vec()),
            ("softmax_cross_entropy, gradient", grad),
            ("softmax_cross_entropy_weighted", weighted.to_vec()),
            ("softmax_cross_entropy_weighted, gradient", weighted_grad),
            ("softmax", memory.made(len, |p| softmax(rows, k, &logits, p))),
        ]
    }
}
