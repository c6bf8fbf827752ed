//! `train --find-lr`: the learning-rate range test.

use std::fmt;
use std::path::PathBuf;

use cifar_data::output::OutputFolder;
use cifar_data::prepare::TrainingData;
use cifar_eval::plots::{Caption, RangeCurve, range_test as picture};
use cifar_train::{RangeTest, range_test};
use serde::Serialize;

use super::tuned;
use crate::{Project, Reporter, Result};

/// The outcome of a learning-rate range test.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct LearningRates {
    /// The losses and what follows from them.
    pub found: RangeTest,
    /// The learning rate of the parameters.
    #[serde(skip)]
    pub current: f64,
    /// The folder of the curve and its plot.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Measures the loss of 100 steps while the learning rate increases. Saves no model.
///
/// # Errors
/// If the prepared images are missing or stale, or the test was stopped.
pub fn run(project: &Project, reporter: &dyn Reporter) -> Result<LearningRates> {
    let (layout, params) = (&project.layout, project.params()?);
    let data = TrainingData::open(&layout.prepared())?;
    data.report.check(&layout.prepared(), params.dataset_version, &params.split)?;
    data.report.check_labels(&layout.prepared(), &layout.overrides(), &layout.review())?;
    let blocks = tuned(project, &params, &data.report, reporter)?;
    let (recipe, model, seed) = (&blocks.train, &blocks.model, params.random_seed);
    let found = range_test(recipe, model, &data, seed, reporter)?;
    let out = project.layout.learning_rate();
    let source = &data.report.source;
    let footer = format!(
        "{}, {} steps of {} images of {} ({}), seed {seed}",
        model.architecture.name(),
        found.points.len(),
        recipe.batch_size,
        data.report.dataset_version,
        source.description
    );
    let caption = Caption { title: "Learning-rate range test", footer: &footer, synthetic: source.is_synthetic() };
    let points = found.points.iter().map(|p| (p.learning_rate, p.loss, p.smoothed)).collect();
    let curve = RangeCurve { points, steepest: found.steepest, recipe: recipe.learning_rate };
    let folder = OutputFolder::create(&out)?;
    let rows: Vec<String> =
        found.points.iter().map(|p| format!("{:e},{},{}\n", p.learning_rate, p.loss, p.smoothed)).collect();
    folder.write("range_test.csv", format!("learning_rate,loss,smoothed_loss\n{}", rows.concat()).as_bytes())?;
    folder.write("range_test.png", &picture(&curve, &caption)?)?;
    folder.commit()?;
    Ok(LearningRates { found, current: recipe.learning_rate, folder: out })
}

impl fmt::Display for LearningRates {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}\nresults: {}", in_words(&self.found, self.current), self.folder.display())
    }
}

fn in_words(found: &RangeTest, recipe: f64) -> String {
    let (Some(steepest), Some(lowest)) = (found.steepest, found.lowest) else {
        return format!("the loss never falls between {:.1e} and {:.1e}", recipe * 1e-4, recipe * 1e2);
    };
    let end = match found.blown_up {
        Some(rate) => format!("; it diverges at {rate:.1e}"),
        None => String::new(),
    };
    format!(
        "the loss falls fastest at a learning rate of {steepest:.1e} and is lowest at {lowest:.1e}{end}\n\
         good first choices are the steepest point and a tenth of the lowest, {:.1e}; params.yaml has {recipe:.1e}",
        lowest / 10.0
    )
}
