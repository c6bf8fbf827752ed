//! Studies of a small synthetic dataset: the labels that each arm trains on, resuming, and the
//! summary.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cifar_data::partitions::{self, DatasetVersion};
use cifar_data::prepare::{TestSet, TrainingData, prepare};
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::splits::SplitParams;
use cifar_data::{DataError, Dataset, Progress, SampleId, Silent, pull};
use cifar_eval::EvalError;
use cifar_eval::study::{Arm, Noise, NoiseKind, Outcome, StudyParams, study, summarise, write};
use cifar_model::ModelParams;
use cifar_train::{StepRecord, TrainError, TrainParams, TrainingCallback};

/// Counts steps and asks to stop after `limit`.
struct Steps {
    done: AtomicUsize,
    limit: usize,
}

impl Steps {
    fn up_to(limit: usize) -> Self {
        Self { done: AtomicUsize::new(0), limit }
    }
}

impl Progress for Steps {
    fn update(&self, _: &'static str, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.limit
    }
}

impl TrainingCallback for Steps {
    fn step(&self, _: &StepRecord) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Prepares `count` synthetic images with these corrections of labels.
fn data(folder: &Path, count: usize, overrides: &str, review: &str) -> (TrainingData, TestSet) {
    let images = synthetic::generate(&SyntheticParams { count, ..Default::default() }).unwrap();
    data_of(folder, &images.dataset, overrides, review)
}

/// Returns synthetic images of three classes, which a small network learns within a few steps.
fn three_classes(count: usize) -> Dataset {
    let all = synthetic::generate(&SyntheticParams { count, ..Default::default() }).unwrap().dataset;
    let kept = all.filter(|s| s.label < 3 && s.original_label < 3);
    let mut header = kept.header().clone();
    header.classes.truncate(3);
    Dataset::new(header, kept.samples().to_vec(), kept.pixels().to_vec()).unwrap()
}

fn data_of(folder: &Path, images: &Dataset, overrides: &str, review: &str) -> (TrainingData, TestSet) {
    let at = |name: &str| folder.join(name);
    partitions::write(images, &at("partitions"), &Silent).unwrap();
    let (version, split) = ("v1+v2+v3".parse::<DatasetVersion>().unwrap(), SplitParams::default());
    pull::pull(&at("partitions"), version, &split, None, &at("raw"), &Silent).unwrap();
    std::fs::write(at("overrides.csv"), format!("id,label\n{overrides}")).unwrap();
    std::fs::write(at("review.csv"), format!("id,decision,label,note\n{review}")).unwrap();
    prepare(&at("raw"), &at("overrides.csv"), &at("review.csv"), version, &split, &at("prepared"), &Silent).unwrap();
    let data = TrainingData::open(&at("prepared")).unwrap();
    let test = TestSet::open(&at("prepared/test"), data.report.test_fingerprint()).unwrap();
    (data, test)
}

#[test]
fn arms_change_the_expected_labels_and_finished_networks_are_reused() {
    let folder = tempfile::tempdir().unwrap();
    // The network must learn its images: otherwise it flags nothing.
    let (data, test) = data_of(folder.path(), &three_classes(1200), "", "");
    let train = TrainParams { epochs: 12, batch_size: 32, ..Default::default() };
    let model = ModelParams { widths: vec![8, 16, 32], ..ModelParams::default() };
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
        assert!(found.flagged > 0 && found.flagged_wrong <= found.flagged && found.withheld.is_empty(), "{found:?}");
        let check = |o: &Outcome, train_images, wrong_labels| {
            assert_eq!((o.train_images, o.wrong_labels), (train_images, wrong_labels), "{:?}", o.arm);
        };
        check(dropped, images - found.flagged, base.wrong_labels - found.flagged_wrong);
        check(weighted, images, base.wrong_labels);
        // Relabelling makes a flagged correct label wrong, and a wrong label correct if the
        // suggestion is the true label.
        let made_wrong = found.flagged - found.flagged_wrong;
        check(relabelled, images, base.wrong_labels - found.suggested_right + made_wrong);
        assert_eq!(random.train_images, images - found.flagged);
        check(truth, images, 0);
        assert_eq!(found.measures.len(), 15, "all but the out-of-fold measures: {:?}", found.measures);
    }

    let again = Steps::up_to(usize::MAX);
    assert_eq!(study(&params, &data, &test, &again).unwrap(), outcomes);
    assert_eq!(again.done.load(Ordering::Relaxed), 0, "a finished network was trained again");

    // Interrupted every few steps, it gives the same outcomes after the same number of steps.
    for name in [&state, &checkpoints] {
        std::fs::remove_dir_all(name).unwrap();
    }
    let (mut stops, mut taken) = (0, 0);
    let resumed = loop {
        let part = Steps::up_to(steps / 5);
        let result = study(&params, &data, &test, &part);
        taken += part.done.load(Ordering::Relaxed);
        match result {
            Ok(outcomes) => break outcomes,
            Err(EvalError::Train(TrainError::Data(DataError::Cancelled)) | EvalError::Data(DataError::Cancelled)) => {
                stops += 1;
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert!(stops >= 4, "{stops}");
    assert_eq!((resumed, taken), (outcomes.clone(), steps));

    let summary = summarise(&outcomes, "synthetic", "20 % wrong labels");
    assert_eq!(summary.arms.len(), 6);
    let mean = outcomes.iter().filter(|o| o.arm == Arm::Dropped).map(|o| o.accuracy).sum::<f64>();
    let dropped = summary.arms.iter().find(|a| a.arm == Arm::Dropped).unwrap();
    let over_base = dropped.over_base.unwrap();
    assert!((dropped.accuracy.mean - mean).abs() < 1e-12 && over_base.n == 1);
    assert!((over_base.mean - (mean - outcomes[0].accuracy)).abs() < 1e-12 && over_base.low.is_none());
    assert_eq!((summary.arms[0].over_base, summary.comparisons), (None, 5), "the base has no difference from itself");
    write(&outcomes, &summary, &out).unwrap();
    let table = std::fs::read_to_string(out.join("study.csv")).unwrap();
    assert_eq!(table.lines().count(), 7);
    assert!(table.lines().skip(1).all(|line| line.ends_with(",synthetic")), "{table}");
    assert!(summary.in_words().contains("true_labels"));

    let clean = StudyParams { noise: None, ..params };
    let refused = study(&clean, &data, &test, &Silent).unwrap_err().to_string();
    assert!(refused.contains("no training label is corrected in labels/overrides.csv"), "{refused}");
    let rare = Noise { rate: 0.001, kind: NoiseKind::Symmetric };
    let refused = study(&StudyParams { noise: Some(&rare), ..params }, &data, &test, &Silent).unwrap_err().to_string();
    let expected = format!("that fraction of {} training labels rounds to 0", data.train.len());
    assert!(refused.contains(&expected), "{refused}");
}

/// Runs a study of one epoch with these arms.
fn short_study(
    folder: &Path,
    data: &TrainingData,
    test: &TestSet,
    noise: Option<&Noise>,
    arms: &[Arm],
) -> Vec<Outcome> {
    let (train, model) = (TrainParams { epochs: 1, batch_size: 64, ..Default::default() }, ModelParams::default());
    let params = StudyParams {
        train: &train,
        model: &model,
        seeds: &[1],
        arms,
        noise,
        state: &folder.join("state"),
        checkpoints: &folder.join("checkpoints"),
        every: Duration::from_hours(1),
        program: "test",
    };
    study(&params, data, test, &Silent).unwrap()
}

#[test]
fn corrected_labels_count_as_true() {
    let folder = tempfile::tempdir().unwrap();
    let plain = data(&folder.path().join("plain"), 150, "", "").0;
    let ids: Vec<SampleId> = plain.train.samples().iter().map(|s| s.id).collect();
    let other = |id: SampleId| {
        let label = plain.train.samples()[plain.train.index_of(id).unwrap()].label;
        plain.train.classes()[(usize::from(label) + 1) % plain.train.classes().len()].clone()
    };
    let overrides = format!("{},{}\n", ids[0], other(ids[0]));
    let review = format!("{},relabel,{},\n{},relabel,{},\n", ids[1], other(ids[1]), ids[2], other(ids[2]));
    let (corrected, test) = data(&folder.path().join("corrected"), 150, &overrides, &review);
    let is_corrected =
        |data: &TrainingData| data.train.samples().iter().filter(|s| s.label != s.original_label).count();
    assert_eq!(is_corrected(&corrected), 3);

    let arms = [Arm::Base, Arm::TrueLabels];
    let noise = Noise { rate: 0.1, kind: NoiseKind::Symmetric };
    let flips = (0.1 * corrected.train.len() as f64).round() as usize;
    let of = |outcomes: &[Outcome]| outcomes.iter().map(|o| (o.arm, o.wrong_labels)).collect::<Vec<_>>();
    let outcomes = short_study(folder.path(), &corrected, &test, Some(&noise), &arms);
    assert_eq!(of(&outcomes), [(Arm::Base, flips), (Arm::TrueLabels, 0)]);
    // The measures are compared with the same truth.
    let measures = &outcomes[0].found.as_ref().unwrap().measures;
    assert!(measures.iter().any(|(name, a)| name == "loss" && a.positives == Some(flips)), "{measures:?}");
    // The arm with true labels trains on the corrected labels, so its accuracy is that of a network
    // trained on the corrected data.
    let clean = cifar_train::fit(
        &TrainParams { epochs: 1, batch_size: 64, ..Default::default() },
        &ModelParams::default(),
        &TrainingData { val: noisy_val(&corrected, &noise), ..corrected.clone() },
        1,
        &Silent,
    );
    let logits = cifar_model::predict(&clean.unwrap().model, test.dataset(), "", &Silent).unwrap();
    let correct = (0..test.dataset().len()).filter(|i| {
        let predicted = cifar_eval::predictions::predicted_class(logits.row(*i));
        predicted == usize::from(test.dataset().samples()[*i].label)
    });
    assert!((outcomes[1].accuracy - correct.count() as f64 / test.dataset().len() as f64).abs() < 1e-12);

    // Without noise the corrections are undone, and these are the wrong labels.
    let undone = short_study(folder.path(), &corrected, &test, None, &arms);
    assert_eq!(of(&undone), [(Arm::Base, 3), (Arm::TrueLabels, 0)]);
    // A network trained for one epoch is too inaccurate to flag an image, and the reason is
    // reported.
    let found = undone[0].found.as_ref().unwrap();
    assert!(found.flagged == 0 && found.withheld[0].contains("the network knows too little"), "{found:?}");
    let words = summarise(&undone, "synthetic", "corrections undone").in_words();
    assert!(words.contains("seed 1: no image is called likely mislabelled"), "{words}");
}

/// Returns the validation images of a study under seed 1.
fn noisy_val(data: &TrainingData, noise: &Noise) -> cifar_data::Dataset {
    let mut val = data.val.clone();
    noise.corrupt(&mut val, 1).unwrap();
    val
}

/// Returns the outcomes of a study of six arms under three seeds, with these accuracies.
fn outcomes(accuracy: &[[f64; 3]]) -> Vec<Outcome> {
    let of_arm = |(arm, row): (&Arm, &[f64; 3])| {
        let arm = *arm;
        let outcome = move |(seed, accuracy): (u64, f64)| Outcome {
            arm,
            seed,
            train_images: 100,
            wrong_labels: 20,
            accuracy,
            test_images: 50,
            found: None,
        };
        (1..).zip(*row).map(outcome).collect::<Vec<_>>()
    };
    Arm::ALL.iter().zip(accuracy).flat_map(of_arm).collect()
}

#[test]
fn conclusions_are_corrected_for_the_number_of_arms() {
    // Dropped is 1, 2 and 1.5 points above base. Alone that is a difference (0.26 to 2.74), but not
    // among five.
    let five = outcomes(&[
        [0.80, 0.80, 0.80],
        [0.81, 0.82, 0.815],
        [0.78, 0.82, 0.80],
        [0.80, 0.79, 0.82],
        [0.79, 0.80, 0.78],
        [0.86, 0.88, 0.87],
    ]);
    let of = |outcomes: &[Outcome]| {
        let summary = summarise(outcomes, "synthetic", "20 % wrong labels");
        let dropped = summary.arms.iter().find(|a| a.arm == Arm::Dropped).unwrap().over_base.unwrap();
        (summary.comparisons, dropped.low.unwrap(), summary.in_words())
    };
    let (comparisons, low, words) = of(&five);
    assert!(comparisons == 5 && low < 0.0, "{low} {words}");
    assert!(words.contains("of differences for all 5 comparisons at once"), "{words}");
    assert!(
        words.contains("dropped: no difference established with 3 seeds")
            && words.contains("true_labels: better than base")
    );
    let two: Vec<Outcome> = five.into_iter().filter(|o| matches!(o.arm, Arm::Base | Arm::Dropped)).collect();
    let (comparisons, low, words) = of(&two);
    assert!(comparisons == 1 && (low - 0.002_6).abs() < 1e-4, "{low}");
    assert!(words.contains("dropped: better than base") && !words.contains("at once"), "{words}");
}
