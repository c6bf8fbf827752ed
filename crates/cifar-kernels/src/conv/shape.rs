//! The dimensions of a convolution.

use crate::error::{KernelError, Result, product};
use crate::generic::{im2col, winograd};
use crate::{PoolDimensions, PoolShape};

/// The dimensions of a convolution with square filters, as given to [`Conv2dShape::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dDimensions {
    /// Number of images, at least 1.
    pub images: usize,
    /// Rows of an input image, at least 1.
    pub height: usize,
    /// Columns of an input image, at least 1.
    pub width: usize,
    /// Channels of the input, at least 1.
    pub in_channels: usize,
    /// Channels of the output, at least 1.
    pub out_channels: usize,
    /// Rows and columns of a filter: at least 1, and at most those of the padded image.
    pub kernel: usize,
    /// Distance from one window to the next in pixels, at least 1.
    pub stride: usize,
    /// Rows and columns of zeros on each side of an image.
    pub padding: usize,
}

/// Checked dimensions of a convolution.
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
    /// Checks the dimensions.
    ///
    /// # Errors
    /// If a dimension is out of its range, or the number of values or the 32-bit row offsets of the
    /// matrix products overflow.
    pub fn new(dimensions: Conv2dDimensions) -> Result<Self> {
        const OP: &str = "conv2d";
        let wrong = |problem: String| KernelError::Shape { op: OP, problem };
        let Conv2dDimensions { images: batch, height: in_height, width: in_width, .. } = dimensions;
        let Conv2dDimensions { in_channels, out_channels, kernel, stride, padding, .. } = dimensions;
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

    /// Returns the number of rows of the output.
    pub fn out_height(&self) -> usize {
        self.out_height
    }

    /// Returns the number of columns of the output.
    pub fn out_width(&self) -> usize {
        self.out_width
    }

    /// Returns the number of values of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.in_height * self.in_width * self.in_channels
    }

    /// Returns the number of values of the filters.
    pub fn weight_len(&self) -> usize {
        self.window() * self.out_channels
    }

    /// Returns the number of values of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_height * self.out_width * self.out_channels
    }

    /// Returns the floating-point operations of the forward pass, computed as a direct convolution.
    /// A multiply-add counts as two.
    pub fn flops_forward(&self) -> u64 {
        (2 * self.output_len() as u64).saturating_mul(self.window() as u64)
    }

    /// Returns the shape of a 2×2 pooling of the convolution's output.
    ///
    /// # Errors
    /// If the output has only one row or column.
    pub fn pool(&self) -> Result<PoolShape> {
        PoolShape::new(PoolDimensions {
            images: self.batch,
            height: self.out_height,
            width: self.out_width,
            channels: self.out_channels,
            window: 2,
            stride: 2,
        })
    }

    /// Returns the number of input values in one window: kernel² · `in_channels`.
    pub(crate) fn window(&self) -> usize {
        self.kernel * self.kernel * self.in_channels
    }
}
