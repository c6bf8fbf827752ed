//! Averages of the weights over steps: an exponential moving average, or Lookahead's slow weights.

use candle_core::{Device, Tensor};
use cifar_kernels::move_average;
use cifar_model::parameters::Parameters;

use crate::{Averaging, Result, TrainParams};

/// The averaged values of every tensor of a network, with running statistics, in the order of
/// [`Parameters::all`]. Empty without averaging.
#[derive(Debug)]
pub(crate) struct Average {
    kind: Averaging,
    decay: f32,
    power: f32,
    every: usize,
    values: Vec<Vec<f32>>,
}

impl Average {
    /// Starts with the current weights.
    pub(crate) fn new(params: &TrainParams, parameters: &Parameters) -> Result<Self> {
        let (kind, decay, power) = (params.averaging, params.averaging_decay, params.averaging_power);
        let every = params.averaging_every;
        let values = if kind == Averaging::None { Vec::new() } else { all_values(parameters)? };
        Ok(Self { kind, decay, power, every, values })
    }

    /// Updates the average with the weights after step `step` of `steps`, counted from 1, if it is
    /// due. Lookahead then resets the network to the average. The last step of a run is always due.
    pub(crate) fn after_step(&mut self, parameters: &Parameters, step: usize, steps: usize) -> Result<()> {
        if self.kind == Averaging::None || !(step.is_multiple_of(self.every) || step == steps) {
            return Ok(());
        }
        // The initial weights are arbitrary. A lower decay at first, at most (1 + t)/(10 + t) after
        // t updates, forgets them sooner.
        let updates = (step / self.every) as f32;
        let decay = self.decay * rise(step, steps, self.power);
        let decay = match self.kind {
            Averaging::Ema => decay.min((1.0 + updates) / (10.0 + updates)),
            Averaging::None | Averaging::Lookahead => decay,
        };
        for (average, (_, var)) in self.values.iter_mut().zip(parameters.all()) {
            move_average(average, &var.flatten_all()?.to_vec1::<f32>()?, 1.0 - decay)?;
            if self.kind == Averaging::Lookahead {
                var.set(&Tensor::from_slice(average, var.dims(), &Device::Cpu)?)?;
            }
        }
        Ok(())
    }

    /// Calls `evaluate` while the network has the averaged weights and running statistics, which
    /// are what the run keeps. Lookahead needs this too: between two updates its network moves away
    /// from the slow weights.
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

    /// Returns the averages; empty without averaging.
    pub(crate) fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// Returns the averages for writing.
    pub(crate) fn values_mut(&mut self) -> &mut [Vec<f32>] {
        &mut self.values
    }
}

/// Returns the factor on the decay: (step / steps) to the power of `power`, and 1 without a power.
fn rise(step: usize, steps: usize, power: f32) -> f32 {
    if power > 0.0 { libm::powf(step as f32 / steps as f32, power) } else { 1.0 }
}

fn all_values(parameters: &Parameters) -> Result<Vec<Vec<f32>>> {
    let values = parameters.all().map(|(_, var)| var.flatten_all()?.to_vec1::<f32>());
    Ok(values.collect::<candle_core::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use cifar_model::parameters::{Init, Kind};

    use super::*;

    /// One trained value and one buffer, both 0.
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
    fn validation_uses_the_exponential_average_and_training_does_not() {
        let parameters = parameters();
        let mut average = Average::new(&params(Averaging::Ema, 0.25, 2), &parameters).unwrap();
        set(&parameters, 1.0);
        average.after_step(&parameters, 1, 99).unwrap();
        assert_eq!(average.values().concat(), [0.0, 0.0], "no update is due");
        average.after_step(&parameters, 2, 99).unwrap();
        // The first update keeps 2/11 of the initial value, less than the decay.
        let first = 1.0 - 2.0 / 11.0;
        set(&parameters, 2.0);
        average.after_step(&parameters, 4, 99).unwrap();
        // The second one could keep 3/12, so from here on the decay decides.
        let second = 0.25 * first + 0.75 * 2.0;
        assert!(average.values().concat().iter().all(|v| (v - second).abs() < 1e-6), "{:?} {second}", average.values());
        assert_eq!(average.with(&parameters, || Ok(values(&parameters))).unwrap(), average.values().concat());
        assert_eq!(values(&parameters), [2.0, 2.0], "training continues with its own weights");
        average.after_step(&parameters, 5, 5).unwrap();
        assert!(average.values()[0][0] > second, "the last step is always due");
    }

    #[test]
    fn lookahead_resets_the_network_to_its_slow_weights() {
        let parameters = parameters();
        let mut average = Average::new(&params(Averaging::Lookahead, 0.75, 3), &parameters).unwrap();
        set(&parameters, 1.0);
        for step in 1..3 {
            average.after_step(&parameters, step, 99).unwrap();
        }
        assert_eq!(values(&parameters), [1.0, 1.0]);
        average.after_step(&parameters, 3, 99).unwrap();
        assert_eq!(values(&parameters), [0.25, 0.25]);
        set(&parameters, 2.0);
        average.after_step(&parameters, 4, 99).unwrap();
        assert_eq!(
            average.with(&parameters, || Ok(values(&parameters))).unwrap(),
            [0.25, 0.25],
            "the slow ones are evaluated"
        );
        assert_eq!(values(&parameters), [2.0, 2.0], "training continues with the fast ones");
    }

    #[test]
    fn the_decay_can_rise_over_the_run() {
        let parameters = parameters();
        let rising = TrainParams { averaging_power: 3.0, ..params(Averaging::Lookahead, 0.8, 1) };
        let mut average = Average::new(&rising, &parameters).unwrap();
        // Decays after the steps of a run of two: 0.8 · (1/2)³ = 0.1 and 0.8.
        for (step, weight, expected) in [(1, 1.0, 0.9), (2, 2.0, 0.8 * 0.9 + 0.2 * 2.0)] {
            set(&parameters, weight);
            average.after_step(&parameters, step, 2).unwrap();
            assert!(values(&parameters).iter().all(|v| (v - expected).abs() < 1e-6), "{:?}", values(&parameters));
        }
    }

    #[test]
    fn without_averaging_no_copy_is_kept() {
        let parameters = parameters();
        let mut average = Average::new(&params(Averaging::None, 0.75, 1), &parameters).unwrap();
        set(&parameters, 1.0);
        average.after_step(&parameters, 1, 1).unwrap();
        assert!(average.values().is_empty() && values(&parameters) == [1.0, 1.0]);
    }
}
