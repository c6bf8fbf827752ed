//! A study of a small synthetic set: every arm does what it says, and nothing is trained twice.
#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cifar_data::partitions::{self, DatasetVersion};
use cifar_data::prepare::{TestSet, TrainingData, prepare};
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::splits::SplitParams;
use cifar_data::{DataError, Monitor, Silent, pull};
use cifar_eval::EvalError;
use cifar_eval::study::{Arm, Noise, NoiseKind, Outcome, StudyParams, study, summarise, write};
use cifar_model::ModelParams;
use cifar_train::{StepRecord, TrainError, TrainParams, Watcher};

/// Counts steps, and asks to stop behind so many.
struct Steps {
    done: AtomicUsize,
    limit: usize,
}

impl Steps {
    fn up_to(limit: usize) -> Self {
        Self { done: AtomicUsize::new(0), limit }
    }
}

impl Monitor for Steps {
    fn progress(&self, _: &'static str, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.limit
    }
}

impl Watcher for Steps {
    fn step(&self, _: &StepRecord) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

fn data(folder: &Path) -> (TrainingData, TestSet) {
    let at = |name: &str| folder.join(name);
    let images = synthetic::generate(&SyntheticParams { count: 600, ..Default::default() }).unwrap();
    partitions::write(&images.dataset, &at("partitions"), &Silent).unwrap();
    let (version, split) = ("v1+v2+v3".parse::<DatasetVersion>().unwrap(), SplitParams::default());
    pull::pull(&at("partitions"), version, &split, None, &at("raw"), &Silent).unwrap();
    std::fs::write(at("overrides.csv"), "id,label\n").unwrap();
    std::fs::write(at("review.csv"), "id,decision,label,note\n").unwrap();
    prepare(&at("raw"), &at("overrides.csv"), &at("review.csv"), version, &split, &at("prepared"), &Silent).unwrap();
    let data = TrainingData::open(&at("prepared")).unwrap();
    let test = TestSet::open(&at("prepared/test"), data.report.test_fingerprint()).unwrap();
    (data, test)
}

#[test]
fn every_arm_does_what_it_says_and_nothing_is_trained_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (data, test) = data(folder.path());
    let (train, model) = (TrainParams { epochs: 3, batch_size: 64, ..Default::default() }, ModelParams::default());
    let noise = Noise { rate: 0.2, kind: NoiseKind::Symmetric };
    let [state, checkpoints, out] = ["state", "checkpoints", "out"].map(|name| folder.path().join(name));
    let params = StudyParams {
        train: &train,
        model: &model,
        seeds: &[1],
        arms: &Arm::ALL,
        noise: Some(&noise),
        state: &state,
        checkpoints: &checkpoints,
        every: Duration::ZERO,
        program: "test",
    };
    let all = Steps::up_to(usize::MAX);
    let outcomes = study(&params, &data, &test, &all).unwrap();
    let steps = all.done.load(Ordering::Relaxed);
    {
        let [base, dropped, weighted, relabelled, random, truth] = outcomes.as_slice() else { panic!("six arms") };
        let found = base.found.as_ref().unwrap();
        let images = data.train.len();
        assert_eq!(base.wrong_labels, (0.2 * images as f64).round() as usize);
        assert!(found.flagged > 0 && found.flagged_wrong <= found.flagged, "{found:?}");
        let is = |o: &Outcome, train_images, wrong_labels| {
            assert_eq!((o.train_images, o.wrong_labels), (train_images, wrong_labels), "{:?}", o.arm);
        };
        is(dropped, images - found.flagged, base.wrong_labels - found.flagged_wrong);
        is(weighted, images, base.wrong_labels);
        // A flag on a right label makes it wrong, one with the right suggestion makes a wrong one right.
        let spoilt = found.flagged - found.flagged_wrong;
        is(relabelled, images, base.wrong_labels - found.suggested_right + spoilt);
        assert_eq!(random.train_images, images - found.flagged);
        is(truth, images, 0);
        assert_eq!(found.measures.len(), 15, "all measures but those of folds: {:?}", found.measures);
    }

    let again = Steps::up_to(usize::MAX);
    assert_eq!(study(&params, &data, &test, &again).unwrap(), outcomes);
    assert_eq!(again.done.load(Ordering::Relaxed), 0, "what was trained was trained again");

    // Stopped every few steps, it comes to the same, by about as many steps.
    for name in [&state, &checkpoints] {
        std::fs::remove_dir_all(name).unwrap();
    }
    let (mut stops, mut taken) = (0, 0);
    let pieces = loop {
        let few = Steps::up_to(steps / 5);
        let result = study(&params, &data, &test, &few);
        taken += few.done.load(Ordering::Relaxed);
        match result {
            Ok(outcomes) => break outcomes,
            Err(EvalError::Train(TrainError::Data(DataError::Cancelled)) | EvalError::Data(DataError::Cancelled)) => {
                stops += 1;
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert!(stops >= 4, "{stops}");
    assert_eq!((pieces, taken), (outcomes.clone(), steps));

    let summary = summarise(&outcomes, "drawn", "a fifth");
    assert_eq!(summary.arms.len(), 6);
    let mean = outcomes.iter().filter(|o| o.arm == Arm::Dropped).map(|o| o.accuracy).sum::<f64>();
    let dropped = summary.arms.iter().find(|a| a.arm == Arm::Dropped).unwrap();
    assert!((dropped.accuracy.mean - mean).abs() < 1e-12 && dropped.over_base.n == 1);
    assert!(summary.arms[0].over_base.mean.abs() < 1e-12, "the base is nothing over itself");
    write(&outcomes, &summary, &out).unwrap();
    let table = std::fs::read_to_string(out.join("study.csv")).unwrap();
    assert_eq!(table.lines().count(), 7);
    assert!(summary.in_words().contains("true_labels"));

    let clean = StudyParams { noise: None, ..params };
    let mut as_it_was = data.clone();
    as_it_was.train.relabel(|s| Some(s.original_label)).unwrap();
    let refused = study(&clean, &as_it_was, &test, &Silent).unwrap_err().to_string();
    assert!(refused.contains("no training label differs from its original"), "{refused}");
}
