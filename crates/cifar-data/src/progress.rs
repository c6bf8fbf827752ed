//! How a library tells of its progress, and how it is asked to stop.

use crate::{DataError, Result};

/// Watches a long task. The library calls it from any thread; it must be cheap.
pub trait Monitor: Sync {
    /// `done` of `total` items of the task called `what` are finished.
    fn progress(&self, what: &'static str, done: u64, total: u64);

    /// True once the user asked to stop. The task then ends with [`DataError::Cancelled`] and leaves no output.
    fn cancelled(&self) -> bool {
        false
    }

    /// Something that a user should know and that is no error.
    fn warn(&self, _message: &str) {}

    /// An error once the user asked to stop, for use with `?`.
    fn check(&self) -> Result<()> {
        if self.cancelled() { Err(DataError::Cancelled) } else { Ok(()) }
    }
}

/// A monitor that shows nothing and never stops anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn progress(&self, _what: &'static str, _done: u64, _total: u64) {}
}
