//! The command line of `bench`.

use std::path::PathBuf;

use cifar_kernels::Isa;
use cifar_model::{Architecture, Precision};
use clap::{Args, Subcommand};

/// `bench` and its benchmarks.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) subject: BenchCommand,
}

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Time a training step: batch, forward, backward, update
    #[command(after_help = "Examples:\n  cifar-cli bench train-step --batch 512 --steps 20\n  \
                      cifar-cli bench train-step --architecture simple_cnn --threads 1 --isa avx2 --json\n\n\
                      Operations are counted as those of direct convolutions, and gradients as twice the forward pass. \
                      Faster algorithms need fewer, so the fraction of the peak may exceed 100 %.")]
    TrainStep(StepArgs),
    /// Time a forward pass: batch, normalisation, logits
    #[command(after_help = "Examples:\n  cifar-cli bench inference --batch 250 --steps 50\n  \
                            cifar-cli bench inference --architecture simple_cnn --json")]
    Inference(StepArgs),
    /// Time reading and decoding image files
    #[command(
        after_help = "Examples:\n  cifar-cli bench decode                              # synthetic images, as JPEG\n  \
                            cifar-cli bench decode --source /data/cifar10       # class folders"
    )]
    Decode(DecodeArgs),
    /// Time each convolution of a network: forward pass and both gradients
    #[command(after_help = "Examples:\n  cifar-cli bench kernels --batch 128\n  \
                            cifar-cli bench kernels --architecture simple_cnn --isa portable --json")]
    Kernels(NetworkArgs),
}

/// A network and how it is run.
#[derive(Debug, Args)]
pub(crate) struct NetworkArgs {
    /// Network, by its name in params.yaml
    #[arg(long, value_name = "NAME", default_value = "simple_cnn", value_parser = architecture)]
    pub(crate) architecture: Architecture,
    /// Images per batch
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch: u32,
    /// Instruction set: avx512, avx2 or portable [default: the fastest of this processor]
    #[arg(long, value_name = "NAME", alias = "arm")]
    pub(crate) isa: Option<Isa>,
}

/// A network and how often it is run.
#[derive(Debug, Args)]
pub(crate) struct StepArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Precision of products: f32, bf16 or auto (bf16 on processors with AMX)
    #[arg(long, value_name = "NAME", default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
    /// Number of timed steps, after a few for warm-up
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) steps: u32,
}

/// Files and how often they are read.
#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// Class folders [default: synthetic images, written as JPEG to a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) source: Option<PathBuf>,
    /// Number of synthetic images if there is no source
    #[arg(long, value_name = "N", default_value_t = 6000, conflicts_with = "source",
          value_parser = clap::value_parser!(u32).range(30..=1_000_000))]
    pub(crate) images: u32,
    /// Number of passes over all images
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
}

/// Parses an architecture by its name in params.yaml. The error lists all names.
fn architecture(name: &str) -> Result<Architecture, String> {
    serde_json::from_value(serde_json::Value::from(name)).map_err(|e| e.to_string())
}
