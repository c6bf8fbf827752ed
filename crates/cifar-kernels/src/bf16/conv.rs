//! Convolutions in bf16, alone or with 2×2 max pooling, and their gradients: the entry points.

use super::blocked::BLOCK;
use super::output_grad::{MaximaGrad, OutputGrad};
use super::passes::{forward, forward_max_pool, input_gradient};
use super::pool::blocked_shapes;
use super::steps::counts;
use super::unit::on_unit;
use super::weight_gradient::weight_gradient;
use super::{Bf16, BlockedShape};
use crate::Conv2dShape;
use crate::error::{KernelError, Result, check_len, product};
use crate::pool::check_places;

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
    on_unit!(input_gradient, shape, [x, y], OutputGrad::Whole(output_grad), weight, input_grad);
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
    on_unit!(weight_gradient, shape, [x, y], input, OutputGrad::Whole(output_grad), weight_grad);
    Ok(())
}

/// Computes the convolution followed by 2×2 max pooling with stride 2, without storing the output
/// of the convolution.
///
/// This is [`conv2d_max_pool_forward`](crate::conv2d_max_pool_forward) with all slices but `weight`
/// blocked. It returns the bits of [`conv2d_forward`] followed by
/// [`max_pool_forward`](super::max_pool_forward).
///
/// # Errors
/// As [`conv2d_forward`], and if the convolution's output has only one row or column.
///
/// ```
/// use cifar_kernels::bf16::{self, Bf16, BlockedShape};
/// use cifar_kernels::{Conv2dDimensions, Conv2dShape};
///
/// let shape = Conv2dShape::new(Conv2dDimensions {
///     images: 1,
///     height: 2,
///     width: 2,
///     in_channels: 1,
///     out_channels: 1,
///     kernel: 1,
///     stride: 1,
///     padding: 0,
/// })?;
/// let from = BlockedShape::of_input(&shape)?;
/// let mut input = vec![Bf16::ZERO; from.len()];
/// bf16::to_blocked(&from, &[1.0, 2.0, 3.0, 4.0], &mut input)?;
/// let (mut output, mut places) = (vec![Bf16::ZERO; 1024], vec![0; 1024]);
/// bf16::conv2d_max_pool_forward(&shape, &input, &[10.0], &mut output, &mut places)?;
/// assert_eq!((output[0].to_f32(), places[0]), (40.0, 3));
///
/// let mut weight_grad = [0.0];
/// let (weight, places, of_weight) = ([10.0], Some(&*places), Some(&mut weight_grad[..]));
/// bf16::conv2d_backward(&shape, &input, &weight, &output, places, None, of_weight)?;
/// assert_eq!(weight_grad, [160.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn conv2d_max_pool_forward(
    shape: &Conv2dShape,
    input: &[Bf16],
    weight: &[f32],
    output: &mut [Bf16],
    places: &mut [u8],
) -> Result<()> {
    const OP: &str = "bf16::conv2d_max_pool_forward";
    let pool = shape.pool()?;
    let ([x, y], [_, maxima]) = (blocked(OP, shape)?, blocked_shapes(&pool)?);
    check_len(OP, "input", input, x.len())?;
    check_len(OP, "weight", weight, shape.weight_len())?;
    check_len(OP, "output", output, maxima.len())?;
    check_len(OP, "places", places, maxima.len())?;
    on_unit!(forward_max_pool, shape, [x, y], &pool, input, weight, output, places);
    Ok(())
}

/// Computes the requested gradients of [`conv2d_forward`], or with `places` those of
/// [`conv2d_max_pool_forward`].
///
/// This is [`conv2d_backward`](crate::conv2d_backward) with all slices but `weight` and
/// `weight_grad` blocked. A gradient that is `None` is not computed.
///
/// # Errors
/// As [`conv2d_forward`]. With `places`, also if the convolution's output has only one row or
/// column, or `places` has a number above 3.
pub fn conv2d_backward(
    shape: &Conv2dShape,
    input: &[Bf16],
    weight: &[f32],
    output_grad: &[Bf16],
    places: Option<&[u8]>,
    input_grad: Option<&mut [Bf16]>,
    weight_grad: Option<&mut [f32]>,
) -> Result<()> {
    const OP: &str = "bf16::conv2d_backward";
    let [x, y] = blocked(OP, shape)?;
    check_len(OP, "input", input, x.len())?;
    check_len(OP, "weight", weight, shape.weight_len())?;
    let output_grad = match places {
        None => {
            check_len(OP, "output_grad", output_grad, y.len())?;
            OutputGrad::Whole(output_grad)
        }
        Some(places) => {
            let pool = shape.pool()?;
            let [_, maxima] = blocked_shapes(&pool)?;
            check_len(OP, "output_grad", output_grad, maxima.len())?;
            check_places(OP, "places", places, maxima.len(), 4)?;
            OutputGrad::OfMaxima(MaximaGrad { pool, values: output_grad, places })
        }
    };
    if let Some(input_grad) = &input_grad {
        check_len(OP, "input_grad", input_grad, x.len())?;
    }
    if let Some(weight_grad) = &weight_grad {
        check_len(OP, "weight_grad", weight_grad, shape.weight_len())?;
    }
    if let Some(weight_grad) = weight_grad {
        on_unit!(weight_gradient, shape, [x, y], input, output_grad, weight_grad);
    }
    if let Some(input_grad) = input_grad {
        on_unit!(input_gradient, shape, [x, y], output_grad, weight, input_grad);
    }
    Ok(())
}

/// The largest number of taps, and of pixels · taps. The lists of their products take 5 GiB at most.
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
