//! Validation, selection, early ends and records of a run.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cifar_data::prepare::TrainingData;
use cifar_data::{DataError, Progress, Silent, provenance};
use cifar_model::parameters::layer_of;
use cifar_model::{Architecture, Model, ModelParams, Precision, evaluate_loss, predict};
use cifar_train::tune::artifacts::{TUNED, Tuned, write_none};
use cifar_train::tune::{Journal, Objective as _, Score, Setting, Trials};
use cifar_train::{
    Averaging, Checkpoints, ClassWeights, Dynamics, EpochRecord, Fitted, Freeze, Init, OptimiserKind, Recipe, Run,
    Sampling, Select, TrainError, TrainParams, TrainingCallback, artifacts, fit, fit_resumable, run_key,
};
use common::{StopAfter, data, narrow};

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
    let data = data(240);
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
    let data = data(240);
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
    let (data, folder) = (data(240), tempfile::tempdir().unwrap());
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
fn a_least_number_of_steps_is_a_longer_run_that_resumes_and_that_trials_take_too() {
    let (data, folder) = (data(240), tempfile::tempdir().unwrap());
    let per_epoch = data.train.len().div_ceil(50);
    let least = TrainParams { epochs: 1, warmup_epochs: 0.5, min_steps: 2 * per_epoch + 1, ..params() };
    let explicit = TrainParams { epochs: 3, warmup_epochs: 1.5, ..params() };
    let whole = trained(&least, &data);
    assert_eq!((whole.history.len(), &whole.history), (3, &trained(&explicit, &data).history));
    let open = || Checkpoints::open(folder.path(), "run", Duration::ZERO, &Silent).unwrap();
    let mut checkpoints = open();
    Run::start(&least, &narrow(), &data, 3).unwrap().train(1, Some(&mut checkpoints), &Silent).unwrap();
    drop(checkpoints);
    let callback = Until::new(99);
    let resumed = fit_resumable(&least, &narrow(), &data, 3, &mut open(), &callback).unwrap();
    assert_eq!((resumed.history, callback.steps.into_inner()), (whole.history.clone(), 2 * per_epoch));
    // Each rung of a search is a part of the same run.
    let recipe = Recipe { model: narrow(), train: least };
    let journal = Journal::open(&folder.path().join("search"), "key", &Silent).unwrap();
    let mut trials = Trials::new(&recipe, &data, &journal, "test", &Silent);
    for epochs in [1, 3] {
        let EpochRecord { val_accuracy, val_loss, .. } = whole.history[epochs - 1];
        let expected = Score::Trained { accuracy: val_accuracy.unwrap(), loss: val_loss.unwrap() };
        assert_eq!(trials.train(0, &Setting::new(), 3, epochs).unwrap(), expected);
    }
    let space = |key: &str| serde_json::from_value(serde_json::json!({ key: {"choice": [25, 50]} })).unwrap();
    let refused = |key: &str| recipe.check_with(&space(key), &data).unwrap_err().to_string();
    let start =
        "tune.space.train.batch_size: cannot be tuned, since the length of a trial depends on it (train.min_steps: ";
    assert!(refused("train.batch_size").starts_with(start), "{}", refused("train.batch_size"));
    assert!(refused("train.min_steps").contains("successive halving decides how long a trial is trained"));
}

#[test]
fn runs_in_another_precision_have_other_keys_and_end_with_a_model_in_f32() {
    let (data, folder) = (data(240), tempfile::tempdir().unwrap());
    let of = |precision| TrainParams { precision, epochs: 1, select: Select::Last, ..params() };
    let key = |precision| run_key(&of(precision), &narrow(), &data.report, 3, "program");
    assert_ne!(key(Precision::F32), key(Precision::Bf16));
    assert_eq!(key(Precision::Auto), key(Precision::Auto.resolved()), "what it means on this processor");

    let wide = ModelParams { widths: vec![8, 8, 16], ..narrow() };
    let [in_f32, in_bf16] = [Precision::F32, Precision::Bf16].map(|p| trained_as(&of(p), &wide, &data, 3));
    assert_ne!(in_f32.history, in_bf16.history);
    let target = |fitted: &Fitted| fitted.model.origin.as_ref().unwrap().arithmetic.clone();
    assert_eq!(target(&in_bf16), format!("{}, bf16", target(&in_f32)));
    let path = folder.path().join("model.safetensors");
    in_bf16.model.save(&path).unwrap();
    let logits = |model: &Model| predict(model, &data.val, "", &Silent).unwrap();
    assert_eq!(logits(&in_bf16.model), logits(&Model::load(&path).unwrap()), "in memory as from the file");
}

#[test]
fn trials_of_equal_cost_have_the_epochs_of_their_network_and_so_has_the_result() {
    let (data, folder) = (data(240), tempfile::tempdir().unwrap());
    let narrow = narrow();
    let wide = ModelParams { widths: narrow.widths.iter().map(|width| 4 * width).collect(), ..narrow.clone() };
    let train = TrainParams { epochs: 2, warmup_epochs: 1.0, ..params() };
    let [narrow, wide] = [narrow, wide].map(|model| Recipe { model, train: train.clone() });
    // The baseline is the wide network; two of its epochs pay for more of the narrow one.
    let longer = narrow.at_equal_cost(&wide, &data.report).unwrap();
    let epochs = longer.train.epochs;
    assert!(epochs > 3 && (2.0 * longer.train.warmup_epochs).round() as usize == epochs, "{epochs}");
    assert_eq!(wide.at_equal_cost(&narrow, &data.report).unwrap().train.epochs, 1, "at least one");
    assert_eq!(wide.at_equal_cost(&wide, &data.report).unwrap(), wide);

    let setting = Setting::from([("model.widths".to_string(), serde_json::json!(longer.model.widths))]);
    let journal = Journal::open(&folder.path().join("search"), "key", &Silent).unwrap();
    let mut trials = Trials::new(&wide, &data, &journal, "test", &Silent).at_equal_cost(true);
    let whole = trained_as(&longer.train, &longer.model, &data, 3).history;
    for (rung, expected) in [(1, epochs.div_ceil(2)), (2, epochs)] {
        let EpochRecord { val_accuracy, val_loss, .. } = whole[expected - 1];
        let expected = Score::Trained { accuracy: val_accuracy.unwrap(), loss: val_loss.unwrap() };
        assert_eq!(trials.train(1, &setting, 3, rung).unwrap(), expected, "rung {rung}");
    }
    write_none(&folder.path().join("tuning")).unwrap();
    let mut tuned = serde_json::to_value(Tuned::read(&folder.path().join("tuning").join(TUNED)).unwrap()).unwrap();
    tuned["setting"] = serde_json::json!(setting);
    tuned["equal_cost"] = true.into();
    let tuned: Tuned = serde_json::from_value(tuned).unwrap();
    assert_eq!(tuned.apply(&wide, &data.report, Path::new("tuned.json")).unwrap().train.epochs, epochs);
}

#[test]
fn dynamics_have_no_logits_of_mixtures() {
    let (data, folder) = (data(240), tempfile::tempdir().unwrap());
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

/// Returns the values of every tensor, by name.
fn values(model: &Model) -> Vec<(String, Vec<f32>)> {
    let tensors = model.parameters().all();
    tensors
        .map(|(name, var)| (name.to_string(), var.flatten_all().expect("a tensor").to_vec1().expect("numbers")))
        .collect()
}

#[test]
fn frozen_layers_keep_their_weights_and_statistics() {
    let (data, folder) = (data(240), tempfile::tempdir().unwrap());
    let base = TrainParams { epochs: 1, select: Select::Last, decay_biases: true, ..params() };
    for architecture in [Architecture::SimpleCnn, Architecture::Airbench94] {
        let model = ModelParams { widths: vec![8, 8, 8], ..ModelParams::of(architecture) };
        let path = folder.path().join(architecture.name());
        trained_as(&base, &model, &data, 1).model.save(&path).unwrap();
        let init = Init::File(path).read(Path::new("")).unwrap();
        let start = values(init.model().unwrap().unwrap());
        for (freeze, optimiser, averaging) in [
            (Freeze::None, OptimiserKind::Sgd, Averaging::None),
            (Freeze::Backbone, OptimiserKind::Muon, Averaging::Ema),
            (Freeze::Stem, OptimiserKind::AdamW, Averaging::Lookahead),
        ] {
            let params = TrainParams { init: init.clone(), freeze, optimiser, averaging, ..base.clone() };
            let fitted = trained_as(&params, &model, &data, 2);
            let changed: BTreeSet<&str> = (start.iter().zip(values(&fitted.model)))
                .filter(|(before, after)| *before != after)
                .map(|((name, _), _)| layer_of(name))
                .collect();
            let all: BTreeSet<&str> = start.iter().map(|(name, _)| layer_of(name)).collect();
            let expected = match freeze {
                Freeze::None => all,
                Freeze::Backbone => BTreeSet::from(["head"]),
                Freeze::Stem => all.into_iter().filter(|layer| *layer != architecture.stem()).collect(),
            };
            assert_eq!(changed, expected, "{architecture:?}, {freeze:?}");
            let from = fitted.started_from.unwrap();
            assert!(from.tensors.new.is_empty() && from.tensors.taken.len() == start.len());
            assert_eq!(fitted.model.origin.unwrap().init, Some(from.model));
        }
    }
}

fn trained_as(params: &TrainParams, model: &ModelParams, data: &TrainingData, seed: u64) -> Fitted {
    fit(params, model, data, seed, &Silent).expect("the run succeeds")
}

#[test]
fn a_key_depends_on_the_content_of_the_initial_weights_alone() {
    let (data, folder) = (data(240), tempfile::tempdir().unwrap());
    let key = |init: &Init| {
        let params = TrainParams { init: init.clone(), ..params() };
        run_key(&params, &narrow(), &data.report, 3, "test")
    };
    let file = |name: &str, seed| {
        let params = TrainParams { epochs: 1, ..params() };
        trained_as(&params, &narrow(), &data, seed).model.save(&folder.path().join(name)).unwrap();
        Init::File(name.into()).read(folder.path()).unwrap()
    };
    let (first, copy, other) = (file("first", 1), file("copy", 1), file("other", 2));
    assert_eq!(key(&first), key(&copy));
    let keys = BTreeSet::from([key(&Init::Random), key(&first), key(&other)]);
    assert_eq!(keys.len(), 3);
    let unread = TrainParams { init: Init::File("first".into()), ..params() };
    let error = fit(&unread, &narrow(), &data, 3, &Silent).unwrap_err().to_string();
    assert_eq!(error, "train.init: first: was not read before the run");
    let wide = ModelParams { widths: vec![9, 9, 9], ..ModelParams::of(Architecture::Airbench94) };
    let other = TrainParams { init: first, ..params() };
    let error = fit(&other, &wide, &data, 3, &Silent).unwrap_err().to_string();
    let expected = "train.init: the model has architecture simple_cnn, the parameters and images ask for airbench94";
    assert_eq!(error, expected);
}

#[test]
fn runs_with_class_weights_and_balanced_sampling_resume_to_the_same_weights() {
    let (mut data, folder) = (data(240), tempfile::tempdir().unwrap());
    // Class 3 is rare.
    let mut kept = 0;
    data.train = data.train.filter(|sample| {
        kept += usize::from(sample.label == 3);
        sample.label != 3 || kept <= 2
    });
    assert_eq!(data.train.counts_by_class()[3], 2);
    let params = TrainParams {
        epochs: 2,
        class_weights: ClassWeights::Balanced,
        sampling: Sampling::Balanced,
        dynamics_fraction: 1.0,
        ..params()
    };
    let whole = trained(&params, &data);
    let mut checkpoints = Checkpoints::open(folder.path(), "run", Duration::ZERO, &Silent).unwrap();
    // In the middle of the second epoch.
    let steps = data.train.len().div_ceil(50) + 2;
    let stop = StopAfter::new(steps);
    let stopped = fit_resumable(&params, &narrow(), &data, 3, &mut checkpoints, &stop).unwrap_err();
    assert!(matches!(stopped, TrainError::Data(DataError::Cancelled)) && checkpoints.step() == steps);
    let resumed = fit_resumable(&params, &narrow(), &data, 3, &mut checkpoints, &Silent).unwrap();
    assert_eq!(resumed.history, whole.history);
    assert!(values(&resumed.model) == values(&whole.model));
    let dynamics = whole.dynamics.unwrap();
    assert!(dynamics.pass(0).is_none() && dynamics.check_train().is_ok());
    assert_eq!(resumed.dynamics, Some(dynamics));
    let weighted = TrainParams { sampling: Sampling::Natural, ..params.clone() };
    let plain = TrainParams { class_weights: ClassWeights::None, ..weighted.clone() };
    let losses = [&params, &weighted, &plain].map(|params| trained(params, &data).history[1].train_loss.to_bits());
    assert_eq!(BTreeSet::from(losses).len(), 3, "each of the two has an effect");
}

#[test]
fn weights_of_the_first_epoch_belong_to_one_run() {
    let (data, folder) = (data(240), tempfile::tempdir().unwrap());
    let params = TrainParams { epochs: 2, batch_size: 64, select: Select::Last, ..TrainParams::default() };
    let model = narrow();
    let at = |seed: u64| folder.path().join(seed.to_string());
    for seed in [1, 2] {
        artifacts::write(&fit(&params, &model, &data, seed, &Silent).unwrap(), &data, &at(seed)).unwrap();
    }
    let last = Model::load(&at(1).join(artifacts::MODEL)).unwrap();
    let first = artifacts::read_first_epoch(&at(1), &last).unwrap().unwrap();
    // The same as a run of the same schedule that is stopped after its first epoch.
    let mut run = Run::start(&params, &model, &data, 1).unwrap();
    run.train(1, None, &Silent).unwrap();
    let stopped = run.finish().unwrap().model;
    assert_eq!(values(&first), values(&stopped));
    assert_ne!(values(&first), values(&last));
    assert_eq!(first.origin.as_ref().unwrap().epoch, 1);

    // Of another run, though the folder's record lists it.
    std::fs::copy(at(2).join(artifacts::FIRST_EPOCH), at(1).join(artifacts::FIRST_EPOCH)).unwrap();
    let error = artifacts::read_first_epoch(&at(1), &last).unwrap_err().to_string();
    assert!(error.contains("was changed or damaged after"), "{error}");
    let files = [artifacts::MODEL, artifacts::FIRST_EPOCH];
    provenance::write(&at(1), artifacts::COMMAND, &[], &files).unwrap();
    let error = artifacts::read_first_epoch(&at(1), &last).unwrap_err().to_string();
    assert!(error.contains("first_epoch.safetensors: is of another run than model.safetensors"), "{error}");
    provenance::write(&at(1), artifacts::COMMAND, &[], &files[..1]).unwrap();
    assert!(artifacts::read_first_epoch(&at(1), &last).unwrap().is_none(), "earlier versions kept none");
}
