//! The identity of the running program. Another program may compute different bits.

use std::path::PathBuf;

use crate::{Context as _, Result};

/// The file next to the program with the fingerprint of the training code.
pub const FINGERPRINT: &str = "train_model.fingerprint";

/// Returns the identity of this program: the fingerprint of the training code, if the stage `build`
/// wrote one next to the program, else a hash of the program's bytes.
pub fn identity() -> Result<String> {
    let path = std::env::current_exe().context("cannot find this program's own file")?;
    let fingerprint = path.with_file_name(FINGERPRINT);
    if let Ok(text) = std::fs::read_to_string(&fingerprint) {
        return Ok(text.trim().to_string());
    }
    let running = running()?;
    let mut hasher = blake3::Hasher::new();
    // Not all at once: without `--release` the program has more than 100 MB.
    let read = std::fs::File::open(&running).and_then(|file| hasher.update_reader(file).map(drop));
    read.with_context(|| format!("{}: cannot read this program", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Returns the identity with the instruction set and target, for results that must not be mixed.
pub fn identity_here() -> Result<String> {
    Ok(format!("{} {}", identity()?, cifar_kernels::numeric_target()?))
}

/// Returns a path from which this program can be read. Linux keeps it readable while it runs, even
/// if it was recompiled or deleted since, as happens during a grid that runs for hours.
pub fn running() -> Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    std::env::current_exe().context("cannot find this program's own file")
}
