//! Building a network layer by layer: each takes what the one before puts out, and tells its cost.

use cifar_data::ImageSize;
use cifar_kernels::Activation;

use super::{Extent, LayerSummary};
use crate::layers::{BatchNorm, Conv, ConvParams, Linear, LinearParams, NormParams, Whitening};
use crate::parameters::{Init, Kind, Parameters};
use crate::{ModelError, Result};

/// The network so far: its parameters, its summary and the shape that its last layer puts out.
pub(super) struct Builder<'a> {
    parameters: &'a mut Parameters,
    /// Height, width and channels.
    shape: [usize; 3],
    summary: Vec<LayerSummary>,
    extent: Extent,
    /// Values of the last layer, if that is a convolution. They are kept unless a pooling in the same pass follows.
    pending: usize,
}

impl<'a> Builder<'a> {
    /// Starts with the images. A network that leaves too little of them refuses sides below `smallest`.
    pub(super) fn new(parameters: &'a mut Parameters, network: &str, size: ImageSize, smallest: usize) -> Result<Self> {
        if size.height.min(size.width) < smallest {
            return Err(ModelError::Unsuitable(format!(
                "{network} needs images of at least {smallest}×{smallest} pixels, these have {size}"
            )));
        }
        let shape = [size.height, size.width, 3];
        let mut builder = Self { parameters, shape, summary: Vec::new(), extent: Extent::default(), pending: 0 };
        builder.keep(1);
        Ok(builder)
    }

    /// Height, width and channels of what the last layer puts out.
    pub(super) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Goes back to an earlier shape, where a second branch begins.
    pub(super) fn branch_from(&mut self, shape: [usize; 3]) {
        self.shape = shape;
    }

    /// The layers, from the input to the logits, and the sizes of their activations.
    pub(super) fn finish(mut self) -> (Vec<LayerSummary>, Extent) {
        self.keep(0);
        (self.summary, self.extent)
    }

    /// The last shape is kept for the backward pass, `times` over, and what was pending before.
    fn keep(&mut self, times: usize) {
        let values = self.shape.iter().product::<usize>();
        let pending = std::mem::take(&mut self.pending);
        self.extent.kept += times * values + pending;
        self.extent.largest = self.extent.largest.max(values).max(pending);
    }

    fn describe(&mut self, name: &str, output: Vec<usize>, parameters: usize, flops: usize) {
        self.summary.push(LayerSummary { name: name.into(), output, parameters, flops: flops as u64 });
    }

    /// Adds to the parameters of the layer described last.
    fn add_parameters(&mut self, count: usize) {
        if let Some(layer) = self.summary.last_mut() {
            layer.parameters += count;
        }
    }

    /// Filters behind the last layer.
    fn filters(&mut self, name: &str, outputs: usize, kernel: usize, stride: usize, padding: usize) -> usize {
        let [height, width, inputs] = self.shape;
        let out = |size: usize| (size + 2 * padding - kernel) / stride + 1;
        self.shape = [out(height), out(width), outputs];
        let weights = kernel * kernel * inputs * outputs;
        self.describe(name, self.shape.to_vec(), 0, 2 * weights * out(height) * out(width));
        weights
    }

    /// The frozen whitening convolution; only its bias counts as a parameter.
    pub(super) fn whitening(&mut self, name: &str, activation: Activation) -> Result<Whitening> {
        self.filters(name, Whitening::OUTPUTS, 2, 1, 0);
        self.keep(2);
        self.add_parameters(Whitening::OUTPUTS);
        Whitening::new(self.parameters, name, activation)
    }

    /// `kernel`×`kernel` filters without bias. Padding keeps the size where the stride is 1.
    pub(super) fn conv(
        &mut self,
        name: &str,
        outputs: usize,
        kernel: usize,
        stride: usize,
        init: Init,
    ) -> Result<Conv> {
        let (inputs, padding) = (self.shape[2], kernel / 2);
        let weights = self.filters(name, outputs, kernel, stride, padding);
        self.pending = self.shape.iter().product();
        self.add_parameters(weights);
        Conv::new(self.parameters, name, ConvParams { inputs, outputs, kernel, stride, padding, init })
    }

    /// Batch norm, whose parameters count as those of the layer before it.
    pub(super) fn batch_norm(&mut self, name: &str, params: NormParams, activation: Activation) -> Result<BatchNorm> {
        let channels = self.shape[2];
        self.keep(1);
        self.add_parameters(if params.scale { 2 } else { 1 } * channels);
        BatchNorm::new(self.parameters, name, channels, params, activation)
    }

    /// Pooling by squares of `window`; pixels that fill no square are left out.
    pub(super) fn pool(&mut self, name: &str, window: usize) {
        let [height, width, channels] = self.shape;
        self.shape = [height / window, width / window, channels];
        // Values, and where each came from.
        self.keep(2);
        self.describe_pool(name);
    }

    /// The same in one pass with the convolution before it, whose own output is never stored. [`Builder::describe_pool`]
    /// describes it, once the convolution has its norm.
    pub(super) fn pool_in_pass(&mut self, window: usize) {
        let [height, width, channels] = self.shape;
        self.shape = [height / window, width / window, channels];
        self.pending = 0;
        self.keep(2);
    }

    /// Describes a pooling that put out the last shape.
    pub(super) fn describe_pool(&mut self, name: &str) {
        self.describe(name, self.shape.to_vec(), 0, 0);
    }

    /// Pooling that leaves one pixel.
    pub(super) fn global_pool(&mut self, name: &str) {
        self.shape = [1, 1, self.shape[2]];
        self.keep(2);
        self.describe(name, vec![self.shape[2]], 0, 0);
    }

    /// A fully connected layer over all values of an image.
    pub(super) fn linear(&mut self, name: &str, outputs: usize, bias: bool, init: Init) -> Result<Linear> {
        self.dense(name, Kind::Matrix, outputs, bias, init)
    }

    /// The fully connected layer that puts out the logits.
    pub(super) fn head(&mut self, classes: usize, bias: bool, init: Init) -> Result<Linear> {
        self.dense("head", Kind::Head, classes, bias, init)
    }

    fn dense(&mut self, name: &str, kind: Kind, outputs: usize, bias: bool, init: Init) -> Result<Linear> {
        let inputs = self.shape.iter().product::<usize>();
        self.shape = [1, 1, outputs];
        self.keep(1);
        let weights = inputs * outputs;
        self.describe(name, vec![outputs], weights + if bias { outputs } else { 0 }, 2 * weights);
        Linear::new(self.parameters, name, LinearParams { kind, inputs, outputs, bias, init })
    }
}
