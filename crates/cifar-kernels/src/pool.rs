//! Pooling over square windows without padding. Rows and columns that fill no window are ignored.

use rayon::prelude::*;

use crate::error::{KernelError, Result, check_len, product};
use crate::generic::{on_isa, pool};

/// The dimensions of a pooling, as given to [`PoolShape::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolDimensions {
    /// Number of images, at least 1.
    pub images: usize,
    /// Rows of an image, at least 1.
    pub height: usize,
    /// Columns of an image, at least 1.
    pub width: usize,
    /// Channels of an image, at least 1.
    pub channels: usize,
    /// Rows and columns of a window, 1 to 16 and at most those of the image.
    pub window: usize,
    /// Distance from one window to the next in pixels, at least 1.
    pub stride: usize,
}

/// Checked dimensions of a pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolShape {
    pub(crate) batch: usize,
    pub(crate) in_height: usize,
    pub(crate) in_width: usize,
    pub(crate) channels: usize,
    pub(crate) window: usize,
    pub(crate) stride: usize,
    pub(crate) out_height: usize,
    pub(crate) out_width: usize,
}

impl PoolShape {
    /// Checks the dimensions. A window has at most 16 rows, so that a position in it fits a `u8`.
    ///
    /// # Errors
    /// If a dimension is out of its range, or the number of values overflows.
    pub fn new(dimensions: PoolDimensions) -> Result<Self> {
        const OP: &str = "pool";
        let PoolDimensions { images: batch, height: in_height, width: in_width, channels, window, stride } = dimensions;
        product(OP, &[batch, in_height, in_width, channels])?;
        if window == 0 || window > in_height.min(in_width).min(16) || stride == 0 {
            let problem = format!(
                "a window of {window} with stride {stride} does not fit {in_height}×{in_width} pixels (at most 16)"
            );
            return Err(KernelError::Shape { op: OP, problem });
        }
        let out = |size: usize| (size - window) / stride + 1;
        let (out_height, out_width) = (out(in_height), out(in_width));
        Ok(Self { batch, in_height, in_width, channels, window, stride, out_height, out_width })
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
        self.batch * self.in_height * self.in_width * self.channels
    }

    /// Returns the number of values of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_height * self.out_width * self.channels
    }
}

/// Computes the maximum of each window, and its position in the window.
///
/// `input` is `[images, height, width, channels]`; `output` and `argmax` are
/// `[images, out_height, out_width, channels]`. Positions count row by row from 0. The first of
/// equal maxima counts, and NaN is larger than any number.
///
/// # Errors
/// If a slice has the wrong length.
///
/// ```
/// use cifar_kernels::{PoolDimensions, PoolShape, max_pool_backward, max_pool_forward};
///
/// let shape = PoolShape::new(PoolDimensions {
///     images: 1,
///     height: 2,
///     width: 2,
///     channels: 1,
///     window: 2,
///     stride: 2,
/// })?;
/// let (mut output, mut argmax) = ([0.0], [0]);
/// max_pool_forward(&shape, &[1.0, 2.0, 7.0, 4.0], &mut output, &mut argmax)?;
/// assert_eq!((output, argmax), ([7.0], [2]));
///
/// let mut input_grad = [0.0; 4];
/// max_pool_backward(&shape, &argmax, &[0.5], &mut input_grad)?;
/// assert_eq!(input_grad, [0.0, 0.0, 0.5, 0.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn max_pool_forward(shape: &PoolShape, input: &[f32], output: &mut [f32], argmax: &mut [u8]) -> Result<()> {
    const OP: &str = "max_pool_forward";
    check_len(OP, "input", input, shape.input_len())?;
    check_len(OP, "output", output, shape.output_len())?;
    check_len(OP, "argmax", argmax, shape.output_len())?;
    on_isa!(pool::max_forward, shape, input, output, argmax);
    Ok(())
}

/// Computes the gradient of [`max_pool_forward`]: each output's gradient goes to the input that was
/// its maximum.
///
/// # Errors
/// If a slice has the wrong length, or `argmax` has a position outside of the window.
pub fn max_pool_backward(shape: &PoolShape, argmax: &[u8], output_grad: &[f32], input_grad: &mut [f32]) -> Result<()> {
    const OP: &str = "max_pool_backward";
    check_places(OP, "argmax", argmax, shape.output_len(), shape.window * shape.window)?;
    check_len(OP, "output_grad", output_grad, shape.output_len())?;
    check_len(OP, "input_grad", input_grad, shape.input_len())?;
    on_isa!(pool::max_backward, shape, argmax, output_grad, input_grad);
    Ok(())
}

/// Computes the mean of each window.
///
/// # Errors
/// If a slice has the wrong length.
///
/// ```
/// use cifar_kernels::{PoolDimensions, PoolShape, average_pool_backward, average_pool_forward};
///
/// let shape = PoolShape::new(PoolDimensions {
///     images: 1,
///     height: 2,
///     width: 2,
///     channels: 1,
///     window: 2,
///     stride: 2,
/// })?;
/// let mut output = [0.0];
/// average_pool_forward(&shape, &[1.0, 2.0, 7.0, 4.0], &mut output)?;
/// assert_eq!(output, [3.5]);
///
/// let mut input_grad = [0.0; 4];
/// average_pool_backward(&shape, &[1.0], &mut input_grad)?;
/// assert_eq!(input_grad, [0.25; 4]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn average_pool_forward(shape: &PoolShape, input: &[f32], output: &mut [f32]) -> Result<()> {
    const OP: &str = "average_pool_forward";
    check_len(OP, "input", input, shape.input_len())?;
    check_len(OP, "output", output, shape.output_len())?;
    on_isa!(pool::average_forward, shape, input, output);
    Ok(())
}

/// Computes the gradient of [`average_pool_forward`]: each output's gradient is spread over its
/// window.
///
/// # Errors
/// If a slice has the wrong length.
pub fn average_pool_backward(shape: &PoolShape, output_grad: &[f32], input_grad: &mut [f32]) -> Result<()> {
    const OP: &str = "average_pool_backward";
    check_len(OP, "output_grad", output_grad, shape.output_len())?;
    check_len(OP, "input_grad", input_grad, shape.input_len())?;
    on_isa!(pool::average_backward, shape, output_grad, input_grad);
    Ok(())
}

/// Checks that `places` has `len` numbers, all less than `window`.
pub(crate) fn check_places(
    op: &'static str,
    argument: &'static str,
    places: &[u8],
    len: usize,
    window: usize,
) -> Result<()> {
    // Chunks that a core scans in a few microseconds; a maximum is vectorised, a search is not.
    const CHUNK: usize = 1 << 17;
    check_len(op, argument, places, len)?;
    let largest = |places: &[u8]| places.iter().fold(0, |largest: u8, place| largest.max(*place));
    let largest = places.par_chunks(CHUNK).map(largest).max().unwrap_or(0);
    if usize::from(largest) < window {
        return Ok(());
    }
    Err(KernelError::Range {
        op,
        argument,
        found: largest.to_string(),
        allowed: "a position in the window, counted from 0",
    })
}
