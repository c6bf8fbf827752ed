//! `check`: what is there, what is missing, what does not belong together, and what a run will cost. Changes nothing.

mod consistency;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use cifar_data::batches::{epoch_order, training_batch};
use cifar_data::prepare::{PreparedReport, normalisation};
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::splits::Split;
use cifar_model::{Model, ModelSpec};
use cifar_train::Trainer;
use serde::Serialize;

use super::Context;
use crate::params::Params;

/// Images of the timing: a few batches.
const TIMED_IMAGES: usize = 1024;

#[derive(Serialize)]
struct Line {
    what: &'static str,
    /// `ok`, `missing` or `wrong`.
    state: &'static str,
    detail: String,
}

pub(super) fn run(context: &Context) -> Result<()> {
    let params = context.params()?;
    let mut lines = environment(context);
    lines.push(parameters(context, &params));
    lines.extend(data(context, &params));
    lines.push(cost(context, &params)?);
    let wrong = lines.iter().filter(|l| l.state == "wrong").count();
    context.terminal.result(&lines, || {
        let row = |l: &Line| format!("{:<12} {:<8} {}", l.what, l.state, l.detail);
        lines.iter().map(row).collect::<Vec<_>>().join("\n")
    });
    anyhow::ensure!(wrong == 0, "{wrong} of the above is wrong");
    Ok(())
}

fn environment(context: &Context) -> Vec<Line> {
    let ok = |what, detail| Line { what, state: "ok", detail };
    let mut lines = vec![
        ok("program", format!("{} ({}, {})", env!("CARGO_PKG_VERSION"), env!("CIFAR_COMPILER"), env!("CIFAR_TARGET"))),
        match cifar_kernels::arithmetic() {
            Ok(arithmetic) => ok("arithmetic", arithmetic),
            Err(e) => Line { what: "arithmetic", state: "wrong", detail: e.to_string() },
        },
        ok("threads", rayon::current_num_threads().to_string()),
    ];
    if let Some((free, total)) = disk_gb(&context.layout.join(".")) {
        // The real data set takes 0.6 GB in all stages, and as much again in DVC's cache.
        let state = if free < 2.0 { "wrong" } else { "ok" };
        lines.push(Line {
            what: "disk",
            state,
            detail: format!("{free:.1} GB free of {total:.1} GB; a run on 60,000 images takes up to 2 GB"),
        });
    }
    for (what, program, needed) in
        [("git", "git", "for DVC"), ("dvc", "dvc", "for `dvc repro`; scripts/dvc.sh installs it")]
    {
        let local = context.layout.join(".venv/bin").join(program);
        let program = if local.is_file() { local.as_os_str().to_owned() } else { program.into() };
        let answer = std::process::Command::new(program).arg("--version").output();
        let version =
            answer.ok().filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string());
        lines.push(match version {
            Some(version) => ok(what, version),
            None => Line { what, state: "ok", detail: format!("not found; needed {needed}, not for `cifar-cli run`") },
        });
    }
    lines
}

/// What params.yaml says is within its ranges, or it would not have been read; whether it suits the images shows once some are
/// prepared.
fn parameters(context: &Context, params: &Params) -> Line {
    let file = context.params_file.display();
    let prepared = context.layout.prepared();
    let report = PreparedReport::read(&prepared).ok();
    // What was prepared under other parameters is told below.
    let report = report.filter(|report| report.check(&prepared, params.dataset_version, &params.split).is_ok());
    let unsuitable = report.and_then(|report| {
        let images = |split| report.images.get(&split).copied().unwrap_or(0);
        params.train.check(images(Split::Train), images(Split::Val), report.size).err()
    });
    let unsuitable = unsuitable.or_else(|| params.train.check_dynamics().err());
    match unsuitable {
        Some(problem) => Line { what: "parameters", state: "wrong", detail: format!("{file}: {problem}") },
        None => Line { what: "parameters", state: "ok", detail: file.to_string() },
    }
}

fn data(context: &Context, params: &Params) -> Vec<Line> {
    let layout = &context.layout;
    let mut lines = Vec::new();
    let images = layout.dataset();
    lines.push(if images.is_dir() {
        Line { what: "images", state: "ok", detail: images.display().to_string() }
    } else {
        Line {
            what: "images",
            state: "ok",
            detail: format!(
                "no {}: `partition` would fetch CIFAR-10 or, without a network, take the SYNTHETIC set",
                images.display()
            ),
        }
    });
    lines.extend(consistency::lines(context, params));
    lines
}

fn missing(what: &'static str, path: &Path, command: &str) -> Line {
    Line { what, state: "missing", detail: format!("{}: `cifar-cli {command}` makes it", path.display()) }
}

/// Times a few steps of the trainer on drawn images of the right number of classes, and tells what a run will take.
fn cost(context: &Context, params: &Params) -> Result<Line> {
    let set = synthetic::generate(&SyntheticParams { count: TIMED_IMAGES, ..SyntheticParams::default() })?.dataset;
    let spec = ModelSpec {
        params: params.model.clone(),
        classes: set.classes().to_vec(),
        size: set.size(),
        normalisation: normalisation(&set),
    };
    let batch_size = params.train.batch_size.min(TIMED_IMAGES / 4);
    let mut timed = params.train.clone();
    timed.batch_size = batch_size;
    let mut trainer = Trainer::new(Model::new(spec, 0)?, &timed, set.len(), 0)?;
    let order = epoch_order(set.len(), 0, 0);
    let mut seconds = Vec::new();
    for indices in order.chunks_exact(batch_size).take(5) {
        let start = Instant::now();
        let batch = training_batch(&set, indices, &timed.augmentation(), 0, 0);
        trainer.step(&batch, 0)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    // The first step warms up.
    let best = seconds.iter().skip(1).copied().fold(f64::INFINITY, f64::min);
    let rate = batch_size as f64 / best;
    let report = PreparedReport::read(&context.layout.prepared()).ok();
    let images = report.and_then(|r| r.images.get(&Split::Train).copied());
    let (images, whose) = images.map_or((42_000, "the 42,000 training images of v1+v2+v3 of CIFAR-10"), |n| {
        (n, "the prepared training images")
    });
    let minutes = images as f64 * params.train.epochs as f64 / rate / 60.0;
    let detail = format!(
        "{rate:.0} training images/s: {} epochs over {whose} take about {minutes:.1} minutes",
        params.train.epochs
    );
    Ok(Line { what: "cost", state: "ok", detail })
}

/// Free and total space where `path` lies, in GB, where the system tells it.
#[cfg(unix)]
fn disk_gb(path: &Path) -> Option<(f64, f64)> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let gb = |blocks: u64| blocks as f64 * stat.f_frsize as f64 / 1e9;
    Some((gb(stat.f_bavail), gb(stat.f_blocks)))
}

/// Free and total space where `path` lies, in GB, where the system tells it.
#[cfg(not(unix))]
fn disk_gb(_path: &Path) -> Option<(f64, f64)> {
    None
}
