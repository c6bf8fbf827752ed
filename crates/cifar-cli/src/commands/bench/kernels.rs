//! `bench kernels`: the convolutions of a network, one by one, without tensors and without batch
//! norm between them.

use std::time::{Duration, Instant};

use cifar_data::Progress as _;
use cifar_kernels::{
    Conv2dShape, conv2d_backward, conv2d_forward, conv2d_input_gradient, conv2d_max_pool_forward,
    conv2d_weight_gradient,
};
use cifar_pipeline::Result;
use serde::Serialize;

use super::laps::median_and_least;
use super::layers::{ConvLayer, convolutions};
use super::subject::{self, Purpose};
use super::{Context, network_row, peak, row, use_isa};
use crate::args::NetworkArgs;

/// A kernel is repeated until it has run for this long in total, or this many times.
const TIME_EACH: Duration = Duration::from_millis(300);
const MOST_TURNS: usize = 50;

/// The measured speed of a network's kernels. The names are the keys of the JSON object.
#[derive(Debug, Serialize)]
struct Report {
    architecture: &'static str,
    batch: u32,
    threads: usize,
    isa: &'static str,
    peak_gflops: f64,
    layers: Vec<LayerReport>,
}

/// The measured speed of a layer. Gradients that training does not need are none: those of the
/// images and of fixed filters.
#[derive(Debug, Serialize)]
struct LayerReport {
    name: String,
    dimensions: String,
    /// Operations of the forward pass for the batch; a multiply-add is two.
    flops: u64,
    forward: Timing,
    input_gradient: Option<Timing>,
    weight_gradient: Option<Timing>,
    /// The required gradients, in one call.
    backward: Option<Timing>,
    /// Forward pass and gradients fused with the 2×2 maximum that follows in the network.
    pooled: Option<[Timing; 2]>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Timing {
    /// Median.
    ms: f64,
    /// Speed, counted as a direct convolution.
    gflops: f64,
}

pub(super) fn run(context: &Context, args: &NetworkArgs) -> Result<()> {
    let isa = use_isa(args.isa)?;
    let model = subject::network(args)?;
    subject::refuse_beyond_memory(args, &model, 0, Purpose::Kernels)?;
    let convolutions = convolutions(&model)?;
    drop(model);
    let before = peak()?;
    let total = convolutions.len() as u64;
    let mut layers = Vec::new();
    for layer in &convolutions {
        context.terminal.check()?;
        context.terminal.update("layers", layers.len() as u64, total);
        layers.push(measure(layer, args.batch as usize)?);
    }
    context.terminal.clear();
    let report = Report {
        architecture: args.architecture.name(),
        batch: args.batch,
        threads: rayon::current_num_threads(),
        isa: isa.name(),
        peak_gflops: before.max(peak()?),
        layers,
    };
    context.terminal.result(&report, || in_words(&report));
    Ok(())
}

/// Arguments and results of a layer's kernels.
struct Arrays {
    input: Vec<f32>,
    weight: Vec<f32>,
    output: Vec<f32>,
    output_grad: Vec<f32>,
    input_grad: Vec<f32>,
    weight_grad: Vec<f32>,
}

fn measure(layer: &ConvLayer, batch: usize) -> Result<LayerReport> {
    let shape = layer.shape(batch)?;
    let mut arrays = Arrays {
        input: values(shape.input_len()),
        weight: values(shape.weight_len()),
        output: vec![0.0; shape.output_len()],
        output_grad: values(shape.output_len()),
        input_grad: vec![0.0; shape.input_len()],
        weight_grad: vec![0.0; shape.weight_len()],
    };
    let Arrays { input, weight, output, output_grad, input_grad, weight_grad } = &mut arrays;
    let flops = shape.flops_forward();
    let gradients = u64::from(!layer.reads_images) + u64::from(layer.trained);
    let forward = time(flops, || conv2d_forward(&shape, input, weight, None, output))?;
    let input_gradient = (!layer.reads_images)
        .then(|| time(flops, || conv2d_input_gradient(&shape, output_grad, weight, input_grad)))
        .transpose()?;
    let weight_gradient = (layer.trained)
        .then(|| time(flops, || conv2d_weight_gradient(&shape, input, output_grad, weight_grad)))
        .transpose()?;
    let mut both = || {
        let input_grad = (!layer.reads_images).then_some(&mut input_grad[..]);
        let weight_grad = layer.trained.then_some(&mut weight_grad[..]);
        conv2d_backward(&shape, input, weight, output_grad, None, input_grad, weight_grad)
    };
    let backward = (gradients > 0).then(|| time(gradients * flops, &mut both)).transpose()?;
    let pooled = layer.pooled.then(|| measure_pooled(&shape, &mut arrays)).transpose()?;
    Ok(LayerReport {
        name: layer.name.clone(),
        dimensions: layer.dimensions(),
        flops,
        forward,
        input_gradient,
        weight_gradient,
        backward,
        pooled,
    })
}

/// Measures the layer fused with the 2×2 maximum after it: forward, and both gradients in one call.
fn measure_pooled(shape: &Conv2dShape, arrays: &mut Arrays) -> Result<[Timing; 2]> {
    let Arrays { input, weight, output, output_grad, input_grad, weight_grad } = arrays;
    let flops = shape.flops_forward();
    let len = shape.pool()?.output_len();
    let mut places = vec![0; len];
    let forward = time(flops, || conv2d_max_pool_forward(shape, input, weight, &mut output[..len], &mut places))?;
    let backward = time(2 * flops, || {
        let (input_grad, weight_grad) = (Some(&mut input_grad[..]), Some(&mut weight_grad[..]));
        conv2d_backward(shape, input, weight, &output_grad[..len], Some(&places), input_grad, weight_grad)
    })?;
    Ok([forward, backward])
}

/// Runs a kernel once to warm up, then repeatedly.
fn time(flops: u64, mut kernel: impl FnMut() -> cifar_kernels::Result<()>) -> Result<Timing> {
    kernel()?;
    let (started, mut seconds) = (Instant::now(), Vec::new());
    while seconds.is_empty() || (started.elapsed() < TIME_EACH && seconds.len() < MOST_TURNS) {
        let turn = Instant::now();
        kernel()?;
        seconds.push(turn.elapsed().as_secs_f64());
    }
    let (median, _) = median_and_least(seconds);
    Ok(Timing { ms: median * 1e3, gflops: flops as f64 / median / 1e9 })
}

/// Returns values between −1 and 1, none of them subnormal, which would slow processors down.
fn values(len: usize) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 21) as f32 / 1024.0 - 0.9997).collect()
}

fn in_words(report: &Report) -> String {
    let cell = |timing: Option<Timing>| match timing {
        Some(Timing { ms, gflops }) => format!("{ms:>10.3}{gflops:>7.0}"),
        None => format!("{:>10}{:>7}", "–", ""),
    };
    let line = |name: &str, dimensions: &str, cells: [Option<Timing>; 4]| {
        format!("{name:<24}{dimensions:<26}{}", cells.map(cell).concat()).trim_end().to_string()
    };
    let mut lines = vec![
        network_row(report.architecture, report.batch, report.threads, report.isa),
        row("peak", &format!("{:.0} GFLOP/s", report.peak_gflops)),
        String::new(),
        format!(
            "{:<24}{:<26}{:>17}{:>17}{:>17}{:>17}",
            "ms and GFLOP/s", "channels, input, filter", "forward", "input gradient", "weight gradient", "both"
        ),
    ];
    for layer in &report.layers {
        let LayerReport { forward, input_gradient, weight_gradient, backward, .. } = layer;
        let cells = [Some(*forward), *input_gradient, *weight_gradient, *backward];
        lines.push(line(&layer.name, &layer.dimensions, cells));
        if let Some([forward, backward]) = layer.pooled {
            lines.push(line("", "  with 2×2 maximum", [Some(forward), None, None, Some(backward)]));
        }
    }
    lines.join("\n")
}
