//! `hard-images study`: measures whether acting on hard images helps.

use std::fmt;
use std::path::PathBuf;

use cifar_data::Progress;
use cifar_data::duplicates::Pair;
use cifar_data::prepare::{TestSet, TrainingData, read_pairs};
use cifar_eval::confusion::ConfusionMatrix;
use cifar_eval::predictions::predicted_class;
use cifar_eval::study::{
    Annotators, Arm, Noise, NoiseKind, StudyParams, StudySummary, most_confused, study, summarise, write,
};
use cifar_model::{Model, predict};
use cifar_train::Recipe;
use cifar_train::folds::{Folds, out_of_fold};
use cifar_train::{EpochRecord, StepRecord, TrainingCallback};
use serde::Serialize;

use super::hard_images::EVERY;
use super::train;
use crate::{Error, Project, Reporter, Result, ensure, program};

/// Networks that estimate where people hesitate. Each is trained on the images of the others.
const FOLDS: usize = 2;

/// Options of a study.
#[derive(Debug, Clone)]
pub struct StudyOptions {
    /// The fraction of labels to make wrong; none restores the original labels that people
    /// corrected.
    pub flip: Option<f64>,
    /// What those labels are changed to.
    pub to: FlipTo,
    /// The seeds of the networks.
    pub seeds: Vec<u64>,
    /// The arms besides the base; all if empty.
    pub arms: Vec<Arm>,
}

/// What labels are changed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlipTo {
    /// Any other class, with equal probability.
    Any,
    /// The class that the trained network confuses with it most often on validation images.
    Confused,
    /// The class that people would confuse it with. Hard images get a wrong label more often, as
    /// estimated by two networks that were not trained on the image.
    HumanLike,
}

/// The outcome of a study.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Studied {
    /// The figures.
    pub summary: StudySummary,
    /// The folder of the results.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl fmt::Display for Studied {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}\nresults: {}", self.summary.in_words(), self.folder.display())
    }
}

/// Trains networks with and without acting on flagged images, and compares them.
///
/// # Errors
/// If the prepared images are missing or stale, the options are impossible, or the study was
/// stopped.
pub fn run(project: &Project, options: &StudyOptions, reporter: &dyn Reporter) -> Result<Studied> {
    let params = project.params()?;
    let layout = &project.layout;
    let prepared = layout.prepared();
    let data = TrainingData::open(&prepared)?;
    data.report.check(&prepared, params.dataset_version, &params.split)?;
    data.report.check_labels(&layout.prepared(), &layout.overrides(), &layout.review())?;
    let test = TestSet::open(&layout.prepared_test(), data.report.test_fingerprint())?;
    let described = match (options.flip, options.to) {
        (None, _) => "labels corrected in labels/overrides.csv or labels/review.csv reset to the original, wrong ones"
            .to_string(),
        (Some(rate), FlipTo::Any) => format!("{} % of the labels changed to any other class", rate * 100.0),
        (Some(rate), FlipTo::Confused) => {
            format!("{} % of the labels changed to the class most often confused with theirs", rate * 100.0)
        }
        (Some(rate), FlipTo::HumanLike) => {
            format!("{} % of the labels changed as people would, hard images most often", rate * 100.0)
        }
    };
    let mut seeds = options.seeds.clone();
    seeds.sort_unstable();
    seeds.dedup();
    ensure!(!seeds.is_empty(), "--seeds: none; give one or more");
    let arms = arms(&options.arms);
    reporter.note(&format!(
        "{}, {}: {described}; {} arms under {} seeds, {} networks in all{}\n",
        data.report.source.description,
        params.dataset_version,
        arms.len(),
        seeds.len(),
        arms.len() * seeds.len(),
        if options.flip.is_some() && options.to == FlipTo::HumanLike {
            ", after two that estimate where people hesitate"
        } else {
            ""
        }
    ));
    let recipe = train::tuned(project, &params, &data.report, reporter)?;
    let noise = noise(project, options, &recipe, &data, reporter)?;
    let how = StudyParams {
        train: &recipe.train,
        model: &recipe.model,
        seeds: &seeds,
        arms: &arms,
        noise: noise.as_ref(),
        state: &layout.study_state(),
        checkpoints: &layout.checkpoints(),
        every: EVERY,
        program: &program::identity_here()?,
    };
    let outcomes = study(&how, &data, &test, &Steps { reporter }).map_err(|error| {
        let error = Error::from(error);
        if error.is_cancelled() {
            error.context("finished networks are kept; run the same command again to resume, with an identical result")
        } else {
            error
        }
    })?;
    let summary = summarise(&outcomes, &data.report.source.description, &described);
    let out = layout.study();
    write(&outcomes, &summary, &out)?;
    Ok(Studied { summary, folder: out })
}

/// Returns the requested arms with the base, in their order.
fn arms(asked: &[Arm]) -> Vec<Arm> {
    let is_asked = |arm: &Arm| *arm == Arm::Base || asked.is_empty() || asked.contains(arm);
    Arm::ALL.into_iter().filter(is_asked).collect()
}

/// Returns how labels are corrupted; none if the original labels are restored instead.
fn noise(
    project: &Project,
    options: &StudyOptions,
    recipe: &Recipe,
    data: &TrainingData,
    reporter: &dyn Reporter,
) -> Result<Option<Noise>> {
    let Some(rate) = options.flip else { return Ok(None) };
    let kind = match options.to {
        FlipTo::Any => NoiseKind::Symmetric,
        FlipTo::Confused => NoiseKind::Confused(confused_classes(project, data, reporter)?),
        FlipTo::HumanLike => {
            // Before networks are trained for it.
            Annotators::check_rate(rate, data.train.classes().len())?;
            NoiseKind::HumanLike(annotators(project, options, recipe, data, reporter)?)
        }
    };
    Ok(Some(Noise { rate, kind }))
}

/// Returns the class that each class is most often predicted as by mistake.
fn confused_classes(project: &Project, data: &TrainingData, reporter: &dyn Reporter) -> Result<Vec<u16>> {
    let path = project.layout.model_file();
    ensure!(
        !data.val.is_empty(),
        "--to confused: needs validation images, and there are none; raise split.val_fraction"
    );
    let answers = predict(&Model::load(&path)?, &data.val, "looking for confusions", reporter)?;
    let pairs = (data.val.samples().iter().enumerate())
        .map(|(at, sample)| (usize::from(sample.label), predicted_class(answers.row(at))));
    Ok(most_confused(&ConfusionMatrix::count(data.val.classes().len(), pairs)))
}

/// Returns annotators that hesitate where networks hesitate that were not trained on the image.
/// These networks share no seed with those of the study.
fn annotators(
    project: &Project,
    options: &StudyOptions,
    recipe: &Recipe,
    data: &TrainingData,
    reporter: &dyn Reporter,
) -> Result<Annotators> {
    let pairs: Vec<Pair> = read_pairs(&project.layout.prepared())?.into_iter().map(|placed| placed.pair).collect();
    let how = Folds {
        train: &recipe.train,
        model: &recipe.model,
        folds: FOLDS,
        // One candidate more than there are seeds, so one is unused.
        seed: (0..=options.seeds.len() as u64).find(|seed| !options.seeds.contains(seed)).unwrap_or_default(),
        pairs: &pairs,
        checkpoints: &project.layout.checkpoints(),
        every: EVERY,
        program: &program::identity_here()?,
    };
    let found = out_of_fold(&how, data, &data.val.filter(|_| false), reporter)?;
    let train = Annotators::calibrated(&data.train, &found.train)?;
    if data.val.is_empty() { Ok(train) } else { Ok(train.with(&Annotators::calibrated(&data.val, &found.val)?)) }
}

/// Shows the training steps of the current network.
struct Steps<'a> {
    reporter: &'a dyn Reporter,
}

impl Progress for Steps<'_> {
    fn update(&self, what: &'static str, done: u64, total: u64) {
        self.reporter.update(what, done, total);
    }

    fn warn(&self, message: &str) {
        self.reporter.warn(message);
    }

    fn cancelled(&self) -> bool {
        self.reporter.cancelled()
    }
}

impl TrainingCallback for Steps<'_> {
    fn step(&self, step: &StepRecord) {
        self.reporter.update("training", step.step as u64, step.steps as u64);
    }

    fn epoch(&self, history: &[EpochRecord]) {
        if let Some(last) = history.last().filter(|last| last.epoch % 5 == 0) {
            let accuracy = last.val_accuracy.map_or_else(String::new, |a| format!(", validation {:.2} %", a * 100.0));
            self.reporter.note(&format!(
                "epoch {}: training {:.2} %{accuracy}",
                last.epoch,
                last.train_accuracy * 100.0
            ));
        }
    }
}
