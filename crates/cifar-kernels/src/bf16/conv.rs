//! Convolutions in bf16 and their gradients: the entry points.

use super::blocked::BLOCK;
use super::convolve::{Pass, convolve};
use super::filters::{Direction, packed};
use super::steps::{StepLists, counts};
use super::unit::{Unit, on_unit};
use super::weight_gradient::weight_gradient;
use super::{Bf16, BlockedShape};
use crate::Conv2dShape;
use crate::error::{KernelError, Result, check_len, product};

/// Computes the convolution, as [`conv2d_forward`](crate::conv2d_forward) does, in bf16.
///
/// `input` and `output` have the blocked layouts of [`BlockedShape::of_input`] and
/// [`BlockedShape::of_output`]. `weight` is `[kernel, kernel, in_channels, out_channels]` and is
/// rounded to bf16.
///
/// # Errors
/// If a slice has the wrong length, or as [`uses_amx`](super::uses_amx).
///
/// ```
/// use cifar_kernels::bf16::{self, Bf16, BlockedShape};
/// use cifar_kernels::{Conv2dDimensions, Conv2dShape};
///
/// // A linear layer is a convolution of images of one pixel.
/// let shape = Conv2dShape::new(Conv2dDimensions {
///     images: 2,
///     height: 1,
///     width: 1,
///     in_channels: 1,
///     out_channels: 2,
///     kernel: 1,
///     stride: 1,
///     padding: 0,
/// })?;
/// let (from, to) = (BlockedShape::of_input(&shape)?, BlockedShape::of_output(&shape)?);
/// let (mut input, mut output) = (vec![Bf16::ZERO; from.len()], vec![Bf16::ZERO; to.len()]);
/// bf16::to_blocked(&from, &[2.0, 3.0], &mut input)?;
/// bf16::conv2d_forward(&shape, &input, &[10.0, 1.0], &mut output)?;
///
/// let mut values = [0.0; 4];
/// bf16::from_blocked(&to, &output, &mut values)?;
/// assert_eq!(values, [20.0, 2.0, 30.0, 3.0]);
///
/// let mut weight_grad = [0.0; 2];
/// bf16::conv2d_weight_gradient(&shape, &input, &output, &mut weight_grad)?;
/// assert_eq!(weight_grad, [130.0, 13.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn conv2d_forward(shape: &Conv2dShape, input: &[Bf16], weight: &[f32], output: &mut [Bf16]) -> Result<()> {
    const OP: &str = "bf16::conv2d_forward";
    let [x, y] = blocked(OP, shape)?;
    check_len(OP, "input", input, x.len())?;
    check_len(OP, "weight", weight, shape.weight_len())?;
    check_len(OP, "output", output, y.len())?;
    on_unit!(forward, shape, [x, y], input, weight, output);
    Ok(())
}

/// Computes the gradient of [`conv2d_forward`] with respect to the input, from that of the output.
///
/// # Errors
/// As [`conv2d_forward`].
pub fn conv2d_input_gradient(
    shape: &Conv2dShape,
    output_grad: &[Bf16],
    weight: &[f32],
    input_grad: &mut [Bf16],
) -> Result<()> {
    const OP: &str = "bf16::conv2d_input_gradient";
    let [x, y] = blocked(OP, shape)?;
    check_len(OP, "output_grad", output_grad, y.len())?;
    check_len(OP, "weight", weight, shape.weight_len())?;
    check_len(OP, "input_grad", input_grad, x.len())?;
    on_unit!(input_gradient, shape, [x, y], output_grad, weight, input_grad);
    Ok(())
}

/// Computes the gradient of [`conv2d_forward`] with respect to the filters, from that of the
/// output. The sums and `weight_grad` are in `f32`.
///
/// # Errors
/// As [`conv2d_forward`].
pub fn conv2d_weight_gradient(
    shape: &Conv2dShape,
    input: &[Bf16],
    output_grad: &[Bf16],
    weight_grad: &mut [f32],
) -> Result<()> {
    const OP: &str = "bf16::conv2d_weight_gradient";
    let [x, y] = blocked(OP, shape)?;
    check_len(OP, "input", input, x.len())?;
    check_len(OP, "output_grad", output_grad, y.len())?;
    check_len(OP, "weight_grad", weight_grad, shape.weight_len())?;
    on_unit!(weights, shape, [x, y], input, output_grad, weight_grad);
    Ok(())
}

/// The largest number of taps, and of pixels · taps, whose lists of products take 2 GiB.
const TAPS: usize = 1 << 16;
const STEPS: usize = 1 << 28;

/// Returns the blocked shapes of input and output, if the lists of products have an ordinary size.
fn blocked(op: &'static str, shape: &Conv2dShape) -> Result<[BlockedShape; 2]> {
    let [x, y] = [BlockedShape::of_input(shape)?, BlockedShape::of_output(shape)?];
    let [input, taps, output] = counts(shape);
    product(op, &[x.blocks(), y.blocks(), taps, BLOCK])?;
    if taps > TAPS || input.max(output) > STEPS / taps {
        let problem = format!(
            "{taps} taps and {} pixels are too many: allowed are {TAPS} taps, and {STEPS} pixels · taps",
            input.max(output)
        );
        return Err(KernelError::Shape { op, problem });
    }
    Ok([x, y])
}

pub(super) fn forward<U: Unit>(
    unit: U,
    shape: &Conv2dShape,
    [source, target]: [BlockedShape; 2],
    input: &[Bf16],
    weight: &[f32],
    output: &mut [Bf16],
) {
    let [_, taps, _] = counts(shape);
    let pass = Pass { source, target, taps, steps: &StepLists::by_output_pixel(shape) };
    convolve(unit, &pass, input, &packed(shape, Direction::Forward, weight), output);
}

pub(super) fn input_gradient<U: Unit>(
    unit: U,
    shape: &Conv2dShape,
    [target, source]: [BlockedShape; 2],
    output_grad: &[Bf16],
    weight: &[f32],
    input_grad: &mut [Bf16],
) {
    let [_, taps, _] = counts(shape);
    let pass = Pass { source, target, taps, steps: &StepLists::by_input_pixel(shape) };
    convolve(unit, &pass, output_grad, &packed(shape, Direction::Backward, weight), input_grad);
}

pub(super) fn weights<U: Unit>(
    unit: U,
    shape: &Conv2dShape,
    shapes: [BlockedShape; 2],
    input: &[Bf16],
    output_grad: &[Bf16],
    weight_grad: &mut [f32],
) {
    let [_, taps, _] = counts(shape);
    weight_gradient(unit, shapes, taps, &StepLists::by_tap(shape), input, output_grad, weight_grad);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::product::PortableUnit;
    use crate::{Conv2dDimensions, Isa};

    /// Images, height, width, input channels, output channels, kernel, stride, padding.
    const SHAPES: &[[usize; 8]] = &[
        [1, 1, 1, 1, 1, 1, 1, 0],
        [1, 2, 2, 3, 24, 3, 1, 1],
        [33, 3, 3, 31, 33, 3, 1, 1],
        [65, 1, 1, 65, 10, 1, 1, 0], // three groups of images, in three partial sums
        [32, 5, 7, 33, 32, 3, 2, 1],
        [2, 7, 7, 24, 65, 1, 2, 0],
        [3, 4, 5, 3, 3, 2, 2, 0],
        [1, 2, 3, 5, 7, 3, 1, 3],    // windows without a pixel
        [1, 17, 16, 3, 3, 3, 1, 1],  // more than one band in both directions
        [290, 2, 1, 8, 33, 3, 1, 1], // ten groups of images in four partial sums, the last one short
    ];

    fn values(seed: u64, len: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    fn blocked_values(shape: &BlockedShape, seed: u64) -> Vec<Bf16> {
        let mut blocked = vec![Bf16::NAN; shape.len()];
        let images = values(seed, shape.images * shape.pixels * shape.channels);
        crate::bf16::to_blocked(shape, &images, &mut blocked).expect("the lengths fit");
        blocked
    }

    /// The bits of output, input gradient and weight gradient.
    fn results<U: Unit>(unit: U, dims: [usize; 8]) -> (Vec<Bf16>, Vec<Bf16>, Vec<u32>) {
        let [images, height, width, in_channels, out_channels, kernel, stride, padding] = dims;
        let dims = Conv2dDimensions { images, height, width, in_channels, out_channels, kernel, stride, padding };
        let shape = Conv2dShape::new(dims).expect("a valid shape");
        let [x, y] = blocked("test", &shape).expect("a valid shape");
        let (input, output_grad) = (blocked_values(&x, 1), blocked_values(&y, 2));
        let weight = values(3, shape.weight_len());
        let (mut output, mut input_grad) = (vec![Bf16::NAN; y.len()], vec![Bf16::NAN; x.len()]);
        let mut weight_grad = vec![f32::NAN; weight.len()];
        forward(unit, &shape, [x, y], &input, &weight, &mut output);
        input_gradient(unit, &shape, [x, y], &output_grad, &weight, &mut input_grad);
        weights(unit, &shape, [x, y], &input, &output_grad, &mut weight_grad);
        (output, input_grad, weight_grad.into_iter().map(f32::to_bits).collect())
    }

    fn check(unit: impl Unit, dims: [usize; 8], threads: &[usize], expected: &(Vec<Bf16>, Vec<Bf16>, Vec<u32>)) {
        for threads in threads {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(*threads).build().expect("a pool starts");
            let isa = unit.isa();
            assert!(pool.install(|| results(unit, dims)) == *expected, "{dims:?}, {threads} threads, {isa}");
        }
    }

    /// Runs the same passes, with the same addresses, on all implementations. Without AMX its
    /// instructions are emulated one by one, which takes microseconds each.
    #[test]
    fn every_implementation_returns_the_same_bits_on_any_number_of_threads() {
        for dims in SHAPES {
            let expected = results(PortableUnit(Isa::Portable), *dims);
            for isa in Isa::available() {
                check(PortableUnit(isa), *dims, &[3], &expected);
            }
            #[cfg(target_arch = "x86_64")]
            if let Some(unit) = crate::bf16::product::Avx512Unit::new() {
                check(unit, *dims, &[1, 2, 3, 8], &expected);
            }
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            check(crate::bf16::product::trap::amx(), *dims, &[1, 8], &expected);
        }
    }
}
