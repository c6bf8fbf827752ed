//! `hard-images study`: whether acting on hard images helps.

use anyhow::{Result, anyhow, ensure};
use cifar_data::Progress;
use cifar_data::prepare::{TestSet, TrainingData};
use cifar_eval::confusion::ConfusionMatrix;
use cifar_eval::predictions::predicted_class;
use cifar_eval::study::{Arm, Noise, NoiseKind, StudyParams, most_confused, study, summarise, write};
use cifar_model::{Model, predict};
use cifar_train::Recipe;
use cifar_train::{EpochRecord, StepRecord, TrainingCallback};

use super::EVERY;
use crate::args::{FlipTo, StudyArgs};
use crate::commands::{Context, train};
use crate::params::Params;

pub(super) fn run(context: &Context, params: &Params, args: &StudyArgs) -> Result<()> {
    let layout = &context.layout;
    let prepared = layout.prepared();
    let data = TrainingData::open(&prepared)?;
    data.report.check(&prepared, params.dataset_version, &params.split)?;
    data.report.check_labels(&layout.prepared(), &layout.overrides(), &layout.review())?;
    let test = TestSet::open(&layout.prepared_test(), data.report.test_fingerprint())?;
    let noise = noise(context, args, &data)?;
    let described = match (&noise, args.to) {
        (None, _) => "every label that labels/overrides.csv or labels/review.csv corrects made its original, wrong one"
            .to_string(),
        (Some(noise), FlipTo::Any) => format!("{} % of the labels made any other", noise.rate * 100.0),
        (Some(noise), FlipTo::Confused) => {
            format!("{} % of the labels made the class most confused with", noise.rate * 100.0)
        }
    };
    let mut seeds = args.seeds.clone();
    seeds.sort_unstable();
    seeds.dedup();
    ensure!(!seeds.is_empty(), "--seeds: none; give one or more");
    let arms = arms(&args.arms);
    context.terminal.say(&format!(
        "{}, {}: {described}; {} arms under {} seeds, {} networks in all\n",
        data.report.source.description,
        params.dataset_version,
        arms.len(),
        seeds.len(),
        arms.len() * seeds.len()
    ));
    let Recipe { model, train } = train::tuned(context, params, &data.report)?;
    let how = StudyParams {
        train: &train,
        model: &model,
        seeds: &seeds,
        arms: &arms,
        noise: noise.as_ref(),
        state: &layout.study_state(),
        checkpoints: &layout.checkpoints(),
        every: EVERY,
        program: &train::program_here()?,
    };
    let outcomes = study(&how, &data, &test, &Steps { context }).map_err(|error| {
        let error = anyhow!(error);
        if crate::exit_code(&error) == crate::EXIT_INTERRUPTED {
            error.context("what was trained is kept; the same command goes on from here, to the same result")
        } else {
            error
        }
    })?;
    let summary = summarise(&outcomes, &data.report.source.description, &described);
    let out = layout.study();
    write(&outcomes, &summary, &out)?;
    context.terminal.result(&summary, || format!("{}\nresults: {}", summary.in_words(), out.display()));
    Ok(())
}

/// The arms asked for, with the base, in their order.
fn arms(asked: &[Arm]) -> Vec<Arm> {
    let is_asked = |arm: &Arm| *arm == Arm::Base || asked.is_empty() || asked.contains(arm);
    Arm::ALL.into_iter().filter(is_asked).collect()
}

/// The labels to be spoilt.
fn noise(context: &Context, args: &StudyArgs, data: &TrainingData) -> Result<Option<Noise>> {
    let Some(rate) = args.flip else { return Ok(None) };
    let kind = match args.to {
        FlipTo::Any => NoiseKind::Symmetric,
        FlipTo::Confused => {
            let path = context.layout.model_file();
            ensure!(
                !data.val.is_empty(),
                "--to confused: looks at validation images, and there are none; raise split.val_fraction"
            );
            let answers = predict(&Model::load(&path)?, &data.val, "looking for confusions", context.terminal)?;
            let pairs = (data.val.samples().iter().enumerate())
                .map(|(at, sample)| (usize::from(sample.label), predicted_class(answers.row(at))));
            NoiseKind::Confused(most_confused(&ConfusionMatrix::count(data.val.classes().len(), pairs)))
        }
    };
    Ok(Some(Noise { rate, kind }))
}

/// Shows the steps of the network in training.
struct Steps<'a> {
    context: &'a Context<'a>,
}

impl Progress for Steps<'_> {
    fn update(&self, what: &'static str, done: u64, total: u64) {
        self.context.terminal.update(what, done, total);
    }

    fn warn(&self, message: &str) {
        self.context.terminal.warn(message);
    }

    fn cancelled(&self) -> bool {
        self.context.terminal.cancelled()
    }
}

impl TrainingCallback for Steps<'_> {
    fn step(&self, step: &StepRecord) {
        self.context.terminal.update("training", step.step as u64, step.steps as u64);
    }

    fn epoch(&self, history: &[EpochRecord]) {
        if let Some(last) = history.last().filter(|last| last.epoch % 5 == 0) {
            let accuracy = last.val_accuracy.map_or_else(String::new, |a| format!(", validation {:.2} %", a * 100.0));
            self.context.terminal.say(&format!(
                "epoch {}: training {:.2} %{accuracy}",
                last.epoch,
                last.train_accuracy * 100.0
            ));
        }
    }
}
