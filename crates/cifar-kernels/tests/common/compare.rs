//! Expected results of kernels, and their allowed errors.

use super::kernels::Outputs;
use super::{on_every_isa, widen};

/// Allowed error relative to the sum of the terms' magnitudes. A sum of n products rounds n times
/// by at most 2⁻²⁴ of that sum, or √n times if the errors are random: 2·10⁻⁶ for the longest sum
/// here (1,400 products). A missing or wrong product is 1 / n, which is hundreds of times the
/// tolerance.
pub(crate) const TOLERANCE: f64 = 5e-6;

/// Values, and the allowed error of each.
pub(crate) struct Expected {
    pub(crate) values: Vec<f64>,
    pub(crate) allowed: Vec<f64>,
}

/// A function that is linear in each argument. Its value for absolute values measures the rounding.
pub(crate) fn linear<const N: usize>(arguments: [&[f32]; N], f: impl Fn([&[f64]; N]) -> Vec<f64>) -> Expected {
    let [exact, absolute] = [|v: f64| v, f64::abs].map(|g| arguments.map(|a| widen(a).into_iter().map(g).collect()));
    let apply = |a: &[Vec<f64>; N]| f(std::array::from_fn(|i| &*a[i]));
    let magnitude = apply(&absolute);
    Expected { values: apply(&exact), allowed: magnitude.into_iter().map(|m| TOLERANCE * m).collect() }
}

/// Values with an error of at most `part` of the largest one.
pub(crate) fn of_the_largest(part: f64, values: Vec<f64>) -> Expected {
    let largest = values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    Expected { allowed: vec![part * largest; values.len()], values }
}

/// Values whose terms are about as large as 1 or the largest value.
pub(crate) fn ordinary(values: Vec<f64>) -> Expected {
    let largest = values.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
    Expected { allowed: vec![TOLERANCE * largest; values.len()], values }
}

/// Values without rounding.
pub(crate) fn exactly(values: Vec<f64>) -> Expected {
    Expected { allowed: vec![0.0; values.len()], values }
}

/// The same values rounded to bf16, by at most 2⁻⁸ of themselves.
pub(crate) fn rounded_to_bf16(expected: Expected) -> Expected {
    let Expected { values, allowed } = expected;
    let allowed = values.iter().zip(allowed).map(|(value, error)| error + (value.abs() + error) / 256.0).collect();
    Expected { values, allowed }
}

pub(crate) fn column_sums(channels: usize, values: &[f64]) -> Vec<f64> {
    (0..channels).map(|c| values.iter().skip(c).step_by(channels).sum()).collect()
}

/// Checks that `run` returns `expected` on every ISA.
pub(crate) fn check(dims: &[usize], expected: &[Expected], run: impl Fn() -> Outputs) {
    on_every_isa(|_| compare(dims, expected, run()));
}

pub(crate) fn compare(dims: &[usize], expected: &[Expected], outputs: Outputs) {
    assert_eq!(outputs.len(), expected.len(), "every output has an expected value");
    for ((name, got), Expected { values, allowed }) in outputs.into_iter().zip(expected) {
        assert_eq!(got.len(), values.len(), "{name} {dims:?}");
        for (at, ((got, value), allowed)) in got.into_iter().zip(values).zip(allowed).enumerate() {
            let error = (f64::from(got) - value).abs();
            assert!(error <= *allowed, "{name} {dims:?}: {got} instead of {value} at {at}, ± {allowed:e}");
        }
    }
}
