//! The backward pass without candle's copies of the gradients of parameters.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};

thread_local! {
    /// The gradients of variables that [`gradients`] collects, while it runs on this thread.
    static COLLECTED: RefCell<Option<Vec<(Tensor, Tensor)>>> = const { RefCell::new(None) };
}

/// Computes the gradients of `loss` with respect to all variables: the same as `loss.backward()`,
/// in less time.
///
/// candle adds every gradient to a new tensor of zeros. The gradients of variables that are
/// parameters of [`ops`](crate::ops) are moved to the result instead. Only the sign of a gradient
/// of zero can differ.
///
/// # Errors
/// As candle's `backward`. Also if the backward pass of this graph has already run.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use cifar_model::{FeatureMap, gradients, ops};
///
/// let features = FeatureMap::from_tensor(&Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?)?;
/// let weight = Var::from_tensor(&Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu)?)?;
/// let loss = ops::linear(&features, &weight, None)?.to_tensor()?.sum_all()?;
/// let of_weight = gradients(&loss)?.remove(&weight).unwrap();
/// assert_eq!(of_weight.to_vec2::<f32>()?, [[1.0; 3], [2.0; 3]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn gradients(loss: &Tensor) -> Result<GradStore> {
    let collecting = Collecting::start();
    let mut gradients = loss.backward()?;
    for (variable, gradient) in collecting.finish() {
        let sum = match gradients.remove(&variable) {
            None => gradient,
            Some(others) => (others + gradient)?,
        };
        gradients.insert(&variable, sum);
    }
    Ok(gradients)
}

/// Returns the gradient of a parameter for candle, or keeps it for the [`gradients`] that runs.
pub(crate) fn deliver(parameter: &Tensor, gradient: Option<Tensor>) -> Option<Tensor> {
    // candle needs the gradient of a parameter that was itself computed from variables.
    if !parameter.is_variable() {
        return gradient;
    }
    let gradient = gradient?;
    COLLECTED.with_borrow_mut(|collected| match collected {
        None => Some(gradient),
        Some(collected) => {
            collected.push((parameter.clone(), gradient));
            None
        }
    })
}

/// Collects gradients on this thread until it is dropped, also after an error.
///
/// While a kernel waits for other threads, rayon may start the backward pass of another network on
/// this thread. It ends before the outer one continues.
struct Collecting {
    outer: Option<Vec<(Tensor, Tensor)>>,
}

impl Collecting {
    fn start() -> Self {
        Self { outer: COLLECTED.replace(Some(Vec::new())) }
    }

    fn finish(self) -> Vec<(Tensor, Tensor)> {
        let collected = COLLECTED.take().unwrap_or_default();
        drop(self);
        collected
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        COLLECTED.set(self.outer.take());
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::{FeatureMap, ops};

    /// A loss in which `weight` is used twice as a variable and once in a computed parameter, and
    /// the variables.
    fn loss() -> (Tensor, [Var; 2]) {
        let draw = |shape: &[usize], first: usize| {
            let count = shape.iter().product::<usize>();
            let values: Vec<f32> = (first..first + count).map(|i| (i * 7 % 11) as f32 / 4.0 - 1.1).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let weight = Var::from_tensor(&draw(&[3, 3], 1)).unwrap();
        let bias = Var::from_tensor(&draw(&[3], 2)).unwrap();
        let doubled = (weight.as_tensor() * 2.0).unwrap();
        let mut map = FeatureMap::from_tensor(&draw(&[4, 3], 3)).unwrap();
        for weight in [weight.as_tensor(), weight.as_tensor(), &doubled] {
            map = ops::linear(&map, weight, Some(&bias)).unwrap();
        }
        // candle's own operations use the variable too.
        let squares = weight.as_tensor().sqr().unwrap().sum_all().unwrap();
        ((map.to_tensor().unwrap().sum_all().unwrap() + squares).unwrap(), [weight, bias])
    }

    #[test]
    fn gradients_are_those_of_candle() {
        // A graph has one backward pass, so there are two graphs.
        let ((first, of_first), (second, of_second)) = (loss(), loss());
        let (expected, found) = (first.backward().unwrap(), gradients(&second).unwrap());
        for (in_first, in_second) in of_first.iter().zip(&of_second) {
            let values = |store: &GradStore, variable: &Var| -> Vec<f32> {
                store.get(variable).unwrap().flatten_all().unwrap().to_vec1().unwrap()
            };
            let (expected, found) = (values(&expected, in_first), values(&found, in_second));
            assert!(expected.iter().all(|value| *value != 0.0));
            for (expected, found) in expected.iter().zip(&found) {
                assert!((expected - found).abs() <= 1e-5 * expected.abs(), "{expected} and {found}");
            }
        }
    }

    #[test]
    fn a_nested_pass_leaves_the_outer_one_its_gradients() {
        let outer = Collecting::start();
        let (inner, [weight, _]) = loss();
        assert!(gradients(&inner).unwrap().get(&weight).is_some());
        let (other, _) = loss();
        other.backward().unwrap();
        assert!(!outer.finish().is_empty());
    }

    #[test]
    fn collecting_ends_with_an_error() {
        // The loss bypasses `to_tensor`, so no gradient arrives.
        let map = FeatureMap::from_tensor(&Var::zeros((1, 2), candle_core::DType::F32, &Device::Cpu).unwrap()).unwrap();
        let weight = Var::ones((2, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        let output = ops::linear(&map, &weight, None).unwrap();
        let broken = output.node().sum_all().unwrap();
        assert!(gradients(&broken).is_err());
        let loss = ops::linear(&map, &weight, None).unwrap().to_tensor().unwrap().sum_all().unwrap();
        assert!(loss.backward().unwrap().get(&weight).is_some());
    }
}
