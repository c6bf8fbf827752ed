//! The files of one run, in its folder.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use cifar_pipeline::{Context as _, Error, Result};

/// The log of a run, in its folder.
pub(crate) const LOG: &str = "log.txt";
/// The epochs of a run as JSON lines, in its folder.
pub(crate) const EVENTS: &str = "epochs.jsonl";
/// The file with the reason of a failure, in the run's folder. A run that was only stopped has
/// none.
pub(crate) const FAILED: &str = "failed.txt";

/// Prepares the folder of a run that starts or resumes.
pub(crate) fn clear(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    match std::fs::remove_file(folder.join(FAILED)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("{}: cannot remove", folder.join(FAILED).display()))
        }
        _ => Ok(()),
    }
}

/// Writes why the run failed to its folder. If this fails too, as on a full disk, the next call
/// treats the run as one that was stopped.
pub(crate) fn write_failure(folder: &Path, reason: &str) -> Result<()> {
    Ok(cifar_data::output::write_file(&folder.join(FAILED), format!("{reason}\n").as_bytes())?)
}

/// Opens the log of a run to append to it.
pub(crate) fn log(folder: &Path) -> Result<File> {
    let path = folder.join(LOG);
    File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("{}: cannot write the log", path.display()))
}

/// Appends the error of a failed run to its log.
pub(crate) fn log_error(log: &mut File, error: &Error) {
    let _ = writeln!(log, "error: {}", error.one_line());
}

/// Returns the accuracies of a run in words, with 95 % intervals for the sampling of images.
pub(crate) fn score(folder: &Path) -> Option<String> {
    let text = std::fs::read(folder.join("evaluation/test/metrics.json")).ok()?;
    let metrics: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let percent = |set: &str, figure: &str| metrics[set][figure].as_f64().map(|a| a * 100.0);
    let accuracy = |set: &str| {
        let [value, low, high] = ["accuracy", "accuracy_low", "accuracy_high"].map(|figure| percent(set, figure));
        Some(format!("{set} {:.2} % [{:.2}, {:.2}], ", value?, low?, high?))
    };
    Some(accuracy("test")? + &accuracy("pool")?)
}
