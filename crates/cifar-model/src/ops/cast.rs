//! Conversions between `f32` and bf16.

use candle_core::{Error, Result, Tensor};
use cifar_kernels::Buffer;
use cifar_kernels::bf16::{Bf16, from_blocked, to_blocked};

use crate::FeatureMap;
use crate::feature_map::{Operation, record};

/// Rounds the values to bf16. A map in bf16 is returned as it is.
///
/// # Errors
/// If a dimension is 0.
pub fn to_bf16(input: &FeatureMap) -> Result<FeatureMap> {
    if input.is_bf16() {
        return Ok(input.clone());
    }
    let shape = input.blocked_shape()?;
    let mut output = Buffer::new(shape.len());
    to_blocked(&shape, input.values()?, &mut output).map_err(Error::wrap)?;
    record(ToBf16(input.without_values()), output, input.dims(), input, None, &[])
}

/// Converts the values to `f32`. A map in `f32` is returned as it is.
///
/// # Errors
/// If a kernel fails.
pub fn to_f32(input: &FeatureMap) -> Result<FeatureMap> {
    if !input.is_bf16() {
        return Ok(input.clone());
    }
    let shape = input.blocked_shape()?;
    let mut output = Buffer::new(shape.nhwc_len());
    from_blocked(&shape, input.blocked()?, &mut output).map_err(Error::wrap)?;
    record(ToF32(input.without_values()), output, input.dims(), input, None, &[])
}

struct ToBf16(FeatureMap);

impl Operation for ToBf16 {
    const NAME: &'static str = "to-bf16";
    type Number = Bf16;

    fn backward(self, gradient: Buffer<Bf16>, _: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        if let Some(mut of_input) = self.0.new_gradient() {
            from_blocked(&self.0.blocked_shape()?, &gradient, &mut of_input).map_err(Error::wrap)?;
            self.0.put_gradient(of_input)?;
        }
        Ok([None, None])
    }
}

struct ToF32(FeatureMap);

impl Operation for ToF32 {
    const NAME: &'static str = "to-f32";
    type Number = f32;

    fn backward(self, gradient: Buffer<f32>, _: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        if let Some(mut of_input) = self.0.new_gradient() {
            to_blocked(&self.0.blocked_shape()?, &gradient, &mut of_input).map_err(Error::wrap)?;
            self.0.put_gradient(of_input)?;
        }
        Ok([None, None])
    }
}
