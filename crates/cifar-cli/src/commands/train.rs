//! `train`: trains the network, or runs the learning-rate range test.

use std::time::Duration;

use cifar_experiments::epochs::EVENTS_VARIABLE;
use cifar_pipeline::stages::train::{Longer, find_learning_rate, preview};
use cifar_pipeline::{Result, TrainOptions};

use cifar_data::Progress as _;

use super::Context;
use crate::args::TrainArgs;

pub(super) fn run(context: &Context, args: &TrainArgs) -> Result<()> {
    let (project, terminal) = (&context.project, context.terminal);
    if args.find_lr {
        terminal.outcome(&project.locked("train", terminal, || find_learning_rate(project, terminal))?);
        return Ok(());
    }
    if let Some(file) = &args.preview {
        terminal.outcome(&project.locked("preview", terminal, || preview(project, file.as_deref(), terminal))?);
        return Ok(());
    }
    if args.any_arithmetic {
        terminal.warn("--any-arithmetic is now called --allow-mixed-isa");
    }
    let longer = args.epochs_more.map(|epochs_more| Longer { folder: args.continue_from.clone(), epochs_more });
    let options = TrainOptions {
        longer,
        fresh: args.fresh,
        checkpoint_every: Duration::from_secs_f64(args.checkpoint_every),
        allow_mixed_isa: args.allow_mixed_isa || args.any_arithmetic,
        tensorboard: args.tensorboard.clone(),
        // Set by `experiments run` to follow the training runs that DVC starts.
        events: std::env::var_os(EVENTS_VARIABLE).map(Into::into),
        keep_other_checkpoints: false,
    };
    terminal.outcome(&project.train(&options, terminal)?);
    Ok(())
}
