//! Stochastic gradient descent with momentum, its state in the order of the parameters.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, Error, InplaceOp2, Layout};
use cifar_kernels::sgd_update;
use cifar_model::parameters::{Kind, Parameter};

use crate::{Result, TrainParams};

/// SGD with (Nesterov) momentum and decoupled weight decay:
/// v ← momentum · v + g; w ← w · (1 − lr · decay) − lr · (nesterov ? g + momentum · v : v).
#[derive(Debug)]
pub struct Sgd {
    momentum: f32,
    nesterov: bool,
    weight_decay: f32,
    velocities: Vec<Vec<f32>>,
}

impl Sgd {
    /// Starts with velocities of 0.
    pub fn new(params: &TrainParams, parameters: &[Parameter]) -> Self {
        Self {
            momentum: params.momentum,
            nesterov: params.nesterov,
            weight_decay: params.weight_decay,
            velocities: parameters.iter().map(|p| vec![0.0; p.var.elem_count()]).collect(),
        }
    }

    /// Moves every parameter that has a gradient.
    pub fn step(&mut self, parameters: &[Parameter], gradients: &GradStore, learning_rate: f32) -> Result<()> {
        for (parameter, velocity) in parameters.iter().zip(&mut self.velocities) {
            let Some(gradient) = gradients.get(&parameter.var) else { continue };
            let update = Update {
                learning_rate,
                momentum: self.momentum,
                nesterov: self.nesterov,
                weight_decay: if parameter.kind == Kind::Weight { self.weight_decay } else { 0.0 },
                velocity: RefCell::new(velocity),
            };
            parameter.var.inplace_op2(&gradient.contiguous()?, &update)?;
        }
        Ok(())
    }
}

struct Update<'a> {
    learning_rate: f32,
    momentum: f32,
    nesterov: bool,
    weight_decay: f32,
    velocity: RefCell<&'a mut Vec<f32>>,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "sgd-update"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        let (Some((start, end)), Some((grad_start, grad_end))) = (l1.contiguous_offsets(), l2.contiguous_offsets())
        else {
            return Err(Error::Msg("sgd-update: arguments must be contiguous".into()));
        };
        let CpuStorage::F32(weight) = s1 else {
            return Err(Error::Msg("sgd-update: parameters must be f32".into()));
        };
        let gradient = &s2.as_slice::<f32>()?[grad_start..grad_end];
        let velocity: &mut [f32] = &mut self.velocity.borrow_mut();
        sgd_update(
            &mut weight[start..end],
            gradient,
            velocity,
            self.learning_rate,
            self.momentum,
            self.nesterov,
            self.weight_decay,
        )
        .map_err(Error::wrap)
    }
}
