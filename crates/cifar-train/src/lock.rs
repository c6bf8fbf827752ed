//! Locks on files: who comes second waits.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use cifar_data::{DataError, Monitor};
use same_file::Handle;

use crate::Result;

/// How often a lock that another process has is asked for.
const PATIENCE: Duration = Duration::from_millis(200);

/// Opens the file at `path`, to read it and add to it, and locks it until it is closed; makes it, and the folders above, where they
/// are missing. Waits while another process has it, and says so.
///
/// # Errors
/// If the user asks to stop in the meantime, or the file cannot be opened or locked.
pub(crate) fn lock(path: &Path, monitor: &dyn Monitor) -> Result<File> {
    let mut told = false;
    loop {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(DataError::io("create the folder", parent))?;
        }
        let file = File::options().create(true).append(true).read(true).open(path);
        let file = file.map_err(DataError::io("open", path))?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path).map_err(DataError::io("look at", path))? => return Ok(file),
            // Who had it has removed it meanwhile.
            Ok(()) => {}
            Err(TryLockError::Error(e)) => return Err(DataError::io("lock", path)(e).into()),
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    monitor.warn(&format!(
                        "{}: another process is at this very work (same parameters, data and program); waiting for it to end",
                        path.display()
                    ));
                }
                thread::sleep(PATIENCE);
            }
        }
        monitor.check()?;
    }
}

/// The same for a file that is there and that nobody has; none otherwise.
pub(crate) fn lock_if_free(path: &Path) -> Option<File> {
    let file = File::options().append(true).read(true).open(path).ok()?;
    (file.try_lock().is_ok() && is_at(&file, path).is_ok_and(|is| is)).then_some(file)
}

/// Whether the file is still the one at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let this = Handle::from_file(file.try_clone()?)?;
    match Handle::from_path(path) {
        Ok(that) => Ok(this == that),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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

    fn waiting(stops: bool) -> Waiting {
        Waiting { warnings: AtomicUsize::new(0), stops }
    }

    /// Lets somebody wait for the lock that `first` is, does `meanwhile`, and lets go; what the other one got.
    fn second(path: &Path, first: File, meanwhile: impl FnOnce()) -> File {
        let monitor = waiting(false);
        let second = thread::scope(|scope| {
            let waits = scope.spawn(|| lock(path, &monitor));
            while monitor.warnings.load(Ordering::Relaxed) == 0 {
                assert!(!waits.is_finished(), "it does not wait");
                thread::sleep(Duration::from_millis(1));
            }
            meanwhile();
            drop(first);
            waits.join().unwrap().unwrap()
        });
        assert_eq!(monitor.warnings.into_inner(), 1);
        second
    }

    #[test]
    fn who_comes_second_waits_until_the_first_is_done_or_it_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/lock");
        assert!(lock_if_free(&path).is_none() && !path.exists());
        let free = waiting(false);
        let first = lock(&path, &free).unwrap();
        assert_eq!(free.warnings.into_inner(), 0);
        assert!(lock_if_free(&path).is_none());

        let stopped = lock(&path, &waiting(true));
        assert!(matches!(stopped, Err(TrainError::Data(DataError::Cancelled))), "{stopped:?}");
        drop(second(&path, first, || {}));
        assert!(lock_if_free(&path).is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_that_was_removed_meanwhile_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/lock");
        let first = lock(&path, &waiting(false)).unwrap();
        let second = second(&path, first, || fs::remove_dir_all(folder.path().join("a")).unwrap());
        assert!(is_at(&second, &path).unwrap(), "it has the file that is there now");
    }
}
