//! `embed`: writes the features of images.

use cifar_data::image_file::find;
use cifar_pipeline::Result;
use cifar_pipeline::stages::embed::{EmbedOptions, Images, SplitName, run as embed};

use super::Context;
use crate::args::{EmbedArgs, EmbedSplit};

pub(super) fn run(context: &Context, args: &EmbedArgs) -> Result<()> {
    let images = match args.split {
        Some(EmbedSplit::Train) => Images::Split(SplitName::Train),
        Some(EmbedSplit::Val) => Images::Split(SplitName::Val),
        Some(EmbedSplit::Test) => Images::Split(SplitName::Test),
        Some(EmbedSplit::Pool) => Images::Split(SplitName::Pool),
        None => Images::Files(find(&args.images)),
    };
    let options = EmbedOptions { model: args.model.clone(), out: args.out.clone() };
    let terminal = context.terminal;
    let mut unreadable = |problem: &cifar_data::DataError| terminal.error(&problem.to_string());
    let embedded = embed(&context.project, &options, images, terminal, &mut unreadable)?;
    terminal.outcome(&embedded);
    embedded.result()
}
