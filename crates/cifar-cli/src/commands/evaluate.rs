//! `evaluate`: the trained network on test images.

use anyhow::Result;
use cifar_data::prepare::{PreparedReport, TestSet};
use cifar_eval::evaluate::evaluate;
use cifar_model::Model;

use super::Context;

pub(super) fn run(context: &Context) -> Result<()> {
    let (layout, params) = (&context.layout, context.params()?);
    let report = PreparedReport::read(&layout.prepared())?;
    report.check(&layout.prepared(), params.dataset_version, &params.split)?;
    let model = Model::load(&layout.model_file())?;
    model.expect_trained_on(&report, &layout.model_file())?;
    let history = cifar_train::artifacts::read_history(&layout.history())?;
    let test = TestSet::open(&layout.prepared_test(), report.test_fingerprint())?;
    let pool = TestSet::open(&layout.pool(), &report.pool_fingerprint)?;
    let out = layout.evaluation();
    let curves: Vec<_> = history.iter().map(curve_point).collect();
    let metrics = evaluate(&params.evaluate, &model, &curves, &test, &pool, &out, context.terminal)?;
    context.terminal.result(&metrics, || format!("{}\nresults: {}", metrics.in_words(), out.display()));
    Ok(())
}

/// The part of a record that the plot of the training needs.
fn curve_point(record: &cifar_train::EpochRecord) -> cifar_eval::evaluate::CurvePoint {
    cifar_eval::evaluate::CurvePoint {
        train_loss: record.train_loss,
        train_accuracy: record.train_accuracy,
        val_loss: record.val_loss,
        val_accuracy: record.val_accuracy,
    }
}
