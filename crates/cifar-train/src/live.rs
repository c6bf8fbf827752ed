//! Files to watch a run with while it trains: the curves and metrics of the epochs so far.
//!
//! The files are those that [`artifacts`](crate::artifacts) writes at the end. A signal file tells
//! a program that shows them that there are new values.

use std::fs;
use std::path::{Path, PathBuf};

use cifar_data::DataError;
use cifar_data::output::write_file;
use serde_json::json;

use crate::artifacts::{MODEL, curves, progress};
use crate::{EpochRecord, Result};

/// Writes the files after each epoch.
///
/// ```
/// use cifar_train::EpochRecord;
/// use cifar_train::live::Live;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let out = folder.path();
/// let record = EpochRecord {
///     epoch: 1,
///     step: 300,
///     learning_rate: 0.1,
///     train_loss: 2.0,
///     train_accuracy: 0.25,
///     val_loss: None,
///     val_accuracy: None,
///     best: false,
/// };
/// Live::new(out, None).update(&[record])?;
/// let curve = std::fs::read_to_string(out.join("plots/metrics/train/loss.tsv")).unwrap();
/// assert_eq!(curve, "step\tloss\n1\t2\n");
/// # Ok::<(), cifar_train::TrainError>(())
/// ```
#[derive(Debug)]
pub struct Live {
    out: Option<PathBuf>,
    signal: Option<PathBuf>,
}

impl Live {
    /// Writes into `out`, and after each epoch writes process id and epoch into the file `signal`.
    /// If `out` holds the model of an earlier run, its files stay until the new model replaces them.
    pub fn new(out: &Path, signal: Option<PathBuf>) -> Self {
        Self { out: (!out.join(MODEL).exists()).then(|| out.to_path_buf()), signal }
    }

    /// Writes the values after the last epoch of `history`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn update(&self, history: &[EpochRecord]) -> Result<()> {
        if let Some(out) = &self.out {
            for (name, curve) in curves(history) {
                let path = out.join(name);
                match curve {
                    Some(curve) => write_file(&path, curve.as_bytes())?,
                    // Left by an interrupted run.
                    None if path.exists() => fs::remove_file(&path).map_err(DataError::io("remove", &path))?,
                    None => {}
                }
            }
            let metrics = serde_json::Value::Object(progress(history));
            write_file(&out.join("metrics.json"), format!("{metrics:#}\n").as_bytes())?;
        }
        if let Some(signal) = &self.signal {
            let step = json!({"pid": std::process::id(), "step": history.len()});
            write_file(signal, step.to_string().as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: usize, val_loss: Option<f64>) -> EpochRecord {
        EpochRecord {
            epoch,
            step: epoch * 10,
            learning_rate: 0.5,
            train_loss: 2.0,
            train_accuracy: 0.25,
            val_loss,
            val_accuracy: val_loss,
            best: false,
        }
    }

    #[test]
    fn each_epoch_updates_the_files_and_the_signal() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("models/final");
        let live = Live::new(&out, Some(root.path().join("signal")));
        live.update(&[record(1, Some(1.5))]).unwrap();
        live.update(&[record(1, Some(1.5)), record(2, Some(1.25))]).unwrap();
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(read("models/final/plots/metrics/val/loss.tsv"), "step\tloss\n1\t1.5\n2\t1.25\n");
        let metrics: serde_json::Value = serde_json::from_str(&read("models/final/metrics.json")).unwrap();
        assert_eq!((&metrics["step"], &metrics["val"]["loss"]), (&json!(2), &json!(1.25)));
        let signal: serde_json::Value = serde_json::from_str(&read("signal")).unwrap();
        assert_eq!((&signal["step"], &signal["pid"]), (&json!(2), &json!(std::process::id())));

        Live::new(&out, None).update(&[record(1, None)]).unwrap();
        assert!(!out.join("plots/metrics/val/loss.tsv").exists());
    }

    #[test]
    fn the_files_of_a_finished_model_are_kept() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(MODEL), "a model").unwrap();
        Live::new(root.path(), None).update(&[record(1, None)]).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
