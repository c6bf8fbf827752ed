//! Convolutions alone, with max pooling or with an activation, and their gradients, alone and
//! together.

use cifar_kernels::{
    Activation, Conv2dShape, PoolShape, Result, bias_gradient, conv2d_activation_bias_gradient,
    conv2d_activation_forward, conv2d_backward, conv2d_forward, conv2d_input_gradient, conv2d_max_pool_forward,
    conv2d_weight_gradient, naive,
};

use super::{ACCEPTED, Memory, Outputs};
use crate::common::compare::{Expected, column_sums, linear};
use crate::common::{conv2d, values, widen};

pub(crate) struct Conv {
    pub(crate) shape: Conv2dShape,
    pub(crate) out_channels: usize,
    pub(crate) input: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) output_grad: Vec<f32>,
}

impl Conv {
    pub(crate) fn new([n, h, w, c, o, kernel, stride, padding]: [usize; 8], seed: u64) -> Result<Self> {
        let shape = conv2d([n, h, w, c, o, kernel, stride, padding])?;
        Ok(Self {
            shape,
            out_channels: o,
            input: values(seed, shape.input_len()),
            weight: values(seed + 1, shape.weight_len()),
            bias: values(seed + 2, o),
            output_grad: values(seed + 3, shape.output_len()),
        })
    }

    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let (s, o) = (&self.shape, self.out_channels);
        let [x, w, b, dy] = [&self.input, &self.weight, &self.bias, &self.output_grad].map(|v| memory.place(v));
        let mut outputs = vec![
            ("conv2d_forward", memory.made(s.output_len(), |y| conv2d_forward(s, &x, &w, Some(&b), y))),
            ("conv2d_forward without bias", memory.made(s.output_len(), |y| conv2d_forward(s, &x, &w, None, y))),
            ("conv2d_input_gradient", memory.made(s.input_len(), |dx| conv2d_input_gradient(s, &dy, &w, dx))),
            ("conv2d_weight_gradient", memory.made(s.weight_len(), |dw| conv2d_weight_gradient(s, &x, &dy, dw))),
            ("bias_gradient", memory.made(o, |db| bias_gradient(dy.len() / o, o, &dy, db))),
        ];
        let names = [
            "conv2d_backward, input",
            "conv2d_backward, weight",
            "conv2d_backward, input alone",
            "conv2d_backward, weight alone",
        ];
        outputs.extend(names.into_iter().zip(self.backward(memory, &x, &w, &dy, None)));
        outputs
    }

    /// Computes both gradients together, and each alone.
    pub(crate) fn backward(
        &self,
        memory: &impl Memory,
        x: &[f32],
        w: &[f32],
        dy: &[f32],
        places: Option<&[u8]>,
    ) -> [Vec<f32>; 4] {
        let s = &self.shape;
        let mut dw = Vec::new();
        let dx = memory.made(s.input_len(), |dx| {
            dw = memory.made(s.weight_len(), |dw| conv2d_backward(s, x, w, dy, places, Some(&mut *dx), Some(dw)));
            Ok(())
        });
        let dx_alone = memory.made(s.input_len(), |dx| conv2d_backward(s, x, w, dy, places, Some(dx), None));
        let dw_alone = memory.made(s.weight_len(), |dw| conv2d_backward(s, x, w, dy, places, None, Some(dw)));
        [dx, dw, dx_alone, dw_alone]
    }
}

/// A convolution followed by 2×2 max pooling.
pub(crate) struct PooledConv {
    pub(crate) conv: Conv,
    pub(crate) pool: PoolShape,
    pub(crate) output_grad: Vec<f32>,
}

impl PooledConv {
    /// Returns `None` if the output has only one row or column.
    pub(crate) fn new(dims: [usize; 8], seed: u64) -> Option<Self> {
        let conv = Conv::new(dims, seed).expect(ACCEPTED);
        let pool = conv.shape.pool().ok()?;
        Some(Self { conv, pool, output_grad: values(seed + 4, pool.output_len()) })
    }

    /// Returns the maxima and their positions, as the kernel finds them.
    pub(crate) fn forward(&self, memory: &impl Memory, x: &[f32], w: &[f32]) -> (Vec<f32>, Vec<u8>) {
        let len = self.pool.output_len();
        let mut places = memory.place(&vec![u8::MAX; len]);
        let maxima = memory.made(len, |y| conv2d_max_pool_forward(&self.conv.shape, x, w, y, &mut places));
        (maxima, places.to_vec())
    }

    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let [x, w, dy] = [&self.conv.input, &self.conv.weight, &self.output_grad].map(|v| memory.place(v));
        let (maxima, places) = self.forward(memory, &x, &w);
        let places = memory.place(&places);
        let [dx, dw, dx_alone, dw_alone] = self.conv.backward(memory, &x, &w, &dy, Some(&places));
        vec![
            ("conv2d_max_pool_forward", maxima),
            ("conv2d_max_pool_forward, places", places.iter().map(|place| f32::from(*place)).collect()),
            ("conv2d_backward with places, input", dx),
            ("conv2d_backward with places, weight", dw),
            ("conv2d_backward with places, input alone", dx_alone),
            ("conv2d_backward with places, weight alone", dw_alone),
        ]
    }
}

/// A convolution followed by an activation.
pub(crate) struct ActivatedConv {
    pub(crate) conv: Conv,
    pub(crate) activation: Activation,
    pub(crate) output_grad: Vec<f32>,
}

impl ActivatedConv {
    pub(crate) fn new(dims: [usize; 8], activation: Activation, seed: u64) -> Self {
        let conv = Conv::new(dims, seed).expect(ACCEPTED);
        let mut output_grad = conv.output_grad.clone();
        if activation == Activation::Relu {
            // If rounding decides on which side of the kink a value is, f32 and f64 may differ.
            let [x, w, b] = [&conv.input, &conv.weight, &conv.bias].map(|v| widen(v));
            for (dy, z) in output_grad.iter_mut().zip(naive::conv2d_forward(&conv.shape, &x, &w, Some(&b))) {
                *dy = if z.abs() < 1e-4 { 0.0 } else { *dy };
            }
        }
        Self { conv, activation, output_grad }
    }

    /// Returns the expected outputs, if the activation itself and its slope have these errors. The
    /// convolution is always computed directly.
    pub(crate) fn expected(&self, [of_value, of_slope]: [f64; 2]) -> [Expected; 2] {
        let Conv { shape: s, out_channels, input, weight, bias, .. } = &self.conv;
        let before = linear([input, weight, bias], |[x, w, b]| naive::conv2d_forward(s, x, w, Some(b)));
        let dy = widen(&self.output_grad);
        // No slope is above 1.13, and no slope changes faster than 0.8.
        let errors = |of_function: f64| before.allowed.iter().map(move |error| 1.13 * error + of_function);
        let gradient_errors: Vec<f64> = errors(of_slope).zip(&dy).map(|(error, dy)| error * dy.abs()).collect();
        [
            Expected {
                values: naive::activation_forward(self.activation, &before.values),
                allowed: errors(of_value).collect(),
            },
            Expected {
                values: column_sums(*out_channels, &naive::activation_backward(self.activation, &before.values, &dy)),
                allowed: column_sums(*out_channels, &gradient_errors),
            },
        ]
    }

    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let Conv { shape: s, out_channels, input, weight, bias, .. } = &self.conv;
        let ([x, w, b, dy], f) = ([input, weight, bias, &self.output_grad].map(|v| memory.place(v)), self.activation);
        vec![
            (
                "conv2d_activation_forward",
                memory.made(s.output_len(), |y| conv2d_activation_forward(s, &x, &w, &b, f, y)),
            ),
            (
                "conv2d_activation_bias_gradient",
                memory.made(*out_channels, |db| conv2d_activation_bias_gradient(s, &x, &w, &b, f, &dy, db)),
            ),
        ]
    }
}
