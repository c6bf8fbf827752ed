//! What can be typed behind `experiments`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct ExperimentsArgs {
    #[command(subcommand)]
    pub(crate) command: ExperimentsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExperimentsCommand {
    /// Do what is left of the grid, then the figures and the report
    #[command(after_help = "Examples:\n  cifar-cli experiments run --dry-run          # what would be run\n  \
                            cifar-cli experiments run -j 2               # goes on where an earlier call was stopped\n  \
                            cifar-cli experiments run --retry            # what failed, too\n  \
                            cifar-cli experiments run --engine slurm     # a job array; [slurm] of experiments.toml has the resources\n\n\
                            Results of each run are in experiments/runs/NAME.")]
    Run(GridRunArgs),
    /// The figures and the report over the runs that are finished
    #[command(
        after_help = "Example:\n  cifar-cli experiments summary    # writes experiments/summary.json, runs.csv, report.md, …"
    )]
    Summary(GridArgs),
    /// What a task of a job array executes
    #[command(hide = true)]
    Task(TaskArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GridArgs {
    /// The grid [default: experiments.toml in the project's folder; the usual fifteen runs if there is none]
    #[arg(long, value_name = "FILE")]
    pub(crate) grid: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GridRunArgs {
    #[command(flatten)]
    pub(crate) grid: GridArgs,
    /// Who does the runs [default: dvc in a git repository with DVC, else local]
    #[arg(long, value_name = "ENGINE")]
    pub(crate) engine: Option<EngineName>,
    /// Runs at a time; they share the threads [default: 1; on a cluster `max_tasks` of experiments.toml]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// Do runs again that failed
    #[arg(long)]
    pub(crate) retry: bool,
    /// List the runs and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Who does the runs of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// This process.
    Local,
    /// `dvc exp run`, an experiment each.
    Dvc,
    /// A job array on a Slurm cluster; the project lies on a file system that all nodes share.
    Slurm,
}

#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    /// The task's number in the job array whose folder is the current one
    pub(crate) number: usize,
}
