//! `pull`: the chosen partitions, joined, and the evaluation pool.

use anyhow::Result;
use cifar_data::pull::pull;

use super::Context;

pub(super) fn run(context: &Context) -> Result<()> {
    let (layout, params) = (&context.layout, context.params()?);
    let known = layout.near_duplicates();
    let (partitions, out) = (layout.partitions(), layout.raw());
    let record = pull(&partitions, params.dataset_version, &params.split, Some(&known), &out, context.terminal)?;
    context.terminal.result(&record, || {
        format!(
            "{}: {} images of {} ({}); evaluation pool of {} images; {} groups of duplicates over all partitions",
            layout.raw().display(),
            record.images,
            record.dataset_version,
            record.source.description,
            record.pool_images,
            record.duplicate_groups
        )
    });
    Ok(())
}
