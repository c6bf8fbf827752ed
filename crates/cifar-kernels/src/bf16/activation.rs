//! Activation functions in bf16.

use rayon::prelude::*;

use super::Bf16;
use super::blocked::SIDE;
use super::gelu::with_rounded_function;
use super::rows::{load, round, store, vectors, widened};
use crate::Activation;
use crate::error::{Result, check_len, product};
use crate::generic::activation::Function;
use crate::generic::on_isa;
use crate::generic::reduce::CHUNK;
use crate::isa::Simd;

/// Computes output = f(input) for any number of values. All functions are 0 at 0, so values that
/// fill up blocks stay 0.
///
/// GELU here has an error of at most 4e-6 · |x| before rounding, and its slope one of 2e-5.
///
/// # Errors
/// If `output` is not as long as `input`, or both are empty.
///
/// ```
/// use cifar_kernels::Activation;
/// use cifar_kernels::bf16::{Bf16, activation_forward};
///
/// let (input, mut output) = ([-2.0, 3.0].map(Bf16::from_f32), [Bf16::ZERO; 2]);
/// activation_forward(Activation::Relu, &input, &mut output)?;
/// assert_eq!(output.map(Bf16::to_f32), [0.0, 3.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn activation_forward(activation: Activation, input: &[Bf16], output: &mut [Bf16]) -> Result<()> {
    const OP: &str = "bf16::activation_forward";
    check_len(OP, "output", output, product(OP, &[input.len()])?)?;
    on_isa!(forward, activation, input, output);
    Ok(())
}

/// Computes `input_grad` = `output_grad` · f′(input).
///
/// # Errors
/// If a slice is not as long as `input`, or `input` is empty.
pub fn activation_backward(
    activation: Activation,
    input: &[Bf16],
    output_grad: &[Bf16],
    input_grad: &mut [Bf16],
) -> Result<()> {
    const OP: &str = "bf16::activation_backward";
    let len = product(OP, &[input.len()])?;
    check_len(OP, "output_grad", output_grad, len)?;
    check_len(OP, "input_grad", input_grad, len)?;
    on_isa!(backward, activation, input, output_grad, input_grad);
    Ok(())
}

fn forward<S: Simd>(s: S, activation: Activation, input: &[Bf16], output: &mut [Bf16]) {
    with_rounded_function!(activation, forward_with(s, input, output));
}

fn forward_with<S: Simd, F: Function>(s: S, f: F, input: &[Bf16], output: &mut [Bf16]) {
    output.par_chunks_mut(CHUNK).zip(input.par_chunks(CHUNK)).for_each(|(output, input)| {
        s.vectorize(
            #[inline(always)]
            || {
                for (y, x) in output.chunks_mut(SIDE).zip(input.chunks(SIDE)) {
                    let mut values = widened(x);
                    for channel in vectors::<S>() {
                        let x = load(s, &values, channel);
                        store(s, &mut values, channel, f.value(s, x));
                    }
                    round(&values, y);
                }
            },
        );
    });
}

fn backward<S: Simd>(s: S, activation: Activation, input: &[Bf16], output_grad: &[Bf16], input_grad: &mut [Bf16]) {
    with_rounded_function!(activation, backward_with(s, input, output_grad, input_grad));
}

fn backward_with<S: Simd, F: Function>(s: S, f: F, input: &[Bf16], output_grad: &[Bf16], input_grad: &mut [Bf16]) {
    let chunks = input_grad.par_chunks_mut(CHUNK).zip(input.par_chunks(CHUNK)).zip(output_grad.par_chunks(CHUNK));
    chunks.for_each(|((dx, x), dy)| {
        s.vectorize(
            #[inline(always)]
            || {
                for ((dx, x), dy) in dx.chunks_mut(SIDE).zip(x.chunks(SIDE)).zip(dy.chunks(SIDE)) {
                    let (x, mut grad) = (widened(x), widened(dy));
                    for channel in vectors::<S>() {
                        let slope = f.slope(s, load(s, &x, channel));
                        let dy = load(s, &grad, channel);
                        store(s, &mut grad, channel, s.mul(slope, dy));
                    }
                    round(&grad, dx);
                }
            },
        );
    });
}
