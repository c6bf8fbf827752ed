//! `bench inference`: batch, normalisation and forward pass, as in validation and evaluation.

use cifar_data::batches::evaluation_batch;
use cifar_model::{Mode, ModelError};
use cifar_pipeline::Result;
use serde::Serialize;

use super::laps::{Laps, WARM_UP_STEPS};
use super::subject::{self, Purpose};
use super::{Context, arithmetic_row, memory_rows, network_row, peak, row, use_isa};
use crate::args::StepArgs;
use cifar_pipeline::resources::peak_memory_mb;

/// The measured speed of a batch. The names are the keys of the JSON object.
#[derive(Debug, Serialize)]
struct Report {
    architecture: &'static str,
    batch: u32,
    threads: usize,
    isa: &'static str,
    precision: &'static str,
    /// Median.
    ms_per_batch: f64,
    ms_min: f64,
    images_per_s: f64,
    /// 10⁹ operations per second, counted as direct convolutions; a multiply-add is two.
    gflops_direct_equivalent: f64,
    peak_gflops: f64,
    peak_rss_mb: Option<f64>,
    page_faults_per_batch: Option<f64>,
    warm_up_steps: usize,
}

pub(super) fn run(context: &Context, args: &StepArgs) -> Result<()> {
    let isa = use_isa(args.network.isa)?;
    let mut model = subject::network(&args.network)?;
    model.set_precision(args.precision);
    let count = subject::image_count(args);
    subject::refuse_beyond_memory(&args.network, &model, count, Purpose::Inference)?;
    let flops: f64 = model.summary().iter().map(|layer| layer.flops as f64).sum();
    let images = subject::draw(count)?;
    model.prepare(&images)?;

    let batch = args.network.batch as usize;
    let before = peak()?;
    let mut laps = Laps::start(context.terminal, "forward passes", args.steps as usize);
    for start in (0..images.len()).step_by(batch).cycle() {
        let batch = evaluation_batch(&images, start, batch);
        // Reading the values ensures that the computation is complete.
        let logits = model.forward(&batch.pixels, &Mode::Evaluate)?;
        logits.flatten_all().and_then(|logits| logits.to_vec1::<f32>()).map_err(ModelError::from)?;
        if laps.lap()?.is_break() {
            break;
        }
    }
    let measured = laps.finish();
    context.terminal.clear();
    let images_per_s = f64::from(args.network.batch) / measured.ms * 1e3;
    let report = Report {
        architecture: args.network.architecture.name(),
        batch: args.network.batch,
        threads: rayon::current_num_threads(),
        isa: isa.name(),
        precision: args.precision.resolved().name(),
        ms_per_batch: measured.ms,
        ms_min: measured.ms_min,
        images_per_s,
        gflops_direct_equivalent: flops * images_per_s / 1e9,
        peak_gflops: before.max(peak()?),
        peak_rss_mb: peak_memory_mb(),
        page_faults_per_batch: measured.page_faults,
        warm_up_steps: WARM_UP_STEPS,
    };
    context.terminal.result(&report, || in_words(&report, args.steps));
    Ok(())
}

fn in_words(report: &Report, steps: u32) -> String {
    let mut rows = vec![
        network_row(
            report.architecture,
            report.batch,
            report.threads,
            &format!("{}, {}", report.isa, report.precision),
        ),
        row("batch", &format!("{:.2} ms (minimum {:.2}; median of {steps})", report.ms_per_batch, report.ms_min)),
        row("speed", &format!("{:.0} images/s", report.images_per_s)),
        arithmetic_row(report.gflops_direct_equivalent, report.peak_gflops),
    ];
    rows.extend(memory_rows(report.peak_rss_mb, report.page_faults_per_batch, "batch"));
    rows.join("\n")
}
