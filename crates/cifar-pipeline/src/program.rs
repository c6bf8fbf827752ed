//! The identity of the running program. Another program may compute other bits.

use std::path::PathBuf;

use crate::{Context as _, Result};

/// The file beside the program with the fingerprint of the code that trains.
pub const FINGERPRINT: &str = "train_model.fingerprint";

/// What stands for this program in the name of a run: the fingerprint of the code that trains, where the `build` stage put
/// one beside the program, else a hash of the program's bytes. Another program may compute other bits.
pub fn identity() -> Result<String> {
    let path = std::env::current_exe().context("cannot find this program's own file")?;
    let fingerprint = path.with_file_name(FINGERPRINT);
    if let Ok(text) = std::fs::read_to_string(&fingerprint) {
        return Ok(text.trim().to_string());
    }
    let running = running()?;
    let bytes = std::fs::read(&running).with_context(|| format!("{}: cannot read this program", path.display()))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// The same with the kernels and the target that it runs with, for what must not be mixed with the work of others.
pub fn identity_here() -> Result<String> {
    Ok(format!("{} {}", identity()?, cifar_kernels::arithmetic()?))
}

/// Where this program can be read. Linux has it there as long as it runs, even if it was compiled anew or deleted since,
/// as happens to a grid of experiments that runs for hours from cargo's target folder.
pub fn running() -> Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    std::env::current_exe().context("cannot find this program's own file")
}
