//! GELU for layers in bf16, from polynomials in tables. It takes about half of the instructions of
//! GELU in `f32`, and no division.
//!
//! Φ(−|x|) and the slope of GELU at −|x| are divided into 16 segments. In each, they are the cubic
//! polynomial through four Chebyshev nodes (Trefethen 2013, Approximation Theory and Approximation
//! Practice, chapters 2 and 4). The error is at most 4e-6 of Φ and 2e-5 of the slope. Of Φ(−|x|), it
//! is also at most 1/256 for |x| up to 4.4: one rounding to bf16. Beyond it is at most 2e-8. From −5.81
//! down, both are 0.

use crate::generic::activation::Function;
use crate::isa::Simd;

/// GELU, as [`Activation::Gelu`](crate::Activation::Gelu).
#[derive(Clone, Copy)]
pub(super) struct Gelu;

impl Function for Gelu {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.mul(x, at(s, &DISTRIBUTION, x))
    }
    #[inline(always)]
    fn slope<S: Simd>(self, s: S, x: S::V) -> S::V {
        at(s, &SLOPE, x)
    }
}

/// Calls `$call::<S, F>(s, F, …)` with the type F of the activation in layers in bf16.
macro_rules! with_rounded_function {
    ($activation:expr, $call:ident ( $s:expr, $($argument:expr),* $(,)? )) => {
        match $activation {
            crate::Activation::Gelu => $call($s, crate::bf16::gelu::Gelu, $($argument),*),
            crate::Activation::Identity => $call($s, crate::generic::activation::Identity, $($argument),*),
            crate::Activation::Relu => $call($s, crate::generic::activation::Relu, $($argument),*),
            crate::Activation::Silu => $call($s, crate::generic::activation::Silu, $($argument),*),
        }
    };
}
pub(super) use with_rounded_function;

/// Segments of a table.
const SEGMENTS: usize = 16;
/// |x| per segment.
const STEP: f64 = 0.375;
/// The place of 0, in segments. Places fall while |x| grows. All are below 15.5, so they round to
/// 0 … 15.
const START: f64 = 15.49;

/// The coefficients of the polynomials, the constant ones first.
type Table = [[f32; SEGMENTS]; 4];

static DISTRIBUTION: Table = table(false);
static SLOPE: Table = table(true);

/// Returns `table`'s function at `x`, which is 1 minus its value at −x.
#[inline(always)]
fn at<S: Simd>(s: S, table: &Table, x: S::V) -> S::V {
    let zero = s.splat(0.0);
    let magnitude = s.max(s.sub(zero, x), x);
    // In this order, NaN stays NaN.
    let place = s.max(zero, s.neg_mul_add(magnitude, s.splat((1.0 / STEP) as f32), s.splat(START as f32)));
    let segment = s.round(place);
    let u = s.sub(place, segment);
    let mut value = s.lookup(&table[3], segment);
    for coefficients in [&table[2], &table[1], &table[0]] {
        value = s.mul_add(value, u, s.lookup(coefficients, segment));
    }
    s.where_greater(x, zero, s.sub(s.splat(1.0), value), value)
}

/// Computes the table of Φ(−a), or of the slope of GELU at −a.
const fn table(of_slope: bool) -> Table {
    /// cos(π / 8) / 2 and cos(3π / 8) / 2: with their negatives, the nodes of −½ … ½.
    const OUTER: f64 = 0.461_939_766_255_643_4;
    const INNER: f64 = 0.191_341_716_182_544_9;
    let mut table = [[0.0; SEGMENTS]; 4];
    let mut segment = 0;
    while segment < SEGMENTS {
        let [outer_even, outer_odd] = halves(of_slope, segment, OUTER);
        let [inner_even, inner_odd] = halves(of_slope, segment, INNER);
        let between = OUTER * OUTER - INNER * INNER;
        let (second, third) = ((outer_even - inner_even) / between, (outer_odd - inner_odd) / between);
        // Values far from 0 end at exactly 0, in the middle of the first segment.
        table[0][segment] = if segment == 0 { 0.0 } else { (inner_even - second * INNER * INNER) as f32 };
        table[1][segment] = (inner_odd - third * INNER * INNER) as f32;
        table[2][segment] = second as f32;
        table[3][segment] = third as f32;
        segment += 1;
    }
    table
}

/// Returns (f(u) + f(−u)) / 2 and (f(u) − f(−u)) / 2u, where u = 0 is the middle of a segment.
const fn halves(of_slope: bool, segment: usize, u: f64) -> [f64; 2] {
    let [right, left] =
        [exact(of_slope, (START - segment as f64 - u) * STEP), exact(of_slope, (START - segment as f64 + u) * STEP)];
    [right.midpoint(left), (right - left) / (2.0 * u)]
}

/// Computes Φ(−a), or the slope of GELU at −a, for −1 ≤ a ≤ 6.
const fn exact(of_slope: bool, a: f64) -> f64 {
    /// 1 / √2π.
    const DENSITY_AT_0: f64 = 0.398_942_280_401_432_7;
    // e^(−a²/2) as the 64th power of e^(−a²/128), by Taylor's series.
    let (mut bell, mut term, mut n) = (1.0, 1.0, 1);
    while n < 20 {
        term *= -a * a / (128.0 * n as f64);
        bell += term;
        n += 1;
    }
    let mut doublings = 0;
    while doublings < 6 {
        bell *= bell;
        doublings += 1;
    }
    let density = DENSITY_AT_0 * bell;
    // Φ(a) − ½ = φ(a) · (a + a³ / 3 + a⁵ / (3 · 5) + …), whose terms have the same sign.
    let (mut sum, mut term, mut odd) = (0.0, a, 1);
    while odd < 400 {
        sum += term;
        odd += 2;
        term *= a * a / odd as f64;
    }
    let tail = 0.5 - density * sum;
    if of_slope { tail - a * density } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::generic::on_isa;
    use crate::naive::Real;
    use crate::{Activation, Isa};

    fn value_and_slope<S: Simd>(s: S, x: f32) -> [f32; 2] {
        let mut lanes = [[f32::NAN; 16]; 2];
        let [values, slopes] = &mut lanes;
        s.vectorize(
            #[inline(always)]
            || {
                let x = s.splat(x);
                // SAFETY: no ISA has more than 16 lanes.
                unsafe {
                    s.store(values.as_mut_ptr(), Gelu.value(s, x));
                    s.store(slopes.as_mut_ptr(), Gelu.slope(s, x));
                }
            },
        );
        lanes.map(|lanes| lanes[0])
    }

    fn on_the_isa(x: f32) -> Result<[f32; 2]> {
        Ok(on_isa!(value_and_slope, x))
    }

    fn on_each_isa(check: impl Fn(Isa)) {
        for isa in Isa::available() {
            crate::with_isa(isa, || check(isa)).expect("the ISA is available");
        }
    }

    #[test]
    fn values_and_slopes_have_the_stated_errors() {
        on_each_isa(|isa| {
            for i in -8000..=8000 {
                let x = i as f32 / 1000.0;
                let exact = f64::from(x);
                let [value, slope] = on_the_isa(x).expect("the ISA is available").map(f64::from);
                let distribution = exact.normal_distribution();
                let of_distribution = match exact {
                    // The distance from 1 is rounded to f32.
                    0.0.. => 4e-6 + 6e-8,
                    -4.4..0.0 => 4e-6_f64.min(distribution / 256.0),
                    _ => 2e-8,
                };
                let expected = exact * distribution;
                let allowed = exact.abs() * of_distribution + 1.2e-7 * expected.abs();
                assert!((value - expected).abs() <= allowed, "{isa}, {x}: {value}, not {expected}");
                let expected = Activation::Gelu.derivative(exact);
                assert!((slope - expected).abs() <= 2e-5, "{isa}, slope at {x}: {slope}, not {expected}");
            }
        });
    }

    #[test]
    fn the_ends_are_exact() {
        on_each_isa(|isa| {
            let found = |x: f32| on_the_isa(x).expect("the ISA is available");
            let check = |x: f32, expected: [f32; 2]| {
                assert_eq!(found(x).map(f32::to_bits), expected.map(f32::to_bits), "{isa}: {x}");
            };
            check(0.0, [0.0, found(0.0)[1]]);
            for x in [6.0, 1e30, f32::INFINITY] {
                check(x, [x, 1.0]);
                check(-x.min(1e30), [-0.0, 0.0]);
            }
            // −∞ · 0, as in PyTorch.
            assert!(found(f32::NEG_INFINITY)[0].is_nan(), "{isa}");
            assert!(found(f32::NAN).iter().all(|value| value.is_nan()), "{isa}");
        });
    }
}
