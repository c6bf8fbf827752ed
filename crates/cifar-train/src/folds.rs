//! Networks that did not learn from an image: k-fold training (Stone 1974), for measures that what a network knows by heart
//! would spoil.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cifar_data::duplicates::{Pair, groups};
use cifar_data::prepare::TrainingData;
use cifar_data::random::{Purpose, stream};
use cifar_data::splits::Split;
use cifar_data::{DataError, Dataset, Monitor, SampleId, store};
use cifar_model::{ModelParams, predict};

use crate::{Checkpoints, EpochRecord, Result, Run, StepRecord, TrainError, TrainParams, Watcher, run_key};

/// How to train fold by fold.
#[derive(Debug, Clone, Copy)]
pub struct Folds<'a> {
    /// The recipe of each network.
    pub train: &'a TrainParams,
    /// Each network.
    pub model: &'a ModelParams,
    /// How many folds there are, at least 2.
    pub folds: usize,
    /// Of the division and of the networks.
    pub seed: u64,
    /// Exact and near duplicates: they stay in one fold, since a network knows the label of a copy of what it learnt.
    pub pairs: &'a [Pair],
    /// Where checkpoints are kept. What was trained before a stop is not trained again.
    pub checkpoints: &'a Path,
    /// How often one is written.
    pub every: Duration,
    /// What stands for the program; see [`run_key`].
    pub program: &'a str,
}

/// What networks that did not learn from an image say of it, as probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct OutOfFold {
    /// Training images × classes: each image by the one network whose fold it was in.
    pub train: Vec<f32>,
    /// Validation images × classes: the mean over all networks.
    pub val: Vec<f32>,
}

/// Trains a network a fold on the training images outside of it, and asks it about those inside. Normalisation is that of all
/// training images; `train.select: best` looks at the validation images, as ever, and never at the fold.
///
/// # Errors
/// If there are fewer than two folds or more than images, and those of [`crate::fit_resumable`].
pub fn out_of_fold(folds: &Folds, data: &TrainingData, monitor: &dyn Monitor) -> Result<OutOfFold> {
    let fold_of = assign(folds, &data.train)?;
    let (set, classes) = (&data.train, data.train.classes().len());
    let mut train = vec![0.0; set.len() * classes];
    let mut val = vec![0.0f64; data.val.len() * classes];
    for fold in 0..folds.folds {
        let is_inside = |id: SampleId| fold_of.get(&id) == Some(&fold);
        let outside = set.filter(|s| !is_inside(s.id));
        let inside = set.filter(|s| is_inside(s.id));
        let mut report = data.report.clone();
        report.fingerprints.insert(Split::Train, store::fingerprint(&outside));
        let data = TrainingData { train: outside, val: data.val.clone(), report };
        let key = run_key(folds.train, folds.model, &data.report, folds.seed, folds.program);
        let mut checkpoints =
            Checkpoints::open(folds.checkpoints, &key, folds.every, monitor)?.keeping_those_of_other_runs();
        let start = || Ok(Run::start(folds.train, folds.model, &data, folds.seed)?.without_dynamics());
        let mut run = checkpoints.resumed(start, monitor)?;
        run.train(folds.train.epochs, Some(&mut checkpoints), &FoldWatcher { monitor, fold, folds: folds.folds })?;
        let model = run.finish()?.model;
        let answers = predict(&model, &inside, "scoring a fold", monitor)?.probabilities()?;
        for (sample, row) in inside.samples().iter().zip(answers.chunks_exact(classes)) {
            if let Some(at) = set.index_of(sample.id) {
                train[at * classes..(at + 1) * classes].copy_from_slice(row);
            }
        }
        let answers = predict(&model, &data.val, "scoring a fold", monitor)?.probabilities()?;
        val.iter_mut().zip(answers).for_each(|(sum, p)| *sum += f64::from(p));
    }
    Ok(OutOfFold { train, val: val.into_iter().map(|sum| (sum / folds.folds as f64) as f32).collect() })
}

/// The fold of each image. Labels are spread evenly; the images of a group follow its first one.
fn assign(folds: &Folds, set: &Dataset) -> Result<BTreeMap<SampleId, usize>> {
    if folds.folds < 2 || folds.folds > set.len() {
        return Err(TrainError::Parameter {
            key: "folds",
            value: folds.folds.to_string(),
            allowed: format!("allowed is 2 to {}, the number of training images", set.len()),
        });
    }
    let leaders = groups(folds.pairs);
    // A group's smallest id may be in another split.
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

/// Shows the steps of all folds as one bar.
struct FoldWatcher<'a> {
    monitor: &'a dyn Monitor,
    fold: usize,
    folds: usize,
}

impl Monitor for FoldWatcher<'_> {
    // What happens between the steps would come and go too fast to be read.
    fn progress(&self, _: &'static str, _: u64, _: u64) {}

    fn warn(&self, message: &str) {
        self.monitor.warn(message);
    }

    fn cancelled(&self) -> bool {
        self.monitor.cancelled()
    }

    fn check(&self) -> Result<(), DataError> {
        self.monitor.check()
    }
}

impl Watcher for FoldWatcher<'_> {
    fn step(&self, step: &StepRecord) {
        let (done, all) = (self.fold * step.steps + step.step, self.folds * step.steps);
        self.monitor.progress("training folds", done as u64, all as u64);
    }

    fn epoch(&self, _: &[EpochRecord]) {}
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use cifar_data::duplicates::Kind;
    use cifar_data::partitions::{self, DatasetVersion};
    use cifar_data::prepare::prepare;
    use cifar_data::sources::synthetic::{self, SyntheticParams};
    use cifar_data::splits::SplitParams;
    use cifar_data::{Silent, pull};

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

    /// Asks to stop behind so many calls.
    struct Impatient(std::sync::atomic::AtomicUsize);

    impl Monitor for Impatient {
        fn progress(&self, what: &'static str, _: u64, _: u64) {
            if what == "training folds" {
                self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            }
        }

        fn cancelled(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::Relaxed) == 0
        }
    }

    #[test]
    fn stopped_anywhere_it_ends_with_the_same_and_knows_no_image_by_heart() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let images = synthetic::generate(&SyntheticParams { count: 900, ..Default::default() }).unwrap();
        partitions::write(&images.dataset, &at("partitions"), &Silent).unwrap();
        let (version, split) = ("v1+v2+v3".parse::<DatasetVersion>().unwrap(), SplitParams::default());
        pull::pull(&at("partitions"), version, &split, None, &at("raw"), &Silent).unwrap();
        std::fs::write(at("overrides.csv"), "id,label\n").unwrap();
        std::fs::write(at("review.csv"), "id,decision,label,note\n").unwrap();
        prepare(&at("raw"), &at("overrides.csv"), &at("review.csv"), version, &split, &at("prepared"), &Silent)
            .unwrap();
        let data = TrainingData::open(&at("prepared")).unwrap();
        let (train, model) = (TrainParams { epochs: 2, batch_size: 64, ..Default::default() }, ModelParams::default());

        let whole = out_of_fold(&folds(&train, &model, 2, &[], &at("whole")), &data, &Silent).unwrap();
        assert_eq!((whole.train.len(), whole.val.len()), (data.train.len() * 10, data.val.len() * 10));
        for row in whole.train.chunks_exact(10).chain(whole.val.chunks_exact(10)) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-4, "{row:?}");
        }
        let checkpoints = at("piecemeal");
        let piecemeal = folds(&train, &model, 2, &[], &checkpoints);
        let stops = Cell::new(0);
        let pieces = loop {
            match out_of_fold(&piecemeal, &data, &Impatient(4.into())) {
                Ok(found) => break found,
                Err(TrainError::Data(DataError::Cancelled)) => stops.set(stops.get() + 1),
                Err(other) => panic!("{other}"),
            }
        };
        assert!(stops.get() > 2, "stopped only {} times", stops.get());
        assert_eq!(whole, pieces);
    }
}
