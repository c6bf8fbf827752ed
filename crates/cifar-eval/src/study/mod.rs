//! Does it help? On data with wrong labels whose truth is known: networks trained on these labels, with the flagged images
//! dropped, weighted down or relabelled, with as many images dropped at random, and with the true labels; over seeds, scored on
//! test images, whose labels a study leaves as they came with the data set.
//!
//! The truth is the labels in force, after `labels/overrides.csv` and `labels/review.csv`: what people corrected is right. The
//! wrong labels are made from them ([`Noise`]) or are the original ones that people corrected. No flag, weight or suggestion
//! reads the truth.

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
use crate::measures::Harder;
use crate::page::MEASURES;
use crate::predictions::predicted_class;
use crate::truth::{Agreement, Kind};
use crate::{EvalError, Result};

pub use self::differences::Difference;
pub use self::noise::{Noise, NoiseKind, most_confused};
pub use self::table::{ArmSummary, MeasureSummary, StudySummary, summarise, write};

/// The weight of a flagged image's loss under [`Arm::DownWeighted`].
const DOWN: f32 = 0.1;

/// What is done with the flagged images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// Nothing: they stay, with the labels that the study gives them, wrong ones among them.
    Base,
    /// They are left out.
    Dropped,
    /// Their losses count a tenth.
    DownWeighted,
    /// They get the suggested label.
    Relabelled,
    /// They stay, and as many others, drawn at random, are left out with none of them looked at.
    Random,
    /// Every image gets its true label, the one in force: what could be had at best.
    TrueLabels,
}

impl Arm {
    /// All, in the order of the table.
    pub const ALL: [Self; 6] =
        [Self::Base, Self::Dropped, Self::DownWeighted, Self::Relabelled, Self::Random, Self::TrueLabels];

    /// Its name in files and on the command line.
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

/// What is to be studied.
#[derive(Debug, Clone, Copy)]
pub struct StudyParams<'a> {
    /// The recipe.
    pub train: &'a TrainParams,
    /// The network.
    pub model: &'a ModelParams,
    /// Seeds: of networks, of what is dropped at random, and of spoilt labels.
    pub seeds: &'a [u64],
    /// Arms; [`Arm::Base`] is always done.
    pub arms: &'a [Arm],
    /// Labels to be spoilt first; without it, every corrected image gets its original label back, and these are the wrong ones.
    pub noise: Option<&'a Noise>,
    /// Where finished parts are kept: a file each.
    pub state: &'a Path,
    /// Where checkpoints are kept.
    pub checkpoints: &'a Path,
    /// How often one is written.
    pub every: Duration,
    /// What stands for the program; see [`run_key`].
    pub program: &'a str,
}

/// One trained network of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// What was done.
    pub arm: Arm,
    /// Under which seed.
    pub seed: u64,
    /// Images that it was trained on.
    pub train_images: usize,
    /// Training images whose label is not the true one, as the arm has them.
    pub wrong_labels: usize,
    /// Share of the test images that it gets right, 0..1.
    pub accuracy: f64,
    /// Number of test images.
    pub test_images: usize,
    /// Of the base: what its analysis found.
    pub found: Option<Found>,
}

/// What the analysis of a base run found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Images that are *likely mislabelled*.
    pub flagged: usize,
    /// Those of them whose label is wrong.
    pub flagged_wrong: usize,
    /// Those of them whose suggested label is the true one.
    pub suggested_right: usize,
    /// Why nothing is flagged, or nothing of some classes: see [`crate::hard_images::SplitSummary::withheld`].
    pub withheld: Vec<String>,
    /// How every measure agrees with which labels are wrong, over the training images.
    pub measures: Vec<(String, Agreement)>,
}

/// Trains what is not finished yet and gives all outcomes, seed by seed. Killed at any moment, it goes on where it was.
///
/// # Errors
/// If no label is wrong, a parameter is out of range, the recipe's dynamics do not follow single images, or training fails or is stopped.
pub fn study(
    params: &StudyParams,
    data: &TrainingData,
    test: &TestSet,
    watcher: &dyn TrainingCallback,
) -> Result<Vec<Outcome>> {
    params.train.check_dynamics()?;
    let mut outcomes = Vec::new();
    for &seed in params.seeds {
        let truth = &data.train;
        let spoilt = spoilt(params, data, seed)?;
        let base = Training::new(params, &spoilt, truth, seed, Arm::Base, None);
        // Also if its outcome is known: the other arms need what it found. Its checkpoint is that of a finished run then.
        let (outcome, found) = base.outcome(test, watcher)?;
        outcomes.push(outcome);
        for &arm in params.arms.iter().filter(|arm| **arm != Arm::Base) {
            watcher.check()?;
            let (data, weights) = treated(arm, &spoilt, truth, &found, seed)?;
            outcomes.push(Training::new(params, &data, truth, seed, arm, weights).outcome(test, watcher)?.0);
        }
    }
    Ok(outcomes)
}

/// The data of a study under a seed: those of `data`, whose labels are the truth, with wrong labels among them.
fn spoilt(params: &StudyParams, data: &TrainingData, seed: u64) -> Result<TrainingData> {
    let truth = &data.train;
    let mut data = data.clone();
    for set in [&mut data.train, &mut data.val] {
        match params.noise {
            Some(_) if set.is_empty() => {}
            Some(noise) => noise.spoil(set, seed)?,
            None => {
                set.relabel(|s| Some(s.original_label))?;
            }
        }
    }
    if wrong_labels(&data.train, truth) == 0 {
        let (value, allowed) = match params.noise {
            Some(noise) => (
                noise.rate.to_string(),
                format!("that share of {} training labels rounds to none; give a greater one", truth.len()),
            ),
            None => (
                "none".into(),
                "no training label is corrected in labels/overrides.csv or labels/review.csv, so there is nothing to find; give a share of labels to spoil".into(),
            ),
        };
        return Err(EvalError::Parameter { key: "flip", value, allowed });
    }
    Ok(fingerprinted(data))
}

fn fingerprinted(mut data: TrainingData) -> TrainingData {
    for (split, set) in [(Split::Train, &data.train), (Split::Val, &data.val)] {
        data.report.fingerprints.insert(split, store::fingerprint(set));
    }
    data
}

/// The true label of an image of a study.
fn true_label(truth: &Dataset, sample: &Sample) -> Option<u16> {
    truth.index_of(sample.id).map(|at| truth.samples()[at].label)
}

fn wrong_labels(set: &Dataset, truth: &Dataset) -> usize {
    set.samples().iter().filter(|s| true_label(truth, s) != Some(s.label)).count()
}

/// The data as an arm has them, and weights if it has some.
fn treated(
    arm: Arm,
    data: &TrainingData,
    truth: &Dataset,
    found: &[AssessedLabel],
    seed: u64,
) -> Result<(TrainingData, Option<Vec<f32>>)> {
    let mut data = data.clone();
    // In the set's order, which is that of the ids.
    let flag = |id| found.binary_search_by_key(&id, |s| s.id).ok().map(|at| &found[at]).filter(|s| s.is_flagged);
    let mut weights = None;
    match arm {
        Arm::Base => {}
        Arm::Dropped => data.train = data.train.filter(|s| flag(s.id).is_none()),
        Arm::DownWeighted => {
            weights = Some(found.iter().map(|s| if s.is_flagged { DOWN } else { 1.0 }).collect());
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
            allowed: "some must be left to train on".into(),
        });
    }
    Ok((fingerprinted(data), weights))
}

/// One network to be trained.
struct Training<'a> {
    params: &'a StudyParams<'a>,
    data: &'a TrainingData,
    truth: &'a Dataset,
    seed: u64,
    arm: Arm,
    weights: Option<Vec<f32>>,
    key: String,
}

impl<'a> Training<'a> {
    fn new(
        params: &'a StudyParams<'a>,
        data: &'a TrainingData,
        truth: &'a Dataset,
        seed: u64,
        arm: Arm,
        weights: Option<Vec<f32>>,
    ) -> Self {
        let run = run_key(params.train, params.model, &data.report, seed, params.program);
        let bits: Vec<u32> = weights.iter().flatten().map(|w| w.to_bits()).collect();
        let key = blake3::hash(json!([run, arm, bits, store::fingerprint(truth)]).to_string().as_bytes())
            .to_hex()
            .to_string();
        Self { params, data, truth, seed, arm, weights, key }
    }

    /// Trains and scores; of a base run also what it found.
    fn outcome(self, test: &TestSet, watcher: &dyn TrainingCallback) -> Result<(Outcome, Vec<AssessedLabel>)> {
        let path = self.params.state.join(format!("{}.json", self.key));
        let known = match std::fs::read(&path) {
            Err(_) => None,
            Ok(text) => match read_sealed::<Outcome>(&text) {
                Ok(known) => Some(known),
                Err(problem) => {
                    watcher.warn(&format!("{}: {problem}; this network is trained again", path.display()));
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
        let fitted = self.fitted(watcher)?;
        let (found, withheld) = match &fitted.dynamics {
            Some(dynamics) => assess_labels(&fitted.model, dynamics, train, watcher)?,
            None => (Vec::new(), Vec::new()),
        };
        if let Some(known) = known {
            return Ok((known, found));
        }
        let set = test.dataset();
        let answers = predict(&fitted.model, set, "testing", watcher)?;
        let right = (0..set.len()).filter(|i| predicted_class(answers.row(*i)) == usize::from(set.samples()[*i].label));
        let outcome = Outcome {
            arm,
            seed,
            train_images: train.len(),
            wrong_labels: wrong_labels(train, self.truth),
            accuracy: right.count() as f64 / set.len().max(1) as f64,
            test_images: set.len(),
            found: (arm == Arm::Base).then(|| judge(train, self.truth, &found, withheld, seed)),
        };
        std::fs::create_dir_all(self.params.state).map_err(cifar_data::DataError::io("create the folder", &path))?;
        write_file(&path, &sealed_json(&outcome, &path)?)?;
        Ok((outcome, found))
    }

    fn fitted(&self, watcher: &dyn TrainingCallback) -> Result<Fitted> {
        let StudyParams { train, model, checkpoints, every, .. } = *self.params;
        let mut checkpoints = Checkpoints::open(checkpoints, &self.key, every, watcher)?.keep_other_runs();
        let start = || {
            let run = Run::start(train, model, self.data, self.seed)?;
            let run = if self.arm == Arm::Base { run } else { run.without_dynamics() };
            match &self.weights {
                Some(weights) => run.weighted(weights.clone()),
                None => Ok(run),
            }
        };
        let mut run = checkpoints.resumed(start, watcher)?;
        run.train(train.epochs, Some(&mut checkpoints), watcher)?;
        let fitted = run.finish()?;
        if self.arm != Arm::Base {
            // Its outcome is all that is wanted; that of a base run is asked for again.
            checkpoints.discard()?;
        }
        Ok(fitted)
    }
}

/// Compares what was found with the true labels.
fn judge(train: &Dataset, truth: &Dataset, found: &[AssessedLabel], withheld: Vec<String>, seed: u64) -> Found {
    let is_wrong: Vec<bool> = train.samples().iter().map(|s| true_label(truth, s) != Some(s.label)).collect();
    let flagged = || found.iter().zip(train.samples()).zip(&is_wrong).filter(|((s, _), _)| s.is_flagged);
    let measures = MEASURES.iter().filter_map(|measure| {
        let pairs: Vec<(f64, f64)> = (found.iter().zip(&is_wrong))
            .filter_map(|(suspect, is_wrong)| {
                let never = measure.key == "first_learnt_epoch" && suspect.measures.forgetting_events.is_some();
                let value = measure.of(&suspect.measures).or(never.then_some(f64::INFINITY))?;
                Some((if measure.harder == Harder::Lower { -value } else { value }, f64::from(u8::from(*is_wrong))))
            })
            .collect();
        Some((measure.key.to_string(), Agreement::of(&pairs, Kind::Binary, seed)?))
    });
    Found {
        flagged: flagged().count(),
        flagged_wrong: flagged().filter(|(_, is_wrong)| **is_wrong).count(),
        suggested_right: flagged().filter(|((s, sample), _)| s.suggested == true_label(truth, sample)).count(),
        withheld,
        measures: measures.collect(),
    }
}
