//! Out-of-fold predictions by k-fold training (Stone 1974), for measures that memorised images
//! would spoil.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cifar_data::duplicates::{Pair, groups};
use cifar_data::prepare::TrainingData;
use cifar_data::random::{Purpose, stream};
use cifar_data::splits::Split;
use cifar_data::{DataError, Dataset, Progress, SampleId, store};
use cifar_model::{ModelParams, predict};

use crate::{Checkpoints, EpochRecord, Result, Run, StepRecord, TrainError, TrainParams, TrainingCallback, run_key};

/// The parameters of k-fold training.
#[derive(Debug, Clone, Copy)]
pub struct Folds<'a> {
    /// How each network is trained.
    pub train: &'a TrainParams,
    /// The architecture of each network.
    pub model: &'a ModelParams,
    /// Number of folds, at least 2.
    pub folds: usize,
    /// Seed of the division into folds and of the networks.
    pub seed: u64,
    /// Exact and near duplicates. They stay in one fold, since a network knows the label of an
    /// image whose copy it trained on.
    pub pairs: &'a [Pair],
    /// The folder for checkpoints. A later call resumes from them.
    pub checkpoints: &'a Path,
    /// Time between two checkpoints.
    pub every: Duration,
    /// Identifies the program; see [`run_key`].
    pub program: &'a str,
}

/// Probabilities from networks that did not train on the image.
#[derive(Debug, Clone, PartialEq)]
pub struct OutOfFold {
    /// Training images × classes: each image by the network whose held-out fold it is in.
    pub train: Vec<f32>,
    /// Validation images × classes: the mean over all networks.
    pub val: Vec<f32>,
    /// Test images × classes: the mean over all networks.
    pub test: Vec<f32>,
}

/// Trains one network per fold on the images outside the fold, and predicts those inside it. All
/// networks also predict the validation images and the images of `test`, which may be empty.
///
/// All networks use the normalisation of the whole training set. `train.select: best` uses the
/// validation images, never the fold.
///
/// ```
/// use std::time::Duration;
/// use cifar_train::TrainParams;
/// use cifar_train::folds::{Folds, out_of_fold};
///
/// # use cifar_data::Silent;
/// # use cifar_data::sources::synthetic::{self, SyntheticParams};
/// # use cifar_model::ModelParams;
/// # let data = synthetic::training_data(&SyntheticParams { count: 300, ..Default::default() })?;
/// # let model = ModelParams { widths: vec![8, 8, 8], ..Default::default() };
/// # let folder = tempfile::tempdir().unwrap();
/// let folds = Folds {
///     train: &TrainParams { epochs: 1, batch_size: 32, ..Default::default() },
///     model: &model,
///     folds: 2,
///     seed: 42,
///     pairs: &[],
///     checkpoints: folder.path(),
///     every: Duration::from_secs(30),
///     program: "my program 1.0",
/// };
/// let test = data.val.filter(|_| false);
/// let probabilities = out_of_fold(&folds, &data, &test, &Silent)?;
/// assert_eq!(probabilities.train.len(), data.train.len() * 10);
/// # Ok::<(), cifar_train::TrainError>(())
/// ```
///
/// # Errors
/// If there are fewer than two folds or more folds than images, and those of
/// [`crate::fit_resumable`].
pub fn out_of_fold(folds: &Folds, data: &TrainingData, test: &Dataset, progress: &dyn Progress) -> Result<OutOfFold> {
    let fold_of = assign(folds, &data.train)?;
    let (set, classes) = (&data.train, data.train.classes().len());
    let mut train = vec![0.0; set.len() * classes];
    let mut sums = [&data.val, test].map(|set| vec![0.0f64; set.len() * classes]);
    for fold in 0..folds.folds {
        let is_inside = |id: SampleId| fold_of.get(&id) == Some(&fold);
        let outside = set.filter(|s| !is_inside(s.id));
        let inside = set.filter(|s| is_inside(s.id));
        let mut report = data.report.clone();
        report.fingerprints.insert(Split::Train, store::fingerprint(&outside));
        let data = TrainingData { train: outside, val: data.val.clone(), report };
        let key = run_key(folds.train, folds.model, &data.report, folds.seed, folds.program);
        let mut checkpoints = Checkpoints::open(folds.checkpoints, &key, folds.every, progress)?.keep_other_runs();
        let start = || Ok(Run::start(folds.train, folds.model, &data, folds.seed)?.without_dynamics());
        let mut run = checkpoints.resumed(start, progress)?;
        run.train(run.epochs(), Some(&mut checkpoints), &FoldCallback { progress, fold, folds: folds.folds })?;
        let model = run.finish()?.model;
        let answers = predict(&model, &inside, "scoring a fold", progress)?.probabilities()?;
        for (sample, row) in inside.samples().iter().zip(answers.chunks_exact(classes)) {
            if let Some(at) = set.index_of(sample.id) {
                train[at * classes..(at + 1) * classes].copy_from_slice(row);
            }
        }
        for (set, sums) in [&data.val, test].into_iter().zip(&mut sums) {
            let answers = predict(&model, set, "scoring a fold", progress)?.probabilities()?;
            sums.iter_mut().zip(answers).for_each(|(sum, p)| *sum += f64::from(p));
        }
    }
    let [val, test] = sums.map(|sums| sums.into_iter().map(|sum| (sum / folds.folds as f64) as f32).collect());
    Ok(OutOfFold { train, val, test })
}

/// Returns the fold of each image. Labels are spread evenly; the images of a group stay together.
fn assign(folds: &Folds, set: &Dataset) -> Result<BTreeMap<SampleId, usize>> {
    if folds.folds < 2 || folds.folds > set.len() {
        return Err(TrainError::Parameter {
            key: "folds",
            value: folds.folds.to_string(),
            allowed: format!("allowed is 2 to {}, the number of training images", set.len()),
        });
    }
    let leaders = groups(folds.pairs);
    // The group's smallest id may be in another split.
    let mut first_of: BTreeMap<SampleId, SampleId> = BTreeMap::new();
    let mut drawn: Vec<(u16, u64, SampleId)> = Vec::new();
    for sample in set.samples() {
        let leader = leaders.get(&sample.id).copied().unwrap_or(sample.id);
        if first_of.insert(leader, sample.id).is_none() {
            let draw = stream(folds.seed, Purpose::Fold, 0, u64::from(sample.id.0)).bits();
            drawn.push((sample.label, draw, leader));
        }
    }
    drawn.sort_unstable();
    let of_leader: BTreeMap<SampleId, usize> =
        drawn.into_iter().enumerate().map(|(place, (.., leader))| (leader, place % folds.folds)).collect();
    let fold = |id: SampleId| of_leader[leaders.get(&id).unwrap_or(&id)];
    Ok(set.samples().iter().map(|s| (s.id, fold(s.id))).collect())
}

/// Reports the steps of all folds as one progress bar.
struct FoldCallback<'a> {
    progress: &'a dyn Progress,
    fold: usize,
    folds: usize,
}

impl Progress for FoldCallback<'_> {
    // Tasks between the steps are too short to show.
    fn update(&self, _: &'static str, _: u64, _: u64) {}

    fn warn(&self, message: &str) {
        self.progress.warn(message);
    }

    fn cancelled(&self) -> bool {
        self.progress.cancelled()
    }

    fn check(&self) -> Result<(), DataError> {
        self.progress.check()
    }
}

impl TrainingCallback for FoldCallback<'_> {
    fn step(&self, step: &StepRecord) {
        let (done, all) = (self.fold * step.steps + step.step, self.folds * step.steps);
        self.progress.update("training folds", done as u64, all as u64);
    }

    fn epoch(&self, _: &[EpochRecord]) {}
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use cifar_data::Silent;
    use cifar_data::duplicates::Kind;
    use cifar_data::sources::synthetic::{self, SyntheticParams};

    use super::*;

    fn folds<'a>(
        train: &'a TrainParams,
        model: &'a ModelParams,
        folds: usize,
        pairs: &'a [Pair],
        checkpoints: &'a Path,
    ) -> Folds<'a> {
        Folds { train, model, folds, seed: 3, pairs, checkpoints, every: Duration::ZERO, program: "test" }
    }

    #[test]
    fn labels_are_spread_and_copies_stay_together() {
        let set = synthetic::generate(&SyntheticParams { count: 600, ..Default::default() }).unwrap().dataset;
        let near = |first, second| Pair {
            first: SampleId(first),
            second: SampleId(second),
            similarity: 0.95,
            kind: Kind::Near,
        };
        // A chain, and a pair whose first image is not in the set.
        let pairs = [near(1, 500), near(500, 77), near(30, 31)];
        let set = set.filter(|s| s.id.0 != 30);
        let (train, model) = Default::default();
        let found = assign(&folds(&train, &model, 4, &pairs, Path::new("")), &set).unwrap();
        assert_eq!(found.len(), 599);
        assert!(found[&SampleId(1)] == found[&SampleId(500)] && found[&SampleId(77)] == found[&SampleId(1)]);
        for label in 0..10 {
            let mut counts = [0usize; 4];
            set.samples().iter().filter(|s| s.label == label).for_each(|s| counts[found[&s.id]] += 1);
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(most - least <= 3, "{label}: {counts:?}");
        }
        for wrong in [0, 1, 600] {
            let error = assign(&folds(&train, &model, wrong, &pairs, Path::new("")), &set).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("folds: {wrong} is not allowed; allowed is 2 to 599, the number of training images")
            );
        }
    }

    /// Cancels after a number of progress calls.
    struct CancelAfter(std::sync::atomic::AtomicUsize);

    impl Progress for CancelAfter {
        fn update(&self, what: &'static str, _: u64, _: u64) {
            if what == "training folds" {
                self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            }
        }

        fn cancelled(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::Relaxed) == 0
        }
    }

    #[test]
    fn folds_that_are_interrupted_resume_to_the_same_probabilities() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let data = synthetic::training_data(&SyntheticParams { count: 900, ..Default::default() }).unwrap();
        let (train, model) = (TrainParams { epochs: 2, batch_size: 64, ..Default::default() }, ModelParams::default());

        let test = data.val.filter(|s| s.id.0 % 2 == 0);
        let whole = out_of_fold(&folds(&train, &model, 2, &[], &at("whole")), &data, &test, &Silent).unwrap();
        assert_eq!((whole.train.len(), whole.val.len()), (data.train.len() * 10, data.val.len() * 10));
        let of_val = |sample: &cifar_data::Sample| data.val.index_of(sample.id).map_or(0, |at| at * 10);
        let expected: Vec<f32> =
            test.samples().iter().flat_map(|s| &whole.val[of_val(s)..of_val(s) + 10]).copied().collect();
        assert_eq!(whole.test, expected, "here the test images are every other validation image");
        for row in whole.train.chunks_exact(10).chain(whole.val.chunks_exact(10)) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-4, "{row:?}");
        }
        let checkpoints = at("piecemeal");
        let piecemeal = folds(&train, &model, 2, &[], &checkpoints);
        let stops = Cell::new(0);
        let pieces = loop {
            match out_of_fold(&piecemeal, &data, &test, &CancelAfter(4.into())) {
                Ok(found) => break found,
                Err(TrainError::Data(DataError::Cancelled)) => stops.set(stops.get() + 1),
                Err(other) => panic!("{other}"),
            }
        };
        assert!(stops.get() > 2, "stopped only {} times", stops.get());
        assert_eq!(whole, pieces);
    }
}
