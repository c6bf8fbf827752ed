//! Two-dimensional convolution:
//! output[n, y, x, o] =
//! Σ input[n, y · stride + i − padding, x · stride + j − padding, c] · weight[i, j, c, o],
//! summed over i, j and c. Pixels outside of the image are 0.

mod shape;

use crate::error::{Result, check_len, product};
use crate::generic::{im2col, on_isa, reduce, winograd};
use crate::pool::check_places;
use crate::{Activation, Buffer, max_pool_backward, max_pool_forward};

pub use shape::{Conv2dDimensions, Conv2dShape};

/// Computes the convolution, plus `bias[o]` if there is a bias.
///
/// `input` is `[images, height, width, in_channels]`, `weight` is
/// `[kernel, kernel, in_channels, out_channels]` and `output` is
/// `[images, out_height, out_width, out_channels]`.
///
/// # Errors
/// If a slice has the wrong length.
///
/// ```
/// use cifar_kernels::{Conv2dDimensions, Conv2dShape, conv2d_forward, conv2d_weight_gradient};
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
/// let (input, mut output) = ([1.0, 2.0, 3.0, 4.0], [0.0; 4]);
/// conv2d_forward(&shape, &input, &[10.0], Some(&[0.5]), &mut output)?;
/// assert_eq!(output, [10.5, 20.5, 30.5, 40.5]);
///
/// let mut weight_grad = [0.0];
/// conv2d_weight_gradient(&shape, &input, &[1.0; 4], &mut weight_grad)?;
/// assert_eq!(weight_grad, [10.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn conv2d_forward(
    shape: &Conv2dShape,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) -> Result<()> {
    const OP: &str = "conv2d_forward";
    check_len(OP, "input", input, shape.input_len())?;
    check_len(OP, "weight", weight, shape.weight_len())?;
    check_len(OP, "output", output, shape.output_len())?;
    if let Some(bias) = bias {
        check_len(OP, "bias", bias, shape.out_channels)?;
    }
    if winograd::is_suited(shape) {
        on_isa!(winograd::forward::forward, shape, input, weight, bias, output, None);
    } else {
        on_isa!(im2col::forward, shape, input, weight, bias, Activation::Identity, output);
    }
    Ok(())
}

/// Computes the gradient of [`conv2d_forward`] with respect to the input, from that of the output.
///
/// # Errors
/// If a slice has the wrong length.
pub fn conv2d_input_gradient(
    shape: &Conv2dShape,
    output_grad: &[f32],
    weight: &[f32],
    input_grad: &mut [f32],
) -> Result<()> {
    const OP: &str = "conv2d_input_gradient";
    check_len(OP, "output_grad", output_grad, shape.output_len())?;
    check_len(OP, "weight", weight, shape.weight_len())?;
    check_len(OP, "input_grad", input_grad, shape.input_len())?;
    if winograd::is_suited(shape) {
        on_isa!(winograd::backward::backward, shape, &[], weight, output_grad, None, Some(input_grad), None);
    } else {
        on_isa!(im2col::input_gradient, shape, output_grad, weight, input_grad);
    }
    Ok(())
}

/// Computes the gradient of [`conv2d_forward`] with respect to the filters, from that of the
/// output.
///
/// # Errors
/// If a slice has the wrong length.
pub fn conv2d_weight_gradient(
    shape: &Conv2dShape,
    input: &[f32],
    output_grad: &[f32],
    weight_grad: &mut [f32],
) -> Result<()> {
    const OP: &str = "conv2d_weight_gradient";
    check_len(OP, "input", input, shape.input_len())?;
    check_len(OP, "output_grad", output_grad, shape.output_len())?;
    check_len(OP, "weight_grad", weight_grad, shape.weight_len())?;
    if winograd::is_suited(shape) {
        on_isa!(winograd::backward::backward, shape, input, &[], output_grad, None, None, Some(weight_grad));
    } else {
        on_isa!(im2col::weight_gradient, shape, input, output_grad, weight_grad);
    }
    Ok(())
}

/// Computes the convolution followed by 2×2 max pooling with stride 2, without storing the output
/// of the convolution.
///
/// `output` and `places` are `[images, out_height / 2, out_width / 2, out_channels]`, rounded down.
/// `places` receives the position of each maximum in its window: 0 to 3, row by row. The first of
/// equal maxima counts, and NaN is larger than any number.
///
/// # Errors
/// If a slice has the wrong length, or the convolution's output has only one row or column.
///
/// ```
/// use cifar_kernels::{Conv2dDimensions, Conv2dShape, conv2d_backward, conv2d_max_pool_forward};
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
/// let (input, weight) = ([1.0, 2.0, 3.0, 4.0], [10.0]);
/// let (mut output, mut places) = ([0.0], [0]);
/// conv2d_max_pool_forward(&shape, &input, &weight, &mut output, &mut places)?;
/// assert_eq!((output, places), ([40.0], [3]));
///
/// let mut weight_grad = [0.0];
/// conv2d_backward(&shape, &input, &weight, &[1.0], Some(&places), None, Some(&mut weight_grad))?;
/// assert_eq!(weight_grad, [4.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn conv2d_max_pool_forward(
    shape: &Conv2dShape,
    input: &[f32],
    weight: &[f32],
    output: &mut [f32],
    places: &mut [u8],
) -> Result<()> {
    const OP: &str = "conv2d_max_pool_forward";
    let pool = shape.pool()?;
    check_len(OP, "input", input, shape.input_len())?;
    check_len(OP, "weight", weight, shape.weight_len())?;
    check_len(OP, "output", output, pool.output_len())?;
    check_len(OP, "places", places, pool.output_len())?;
    if winograd::is_suited(shape) {
        on_isa!(winograd::forward::forward, shape, input, weight, None, output, Some(places));
        return Ok(());
    }
    let mut full = Buffer::new(shape.output_len());
    on_isa!(im2col::forward, shape, input, weight, None, Activation::Identity, &mut full);
    max_pool_forward(&pool, &full, output, places)
}

/// Computes the requested gradients of [`conv2d_forward`], or with `places` those of
/// [`conv2d_max_pool_forward`].
///
/// Both gradients together cost less than one after the other. A gradient that is `None` is not
/// computed.
///
/// # Errors
/// If a slice has the wrong length, or `places` has a number above 3.
pub fn conv2d_backward(
    shape: &Conv2dShape,
    input: &[f32],
    weight: &[f32],
    output_grad: &[f32],
    places: Option<&[u8]>,
    input_grad: Option<&mut [f32]>,
    weight_grad: Option<&mut [f32]>,
) -> Result<()> {
    const OP: &str = "conv2d_backward";
    check_len(OP, "input", input, shape.input_len())?;
    check_len(OP, "weight", weight, shape.weight_len())?;
    match places {
        None => check_len(OP, "output_grad", output_grad, shape.output_len())?,
        Some(places) => {
            check_len(OP, "output_grad", output_grad, shape.pool()?.output_len())?;
            check_places(OP, "places", places, output_grad.len(), 4)?;
        }
    }
    if let Some(input_grad) = &input_grad {
        check_len(OP, "input_grad", input_grad, shape.input_len())?;
    }
    if let Some(weight_grad) = &weight_grad {
        check_len(OP, "weight_grad", weight_grad, shape.weight_len())?;
    }
    if winograd::is_suited(shape) {
        on_isa!(winograd::backward::backward, shape, input, weight, output_grad, places, input_grad, weight_grad);
        return Ok(());
    }
    let unpooled;
    let output_grad = match places {
        None => output_grad,
        Some(places) => {
            let mut full = Buffer::new(shape.output_len());
            max_pool_backward(&shape.pool()?, places, output_grad, &mut full)?;
            unpooled = full;
            &unpooled
        }
    };
    if let Some(input_grad) = input_grad {
        conv2d_input_gradient(shape, output_grad, weight, input_grad)?;
    }
    if let Some(weight_grad) = weight_grad {
        conv2d_weight_gradient(shape, input, output_grad, weight_grad)?;
    }
    Ok(())
}

/// Computes f(convolution + bias) in one pass.
///
/// # Errors
/// If a slice has the wrong length.
///
/// ```
/// use cifar_kernels::{Activation, Conv2dDimensions, Conv2dShape, conv2d_activation_forward};
///
/// let shape = Conv2dShape::new(Conv2dDimensions {
///     images: 1,
///     height: 1,
///     width: 2,
///     in_channels: 1,
///     out_channels: 1,
///     kernel: 1,
///     stride: 1,
///     padding: 0,
/// })?;
/// let mut output = [0.0; 2];
/// conv2d_activation_forward(&shape, &[1.0, 3.0], &[1.0], &[-2.0], Activation::Relu, &mut output)?;
/// assert_eq!(output, [0.0, 1.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn conv2d_activation_forward(
    shape: &Conv2dShape,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
    output: &mut [f32],
) -> Result<()> {
    const OP: &str = "conv2d_activation_forward";
    check_len(OP, "input", input, shape.input_len())?;
    check_len(OP, "weight", weight, shape.weight_len())?;
    check_len(OP, "bias", bias, shape.out_channels)?;
    check_len(OP, "output", output, shape.output_len())?;
    on_isa!(im2col::forward, shape, input, weight, Some(bias), activation, output);
    Ok(())
}

/// Computes the gradient of [`conv2d_activation_forward`] with respect to the bias alone, for
/// filters that are not trained.
///
/// The values before the activation are computed again, which costs less than storing them.
///
/// # Errors
/// If a slice has the wrong length.
pub fn conv2d_activation_bias_gradient(
    shape: &Conv2dShape,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
    output_grad: &[f32],
    bias_grad: &mut [f32],
) -> Result<()> {
    const OP: &str = "conv2d_activation_bias_gradient";
    check_len(OP, "input", input, shape.input_len())?;
    check_len(OP, "weight", weight, shape.weight_len())?;
    check_len(OP, "bias", bias, shape.out_channels)?;
    check_len(OP, "output_grad", output_grad, shape.output_len())?;
    check_len(OP, "bias_grad", bias_grad, shape.out_channels)?;
    on_isa!(im2col::activation_bias_gradient, shape, input, weight, bias, activation, output_grad, bias_grad);
    Ok(())
}

/// Computes the gradient with respect to a bias: the sum over the rows of `output_grad`
/// `[rows, channels]`.
///
/// # Errors
/// If a dimension is 0 or a slice has the wrong length.
///
/// ```
/// let mut bias_grad = [0.0; 2];
/// cifar_kernels::bias_gradient(2, 2, &[1.0, 2.0, 3.0, 4.0], &mut bias_grad)?;
/// assert_eq!(bias_grad, [4.0, 6.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn bias_gradient(rows: usize, channels: usize, output_grad: &[f32], bias_grad: &mut [f32]) -> Result<()> {
    const OP: &str = "bias_gradient";
    check_len(OP, "output_grad", output_grad, product(OP, &[rows, channels])?)?;
    check_len(OP, "bias_grad", bias_grad, channels)?;
    on_isa!(reduce::column_sums, channels, output_grad, bias_grad);
    Ok(())
}
