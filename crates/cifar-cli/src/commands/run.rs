//! `run`: all stages in order, in one process. The same functions as the single commands, so the same results.

use anyhow::Result;
use cifar_data::Progress as _;
use cifar_data::partitions::Partition;

use super::{Context, evaluate, hard_images, inspect, partition, prepare, pull, train, tune};
use crate::args::{HardImagesArgs, PartitionArgs, RunArgs, TrainArgs};

pub(super) fn run(context: &Context, args: &RunArgs) -> Result<()> {
    // A mistake in the parameters is better told now than after the images are decoded.
    context.params()?.train.check_dynamics()?;
    let have_partitions = Partition::ALL.iter().all(|p| context.layout.partitions().join(p.name()).is_dir());
    if args.source.is_some() || !have_partitions {
        partition::run(context, &PartitionArgs::of(args.source.clone(), args.offline))?;
    }
    let train = |context: &Context| train::run(context, &TrainArgs::default());
    let hard_images = |context: &Context| hard_images::run(context, &HardImagesArgs::default());
    for stage in [pull::run, prepare::run, inspect::run, tune::run, train, evaluate::run, hard_images] {
        context.terminal.check()?;
        stage(context)?;
    }
    Ok(())
}
