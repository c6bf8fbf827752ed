//! The reporter of a grid.

use cifar_pipeline::Reporter;

/// Shows the progress of a grid: a row per run, and one for all runs. All methods except those of
/// [`Reporter`] do nothing by default.
pub trait GridReporter: Reporter {
    /// A run starts or resumes.
    fn run_started(&self, _run: &str) {}

    /// A run has finished `fraction`, 0 to 1, of what `message` names.
    fn run_progress(&self, _run: &str, _fraction: f64, _message: &str) {}

    /// A run is in an activity whose progress cannot be measured.
    fn run_note(&self, _run: &str, _message: &str) {}

    /// A run ended, or waits again.
    fn run_ended(&self, _run: &str) {}

    /// The finished fraction of all runs together, 0 to 1.
    fn grid_progress(&self, _fraction: f64, _message: &str) {}

    /// No run is running any more.
    fn grid_ended(&self) {}
}

impl GridReporter for cifar_data::Silent {}
