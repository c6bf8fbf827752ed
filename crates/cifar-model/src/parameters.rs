//! A network's parameters and running statistics, in the order in which it was built.
//!
//! The order is that of the code, never of a hash map: the optimiser, the checkpoint and the clipping all follow it.

use candle_core::{DType, Device, Shape, Tensor, Var};
use cifar_data::random::{Purpose, stream};

use crate::Result;

/// What a parameter is, which decides whether weight decay applies to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Filters and matrices: decayed.
    Weight,
    /// Biases, scales and shifts: not decayed.
    Vector,
}

/// One trained tensor.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name in the model file, such as `conv1.weight`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its values.
    pub var: Var,
}

/// One tensor that is kept but not trained, such as a running mean.
#[derive(Debug, Clone)]
pub struct Buffer {
    /// Its name in the model file.
    pub name: String,
    /// Its values.
    pub var: Var,
}

/// All tensors of a network.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    trained: Vec<Parameter>,
    buffers: Vec<Buffer>,
    seed: u64,
}

/// How initial values are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with variance 2 / fan-in (He et al. 2015, arXiv 1502.01852), for layers before a ReLU.
    HeNormal {
        /// Inputs of each output.
        fan_in: usize,
    },
    /// Uniform in ±1/√fan-in, as the customary linear layer.
    Uniform {
        /// Inputs of each output.
        fan_in: usize,
    },
    /// The same value everywhere.
    Constant(f32),
}

impl Parameters {
    /// Starts an empty set whose initial values come from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Adds a trained tensor.
    pub fn add(&mut self, name: impl Into<String>, kind: Kind, shape: impl Into<Shape>, init: Init) -> Result<Var> {
        let shape = shape.into();
        let mut random = stream(self.seed, Purpose::Init, 0, self.trained.len() as u64);
        let values: Vec<f32> = (0..shape.elem_count())
            .map(|_| match init {
                Init::HeNormal { fan_in } => (random.normal() * (2.0 / fan_in as f64).sqrt()) as f32,
                Init::Uniform { fan_in } => {
                    let bound = 1.0 / (fan_in as f64).sqrt();
                    random.uniform(-bound, bound) as f32
                }
                Init::Constant(value) => value,
            })
            .collect();
        let var = Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)?;
        self.trained.push(Parameter { name: name.into(), kind, var: var.clone() });
        Ok(var)
    }

    /// Adds a tensor that is kept but not trained.
    pub fn add_buffer(&mut self, name: impl Into<String>, size: usize, value: f32) -> Result<Var> {
        let var = Var::from_tensor(&Tensor::full(value, size, &Device::Cpu)?.to_dtype(DType::F32)?)?;
        self.buffers.push(Buffer { name: name.into(), var: var.clone() });
        Ok(var)
    }

    /// The trained tensors, in order of construction.
    pub fn trained(&self) -> &[Parameter] {
        &self.trained
    }

    /// The tensors that are kept but not trained, in order of construction.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// Number of trained values.
    pub fn count(&self) -> usize {
        self.trained.iter().map(|p| p.var.elem_count()).sum()
    }

    /// Every tensor under its name, trained ones first.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Var)> {
        let trained = self.trained.iter().map(|p| (p.name.as_str(), &p.var));
        trained.chain(self.buffers.iter().map(|b| (b.name.as_str(), &b.var)))
    }

    /// A copy of all values, in the order of [`Parameters::all`].
    pub fn snapshot(&self) -> Result<Vec<Tensor>> {
        self.all().map(|(_, var)| Ok(var.as_tensor().copy()?.detach())).collect()
    }

    /// Puts back what [`Parameters::snapshot`] took.
    pub fn restore(&self, snapshot: &[Tensor]) -> Result<()> {
        for ((_, var), saved) in self.all().zip(snapshot) {
            var.set(&saved.copy()?)?;
        }
        Ok(())
    }
}
