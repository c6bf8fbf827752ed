//! `bench train-step`: the trainer's step, on freshly augmented batches.

use cifar_pipeline::Result;
use cifar_train::{Schedule, TrainParams, Trainer};
use serde::Serialize;

use super::laps::{Laps, WARM_UP_STEPS};
use super::subject::{self, Purpose};
use super::{Context, arithmetic_row, memory_rows, network_row, peak, row, use_isa};
use crate::args::StepArgs;
use cifar_pipeline::resources::peak_memory_mb;

/// Forward passes to which a training step is equivalent: the gradients with respect to a layer's
/// input and to its weights each take as many operations as its forward pass. (The first layer
/// needs no gradient of its input, which is less than 1 % in a network for 32×32 pixels.)
const FORWARD_PASSES: f64 = 3.0;
/// Images per epoch for the reported epoch time: those of CIFAR-10's published training set.
const EPOCH_IMAGES: f64 = 50_000.0;

/// The measured speed of a step. The names are the keys of the JSON object.
#[derive(Debug, Serialize)]
struct Report {
    architecture: &'static str,
    batch: u32,
    threads: usize,
    isa: &'static str,
    precision: &'static str,
    /// Median, from the end of one step to the end of the next.
    ms_per_step: f64,
    ms_min: f64,
    images_per_s: f64,
    /// 10⁹ operations per second, counted as direct convolutions and three forward passes per step;
    /// a multiply-add is two.
    gflops_direct_equivalent: f64,
    peak_gflops: f64,
    peak_rss_mb: Option<f64>,
    /// Loss of the last step, in nats.
    loss: f32,
    page_faults_per_step: Option<f64>,
    warm_up_steps: usize,
}

pub(super) fn run(context: &Context, args: &StepArgs) -> Result<()> {
    let isa = use_isa(args.network.isa)?;
    let model = subject::network(&args.network)?;
    let count = subject::image_count(args);
    subject::refuse_beyond_memory(&args.network, &model, count, Purpose::Training)?;
    let flops = FORWARD_PASSES * model.summary().iter().map(|layer| layer.flops as f64).sum::<f64>();
    let images = subject::draw(count)?;
    model.prepare(&images)?;

    let params = recipe(args);
    let mut trainer = Trainer::new(model, &params, images.len(), 0)?;
    let before = peak()?;
    let mut laps = Laps::start(context.terminal, "training steps", args.steps as usize);
    let mut loss = f32::NAN;
    trainer.steps(&images, usize::MAX, |_, step| {
        loss = step.loss;
        Ok(laps.lap()?)
    })?;
    let measured = laps.finish();
    context.terminal.clear();
    let images_per_s = f64::from(args.network.batch) / measured.ms * 1e3;
    let report = Report {
        architecture: args.network.architecture.name(),
        batch: args.network.batch,
        threads: rayon::current_num_threads(),
        isa: isa.name(),
        precision: args.precision.resolved().name(),
        ms_per_step: measured.ms,
        ms_min: measured.ms_min,
        images_per_s,
        gflops_direct_equivalent: flops * images_per_s / 1e9,
        peak_gflops: before.max(peak()?),
        peak_rss_mb: peak_memory_mb(),
        loss,
        page_faults_per_step: measured.page_faults,
        warm_up_steps: WARM_UP_STEPS,
    };
    context.terminal.result(&report, || in_words(&report, args.steps));
    Ok(())
}

/// Returns a recipe whose loss never diverges, for any number of steps. The time of a step does not
/// depend on the rates.
fn recipe(args: &StepArgs) -> TrainParams {
    TrainParams {
        epochs: WARM_UP_STEPS + args.steps as usize,
        batch_size: args.network.batch as usize,
        learning_rate: 0.005,
        schedule: Schedule::Constant,
        warmup_epochs: 0.0,
        label_smoothing: 0.2,
        precision: args.precision,
        ..TrainParams::default()
    }
}

fn in_words(report: &Report, steps: u32) -> String {
    let mut rows = vec![
        network_row(
            report.architecture,
            report.batch,
            report.threads,
            &format!("{}, {}", report.isa, report.precision),
        ),
        row("step", &format!("{:.2} ms (minimum {:.2}; median of {steps})", report.ms_per_step, report.ms_min)),
        row("speed", &format!("{:.0} images/s", report.images_per_s)),
        row("epoch", &format!("{:.1} s for {EPOCH_IMAGES:.0} images", EPOCH_IMAGES / report.images_per_s)),
        arithmetic_row(report.gflops_direct_equivalent, report.peak_gflops),
        row("loss", &format!("{:.4} after the last step, on synthetic images", report.loss)),
    ];
    rows.extend(memory_rows(report.peak_rss_mb, report.page_faults_per_step, "step"));
    rows.join("\n")
}
