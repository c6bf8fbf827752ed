//! What can be typed. Flags say where and how; hyper-parameters stand in params.yaml alone.

mod bench;
mod experiments;

use std::path::PathBuf;

use cifar_eval::study::Arm;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use bench::{BenchArgs, BenchCommand, DecodeArgs, NetworkArgs, StepArgs};
pub(crate) use experiments::{EngineName, ExperimentsArgs, ExperimentsCommand, GridArgs, GridRunArgs};

/// Train and compare image classifiers on a CPU, reproducibly to the bit, and find the images that are hard.
#[derive(Debug, Parser)]
#[command(
    name = "cifar-cli",
    version,
    after_help = "The journey: partition → pull → prepare (→ inspect) → train → evaluate → hard-images.\n\
                  `run` does all of it in one process; `dvc repro` does it stage by stage and skips what is up to date.\n\
                  Start with `cifar-cli check`: it says what is there and what is missing."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The project's folder: data, models and results lie below it
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".", global = true)]
    pub(crate) directory: PathBuf,
    /// The parameters [default: params.yaml in the project's folder]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) params: Option<PathBuf>,
    /// Number of threads; results do not depend on it [default: one a core]
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Where to compute
    #[arg(long, global = true, default_value = "cpu")]
    pub(crate) device: Device,
    /// Print results as JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print errors, warnings and results only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// Devices that can compute.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Device {
    /// The processor.
    Cpu,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read the images and cut them into the partitions v1, v2 and v3
    #[command(
        after_help = "Examples:\n  cifar-cli partition                             # cifar10_dataset/ if it is there, else a download, else synthetic\n  \
                            cifar-cli partition --source /data/cifar10      # class folders or an unpacked archive, anywhere\n  \
                            cifar-cli partition --source cifar-10-binary.tar.gz\n  cifar-cli partition --source cifar100/ --coarse-labels\n  \
                            cifar-cli partition --source synthetic\n\n\
                            Near-duplicates are looked for here, too (20 s for 60,000 images), and kept in .cifar/ for `pull`."
    )]
    Partition(PartitionArgs),
    /// Join the partitions that params.yaml names, and set the evaluation pool apart
    #[command(after_help = "Example:\n  cifar-cli pull    # reads dataset_partitions/, writes data/raw/")]
    Pull,
    /// Divide the pulled images into train, validation and test
    #[command(after_help = "Example:\n  cifar-cli prepare    # reads data/raw/ and labels/, writes data/prepared/")]
    Prepare,
    /// Show what the images are like: counts, dark, bright, blurred and empty ones, duplicates and contradicting labels
    #[command(
        after_help = "Example:\n  cifar-cli inspect    # reads data/prepared/, writes evaluation/data/ with index.html"
    )]
    Inspect,
    /// List the recipes, or write one into params.yaml
    #[command(
        after_help = "Examples:\n  cifar-cli recipe               # what there is\n  cifar-cli recipe airbench94    # writes its values into params.yaml; comments stay"
    )]
    Recipe(RecipeArgs),
    /// Search for better values with validation images, as the block `tune` of params.yaml says
    #[command(
        after_help = "Example:\n  cifar-cli tune    # reads data/prepared/, writes models/tuning/; at once if tune.trials is 0\n\n\
                      A search that was interrupted goes on where it was, and one with more trials uses those that it has."
    )]
    Tune,
    /// Train the network
    #[command(
        after_help = "Examples:\n  cifar-cli train              # reads data/prepared/, writes models/final/\n  \
                            cifar-cli train --json       # one JSON object an epoch on standard output\n  \
                            cifar-cli train --fresh      # even if a run with these parameters was interrupted or is finished\n  \
                            cifar-cli train --find-lr    # which learning rates could do, in the time of a hundred steps\n\n\
                            A run that was interrupted goes on where it was, with the same result to the bit."
    )]
    Train(TrainArgs),
    /// Score the trained network on test images
    #[command(
        after_help = "Example:\n  cifar-cli evaluate    # reads models/final/ and data/, writes evaluation/test/"
    )]
    Evaluate,
    /// Rank the images that the network finds hard, and draw them
    #[command(
        after_help = "Examples:\n  cifar-cli hard-images                        # writes evaluation/hard_images/\n  \
                            cifar-cli hard-images --truth labels.csv     # how well its measures agree with your own labels\n  \
                            cifar-cli hard-images study --flip 0.2       # whether acting on them helps, where labels are wrong"
    )]
    HardImages(HardImagesArgs),
    /// Keep what you wrote about images with the right images
    Labels(LabelsArgs),
    /// All stages in order, in one process, for those without DVC
    #[command(
        after_help = "Examples:\n  cifar-cli run                                  # partitions first, if there are none\n  \
                            cifar-cli run --source /data/cifar10           # a folder or an archive, as for `partition`"
    )]
    Run(RunArgs),
    /// A grid of runs, and what may be concluded from them
    Experiments(ExperimentsArgs),
    /// The report on the grid's finished runs: `experiments/report.html` and report.md, with the figures
    #[command(after_help = "Example:\n  cifar-cli report    # then open experiments/report.html")]
    Report(GridArgs),
    /// Classify image files with the trained network
    #[command(
        after_help = "Examples:\n  cifar-cli predict cat.jpg dog.png\n  cifar-cli predict --json --top 5 photo.jpg"
    )]
    Predict(PredictArgs),
    /// How fast this machine trains, classifies and decodes
    #[command(after_help = "Examples:\n  cifar-cli bench train-step --batch 512\n  cifar-cli bench kernels --json")]
    Bench(BenchArgs),
    /// What is there, what is missing and what a run will cost
    #[command(after_help = "Example:\n  cifar-cli check    # exit status 1 if something is wrong")]
    Check,
    /// Remove what the stages made, with checkpoints and what searches found; partitions, labels and parameters stay
    #[command(
        after_help = "Example:\n  cifar-cli clean    # removes data/, models/, evaluation/, and checkpoints/, near_duplicates/, study/ and tune/ in .cifar/\n\nCheckpoints and searches that a queued run is at work at stay."
    )]
    Clean,
    /// Write the program and one fingerprint a stage into bin/, as the `build` stage of dvc.yaml does
    #[command(after_help = "Example:\n  cargo run --locked --release -p cifar-cli -- fingerprint")]
    Fingerprint,
}

impl Command {
    /// The name that is typed.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Partition(_) => "partition",
            Self::Pull => "pull",
            Self::Prepare => "prepare",
            Self::Inspect => "inspect",
            Self::Recipe(_) => "recipe",
            Self::Tune => "tune",
            Self::Train(_) => "train",
            Self::Evaluate => "evaluate",
            Self::HardImages(HardImagesArgs { command: Some(HardImagesCommand::Study(_)), .. }) => "study",
            Self::HardImages(_) => "hard-images",
            Self::Labels(_) => "labels",
            Self::Run(_) => "run",
            Self::Experiments(_) => "experiments",
            Self::Report(_) => "report",
            Self::Predict(_) => "predict",
            Self::Bench(_) => "bench",
            Self::Check => "check",
            Self::Clean => "clean",
            Self::Fingerprint => "fingerprint",
        }
    }

    /// Whether its time is printed: that of everything that writes results of stages.
    pub(crate) fn is_timed(&self) -> bool {
        !matches!(
            self,
            Self::Recipe(_) | Self::Experiments(_) | Self::Report(_) | Self::Predict(_) | Self::Bench(_) | Self::Check
        )
    }
}

#[derive(Debug, Args)]
pub(crate) struct PartitionArgs {
    /// Where the images come from: `auto` (`cifar10_dataset` if it is there, else a download, else synthetic), `download`
    /// (the official archive of CIFAR-10, 170 MB), `synthetic`, or a path: class folders of JPEG and PNG files, alone or in
    /// train/ and test/; an archive of CIFAR-10 or CIFAR-100 in its binary or python version, packed or unpacked; parquet
    /// files as Hugging Face has them; or a folder that holds one of these
    #[arg(long, value_name = "SOURCE", default_value = "auto")]
    pub(crate) source: String,
    /// Never use the network: `auto` goes from `cifar10_dataset` to synthetic at once
    #[arg(long)]
    pub(crate) offline: bool,
    /// Another address of the official archive, `cifar-10-binary.tar.gz`; size and MD5 are checked all the same
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Option<String>,
    /// CIFAR-100 by its 20 superclasses instead of its 100 classes
    #[arg(long)]
    pub(crate) coarse_labels: bool,
    /// Leave out files of class folders that are no usable images, and list them, instead of stopping at the first
    #[arg(long)]
    pub(crate) skip_broken: bool,
    /// Size of the synthetic set
    #[arg(long, value_name = "N", default_value_t = 6000, value_parser = clap::value_parser!(u32).range(30..=1_000_000))]
    pub(crate) synthetic_images: u32,
    /// Seed of the synthetic set
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) synthetic_seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct RecipeArgs {
    /// The recipe to write; without it, all are listed
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// Start over instead of going on with the checkpoint of an interrupted run, or taking the result of a finished one
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Seconds from one checkpoint to the next within an epoch; results do not depend on it
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    pub(crate) checkpoint_every: f64,
    /// Go on with a checkpoint that other vector instructions or another target wrote; the result has the bits of neither, and this
    /// run wants the option from then on
    #[arg(long)]
    pub(crate) any_arithmetic: bool,
    /// Write the curves for `TensorBoard` into this folder, too, epoch by epoch
    #[arg(long, value_name = "DIR")]
    pub(crate) tensorboard: Option<PathBuf>,
    /// Train nothing; show the loss of 100 steps while the learning rates grow from a ten-thousandth to a hundred times
    /// those of params.yaml, in `models/learning_rate/`
    #[arg(long, conflicts_with_all = ["fresh", "any_arithmetic", "tensorboard"])]
    pub(crate) find_lr: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("allowed is 0 to 86400 (seconds)".into()),
    }
}

#[derive(Debug, Default, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct HardImagesArgs {
    #[command(subcommand)]
    pub(crate) command: Option<HardImagesCommand>,
    /// Look at no image; hold the measures of the last analysis against this CSV with an `id` and a column of 0/1 or numbers,
    /// and write `evaluation/truth/`
    #[arg(long, value_name = "FILE")]
    pub(crate) truth: Option<PathBuf>,
    /// The column of that file [default: the only one beside `id`]
    #[arg(long, value_name = "NAME", requires = "truth")]
    pub(crate) column: Option<String>,
    /// The measures to hold against it, such as the means over seeds in `experiments/hard_images` [default: the last analysis]
    #[arg(long, value_name = "FILE", requires = "truth")]
    pub(crate) table: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HardImagesCommand {
    /// Does acting on hard images help? Trains with them dropped, weighted down and relabelled, and scores on clean test images
    #[command(
        after_help = "Examples:\n  cifar-cli hard-images study --flip 0.2                      # a fifth of the labels made wrong first\n  \
                            cifar-cli hard-images study --flip 0.2 --to confused        # made the class that each is most taken for\n  \
                            cifar-cli hard-images study                                 # with the wrong labels that labels/ corrects\n  \
                            cifar-cli hard-images study --flip 0.1 --arms base          # only how well the measures find them\n\n\
                            It trains a network for every arm and seed with the recipe of params.yaml; a stop at any moment loses nothing.\n\
                            Results are in evaluation/study/."
    )]
    Study(StudyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StudyArgs {
    /// Share of the training and validation labels to make wrong first [default: what labels/ corrects gets its original label back]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) flip: Option<f64>,
    /// What a wrong label is
    #[arg(long, value_name = "KIND", default_value = "any", requires = "flip")]
    pub(crate) to: FlipTo,
    /// Seeds, each of which every arm is trained under
    #[arg(long, value_name = "SEED,…", value_delimiter = ',', default_values_t = [42, 123, 456])]
    pub(crate) seeds: Vec<u64>,
    /// What to do with flagged images; base, which leaves them be, is always among it [default: all]
    #[arg(long, value_name = "ARM,…", value_delimiter = ',', value_parser = arms())]
    pub(crate) arms: Vec<Arm>,
}

/// What a label becomes that is made wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FlipTo {
    /// Any other class, all alike.
    Any,
    /// The class that the trained network takes validation images of this one for most often.
    Confused,
}

/// A part of the whole that is neither nothing nor all of it.
fn share(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number such as 0.2".to_string())?;
    if number > 0.0 && number < 1.0 { Ok(number) } else { Err("allowed is more than 0 and less than 1".into()) }
}

/// The names of a study's arms.
fn arms() -> impl TypedValueParser<Value = Arm> {
    let names = PossibleValuesParser::new(Arm::ALL.map(Arm::name));
    names.map(|name| Arm::ALL.into_iter().find(|arm| arm.name() == name).unwrap_or(Arm::Base))
}

#[derive(Debug, Args)]
pub(crate) struct LabelsArgs {
    #[command(subcommand)]
    pub(crate) command: LabelsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabelsCommand {
    /// Move lines about images along with their images, and add the content to lines without it
    #[command(
        after_help = "Examples:\n  cifar-cli labels migrate                   # labels/overrides.csv and labels/review.csv\n  \
                            cifar-cli labels migrate truth.csv         # any CSV with a column `id`\n\n\
                            Ids follow the order of the files. After files were added or removed, partition again, then migrate.\n\
                            It reads dataset_partitions/ only."
    )]
    Migrate(MigrateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// CSV files with a column `id` [default: labels/overrides.csv and labels/review.csv]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Leave out lines whose image is no longer there, instead of refusing them
    #[arg(long)]
    pub(crate) drop_missing: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Never use the network, as for `partition`
    #[arg(long)]
    pub(crate) offline: bool,
    /// Partition this source first; without it, only if there are no partitions yet
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// JPEG or PNG files of any size
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// The model [default: models/final/model.safetensors in the project's folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// How many classes to name
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) top: u16,
}
