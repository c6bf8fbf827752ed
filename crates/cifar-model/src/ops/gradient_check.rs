//! Shared by the tests of all operations: compares a fast operation with its slow counterpart, and
//! its gradient with central finite differences.

use candle_core::{Device, Result, Tensor, Var};
use cifar_data::random::{Purpose, stream};

use crate::FeatureMap;

/// Returns a tensor as a feature map.
pub(super) fn map(tensor: &Tensor) -> Result<FeatureMap> {
    FeatureMap::from_tensor(tensor)
}

/// Returns normal values away from 0, so that a step of finite differences crosses no kink.
pub(super) fn random(dims: &[usize], seed: u64) -> Tensor {
    let mut random = stream(seed, Purpose::Init, 0, 0);
    let values: Vec<f32> =
        (0..dims.iter().product()).map(|_| random.normal()).map(|x| (x + 0.1f64.copysign(x)) as f32).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// Returns values in random order that differ by at least 0.05, so that finite differences change
/// no maximum.
pub(super) fn distinct(dims: &[usize], seed: u64) -> Tensor {
    let count: usize = dims.iter().product();
    let mut values: Vec<f32> = (0..count).map(|i| (i as f32 - count as f32 / 2.0) * 0.05).collect();
    stream(seed, Purpose::Init, 0, 0).shuffle(&mut values);
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// Returns the smallest distance of a value from 0, where ReLU has its kink.
pub(super) fn distance_from_zero(tensor: &Tensor) -> f32 {
    tensor.abs().unwrap().flatten_all().unwrap().min(0).unwrap().to_scalar().unwrap()
}

/// Returns a fixed weighted sum, so that every output affects the differentiated scalar.
fn weighted_sum(output: &Tensor) -> Tensor {
    let weights = random(&[output.elem_count()], 99).reshape(output.shape()).unwrap();
    (output * weights).unwrap().sum_all().unwrap()
}

fn gradients(args: &[Tensor], op: impl Fn(&[Tensor]) -> Result<Tensor>) -> (Tensor, Vec<Tensor>) {
    let vars: Vec<Var> = args.iter().map(|a| Var::from_tensor(a).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let output = op(&tensors).unwrap();
    let grads = weighted_sum(&output).backward().unwrap();
    (output, vars.iter().map(|v| grads.get(v).unwrap().clone()).collect())
}

fn largest(tensor: &Tensor) -> f32 {
    tensor.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// Checks that values agree up to the rounding of `f32` sums in another order.
pub(super) fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (error, size) = (largest(&(found - expected).unwrap()), largest(expected));
    // Both are f32 sums of up to about a hundred products in another order.
    assert!(error <= 2e-5 * size.max(1.0), "{what}: {error} of {size}");
}

/// Checks that values and gradients of `fast` and `slow` agree.
pub(super) fn check_same(
    args: &[Tensor],
    fast: impl Fn(&[Tensor]) -> Result<Tensor>,
    slow: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let (fast, fast_grads) = gradients(args, fast);
    let (slow, slow_grads) = gradients(args, slow);
    assert_close("values", &fast, &slow);
    for (index, (found, expected)) in fast_grads.iter().zip(&slow_grads).enumerate() {
        assert_close(&format!("gradient {index}"), found, expected);
    }
}

/// Checks the gradient of `op` against central finite differences at every element of every
/// argument.
pub(super) fn check_gradient(args: &[Tensor], op: impl Fn(&[Tensor]) -> Result<Tensor>) {
    const STEP: f32 = 1e-2;
    let (_, found) = gradients(args, &op);
    for (index, arg) in args.iter().enumerate() {
        let values = arg.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let found = found[index].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let at = |element: usize, step: f32| -> f64 {
            let mut moved = values.clone();
            moved[element] += step;
            let mut args = args.to_vec();
            args[index] = Tensor::from_vec(moved, arg.shape(), &Device::Cpu).unwrap();
            let output = op(&args).unwrap();
            let weights = random(&[output.elem_count()], 99).to_vec1::<f32>().unwrap();
            let output = output.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            output.iter().zip(&weights).map(|(o, w)| f64::from(*o) * f64::from(*w)).sum()
        };
        let size = found.iter().fold(1f32, |m, g| m.max(g.abs()));
        for (element, gradient) in found.iter().enumerate() {
            let expected = (at(element, STEP) - at(element, -STEP)) / f64::from(2.0 * STEP);
            // f32 rounding of the outputs over the step (1e-7 / 1e-2 a term) and the third
            // derivative times step².
            let error = (f64::from(*gradient) - expected).abs() / f64::from(size);
            assert!(error < 2e-3, "argument {index}, element {element}: {gradient} but differences give {expected}");
        }
    }
}
