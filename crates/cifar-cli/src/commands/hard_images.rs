//! `hard-images`: the images that the network finds hard, ranked and drawn.

use anyhow::Result;
use cifar_data::prepare::{TestSet, TrainingData};
use cifar_eval::hard_images::identify;
use cifar_model::Model;

use super::Context;

pub(super) fn run(context: &Context) -> Result<()> {
    let (layout, params) = (&context.layout, context.params()?);
    let prepared = layout.prepared();
    let data = TrainingData::open(&prepared)?;
    data.report.check(&prepared, params.dataset_version, &params.split)?;
    let model = Model::load(&layout.model_file())?;
    let test = TestSet::open(&layout.prepared_test(), data.report.test_fingerprint())?;
    let predictions = layout.evaluation().join(cifar_eval::predictions::PREDICTIONS);
    let out = layout.hard_images();
    let summary = identify(&params.hard_images, &model, &data, &test, &predictions, &out, context.terminal)?;
    context.terminal.result(&summary, || format!("{}\nresults: {}", summary.in_words(), out.display()));
    Ok(())
}
