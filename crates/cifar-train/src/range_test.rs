//! The learning-rate range test (Smith 2015, arXiv 1506.01186): the loss as the rate grows from far
//! too low to far too high.

use std::ops::ControlFlow;

use cifar_data::prepare::TrainingData;
use cifar_model::ModelParams;
use serde::Serialize;

use crate::{LrMultipliers, Result, Run, TrainError, TrainParams, TrainingCallback};

/// Steps of a test.
const STEPS: usize = 100;
/// The rate grows from this fraction of the recipe's …
const FROM: f64 = 1e-4;
/// … to this multiple of it.
const TO: f64 = 1e2;
/// Fraction of the smoothed loss that is kept at each step.
const SMOOTHING: f64 = 0.9;
/// The test ends once the smoothed loss is this many times the lowest.
const BLOWN_UP: f64 = 4.0;

/// One step of a range test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RangePoint {
    /// The value of `train.learning_rate` that the step corresponds to.
    pub learning_rate: f64,
    /// Mean loss of the batch before the step, nats.
    pub loss: f64,
    /// Bias-corrected exponential moving average of the losses so far.
    pub smoothed: f64,
}

/// The result of a range test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RangeTest {
    /// Every step, in ascending order of the rate.
    pub points: Vec<RangePoint>,
    /// The rate at which the smoothed loss falls fastest per decade; none if it never falls.
    pub steepest: Option<f64>,
    /// The rate at which the smoothed loss is lowest.
    pub lowest: Option<f64>,
    /// The rate at which the loss diverged; none if it did not.
    pub blown_up: Option<f64>,
}

/// Trains a new network for 100 steps while every rate of the recipe, including Muon's, grows by
/// the same factor.
///
/// The factor grows from 10⁻⁴ to 10². The test ends early if the loss diverges. The network is
/// discarded.
///
/// ```
/// use cifar_train::{TrainParams, range_test};
///
/// # use cifar_data::Silent;
/// # use cifar_data::sources::synthetic::{self, SyntheticParams};
/// # use cifar_model::ModelParams;
/// # let data = synthetic::training_data(&SyntheticParams { count: 300, ..Default::default() })?;
/// # let model = ModelParams { widths: vec![8, 8, 8], ..Default::default() };
/// let found = range_test(&TrainParams::default(), &model, &data, 42, &Silent)?;
/// assert!(!found.points.is_empty() && found.lowest.is_some());
/// # Ok::<(), cifar_train::TrainError>(())
/// ```
///
/// # Errors
/// As [`fit()`](crate::fit()), except that a diverging loss is a result.
pub fn range_test(
    params: &TrainParams,
    model: &ModelParams,
    data: &TrainingData,
    seed: u64,
    callback: &dyn TrainingCallback,
) -> Result<RangeTest> {
    let mut run = Run::start(params, model, data, seed)?;
    let factor = |step: usize| FROM * libm::pow(TO / FROM, step as f64 / (STEPS - 1) as f64);
    let multipliers = |step: usize| LrMultipliers { whitening_bias: factor(step), all: factor(step) };
    let mut losses: Vec<f64> = Vec::new();
    let outcome = run.trainer.steps_at(
        &data.train,
        STEPS,
        |_, step| multipliers(step),
        |_, step| {
            losses.push(f64::from(step.loss));
            callback.update("learning rates", losses.len() as u64, STEPS as u64);
            callback.check()?;
            let smoothed = smoothed(&losses);
            let lowest = smoothed.iter().copied().fold(f64::INFINITY, f64::min);
            let blown_up = smoothed.last().is_some_and(|last| *last > BLOWN_UP * lowest);
            Ok(if blown_up { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        },
    );
    cifar_kernels::release_buffers();
    let rate = |step: usize| params.learning_rate * factor(step);
    let blown_up = match outcome {
        // The step that diverged has no loss.
        Err(TrainError::Diverged { .. }) => Some(rate(losses.len())),
        Ok(()) => (losses.len() < STEPS).then(|| rate(losses.len().saturating_sub(1))),
        Err(error) => return Err(error),
    };
    Ok(RangeTest::of(&losses, rate, blown_up))
}

impl RangeTest {
    fn of(losses: &[f64], rate: impl Fn(usize) -> f64, blown_up: Option<f64>) -> Self {
        let points: Vec<RangePoint> = (losses.iter().zip(smoothed(losses)).enumerate())
            .map(|(step, (&loss, smoothed))| RangePoint { learning_rate: rate(step), loss, smoothed })
            .collect();
        let lowest = points.iter().min_by(|a, b| a.smoothed.total_cmp(&b.smoothed)).copied();
        // Only the descent counts: after the lowest point the loss may fall from a peak.
        let way_down =
            points.windows(2).take_while(|pair| lowest.is_some_and(|l| pair[0].learning_rate < l.learning_rate));
        let steepest = way_down
            .filter(|pair| pair[1].smoothed < pair[0].smoothed)
            .min_by(|a, b| (a[1].smoothed - a[0].smoothed).total_cmp(&(b[1].smoothed - b[0].smoothed)))
            .map(|pair| pair[1].learning_rate);
        Self { points, steepest, lowest: lowest.map(|point| point.learning_rate), blown_up }
    }
}

/// Bias-corrected exponential moving averages (Kingma & Ba 2015, arXiv 1412.6980, section 3).
fn smoothed(losses: &[f64]) -> Vec<f64> {
    let mut average = 0.0;
    let mut weight = 1.0;
    losses
        .iter()
        .map(|loss| {
            average = SMOOTHING * average + (1.0 - SMOOTHING) * loss;
            weight *= SMOOTHING;
            average / (1.0 - weight)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steepest_and_the_lowest_rate_are_found() {
        // Flat, a fall in the middle, a rise at the end.
        let losses: Vec<f64> = (0..60)
            .map(|step| match step {
                0..30 => 2.0,
                30..40 => 2.0 - 0.1 * f64::from(step - 29),
                40..50 => 1.0,
                _ => 1.0 + f64::from(step - 49),
            })
            .collect();
        let found = RangeTest::of(&losses, |step| 10f64.powf(step as f64 / 10.0 - 4.0), None);
        let step = |rate: Option<f64>| ((rate.unwrap().log10() + 4.0) * 10.0).round() as usize;
        assert!((35..=41).contains(&step(found.steepest)), "{}", step(found.steepest));
        assert!((48..=51).contains(&step(found.lowest)), "{}", step(found.lowest));
        // With bias correction, the average of equal losses is that loss.
        assert!(found.points[..30].iter().all(|p| (p.smoothed - 2.0).abs() < 1e-12));
    }

    #[test]
    fn losses_that_only_rise_have_no_steepest_descent() {
        let found = RangeTest::of(&[1.0, 2.0, 3.0], |step| step as f64 + 1.0, Some(3.0));
        assert_eq!((found.steepest, found.lowest), (None, Some(1.0)));
        assert_eq!(RangeTest::of(&[], |_| 1.0, Some(1.0)).lowest, None);
    }
}
