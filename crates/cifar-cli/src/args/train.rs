//! The command line of `train`.

use std::path::PathBuf;

use clap::Args;

use super::ParamsArgs;

#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[expect(clippy::option_option, reason = "an option with a value that may be left out")]
#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// Continue a finished run for N more epochs; needs train.schedule: constant
    ///
    /// The other parameters stay as they were. The result replaces models/final/, and its model
    /// names the run that it continued.
    #[arg(long, value_name = "N")]
    pub(crate) epochs_more: Option<usize>,
    /// Folder of the finished run to continue [default: models/final in the project folder]
    #[arg(long, value_name = "DIR", requires = "epochs_more")]
    pub(crate) continue_from: Option<PathBuf>,
    /// Start over instead of resuming an interrupted run or keeping a finished one
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Seconds between checkpoints within an epoch; results do not depend on it
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    pub(crate) checkpoint_every: f64,
    /// Resume from a checkpoint of another instruction set or platform; the result has the bits of neither
    #[arg(long)]
    pub(crate) allow_mixed_isa: bool,
    /// The former name of --allow-mixed-isa
    #[arg(long, hide = true)]
    pub(crate) any_arithmetic: bool,
    /// Also write curves for TensorBoard into this folder, after each epoch
    #[arg(long, value_name = "DIR")]
    pub(crate) tensorboard: Option<PathBuf>,
    /// Run a learning-rate range test instead of training; writes models/learning_rate/
    ///
    /// 100 steps, while the learning rate grows from 1/10,000 to 100 times that of params.yaml.
    #[arg(long, conflicts_with_all = ["epochs_more", "fresh", "allow_mixed_isa", "any_arithmetic", "tensorboard"])]
    pub(crate) find_lr: bool,
    /// Draw the first batch as training sees it, instead of training [default file: models/preview.png]
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        conflicts_with_all = ["epochs_more", "fresh", "allow_mixed_isa", "any_arithmetic", "tensorboard", "find_lr"]
    )]
    pub(crate) preview: Option<Option<PathBuf>>,
    #[command(flatten)]
    pub(crate) params: ParamsArgs,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("allowed is 0 to 86400 (seconds)".into()),
    }
}
