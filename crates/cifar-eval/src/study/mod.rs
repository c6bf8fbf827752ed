//! Measures whether acting on flagged images helps, on data whose wrong labels are known.
//!
//! A study trains networks on data with wrong labels and scores them on test images. Its arms drop
//! the flagged images, weight them down or relabel them. They are compared with doing nothing, with
//! dropping as many random images, and with training on the true labels, all under several seeds.
//! The study changes no label of a test image.
//!
//! The true labels are the labels in force, after `labels/overrides.csv` and `labels/review.csv`:
//! corrections by people count as true. The wrong labels are either made from them ([`Noise`]) or
//! are the original labels that people corrected. No flag, weight or suggestion depends on the true
//! labels.

mod annotators;
mod differences;
mod noise;
mod table;

use std::path::Path;
use std::time::Duration;

use cifar_data::output::write_file;
use cifar_data::prepare::{TestSet, TrainingData};
use cifar_data::provenance::{read_sealed, sealed_json};
use cifar_data::random::{Purpose, stream};
use cifar_data::splits::Split;
use cifar_data::{Dataset, Sample, store};
use cifar_model::{ModelParams, predict};
use cifar_train::{Checkpoints, Fitted, Run, TrainParams, TrainingCallback, run_key};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::hard_images::{AssessedLabel, assess_labels};
use crate::measures::scores_first;
use crate::predictions::predicted_class;
use crate::truth::{MeasureAgreement, TruthKind};
use crate::{EvalError, Result};

pub use self::annotators::Annotators;
pub use self::differences::Difference;
pub use self::noise::{Noise, NoiseKind, most_confused};
pub use self::table::{ArmSummary, MeasureSummary, StudySummary, summarise, write};

/// Weight of the loss of a flagged image in [`Arm::DownWeighted`].
const LOW_WEIGHT: f32 = 0.1;

/// What is done with flagged images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// Nothing: they keep the labels that the study gives them.
    Base,
    /// They are dropped.
    Dropped,
    /// Their loss gets a weight of 0.1.
    DownWeighted,
    /// They get the suggested label.
    Relabelled,
    /// They stay; the same number of random images is dropped instead.
    Random,
    /// All images get their true label: the best possible result.
    TrueLabels,
}

impl Arm {
    /// All arms, in the order of the table.
    pub const ALL: [Self; 6] =
        [Self::Base, Self::Dropped, Self::DownWeighted, Self::Relabelled, Self::Random, Self::TrueLabels];

    /// Returns its name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Dropped => "dropped",
            Self::DownWeighted => "down_weighted",
            Self::Relabelled => "relabelled",
            Self::Random => "random",
            Self::TrueLabels => "true_labels",
        }
    }
}

/// What a study trains, and where it keeps its state.
#[derive(Debug, Clone, Copy)]
pub struct StudyParams<'a> {
    /// Parameters of training.
    pub train: &'a TrainParams,
    /// The network.
    pub model: &'a ModelParams,
    /// Seeds of the networks, of the randomly dropped images and of the corrupted labels.
    pub seeds: &'a [u64],
    /// Arms to train. [`Arm::Base`] is always trained.
    pub arms: &'a [Arm],
    /// How labels are corrupted. If none, every corrected image gets its original label back, and
    /// these are the wrong labels.
    pub noise: Option<&'a Noise>,
    /// Folder of finished outcomes, one file each.
    pub state: &'a Path,
    /// Folder of checkpoints.
    pub checkpoints: &'a Path,
    /// Interval between checkpoints.
    pub every: Duration,
    /// Identity of the program; see [`run_key`].
    pub program: &'a str,
}

/// The result of training one network of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The arm.
    pub arm: Arm,
    /// The seed.
    pub seed: u64,
    /// Number of training images.
    pub train_images: usize,
    /// Number of training images whose label in this arm is wrong.
    pub wrong_labels: usize,
    /// Accuracy on the test images, 0 to 1.
    pub accuracy: f64,
    /// Number of test images.
    pub test_images: usize,
    /// What the analysis of the base network found; none for other arms.
    pub found: Option<BaseAnalysis>,
}

/// What the analysis of a base network found among the training images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseAnalysis {
    /// Number of flagged images: those that are *likely mislabelled*.
    pub flagged: usize,
    /// Number of flagged images whose label is wrong.
    pub flagged_wrong: usize,
    /// Number of flagged images whose suggested label is the true one.
    pub suggested_right: usize,
    /// Why no image, or no image of some classes, is flagged: see
    /// [`crate::hard_images::SplitSummary::withheld`].
    pub withheld: Vec<String>,
    /// Agreement of each measure with which labels are wrong, over the training images.
    pub measures: Vec<(String, MeasureAgreement)>,
}

/// Trains all networks that are not finished yet and returns all outcomes, seed by seed. An
/// interrupted study resumes.
///
/// ```no_run
/// use std::path::Path;
/// use std::time::Duration;
///
/// use cifar_data::Silent;
/// use cifar_data::prepare::{TestSet, TrainingData};
/// use cifar_eval::study::{Arm, Noise, NoiseKind, StudyParams, study, summarise};
/// use cifar_model::ModelParams;
/// use cifar_train::TrainParams;
///
/// let data = TrainingData::open(Path::new("data/prepared"))?;
/// let test = TestSet::open(Path::new("data/prepared/test"), data.report.test_fingerprint())?;
/// let params = StudyParams {
///     train: &TrainParams::default(),
///     model: &ModelParams::default(),
///     seeds: &[1, 2, 3],
///     arms: &Arm::ALL,
///     noise: Some(&Noise { rate: 0.2, kind: NoiseKind::Symmetric }),
///     state: Path::new("study/outcomes"),
///     checkpoints: Path::new("study/checkpoints"),
///     every: Duration::from_secs(30),
///     program: "my program 1.0",
/// };
/// let outcomes = study(&params, &data, &test, &Silent)?;
/// let source = &data.report.source.description;
/// println!("{}", summarise(&outcomes, source, "20 % random labels").in_words());
/// # Ok::<(), cifar_eval::EvalError>(())
/// ```
///
/// # Errors
/// If no label is wrong, a parameter is out of range, the recipe records no dynamics of single
/// images, or training fails or is stopped.
pub fn study(
    params: &StudyParams,
    data: &TrainingData,
    test: &TestSet,
    callback: &dyn TrainingCallback,
) -> Result<Vec<Outcome>> {
    params.train.check_dynamics()?;
    let mut outcomes = Vec::new();
    for &seed in params.seeds {
        let truth = &data.train;
        let corrupted = corrupted(params, data, seed)?;
        let base = Training { params, data: &corrupted, truth, seed, arm: Arm::Base, weights: None };
        // Needed even if the outcome is known, because other arms depend on the flags. The
        // checkpoint is then that of a finished run.
        let (outcome, found) = base.outcome(test, callback)?;
        outcomes.push(outcome);
        for &arm in params.arms.iter().filter(|arm| **arm != Arm::Base) {
            callback.check()?;
            let (data, weights) = treated(arm, &corrupted, truth, &found, seed)?;
            let training = Training { params, data: &data, truth, seed, arm, weights };
            outcomes.push(training.outcome(test, callback)?.0);
        }
    }
    Ok(outcomes)
}

/// Returns the data of a study under a seed: `data`, whose labels are true, with wrong labels.
fn corrupted(params: &StudyParams, data: &TrainingData, seed: u64) -> Result<TrainingData> {
    let truth = &data.train;
    let mut data = data.clone();
    for set in [&mut data.train, &mut data.val] {
        match params.noise {
            Some(_) if set.is_empty() => {}
            Some(noise) => noise.corrupt(set, seed)?,
            None => {
                set.relabel(|s| Some(s.original_label))?;
            }
        }
    }
    if wrong_labels(&data.train, truth) == 0 {
        let (value, allowed) = match params.noise {
            Some(noise) => (
                noise.rate.to_string(),
                format!("that fraction of {} training labels rounds to 0; give a larger one", truth.len()),
            ),
            None => (
                "none".into(),
                "no training label is corrected in labels/overrides.csv or labels/review.csv, so there is nothing to find; give a fraction of labels to make wrong".into(),
            ),
        };
        return Err(EvalError::Parameter { key: "flip", value, allowed });
    }
    Ok(with_fingerprints(data))
}

/// Returns the data with fingerprints of its changed sets.
fn with_fingerprints(mut data: TrainingData) -> TrainingData {
    for (split, set) in [(Split::Train, &data.train), (Split::Val, &data.val)] {
        data.report.fingerprints.insert(split, store::fingerprint(set));
    }
    data
}

/// Returns the true label of an image of a study.
fn true_label(truth: &Dataset, sample: &Sample) -> Option<u16> {
    truth.index_of(sample.id).map(|at| truth.samples()[at].label)
}

fn wrong_labels(set: &Dataset, truth: &Dataset) -> usize {
    set.samples().iter().filter(|s| true_label(truth, s) != Some(s.label)).count()
}

/// Returns the data that an arm trains on, and weights of the images if it has any.
fn treated(
    arm: Arm,
    data: &TrainingData,
    truth: &Dataset,
    found: &[AssessedLabel],
    seed: u64,
) -> Result<(TrainingData, Option<Vec<f32>>)> {
    let mut data = data.clone();
    // `found` has the order of the set, which is that of the ids.
    let flag = |id| found.binary_search_by_key(&id, |s| s.id).ok().map(|at| &found[at]).filter(|s| s.is_flagged);
    let mut weights = None;
    match arm {
        Arm::Base => {}
        Arm::Dropped => data.train = data.train.filter(|s| flag(s.id).is_none()),
        Arm::DownWeighted => {
            weights = Some(found.iter().map(|s| if s.is_flagged { LOW_WEIGHT } else { 1.0 }).collect());
        }
        Arm::Relabelled => {
            data.train.relabel(|s| flag(s.id).and_then(|s| s.suggested))?;
        }
        Arm::Random => {
            let count = found.iter().filter(|s| s.is_flagged).count();
            let mut order: Vec<_> = (data.train.samples().iter())
                .map(|s| (stream(seed, Purpose::LabelNoise, 2, u64::from(s.id.0)).bits(), s.id))
                .collect();
            order.sort_unstable();
            let mut dropped: Vec<_> = order.into_iter().take(count).map(|(_, id)| id).collect();
            dropped.sort_unstable();
            data.train = data.train.filter(|s| dropped.binary_search(&s.id).is_err());
        }
        Arm::TrueLabels => {
            data.train.relabel(|s| true_label(truth, s))?;
        }
    }
    if data.train.is_empty() {
        return Err(EvalError::Parameter {
            key: arm.name(),
            value: "every training image".into(),
            allowed: "some images must remain to train on".into(),
        });
    }
    Ok((with_fingerprints(data), weights))
}

/// A network to train.
struct Training<'a> {
    params: &'a StudyParams<'a>,
    data: &'a TrainingData,
    truth: &'a Dataset,
    seed: u64,
    arm: Arm,
    weights: Option<Vec<f32>>,
}

impl Training<'_> {
    /// Returns the key of the outcome and of the checkpoint: a hash of everything that decides the
    /// outcome.
    fn key(&self) -> String {
        let Self { params, data, truth, seed, arm, weights } = self;
        let run = run_key(params.train, params.model, &data.report, *seed, params.program);
        let bits: Vec<u32> = weights.iter().flatten().map(|w| w.to_bits()).collect();
        blake3::hash(json!([run, arm, bits, store::fingerprint(truth)]).to_string().as_bytes()).to_hex().to_string()
    }

    /// Trains and scores the network, unless its outcome is known. For the base, also returns what
    /// the analysis found.
    fn outcome(self, test: &TestSet, callback: &dyn TrainingCallback) -> Result<(Outcome, Vec<AssessedLabel>)> {
        let key = self.key();
        let path = self.params.state.join(format!("{key}.json"));
        let known = match std::fs::read(&path) {
            Err(_) => None,
            Ok(text) => match read_sealed::<Outcome>(&text) {
                Ok(known) => Some(known),
                Err(problem) => {
                    callback.warn(&format!("{}: {problem}; this network is trained again", path.display()));
                    None
                }
            },
        };
        if let Some(known) = &known
            && self.arm != Arm::Base
        {
            return Ok((known.clone(), Vec::new()));
        }
        let (seed, arm, train) = (self.seed, self.arm, &self.data.train);
        let fitted = self.fitted(&key, callback)?;
        let (found, withheld) = match &fitted.dynamics {
            Some(dynamics) => assess_labels(&fitted.model, dynamics, (train, &self.data.val), callback)?,
            None => (Vec::new(), Vec::new()),
        };
        if let Some(known) = known {
            return Ok((known, found));
        }
        let set = test.dataset();
        let logits = predict(&fitted.model, set, "testing", callback)?;
        let correct =
            (0..set.len()).filter(|i| predicted_class(logits.row(*i)) == usize::from(set.samples()[*i].label));
        let outcome = Outcome {
            arm,
            seed,
            train_images: train.len(),
            wrong_labels: wrong_labels(train, self.truth),
            accuracy: correct.count() as f64 / set.len().max(1) as f64,
            test_images: set.len(),
            found: (arm == Arm::Base).then(|| analysis(train, self.truth, &found, withheld, seed)),
        };
        std::fs::create_dir_all(self.params.state).map_err(cifar_data::DataError::io("create the folder", &path))?;
        write_file(&path, &sealed_json(&outcome, &path)?)?;
        Ok((outcome, found))
    }

    fn fitted(&self, key: &str, callback: &dyn TrainingCallback) -> Result<Fitted> {
        let StudyParams { train, model, checkpoints, every, .. } = *self.params;
        let mut checkpoints = Checkpoints::open(checkpoints, key, every, callback)?.keep_other_runs();
        let start = || {
            let run = Run::start(train, model, self.data, self.seed)?;
            let run = if self.arm == Arm::Base { run } else { run.without_dynamics() };
            match &self.weights {
                Some(weights) => run.weighted(weights.clone()),
                None => Ok(run),
            }
        };
        let mut run = checkpoints.resumed(start, callback)?;
        run.train(run.epochs(), Some(&mut checkpoints), callback)?;
        let fitted = run.finish()?;
        if self.arm != Arm::Base {
            // Only the outcome is needed later. The base network is needed again for its flags.
            checkpoints.discard()?;
        }
        Ok(fitted)
    }
}

/// Compares the flags and measures with the true labels.
fn analysis(
    train: &Dataset,
    truth: &Dataset,
    found: &[AssessedLabel],
    withheld: Vec<String>,
    seed: u64,
) -> BaseAnalysis {
    let is_wrong: Vec<bool> = train.samples().iter().map(|s| true_label(truth, s) != Some(s.label)).collect();
    let flagged = || found.iter().zip(train.samples()).zip(&is_wrong).filter(|((s, _), _)| s.is_flagged);
    let measures = scores_first().filter_map(|measure| {
        let pairs: Vec<(f64, f64)> = (found.iter().zip(&is_wrong))
            .filter_map(|(image, is_wrong)| Some((measure.hardness(&image.measures)?, f64::from(u8::from(*is_wrong)))))
            .collect();
        Some((measure.key.to_string(), MeasureAgreement::of(&pairs, TruthKind::Binary, seed)?))
    });
    BaseAnalysis {
        flagged: flagged().count(),
        flagged_wrong: flagged().filter(|(_, is_wrong)| **is_wrong).count(),
        suggested_right: flagged().filter(|((s, sample), _)| s.suggested == true_label(truth, sample)).count(),
        withheld,
        measures: measures.collect(),
    }
}
