//! Timing of a loop: warm-up steps, then timed steps.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use cifar_data::Progress;

use cifar_pipeline::resources::page_faults;

/// Number of warm-up steps: the first allocates memory, the second may still enlarge some of it.
pub(super) const WARM_UP_STEPS: usize = 3;

/// Time after which a progress bar is shown.
const SHOWN_AFTER: Duration = Duration::from_secs(2);

/// A stopwatch that records the end of each step.
pub(super) struct Laps<'a> {
    monitor: &'a dyn Progress,
    what: &'static str,
    total: usize,
    ended: usize,
    started: Instant,
    last: Instant,
    faults: Option<u64>,
    seconds: Vec<f64>,
}

/// The times of the timed steps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// Median.
    pub(super) ms: f64,
    /// Minimum.
    pub(super) ms_min: f64,
    /// Mean, where the system reports it.
    pub(super) page_faults: Option<f64>,
}

impl<'a> Laps<'a> {
    /// Starts the clock; `steps` is at least 1.
    pub(super) fn start(monitor: &'a dyn Progress, what: &'static str, steps: usize) -> Self {
        let now = Instant::now();
        let seconds = Vec::with_capacity(steps);
        Self { monitor, what, total: WARM_UP_STEPS + steps, ended: 0, started: now, last: now, faults: None, seconds }
    }

    /// Ends a step; breaks after the last one.
    ///
    /// # Errors
    /// If the user asked to stop.
    pub(super) fn lap(&mut self) -> cifar_data::Result<ControlFlow<()>> {
        let seconds = self.last.elapsed().as_secs_f64();
        self.ended += 1;
        if self.ended > WARM_UP_STEPS {
            self.seconds.push(seconds);
        }
        if self.ended == WARM_UP_STEPS {
            self.faults = page_faults();
        }
        if self.started.elapsed() > SHOWN_AFTER {
            self.monitor.update(self.what, self.ended as u64, self.total as u64);
        }
        self.monitor.check()?;
        // The time between steps does not count.
        self.last = Instant::now();
        Ok(if self.ended < self.total { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }

    /// Returns median, minimum and page faults of the timed steps.
    pub(super) fn finish(self) -> Measured {
        let page_faults = self.faults.zip(page_faults());
        let (ms, ms_min) = median_and_least(self.seconds.clone());
        Measured {
            ms: ms * 1e3,
            ms_min: ms_min * 1e3,
            page_faults: page_faults.map(|(before, after)| (after - before) as f64 / self.seconds.len() as f64),
        }
    }
}

/// Returns the median (for an even count, the mean of the middle two) and the minimum of at least
/// one value.
pub(super) fn median_and_least(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median =
        if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] };
    (median, values[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_right() {
        assert_eq!(median_and_least(vec![3.0, 1.0, 2.0]), (2.0, 1.0));
        assert_eq!(median_and_least(vec![4.0, 1.0, 2.0, 3.0]), (2.5, 1.0));
        assert_eq!(median_and_least(vec![7.0]), (7.0, 7.0));
    }

    #[test]
    fn only_timed_steps_count_and_the_last_one_breaks() {
        let mut laps = Laps::start(&cifar_data::Silent, "trying", 2);
        let ends: Vec<bool> = (0..WARM_UP_STEPS + 2).map(|_| laps.lap().unwrap().is_break()).collect();
        assert_eq!(ends.iter().position(|end| *end), Some(WARM_UP_STEPS + 1));
        assert_eq!(laps.seconds.len(), 2);
        let measured = laps.finish();
        assert!(measured.ms >= measured.ms_min && measured.ms_min > 0.0);
    }
}
