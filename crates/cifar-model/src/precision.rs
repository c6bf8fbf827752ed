//! The precision of products.

use cifar_kernels::bf16::uses_amx;
use serde::{Deserialize, Serialize};

/// The precision in which layers compute.
///
/// `bf16` is mixed precision as in PyTorch's autocast: weights, optimisers, statistics, logits and
/// losses stay in `f32`. Convolutions of images with at least [`Precision::LEAST_CHANNELS`]
/// channels round these images and their filters to bf16 and sum products in `f32`. So do linear
/// layers without a bias, other than the last one. Activations, and their gradients, are stored in
/// bf16. First layers on pixels round their results, which they compute in `f32`. Pooling of whole
/// images and logits are in `f32`.
///
/// bf16 is meant for processors with AMX. Others emulate AMX, with the same products and order of
/// additions, in more time than `f32` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// Mixed precision with bf16.
    Bf16,
    /// `Bf16` if AMX can be used: the processor has it, the ISA is AVX-512, the operating system
    /// permits it and its results are right. Otherwise `F32`.
    Auto,
}

impl Precision {
    /// The fewest input channels of a convolution that is computed in bf16.
    pub const LEAST_CHANNELS: usize = 8;

    /// Returns the precision that this processor computes in: `F32` or `Bf16`.
    ///
    /// ```
    /// use cifar_model::Precision;
    ///
    /// assert_eq!(Precision::Bf16.resolved(), Precision::Bf16);
    /// assert_ne!(Precision::Auto.resolved(), Precision::Auto);
    /// ```
    #[must_use]
    pub fn resolved(self) -> Self {
        match self {
            Self::Auto if uses_amx() == Ok(true) => Self::Bf16,
            Self::Auto => Self::F32,
            chosen => chosen,
        }
    }

    /// Returns what determines the bits of results in this precision: the numeric target of the
    /// kernels, and bf16 if it is used, such as `avx512, x86_64-linux, bf16`.
    ///
    /// # Errors
    /// As [`cifar_kernels::numeric_target`]. In bf16 also as [`cifar_kernels::bf16::uses_amx`].
    pub fn numeric_target(self) -> cifar_kernels::Result<String> {
        let target = cifar_kernels::numeric_target()?;
        match self.resolved() {
            Self::Bf16 => uses_amx().map(|_| format!("{target}, bf16")),
            _ => Ok(target),
        }
    }

    /// Returns the name that parameters have, such as `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Auto => "auto",
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::F32, Self::Bf16, Self::Auto]
            .into_iter()
            .find(|precision| precision.name() == name)
            .ok_or_else(|| "allowed is f32, bf16 or auto".to_string())
    }
}
