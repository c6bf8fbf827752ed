//! Two-dimensional convolution: output[n, y, x, o] = Σ input[n, y·stride + i − padding, x·stride + j − padding, c] · weight[i, j, c, o].

use crate::error::{KernelError, Result, check_len, product};
use crate::generic::{im2col, on_arm, reduce, winograd};
use crate::pool::check_places;
use crate::{Activation, Buffer, PoolShape, max_pool_backward, max_pool_forward};

/// The dimensions of a convolution with square filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dShape {
    pub(crate) batch: usize,
    pub(crate) in_height: usize,
    pub(crate) in_width: usize,
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) out_height: usize,
    pub(crate) out_width: usize,
}

impl Conv2dShape {
    /// Checks the dimensions: all at least 1 (but padding), the kernel within the padded image, no overflow,
    /// and blocks of rows within the reach of the matrix products' 32-bit offsets.
    pub fn new(
        batch: usize,
        in_height: usize,
        in_width: usize,
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        const OP: &str = "conv2d";
        let wrong = |problem: String| KernelError::Shape { op: OP, problem };
        product(OP, &[batch, in_height, in_width, in_channels])?;
        product(OP, &[kernel, kernel, in_channels, out_channels])?;
        if stride == 0 {
            return Err(wrong("the stride is 0".into()));
        }
        let out = |size: usize| {
            let padded = padding
                .checked_mul(2)
                .and_then(|p| p.checked_add(size))
                .ok_or_else(|| wrong(format!("padding {padding} is too large")))?;
            let room = padded.checked_sub(kernel).ok_or_else(|| {
                wrong(format!("a kernel of {kernel} does not fit {size} pixels with padding {padding}"))
            })?;
            Ok::<_, KernelError>(room / stride + 1)
        };
        let (out_height, out_width) = (out(in_height)?, out(in_width)?);
        product(OP, &[batch, out_height, out_width, out_channels])?;
        product(OP, &[out_height, out_width, kernel, kernel, in_channels])?;
        let shape = Self {
            batch,
            in_height,
            in_width,
            in_channels,
            out_channels,
            kernel,
            stride,
            padding,
            out_height,
            out_width,
        };
        im2col::check(OP, &shape)?;
        if winograd::is_suited(&shape) {
            winograd::check(OP, &shape)?;
        }
        Ok(shape)
    }

    /// Rows of the output.
    pub fn out_height(&self) -> usize {
        self.out_height
    }

    /// Columns of the output.
    pub fn out_width(&self) -> usize {
        self.out_width
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.in_height * self.in_width * self.in_channels
    }

    /// Elements of the filters.
    pub fn weight_len(&self) -> usize {
        self.window() * self.out_channels
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_height * self.out_width * self.out_channels
    }

    /// Floating-point operations of the forward pass as a direct convolution; a multiply-add counts as two.
    pub fn flops_forward(&self) -> u64 {
        (2 * self.output_len() as u64).saturating_mul(self.window() as u64)
    }

    /// The 2×2 pooling behind the convolution.
    ///
    /// # Errors
    /// If the output has only one row or column.
    pub fn pool(&self) -> Result<PoolShape> {
        PoolShape::new(self.batch, self.out_height, self.out_width, self.out_channels, 2, 2)
    }

    /// Input values under one window: kernel² · `in_channels`.
    pub(crate) fn window(&self) -> usize {
        self.kernel * self.kernel * self.in_channels
    }
}

/// The convolution, plus `bias[o]` where there is one.
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
        on_arm!(winograd::forward::forward, shape, input, weight, bias, output, None);
    } else {
        on_arm!(im2col::forward, shape, input, weight, bias, Activation::Identity, output);
    }
    Ok(())
}

/// The gradient with respect to the input, given that of the output.
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
        on_arm!(winograd::backward::backward, shape, &[], weight, output_grad, None, Some(input_grad), None);
    } else {
        on_arm!(im2col::input_gradient, shape, output_grad, weight, input_grad);
    }
    Ok(())
}

/// The gradient with respect to the filters, given that of the output.
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
        on_arm!(winograd::backward::backward, shape, input, &[], output_grad, None, None, Some(weight_grad));
    } else {
        on_arm!(im2col::weight_gradient, shape, input, output_grad, weight_grad);
    }
    Ok(())
}

/// The convolution followed by the maximum of each 2×2 square: output [N, H'/2, W'/2, O], rounded down, and the place
/// (0..4, row-major) of each maximum in its square. The first of equal maxima counts; a NaN outdoes all.
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
        on_arm!(winograd::forward::forward, shape, input, weight, None, output, Some(places));
        return Ok(());
    }
    let mut full = Buffer::new(shape.output_len());
    on_arm!(im2col::forward, shape, input, weight, None, Activation::Identity, &mut full);
    max_pool_forward(&pool, &full, output, places)
}

/// The gradients of [`conv2d_forward`], or with `places` those of [`conv2d_max_pool_forward`], that are asked for:
/// cheaper together than one after the other.
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
        on_arm!(winograd::backward::backward, shape, input, weight, output_grad, places, input_grad, weight_grad);
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

/// f(convolution + bias), in one pass.
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
    on_arm!(im2col::forward, shape, input, weight, Some(bias), activation, output);
    Ok(())
}

/// The gradient of [`conv2d_activation_forward`] with respect to the bias alone, for filters that are not trained. The
/// values before the activation are computed anew, which is cheaper than keeping them.
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
    on_arm!(im2col::activation_bias_gradient, shape, input, weight, bias, activation, output_grad, bias_grad);
    Ok(())
}

/// The gradient with respect to a bias: the sum over the rows of `output_grad` [rows, channels].
pub fn bias_gradient(rows: usize, channels: usize, output_grad: &[f32], bias_grad: &mut [f32]) -> Result<()> {
    const OP: &str = "bias_gradient";
    check_len(OP, "output_grad", output_grad, product(OP, &[rows, channels])?)?;
    check_len(OP, "bias_grad", bias_grad, channels)?;
    on_arm!(reduce::column_sums, channels, output_grad, bias_grad);
    Ok(())
}
