//! The commands. Most call one method of the project and print what it returns; those with more to
//! do have their own files.

mod bench;
mod embed;
mod experiments;
mod export;
mod hard_images;
mod predict;
mod recipe;
mod shell;
mod train;

use cifar_data::Progress as _;
use cifar_kernels::{DEPRECATED_ISA_VARIABLE, ISA_VARIABLE};
use cifar_pipeline::init::init;
use cifar_pipeline::params::{former_keys, parse_settings};
use cifar_pipeline::stages::labels::{self, MigrateOptions};
use cifar_pipeline::stages::review::{self, ReviewOptions};
use cifar_pipeline::stages::{check, clean};
use cifar_pipeline::{Error, PartitionOptions, Project, Result, RunOptions, fingerprint};
use cifar_train::RENAMED_KEYS;

use crate::args::{Cli, Command, Device, LabelsCommand, PartitionArgs};
use crate::terminal::Terminal;

/// State that every command uses.
pub(crate) struct Context<'a> {
    pub(crate) project: Project,
    pub(crate) terminal: &'a Terminal,
}

/// Runs the command that was typed.
pub(crate) fn run(cli: &Cli, terminal: &Terminal) -> Result<()> {
    let Device::Cpu = cli.global.device;
    start_threads(cli.global.threads, terminal)?;
    if cifar_kernels::isa_variable()? == Some(DEPRECATED_ISA_VARIABLE) {
        terminal.warn(&format!("{DEPRECATED_ISA_VARIABLE} is now called {ISA_VARIABLE}; the former name still works"));
    }
    let mut project = Project::open(&cli.global.directory)?;
    if let Some(file) = &cli.global.params {
        project = project.with_params_file(file.clone());
    }
    for (former, current) in former_keys(&project.params_file) {
        let file = project.params_file.display();
        terminal.warn(&format!("{file}: `{former}` is now called `{current}`; the former name still works"));
    }
    let settings = parse_settings(cli.command.set())?;
    for (former, current) in RENAMED_KEYS {
        if cli.command.set().iter().any(|set| set.split('=').next().is_some_and(|key| key.trim() == *former)) {
            terminal.warn(&format!("--set: `{former}` is now called `{current}`; the former name still works"));
        }
    }
    let context = &Context { project: project.with_settings(settings), terminal };
    let project = &context.project;
    match &cli.command {
        Command::Init(args) => {
            let grid = [("experiments.toml", cifar_experiments::grid::USUAL)];
            terminal.outcome(&init(&project.layout.join(&args.folder), &grid)?);
        }
        Command::Partition(args) => partition(context, args)?,
        Command::Pull(_) => terminal.outcome(&project.pull(terminal)?),
        Command::Prepare(_) => terminal.outcome(&project.prepare(terminal)?),
        Command::Inspect(_) => terminal.outcome(&project.inspect(terminal)?),
        Command::Recipe(args) => recipe::run(context, args)?,
        Command::Tune(_) => terminal.outcome(&project.tune(terminal)?),
        Command::Train(args) => train::run(context, args)?,
        Command::Evaluate(args) => terminal.outcome(&project.evaluate_in(args.precision, terminal)?),
        Command::HardImages(args) => hard_images::run(context, args)?,
        Command::Review(args) => {
            let options = ReviewOptions { folder: args.folder.clone(), port: args.port };
            let started = |address: &str| {
                let words = || format!("review: {address} (open it in a browser; Ctrl-C ends)");
                terminal.result(&serde_json::json!({ "address": address }), words);
            };
            terminal.outcome(&review::run(project, &options, terminal, started)?);
        }
        Command::Labels(args) => {
            let LabelsCommand::Migrate(args) = &args.command;
            let options = MigrateOptions { files: args.files.clone(), drop_missing: args.drop_missing };
            terminal.outcome(&project.locked("labels", terminal, || labels::run(project, &options, terminal))?);
        }
        Command::Run(args) => {
            let options =
                RunOptions { source: args.source.clone(), resize: args.resize.resize()?, offline: args.offline };
            project.run(&options, terminal)?;
        }
        Command::Experiments(args) => experiments::run(context, args)?,
        Command::Report(args) => experiments::report(context, args)?,
        Command::Predict(args) => predict::run(context, args)?,
        Command::Export(args) => export::run(context, args)?,
        Command::Embed(args) => embed::run(context, args)?,
        Command::Bench(args) => bench::run(context, args)?,
        Command::Check(_) => {
            let checked = check::run(project)?;
            terminal.outcome(&checked);
            checked.result()?;
        }
        Command::Clean => terminal.outcome(&project.locked("clean", terminal, || clean::run(project, terminal))?),
        Command::Fingerprint => {
            let bin = project.locked("fingerprint", terminal, || fingerprint::write(project))?;
            terminal.say(&format!("program and fingerprints: {}", bin.display()));
        }
        Command::Completions(args) => shell::completions(args.shell, terminal),
        Command::Man(args) => shell::man(&args.folder, terminal)?,
    }
    Ok(())
}

/// Threads for each processor. With a few hundred on two processors, training takes many times as long.
const MOST_THREADS: usize = 16;

/// Refuses numbers of threads that would only wait for each other.
fn check_threads(threads: usize, processors: usize) -> Result<()> {
    let most = processors.saturating_mul(MOST_THREADS);
    if threads <= most {
        return Ok(());
    }
    let allowed = format!("allowed is 1 to {most}, {MOST_THREADS} for each of the {processors} processors here");
    Err(Error::usage(format!("--threads {threads} is not allowed; {allowed}")))
}

fn start_threads(threads: Option<u16>, terminal: &Terminal) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    let processors = std::thread::available_parallelism().map_or(usize::from(u16::MAX), usize::from);
    check_threads(usize::from(threads), processors)?;
    if usize::from(threads) > processors {
        terminal.warn(&format!(
            "--threads {threads} is more than the {processors} processors here; more threads than processors cost memory and time"
        ));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads)).build_global();
    pool.map_err(|e| Error::failed(format!("cannot start the threads: {e}")))
}

fn partition(context: &Context, args: &PartitionArgs) -> Result<()> {
    let options = PartitionOptions {
        source: args.source.clone(),
        offline: args.offline,
        mirror: args.mirror.clone(),
        coarse_labels: args.coarse_labels,
        skip_broken: args.skip_broken,
        resize: args.resize.resize()?,
        synthetic_images: args.synthetic_images,
        synthetic_seed: args.synthetic_seed,
    };
    if let Some(name) = &args.add {
        let added = context.project.add_partition(name, &options, context.terminal)?;
        context.terminal.outcome(&added);
        context.terminal.say(&format!("track it with: dvc add dataset_partitions/{}", added.partition));
        return Ok(());
    }
    let partitioned = context.project.partition(&options, context.terminal)?;
    context.terminal.outcome(&partitioned);
    context.terminal.say("track them with: dvc add dataset_partitions/v1 dataset_partitions/v2 dataset_partitions/v3");
    Ok(())
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
