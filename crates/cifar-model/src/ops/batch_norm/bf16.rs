//! Batch normalisation of maps in bf16: statistics, parameters and sums are in `f32`.

use candle_core::{Error, Result, Tensor};
use cifar_kernels::bf16::{self, Bf16};
use cifar_kernels::{Activation, BatchStatistics, Buffer};

use super::super::{parameter_gradient, to_bf16, with_both};
use super::{BatchNormArgs, scale_or_ones};
use crate::FeatureMap;
use crate::feature_map::{Operation, record};

/// Computes [`batch_norm_train`](super::batch_norm_train).
pub(super) fn train(args: &BatchNormArgs) -> Result<(FeatureMap, BatchStatistics)> {
    let BatchNormArgs { input, scale, shift, residual, epsilon, activation } = *args;
    let residual = residual.map(to_bf16).transpose()?;
    let scale = scale_or_ones(scale, channels(input)?)?;
    let mut output = Buffer::new(input.blocked()?.len());
    let op = BatchNormBf16 { input: input.clone(), residual, statistics: None, activation };
    let statistics = op.with_layer(&scale, shift, |layer| bf16::batch_norm_forward(layer, epsilon, &mut output))?;
    let op = BatchNormBf16 { statistics: Some(statistics.clone()), ..op };
    let residual = op.residual.clone();
    Ok((record(op, output, input.dims(), input, residual.as_ref(), &[&scale, shift])?, statistics))
}

/// Computes [`batch_norm_evaluate`](super::batch_norm_evaluate).
pub(super) fn evaluate(args: &BatchNormArgs, running_mean: &Tensor, running_variance: &Tensor) -> Result<FeatureMap> {
    let BatchNormArgs { input, scale, shift, residual, epsilon, activation } = *args;
    let residual = residual.map(to_bf16).transpose()?;
    let scale = scale_or_ones(scale, channels(input)?)?;
    let mut output = Buffer::new(input.blocked()?.len());
    let op = BatchNormBf16 { input: input.clone(), residual, statistics: None, activation };
    let (mean, variance) = (running_mean.to_vec1::<f32>()?, running_variance.to_vec1::<f32>()?);
    op.with_layer(&scale, shift, |layer| bf16::batch_norm_evaluate(layer, &mean, &variance, epsilon, &mut output))?;
    Ok(FeatureMap::of(output, input.dims())?.with_precision(input.precision()))
}

fn channels(input: &FeatureMap) -> Result<usize> {
    input.dims().last().copied().ok_or_else(|| Error::Msg("batch_norm: expected [.., C], found no dimension".into()))
}

struct BatchNormBf16 {
    input: FeatureMap,
    residual: Option<FeatureMap>,
    /// Those of the forward pass; none before it.
    statistics: Option<BatchStatistics>,
    activation: Activation,
}

impl BatchNormBf16 {
    /// Calls a kernel with the layer.
    fn with_layer<R>(
        &self,
        scale: &Tensor,
        shift: &Tensor,
        call: impl FnOnce(&bf16::BatchNorm) -> cifar_kernels::Result<R>,
    ) -> Result<R> {
        let (shape, input) = (self.input.blocked_shape()?, self.input.blocked()?);
        let residual = self.residual.as_ref().map(FeatureMap::blocked).transpose()?;
        with_both(scale, shift, |scale, shift| {
            call(&bf16::BatchNorm { shape, input, scale, shift, residual, activation: self.activation })
        })
    }
}

impl Operation for BatchNormBf16 {
    const NAME: &'static str = "batch-norm-bf16";
    type Number = Bf16;

    fn backward(self, gradient: Buffer<Bf16>, parameters: &[&Tensor]) -> Result<[Option<Tensor>; 2]> {
        let (scale, shift) = (parameters[0], parameters[1]);
        let Some(statistics) = &self.statistics else {
            return Err(Error::Msg("batch_norm: a backward pass without a forward pass".into()));
        };
        let (mut of_scale, mut of_shift) = (vec![0.0; scale.elem_count()], vec![0.0; shift.elem_count()]);
        let mut of_input = Buffer::new(gradient.len());
        let mut of_residual = self.residual.as_ref().and_then(FeatureMap::new_gradient);
        self.with_layer(scale, shift, |layer| {
            let gradients = bf16::BatchNormGradients {
                input: &mut of_input,
                scale: &mut of_scale,
                shift: &mut of_shift,
                residual: of_residual.as_deref_mut(),
            };
            bf16::batch_norm_backward(layer, statistics, &gradient, gradients)
        })?;
        // The residual first: if it is also the input, the order of additions affects the bits.
        if let (Some(residual), Some(gradient)) = (&self.residual, of_residual) {
            residual.put_gradient(gradient)?;
        }
        if self.input.is_tracked() {
            self.input.put_gradient(of_input)?;
        }
        Ok([
            parameter_gradient(scale, scale.track_op().then_some(of_scale))?,
            parameter_gradient(shift, shift.track_op().then_some(of_shift))?,
        ])
    }
}
