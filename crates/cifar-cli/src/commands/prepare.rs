//! `prepare`: train, validation and test sets.

use anyhow::Result;
use cifar_data::prepare::prepare;
use cifar_data::splits::Split;

use super::Context;

pub(super) fn run(context: &Context) -> Result<()> {
    let (layout, params) = (&context.layout, context.params()?);
    let out = layout.prepared();
    let (raw, overrides, review) = (layout.raw(), layout.overrides(), layout.review());
    let report = prepare(&raw, &overrides, &review, params.dataset_version, &params.split, &out, context.terminal)?;
    context.terminal.result(&report, || {
        let images = |split| report.images.get(&split).copied().unwrap_or(0);
        format!(
            "{}: {} images for training, {} for validation, {} for test; {} labels overridden, {} changed and {} images dropped by review",
            out.display(),
            images(Split::Train),
            images(Split::Val),
            images(Split::Test),
            report.overrides.changed,
            report.review.changed,
            report.review.dropped
        )
    });
    Ok(())
}
