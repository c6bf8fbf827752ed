//! The optimisers: SGD, `AdamW` and Muon over groups of parameters.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, Error, InplaceOp2, Layout, Tensor};
use cifar_kernels::{KernelError, adamw_update, muon_update, sgd_update, squared_norm};
use cifar_model::parameters::{Kind, Parameter, layer_of};

use crate::{OptimiserKind, Result, TrainParams};

/// The ε that `AdamW` adds to the root of its second moment.
const EPSILON: f32 = 1e-8;

/// The update rule of one parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Sgd,
    AdamW,
    /// For a matrix with this many rows, whose columns are filters.
    Muon {
        rows: usize,
        columns: usize,
    },
}

/// One parameter's rule and optimiser state.
#[derive(Debug)]
struct Slot {
    rule: Rule,
    /// Highest learning rate.
    rate: f64,
    /// Decoupled weight decay: w ← w · (1 − rate · decay).
    decay: f64,
    /// Velocity or first moment.
    first: Vec<f32>,
    /// Second moment; only of `AdamW`.
    second: Vec<f32>,
}

/// Updates all parameters of a network, in their order.
///
/// Learning rates by group: `learning_rate · head_lr_scale` for the last layer, `learning_rate ·
/// bias_lr_scale` for vectors, `muon_learning_rate` for filters under Muon, and `learning_rate` for
/// everything else. All except that of the last layer are multiplied by `backbone_lr_scale`, with
/// their weight decay.
#[derive(Debug)]
pub struct Optimiser {
    params: TrainParams,
    slots: Vec<Slot>,
}

/// Multipliers on the highest learning rates, for one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LrMultipliers {
    /// For the bias of a whitening layer.
    pub whitening_bias: f64,
    /// For everything else.
    pub all: f64,
}

impl Optimiser {
    /// Creates the optimiser with an empty state.
    pub fn new(params: &TrainParams, parameters: &[Parameter]) -> Self {
        let heads: Vec<&str> = parameters.iter().filter(|p| p.kind == Kind::Head).map(|p| layer_of(&p.name)).collect();
        let slot = |parameter: &Parameter| {
            let in_head = heads.contains(&layer_of(&parameter.name));
            let backbone_scale = if in_head { 1.0 } else { params.backbone_lr_scale };
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
            let scale = match parameter.kind {
                Kind::Head => params.head_lr_scale,
                _ if is_vector => params.bias_lr_scale,
                _ => 1.0,
            };
            let decays = !is_vector || params.decay_biases;
            Slot {
                rule,
                rate: backbone_scale
                    * if matches!(rule, Rule::Muon { .. }) {
                        params.muon_learning_rate
                    } else {
                        params.learning_rate * scale
                    },
                // The kernels multiply the decay by the parameter's own rate; dividing here takes
                // its scale out again. That of the backbone stays: a backbone that hardly moves
                // must not decay as fast as one that does.
                decay: if decays { params.weight_decay / scale } else { 0.0 },
                first: vec![0.0; len],
                second: vec![0.0; if rule == Rule::AdamW { len } else { 0 }],
            }
        };
        Self { params: params.clone(), slots: parameters.iter().map(slot).collect() }
    }

    /// Updates every parameter that has a gradient. `step` is counted from 0.
    ///
    /// # Errors
    /// If candle or a kernel fails, for example because a gradient does not have the shape of its
    /// parameter.
    pub fn step(
        &mut self,
        parameters: &[Parameter],
        gradients: &GradStore,
        multipliers: LrMultipliers,
        step: usize,
    ) -> Result<()> {
        let found: Vec<Option<Tensor>> = parameters
            .iter()
            .map(|p| gradients.get(&p.var).map(Tensor::contiguous).transpose())
            .collect::<candle_core::Result<_>>()?;
        let clip = self.clip_factor(&found)?;
        let (momentum, nesterov) = (self.params.momentum, self.params.nesterov);
        let (beta2, muon_momentum) = (self.params.beta2, self.params.muon_momentum);
        for ((parameter, slot), gradient) in parameters.iter().zip(&mut self.slots).zip(found) {
            let Some(gradient) = gradient else { continue };
            let gradient = match clip {
                Some(factor) => (gradient * factor)?,
                None => gradient,
            };
            let factor =
                if parameter.kind == Kind::WhiteningBias { multipliers.whitening_bias } else { multipliers.all };
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

    /// Returns the factor on all gradients that reduces their joint norm to `clip_norm`; none if
    /// they are short enough.
    fn clip_factor(&self, gradients: &[Option<Tensor>]) -> Result<Option<f64>> {
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

    /// Returns the state: for each parameter, in order, the velocity or first moment, and the
    /// second moment (empty except for `AdamW`).
    pub(crate) fn memory(&self) -> impl Iterator<Item = [&[f32]; 2]> {
        self.slots.iter().map(|slot| [slot.first.as_slice(), slot.second.as_slice()])
    }

    /// Returns the state for writing.
    pub(crate) fn memory_mut(&mut self) -> impl Iterator<Item = [&mut Vec<f32>; 2]> {
        self.slots.iter_mut().map(|slot| [&mut slot.first, &mut slot.second])
    }
}

/// Updates a parameter's values in place.
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

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use cifar_model::parameters::{Init, Parameters};

    use super::*;

    /// A matrix, the last layer and a bias, each with two ones.
    fn parameters() -> Parameters {
        let mut parameters = Parameters::new(0);
        for (name, kind) in [("matrix", Kind::Matrix), ("head", Kind::Head), ("bias", Kind::Vector)] {
            parameters.add(name, kind, 2, Init::Constant(1.0)).unwrap();
        }
        parameters
    }

    /// Applies one step per factor, with the gradients 3 and 4 times the factor; returns the
    /// parameters' values.
    fn moved(params: &TrainParams, factors: &[f64]) -> Vec<Vec<f32>> {
        let parameters = parameters();
        let mut optimiser = Optimiser::new(params, parameters.trained());
        let slope = Tensor::new(&[3.0f32, 4.0], &Device::Cpu).unwrap();
        for (step, factor) in factors.iter().enumerate() {
            let terms = parameters.trained().iter().map(|p| (p.var.as_tensor() * &slope)?.sum_all()? * *factor);
            let terms: Vec<Tensor> = terms.collect::<candle_core::Result<_>>().unwrap();
            let gradients = Tensor::stack(&terms, 0).unwrap().sum_all().unwrap().backward().unwrap();
            let all = LrMultipliers { whitening_bias: 0.0, all: 1.0 };
            optimiser.step(parameters.trained(), &gradients, all, step).unwrap();
        }
        parameters.trained().iter().map(|p| p.var.to_vec1().unwrap()).collect()
    }

    #[track_caller]
    fn close(found: &[f32], expected: [f64; 2]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }

    fn sgd() -> TrainParams {
        TrainParams { learning_rate: 0.01, momentum: 0.0, weight_decay: 0.0, ..TrainParams::default() }
    }

    #[test]
    fn head_and_biases_have_their_own_rates_and_the_same_decay() {
        let params = TrainParams { head_lr_scale: 2.0, bias_lr_scale: 8.0, weight_decay: 0.5, ..sgd() };
        let [matrix, head, bias] = moved(&params, &[1.0]).try_into().unwrap();
        // w − rate · decay · w − rate · scale · gradient
        close(&matrix, [1.0 - 0.005 - 0.03, 1.0 - 0.005 - 0.04]);
        close(&head, [1.0 - 0.005 - 0.06, 1.0 - 0.005 - 0.08]);
        close(&bias, [1.0 - 0.24, 1.0 - 0.32]);
        let bias = &moved(&TrainParams { decay_biases: true, ..params }, &[1.0])[2];
        close(bias, [1.0 - 0.005 - 0.24, 1.0 - 0.005 - 0.32]);
    }

    #[test]
    fn the_backbone_has_a_lower_rate_and_decay() {
        let params = TrainParams { backbone_lr_scale: 0.1, weight_decay: 0.5, decay_biases: true, ..sgd() };
        let [matrix, head, bias] = moved(&params, &[1.0]).try_into().unwrap();
        close(&matrix, [1.0 - 0.0005 - 0.003, 1.0 - 0.0005 - 0.004]);
        close(&head, [1.0 - 0.005 - 0.03, 1.0 - 0.005 - 0.04]);
        close(&bias, [1.0 - 0.0005 - 0.003, 1.0 - 0.0005 - 0.004]);
    }

    #[test]
    fn gradients_are_clipped_to_a_joint_norm_and_never_lengthened() {
        // Three times (3, 4): the joint norm is √75.
        let params = TrainParams { clip_norm: 1.0, ..sgd() };
        let share = 1.0 / 75f64.sqrt();
        for values in moved(&params, &[1.0]) {
            close(&values, [1.0 - 0.03 * share, 1.0 - 0.04 * share]);
        }
        for values in moved(&TrainParams { clip_norm: 9.0, ..params }, &[1.0]) {
            close(&values, [1.0 - 0.03, 1.0 - 0.04]);
        }
    }

    #[test]
    fn adamw_matches_the_published_algorithm() {
        let (rate, betas, decay) = (0.01, [0.9f64, 0.99], 0.1);
        let params = TrainParams {
            optimiser: OptimiserKind::AdamW,
            learning_rate: rate,
            momentum: betas[0] as f32,
            beta2: betas[1] as f32,
            weight_decay: decay,
            ..TrainParams::default()
        };
        let factors = [1.0, -0.5, 2.0];
        // Loshchilov & Hutter 2017, algorithm 2, in f64.
        let expected = [3.0, 4.0].map(|slope| {
            let (mut w, mut m, mut v) = (1.0f64, 0.0, 0.0);
            for (step, factor) in (1..).zip(factors) {
                let g = slope * factor;
                m = betas[0] * m + (1.0 - betas[0]) * g;
                v = betas[1] * v + (1.0 - betas[1]) * g * g;
                let [m_hat, v_hat] = [m / (1.0 - betas[0].powi(step)), v / (1.0 - betas[1].powi(step))];
                w -= rate * decay * w + rate * m_hat / (v_hat.sqrt() + f64::from(EPSILON));
            }
            w
        });
        close(&moved(&params, &factors)[0], expected);
    }
}
