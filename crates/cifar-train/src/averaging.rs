//! Averages of weights over steps: an exponential moving average, or Lookahead's slow weights.

use candle_core::{Device, Tensor};
use cifar_kernels::move_average;
use cifar_model::parameters::Parameters;

use crate::{Averaging, Result, TrainParams};

/// The averaged values of every tensor of a network (running statistics too), in the order of [`Parameters::all`]; none
/// where nothing is averaged.
#[derive(Debug)]
pub(crate) struct Average {
    kind: Averaging,
    decay: f32,
    every: usize,
    values: Vec<Vec<f32>>,
}

impl Average {
    /// Starts with the weights as they are.
    pub(crate) fn new(params: &TrainParams, parameters: &Parameters) -> Result<Self> {
        let (kind, decay, every) = (params.averaging, params.averaging_decay, params.averaging_every);
        let values = if kind == Averaging::None { Vec::new() } else { all_values(parameters)? };
        Ok(Self { kind, decay, every, values })
    }

    /// Takes in the weights behind step number `step`, counted from 1, if it is their turn; Lookahead puts its own in their
    /// place. The last step of a run always counts.
    pub(crate) fn after_step(&mut self, parameters: &Parameters, step: usize, last: bool) -> Result<()> {
        if self.kind == Averaging::None || !(step.is_multiple_of(self.every) || last) {
            return Ok(());
        }
        // A moving average that began with drawn weights forgets them sooner: after t turns, 10/(10 + t) of the usual time.
        let turns = (step / self.every) as f32;
        let decay = match self.kind {
            Averaging::Ema => self.decay.min((1.0 + turns) / (10.0 + turns)),
            Averaging::None | Averaging::Lookahead => self.decay,
        };
        for (average, (_, var)) in self.values.iter_mut().zip(parameters.all()) {
            move_average(average, &var.flatten_all()?.to_vec1::<f32>()?, 1.0 - decay)?;
            if self.kind == Averaging::Lookahead {
                var.set(&Tensor::from_slice(average, var.dims(), &Device::Cpu)?)?;
            }
        }
        Ok(())
    }

    /// Calls `evaluate` while the network has the averaged weights, if it is these that count.
    pub(crate) fn with<T>(&self, parameters: &Parameters, evaluate: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.kind != Averaging::Ema {
            return evaluate();
        }
        let trained = parameters.snapshot()?;
        for (average, (_, var)) in self.values.iter().zip(parameters.all()) {
            var.set(&Tensor::from_slice(average, var.dims(), &Device::Cpu)?)?;
        }
        let result = evaluate();
        parameters.restore(&trained)?;
        result
    }

    /// The averages; empty if there are none.
    pub(crate) fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// The same to be written to.
    pub(crate) fn values_mut(&mut self) -> &mut [Vec<f32>] {
        &mut self.values
    }
}

fn all_values(parameters: &Parameters) -> Result<Vec<Vec<f32>>> {
    let values = parameters.all().map(|(_, var)| var.flatten_all()?.to_vec1::<f32>());
    Ok(values.collect::<candle_core::Result<_>>()?)
}
