//! Activation functions on vectors.

use rayon::prelude::*;

use super::reduce::CHUNK;
use crate::Activation;
use crate::isa::Simd;

/// A function and its derivative as a type, so that loops are compiled for each function.
pub(crate) trait Function: Copy + Send + Sync + 'static {
    /// Whether f(x) = x.
    const IS_IDENTITY: bool = false;
    /// Whether f and f′ take only a few instructions and registers.
    const IS_CHEAP: bool = false;
    /// f(x).
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V;
    /// f′(x).
    fn slope<S: Simd>(self, s: S, x: S::V) -> S::V;
}

#[derive(Clone, Copy)]
pub(crate) struct Identity;
#[derive(Clone, Copy)]
pub(crate) struct Relu;
#[derive(Clone, Copy)]
pub(crate) struct Gelu;
#[derive(Clone, Copy)]
pub(crate) struct Silu;

impl Function for Identity {
    const IS_IDENTITY: bool = true;
    const IS_CHEAP: bool = true;
    #[inline(always)]
    fn value<S: Simd>(self, _: S, x: S::V) -> S::V {
        x
    }
    #[inline(always)]
    fn slope<S: Simd>(self, s: S, _: S::V) -> S::V {
        s.splat(1.0)
    }
}

impl Function for Relu {
    const IS_CHEAP: bool = true;
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        // In this order, NaN stays NaN and shows in the loss.
        s.max(s.splat(0.0), x)
    }
    #[inline(always)]
    fn slope<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.where_greater(x, s.splat(0.0), s.splat(1.0), s.splat(0.0))
    }
}

impl Function for Gelu {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.mul(x, normal(s, x).0)
    }
    #[inline(always)]
    fn slope<S: Simd>(self, s: S, x: S::V) -> S::V {
        let (distribution, density) = normal(s, x);
        s.mul_add(x, density, distribution)
    }
}

impl Function for Silu {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.mul(x, sigmoid(s, x))
    }
    #[inline(always)]
    fn slope<S: Simd>(self, s: S, x: S::V) -> S::V {
        let (one, y) = (s.splat(1.0), sigmoid(s, x));
        s.mul(y, s.mul_add(x, s.sub(one, y), one))
    }
}

/// Computes eˣ with an error of at most two units in the last place; x is clamped to −87 … 88.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // In this order, NaN stays NaN.
    let x = s.min(s.splat(88.0), s.max(s.splat(-87.0), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // x − n ln 2, with ln 2 as a sum of two numbers. The first has so few digits that its product
    // with n is exact.
    let r = s.neg_mul_add(n, s.splat(0.693_359_4), x);
    let r = s.neg_mul_add(n, s.splat(-2.121_944_4e-4), r);
    // The polynomial of Cephes' expf for |r| ≤ ln 2 / 2.
    let mut p = s.splat(1.987_569_1e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = s.mul_add(p, r, s.splat(coefficient));
    }
    let p = s.add(s.mul_add(s.mul(p, r), r, r), s.splat(1.0));
    s.mul(p, s.power_of_two(n))
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// Computes Φ(x) and φ(x) of the standard normal distribution.
///
/// Φ uses formula 7.1.26 of Abramowitz & Stegun, Handbook of Mathematical Functions (1964). Its
/// error is at most 1.5e-7, like the rounding of `f32` near 1.
#[inline(always)]
fn normal<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let bell = exp(s, s.mul(s.mul(x, x), s.splat(-0.5)));
    let magnitude = s.max(s.sub(zero, x), x);
    let t = s.div(one, s.mul_add(magnitude, s.splat(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2), one));
    let mut p = s.splat(1.061_405_4);
    for coefficient in [-1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
        p = s.mul_add(p, t, s.splat(coefficient));
    }
    // Φ(−|x|). The formula gives erfc(|x| / √2), which is twice that.
    let tail = s.mul(s.mul(s.mul(p, t), bell), s.splat(0.5));
    let distribution = s.where_greater(zero, x, tail, s.sub(one, tail));
    (distribution, s.mul(bell, s.splat(0.398_942_3)))
}

/// Calls `$call::<S, F>(s, F, …)` with the type F of the activation.
macro_rules! with_function {
    ($activation:expr, $call:ident ( $s:expr, $($argument:expr),* $(,)? )) => {
        match $activation {
            crate::Activation::Identity => $call($s, crate::generic::activation::Identity, $($argument),*),
            crate::Activation::Relu => $call($s, crate::generic::activation::Relu, $($argument),*),
            crate::Activation::Gelu => $call($s, crate::generic::activation::Gelu, $($argument),*),
            crate::Activation::Silu => $call($s, crate::generic::activation::Silu, $($argument),*),
        }
    };
}
pub(crate) use with_function;

pub(crate) fn forward<S: Simd>(s: S, activation: Activation, input: &[f32], output: &mut [f32]) {
    with_function!(activation, forward_with(s, input, output));
}

fn forward_with<S: Simd, F: Function>(s: S, f: F, input: &[f32], output: &mut [f32]) {
    output.par_chunks_mut(CHUNK).zip(input.par_chunks(CHUNK)).for_each(|(output, input)| {
        s.vectorize(
            #[inline(always)]
            || {
                for (y, x) in output.chunks_mut(S::LANES).zip(input.chunks(S::LANES)) {
                    // SAFETY: both chunks have `x.len()` values.
                    unsafe { s.store_first(y.as_mut_ptr(), f.value(s, s.load_first(x.as_ptr(), x.len())), x.len()) };
                }
            },
        );
    });
}

pub(crate) fn backward<S: Simd>(
    s: S,
    activation: Activation,
    input: &[f32],
    output_grad: &[f32],
    input_grad: &mut [f32],
) {
    with_function!(activation, backward_with(s, input, output_grad, input_grad));
}

fn backward_with<S: Simd, F: Function>(s: S, f: F, input: &[f32], output_grad: &[f32], input_grad: &mut [f32]) {
    let chunks = input_grad.par_chunks_mut(CHUNK).zip(input.par_chunks(CHUNK)).zip(output_grad.par_chunks(CHUNK));
    chunks.for_each(|((dx, x), dy)| {
        s.vectorize(
            #[inline(always)]
            || {
                let vectors = dx.chunks_mut(S::LANES).zip(x.chunks(S::LANES)).zip(dy.chunks(S::LANES));
                for ((dx, x), dy) in vectors {
                    let n = x.len();
                    // SAFETY: the three chunks have `n` values each.
                    unsafe {
                        let slope = f.slope(s, s.load_first(x.as_ptr(), n));
                        s.store_first(dx.as_mut_ptr(), s.mul(slope, s.load_first(dy.as_ptr(), n)), n);
                    }
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::exp;
    use crate::Isa;
    use crate::error::Result;
    use crate::generic::on_isa;
    use crate::isa::Simd;

    fn exp_of<S: Simd>(s: S, x: f32) -> f32 {
        let mut lanes = [f32::NAN; 16];
        // SAFETY: no ISA has more than 16 lanes.
        s.vectorize(|| unsafe { s.store(lanes.as_mut_ptr(), exp(s, s.splat(x))) });
        lanes[0]
    }

    fn exp_on_the_isa(x: f32) -> Result<f32> {
        Ok(on_isa!(exp_of, x))
    }

    #[test]
    fn exponentials_are_within_two_ulps() {
        for isa in Isa::available() {
            let check = |x: f32| {
                let (got, expected) = (exp_on_the_isa(x).unwrap(), f64::from(x).exp());
                let rounded = expected as f32;
                let unit = f64::from(rounded.next_up()) - f64::from(rounded);
                assert!((f64::from(got) - expected).abs() <= 2.0 * unit, "{isa}: e^{x} = {got} instead of {expected}");
            };
            crate::with_isa(isa, || {
                (-87 * 512..=88 * 512).for_each(|i| check(i as f32 / 512.0));
                (1..150).for_each(|k| [1.0, -1.0].map(|sign| sign * 2f32.powi(-k)).into_iter().for_each(check));
                [0.0, -0.0].into_iter().for_each(check);
                // The clamped ends are neither 0 nor infinite, so divisions by them are safe.
                for (x, end) in [(-87.5, -87.0), (f32::NEG_INFINITY, -87.0), (88.5, 88.0), (f32::INFINITY, 88.0)] {
                    assert_eq!(exp_on_the_isa(x), exp_on_the_isa(end), "{isa}: e^{x}");
                }
                assert!(exp_on_the_isa(f32::NAN).unwrap().is_nan(), "{isa}");
            })
            .unwrap();
        }
    }
}
