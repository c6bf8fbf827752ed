//! The project's lock: a process that writes results holds it, so that two runs never mix.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};

use crate::layout::Layout;
use crate::links::refuse_links;
use crate::{Context as _, Result, bail};

/// The project's lock. Held until dropped; the system releases it if the process dies.
#[derive(Debug)]
pub struct ProjectLock {
    _file: File,
}

impl ProjectLock {
    /// Takes the lock, after a check that no command writes through a link (see [`refuse_links`]).
    pub fn take(layout: &Layout, command: &str) -> Result<Self> {
        refuse_links(layout)?;
        let path = layout.state().join("lock");
        std::fs::create_dir_all(layout.state())
            .with_context(|| format!("{}: cannot create the folder", layout.state().display()))?;
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("{}: cannot open the lock", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder =
                    if holder.trim().is_empty() { "another run".to_string() } else { format!("`{}`", holder.trim()) };
                bail!(
                    "{holder} is running in this folder; wait until it ends, or stop it (its lock is {})",
                    path.display()
                );
            }
            Err(TryLockError::Error(e)) => return Err(e).with_context(|| format!("{}: cannot lock", path.display())),
        }
        // The holder, for the message above. Nothing else depends on this line.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "cifar-cli {command} (process {})", std::process::id()));
        Ok(Self { _file: file })
    }
}
