//! The layers that networks are built of. Each adds its tensors to the network's [`Parameters`] and tells its cost.

use candle_core::{Device, Tensor, Var};
use cifar_kernels::{Activation, BatchStatistics};

use crate::ops;
use crate::parameters::{Init, Kind, Parameters};
use crate::{Mode, Result};

/// A convolution without bias; the batch norm behind it has a shift.
#[derive(Debug, Clone)]
pub struct Conv {
    weight: Var,
    stride: usize,
    padding: usize,
}

impl Conv {
    /// `kernel`×`kernel` filters from `inputs` to `outputs` channels, with He initialisation.
    pub fn new(
        parameters: &mut Parameters,
        name: &str,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        let init = Init::HeNormal { fan_in: kernel * kernel * inputs };
        let weight = parameters.add(format!("{name}.weight"), Kind::Weight, (kernel, kernel, inputs, outputs), init)?;
        Ok(Self { weight, stride, padding })
    }

    /// [N, H, W, inputs] → [N, H', W', outputs].
    pub fn forward(&self, images: &Tensor, mode: &Mode) -> Result<Tensor> {
        Ok(ops::conv2d(images, &mode.value(&self.weight), self.stride, self.padding)?)
    }
}

/// A fully connected layer.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Var,
    bias: Option<Var>,
}

impl Linear {
    /// From `inputs` to `outputs`; without bias and with He initialisation if a batch norm and ReLU follow.
    pub fn new(parameters: &mut Parameters, name: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Self> {
        let init = if bias { Init::Uniform { fan_in: inputs } } else { Init::HeNormal { fan_in: inputs } };
        let weight = parameters.add(format!("{name}.weight"), Kind::Weight, (inputs, outputs), init)?;
        let bias = bias
            .then(|| parameters.add(format!("{name}.bias"), Kind::Vector, outputs, Init::Constant(0.0)))
            .transpose()?;
        Ok(Self { weight, bias })
    }

    /// [N, inputs] → [N, outputs].
    pub fn forward(&self, input: &Tensor, mode: &Mode) -> Result<Tensor> {
        let output = ops::linear(input, &mode.value(&self.weight))?;
        Ok(match &self.bias {
            Some(bias) => output.broadcast_add(&mode.value(bias))?,
            None => output,
        })
    }
}

/// Batch norm with the activation behind it, and the running statistics that evaluation uses.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    scale: Var,
    shift: Var,
    running_mean: Var,
    running_variance: Var,
    activation: Activation,
}

impl BatchNorm {
    const EPSILON: f32 = 1e-5;
    /// Share of a batch's statistics in the running ones, as PyTorch's default.
    const MOMENTUM: f32 = 0.1;

    /// Over `channels` channels.
    pub fn new(parameters: &mut Parameters, name: &str, channels: usize, activation: Activation) -> Result<Self> {
        Ok(Self {
            scale: parameters.add(format!("{name}.scale"), Kind::Vector, channels, Init::Constant(1.0))?,
            shift: parameters.add(format!("{name}.shift"), Kind::Vector, channels, Init::Constant(0.0))?,
            running_mean: parameters.add_buffer(format!("{name}.running_mean"), channels, 0.0)?,
            running_variance: parameters.add_buffer(format!("{name}.running_variance"), channels, 1.0)?,
            activation,
        })
    }

    /// The last dimension is the channel. Training moves the running statistics.
    pub fn forward(&self, input: &Tensor, mode: &Mode) -> Result<Tensor> {
        let (scale, shift) = (mode.value(&self.scale), mode.value(&self.shift));
        if mode.is_train() {
            let (output, statistics) = ops::batch_norm_train(input, &scale, &shift, Self::EPSILON, self.activation)?;
            self.move_running_statistics(&statistics, input.elem_count() / scale.elem_count())?;
            Ok(output)
        } else {
            let (mean, variance) = (mode.value(&self.running_mean), mode.value(&self.running_variance));
            Ok(ops::batch_norm_evaluate(input, &scale, &shift, &mean, &variance, Self::EPSILON, self.activation)?)
        }
    }

    fn move_running_statistics(&self, batch: &BatchStatistics, rows: usize) -> Result<()> {
        // Running variances are unbiased, as everywhere; a single row has none, and counts as biased.
        let unbias = if rows > 1 { rows as f32 / (rows - 1) as f32 } else { 1.0 };
        for (running, values, factor) in
            [(&self.running_mean, &batch.mean, 1.0), (&self.running_variance, &batch.variance, unbias)]
        {
            let moved = running.to_vec1::<f32>()?;
            let moved: Vec<f32> =
                moved.iter().zip(values).map(|(old, new)| old + Self::MOMENTUM * (new * factor - old)).collect();
            running.set(&Tensor::from_vec(moved, values.len(), &Device::Cpu)?)?;
        }
        Ok(())
    }
}
