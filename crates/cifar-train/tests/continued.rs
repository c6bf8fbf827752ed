//! A finished run that continues for more epochs.

mod common;

use std::path::Path;
use std::time::Duration;

use cifar_data::prepare::TrainingData;
use cifar_data::{DataError, Silent};
use cifar_train::{
    Averaging, Checkpoints, ContinuedKeys, FinishedRun, Fitted, OptimiserKind, Result, Schedule, Select, TrainError,
    TrainParams, TrainingCallback, artifacts, fit, fit_continued, fit_resumable, run_key,
};
use common::{StopAfter, data, narrow};

const SEED: u64 = 3;

fn params(epochs: usize) -> TrainParams {
    TrainParams { epochs, batch_size: 50, schedule: Schedule::Constant, learning_rate: 0.02, ..TrainParams::default() }
}

fn open(folder: &Path, key: &str) -> Checkpoints {
    Checkpoints::open(&folder.join("checkpoints"), key, Duration::ZERO, &Silent).expect("a folder that can be locked")
}

/// Trains a run of its own into `folder/NAME`.
fn finish(folder: &Path, name: &str, params: &TrainParams, data: &TrainingData) -> FinishedRun {
    let key = run_key(params, &narrow(), &data.report, SEED, "test");
    let fitted = fit_resumable(params, &narrow(), data, SEED, &mut open(folder, &key), &Silent).expect("it succeeds");
    write(&fitted, folder, name, data)
}

fn write(fitted: &Fitted, folder: &Path, name: &str, data: &TrainingData) -> FinishedRun {
    artifacts::write(fitted, data, &folder.join(name)).expect("a folder that can be written");
    FinishedRun::read(&folder.join(name)).expect("a finished run")
}

fn keys(run: &FinishedRun, params: &TrainParams, data: &TrainingData) -> ContinuedKeys {
    run.keys(params, &narrow(), &data.report, SEED, "test")
}

fn continued(
    folder: &Path,
    run: &FinishedRun,
    params: &TrainParams,
    data: &TrainingData,
    callback: &dyn TrainingCallback,
) -> Result<Fitted> {
    let keys = keys(run, params, data);
    fit_continued(params, &narrow(), data, SEED, (run, &keys), &mut open(folder, &keys.longer), callback)
}

/// Returns the values of every tensor.
fn values(fitted: &Fitted) -> Vec<Vec<f32>> {
    let tensors = fitted.model.parameters().all();
    tensors.map(|(_, var)| var.flatten_all().expect("a tensor").to_vec1().expect("numbers")).collect()
}

#[test]
fn a_continued_run_has_the_bits_of_all_epochs_at_once() {
    let data = data(240);
    let steps = data.train.len().div_ceil(50);
    let lookahead = TrainParams {
        optimiser: OptimiserKind::AdamW,
        learning_rate: 0.002,
        averaging: Averaging::Lookahead,
        averaging_every: steps,
        select: Select::Last,
        dynamics_fraction: 0.5,
        ..params(4)
    };
    for all in [TrainParams { early_stopping: 9, ..params(4) }, lookahead] {
        let folder = tempfile::tempdir().unwrap();
        let whole = fit(&all, &narrow(), &data, SEED, &Silent).unwrap();
        let first = finish(folder.path(), "first", &TrainParams { epochs: 1, ..all.clone() }, &data);
        assert!(first.is_exact(&all));
        // The second run continues the first one, the third one continues the second.
        let second = TrainParams { epochs: 2, ..all.clone() };
        let second = continued(folder.path(), &first, &second, &data, &Silent).unwrap();
        let second = write(&second, folder.path(), "second", &data);
        // In the middle of an epoch.
        let stop = StopAfter::new(steps + 2);
        let stopped = continued(folder.path(), &second, &all, &data, &stop).unwrap_err();
        assert!(matches!(stopped, TrainError::Data(DataError::Cancelled)));
        // It has a checkpoint of its own now.
        let of_second = folder.path().join("checkpoints").join(keys(&second, &all, &data).finished);
        std::fs::remove_dir_all(of_second).unwrap();
        let third = continued(folder.path(), &second, &all, &data, &Silent).unwrap();
        assert_eq!(third.history, whole.history);
        assert!(values(&third) == values(&whole));
        assert_eq!((third.selected_epoch, &third.dynamics), (whole.selected_epoch, &whole.dynamics));
        let origin = third.model.origin.as_ref().unwrap();
        let named: Vec<(&str, usize)> = origin.continues.iter().map(|run| (run.model.as_str(), run.epochs)).collect();
        assert_eq!(named, [(first.model().seal(), 1), (second.model().seal(), 2)]);
        assert!(whole.model.origin.as_ref().unwrap().continues.is_empty());
    }
}

#[test]
fn runs_that_cannot_be_continued_are_refused() {
    let (data, folder) = (data(240), tempfile::tempdir().unwrap());
    let folder = folder.path();
    let run = finish(folder, "run", &params(1), &data);
    let refusal = |run: &FinishedRun, params: &TrainParams| {
        let error = continued(folder, run, params, &data, &Silent).unwrap_err().to_string();
        error.replace(&format!("{}/", folder.display()), "")
    };
    let cosine = TrainParams { schedule: Schedule::Cosine, ..params(2) };
    assert_eq!(
        refusal(&run, &cosine),
        "train.schedule: cosine is not allowed; only a run with a constant schedule can be continued, since all others \
         end with their last epoch, here epoch 1; train again with more train.epochs, or start a new run from a copy of \
         this model with train.init"
    );
    // With a rate this high, the first epochs are not equally good.
    let stopping = TrainParams { early_stopping: 1, learning_rate: 0.3, ..params(9) };
    let stopped = finish(folder, "stopped", &stopping, &data);
    let epochs = stopped.history().len();
    assert!(epochs < 9);
    assert_eq!(
        refusal(&stopped, &TrainParams { epochs: 20, ..stopping }),
        format!(
            "train.early_stopping: 1 is not allowed; no epoch after epoch {} was better, so the run ended with epoch \
             {epochs}, and so would a longer one; train again with a larger value or 0",
            epochs - 1
        )
    );
    // Updates of the average are due every 5 steps.
    assert_ne!(data.train.len().div_ceil(50) % 5, 0);
    assert!(!run.is_exact(&TrainParams { averaging: Averaging::Ema, ..params(2) }));

    let key = keys(&run, &params(2), &data).finished;
    let path = folder.join("checkpoints").join(&key).join("checkpoint.safetensors");
    let here = format!("checkpoints/{key}/checkpoint.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let other = TrainParams { momentum: 0.8, ..params(2) };
    assert!(refusal(&run, &other).ends_with(
        "checkpoint.safetensors: there is no such checkpoint; it was removed, or the program or a parameter of training \
         has changed"
    ));
    let mut damaged = bytes.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    assert!(refusal(&run, &params(2)).starts_with(&format!("{here}: is damaged: ")));
    std::fs::write(&path, &bytes).unwrap();
    // Files of another run in the place of this one.
    std::fs::remove_dir_all(folder.join("run")).unwrap();
    let other = finish(folder, "run", &TrainParams { momentum: 0.8, ..params(1) }, &data);
    assert_eq!(
        refusal(&other, &params(2)),
        format!("{here}: has another history than the model, so it is of another run")
    );
    std::fs::write(folder.join("run/history.jsonl"), "").unwrap();
    let error = FinishedRun::read(&folder.join("run")).unwrap_err().to_string();
    assert!(error.ends_with("history.jsonl: was changed or damaged after the stage train wrote it"), "{error}");
}
