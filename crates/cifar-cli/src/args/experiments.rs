//! The command line of `experiments`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct ExperimentsArgs {
    #[command(subcommand)]
    pub(crate) command: ExperimentsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExperimentsCommand {
    /// Run what is left of the grid, then write figures and the report
    #[command(after_help = "Examples:\n  cifar-cli experiments run --dry-run          # list the runs\n  \
                            cifar-cli experiments run -j 2               # two runs at a time; resumes an earlier call\n  \
                            cifar-cli experiments run --retry            # also repeat failed runs\n  \
                            cifar-cli experiments run --engine slurm     # a job array; resources are in [slurm] of experiments.toml\n\n\
                            Results of each run are in experiments/runs/NAME.")]
    Run(GridRunArgs),
    /// Write figures and the report over the finished runs
    #[command(
        after_help = "Example:\n  cifar-cli experiments summary    # writes experiments/summary.json, runs.csv, report.md, …"
    )]
    Summary(GridArgs),
    /// Do one run of a job array
    #[command(hide = true)]
    Task(TaskArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GridArgs {
    /// Grid file [default: experiments.toml, or five combinations × three seeds if there is none]
    #[arg(long, value_name = "FILE")]
    pub(crate) grid: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GridRunArgs {
    #[command(flatten)]
    pub(crate) grid: GridArgs,
    /// What does the runs [default: dvc in a git repository with DVC, else local]
    #[arg(long, value_name = "ENGINE")]
    pub(crate) engine: Option<EngineName>,
    /// Runs at a time; they share the threads [default: 1; on a cluster, max_tasks of experiments.toml]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// Repeat runs that failed
    #[arg(long)]
    pub(crate) retry: bool,
    /// List the runs and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What executes the runs of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// This process.
    Local,
    /// `dvc exp run`, one experiment per run.
    Dvc,
    /// A job array on a Slurm cluster; all nodes must share the project folder.
    Slurm,
}

#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    /// Number of the task in the job array in the current folder
    pub(crate) number: usize,
}
