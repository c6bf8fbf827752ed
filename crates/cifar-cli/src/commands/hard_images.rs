//! `hard-images`: the images that the network finds hard, ranked and drawn.

use anyhow::Result;
use cifar_data::labels::read_review;
use cifar_data::prepare::{REVIEW, TestSet, TrainingData, read_pairs};
use cifar_eval::hard_images::{HARD_IMAGES, Inputs, identify};
use cifar_eval::truth;
use cifar_model::Model;
use cifar_train::Dynamics;

use super::Context;
use crate::args::HardImagesArgs;

pub(super) fn run(context: &Context, args: &HardImagesArgs) -> Result<()> {
    let (layout, params) = (&context.layout, context.params()?);
    if let Some(file) = &args.truth {
        let table = layout.hard_images().join(HARD_IMAGES);
        let out = layout.truth();
        let judged = truth::judge(&table, file, args.column.as_deref(), params.random_seed, &out)?;
        context.terminal.result(&judged, || format!("{}\nresults: {}", truth::in_words(&judged), out.display()));
        return Ok(());
    }
    let prepared = layout.prepared();
    let data = TrainingData::open(&prepared)?;
    data.report.check(&prepared, params.dataset_version, &params.split)?;
    let model = Model::load(&layout.model_file())?;
    let test = TestSet::open(&layout.prepared_test(), data.report.test_fingerprint())?;
    let predictions = layout.evaluation().join(cifar_eval::predictions::PREDICTIONS);
    let dynamics = Dynamics::read(&layout.dynamics(), &layout.model_file(), &data.train, &data.val)?;
    let inputs = Inputs {
        model: &model,
        dynamics: &dynamics,
        data: &data,
        test: &test,
        test_predictions: &predictions,
        pairs: &read_pairs(&prepared)?.into_iter().map(|placed| placed.pair).collect::<Vec<_>>(),
        review: &read_review(&prepared.join(REVIEW), data.train.classes())?,
    };
    let out = layout.hard_images();
    let summary = identify(&params.hard_images, &inputs, &out, context.terminal)?;
    context.terminal.result(&summary, || format!("{}\nresults: {}", summary.in_words(), out.display()));
    Ok(())
}
