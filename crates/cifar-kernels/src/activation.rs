//! Activation functions.

use crate::error::{Result, check_len, product};
use crate::generic::{activation, on_arm};
use crate::naive::Real;

/// A function of one value, applied to each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x.
    Identity,
    /// max(x, 0); its derivative at 0 is 0.
    Relu,
    /// x · Φ(x), with the exact normal distribution function Φ (Hendrycks & Gimpel 2016, arXiv 1606.08415).
    Gelu,
    /// x / (1 + e⁻ˣ) (Elfwing et al. 2017, arXiv 1702.03118).
    Silu,
}

impl Activation {
    /// The function's value at `x`.
    #[inline(always)]
    pub(crate) fn value<R: Real>(self, x: R) -> R {
        match self {
            Self::Identity => x,
            Self::Relu => {
                // This way round, a NaN stays one and the loss shows it.
                if x <= R::ZERO { R::ZERO } else { x }
            }
            Self::Gelu => x * x.normal_distribution(),
            Self::Silu => x / (R::ONE + (-x).exponential()),
        }
    }

    /// The function's derivative at `x`.
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

/// output = f(input).
pub fn activation_forward(activation: Activation, input: &[f32], output: &mut [f32]) -> Result<()> {
    const OP: &str = "activation_forward";
    check_len(OP, "output", output, product(OP, &[input.len()])?)?;
    on_arm!(activation::forward, activation, input, output);
    Ok(())
}

/// `input_grad` = `output_grad` · f′(input).
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
    on_arm!(activation::backward, activation, input, output_grad, input_grad);
    Ok(())
}
