//! The layers of networks. Each adds its tensors to the [`Parameters`] of the network.
//!
//! ```
//! use cifar_kernels::{Activation, Buffer};
//! use cifar_model::layers::{BatchNorm, Conv, ConvParams, NormParams};
//! use cifar_model::parameters::{Fan, Init, Parameters};
//! use cifar_model::{FeatureMap, Mode};
//!
//! let mut parameters = Parameters::new(7);
//! let init = Init::HeNormal(Fan::In);
//! let params = ConvParams { inputs: 3, outputs: 8, kernel: 3, stride: 1, padding: 1, init };
//! let conv = Conv::new(&mut parameters, "conv", params)?;
//! let norm = BatchNorm::new(&mut parameters, "norm", 8, NormParams::STANDARD, Activation::Relu)?;
//!
//! let images = FeatureMap::new(cifar_kernels::Buffer::copied(&[0.5; 4 * 4 * 3]), &[1, 4, 4, 3])?;
//! let maps = norm.forward(&conv.forward(&images, &Mode::Evaluate)?, None, &Mode::Evaluate)?;
//! assert_eq!(maps.dims(), [1, 4, 4, 8]);
//! assert_eq!(parameters.count(), 3 * 3 * 3 * 8 + 2 * 8);
//! # Ok::<(), cifar_model::ModelError>(())
//! ```

use candle_core::{Device, Tensor};
use cifar_kernels::{Activation, BatchStatistics};

use crate::parameters::{Buffer, Init, Kind, Parameter, Parameters};
use crate::{FeatureMap, Mode, ModelError, Precision, Result, ops};

pub use crate::whitening::Whitening;

/// The dimensions and initial values of a [`Conv`].
#[derive(Debug, Clone, Copy)]
pub struct ConvParams {
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Rows and columns of a filter.
    pub kernel: usize,
    /// Distance from one window to the next, in pixels.
    pub stride: usize,
    /// Rows and columns of zeros on each side of an image.
    pub padding: usize,
    /// How the filters are initialised.
    pub init: Init,
}

/// A convolution without bias. The batch norm that follows has a shift.
#[derive(Debug, Clone)]
pub struct Conv {
    weight: Parameter,
    stride: usize,
    padding: usize,
}

impl Conv {
    /// Creates a convolution, with filters named `{name}.weight`.
    ///
    /// # Errors
    /// If candle refuses the shape.
    pub fn new(parameters: &mut Parameters, name: &str, params: ConvParams) -> Result<Self> {
        let ConvParams { inputs, outputs, kernel, stride, padding, init } = params;
        let weight =
            parameters.add(format!("{name}.weight"), Kind::Filters, (kernel, kernel, inputs, outputs), init)?;
        Ok(Self { weight, stride, padding })
    }

    /// Computes `[N, H, W, inputs]` → `[N, H', W', outputs]`.
    ///
    /// # Errors
    /// As [`ops::conv2d`].
    pub fn forward(&self, images: &FeatureMap, mode: &Mode) -> Result<FeatureMap> {
        let (images, weight) = (in_precision(images)?, self.weight.value(mode));
        let outputs = weight.dims().last().copied().unwrap_or(0);
        // Blocks of a few channels would be mostly filled up with zeros.
        if images.precision() == Precision::Bf16 && !images.is_bf16() && outputs >= Precision::LEAST_CHANNELS {
            return Ok(ops::conv2d_rounded(&images, &weight, self.stride, self.padding)?);
        }
        Ok(ops::conv2d(&images, &weight, self.stride, self.padding)?)
    }

    /// Computes the convolution followed by 2×2 max pooling: `[N, H'/2, W'/2, outputs]`.
    ///
    /// # Errors
    /// As [`ops::conv2d_max_pool`].
    pub fn forward_pooled(&self, images: &FeatureMap, mode: &Mode) -> Result<FeatureMap> {
        Ok(ops::conv2d_max_pool(&in_precision(images)?, &self.weight.value(mode), self.stride, self.padding)?)
    }
}

/// Converts the images to the number type in which a convolution computes.
fn in_precision(images: &FeatureMap) -> Result<FeatureMap> {
    let channels = images.dims().last().copied().unwrap_or(0);
    if images.precision() == Precision::Bf16 && channels >= Precision::LEAST_CHANNELS {
        Ok(ops::to_bf16(images)?)
    } else {
        Ok(ops::to_f32(images)?)
    }
}

/// The dimensions and initial values of a [`Linear`] layer.
#[derive(Debug, Clone, Copy)]
pub struct LinearParams {
    /// How optimisers treat the matrix.
    pub kind: Kind,
    /// Values per image of the input.
    pub inputs: usize,
    /// Values per image of the output.
    pub outputs: usize,
    /// Whether a bias is added; it starts at 0.
    pub bias: bool,
    /// How the matrix is initialised.
    pub init: Init,
}

/// A fully connected layer. Products are in the input's precision. Logits and layers with a bias
/// are computed in `f32`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
    kind: Kind,
}

impl Linear {
    /// Creates a layer, with tensors named `{name}.weight` and `{name}.bias`.
    ///
    /// # Errors
    /// If candle refuses the shape.
    pub fn new(parameters: &mut Parameters, name: &str, params: LinearParams) -> Result<Self> {
        let LinearParams { kind, inputs, outputs, bias, init } = params;
        let weight = parameters.add(format!("{name}.weight"), kind, (inputs, outputs), init)?;
        let bias = bias
            .then(|| parameters.add(format!("{name}.bias"), Kind::Vector, outputs, Init::Constant(0.0)))
            .transpose()?;
        Ok(Self { weight, bias, kind })
    }

    /// Computes `[N, inputs]` → `[N, outputs]`.
    ///
    /// # Errors
    /// As [`ops::linear`].
    pub fn forward(&self, input: &FeatureMap, mode: &Mode) -> Result<FeatureMap> {
        if input.precision() == Precision::Bf16 && self.kind != Kind::Head && self.bias.is_none() {
            return Ok(ops::linear_bf16(input, &self.weight.value(mode))?);
        }
        let bias = self.bias.as_ref().map(|bias| bias.value(mode));
        Ok(ops::linear(input, &self.weight.value(mode), bias.as_ref())?)
    }

    /// Computes `[N, H, W, inputs]` → `[N, H, W, outputs]` in evaluation mode: the product at each
    /// place, without the bias, times `scale`.
    pub(crate) fn at_each_place(&self, maps: &FeatureMap, scale: f32) -> Result<FeatureMap> {
        let [n, h, w, inputs] = maps.images("class activations")?;
        let maps = ops::to_f32(maps)?;
        let places = FeatureMap::new(cifar_kernels::Buffer::copied(maps.values()?), &[n * h * w, inputs])?;
        let products = ops::linear(&places, &self.weight.value(&Mode::Evaluate), None)?;
        let mut scaled = cifar_kernels::Buffer::copied(products.values()?);
        scaled.iter_mut().for_each(|value| *value *= scale);
        Ok(FeatureMap::new(scaled, &[n, h, w, products.dims()[1]])?)
    }
}

/// The settings of a batch norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormParams {
    /// The value added to the variance, above 0.
    pub epsilon: f32,
    /// Weight of a batch in the running statistics, 0 to 1.
    pub momentum: f32,
    /// Whether a scale is trained. Otherwise it is 1.
    pub scale: bool,
}

impl NormParams {
    /// PyTorch's defaults.
    pub const STANDARD: Self = Self { epsilon: 1e-5, momentum: 0.1, scale: true };
}

/// Batch norm with a residual addition, an activation, and the running statistics for evaluation.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    scale: Option<Parameter>,
    shift: Parameter,
    running_mean: Buffer,
    running_variance: Buffer,
    params: NormParams,
    activation: Activation,
}

impl BatchNorm {
    /// Creates a batch norm over `channels` channels, with tensors named `{name}.scale` and so on.
    ///
    /// # Errors
    /// If candle refuses the shape.
    pub fn new(
        parameters: &mut Parameters,
        name: &str,
        channels: usize,
        params: NormParams,
        activation: Activation,
    ) -> Result<Self> {
        let scale = params
            .scale
            .then(|| parameters.add(format!("{name}.scale"), Kind::Vector, channels, Init::Constant(1.0)))
            .transpose()?;
        Ok(Self {
            scale,
            shift: parameters.add(format!("{name}.shift"), Kind::Vector, channels, Init::Constant(0.0))?,
            running_mean: parameters.add_buffer(format!("{name}.running_mean"), channels, Init::Constant(0.0))?,
            running_variance: parameters.add_buffer(
                format!("{name}.running_variance"),
                channels,
                Init::Constant(1.0),
            )?,
            params,
            activation,
        })
    }

    /// Computes activation(norm(`input`) + `residual`). The last dimension is the channel.
    ///
    /// In training this uses the statistics of the batch and updates the running ones. A frozen
    /// layer ([`Parameters::freeze_layers`]) uses its running statistics and leaves them as they
    /// are.
    ///
    /// # Errors
    /// As [`ops::batch_norm_train`], and if the layer is frozen and one before it is not: running
    /// statistics pass no gradient on.
    pub fn forward(&self, input: &FeatureMap, residual: Option<&FeatureMap>, mode: &Mode) -> Result<FeatureMap> {
        let scale = self.scale.as_ref().map(|scale| scale.value(mode));
        let (scale, shift) = (scale.as_ref(), self.shift.value(mode));
        let (shift, epsilon, activation) = (&shift, self.params.epsilon, self.activation);
        let args = ops::BatchNormArgs { input, scale, shift, residual, epsilon, activation };
        let is_frozen = self.running_mean.is_frozen();
        if mode.is_train() && is_frozen && (input.is_tracked() || residual.is_some_and(FeatureMap::is_tracked)) {
            let name = &self.running_mean.name;
            return Err(ModelError::Unsuitable(format!("{name}: a frozen batch norm cannot follow trained layers")));
        }
        if mode.is_train() && !is_frozen {
            let (output, statistics) = ops::batch_norm_train(&args)?;
            self.move_running_statistics(&statistics, input.dims().iter().product::<usize>() / shift.elem_count())?;
            Ok(output)
        } else {
            let (mean, variance) = (self.running_mean.var.as_tensor(), self.running_variance.var.as_tensor());
            Ok(ops::batch_norm_evaluate(&args, mean, variance)?)
        }
    }

    /// Computes [`BatchNorm::forward`] without a residual, then the maximum of each
    /// `window`×`window` window with stride `window` ([`ops::max_pool`]). In training this is one
    /// pass.
    ///
    /// # Errors
    /// As [`BatchNorm::forward`], and if the window is larger than the images.
    pub fn forward_pooled(&self, input: &FeatureMap, window: usize, mode: &Mode) -> Result<FeatureMap> {
        if !mode.is_train() || self.running_mean.is_frozen() {
            return Ok(ops::max_pool(&self.forward(input, None, mode)?, window)?);
        }
        let scale = self.scale.as_ref().map(|scale| scale.value(mode));
        let (scale, shift, residual) = (scale.as_ref(), &self.shift.value(mode), None);
        let (epsilon, activation) = (self.params.epsilon, self.activation);
        let args = ops::BatchNormArgs { input, scale, shift, residual, epsilon, activation };
        let (output, statistics) = ops::batch_norm_max_pool_train(&args, window)?;
        self.move_running_statistics(&statistics, input.dims().iter().product::<usize>() / shift.elem_count())?;
        Ok(output)
    }

    fn move_running_statistics(&self, batch: &BatchStatistics, rows: usize) -> Result<()> {
        // Running variances are unbiased, as in other frameworks. A single row has no unbiased
        // variance, so its biased one is used.
        let unbias = if rows > 1 { rows as f32 / (rows - 1) as f32 } else { 1.0 };
        for (running, values, factor) in
            [(&self.running_mean.var, &batch.mean, 1.0), (&self.running_variance.var, &batch.variance, unbias)]
        {
            let moved = running.to_vec1::<f32>()?;
            let momentum = self.params.momentum;
            let moved: Vec<f32> =
                moved.iter().zip(values).map(|(old, new)| old + momentum * (new * factor - old)).collect();
            running.set(&Tensor::from_vec(moved, values.len(), &Device::Cpu)?)?;
        }
        Ok(())
    }
}
