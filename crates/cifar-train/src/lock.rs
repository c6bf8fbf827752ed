//! Exclusive locks on files. A second process waits.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use cifar_data::{DataError, Progress};
use same_file::Handle;

use crate::Result;

/// Time between two attempts to take a lock.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Opens the file at `path` for reading and appending, and locks it until it is closed.
///
/// Creates the file and its folders if they are missing. While another process holds the lock, it
/// waits, with one warning.
///
/// # Errors
/// If the user asks to stop while it waits, or the file cannot be opened or locked.
pub(crate) fn lock(path: &Path, progress: &dyn Progress) -> Result<File> {
    let mut warned = false;
    loop {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(DataError::io("create the folder", parent))?;
        }
        let file = File::options().create(true).append(true).read(true).open(path);
        let file = file.map_err(DataError::io("open", path))?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path).map_err(DataError::io("look at", path))? => return Ok(file),
            // The process that held the lock has removed the file.
            Ok(()) => {}
            Err(TryLockError::Error(e)) => return Err(DataError::io("lock", path)(e).into()),
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut warned, true) {
                    progress.warn(&format!(
                        "{}: another process is working on the same parameters, data and program; waiting for it to end",
                        path.display()
                    ));
                }
                thread::sleep(RETRY_INTERVAL);
            }
        }
        progress.check()?;
    }
}

/// Locks an existing file; none if there is no such file or another process holds the lock.
pub(crate) fn lock_if_free(path: &Path) -> Option<File> {
    let file = File::options().append(true).read(true).open(path).ok()?;
    (file.try_lock().is_ok() && is_at(&file, path).is_ok_and(|is| is)).then_some(file)
}

/// Returns whether `path` still names this file.
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

    /// Counts warnings, and cancels after the first one if `stops`.
    struct CountWarnings {
        warnings: AtomicUsize,
        stops: bool,
    }

    impl Progress for CountWarnings {
        fn update(&self, _: &'static str, _: u64, _: u64) {}

        fn cancelled(&self) -> bool {
            self.stops && self.warnings.load(Ordering::Relaxed) > 0
        }

        fn warn(&self, _: &str) {
            self.warnings.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waiting(stops: bool) -> CountWarnings {
        CountWarnings { warnings: AtomicUsize::new(0), stops }
    }

    /// Waits for the lock `first` on another thread, runs `meanwhile`, releases the lock, and
    /// returns the file that the waiting thread got.
    fn second(path: &Path, first: File, meanwhile: impl FnOnce()) -> File {
        let progress = waiting(false);
        let second = thread::scope(|scope| {
            let waits = scope.spawn(|| lock(path, &progress));
            while progress.warnings.load(Ordering::Relaxed) == 0 {
                assert!(!waits.is_finished(), "the second user does not wait");
                thread::sleep(Duration::from_millis(1));
            }
            meanwhile();
            drop(first);
            waits.join().unwrap().unwrap()
        });
        assert_eq!(progress.warnings.into_inner(), 1);
        second
    }

    #[test]
    fn a_second_user_waits_for_the_first_or_until_cancelled() {
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
    fn a_lock_on_a_removed_file_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/lock");
        let first = lock(&path, &waiting(false)).unwrap();
        let second = second(&path, first, || fs::remove_dir_all(folder.path().join("a")).unwrap());
        assert!(is_at(&second, &path).unwrap(), "the lock is on the current file");
    }
}
