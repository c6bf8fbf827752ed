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

    /// Calls `evaluate` while the network has the averaged weights and running statistics, if there
    /// are any: these are what a run keeps. Between two of its turns, Lookahead's network has moved
    /// away from them, too.
    pub(crate) fn with<T>(&self, parameters: &Parameters, evaluate: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.kind == Averaging::None {
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

#[cfg(test)]
mod tests {
    use cifar_model::parameters::{Init, Kind};

    use super::*;

    /// One trained value and one that is only kept, both 0.
    fn parameters() -> Parameters {
        let mut parameters = Parameters::new(0);
        parameters.add("weight", Kind::Vector, 1, Init::Constant(0.0)).unwrap();
        parameters.add_buffer("mean", 1, Init::Constant(0.0)).unwrap();
        parameters
    }

    fn values(parameters: &Parameters) -> Vec<f32> {
        all_values(parameters).unwrap().concat()
    }

    fn set(parameters: &Parameters, value: f32) {
        parameters.all().for_each(|(_, var)| var.set(&Tensor::new(&[value], &Device::Cpu).unwrap()).unwrap());
    }

    fn params(averaging: Averaging, averaging_decay: f32, averaging_every: usize) -> TrainParams {
        TrainParams { averaging, averaging_decay, averaging_every, ..TrainParams::default() }
    }

    #[test]
    fn an_exponential_average_counts_in_validation_and_leaves_training_alone() {
        let parameters = parameters();
        let mut average = Average::new(&params(Averaging::Ema, 0.25, 2), &parameters).unwrap();
        set(&parameters, 1.0);
        average.after_step(&parameters, 1, false).unwrap();
        assert_eq!(average.values().concat(), [0.0, 0.0], "it is not its turn");
        average.after_step(&parameters, 2, false).unwrap();
        // The first turn keeps 2/11 of what was drawn, less than the decay.
        let first = 1.0 - 2.0 / 11.0;
        set(&parameters, 2.0);
        average.after_step(&parameters, 4, false).unwrap();
        // The second one would keep 3/12: from there on it is the decay.
        let second = 0.25 * first + 0.75 * 2.0;
        assert!(average.values().concat().iter().all(|v| (v - second).abs() < 1e-6), "{:?} {second}", average.values());
        assert_eq!(average.with(&parameters, || Ok(values(&parameters))).unwrap(), average.values().concat());
        assert_eq!(values(&parameters), [2.0, 2.0], "training goes on from its own weights");
        average.after_step(&parameters, 5, true).unwrap();
        assert!(average.values()[0][0] > second, "the last step counts, whatever its turn");
    }

    #[test]
    fn lookahead_puts_its_slow_weights_into_the_network() {
        let parameters = parameters();
        let mut average = Average::new(&params(Averaging::Lookahead, 0.75, 3), &parameters).unwrap();
        set(&parameters, 1.0);
        for step in 1..3 {
            average.after_step(&parameters, step, false).unwrap();
        }
        assert_eq!(values(&parameters), [1.0, 1.0]);
        average.after_step(&parameters, 3, false).unwrap();
        assert_eq!(values(&parameters), [0.25, 0.25]);
        set(&parameters, 2.0);
        average.after_step(&parameters, 4, false).unwrap();
        assert_eq!(average.with(&parameters, || Ok(values(&parameters))).unwrap(), [0.25, 0.25], "the slow ones count");
        assert_eq!(values(&parameters), [2.0, 2.0], "training continues with the fast ones");
    }

    #[test]
    fn without_averaging_nothing_is_kept() {
        let parameters = parameters();
        let mut average = Average::new(&params(Averaging::None, 0.75, 1), &parameters).unwrap();
        set(&parameters, 1.0);
        average.after_step(&parameters, 1, true).unwrap();
        assert!(average.values().is_empty() && values(&parameters) == [1.0, 1.0]);
    }
}
