//! What can be typed behind `bench`.

use std::path::PathBuf;

use cifar_kernels::Isa;
use cifar_model::Architecture;
use clap::{Args, Subcommand};

/// `bench` and what it is to measure.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) subject: BenchCommand,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// A training step as `train` does it: batch, forward, backward, update
    #[command(after_help = "Examples:\n  cifar-cli bench train-step --batch 512 --steps 20\n  \
                      cifar-cli bench train-step --architecture simple_cnn --threads 1 --arm avx2 --json\n\n\
                      Operations are counted as those of direct convolutions, the gradients as twice the forward pass. \
                      Fast algorithms do with fewer, so the share of the peak may exceed 100 %.")]
    TrainStep(StepArgs),
    /// A forward pass as `evaluate` does it: batch, normalisation, logits
    #[command(after_help = "Examples:\n  cifar-cli bench inference --batch 250 --steps 50\n  \
                            cifar-cli bench inference --architecture simple_cnn --json")]
    Inference(StepArgs),
    /// Reading and decoding image files as `partition` does it
    #[command(
        after_help = "Examples:\n  cifar-cli bench decode                              # drawn images, as JPEG\n  \
                            cifar-cli bench decode --source /data/cifar10       # class folders"
    )]
    Decode(DecodeArgs),
    /// Every convolution of a network by itself: forward pass and both gradients
    #[command(after_help = "Examples:\n  cifar-cli bench kernels --batch 128\n  \
                            cifar-cli bench kernels --architecture simple_cnn --arm portable --json")]
    Kernels(NetworkArgs),
}

/// A network and how it is run.
#[derive(Debug, Args)]
pub(crate) struct NetworkArgs {
    /// The network, by its name in params.yaml
    #[arg(long, value_name = "NAME", default_value = "simple_cnn", value_parser = architecture)]
    pub(crate) architecture: Architecture,
    /// Images a batch
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch: u32,
    /// Vector instructions: avx512, avx2 or portable [default: the fastest that this processor has]
    #[arg(long, value_name = "NAME")]
    pub(crate) arm: Option<Isa>,
}

/// A network and how often it is run.
#[derive(Debug, Args)]
pub(crate) struct StepArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Timed steps, behind a few that warm up
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) steps: u32,
}

/// Files and how often they are read.
#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// Class folders, as for `partition` [default: drawn images, written as JPEG to a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) source: Option<PathBuf>,
    /// How many images to draw where there is no source
    #[arg(long, value_name = "N", default_value_t = 6000, conflicts_with = "source",
          value_parser = clap::value_parser!(u32).range(30..=1_000_000))]
    pub(crate) images: u32,
    /// How often to read them all
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
}

/// An architecture by its name in params.yaml; the error tells which there are.
fn architecture(name: &str) -> Result<Architecture, String> {
    serde_json::from_value(serde_json::Value::from(name)).map_err(|e| e.to_string())
}
