//! Fully connected layers.

use candle_core::{Error, Result, Tensor};
use cifar_kernels::{
    Buffer, Conv2dDimensions, Conv2dShape, bias_gradient, linear_forward, linear_input_gradient, linear_weight_gradient,
};

use super::conv::conv2d_of_shape;
use super::{new_parameter_gradient, parameter_gradient, to_bf16, to_f32, with_values};
use crate::FeatureMap;
use crate::feature_map::{Operation, record};

/// Computes `input` `[N, I]` · `weight` `[I, O]`, plus `bias` `[O]` if there is one: `[N, O]`, in
/// `f32`.
///
/// # Errors
/// If the shapes do not fit.
pub fn linear(input: &FeatureMap, weight: &Tensor, bias: Option<&Tensor>) -> Result<FeatureMap> {
    let input = &to_f32(input)?;
    let ([n, i, o], values) = (sizes(input, weight)?, input.values()?);
    let mut output = Buffer::new(n * o);
    let mut forward = |bias: Option<&[f32]>| {
        let out = &mut output;
        with_values(weight, |weight| linear_forward(n, i, o, values, weight, bias, out).map_err(Error::wrap))
    };
    match bias {
        Some(bias) => with_values(bias, |bias| forward(Some(bias)))?,
        None => forward(None)?,
    }
    let parameters: Vec<&Tensor> = std::iter::once(weight).chain(bias).collect();
    record(Linear { input: input.clone(), sizes: [n, i, o] }, output, &[n, o], input, None, &parameters)
}

/// Computes `input` `[N, I]` · `weight` `[I, O]` in bf16: `[N, O]`. Both are rounded, and products
/// are summed in `f32`.
///
/// # Errors
/// If the shapes do not fit.
pub fn linear_bf16(input: &FeatureMap, weight: &Tensor) -> Result<FeatureMap> {
    let [n, i, o] = sizes(input, weight)?;
    // Vectors are images of one pixel.
    let pixels = Conv2dDimensions {
        images: n,
        height: 1,
        width: 1,
        in_channels: i,
        out_channels: o,
        kernel: 1,
        stride: 1,
        padding: 0,
    };
    let shape = Conv2dShape::new(pixels).map_err(Error::wrap)?;
    conv2d_of_shape(&to_bf16(input)?, weight, shape, &[n, o])
}

fn sizes(input: &FeatureMap, weight: &Tensor) -> Result<[usize; 3]> {
    match (input.dims(), weight.dims()) {
        (&[n, i], &[weight_i, o]) if i == weight_i => Ok([n, i, o]),
        (input, weight) => {
            Err(Error::Msg(format!("linear: expected [N, I] and [I, O], found {input:?} and {weight:?}")))
        }
    }
}

struct Linear {
    input: FeatureMap,
    sizes: [usize; 3],
}

impl Operation for Linear {
    const NAME: &'static str = "linear";
    type Number = f32;

    fn backward(self, gradient: Buffer<f32>, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        let [n, i, o] = self.sizes;
        let weight = parameters[0];
        if let Some(mut of_input) = self.input.new_gradient() {
            with_values(weight, |weight| {
                linear_input_gradient(n, i, o, &gradient, weight, &mut of_input).map_err(Error::wrap)
            })?;
            self.input.put_gradient(of_input)?;
        }
        let mut of_weight = new_parameter_gradient(weight);
        if let Some(of_weight) = &mut of_weight {
            linear_weight_gradient(n, i, o, self.input.values()?, &gradient, of_weight).map_err(Error::wrap)?;
        }
        let mut of_bias = parameters.get(1).and_then(|bias| new_parameter_gradient(bias));
        if let Some(of_bias) = &mut of_bias {
            bias_gradient(n, o, &gradient, of_bias).map_err(Error::wrap)?;
        }
        let of_bias = parameters.get(1).map(|bias| parameter_gradient(bias, of_bias)).transpose()?.flatten();
        Ok([parameter_gradient(weight, of_weight)?, of_bias])
    }
}

/// Computes [`linear`] by candle's `matmul` and `broadcast_add`.
pub fn linear_slow(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let product = input.matmul(weight)?;
    bias.map_or(Ok(product.clone()), |bias| product.broadcast_add(bias))
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use cifar_kernels::bf16::Bf16;

    use super::super::gradient_check::{check_gradient, check_same, map, random};
    use super::*;

    #[test]
    fn values_and_gradients_are_right() {
        for [n, i, o] in [[1, 1, 1], [5, 17, 3], [33, 8, 10]] {
            let args = [random(&[n, i], 1), random(&[i, o], 2), random(&[o], 3)];
            for arguments in [&args[..2], &args[..]] {
                let fast = |a: &[Tensor]| linear(&map(&a[0])?, &a[1], a.get(2))?.to_tensor();
                check_same(arguments, fast, |a| linear_slow(&a[0], &a[1], a.get(2)));
                check_gradient(arguments, fast);
            }
        }
    }

    /// The sums are those of rounded numbers. The result and the gradient of the input are then
    /// rounded to 8 bits, which changes them by 2⁻⁸ at most.
    #[test]
    fn products_in_bf16_are_those_of_rounded_numbers() {
        let rounded = |x: &Tensor| {
            let values: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
            let values: Vec<f32> = values.into_iter().map(|x| Bf16::from_f32(x).to_f32()).collect();
            Tensor::from_vec(values, x.dims(), x.device()).unwrap()
        };
        for [n, i, o] in [[1, 1, 1], [5, 17, 3], [33, 40, 35]] {
            let exact = [random(&[n, i], 1), random(&[i, o], 2)];
            let of_product = rounded(&random(&[n, o], 3));
            let run = |[input, weight]: [Tensor; 2], in_bf16: bool| -> [Vec<f32>; 3] {
                let [input, weight] = [input, weight].map(|t| Var::from_tensor(&t).unwrap());
                let product = if in_bf16 {
                    linear_bf16(&map(&input).unwrap(), &weight).unwrap().to_tensor().unwrap()
                } else {
                    linear_slow(&input, &weight, None).unwrap()
                };
                let weighted = (&product * &of_product).unwrap();
                let gradients = weighted.sum_all().unwrap().backward().unwrap();
                let of = |var: &Var| gradients.get(var).unwrap().clone();
                [product, of(&input), of(&weight)].map(|t| t.flatten_all().unwrap().to_vec1().unwrap())
            };
            let expected = run(exact.each_ref().map(rounded), false);
            for ((found, expected), of_result) in
                run(exact, true).iter().zip(&expected).zip([1.0 / 256.0, 1.0 / 256.0, 0.0])
            {
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    // The second term is for sums in another order.
                    let allowed = of_result * expected.abs() + 1e-5;
                    assert!((found - expected).abs() <= allowed, "{n} {i} {o}: {found} and {expected}");
                }
            }
        }
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let input = map(&random(&[2, 3], 1)).unwrap();
        assert!(linear_bf16(&input, &random(&[4, 3], 2)).is_err());
        assert!(linear(&input, &random(&[4, 3], 2), None).is_err());
        assert!(linear(&input, &random(&[3, 4], 2), Some(&random(&[3], 3))).is_err());
    }
}
