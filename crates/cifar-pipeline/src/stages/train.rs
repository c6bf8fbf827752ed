//! `train`: trains a model on the prepared images.

mod find_lr;
mod longer;
mod preview;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cifar_data::DataError;
use cifar_data::prepare::{PreparedReport, TrainingData};
use cifar_data::splits::Split;
use cifar_model::{Model, ModelParams, ModelSpec, Transfer};
use cifar_train::Recipe;
use cifar_train::tune::artifacts::Tuned;
use cifar_train::{
    Checkpoints, FinishedRun, Freeze, Timing, TrainError, TrainParams, artifacts, fit_continued, fit_resumable, run_key,
};
use serde_json::Value;

pub use self::find_lr::{LearningRates, run as find_learning_rate};
pub use self::longer::Longer;
pub use self::preview::{Previewed, run as preview};
use self::watch::Watched;
use super::precision::note_precision;
use crate::params::{Params, Setting};
use crate::{Context as _, Error, Outcome, Project, Reporter, Result, ensure, program};

/// File name that a damaged checkpoint is renamed to.
const DAMAGED: &str = "checkpoint.damaged.safetensors";

/// Options of a training run; the network and recipe are in the parameters.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// A finished run to continue; none to train from the start.
    pub longer: Option<Longer>,
    /// Whether to start over instead of resuming from a checkpoint.
    pub fresh: bool,
    /// Time between checkpoints within an epoch. Results do not depend on it.
    pub checkpoint_every: Duration,
    /// Whether to resume from a checkpoint of another instruction set or target.
    pub allow_mixed_isa: bool,
    /// A folder for curves in `TensorBoard` format.
    pub tensorboard: Option<PathBuf>,
    /// A file for the epochs as JSON lines, for another process that follows this training.
    pub events: Option<PathBuf>,
    /// Whether to keep the checkpoints of all other runs, since other processes use them.
    pub keep_other_checkpoints: bool,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            longer: None,
            fresh: false,
            checkpoint_every: Duration::from_secs(30),
            allow_mixed_isa: false,
            tensorboard: None,
            events: None,
            keep_other_checkpoints: false,
        }
    }
}

/// What `train` made.
#[derive(Debug)]
pub struct Trained {
    /// The model file.
    pub model: PathBuf,
    /// The epoch whose weights it has.
    pub selected_epoch: usize,
    /// The number of epochs.
    pub epochs: usize,
    /// Accuracy on the validation images after the selected epoch, if there are any.
    pub validation_accuracy: Option<f64>,
    /// Where the time of this process went.
    pub timing: Timing,
}

/// Trains the network, from its checkpoint if an earlier run was interrupted.
///
/// # Errors
/// If the prepared images are missing or stale, a finished run cannot be continued, training
/// diverged or was stopped.
pub fn run(project: &Project, options: &TrainOptions, reporter: &dyn Reporter) -> Result<Trained> {
    match &options.longer {
        None => train(project, None, options, reporter),
        Some(longer) => {
            let (finished, project) = longer.open(project)?;
            train(&project, Some(&finished), options, reporter)
        }
    }
}

fn train(
    project: &Project,
    finished: Option<&FinishedRun>,
    options: &TrainOptions,
    reporter: &dyn Reporter,
) -> Result<Trained> {
    let (layout, params) = (&project.layout, project.params()?);
    let data = TrainingData::open(&layout.prepared())?;
    data.report.check(&layout.prepared(), params.dataset_version, &params.split)?;
    data.report.check_labels(&layout.prepared(), &layout.overrides(), &layout.review())?;
    reporter.note(&format!(
        "{}, {}: {} training and {} validation images; seed {}\n",
        data.report.source.description,
        params.dataset_version,
        data.train.len(),
        data.val.len(),
        params.random_seed
    ));
    let tuned = tuned(project, &params, &data.report, reporter)?;
    let seed = params.random_seed;
    if let Some(finished) = finished {
        longer::check(finished, &tuned, seed, &data.report, reporter)?;
    }
    let Recipe { model, train: recipe } = &tuned;
    if let Err(problem) = recipe.check_dynamics() {
        reporter.warn(&format!("`hard-images` will refuse the model: {problem}"));
    }
    if !recipe.class_weights.is_none() && recipe.label_smoothing > 0.0 {
        reporter.warn(
            "train.label_smoothing: it has the weights of the classes, too, so large weights draw images of frequent classes to rare ones; set it to 0",
        );
    }
    if let Some(raised) = recipe.raised_epochs(data.train.len()) {
        reporter.note(&raised);
        if recipe.early_stopping > 0 {
            reporter.warn("train.early_stopping: has no effect, since train.min_steps sets the length of this run");
        }
    }
    note_init(recipe, model, &data.report, reporter)?;
    let program = program::identity()?;
    let finished = finished.map(|run| (run, run.keys(recipe, model, &data.report, seed, &program)));
    let key = match &finished {
        Some((_, keys)) => keys.longer.clone(),
        None => run_key(recipe, model, &data.report, seed, &program),
    };
    let mut checkpoints = Checkpoints::open(&layout.checkpoints(), &key, options.checkpoint_every, reporter)?
        .allow_mixed_isa(options.allow_mixed_isa);
    if options.keep_other_checkpoints {
        checkpoints = checkpoints.keep_other_runs();
    }
    if options.fresh {
        checkpoints.discard()?;
    }
    let watched = Watched::new(project, options, &key, reporter)?;
    let fit = |checkpoints: &mut Checkpoints| match &finished {
        Some((run, keys)) => fit_continued(recipe, model, &data, seed, (run, keys), checkpoints, &watched),
        None => fit_resumable(recipe, model, &data, seed, checkpoints, &watched),
    };
    let mut outcome = fit(&mut checkpoints);
    if let Err(error @ TrainError::Checkpoint { .. }) = &outcome {
        put_aside(&mut checkpoints, error, reporter)?;
        outcome = fit(&mut checkpoints);
    }
    let mut fitted = outcome.map_err(|e| match e {
        TrainError::Data(DataError::Cancelled) => Error::from(e).context(format!(
            "{} is unchanged; run {} again to resume, with an identical result",
            layout.final_model().display(),
            if finished.is_some() { "the same command" } else { "`cifar-cli train`" }
        )),
        TrainError::Diverged { .. } | TrainError::NotFinite { .. } if checkpoints.step() > 0 => {
            let (step, path) = (checkpoints.step(), checkpoints.path());
            Error::from(e).context(format!("the last good checkpoint, after step {step}, is {}", path.display()))
        }
        TrainError::Continued(problem) => match &finished {
            Some((run, _)) => longer::explain(&problem, run, project),
            None => Error::failed(problem),
        },
        TrainError::NumericTarget { is_mixed, ref path, .. } => {
            let as_before = if is_mixed { "" } else { "set CIFAR_ISA to resume with the same instruction set, " };
            // The options only apply to a run that `train` starts itself.
            let otherwise = if *path != checkpoints.path() {
                // That of the finished run, which `--fresh` does not replace.
                "--allow-mixed-isa continues anyway"
            } else if layout.is_of_run() || std::env::var_os("DVC_ROOT").is_some() {
                "removing that file starts this run over"
            } else {
                "`cifar-cli train --allow-mixed-isa` resumes anyway, `cifar-cli train --fresh` starts over"
            };
            Error::failed(format!("{e}; {as_before}{otherwise}"))
        }
        other => other.into(),
    })?;
    for model in [Some(&mut fitted.model), fitted.first_epoch.as_mut()].into_iter().flatten() {
        if let Some(origin) = &mut model.origin {
            origin.settings = project.settings.clone();
        }
    }
    artifacts::write(&fitted, &data, &layout.final_model())?;
    note_timing(fitted.timing, reporter);
    let selected = fitted.history.iter().find(|r| r.epoch == fitted.selected_epoch);
    Ok(Trained {
        model: layout.model_file(),
        selected_epoch: fitted.selected_epoch,
        epochs: fitted.history.len(),
        validation_accuracy: selected.and_then(|r| r.val_accuracy),
        timing: fitted.timing,
    })
}

/// Renames a checkpoint that cannot be used, so that every kind of caller can start the run over.
fn put_aside(checkpoints: &mut Checkpoints, error: &TrainError, reporter: &dyn Reporter) -> Result<()> {
    let (path, aside) = (checkpoints.path(), checkpoints.path().with_file_name(DAMAGED));
    std::fs::rename(&path, &aside).with_context(|| format!("{error}; it cannot be renamed"))?;
    reporter.warn(&format!("{error}; it is renamed to {DAMAGED}, and the run starts over"));
    Ok(checkpoints.discard()?)
}

/// Returns the recipe with the trained network that it starts from, and with the setting that
/// tuning showed to be better if `use_tuned` is set.
pub(super) fn tuned(
    project: &Project,
    params: &Params,
    data: &PreparedReport,
    reporter: &dyn Reporter,
) -> Result<Recipe> {
    let blocks = Recipe { model: params.model.clone(), train: params.train.clone() };
    let blocks = project.read_init(blocks, data)?;
    note_precision(blocks.train.precision, reporter)?;
    if !params.train.use_tuned {
        return Ok(blocks);
    }
    let path = project.layout.tuned();
    let tuned = Tuned::read(&path)?;
    let applied = tuned.apply(&blocks, data, &path)?;
    let differences = tuned.differences(&blocks, data)?;
    if !differences.is_empty() {
        let differences = differences.join(", ");
        reporter.warn(&format!("{}: was found under other conditions: {differences}", path.display()));
    }
    if tuned.setting.is_empty() {
        reporter
            .note(&format!("{}: no setting is shown to be better; train.use_tuned changes nothing", path.display()));
    }
    for (key, value) in &tuned.setting {
        reporter.note(&format!("{key}: {value} (tuned)"));
    }
    if applied.train.epochs != blocks.train.epochs {
        let [from, to] = [&blocks, &applied].map(|recipe| recipe.train.epochs);
        reporter.note(&format!("train.epochs: {to} instead of {from}, for about the same cost (tune.equal_cost)"));
    }
    Ok(applied)
}

/// Maximum number of new tensors that are named.
const NAMED: usize = 4;

/// Reports what a run starts from, if not from random weights.
fn note_init(recipe: &TrainParams, model: &ModelParams, data: &PreparedReport, reporter: &dyn Reporter) -> Result<()> {
    let Some(init) = recipe.init.model()? else {
        if recipe.freeze == Freeze::Backbone {
            reporter.warn("train.freeze: backbone without train.init trains the last layer on random features");
        }
        return Ok(());
    };
    let spec = ModelSpec {
        params: model.clone(),
        classes: data.classes.clone(),
        size: data.size,
        normalisation: init.spec().normalisation.clone(),
    };
    let Transfer { taken, new } = Transfer::plan(&spec, init)?;
    let mut named = new.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if new.len() > NAMED {
        named = format!("{named}, …");
    }
    let named = if new.is_empty() { "none new".into() } else { format!("new: {named}") };
    let nameless = if init.names_classes() { "" } else { "; the file does not name its classes" };
    let imported = init.imported().map_or(String::new(), |imported| format!("imported from {}: ", imported.layout));
    reporter.note(&format!(
        "train.init: {imported}{} of {} tensors taken; {named}{nameless}",
        taken.len(),
        taken.len() + new.len()
    ));
    if init.imported().is_some() {
        reporter.warn(
            "train.init: an imported network does not say which images it was trained on; if current test images are among them, their accuracy is too high",
        );
    }
    let origin = init.origin.as_ref();
    if origin.is_some_and(|o| o.source == data.source && o.training_fingerprint != data.fingerprint(Split::Train)) {
        reporter.warn(
            "train.init: this network was trained on other images of the same source; if they were divided in another way, current test images may be among them",
        );
    }
    Ok(())
}

/// Checks that the recipe of folds is that of the model, of which they tell what it would predict for
/// images that it was not trained on.
///
/// # Errors
/// If the network differs, or a parameter of training that was set for one of both alone.
pub(super) fn expect_same_recipe(project: &Project, params: &Params, folds: &ModelParams, model: &Model) -> Result<()> {
    let (file, of_model) = (project.layout.model_file(), model.spec().params.architecture.name());
    let advice = "run `cifar-cli train` again, or give both commands the same --set";
    let set_for_model = model.origin.as_ref().map(|origin| &origin.settings);
    let file_only = Project { settings: Setting::new(), ..project.clone() };
    let [here, in_file] = [params.clone(), file_only.params()?].map(|params| params.to_json().map_err(Error::failed));
    let (here, in_file) = (here?, in_file?);
    let keys = set_for_model.into_iter().flat_map(Setting::keys).chain(project.settings.keys());
    for key in keys.filter(|key| key.starts_with("model.") || key.starts_with("train.") || *key == "random_seed") {
        let value_in = |params: &Value| params.pointer(&format!("/{}", key.replace('.', "/"))).cloned();
        let trained = set_for_model.and_then(|set| set.get(key)).cloned().or_else(|| value_in(&in_file));
        let (trained, found) = (trained.unwrap_or_default(), value_in(&here).unwrap_or_default());
        // Numbers may be written in several ways.
        let is_same = trained == found || trained.as_f64().is_some() && trained.as_f64() == found.as_f64();
        ensure!(
            is_same,
            "{}: was trained with {key}: {trained}, its folds would be with {key}: {found}; {advice}",
            file.display()
        );
    }
    ensure!(
        *folds == model.spec().params,
        "{}: is another network ({of_model}) than that of the parameters ({}), with which folds would be trained; {advice}",
        file.display(),
        folds.architecture.name()
    );
    Ok(())
}

/// Reports where the time went.
fn note_timing(timing: Timing, reporter: &dyn Reporter) {
    if timing.steps == 0 {
        reporter.note("this run is already finished; its result is kept; use `--fresh` to retrain it");
    } else {
        reporter.note(&format!(
            "{} steps in {:.1} s, {:.2} s ({:.2} %) of them waiting for batches",
            timing.steps,
            timing.seconds,
            timing.waited_seconds,
            100.0 * timing.waited_seconds / timing.seconds.max(f64::MIN_POSITIVE)
        ));
    }
}

impl fmt::Display for Trained {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: epoch {} of {}", self.model.display(), self.selected_epoch, self.epochs)?;
        match self.validation_accuracy {
            Some(accuracy) => write!(f, ", validation accuracy {:.2} %", accuracy * 100.0),
            None => Ok(()),
        }
    }
}

impl Outcome for Trained {
    /// Returns none: each epoch was reported as it finished.
    fn to_json(&self) -> Option<Value> {
        None
    }
}
