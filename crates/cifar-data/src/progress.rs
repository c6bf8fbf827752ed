//! Progress, warnings and cancellation of long tasks.

use crate::{DataError, Result};

/// Receives the progress of a long task. It is called from any thread and must be cheap.
///
/// ```
/// use cifar_data::Progress;
///
/// struct Print;
///
/// impl Progress for Print {
///     fn update(&self, what: &'static str, done: u64, total: u64) {
///         println!("{what}: {done} of {total}");
///     }
///
///     fn warn(&self, message: &str) {
///         eprintln!("{message}");
///     }
/// }
/// ```
pub trait Progress: Sync {
    /// Called when `done` of `total` items of the task `what` are finished.
    fn update(&self, what: &'static str, done: u64, total: u64);

    /// Returns whether the user asked to stop. The task then ends with [`DataError::Cancelled`] and
    /// leaves no output.
    fn cancelled(&self) -> bool {
        false
    }

    /// Called with something that the user should know and that is not an error.
    fn warn(&self, _message: &str) {}

    /// Returns an error if the user asked to stop, for use with `?`.
    fn check(&self) -> Result<()> {
        if self.cancelled() { Err(DataError::Cancelled) } else { Ok(()) }
    }
}

/// Shows nothing and never cancels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn update(&self, _what: &'static str, _done: u64, _total: u64) {}
}
