//! `inspect`: what the images are like, whatever network looks at them.

use anyhow::Result;
use cifar_data::prepare::PreparedReport;
use cifar_eval::integrity::{PAGE, inspect};

use super::Context;

pub(super) fn run(context: &Context) -> Result<()> {
    let (layout, params) = (&context.layout, context.params()?);
    let prepared = layout.prepared();
    PreparedReport::read(&prepared)?.check(&prepared, params.dataset_version, &params.split)?;
    let out = layout.inspection();
    let report = inspect(&prepared, &out, context.terminal)?;
    context.terminal.result(&report, || format!("{}\nto look at: {}", report.in_words(), out.join(PAGE).display()));
    Ok(())
}
