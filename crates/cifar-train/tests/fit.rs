//! Validation, selection, early ends and records of a run.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cifar_data::prepare::TrainingData;
use cifar_data::{Progress, Silent};
use cifar_model::{evaluate_loss, predict};
use cifar_train::{
    Averaging, Checkpoints, Dynamics, EpochRecord, Fitted, Run, Select, TrainParams, TrainingCallback, artifacts, fit,
    fit_resumable,
};
use common::{data, narrow};

/// Parameters under which the number of steps of an epoch is not a multiple of five.
fn params() -> TrainParams {
    TrainParams { epochs: 5, batch_size: 50, averaging_every: 5, averaging_decay: 0.8, ..TrainParams::default() }
}

fn trained(params: &TrainParams, data: &TrainingData) -> Fitted {
    fit(params, &narrow(), data, 3, &Silent).expect("the run succeeds")
}

/// Loss and accuracy of the kept model, and those in the record of its epoch.
fn kept_and_recorded(fitted: &Fitted, data: &TrainingData) -> [Option<(f64, f64)>; 2] {
    let logits = predict(&fitted.model, &data.val, "", &Silent).expect("the model is of these images");
    let kept = evaluate_loss(&logits, &data.val.labels()).expect("labels of these classes");
    let record = fitted.history.iter().find(|r| r.epoch == fitted.selected_epoch).expect("a recorded epoch");
    [kept, record.val_loss.zip(record.val_accuracy)]
}

#[test]
fn validation_uses_the_weights_that_are_kept() {
    let data = data(600);
    assert_ne!(data.train.len().div_ceil(50) % 5, 0, "an epoch ends between two updates of the average");
    for averaging in [Averaging::None, Averaging::Ema, Averaging::Lookahead] {
        for select in [Select::Best, Select::Last] {
            // Without early stopping, with it, and ended by a callback.
            for (early_stopping, until) in [(0, 5), (1, 5), (0, 2)] {
                let params = TrainParams { averaging, select, early_stopping, ..params() };
                let fitted = fit(&params, &narrow(), &data, 3, &Until::new(until)).unwrap();
                let [kept, recorded] = kept_and_recorded(&fitted, &data);
                assert!(kept.is_some());
                assert_eq!(kept, recorded, "{averaging:?}, {select:?}, {early_stopping}, {until}");
            }
        }
    }
}

/// Ends the run after `epochs` epochs, and counts the steps and the calls.
struct Until {
    epochs: usize,
    steps: AtomicUsize,
    calls: AtomicUsize,
}

impl Until {
    fn new(epochs: usize) -> Self {
        Self { epochs, steps: AtomicUsize::new(0), calls: AtomicUsize::new(0) }
    }
}

impl Progress for Until {
    fn update(&self, _: &'static str, _: u64, _: u64) {}
}

impl TrainingCallback for Until {
    fn step(&self, _: &cifar_train::StepRecord) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    fn should_continue(&self, history: &[EpochRecord]) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        history.len() < self.epochs
    }
}

#[test]
fn a_callback_ends_a_run_and_the_model_is_kept() {
    let data = data(600);
    let whole = trained(&params(), &data);
    let callback = Until::new(3);
    let stopped = fit(&params(), &narrow(), &data, 3, &callback).unwrap();
    assert_eq!(stopped.history, whole.history[..3], "the same epochs, and no others");
    assert_eq!((callback.calls.into_inner(), stopped.dynamics.unwrap().epochs()), (3, 3));
    let best = stopped.history.iter().rev().find(|r| r.best).unwrap().epoch;
    assert_eq!(stopped.selected_epoch, best, "`select` decides");
    let last = TrainParams { select: Select::Last, ..params() };
    assert_eq!(fit(&last, &narrow(), &data, 3, &Until::new(3)).unwrap().selected_epoch, 3);
}

#[test]
fn a_run_that_a_callback_ended_resumes_only_on_request() {
    let (data, folder) = (data(600), tempfile::tempdir().unwrap());
    let open = || Checkpoints::open(folder.path(), "run", Duration::ZERO, &Silent).unwrap();
    let resume = |mut checkpoints: Checkpoints, callback: &dyn TrainingCallback| {
        fit_resumable(&params(), &narrow(), &data, 3, &mut checkpoints, callback).unwrap()
    };
    let weights = |fitted: &Fitted| -> Vec<Vec<f32>> {
        fitted.model.parameters().all().map(|(_, v)| v.flatten_all().unwrap().to_vec1().unwrap()).collect()
    };
    let finished = folder.path().join("run/finished");
    let stopped = resume(open(), &Until::new(2));
    assert!(stopped.history.len() == 2 && finished.exists());
    // A callback that would never have ended the run.
    let callback = Until::new(99);
    let again = resume(open(), &callback);
    assert_eq!(callback.steps.into_inner(), 0, "no step is trained");
    assert_eq!((&again.history, again.selected_epoch), (&stopped.history, stopped.selected_epoch));
    assert!(weights(&again) == weights(&stopped));
    // On request, it resumes to bit-identical results. If it is stopped again, it is finished
    // again.
    let further = resume(open().continue_after_stop(true), &Until::new(3));
    assert!(further.history.len() == 3 && finished.exists());
    let mut run = Run::start(&params(), &narrow(), &data, 3).unwrap();
    let mut checkpoints = open().continue_after_stop(true);
    checkpoints.resume(&mut run).unwrap();
    run.train(4, Some(&mut checkpoints), &Silent).unwrap();
    assert!(run.history().len() == 4 && !finished.exists(), "unfinished again");
    drop(checkpoints);
    let whole = resume(open(), &Silent);
    let expected = trained(&params(), &data);
    assert_eq!(whole.history, expected.history);
    assert!(weights(&whole) == weights(&expected));
}

#[test]
fn dynamics_have_no_logits_of_mixtures() {
    let (data, folder) = (data(600), tempfile::tempdir().unwrap());
    let params = |mixup, dynamics_fraction| TrainParams {
        epochs: 2,
        batch_size: 64,
        mixup,
        dynamics_fraction,
        select: Select::Last,
        ..TrainParams::default()
    };
    for dynamics_fraction in [0.0, 0.5, 1.0] {
        let fitted = trained(&params(1.0, dynamics_fraction), &data);
        let out = folder.path().join(dynamics_fraction.to_string());
        artifacts::write(&fitted, &data, &out).unwrap();
        let dynamics = fitted.dynamics.as_ref().unwrap();
        assert_eq!([dynamics.pass(0), dynamics.pass(1)], [None, None]);
        assert_eq!(dynamics.check_train().is_ok(), dynamics_fraction >= 1.0);
        let read = |file| Dynamics::read(&out.join(file), &out.join("model.safetensors"), &data.train, &data.val);
        assert_eq!(&read("dynamics.safetensors").unwrap(), dynamics, "the file has the whole record");
        let (places, found) = dynamics.plain(1);
        assert_eq!(dynamics.of_train(1), (dynamics_fraction >= 1.0).then(|| found.clone()));
        assert_eq!(places.len() == data.train.len(), dynamics_fraction >= 1.0);
        // The last epoch's logits are those of the final model on un-augmented images.
        let logits = predict(&fitted.model, &data.train, "", &Silent).unwrap();
        for (place, found) in places.iter().zip(found.chunks_exact(10)) {
            for (found, expected) in found.iter().zip(logits.row(*place as usize)) {
                assert!((found - expected).abs() <= expected.abs() / 1024.0 + 1e-6, "{found} {expected}");
            }
        }
    }
    let single = trained(&params(0.0, 0.0), &data).dynamics.unwrap();
    assert!(single.pass(1).is_some() && single.of_train(1) == single.pass(1) && single.check_train().is_ok());
}
