//! A run to be watched from outside while it is under way: the curves and metrics of the epochs so far, in the files that
//! [`artifacts`](crate::artifacts) leaves at the end, and the signal by which DVC's editor extensions know that there is
//! something new to show.

use std::fs;
use std::path::{Path, PathBuf};

use cifar_data::DataError;
use cifar_data::output::write_file;
use serde_json::json;

use crate::artifacts::{MODEL, curves, progress};
use crate::{EpochRecord, Result};

/// Below DVC's root; as `DVCLive` does.
const SIGNAL: &str = ".dvc/tmp/exps/run/DVCLIVE_STEP_COMPLETED";

/// Writes after each epoch.
#[derive(Debug)]
pub struct Live {
    out: Option<PathBuf>,
    signal: Option<PathBuf>,
}

impl Live {
    /// Will write into `out`, and tell the DVC that runs under `dvc_root` of it. A folder that holds the model of an earlier
    /// run keeps what it has until the new one takes its place.
    pub fn new(out: &Path, dvc_root: Option<&Path>) -> Self {
        Self {
            out: (!out.join(MODEL).exists()).then(|| out.to_path_buf()),
            signal: dvc_root.filter(|root| root.join(".dvc").is_dir()).map(|root| root.join(SIGNAL)),
        }
    }

    /// Writes what there is to say after the last epoch of `history`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn update(&self, history: &[EpochRecord]) -> Result<()> {
        if let Some(out) = &self.out {
            for (name, curve) in curves(history) {
                let path = out.join(name);
                match curve {
                    Some(curve) => write_file(&path, curve.as_bytes())?,
                    // Another run, which was interrupted, may have had one.
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
    fn epochs_can_be_followed() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("models/final");
        fs::create_dir(root.path().join(".dvc")).unwrap();
        let live = Live::new(&out, Some(root.path()));
        live.update(&[record(1, Some(1.5))]).unwrap();
        live.update(&[record(1, Some(1.5)), record(2, Some(1.25))]).unwrap();
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(read("models/final/plots/metrics/val/loss.tsv"), "step\tloss\n1\t1.5\n2\t1.25\n");
        let metrics: serde_json::Value = serde_json::from_str(&read("models/final/metrics.json")).unwrap();
        assert_eq!((&metrics["step"], &metrics["val"]["loss"]), (&json!(2), &json!(1.25)));
        let signal: serde_json::Value = serde_json::from_str(&read(SIGNAL)).unwrap();
        assert_eq!((&signal["step"], &signal["pid"]), (&json!(2), &json!(std::process::id())));

        Live::new(&out, None).update(&[record(1, None)]).unwrap();
        assert!(!out.join("plots/metrics/val/loss.tsv").exists());
    }

    #[test]
    fn a_finished_model_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(MODEL), "a model").unwrap();
        Live::new(root.path(), Some(root.path())).update(&[record(1, None)]).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
