//! The command line: commands, options and their help. Hyper-parameters are in params.yaml only.
#![expect(clippy::doc_markdown, reason = "help is read on a terminal, not as Markdown")]

mod bench;
mod experiments;
mod export;
mod hard_images;
mod partition;
mod predict;
mod train;

use std::path::PathBuf;

use cifar_model::Precision;
use cifar_pipeline::stages::recipe::MINUTES;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use bench::{BenchArgs, BenchCommand, DecodeArgs, NetworkArgs, StepArgs};
pub(crate) use experiments::{EngineName, ExperimentsArgs, ExperimentsCommand, GridArgs, GridRunArgs};
pub(crate) use export::{ExportArgs, FormatName, InputName, TtaName};
pub(crate) use hard_images::{HardImagesArgs, HardImagesCommand};
pub(crate) use partition::{PartitionArgs, ResizeArgs};
pub(crate) use predict::{EmbedArgs, EmbedSplit, PredictArgs, ViewsName};
pub(crate) use train::TrainArgs;

/// Train and compare image classifiers on a CPU, reproducibly to the bit, and find hard images.
#[derive(Debug, Parser)]
#[command(
    name = "cifar-cli",
    version,
    after_help = "Pipeline: partition → pull → prepare → inspect → tune → train → evaluate → hard-images.\n\
                  `run` does all stages in one process. `dvc repro` runs the stages that are out of date.\n\
                  Start with `cifar-cli check`, which shows what is there and what is missing."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Project folder; data, models and results are inside it
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".", global = true)]
    pub(crate) directory: PathBuf,
    /// Parameter file [default: params.yaml in the project folder]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) params: Option<PathBuf>,
    /// Number of threads; results do not depend on it [default: one per core]
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Device to compute on
    #[arg(long, global = true, default_value = "cpu")]
    pub(crate) device: Device,
    /// Print results as JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print errors, warnings and results only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// Values of parameters, for the commands that read params.yaml.
#[derive(Debug, Default, Args)]
pub(crate) struct ParamsArgs {
    /// Use another value for a parameter of params.yaml, in this command only; may be repeated
    ///
    /// The value is YAML: `train.epochs=5`, `model.widths=[8,8,8]`. It is checked like the file.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Devices that can compute.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Device {
    /// The processor.
    Cpu,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a new project into a folder: params.yaml, dvc.yaml, labels/, experiments.toml
    #[command(after_help = "Example:\n  cifar-cli init my-project    # then: cd my-project && cifar-cli run\n\n\
                            Existing files are kept and named.")]
    Init(InitArgs),
    /// Read images and divide them into the partitions v1, v2 and v3
    #[command(
        after_help = "Examples:\n  cifar-cli partition                              # cifar10_dataset/, else a download, else synthetic\n  \
                            cifar-cli partition --source /data/cifar10       # class folders or an unpacked archive\n  \
                            cifar-cli partition --source cifar-10-binary.tar.gz\n  \
                            cifar-cli partition --source cifar100/ --coarse-labels\n  \
                            cifar-cli partition --source photos/ --size 64   # images of any size\n  \
                            cifar-cli partition --source photos/labels.csv   # file,label or file,label,split\n  \
                            cifar-cli partition --source synthetic\n  \
                            cifar-cli partition --add v4 --source new/       # add images; v1 to v3 stay as they are\n\n\
                            Near-duplicates are searched for here (20 s for 60,000 images) and kept in .cifar/ for `pull`."
    )]
    Partition(PartitionArgs),
    /// Join the partitions that params.yaml names
    #[command(after_help = "Example:\n  cifar-cli pull    # reads dataset_partitions/, writes data/raw/")]
    Pull(ParamsArgs),
    /// Split the images into train, validation and test
    #[command(after_help = "Example:\n  cifar-cli prepare    # reads data/raw/ and labels/, writes data/prepared/")]
    Prepare(ParamsArgs),
    /// Describe the images: counts, image quality, duplicates, contradicting labels
    #[command(
        after_help = "Example:\n  cifar-cli inspect    # reads data/prepared/, writes evaluation/data/index.html"
    )]
    Inspect(ParamsArgs),
    /// List the recipes, or write one into params.yaml
    #[command(after_help = "Examples:\n  cifar-cli recipe               # list the recipes\n  \
                            cifar-cli recipe airbench94    # write its values into params.yaml; comments stay\n  \
                            cifar-cli recipe --minutes 10  # write the best known one for ten minutes of training here")]
    Recipe(RecipeArgs),
    /// Search for better hyper-parameters on validation images
    #[command(
        after_help = "Example:\n  cifar-cli tune    # reads data/prepared/, writes models/tuning/; does nothing if tune.trials is 0\n\n\
                            An interrupted search resumes. A search with more trials reuses the scores it has."
    )]
    Tune(ParamsArgs),
    /// Train the network
    #[command(
        after_help = "Examples:\n  cifar-cli train              # reads data/prepared/, writes models/final/\n  \
                            cifar-cli train --json       # one JSON object per epoch on standard output\n  \
                            cifar-cli train --fresh      # start over instead of resuming\n  \
                            cifar-cli train --find-lr    # test learning rates for 100 steps\n  \
                            cifar-cli train --preview    # draw the first batch, augmented\n  \
                            cifar-cli train --set train.epochs=5 --set train.batch_size=256\n  \
                            cifar-cli train --epochs-more 5    # continue the finished run of models/final/\n\n\
                            An interrupted run resumes from its checkpoint and produces identical files."
    )]
    Train(TrainArgs),
    /// Score the trained network on test images
    #[command(
        after_help = "Examples:\n  cifar-cli evaluate                     # reads models/final/ and data/, writes evaluation/test/\n  \
                            cifar-cli evaluate --precision bf16    # mixed precision, for processors with AMX"
    )]
    Evaluate(EvaluateArgs),
    /// Rank the images that the network finds hard
    #[command(
        after_help = "Examples:\n  cifar-cli hard-images                        # writes evaluation/hard_images/index.html\n  \
                            cifar-cli hard-images --truth labels.csv     # compare its measures with your own labels\n  \
                            cifar-cli hard-images --predictions p.csv    # rank by the predictions of any model\n  \
                            cifar-cli hard-images study --flip 0.2       # test whether acting on flagged images helps"
    )]
    HardImages(HardImagesArgs),
    /// Review flagged images in the browser; each decision is saved at once
    #[command(
        after_help = "Examples:\n  cifar-cli review                                 # prints an address to open; Ctrl-C ends it\n  \
                            cifar-cli review evaluation/given_predictions    # the page of `hard-images --predictions`\n  \
                            cifar-cli review --port 8000                     # always the same port\n\n\
                            Writes labels/review.csv. `cifar-cli prepare` applies it. Only this machine can open the address."
    )]
    Review(ReviewArgs),
    /// Keep your label corrections with their images
    Labels(LabelsArgs),
    /// Run all stages in one process, without DVC
    #[command(
        after_help = "Examples:\n  cifar-cli run                            # partitions images first if there are no partitions\n  \
                            cifar-cli run --source /data/cifar10     # partitions this folder or archive first\n  \
                            cifar-cli run --source photos/ --size 64 # images of any size"
    )]
    Run(RunArgs),
    /// Run a grid of experiments and compare the results
    Experiments(ExperimentsArgs),
    /// Write the report over the finished runs of a grid
    #[command(after_help = "Example:\n  cifar-cli report    # writes experiments/report.html and report.md")]
    Report(GridArgs),
    /// Classify image files with the trained network
    #[command(
        after_help = "Examples:\n  cifar-cli predict cat.jpg dog.png\n  cifar-cli predict photos/ --csv photos.csv    # all images of a folder\n  \
                            cifar-cli predict --json --top 5 photo.jpg\n  cifar-cli predict --explain maps/ photos/      # which places decide\n\n\
                            Exit status 1 if a file cannot be read; the others are classified all the same."
    )]
    Predict(PredictArgs),
    /// Write the trained network for other programs: ONNX, PyTorch, a model card
    #[command(
        after_help = "Examples:\n  cifar-cli export                                   # writes export/model.onnx\n  \
                            cifar-cli export --input float --tta mirror_shift -o cifar.onnx\n  \
                            cifar-cli export --format pytorch                  # writes export/pytorch: model.safetensors, load.py\n  \
                            cifar-cli export --format card                     # writes export/README.md; needs `evaluate`\n\n\
                            The ONNX graph has the normalisation inside and gives logits; apply softmax for probabilities.\n\
                            Its metadata hold class names, data hashes, recipe and numeric target. docs/export.md shows how to run it."
    )]
    Export(ExportArgs),
    /// Write the features that the last layer receives, for image files or a split
    #[command(
        after_help = "Examples:\n  cifar-cli embed --split test            # writes evaluation/embeddings/test.safetensors and test.csv\n  \
                            cifar-cli embed photos/ --out photos    # writes photos.safetensors and photos.csv\n\n\
                            In Python: safetensors.numpy.load_file(\"photos.safetensors\")[\"features\"]"
    )]
    Embed(EmbedArgs),
    /// Measure how fast this machine trains, classifies and decodes
    #[command(after_help = "Examples:\n  cifar-cli bench train-step --batch 512\n  cifar-cli bench kernels --json")]
    Bench(BenchArgs),
    /// Show what is there, what is missing and what training will cost
    #[command(after_help = "Example:\n  cifar-cli check    # exit status 1 if something is wrong")]
    Check(ParamsArgs),
    /// Remove results, checkpoints and searches; partitions, labels and parameters stay
    #[command(
        after_help = "Example:\n  cifar-cli clean    # removes data/, models/, evaluation/ and checkpoints/, near_duplicates/, study/, tune/ in .cifar/\n\n\
                            Checkpoints and searches that another process is using stay."
    )]
    Clean,
    /// Write the program and a fingerprint per stage into bin/, for dvc.yaml
    #[command(after_help = "Example:\n  cargo run --locked --release -p cifar-cli -- fingerprint")]
    Fingerprint,
    /// Print a completion script for a shell
    #[command(
        hide = true,
        after_help = "Example:\n  cifar-cli completions bash > ~/.local/share/bash-completion/completions/cifar-cli"
    )]
    Completions(CompletionsArgs),
    /// Write man pages, one per command, into a folder
    #[command(hide = true, after_help = "Example:\n  cifar-cli man ~/.local/share/man/man1")]
    Man(ManArgs),
}

impl Command {
    /// The name that is typed.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Partition(_) => "partition",
            Self::Pull(_) => "pull",
            Self::Prepare(_) => "prepare",
            Self::Inspect(_) => "inspect",
            Self::Recipe(_) => "recipe",
            Self::Tune(_) => "tune",
            Self::Train(_) => "train",
            Self::Evaluate(_) => "evaluate",
            Self::HardImages(HardImagesArgs { command: Some(HardImagesCommand::Study(_)), .. }) => "study",
            Self::Review(_) => "review",
            Self::HardImages(_) => "hard-images",
            Self::Labels(_) => "labels",
            Self::Run(_) => "run",
            Self::Experiments(_) => "experiments",
            Self::Report(_) => "report",
            Self::Predict(_) => "predict",
            Self::Export(_) => "export",
            Self::Embed(_) => "embed",
            Self::Bench(_) => "bench",
            Self::Check(_) => "check",
            Self::Clean => "clean",
            Self::Fingerprint => "fingerprint",
            Self::Init(_) => "init",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }

    /// The values of parameters that were typed.
    pub(crate) fn set(&self) -> &[String] {
        match self {
            Self::Pull(args) | Self::Prepare(args) | Self::Inspect(args) | Self::Tune(args) | Self::Check(args) => {
                &args.set
            }
            Self::Train(args) => &args.params.set,
            Self::Evaluate(args) => &args.params.set,
            Self::HardImages(HardImagesArgs { command: Some(HardImagesCommand::Study(args)), .. }) => &args.params.set,
            Self::HardImages(args) => &args.params.set,
            Self::Run(args) => &args.params.set,
            Self::Embed(args) => &args.params.set,
            _ => &[],
        }
    }

    /// Whether its time is printed: that of everything that writes results of stages.
    pub(crate) fn is_timed(&self) -> bool {
        !matches!(
            self,
            Self::Recipe(_)
                | Self::Experiments(_)
                | Self::Report(_)
                | Self::Predict(_)
                | Self::Review(_)
                | Self::Export(_)
                | Self::Embed(_)
                | Self::Bench(_)
                | Self::Check(_)
                | Self::Init(_)
                | Self::Completions(_)
                | Self::Man(_)
        )
    }
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Folder of the new project; created if it is missing
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder for the pages; created if it is missing
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// Precision of the network's products: f32, bf16 or auto (bf16 on processors with AMX)
    #[arg(long, value_name = "NAME", default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
    #[command(flatten)]
    pub(crate) params: ParamsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RecipeArgs {
    /// Recipe to write into params.yaml [default: list all recipes]
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Measure the training speed, then write the best known recipe for M minutes of training
    ///
    /// Takes some seconds. The epochs suit the number of prepared images.
    #[arg(long, value_name = "M", conflicts_with = "name", value_parser = minutes)]
    pub(crate) minutes: Option<f64>,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if MINUTES.contains(&minutes) => Ok(minutes),
        _ => Err(format!("allowed is {} to {} (minutes)", MINUTES.start(), MINUTES.end())),
    }
}

#[derive(Debug, Args)]
pub(crate) struct LabelsArgs {
    #[command(subcommand)]
    pub(crate) command: LabelsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabelsCommand {
    /// Move lines to the ids that their images have now, and add missing content hashes
    #[command(
        after_help = "Examples:\n  cifar-cli labels migrate                   # labels/overrides.csv and labels/review.csv\n  \
                            cifar-cli labels migrate truth.csv         # any CSV with a column `id`\n\n\
                            Ids follow the order of the files. After adding or removing files, partition again, then migrate.\n\
                            Reads dataset_partitions/ only."
    )]
    Migrate(MigrateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// CSV files with a column `id` [default: labels/overrides.csv and labels/review.csv]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Remove lines whose image is gone, instead of stopping
    #[arg(long)]
    pub(crate) drop_missing: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Never use the network
    #[arg(long)]
    pub(crate) offline: bool,
    /// Partition this source first [default: only if there are no partitions]
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,
    #[command(flatten)]
    pub(crate) resize: ResizeArgs,
    #[command(flatten)]
    pub(crate) params: ParamsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReviewArgs {
    /// Folder with the page [default: evaluation/hard_images in the project folder]
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Port of the server [default: any free port]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub(crate) port: u16,
}
