//! Checks that a kernel refuses arguments that do not fit.

use std::fmt::Debug;

use cifar_kernels::{Activation, BatchNorm, Result};

pub(crate) fn check<T: Debug>(result: Result<T>, expected: &str) {
    assert_eq!(result.expect_err("this does not fit").to_string(), expected);
}

pub(crate) fn zeros(len: usize) -> Vec<f32> {
    vec![0.0; len]
}

/// Returns the result of `call`, which receives a slice to write. If the call is refused, the slice
/// must be unchanged.
pub(crate) fn kept<T: Copy + PartialEq + Debug + From<u8>>(
    len: usize,
    call: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<()> {
    let before = vec![T::from(7_u8); len];
    let mut slice = before.clone();
    let result = call(&mut slice);
    assert!(result.is_ok() || slice == before, "{result:?}, but the slice was changed");
    result
}

/// Checks that `call` accepts the given lengths and refuses each that is one shorter, one longer or
/// 0.
pub(crate) fn check_lengths<const N: usize>(
    op: &str,
    arguments: [(&str, usize); N],
    call: impl Fn([usize; N]) -> Result<()>,
) {
    let lengths = arguments.map(|(_, len)| len);
    assert_eq!(call(lengths), Ok(()), "{op} refuses valid lengths");
    for (i, (name, expected)) in arguments.into_iter().enumerate() {
        for found in [expected - 1, expected + 1, 0] {
            let mut lengths = lengths;
            lengths[i] = found;
            check(call(lengths), &format!("{op}: `{name}` has {found} elements, expected {expected}"));
        }
    }
}

/// Returns a batch norm of `[rows, channels]` with ReLU.
pub(crate) fn norm<'a>(
    [rows, channels]: [usize; 2],
    input: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    residual: Option<&'a [f32]>,
) -> BatchNorm<'a> {
    BatchNorm { rows, channels, input, scale, shift, residual, activation: Activation::Relu }
}
