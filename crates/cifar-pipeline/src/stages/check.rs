//! `check`: reports which results exist, are missing or do not belong together, and what a run will
//! cost. It changes nothing and starts no program inside the project.

mod consistency;

use std::fmt;
use std::path::Path;

use cifar_data::prepare::PreparedReport;
use cifar_data::splits::Split;
use cifar_data::{Silent, memory};
use cifar_train::Recipe;
use serde::Serialize;

use super::precision::meaning;
use super::training_speed::{Needed, Subject};
use crate::params::Params;
use crate::{Error, Project, Result, ensure, programs};

/// One thing that was checked.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Its name.
    pub what: &'static str,
    /// `ok`, `missing` or `wrong`.
    pub state: &'static str,
    /// What was found.
    pub detail: String,
}

/// The state of a project.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Checked {
    /// The environment, then the results in the order of the stages, then what training costs.
    pub lines: Vec<Line>,
}

impl Checked {
    /// Returns an error if a line is `wrong`.
    ///
    /// # Errors
    /// The number of such lines.
    pub fn result(&self) -> Result<()> {
        let wrong = self.lines.iter().filter(|l| l.state == "wrong").count();
        ensure!(wrong == 0, "{wrong} of the lines above say `wrong`");
        Ok(())
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let row = |l: &Line| format!("{:<12} {:<8} {}", l.what, l.state, l.detail);
        f.write_str(&self.lines.iter().map(row).collect::<Vec<_>>().join("\n"))
    }
}

/// Checks everything. Changes nothing.
///
/// # Errors
/// If params.yaml is missing or wrong.
pub fn run(project: &Project) -> Result<Checked> {
    let params = project.params()?;
    let mut lines = environment(project);
    lines.push(parameters(project, &params));
    lines.extend(data(project, &params));
    lines.extend(cost(project, &params));
    Ok(Checked { lines })
}

fn environment(project: &Project) -> Vec<Line> {
    let ok = |what, detail| Line { what, state: "ok", detail };
    let mut lines = vec![
        ok("program", format!("{} ({}, {})", env!("CARGO_PKG_VERSION"), env!("CIFAR_COMPILER"), env!("CIFAR_TARGET"))),
        match cifar_kernels::numeric_target() {
            Ok(target) => ok("target", target),
            Err(e) => Line { what: "target", state: "wrong", detail: e.to_string() },
        },
        ok("threads", rayon::current_num_threads().to_string()),
    ];
    if let Some((free, total)) = disk_gb(&project.layout.join(".")) {
        // The real data set takes 0.6 GB in all stages, and as much again in DVC's cache.
        let state = if free < 2.0 { "wrong" } else { "ok" };
        lines.push(Line {
            what: "disk",
            state,
            detail: format!("{free:.1} GB free of {total:.1} GB; a run on 60,000 images takes up to 2 GB"),
        });
    }
    lines.push(version(project, "git", "for DVC"));
    lines.push(version(project, "dvc", "for `dvc repro`; scripts/dvc.sh installs it"));
    lines
}

/// Returns the line with the version of a program on the path. A program inside the project is not
/// started, since it may have come with a clone.
fn version(project: &Project, what: &'static str, needed: &str) -> Line {
    let local = project.layout.join(".venv/bin").join(what);
    let root = project.layout.join(".").canonicalize().ok();
    let is_in_project =
        |path: &Path| root.as_ref().is_some_and(|root| path.canonicalize().is_ok_and(|path| path.starts_with(root)));
    let found = Some(local).filter(|path| path.is_file()).or_else(|| programs::find(what));
    let detail = match found {
        None => format!("not found; needed {needed}, not for `cifar-cli run`"),
        Some(path) if is_in_project(path.parent().unwrap_or(&path)) => {
            format!("{}: inside the project, so it is not run to find its version", path.display())
        }
        Some(path) => {
            let answer = std::process::Command::new(&path).arg("--version").output();
            let text =
                answer.ok().filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
            text.map_or_else(
                || format!("{}: does not print its version", path.display()),
                |text| text.trim().to_string(),
            )
        }
    };
    Line { what, state: "ok", detail }
}

/// Checks the parameters against the prepared images. Their ranges were checked when params.yaml
/// was read.
fn parameters(project: &Project, params: &Params) -> Line {
    let file = project.params_file.display();
    let prepared = project.layout.prepared();
    let report = PreparedReport::read(&prepared).ok();
    // A set prepared with other parameters is reported below.
    let report = report.filter(|report| report.check(&prepared, params.dataset_version, &params.split).is_ok());
    let unsuitable = report.and_then(|report| {
        let images = |split| report.images.get(&split).copied().unwrap_or(0);
        let check = params.train.check(images(Split::Train), images(Split::Val), report.size);
        let check = check.and_then(|()| params.train.check_classes(&report.classes)).map_err(Error::from);
        let recipe = Recipe { model: params.model.clone(), train: params.train.clone() };
        check.and_then(|()| project.read_init(recipe, &report).map(|_| ())).err()
    });
    let unsuitable = unsuitable.or_else(|| params.train.init.read(&project.layout.join("")).err().map(Error::from));
    let unsuitable = unsuitable.or_else(|| params.train.check_dynamics().err().map(Error::from));
    match unsuitable {
        Some(problem) => Line { what: "parameters", state: "wrong", detail: format!("{file}: {}", problem.one_line()) },
        None => Line { what: "parameters", state: "ok", detail: file.to_string() },
    }
}

fn data(project: &Project, params: &Params) -> Vec<Line> {
    let layout = &project.layout;
    let mut lines = Vec::new();
    let images = layout.dataset();
    lines.push(if images.is_dir() {
        Line { what: "images", state: "ok", detail: images.display().to_string() }
    } else {
        Line {
            what: "images",
            state: "ok",
            detail: format!(
                "no {}: `partition` would download CIFAR-10 or, without a network, use the SYNTHETIC set",
                images.display()
            ),
        }
    });
    lines.extend(consistency::lines(project, params));
    lines
}

fn missing(what: &'static str, path: &Path, command: &str) -> Line {
    Line { what, state: "missing", detail: format!("{}: `cifar-cli {command}` makes it", path.display()) }
}

/// Returns the memory and time of a run: memory is estimated from the shapes of the network, time
/// is measured over a few steps on the available images.
fn cost(project: &Project, params: &Params) -> Vec<Line> {
    let wrong = |what, e: &dyn std::fmt::Display| Line { what, state: "wrong", detail: e.to_string() };
    let subject = match Subject::of(project, params) {
        Ok(subject) => subject,
        Err(e) => return vec![wrong("cost", &e.one_line())],
    };
    let recipe = Recipe { model: params.model.clone(), train: params.train.clone() };
    let Needed { all: needed, more, images } = match subject.memory(&recipe) {
        Ok(needed) => needed,
        Err(e) => return vec![wrong("memory", &e.one_line())],
    };
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let of = format!("training on {} takes up to {:.2} GB", subject.in_words, gb(needed));
    let memory = match memory::room() {
        Some(room) if room.bytes < more => wrong(
            "memory",
            &format!(
                "{of}, {:.2} GB of it for the images; {:.2} GB are left ({}); lower train.batch_size, model.widths or \
                 train.epochs, or use smaller images",
                gb(images),
                gb(room.bytes),
                room.limit
            ),
        ),
        Some(room) => {
            let detail = format!("{of}; {:.2} GB are left ({})", gb(room.bytes), room.limit);
            Line { what: "memory", state: "ok", detail }
        }
        None => Line { what: "memory", state: "ok", detail: of },
    };
    let precision = match meaning(recipe.train.precision) {
        Ok(None) => None,
        Ok(Some(found)) => Some(Line { what: "precision", state: "ok", detail: found.words }),
        Err(e) => Some(wrong("precision", &e.one_line())),
    };
    if memory.state == "wrong" || precision.as_ref().is_some_and(|line| line.state == "wrong") {
        return std::iter::once(memory).chain(precision).collect();
    }
    let time = match time(&recipe, &subject) {
        Ok(detail) => Line { what: "cost", state: "ok", detail },
        Err(e) => wrong("cost", &e.one_line()),
    };
    std::iter::once(memory).chain(precision).chain([time]).collect()
}

/// Returns how long training takes, from the measured speed.
fn time(recipe: &Recipe, subject: &Subject) -> Result<String> {
    let (train, rate) = (&recipe.train, subject.images_per_second(recipe, &Silent)?);
    let images = subject.counts[0];
    let epochs = train.for_images(images).epochs;
    let raised = if epochs > train.epochs { " (train.min_steps)" } else { "" };
    let minutes = images as f64 * epochs as f64 / rate / 60.0;
    let digits = usize::from(rate < 10.0);
    Ok(format!(
        "{rate:.digits$} training images/s: {epochs} epochs{raised} over {} take about {minutes:.1} minutes",
        subject.in_words
    ))
}

/// Returns free and total disk space at `path` in GB, where the system reports it.
#[cfg(unix)]
fn disk_gb(path: &Path) -> Option<(f64, f64)> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let gb = |blocks: u64| blocks as f64 * stat.f_frsize as f64 / 1e9;
    Some((gb(stat.f_bavail), gb(stat.f_blocks)))
}

/// Returns free and total disk space at `path` in GB, where the system reports it.
#[cfg(not(unix))]
fn disk_gb(_path: &Path) -> Option<(f64, f64)> {
    None
}
