//! One file a command. What the user typed becomes what the libraries need, here and nowhere else.

mod bench;
mod check;
mod clean;
mod evaluate;
mod experiments;
mod fingerprint;
mod hard_images;
mod inspect;
mod labels;
mod partition;
mod predict;
mod prepare;
mod pull;
mod recipe;
mod run;
mod train;
mod tune;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cifar_data::Monitor as _;

use crate::args::{Cli, Command, HardImagesArgs, HardImagesCommand};
use crate::layout::Layout;
use crate::lock::ProjectLock;
use crate::params::Params;
use crate::run_record::Stopwatch;
use crate::terminal::Terminal;

/// What every command works with.
pub(crate) struct Context<'a> {
    pub(crate) layout: Layout,
    pub(crate) params_file: PathBuf,
    pub(crate) terminal: &'a Terminal,
}

impl Context<'_> {
    /// The parameters, read and checked.
    pub(crate) fn params(&self) -> Result<Params> {
        Ok(Params::read(&self.params_file)?)
    }
}

/// Something that was typed cannot be done here: a mistake of usage, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

/// Threads for each processor. With a few hundred on two processors, training takes many times as long.
const MOST_THREADS: usize = 16;

/// Refuses numbers of threads that would only stand in each other's way.
fn check_threads(threads: usize, processors: usize) -> Result<(), Refusal> {
    let most = processors.saturating_mul(MOST_THREADS);
    if threads <= most {
        return Ok(());
    }
    let allowed = format!("allowed is 1 to {most}, {MOST_THREADS} for each of the {processors} processors here");
    Err(Refusal(format!("--threads {threads} is not allowed; {allowed}")))
}

/// Runs the command that was typed.
pub(crate) fn run(cli: &Cli, terminal: &Terminal) -> Result<()> {
    let crate::args::Device::Cpu = cli.global.device;
    if let Some(threads) = cli.global.threads {
        let processors = std::thread::available_parallelism().map_or(usize::from(u16::MAX), usize::from);
        check_threads(usize::from(threads), processors)?;
        if usize::from(threads) > processors {
            terminal.warn(&format!(
                "--threads {threads} is more than the {processors} processors here; every thread more takes memory and time"
            ));
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(usize::from(threads))
            .build_global()
            .context("cannot start the threads")?;
    }
    let layout = Layout::new(&cli.global.directory);
    anyhow::ensure!(cli.global.directory.is_dir(), "{}: there is no such folder", cli.global.directory.display());
    let params_file = cli.global.params.clone().unwrap_or_else(|| layout.params());
    let context = Context { layout, params_file, terminal };
    match &cli.command {
        Command::Predict(args) => return predict::run(&context, args),
        Command::Bench(args) => return bench::run(&context, args),
        Command::Check => return check::run(&context),
        Command::Recipe(args) => return recipe::run(&context, args),
        // These take the lock themselves: what DVC does first wants it too.
        Command::Experiments(args) => return experiments::run(&context, args),
        Command::Report(args) => return experiments::report(&context, args),
        _ => {}
    }
    // What follows writes: one at a time in a folder, and timed.
    let name = command_name(&cli.command);
    let _lock = ProjectLock::take(&context.layout, name)?;
    let watch = Stopwatch::start();
    match &cli.command {
        Command::Partition(args) => partition::run(&context, args)?,
        Command::Pull => pull::run(&context)?,
        Command::Prepare => prepare::run(&context)?,
        Command::Inspect => inspect::run(&context)?,
        Command::Tune => tune::run(&context)?,
        Command::Train(args) => train::run(&context, args)?,
        Command::Evaluate => evaluate::run(&context)?,
        Command::HardImages(args) => hard_images::run(&context, args)?,
        Command::Labels(args) => labels::run(&context, args)?,
        Command::Run(args) => run::run(&context, args)?,
        Command::Clean => clean::run(&context)?,
        Command::Fingerprint => fingerprint::run(&context)?,
        Command::Predict(_)
        | Command::Bench(_)
        | Command::Check
        | Command::Recipe(_)
        | Command::Experiments(_)
        | Command::Report(_) => {}
    }
    terminal.check()?;
    watch.record(&context.layout, name);
    terminal.say(&format!("{name}: {:.1} s", watch.seconds()));
    Ok(())
}

fn command_name(command: &Command) -> &'static str {
    match command {
        Command::Partition(_) => "partition",
        Command::Pull => "pull",
        Command::Prepare => "prepare",
        Command::Inspect => "inspect",
        Command::Recipe(_) => "recipe",
        Command::Tune => "tune",
        Command::Train(_) => "train",
        Command::Evaluate => "evaluate",
        Command::HardImages(HardImagesArgs { command: Some(HardImagesCommand::Study(_)), .. }) => "study",
        Command::HardImages(_) => "hard-images",
        Command::Labels(_) => "labels",
        Command::Run(_) => "run",
        Command::Experiments(_) => "experiments",
        Command::Report(_) => "report",
        Command::Predict(_) => "predict",
        Command::Bench(_) => "bench",
        Command::Check => "check",
        Command::Clean => "clean",
        Command::Fingerprint => "fingerprint",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_more_threads_than_processors_are_refused() {
        check_threads(1, 1).unwrap();
        check_threads(32, 2).unwrap();
        check_threads(usize::from(u16::MAX), usize::from(u16::MAX)).unwrap();
        assert_eq!(
            check_threads(33, 2).unwrap_err().to_string(),
            "--threads 33 is not allowed; allowed is 1 to 32, 16 for each of the 2 processors here"
        );
    }
}
