//! Locks on files: who comes second waits.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::thread;
use std::time::Duration;

use cifar_data::{DataError, Monitor};

use crate::Result;

/// How often a lock that another process has is asked for.
const PATIENCE: Duration = Duration::from_millis(200);

/// Locks `file`, which is at `path`, until it is closed. Waits while another process has it, and says so.
///
/// # Errors
/// If the user asks to stop in the meantime, or the system cannot lock.
pub(crate) fn wait_for(file: &File, path: &Path, monitor: &dyn Monitor) -> Result<()> {
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(e)) => return Err(DataError::io("lock", path)(e).into()),
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    monitor.warn(&format!(
                        "{}: another process is at this very work (same parameters, data and program); waiting for it, to use what it finds",
                        path.display()
                    ));
                }
                monitor.check()?;
                thread::sleep(PATIENCE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::TrainError;

    /// Counts warnings, and stops after the first one if it is to.
    struct Waiting {
        warnings: AtomicUsize,
        stops: bool,
    }

    impl Monitor for Waiting {
        fn progress(&self, _: &'static str, _: u64, _: u64) {}

        fn cancelled(&self) -> bool {
            self.stops && self.warnings.load(Ordering::Relaxed) > 0
        }

        fn warn(&self, _: &str) {
            self.warnings.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_comes_second_waits_until_the_first_is_done_or_it_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let first = open();
        let waiting = |stops| Waiting { warnings: AtomicUsize::new(0), stops };
        let free = waiting(false);
        wait_for(&first, &path, &free).unwrap();
        assert_eq!(free.warnings.into_inner(), 0);

        let stopped = wait_for(&open(), &path, &waiting(true));
        assert!(matches!(stopped, Err(TrainError::Data(DataError::Cancelled))), "{stopped:?}");

        let second = waiting(false);
        thread::scope(|scope| {
            let waits = scope.spawn(|| wait_for(&open(), &path, &second));
            while second.warnings.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            assert!(!waits.is_finished());
            drop(first);
            waits.join().unwrap().unwrap();
        });
        assert_eq!(second.warnings.into_inner(), 1);
    }
}
