//! Pooling over square windows without padding; rows and columns that fill no window are left out.

use crate::error::{KernelError, Result, check_len, product};
use crate::generic::{on_arm, pool};

/// The dimensions of a pooling.
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
    /// Checks the dimensions: all at least 1, the window within the image and at most 16 (a place in it fits a `u8`).
    pub fn new(
        batch: usize,
        in_height: usize,
        in_width: usize,
        channels: usize,
        window: usize,
        stride: usize,
    ) -> Result<Self> {
        const OP: &str = "pool";
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
        self.batch * self.in_height * self.in_width * self.channels
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_height * self.out_width * self.channels
    }
}

/// The maximum of each window and its place there (row-major). The first of equal maxima counts; a NaN outdoes all.
pub fn max_pool_forward(shape: &PoolShape, input: &[f32], output: &mut [f32], argmax: &mut [u8]) -> Result<()> {
    const OP: &str = "max_pool_forward";
    check_len(OP, "input", input, shape.input_len())?;
    check_len(OP, "output", output, shape.output_len())?;
    check_len(OP, "argmax", argmax, shape.output_len())?;
    on_arm!(pool::max_forward, shape, input, output, argmax);
    Ok(())
}

/// Gives each output's gradient to the input that was its maximum.
pub fn max_pool_backward(shape: &PoolShape, argmax: &[u8], output_grad: &[f32], input_grad: &mut [f32]) -> Result<()> {
    const OP: &str = "max_pool_backward";
    check_places(OP, "argmax", argmax, shape.output_len(), shape.window * shape.window)?;
    check_len(OP, "output_grad", output_grad, shape.output_len())?;
    check_len(OP, "input_grad", input_grad, shape.input_len())?;
    on_arm!(pool::max_backward, shape, argmax, output_grad, input_grad);
    Ok(())
}

/// The mean of each window.
pub fn average_pool_forward(shape: &PoolShape, input: &[f32], output: &mut [f32]) -> Result<()> {
    const OP: &str = "average_pool_forward";
    check_len(OP, "input", input, shape.input_len())?;
    check_len(OP, "output", output, shape.output_len())?;
    on_arm!(pool::average_forward, shape, input, output);
    Ok(())
}

/// Spreads each output's gradient over its window.
pub fn average_pool_backward(shape: &PoolShape, output_grad: &[f32], input_grad: &mut [f32]) -> Result<()> {
    const OP: &str = "average_pool_backward";
    check_len(OP, "output_grad", output_grad, shape.output_len())?;
    check_len(OP, "input_grad", input_grad, shape.input_len())?;
    on_arm!(pool::average_backward, shape, output_grad, input_grad);
    Ok(())
}

/// Refuses places that are not `len` numbers below `window`.
pub(crate) fn check_places(
    op: &'static str,
    argument: &'static str,
    places: &[u8],
    len: usize,
    window: usize,
) -> Result<()> {
    check_len(op, argument, places, len)?;
    match places.iter().find(|place| usize::from(**place) >= window) {
        None => Ok(()),
        Some(place) => {
            Err(KernelError::Range { op, argument, found: place.to_string(), allowed: "a place in the window" })
        }
    }
}
