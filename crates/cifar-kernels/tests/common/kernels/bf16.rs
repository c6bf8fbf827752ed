//! Convolutions in bf16 and their gradients.

use cifar_kernels::bf16::{
    Bf16, BlockedShape, conv2d_forward, conv2d_input_gradient, conv2d_weight_gradient, from_blocked, to_blocked,
};
use cifar_kernels::{Conv2dShape, Result, naive};

use super::{ACCEPTED, Conv, Memory, Outputs};

/// A convolution whose operands in `f32` are bf16 numbers.
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
        let rounded = |values: Vec<f32>| values.into_iter().map(|v| naive::bf16_rounded(v) as f32).collect();
        Ok(Self {
            shape,
            dims: [[n, h, w, c], [n, shape.out_height(), shape.out_width(), o]],
            input: rounded(input),
            weight: rounded(weight),
            output_grad: rounded(output_grad),
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
