//! The kernels in bf16 and their gradients. All operands in `f32` are bf16 numbers.

use cifar_kernels::bf16::{
    BatchNorm, BatchNormGradients, Bf16, BlockedShape, activation_backward, activation_forward, average_pool_backward,
    average_pool_forward, batch_norm_backward, batch_norm_evaluate, batch_norm_forward,
    conv2d_activation_bias_gradient, conv2d_activation_forward, conv2d_backward, conv2d_forward, conv2d_input_gradient,
    conv2d_max_pool_forward, conv2d_weight_gradient, conv2d_weight_gradient_f32, from_blocked, max_pool_backward,
    max_pool_forward, to_blocked,
};
use cifar_kernels::{Activation, Conv2dShape, PoolShape, Result, naive};

use super::{ACCEPTED, ActivatedConv, Conv, Memory, Norm, Outputs, Pool};
use crate::common::values;

fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|v| naive::bf16_rounded(*v) as f32).collect()
}

pub(crate) struct Bf16Conv {
    pub(crate) shape: Conv2dShape,
    /// `[images, height, width, channels]` of input and output.
    pub(crate) dims: [[usize; 4]; 2],
    pub(crate) input: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    pub(crate) output_grad: Vec<f32>,
}

impl Bf16Conv {
    pub(crate) fn new(dims: [usize; 8], seed: u64) -> Result<Self> {
        let Conv { shape, input, weight, output_grad, .. } = Conv::new(dims, seed)?;
        let [n, h, w, c, o, ..] = dims;
        Ok(Self {
            shape,
            dims: [[n, h, w, c], [n, shape.out_height(), shape.out_width(), o]],
            input: rounded(&input),
            weight: rounded(&weight),
            output_grad: rounded(&output_grad),
        })
    }

    /// Returns output and gradients, and their blocks and those of the input.
    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let [x, y] = self.dims.map(|dims| BlockedShape::new(dims).expect(ACCEPTED));
        let (input, output_grad) = (blocked(memory, &x, &self.input), blocked(memory, &y, &self.output_grad));
        let (s, weight) = (&self.shape, memory.place(&self.weight));
        let output = made(memory, &y, |y| conv2d_forward(s, &input, &weight, y));
        let input_grad = made(memory, &x, |dx| conv2d_input_gradient(s, &output_grad, &weight, dx));
        vec![
            ("bf16::conv2d_forward", nhwc(memory, &y, &output)),
            ("bf16::conv2d_input_gradient", nhwc(memory, &x, &input_grad)),
            (
                "bf16::conv2d_weight_gradient",
                memory.made(weight.len(), |dw| conv2d_weight_gradient(s, &input, &output_grad, dw)),
            ),
            ("bf16::to_blocked", widen(&input)),
            ("bf16::conv2d_forward, blocks", widen(&output)),
            ("bf16::conv2d_input_gradient, blocks", widen(&input_grad)),
        ]
    }
}

/// A convolution followed by 2×2 max pooling.
pub(crate) struct Bf16PooledConv {
    pub(crate) conv: Bf16Conv,
    pool: PoolShape,
    /// `[images, height, width, channels]` of the maxima.
    dims: [usize; 4],
    pub(crate) output_grad: Vec<f32>,
}

impl Bf16PooledConv {
    /// Returns `None` if the output has only one row or column.
    pub(crate) fn new(dims: [usize; 8], seed: u64) -> Option<Self> {
        let conv = Bf16Conv::new(dims, seed).expect(ACCEPTED);
        let pool = conv.shape.pool().ok()?;
        let [n, .., o] = conv.dims[1];
        let dims = [n, pool.out_height(), pool.out_width(), o];
        Some(Self { conv, pool, dims, output_grad: rounded(&values(seed + 4, pool.output_len())) })
    }

    /// Returns the blocks of the maxima, their places and the gradients, computed in one pass.
    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let (s, [x, _], y) = self.shapes();
        let (input, weight) = (blocked(memory, &x, &self.conv.input), memory.place(&self.conv.weight));
        let mut places = memory.place(&vec![u8::MAX; y.len()]);
        let maxima = made(memory, &y, |y| conv2d_max_pool_forward(s, &input, &weight, y, &mut places));
        let (grad, at) = (blocked(memory, &y, &self.output_grad), Some(&*places));
        let mut weight_grad = Vec::new();
        let input_grad = made(memory, &x, |dx| {
            let dx = Some(&mut *dx);
            weight_grad =
                memory.made(weight.len(), |dw| conv2d_backward(s, &input, &weight, &grad, at, dx, Some(&mut *dw)));
            Ok(())
        });
        let alone = made(memory, &x, |dx| conv2d_backward(s, &input, &weight, &grad, at, Some(dx), None));
        assert!(*alone == *input_grad, "the input's gradient alone");
        let alone = memory.made(weight.len(), |dw| conv2d_backward(s, &input, &weight, &grad, at, None, Some(dw)));
        assert!(alone.iter().map(|v| v.to_bits()).eq(weight_grad.iter().map(|v| v.to_bits())), "the filters' alone");
        Self::outputs(&maxima, &places, &input_grad, weight_grad)
    }

    /// Returns the same as [`Bf16PooledConv::run`], with pooling as an operation of its own.
    pub(crate) fn run_apart(&self, memory: &impl Memory) -> Outputs {
        let (s, [x, full], y) = self.shapes();
        let (input, weight) = (blocked(memory, &x, &self.conv.input), memory.place(&self.conv.weight));
        let output = made(memory, &full, |y| conv2d_forward(s, &input, &weight, y));
        let mut places = memory.place(&vec![u8::MAX; y.len()]);
        let maxima = made(memory, &y, |y| max_pool_forward(&self.pool, &output, y, &mut places));
        let grad = blocked(memory, &y, &self.output_grad);
        let grad = made(memory, &full, |dx| max_pool_backward(&self.pool, &places, &grad, dx));
        let input_grad = made(memory, &x, |dx| conv2d_input_gradient(s, &grad, &weight, dx));
        let weight_grad =
            memory.made(weight.len(), |dw| conv2d_backward(s, &input, &weight, &grad, None, None, Some(dw)));
        Self::outputs(&maxima, &places, &input_grad, weight_grad)
    }

    /// Returns the shape, the blocked shapes of input and output, and that of the maxima.
    fn shapes(&self) -> (&Conv2dShape, [BlockedShape; 2], BlockedShape) {
        let shape = |dims| BlockedShape::new(dims).expect(ACCEPTED);
        (&self.conv.shape, self.conv.dims.map(shape), shape(self.dims))
    }

    fn outputs(maxima: &[Bf16], places: &[u8], input_grad: &[Bf16], weight_grad: Vec<f32>) -> Outputs {
        vec![
            ("bf16::conv2d_max_pool_forward", widen(maxima)),
            ("bf16::conv2d_max_pool_forward, places", places.iter().map(|place| f32::from(*place)).collect()),
            ("bf16::conv2d_backward with places, input", widen(input_grad)),
            ("bf16::conv2d_backward with places, weight", weight_grad),
        ]
    }
}

/// A convolution in `f32` with bias and activation, whose output is rounded.
pub(crate) struct Bf16ActivatedConv {
    /// Its output's gradient is rounded.
    pub(crate) layer: ActivatedConv,
    /// `[images, height, width, channels]` of the output.
    pub(crate) dims: [usize; 4],
}

impl Bf16ActivatedConv {
    pub(crate) fn new(dims: [usize; 8], activation: Activation, seed: u64) -> Self {
        let mut layer = ActivatedConv::new(dims, activation, seed);
        layer.output_grad = rounded(&layer.output_grad);
        let shape = &layer.conv.shape;
        let dims = [dims[0], shape.out_height(), shape.out_width(), dims[4]];
        Self { layer, dims }
    }

    /// Returns the outputs of [`ActivatedConv::run`], the gradient of the filters of the convolution
    /// alone, and the blocks.
    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let ActivatedConv { conv, activation, output_grad } = &self.layer;
        let (s, f, y) = (&conv.shape, *activation, BlockedShape::new(self.dims).expect(ACCEPTED));
        let [x, w, b] = [&conv.input, &conv.weight, &conv.bias].map(|v| memory.place(v));
        let dy = blocked(memory, &y, output_grad);
        let output = made(memory, &y, |y| conv2d_activation_forward(s, &x, &w, &b, f, y));
        let of_bias = memory.made(b.len(), |db| conv2d_activation_bias_gradient(s, &x, &w, &b, f, &dy, db));
        let of_weight = memory.made(w.len(), |dw| conv2d_weight_gradient_f32(s, &x, &dy, dw));
        vec![
            ("bf16::conv2d_activation_forward", nhwc(memory, &y, &output)),
            ("bf16::conv2d_activation_bias_gradient", of_bias),
            ("bf16::conv2d_weight_gradient_f32", of_weight),
            ("blocks", widen(&output)),
        ]
    }
}

/// Batch norm, and its activation alone.
pub(crate) struct Bf16Norm {
    /// `[images, height, width, channels]`.
    pub(crate) dims: [usize; 4],
    pub(crate) norm: Norm,
}

impl Bf16Norm {
    pub(crate) fn new(dims: [usize; 4], activation: Activation, residual: bool, seed: u64) -> Self {
        let [n, h, w, c] = dims;
        let mut norm = Norm::new([n * h * w, c], activation, residual, seed);
        norm.input = rounded(&norm.input);
        norm.residual = norm.residual.as_deref().map(rounded);
        norm.output_grad = rounded(&norm.output_grad);
        norm.avoid_kink();
        Self { dims, norm }
    }

    /// Returns the outputs of [`Norm::run`], then those of the activation alone, then blocks.
    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let Norm { activation, input, scale, shift, residual, output_grad, .. } = &self.norm;
        let shape = BlockedShape::new(self.dims).expect(ACCEPTED);
        let [x, dy] = [input, output_grad].map(|v| blocked(memory, &shape, v));
        let [scale, shift] = [scale, shift].map(|v| memory.place(v));
        let [mean, variance] = [&self.norm.running_mean, &self.norm.running_variance].map(|v| memory.place(v));
        let residual = residual.as_deref().map(|residual| blocked(memory, &shape, residual));
        let residual = residual.as_deref();
        let activation = *activation;
        let layer = BatchNorm { shape, input: &x, scale: &scale, shift: &shift, residual, activation };
        let mut statistics = None;
        let output = made(memory, &shape, |y| {
            statistics = Some(batch_norm_forward(&layer, Norm::EPSILON, y)?);
            Ok(())
        });
        let statistics = statistics.expect(ACCEPTED);
        let evaluated = made(memory, &shape, |y| batch_norm_evaluate(&layer, &mean, &variance, Norm::EPSILON, y));
        let [mut dscale, mut dshift] = [(); 2].map(|()| memory.place(&vec![f32::NAN; scale.len()]));
        let mut residual_grad = memory.place(&vec![Bf16::NAN; shape.len()]);
        let input_grad = made(memory, &shape, |input| {
            let residual = residual.is_some().then_some(&mut *residual_grad);
            let gradients = BatchNormGradients { input, scale: &mut dscale, shift: &mut dshift, residual };
            batch_norm_backward(&layer, &statistics, &dy, gradients)
        });
        let activated = made(memory, &shape, |y| activation_forward(activation, &x, y));
        let activated_grad = made(memory, &shape, |dx| activation_backward(activation, &x, &dy, dx));
        let mut outputs = vec![
            ("bf16::batch_norm_forward", nhwc(memory, &shape, &output)),
            ("bf16::batch_norm_evaluate", nhwc(memory, &shape, &evaluated)),
            ("bf16::batch_norm_forward, mean", statistics.mean),
            ("bf16::batch_norm_forward, variance", statistics.variance),
            ("bf16::batch_norm_forward, inverse_std", statistics.inverse_std),
            ("bf16::batch_norm_backward, input", nhwc(memory, &shape, &input_grad)),
            ("bf16::batch_norm_backward, scale", dscale.to_vec()),
            ("bf16::batch_norm_backward, shift", dshift.to_vec()),
        ];
        let mut blocks = vec![&*output, &*evaluated, &*input_grad, &*activated, &*activated_grad];
        if residual.is_some() {
            outputs.push(("bf16::batch_norm_backward, residual", nhwc(memory, &shape, &residual_grad)));
            blocks.push(&residual_grad);
        }
        outputs.push(("bf16::activation_forward", nhwc(memory, &shape, &activated)));
        outputs.push(("bf16::activation_backward", nhwc(memory, &shape, &activated_grad)));
        outputs.extend(blocks.into_iter().map(|blocks| ("blocks", widen(blocks))));
        outputs
    }
}

pub(crate) struct Bf16Pool {
    /// `[images, height, width, channels]` of input and output.
    pub(crate) dims: [[usize; 4]; 2],
    pub(crate) pool: Pool,
}

impl Bf16Pool {
    pub(crate) fn new(dims: [usize; 6], seed: u64) -> Result<Self> {
        let [n, h, w, c, ..] = dims;
        let mut pool = Pool::new(dims, seed)?;
        (pool.input, pool.output_grad) = (rounded(&pool.input), rounded(&pool.output_grad));
        Ok(Self { dims: [[n, h, w, c], [n, pool.shape.out_height(), pool.shape.out_width(), c]], pool })
    }

    /// Returns the outputs of [`Pool::run`], then blocks.
    pub(crate) fn run(&self, memory: &impl Memory) -> Outputs {
        let (s, [x, y]) = (&self.pool.shape, self.dims.map(|dims| BlockedShape::new(dims).expect(ACCEPTED)));
        let (input, output_grad) = (blocked(memory, &x, &self.pool.input), blocked(memory, &y, &self.pool.output_grad));
        let mut places = memory.place(&vec![u8::MAX; y.len()]);
        let maxima = made(memory, &y, |y| max_pool_forward(s, &input, y, &mut places));
        let gradient = made(memory, &x, |dx| max_pool_backward(s, &places, &output_grad, dx));
        let means = made(memory, &y, |y| average_pool_forward(s, &input, y));
        let mean_gradient = made(memory, &x, |dx| average_pool_backward(s, &output_grad, dx));
        let places: Vec<f32> = places.iter().map(|place| f32::from(*place)).collect();
        vec![
            ("bf16::max_pool_forward", nhwc(memory, &y, &maxima)),
            ("bf16::max_pool_forward, places", naive::unblocked(self.dims[1], &places)),
            ("bf16::max_pool_backward", nhwc(memory, &x, &gradient)),
            ("bf16::average_pool_forward", nhwc(memory, &y, &means)),
            ("bf16::average_pool_backward", nhwc(memory, &x, &mean_gradient)),
            ("blocks", widen(&maxima)),
            ("blocks", widen(&gradient)),
            ("blocks", widen(&means)),
            ("blocks", widen(&mean_gradient)),
        ]
    }
}

/// Returns what `write` writes to blocks of NaN.
fn made<M: Memory>(memory: &M, shape: &BlockedShape, write: impl FnOnce(&mut [Bf16]) -> Result<()>) -> M::Slice<Bf16> {
    let mut blocks = memory.place(&vec![Bf16::NAN; shape.len()]);
    write(&mut blocks).expect(ACCEPTED);
    blocks
}

fn blocked<M: Memory>(memory: &M, shape: &BlockedShape, images: &[f32]) -> M::Slice<Bf16> {
    made(memory, shape, |blocks| to_blocked(shape, &memory.place(images), blocks))
}

fn nhwc(memory: &impl Memory, shape: &BlockedShape, blocks: &[Bf16]) -> Vec<f32> {
    memory.made(shape.nhwc_len(), |images| from_blocked(shape, blocks, images))
}

fn widen(values: &[Bf16]) -> Vec<f32> {
    values.iter().map(|v| v.to_f32()).collect()
}
