//! The parameters and running statistics of a network, in the order of construction.
//!
//! The optimiser, the checkpoint and gradient clipping all use this order. It never depends on a
//! hash map.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Shape, Tensor, Var};
use cifar_data::random::{Purpose, Stream, stream};

use crate::{Mode, ModelError, Result};

/// The role of a parameter, which determines how optimisers treat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The filters of a convolution, `[K, K, I, O]`.
    Filters,
    /// The matrix of a dense layer, `[I, O]`.
    Matrix,
    /// The matrix of the last layer, `[I, classes]`.
    Head,
    /// Biases, scales and shifts.
    Vector,
    /// The bias of a whitening layer, which some recipes train for the first epochs only.
    WhiteningBias,
}

/// A trained tensor. Clones share it, as the network and its [`Parameters`] do.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// The name in the model file, such as `conv1.weight`.
    pub name: String,
    /// The role.
    pub kind: Kind,
    /// The values.
    pub var: Var,
    frozen: Arc<AtomicBool>,
}

impl Parameter {
    /// Returns the values for a forward pass. They are tracked in training unless the parameter is
    /// frozen. Otherwise they are detached, so that nothing is stored for a gradient.
    pub fn value(&self, mode: &Mode) -> Tensor {
        if mode.is_train() && !self.is_frozen() { self.var.as_tensor().clone() } else { self.var.as_detached_tensor() }
    }

    /// Stops or resumes training of this parameter. A frozen parameter has no gradient, so
    /// optimisers skip it.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Relaxed);
    }

    /// Returns whether training of this parameter is stopped.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }
}

/// A stored tensor that is not trained, such as a running mean. Clones share it.
#[derive(Debug, Clone)]
pub struct Buffer {
    /// The name in the model file.
    pub name: String,
    /// The values.
    pub var: Var,
    frozen: Arc<AtomicBool>,
}

impl Buffer {
    /// Returns whether training leaves the values as they are.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }
}

/// Returns the name of the layer that a tensor belongs to: `stem` for `stem.weight` and for
/// `stem.norm.shift`. A batch norm belongs to the layer before it.
pub fn layer_of(tensor: &str) -> &str {
    let owner = tensor.rsplit_once('.').map_or(tensor, |(owner, _)| owner);
    owner.strip_suffix(".norm").unwrap_or(owner)
}

/// All tensors of a network.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    trained: Vec<Parameter>,
    buffers: Vec<Buffer>,
    seed: u64,
    /// Shapes of trained and other tensors, if they are only planned.
    planned: Option<[Vec<Vec<usize>>; 2]>,
}

/// The fan by which a layer's initial variance is scaled. Filters are `[K, K, I, O]`, matrices
/// `[I, O]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fan {
    /// Inputs of each output, K² · I: preserves the variance of activations.
    In,
    /// Outputs of each input, K² · O: preserves the variance of gradients.
    Out,
}

/// A distribution of initial values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with variance 2 / fan (He et al. 2015, arXiv 1502.01852), for layers before a ReLU.
    HeNormal(Fan),
    /// Uniform in ±1/√fan-in, as in PyTorch's convolutions and linear layers.
    Uniform,
    /// [`Init::Uniform`] divided by the standard deviation of the drawn values.
    UniformStandardised,
    /// Filters of odd size. The first I of them each pass one input channel through their centre;
    /// the others are [`Init::Uniform`] (idea: Zagoruyko & Komodakis 2017, arXiv 1706.00388).
    Dirac,
    /// The same value in every element.
    Constant(f32),
}

impl Init {
    /// Draws the values of a tensor `[.., inputs, outputs]`.
    fn values(self, dims: &[usize], random: &mut Stream) -> Vec<f32> {
        let len = dims.iter().product::<usize>();
        let outputs = dims.last().copied().unwrap_or(1);
        let inputs = dims.iter().rev().nth(1).copied().unwrap_or(1);
        let bound = 1.0 / ((len / outputs) as f64).sqrt();
        let mut uniform = || random.uniform(-bound, bound);
        match self {
            Self::HeNormal(fan) => {
                let fan = len / if fan == Fan::In { outputs } else { inputs };
                let deviation = (2.0 / fan as f64).sqrt();
                (0..len).map(|_| (random.normal() * deviation) as f32).collect()
            }
            Self::Uniform => (0..len).map(|_| uniform() as f32).collect(),
            Self::UniformStandardised => {
                let draws: Vec<f64> = (0..len).map(|_| uniform()).collect();
                let mean = draws.iter().sum::<f64>() / len as f64;
                let squares: f64 = draws.iter().map(|x| (x - mean).powi(2)).sum();
                let deviation = (squares / (len as f64 - 1.0).max(1.0)).sqrt();
                draws.iter().map(|x| (x / deviation) as f32).collect()
            }
            Self::Dirac => {
                let centre = len / (inputs * outputs) / 2;
                let element = |at: usize| (at / (inputs * outputs), at / outputs % inputs, at % outputs);
                (0..len)
                    .map(|at| (uniform() as f32, element(at)))
                    .map(|(drawn, (tap, input, output))| {
                        let identity = f32::from(u8::from(tap == centre && input == output));
                        if output < inputs { identity } else { drawn }
                    })
                    .collect()
            }
            Self::Constant(value) => vec![value; len],
        }
    }
}

impl Parameters {
    /// Creates an empty set whose initial values are drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Creates an empty set for planning: every tensor has a single value, and its shape is
    /// recorded.
    pub(crate) fn planned() -> Self {
        Self { planned: Some(Default::default()), ..Self::default() }
    }

    /// Returns names and shapes of planned tensors, in the order of [`Parameters::all`].
    pub(crate) fn planned_tensors(&self) -> Vec<(String, Vec<usize>)> {
        let names = self.all().map(|(name, _)| name.to_string());
        names.zip(self.planned.iter().flatten().flatten().cloned()).collect()
    }

    /// Adds a trained tensor.
    ///
    /// # Errors
    /// If candle refuses the shape.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        kind: Kind,
        shape: impl Into<Shape>,
        init: Init,
    ) -> Result<Parameter> {
        let var = self.variable(shape.into(), init, 0, self.trained.len() as u64)?;
        let parameter = Parameter { name: name.into(), kind, var, frozen: Arc::default() };
        self.trained.push(parameter.clone());
        Ok(parameter)
    }

    /// Adds a tensor that is stored but not trained.
    ///
    /// # Errors
    /// If candle refuses the shape.
    pub fn add_buffer(&mut self, name: impl Into<String>, shape: impl Into<Shape>, init: Init) -> Result<Buffer> {
        let var = self.variable(shape.into(), init, 1, self.buffers.len() as u64)?;
        let buffer = Buffer { name: name.into(), var, frozen: Arc::default() };
        self.buffers.push(buffer.clone());
        Ok(buffer)
    }

    /// Creates tensor `number` of the trained (`kind` 0) or other tensors (`kind` 1).
    fn variable(&mut self, shape: Shape, init: Init, kind: usize, number: u64) -> Result<Var> {
        if let Some(planned) = &mut self.planned {
            planned[kind].push(shape.dims().to_vec());
            return Ok(Var::zeros(1, DType::F32, &Device::Cpu)?);
        }
        let number = (kind as u64) << 32 | number;
        let values = init.values(shape.dims(), &mut stream(self.seed, Purpose::Init, 0, number));
        Ok(Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)?)
    }

    /// Stops or resumes training of the parameter `name`; see [`Parameter::freeze`].
    ///
    /// # Errors
    /// If there is no such trained tensor.
    pub fn freeze(&self, name: &str, frozen: bool) -> Result<()> {
        let parameter = self.trained.iter().find(|p| p.name == name);
        let missing = || ModelError::Unsuitable(format!("the network has no parameter `{name}`"));
        parameter.ok_or_else(missing)?.freeze(frozen);
        Ok(())
    }

    /// Stops training of the layers for which `is_frozen` returns true, and resumes it for all
    /// others. The argument is the name of the layer ([`layer_of`]).
    ///
    /// A frozen layer has no gradient, so optimisers skip it, also for weight decay. Its batch norm
    /// uses its running statistics, as in evaluation, and leaves them as they are. So frozen layers
    /// must come before all trained ones.
    pub fn freeze_layers(&self, is_frozen: impl Fn(&str) -> bool) {
        for parameter in &self.trained {
            parameter.freeze(is_frozen(layer_of(&parameter.name)));
        }
        for buffer in &self.buffers {
            buffer.frozen.store(is_frozen(layer_of(&buffer.name)), Ordering::Relaxed);
        }
    }

    /// Returns the trained tensors, in order of construction.
    pub fn trained(&self) -> &[Parameter] {
        &self.trained
    }

    /// Returns the tensors that are stored but not trained, in order of construction.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// Returns the number of trained values.
    pub fn count(&self) -> usize {
        self.trained.iter().map(|p| p.var.elem_count()).sum()
    }

    /// Returns all tensors with their names, trained ones first.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Var)> {
        let trained = self.trained.iter().map(|p| (p.name.as_str(), &p.var));
        trained.chain(self.buffers.iter().map(|b| (b.name.as_str(), &b.var)))
    }

    /// Returns a copy of all values, in the order of [`Parameters::all`].
    ///
    /// # Errors
    /// If candle cannot copy a tensor.
    pub fn snapshot(&self) -> Result<Vec<Tensor>> {
        self.all().map(|(_, var)| Ok(var.as_tensor().copy()?.detach())).collect()
    }

    /// Restores the values of a [`Parameters::snapshot`].
    ///
    /// # Errors
    /// If the snapshot is of another network.
    pub fn restore(&self, snapshot: &[Tensor]) -> Result<()> {
        for ((_, var), saved) in self.all().zip(snapshot) {
            var.set(&saved.copy()?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(init: Init, dims: &[usize]) -> Vec<f32> {
        let mut parameters = Parameters::new(3);
        let parameter = parameters.add("x", Kind::Filters, dims, init).unwrap();
        parameter.var.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn deviation(values: &[f32]) -> f64 {
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
    }

    #[test]
    fn initial_values_have_the_requested_deviation() {
        let check = |init, dims: &[usize], expected: f64| {
            let found = deviation(&values(init, dims));
            // 18,000 values: five standard errors of a deviation are 5/√(2n) = 2.6 %.
            assert!((found / expected - 1.0).abs() < 0.026, "{init:?}: {found}, expected {expected}");
        };
        let dims = [3, 3, 40, 50];
        check(Init::HeNormal(Fan::In), &dims, (2.0 / 360.0f64).sqrt());
        check(Init::HeNormal(Fan::Out), &dims, (2.0 / 450.0f64).sqrt());
        check(Init::Uniform, &dims, (1.0 / 360.0f64 / 3.0).sqrt());
        check(Init::UniformStandardised, &[360, 50], 1.0);
    }

    #[test]
    fn dirac_filters_pass_their_channel_through() {
        let w = values(Init::Dirac, &[3, 3, 2, 5]);
        let at = |tap: usize, input: usize, output: usize| w[(tap * 2 + input) * 5 + output];
        for tap in 0..9 {
            for (input, output) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let expected = f32::from(u8::from(tap == 4 && input == output));
                assert_eq!(at(tap, input, output).to_bits(), expected.to_bits());
            }
            assert!((2..5).all(|output| at(tap, 0, output) != 0.0 && at(tap, 0, output).abs() <= 1.0 / 18f32.sqrt()));
        }
    }

    #[test]
    fn a_norm_belongs_to_the_layer_before_it() {
        for (tensor, layer) in [
            ("head.weight", "head"),
            ("stem.norm.running_mean", "stem"),
            ("stage1.2.conv1.norm.shift", "stage1.2.conv1"),
            ("dense.norm.scale", "dense"),
            ("whitening.bias", "whitening"),
        ] {
            assert_eq!(layer_of(tensor), layer);
        }
    }

    #[test]
    fn a_frozen_parameter_is_not_tracked() {
        let mut parameters = Parameters::new(1);
        let parameter = parameters.add("bias", Kind::Vector, 3, Init::Constant(0.0)).unwrap();
        let train = Mode::Train { seed: 0, epoch: 0, ids: &[] };
        assert!(parameter.value(&train).track_op() && !parameter.value(&Mode::Evaluate).track_op());
        parameters.freeze("bias", true).unwrap();
        assert!(parameter.is_frozen() && !parameter.value(&train).track_op());
        assert!(parameters.freeze("scale", true).is_err());
    }
}
