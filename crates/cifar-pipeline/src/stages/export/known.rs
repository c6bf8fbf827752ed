//! The recipe of a trained model. The model file has the network, but not the training parameters.

use std::path::Path;

use cifar_data::prepare::PreparedReport;
use cifar_data::splits::Split;
use cifar_model::Model;
use cifar_train::recipes::recipes;
use cifar_train::{Recipe, artifacts};
use serde_json::Value;

use crate::params::Params;
use crate::stages::train;
use crate::{Project, Reporter, Result, ensure};

/// This program and its version.
pub(super) const PROGRAM: &str = concat!("cifar-cli ", env!("CARGO_PKG_VERSION"));

/// What a model was trained with.
#[derive(Debug)]
pub(super) struct KnownRecipe {
    /// The name of the recipe, or `custom`.
    pub(super) name: &'static str,
    /// The number of epochs of the whole run.
    pub(super) epochs: usize,
    /// The blocks `model` and `train` of params.yaml, with the tuned values if they were used.
    pub(super) json: Value,
    /// All parameters.
    pub(super) params: Params,
    /// The images that the model was trained on.
    pub(super) data: PreparedReport,
}

/// Returns the recipe that params.yaml has, if it agrees with everything that the model and its
/// history record: images, network, seed, epochs, steps per epoch and learning rates.
///
/// # Errors
/// If params.yaml cannot be read or disagrees, or the model was trained on other images than the
/// prepared ones.
pub(super) fn recipe(project: &Project, model: &Model, file: &Path, reporter: &dyn Reporter) -> Result<KnownRecipe> {
    // The model records the parameters that were set for its run alone.
    let settings = model.origin.as_ref().map(|origin| origin.settings.clone());
    let project = &project.clone().with_settings(settings.unwrap_or_default());
    let (layout, params) = (&project.layout, project.params()?);
    let data = PreparedReport::read(&layout.prepared())?;
    data.check(&layout.prepared(), params.dataset_version, &params.split)?;
    model.expect_trained_on(&data, file)?;
    let recipe = train::tuned(project, &params, &data, reporter)?;
    let differs =
        |key: &str| format!("{}: was not trained with {key} of {}", file.display(), project.params_file.display());
    ensure!(model.spec().params == recipe.model, "{}", differs("`model`"));
    let seed = model.origin.as_ref().map(|origin| origin.seed);
    ensure!(seed == Some(params.random_seed), "{}", differs("`random_seed`"));
    let history = artifacts::read_history(&file.with_file_name(artifacts::HISTORY))?;
    let images = data.images.get(&Split::Train).copied().unwrap_or(0);
    let train = recipe.train.for_images(images);
    let stops_early = train.early_stopping > 0 && history.len() <= train.epochs;
    ensure!(history.len() == train.epochs || stops_early, "{}", differs("`train.epochs`"));
    if let Some(first) = history.first() {
        let steps = train.steps_per_epoch(images);
        ensure!(first.step == steps, "{}", differs("`train.batch_size`"));
        let warmup = steps as f64 * train.warmup_epochs.min(train.epochs as f64);
        let expected = train.learning_rate * train.schedule.factor(steps - 1, steps * train.epochs, warmup);
        let is_equal = (first.learning_rate - expected).abs() <= 1e-9 * expected.abs();
        ensure!(is_equal, "{}", differs("the learning rates"));
    }
    let name = recipes().into_iter().find(|named| named.recipe == recipe).map_or("custom", |named| named.name);
    Ok(KnownRecipe { name, epochs: train.epochs, json: json(&recipe)?, params, data })
}

/// Goes through text, so that an `f32` keeps the digits that were typed.
fn json(recipe: &Recipe) -> Result<Value> {
    Ok(serde_json::from_str(&serde_json::to_string(recipe)?)?)
}
