//! The operations on numbers that the plain loops need.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// `f32` or `f64`.
#[expect(clippy::return_self_not_must_use, reason = "the methods of numbers")]
pub trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Returns the value nearest to `x`.
    fn from_f64(x: f64) -> Self;
    /// eˣ.
    fn exponential(self) -> Self;
    /// ln x.
    fn logarithm(self) -> Self;
    /// √x.
    fn square_root(self) -> Self;
    /// Φ(x): the probability that a standard normal variable is below x.
    fn normal_distribution(self) -> Self;

    /// φ(x), the density of the standard normal.
    fn normal_density(self) -> Self {
        Self::from_f64(0.398_942_280_401_432_7) * (Self::from_f64(-0.5) * self * self).exponential()
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    fn exponential(self) -> Self {
        libm::expf(self)
    }
    fn logarithm(self) -> Self {
        libm::logf(self)
    }
    fn square_root(self) -> Self {
        self.sqrt()
    }
    fn normal_distribution(self) -> Self {
        0.5 * libm::erfcf(-self * std::f32::consts::FRAC_1_SQRT_2)
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    fn from_f64(x: f64) -> Self {
        x
    }
    fn exponential(self) -> Self {
        libm::exp(self)
    }
    fn logarithm(self) -> Self {
        libm::log(self)
    }
    fn square_root(self) -> Self {
        self.sqrt()
    }
    fn normal_distribution(self) -> Self {
        0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2)
    }
}
