//! `hard-images`: ranks images, compares the ranking with labels, or measures its benefit.

use cifar_pipeline::Result;
use cifar_pipeline::stages::given_predictions::{self, GivenOptions};
use cifar_pipeline::stages::study::{self, StudyOptions};
use cifar_pipeline::stages::truth::{self, TruthOptions};

use super::Context;
use crate::args::{HardImagesArgs, HardImagesCommand};

pub(super) fn run(context: &Context, args: &HardImagesArgs) -> Result<()> {
    let (project, terminal) = (&context.project, context.terminal);
    if let Some(HardImagesCommand::Study(args)) = &args.command {
        let options =
            StudyOptions { flip: args.flip, to: args.to.into(), seeds: args.seeds.clone(), arms: args.arms.clone() };
        terminal.outcome(&project.locked("study", terminal, || study::run(project, &options, terminal))?);
    } else if let Some(file) = &args.predictions {
        let options = GivenOptions { file: file.clone(), out_of_fold: args.out_of_fold };
        let rank = || given_predictions::run(project, &options, terminal);
        terminal.outcome(&project.locked("hard-images", terminal, rank)?);
    } else if let Some(file) = &args.truth {
        let options = TruthOptions { file: file.clone(), column: args.column.clone(), table: args.table.clone() };
        terminal.outcome(&project.locked("hard-images", terminal, || truth::run(project, &options, terminal))?);
    } else {
        terminal.outcome(&project.hard_images(terminal)?);
    }
    Ok(())
}
