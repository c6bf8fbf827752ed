//! Fully connected layers.

use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape, Tensor};
use cifar_kernels::{linear_forward, linear_input_gradient, linear_weight_gradient};

use super::{filled_like, values, with_values};

/// `input` [N, I] times `weight` [I, O]: [N, O]. A bias is added with `broadcast_add`.
///
/// # Errors
/// If the shapes do not fit or an argument is not contiguous.
pub fn linear(input: &Tensor, weight: &Tensor) -> Result<Tensor> {
    input.apply_op2(weight, Linear)
}

struct Linear;

fn sizes(input: &[usize], weight: &[usize]) -> Result<[usize; 3]> {
    match (input, weight) {
        (&[n, i], &[weight_i, o]) if i == weight_i => Ok([n, i, o]),
        _ => Err(Error::Msg(format!("linear: expected [N, I] and [I, O], found {input:?} and {weight:?}"))),
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let [n, i, o] = sizes(l1.dims(), l2.dims())?;
        let mut output = vec![0.0; n * o];
        linear_forward(n, i, o, values(s1, l1)?, values(s2, l2)?, None, &mut output).map_err(Error::wrap)?;
        Ok((CpuStorage::F32(output), (n, o).into()))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [n, i, o] = sizes(input.dims(), weight.dims())?;
        with_values(grad, |grad| {
            let of_input = || {
                with_values(weight, |weight| {
                    filled_like(input, |out| linear_input_gradient(n, i, o, grad, weight, out))
                })
            };
            let of_weight = || {
                with_values(input, |input| filled_like(weight, |out| linear_weight_gradient(n, i, o, input, grad, out)))
            };
            Ok((input.track_op().then(of_input).transpose()?, weight.track_op().then(of_weight).transpose()?))
        })
    }
}

/// The same by candle's `matmul`.
pub fn linear_slow(input: &Tensor, weight: &Tensor) -> Result<Tensor> {
    input.matmul(weight)
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{check_gradient, check_same, random};
    use super::*;

    #[test]
    fn values_and_gradients_are_right() {
        for [n, i, o] in [[1, 1, 1], [5, 17, 3], [33, 8, 10]] {
            let args = [random(&[n, i], 1), random(&[i, o], 2)];
            check_same(&args, |a| linear(&a[0], &a[1]), |a| linear_slow(&a[0], &a[1]));
            check_gradient(&args, |a| linear(&a[0], &a[1]));
        }
    }

    #[test]
    fn wrong_shapes_are_refused() {
        assert!(linear(&random(&[2, 3], 1), &random(&[4, 3], 2)).is_err());
    }
}
