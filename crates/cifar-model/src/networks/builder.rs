//! Builds a network layer by layer. Each layer takes the output of the one before and reports its
//! cost.

use cifar_data::ImageSize;
use cifar_kernels::Activation;

use super::{Extent, HEAD, LayerSummary};
use crate::layers::{BatchNorm, Conv, ConvParams, Linear, LinearParams, NormParams, Whitening};
use crate::parameters::{Init, Kind, Parameters};
use crate::{ModelError, Result};

/// Channels of maps in bf16 are a multiple of this.
const PADDED_CHANNELS: usize = 32;

/// The network so far: its parameters, its summary, and the output shape of its last layer.
pub(super) struct Builder<'a> {
    parameters: &'a mut Parameters,
    /// Height, width and channels.
    shape: [usize; 3],
    summary: Vec<LayerSummary>,
    extent: Extent,
    /// Output values of the last layer if it is a convolution, also with padded channels. They are
    /// stored unless the same pass pools them.
    pending: [usize; 2],
}

impl<'a> Builder<'a> {
    /// Starts with the images. `smallest` is the minimum side, for networks that shrink their
    /// images.
    pub(super) fn new(parameters: &'a mut Parameters, network: &str, size: ImageSize, smallest: usize) -> Result<Self> {
        if size.height.min(size.width) < smallest {
            return Err(ModelError::Unsuitable(format!(
                "{network} needs images of at least {smallest}×{smallest} pixels, these have {size}"
            )));
        }
        let shape = [size.height, size.width, 3];
        let mut builder = Self { parameters, shape, summary: Vec::new(), extent: Extent::default(), pending: [0; 2] };
        builder.keep(1);
        Ok(builder)
    }

    /// Returns the height, width and channels of the last layer's output.
    pub(super) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Returns to an earlier shape, from which a second branch starts.
    pub(super) fn branch_from(&mut self, shape: [usize; 3]) {
        self.shape = shape;
    }

    /// Returns the layers, from the input to the logits, and the sizes of their activations.
    pub(super) fn finish(mut self) -> (Vec<LayerSummary>, Extent) {
        self.keep(0);
        (self.summary, self.extent)
    }

    /// Records that the backward pass needs `times` copies of the last output, and what was
    /// pending.
    fn keep(&mut self, times: usize) {
        let [values, padded] = self.values();
        let [pending, pending_padded] = std::mem::take(&mut self.pending);
        self.extent.kept += times * values + pending;
        self.extent.largest = self.extent.largest.max(values).max(pending);
        self.extent.kept_padded += times * padded + pending_padded;
        self.extent.largest_padded = self.extent.largest_padded.max(padded).max(pending_padded);
    }

    /// Returns the number of output values of the last layer, also with padded channels.
    fn values(&self) -> [usize; 2] {
        let [height, width, channels] = self.shape;
        [channels, channels.next_multiple_of(PADDED_CHANNELS)].map(|channels| height * width * channels)
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

    /// Describes filters after the last layer and returns the number of their weights.
    fn filters(&mut self, name: &str, outputs: usize, kernel: usize, stride: usize, padding: usize) -> usize {
        let [height, width, inputs] = self.shape;
        let out = |size: usize| (size + 2 * padding - kernel) / stride + 1;
        self.shape = [out(height), out(width), outputs];
        let weights = kernel * kernel * inputs * outputs;
        self.describe(name, self.shape.to_vec(), 0, 2 * weights * out(height) * out(width));
        weights
    }

    /// Adds the frozen whitening convolution. Only its bias counts as a parameter.
    pub(super) fn whitening(&mut self, name: &str, activation: Activation) -> Result<Whitening> {
        self.filters(name, Whitening::OUTPUTS, 2, 1, 0);
        // The backward pass computes the input of the activation again.
        self.keep(1);
        self.add_parameters(Whitening::OUTPUTS);
        Whitening::new(self.parameters, name, activation)
    }

    /// Adds `kernel`×`kernel` filters without bias. With stride 1 the padding preserves the size.
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
        self.pending = self.values();
        self.add_parameters(weights);
        Conv::new(self.parameters, name, ConvParams { inputs, outputs, kernel, stride, padding, init })
    }

    /// Adds batch norm. Its parameters count as those of the layer before it.
    pub(super) fn batch_norm(&mut self, name: &str, params: NormParams, activation: Activation) -> Result<BatchNorm> {
        let channels = self.shape[2];
        self.keep(1);
        self.add_parameters(if params.scale { 2 } else { 1 } * channels);
        BatchNorm::new(self.parameters, name, channels, params, activation)
    }

    /// Records that the batch norm after it pools in the same pass: its full-size output is never
    /// stored. Pixels that fill no window are ignored. [`Builder::describe_pool`] describes it
    /// afterwards.
    pub(super) fn norm_and_pool_in_pass(&mut self, window: usize) {
        self.keep(0);
        let [height, width, channels] = self.shape;
        self.shape = [height / window, width / window, channels];
        // The position of each value.
        self.keep(1);
    }

    /// Adds pooling in the same pass as the convolution before it, whose output is never stored.
    /// [`Builder::describe_pool`] describes it after the norm of the convolution.
    pub(super) fn pool_in_pass(&mut self, window: usize) {
        let [height, width, channels] = self.shape;
        self.shape = [height / window, width / window, channels];
        self.pending = [0; 2];
        self.keep(2);
    }

    /// Describes a pooling whose output is the last shape.
    pub(super) fn describe_pool(&mut self, name: &str) {
        self.describe(name, self.shape.to_vec(), 0, 0);
    }

    /// Adds global pooling, which leaves one pixel.
    pub(super) fn global_pool(&mut self, name: &str) {
        self.shape = [1, 1, self.shape[2]];
        self.keep(2);
        self.describe(name, vec![self.shape[2]], 0, 0);
    }

    /// Adds a fully connected layer over all values of an image.
    pub(super) fn linear(&mut self, name: &str, outputs: usize, bias: bool, init: Init) -> Result<Linear> {
        self.dense(name, Kind::Matrix, outputs, bias, init)
    }

    /// Adds the fully connected layer that computes the logits.
    pub(super) fn head(&mut self, classes: usize, bias: bool, init: Init) -> Result<Linear> {
        self.dense(HEAD, Kind::Head, classes, bias, init)
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
