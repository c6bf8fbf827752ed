//! Activation functions.

use crate::error::{Result, check_len, product};
use crate::generic::{activation, on_isa};
use crate::naive::Real;

/// A function that is applied to each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x.
    Identity,
    /// max(x, 0); its derivative at 0 is 0.
    Relu,
    /// x · Φ(x) with the exact normal distribution function Φ (Hendrycks & Gimpel 2016, arXiv
    /// 1606.08415).
    Gelu,
    /// x / (1 + e⁻ˣ) (Elfwing et al. 2017, arXiv 1702.03118).
    Silu,
}

impl Activation {
    /// Returns the value of the function at `x`.
    #[inline(always)]
    pub(crate) fn value<R: Real>(self, x: R) -> R {
        match self {
            Self::Identity => x,
            Self::Relu => {
                // In this order, NaN stays NaN and shows in the loss.
                if x <= R::ZERO { R::ZERO } else { x }
            }
            Self::Gelu => x * x.normal_distribution(),
            Self::Silu => x / (R::ONE + (-x).exponential()),
        }
    }

    /// Returns the derivative of the function at `x`.
    #[inline(always)]
    pub(crate) fn derivative<R: Real>(self, x: R) -> R {
        match self {
            Self::Identity => R::ONE,
            Self::Relu => {
                if x > R::ZERO {
                    R::ONE
                } else {
                    R::ZERO
                }
            }
            Self::Gelu => x.normal_distribution() + x * x.normal_density(),
            Self::Silu => {
                let sigmoid = R::ONE / (R::ONE + (-x).exponential());
                sigmoid * (R::ONE + x * (R::ONE - sigmoid))
            }
        }
    }
}

/// Computes output = f(input).
///
/// # Errors
/// If `output` is not as long as `input`, or both are empty.
///
/// ```
/// use cifar_kernels::{Activation, activation_backward, activation_forward};
///
/// let (input, mut output) = ([-2.0, 3.0], [0.0; 2]);
/// activation_forward(Activation::Relu, &input, &mut output)?;
/// assert_eq!(output, [0.0, 3.0]);
///
/// let mut input_grad = [0.0; 2];
/// activation_backward(Activation::Relu, &input, &[1.0, 1.0], &mut input_grad)?;
/// assert_eq!(input_grad, [0.0, 1.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn activation_forward(activation: Activation, input: &[f32], output: &mut [f32]) -> Result<()> {
    const OP: &str = "activation_forward";
    check_len(OP, "output", output, product(OP, &[input.len()])?)?;
    on_isa!(activation::forward, activation, input, output);
    Ok(())
}

/// Computes `input_grad` = `output_grad` · f′(input).
///
/// # Errors
/// If a slice is not as long as `input`, or `input` is empty.
pub fn activation_backward(
    activation: Activation,
    input: &[f32],
    output_grad: &[f32],
    input_grad: &mut [f32],
) -> Result<()> {
    const OP: &str = "activation_backward";
    let len = product(OP, &[input.len()])?;
    check_len(OP, "output_grad", output_grad, len)?;
    check_len(OP, "input_grad", input_grad, len)?;
    on_isa!(activation::backward, activation, input, output_grad, input_grad);
    Ok(())
}
