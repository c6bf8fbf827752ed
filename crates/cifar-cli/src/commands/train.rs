//! `train`: from prepared images to a model.

mod find_lr;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use cifar_data::prepare::{PreparedReport, TrainingData};
use cifar_data::{DataError, Monitor as _};
use cifar_train::tune::Blocks;
use cifar_train::tune::artifacts::Tuned;
use cifar_train::{Checkpoints, Fitted, TrainError, artifacts, fit_resumable, run_key};

use self::watch::Watched;
use super::Context;
use crate::args::TrainArgs;
use crate::params::Params;

/// The name that a checkpoint gets that cannot be used.
const DAMAGED: &str = "checkpoint.damaged.safetensors";

pub(super) fn run(context: &Context, args: &TrainArgs) -> Result<()> {
    train(context, args, false)
}

/// Where many runs of other processes wait to go on, as on a cluster: their checkpoints stay, however many there are.
pub(super) fn run_in_company(context: &Context) -> Result<()> {
    train(context, &TrainArgs::default(), true)
}

fn train(context: &Context, args: &TrainArgs, in_company: bool) -> Result<()> {
    let (layout, params) = (&context.layout, context.params()?);
    let data = TrainingData::open(&layout.prepared())?;
    data.report.check(&layout.prepared(), params.dataset_version, &params.split)?;
    data.report.check_labels(&layout.prepared(), &layout.overrides(), &layout.review())?;
    context.terminal.say(&format!(
        "{}, {}: {} training and {} validation images; seed {}\n",
        data.report.source.description,
        params.dataset_version,
        data.train.len(),
        data.val.len(),
        params.random_seed
    ));
    let Blocks { model, train: recipe } = tuned(context, &params, &data.report)?;
    let (recipe, model, seed) = (&recipe, &model, params.random_seed);
    if args.find_lr {
        return find_lr::run(context, recipe, model, &data, seed);
    }
    if let Err(problem) = recipe.check_dynamics() {
        context.terminal.warn(&format!("`hard-images` will refuse the model: {problem}"));
    }
    let key = run_key(recipe, model, &data.report, seed, &program()?);
    let every = Duration::from_secs_f64(args.checkpoint_every);
    let mut checkpoints = Checkpoints::open(&layout.checkpoints(), &key, every, context.terminal)?
        .accepting_other_arithmetic(args.any_arithmetic);
    if in_company {
        checkpoints = checkpoints.keeping_those_of_other_runs();
    }
    if args.fresh {
        checkpoints.discard()?;
    }
    let watched = Watched::new(context, args.tensorboard.as_deref(), &key)?;
    let mut fitted = fit_resumable(recipe, model, &data, seed, &mut checkpoints, &watched);
    if let Err(error @ TrainError::Checkpoint { .. }) = &fitted {
        put_aside(context, &mut checkpoints, error)?;
        fitted = fit_resumable(recipe, model, &data, seed, &mut checkpoints, &watched);
    }
    let fitted = fitted.map_err(|e| match e {
        TrainError::Data(DataError::Cancelled) => anyhow!(e).context(format!(
            "{} keeps what it had; run `cifar-cli train` again to go on from here, to the same result",
            layout.final_model().display()
        )),
        TrainError::Diverged { .. } | TrainError::NotFinite { .. } if checkpoints.step() > 0 => {
            let (step, path) = (checkpoints.step(), checkpoints.path());
            anyhow!(e).context(format!("the last good checkpoint, behind step {step}, is {}", path.display()))
        }
        TrainError::Arithmetic { is_mixed, .. } => {
            let as_before = if is_mixed { "" } else { "CIFAR_ISA can be set to go on as before, " };
            // The options are for a run that `train` starts itself.
            let otherwise = if layout.is_of_run() || std::env::var_os("DVC_ROOT").is_some() {
                "removing that file starts this run over"
            } else {
                "`cifar-cli train --any-arithmetic` goes on all the same, `cifar-cli train --fresh` starts over"
            };
            anyhow!("{e}; {as_before}{otherwise}")
        }
        other => anyhow!(other),
    })?;
    artifacts::write(&fitted, &data, &layout.final_model())?;
    tell(context, &fitted);
    Ok(())
}

/// Renames a checkpoint that cannot be used, so that its run can start over wherever it was started from.
fn put_aside(context: &Context, checkpoints: &mut Checkpoints, error: &TrainError) -> Result<()> {
    let (path, aside) = (checkpoints.path(), checkpoints.path().with_file_name(DAMAGED));
    std::fs::rename(&path, &aside).with_context(|| format!("{error}; it cannot be renamed"))?;
    context.terminal.warn(&format!("{error}; it is renamed to {DAMAGED}, and the run starts over"));
    Ok(checkpoints.discard()?)
}

/// The recipe, with the setting that tuning showed to be better if it is to be used.
pub(super) fn tuned(context: &Context, params: &Params, data: &PreparedReport) -> Result<Blocks> {
    let blocks = Blocks { model: params.model.clone(), train: params.train.clone() };
    if !params.train.use_tuned {
        return Ok(blocks);
    }
    let path = context.layout.tuned();
    let tuned = Tuned::read(&path)?;
    let applied = tuned.apply(&blocks, data, &path)?;
    let differences = tuned.differences(&blocks, data)?;
    if !differences.is_empty() {
        let differences = differences.join(", ");
        context.terminal.warn(&format!("{}: was found for something else: {differences}", path.display()));
    }
    if tuned.setting.is_empty() {
        context
            .terminal
            .say(&format!("{}: no setting is shown to be better; train.use_tuned changes nothing", path.display()));
    }
    for (key, value) in &tuned.setting {
        context.terminal.say(&format!("{key}: {value} (tuned)"));
    }
    Ok(applied)
}

/// What came out, and how the time was spent.
fn tell(context: &Context, fitted: &Fitted) {
    let timing = fitted.timing;
    if timing.steps == 0 {
        context.terminal.say(
            "nothing was left to train: the result is that of the run with these parameters; `--fresh` trains anew",
        );
    } else {
        context.terminal.say(&format!(
            "{} steps in {:.1} s, of which {:.2} s ({:.2} %) went by waiting for batches",
            timing.steps,
            timing.seconds,
            timing.waited_seconds,
            100.0 * timing.waited_seconds / timing.seconds.max(f64::MIN_POSITIVE)
        ));
    }
    if context.terminal.json() {
        return;
    }
    let selected = fitted.history.iter().find(|r| r.epoch == fitted.selected_epoch);
    let accuracy = selected.and_then(|r| r.val_accuracy).map(|a| format!(", validation accuracy {:.2} %", a * 100.0));
    context.terminal.data(&format!(
        "{}: epoch {} of {}{}",
        context.layout.model_file().display(),
        fitted.selected_epoch,
        fitted.history.len(),
        accuracy.unwrap_or_default()
    ));
}

/// What stands for this program in the name of a run: the fingerprint of the code that trains, where the `build` stage put
/// one beside the program, else a hash of the program's bytes. Another program may compute other bits.
pub(super) fn program() -> Result<String> {
    let path = std::env::current_exe().context("cannot find this program's own file")?;
    let fingerprint = path.with_file_name("train_model.fingerprint");
    if let Ok(text) = std::fs::read_to_string(&fingerprint) {
        return Ok(text.trim().to_string());
    }
    let running = running_program()?;
    let bytes = std::fs::read(&running).with_context(|| format!("{}: cannot read this program", path.display()))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// The same with the kernels and the target that it runs with, for what must not be mixed with the work of others.
pub(super) fn program_here() -> Result<String> {
    Ok(format!("{} {}", program()?, cifar_kernels::numeric_target()?))
}

/// Where this program can be read. Linux has it there as long as it runs, even if it was compiled anew or deleted since,
/// as happens to a grid of experiments that runs for hours from cargo's target folder.
pub(super) fn running_program() -> Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    std::env::current_exe().context("cannot find this program's own file")
}
