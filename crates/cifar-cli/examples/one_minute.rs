//! Measures the accuracy of each recipe after a given training time. Trains it on a project's
//! prepared images, stops when the time is up, and scores the current weights on the test images
//! with the recipe's own test-time augmentation.
//!
//! `cargo run --release -p cifar-cli --example one_minute -- PROJECT SECONDS SEED,… RECIPE…`, for
//! instance `… -- . 60 42,123,456 quick simple_cnn airbench94`. Prints one JSON object per run on
//! standard output. The clock starts with the first step, so that neither loading nor scoring
//! counts. The results depend on the speed of the machine.
#![expect(clippy::print_stdout, reason = "an example prints what it finds")]

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cifar_data::prepare::{TestSet, TrainingData};
use cifar_data::{DataError, Progress, Silent};
use cifar_model::{Model, TestTimeAugmentation, evaluate_loss, predict_augmented};
use cifar_train::recipes::{NamedRecipe, recipe};
use cifar_train::{EpochRecord, Run, TrainError, TrainingCallback};
use serde_json::json;

/// As in the program, memory blocks are reused from step to step.
#[global_allocator]
static ALLOCATOR: cifar_kernels::CachingAllocator = cifar_kernels::CachingAllocator::new();

/// Asks a run to stop when its time is up.
struct Clock {
    limit: Duration,
    started: OnceLock<Instant>,
}

impl Progress for Clock {
    fn update(&self, _: &'static str, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        self.started.get().is_some_and(|started| started.elapsed() >= self.limit)
    }
}

impl TrainingCallback for Clock {
    fn started(&self, _: &Model, _: &[EpochRecord], _: usize) {
        let _ = self.started.set(Instant::now());
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [project, seconds, seeds, names @ ..] = arguments.as_slice() else {
        bail!("usage: one_minute PROJECT SECONDS SEED,… RECIPE…");
    };
    let limit = Duration::try_from_secs_f64(seconds.parse().context("SECONDS must be a number")?)?;
    let seeds: Vec<u64> =
        seeds.split(',').map(str::parse).collect::<Result<_, _>>().context("SEED must be a number")?;
    let prepared = Path::new(project).join("data/prepared");
    let data = TrainingData::open(&prepared)?;
    let test = TestSet::open(&prepared.join("test"), data.report.test_fingerprint())?;
    // Recipes take turns, so that changes in the load of the machine affect all of them.
    for seed in seeds {
        for name in names {
            let recipe = recipe(name).with_context(|| format!("there is no recipe {name}"))?;
            println!("{}", trained_for(limit, &recipe, seed, &data, &test)?);
        }
    }
    Ok(())
}

fn trained_for(
    limit: Duration,
    recipe: &NamedRecipe,
    seed: u64,
    data: &TrainingData,
    test: &TestSet,
) -> Result<serde_json::Value> {
    let mut params = recipe.recipe.train.clone();
    // The current weights are scored, not the best ones.
    params.select = cifar_train::Select::Last;
    let mut run = Run::start(&params, &recipe.recipe.model, data, seed)?;
    let clock = Clock { limit, started: OnceLock::new() };
    let stopped = match run.train(run.epochs(), None, &clock) {
        Ok(()) => false,
        Err(TrainError::Data(DataError::Cancelled)) => true,
        Err(error) => return Err(error.into()),
    };
    let whole_epochs = run.history().len();
    let fitted = run.finish()?;
    let views = TestTimeAugmentation { views: recipe.views, fraction: 1.0 };
    let answers = predict_augmented(&fitted.model, test.dataset(), views, "testing", &Silent)?;
    let labels = test.dataset().labels();
    let accuracy = |logits| -> Result<_> { Ok(evaluate_loss(logits, &labels)?.map(|(_, accuracy)| accuracy)) };
    Ok(json!({
        "recipe": recipe.name,
        "seed": seed,
        "stopped": stopped,
        "seconds": fitted.timing.seconds,
        "steps": fitted.timing.steps,
        "whole_epochs": whole_epochs,
        "epochs": params.epochs,
        "train_images": data.train.len(),
        "test_images": test.dataset().len(),
        "source": data.report.source.description,
        "accuracy": accuracy(&answers.plain)?,
        "accuracy_tta": accuracy(&answers.averaged)?,
    }))
}
