//! From gradients to steps: SGD, `AdamW` and Muon over groups of parameters.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, Error, InplaceOp2, Layout, Tensor};
use cifar_kernels::{KernelError, adamw_update, muon_update, sgd_update, squared_norm};
use cifar_model::parameters::{Kind, Parameter};

use crate::{OptimiserKind, Result, TrainParams};

/// What `AdamW` adds to the root of its second moment.
const EPSILON: f32 = 1e-8;

/// How one parameter moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Sgd,
    AdamW,
    /// For a matrix of so many rows, whose columns are filters.
    Muon {
        rows: usize,
        columns: usize,
    },
}

/// One parameter's rule, and what it remembers of earlier steps.
#[derive(Debug)]
struct Slot {
    rule: Rule,
    /// Highest learning rate.
    rate: f64,
    /// Decoupled weight decay: w ← w · (1 − rate · decay).
    decay: f64,
    /// Velocity, or first moment.
    first: Vec<f32>,
    /// Second moment, of `AdamW` only.
    second: Vec<f32>,
}

/// Moves all parameters of a network, in their order.
///
/// Groups: the last layer moves with `learning_rate · head_rate`, vectors with `learning_rate · bias_rate`, filters with
/// `muon_learning_rate` under Muon, everything else with `learning_rate`.
#[derive(Debug)]
pub struct Optimiser {
    params: TrainParams,
    slots: Vec<Slot>,
}

/// The learning rates of a step as shares of their highest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// Of the bias of a whitening layer.
    pub whitening_bias: f64,
    /// Of everything else.
    pub all: f64,
}

impl Optimiser {
    /// Remembers nothing yet.
    pub fn new(params: &TrainParams, parameters: &[Parameter]) -> Self {
        let slot = |parameter: &Parameter| {
            let dims = parameter.var.dims();
            let len = parameter.var.elem_count();
            let rule = match (params.optimiser, parameter.kind) {
                (OptimiserKind::AdamW, _) => Rule::AdamW,
                (OptimiserKind::Muon, Kind::Filters) => {
                    let columns = dims.last().copied().unwrap_or(1).max(1);
                    Rule::Muon { rows: len / columns, columns }
                }
                (OptimiserKind::Sgd | OptimiserKind::Muon, _) => Rule::Sgd,
            };
            let is_vector = matches!(parameter.kind, Kind::Vector | Kind::WhiteningBias);
            let share = match parameter.kind {
                Kind::Head => params.head_rate,
                _ if is_vector => params.bias_rate,
                _ => 1.0,
            };
            let decays = !is_vector || params.decay_biases;
            Slot {
                rule,
                rate: if matches!(rule, Rule::Muon { .. }) {
                    params.muon_learning_rate
                } else {
                    params.learning_rate * share
                },
                // The kernels multiply it by the parameter's own rate; the share is none of its business.
                decay: if decays { params.weight_decay / share } else { 0.0 },
                first: vec![0.0; len],
                second: vec![0.0; if rule == Rule::AdamW { len } else { 0 }],
            }
        };
        Self { params: params.clone(), slots: parameters.iter().map(slot).collect() }
    }

    /// Moves every parameter that has a gradient. `step` is counted from 0.
    pub fn step(
        &mut self,
        parameters: &[Parameter],
        gradients: &GradStore,
        factors: Factors,
        step: usize,
    ) -> Result<()> {
        let found: Vec<Option<Tensor>> = parameters
            .iter()
            .map(|p| gradients.get(&p.var).map(Tensor::contiguous).transpose())
            .collect::<candle_core::Result<_>>()?;
        let shortened = self.shortening(&found)?;
        let (momentum, nesterov) = (self.params.momentum, self.params.nesterov);
        let (beta2, muon_momentum) = (self.params.beta2, self.params.muon_momentum);
        for ((parameter, slot), gradient) in parameters.iter().zip(&mut self.slots).zip(found) {
            let Some(gradient) = gradient else { continue };
            let gradient = match shortened {
                Some(factor) => (gradient * factor)?,
                None => gradient,
            };
            let factor = if parameter.kind == Kind::WhiteningBias { factors.whitening_bias } else { factors.all };
            let (rate, decay) = ((slot.rate * factor) as f32, slot.decay as f32);
            let Slot { rule, first, second, .. } = slot;
            update(parameter, &gradient, |weight, gradient| match *rule {
                Rule::Sgd => sgd_update(weight, gradient, first, rate, momentum, nesterov, decay),
                Rule::AdamW => {
                    let count = u32::try_from(step + 1).unwrap_or(u32::MAX);
                    adamw_update(weight, gradient, first, second, rate, [momentum, beta2], EPSILON, decay, count)
                }
                Rule::Muon { rows, columns } => {
                    muon_update(rows, columns, weight, gradient, first, rate, muon_momentum, nesterov)
                }
            })?;
        }
        Ok(())
    }

    /// What all gradients are to be multiplied by so that their joint norm is within bounds; none if it is.
    fn shortening(&self, gradients: &[Option<Tensor>]) -> Result<Option<f64>> {
        if self.params.clip_norm == 0.0 {
            return Ok(None);
        }
        let mut sum = 0.0;
        for gradient in gradients.iter().flatten() {
            sum += squared_norm(&gradient.flatten_all()?.to_vec1::<f32>()?)?;
        }
        let norm = sum.sqrt();
        Ok((norm > self.params.clip_norm).then(|| self.params.clip_norm / norm))
    }

    /// What it remembers: for each parameter, in order, the velocity or first moment, and the second moment (empty but for
    /// `AdamW`).
    pub(crate) fn memory(&self) -> impl Iterator<Item = [&[f32]; 2]> {
        self.slots.iter().map(|slot| [slot.first.as_slice(), slot.second.as_slice()])
    }

    /// The same to be written to.
    pub(crate) fn memory_mut(&mut self) -> impl Iterator<Item = [&mut Vec<f32>; 2]> {
        self.slots.iter_mut().map(|slot| [&mut slot.first, &mut slot.second])
    }
}

/// Changes a parameter's values in place.
fn update(
    parameter: &Parameter,
    gradient: &Tensor,
    apply: impl FnMut(&mut [f32], &[f32]) -> Result<(), KernelError>,
) -> Result<()> {
    Ok(parameter.var.inplace_op2(gradient, &Update(RefCell::new(apply)))?)
}

struct Update<F>(RefCell<F>);

impl<F: FnMut(&mut [f32], &[f32]) -> Result<(), KernelError>> InplaceOp2 for Update<F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        let (Some((start, end)), Some((grad_start, grad_end))) = (l1.contiguous_offsets(), l2.contiguous_offsets())
        else {
            return Err(Error::Msg("update: arguments must be contiguous".into()));
        };
        let CpuStorage::F32(weight) = s1 else {
            return Err(Error::Msg("update: parameters must be f32".into()));
        };
        let gradient = &s2.as_slice::<f32>()?[grad_start..grad_end];
        (self.0.borrow_mut())(&mut weight[start..end], gradient).map_err(Error::wrap)
    }
}
