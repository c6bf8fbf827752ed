//! `experiments`: a grid of runs, and what may be concluded from it.

mod dvc;
mod local;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use cifar_data::Monitor as _;
use cifar_data::partitions::Partition;
use cifar_eval::experiments::{self, RunRecord, Runs, Summary, conclusions, summarise};
use serde::Serialize;

use super::{Context, train};
use crate::args::{EngineName, ExperimentsArgs, ExperimentsCommand, GridArgs, GridRunArgs};
use crate::experiments::board::{Board, Row, duration};
use crate::experiments::grid::{self, Run};
use crate::experiments::schedule::{Job, execute};
use crate::lock::ProjectLock;
use crate::run_record::Stopwatch;

/// What a run says while it goes on, in its folder.
const LOG: &str = "log.txt";
/// Why a run failed, in its folder; a run that was only stopped has none.
const FAILED: &str = "failed.txt";
/// Who holds the project's lock.
const LOCKED: &str = "experiments";
/// So many last lines of a failed run's log are shown.
const TAIL: usize = 5;

/// Something that does one run, and leaves its results in the run's folder.
trait Engine: Sync {
    /// Does the run, or goes on with it. `data_ready` is called once others may use the same data.
    fn run(&self, run: &Run, folder: &Path, row: &Row, data_ready: &(dyn Fn() + Sync)) -> Result<()>;

    /// What stands for the data of a run, among the runs of a grid.
    fn data(&self, run: &Run) -> String;
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Finished,
    Failed(String),
    Waiting,
}

/// A run, where it lies and how far it is.
#[derive(Debug)]
struct Entry {
    run: Run,
    folder: PathBuf,
    record: RunRecord,
    state: State,
    cost: f64,
}

pub(super) fn run(context: &Context, args: &ExperimentsArgs) -> Result<()> {
    match &args.command {
        ExperimentsCommand::Run(args) => run_grid(context, args),
        ExperimentsCommand::Summary(args) => {
            let _lock = ProjectLock::take(&context.layout, LOCKED)?;
            conclude(context, &entries(context, args)?)
        }
    }
}

/// `report`: the same files as `experiments summary`; it says where the page is.
pub(super) fn report(context: &Context, args: &GridArgs) -> Result<()> {
    let _lock = ProjectLock::take(&context.layout, LOCKED)?;
    let summary = figures(context, &entries(context, args)?)?;
    let page = context.layout.experiments().join(experiments::REPORT);
    context.terminal.result(&serde_json::json!({"report": page, "runs": summary.runs.len()}), || {
        format!("{}: {} runs of {} combinations", page.display(), summary.runs.len(), summary.combinations.len())
    });
    Ok(())
}

fn run_grid(context: &Context, args: &GridRunArgs) -> Result<()> {
    let entries = entries(context, &args.grid)?;
    if args.dry_run {
        list(context, &entries);
        return Ok(());
    }
    let is_due = |e: &&Entry| match e.state {
        State::Finished => false,
        State::Failed(_) => args.retry,
        State::Waiting => true,
    };
    let due: Vec<&Entry> = entries.iter().filter(is_due).collect();
    let finished = entries.iter().filter(|e| e.state == State::Finished).count();
    context.terminal.say(&format!(
        "{} runs: {finished} finished, {} to do, {} failed earlier{}",
        entries.len(),
        due.len(),
        entries.iter().filter(|e| matches!(e.state, State::Failed(_))).count(),
        if args.retry { " (done again)" } else { "" }
    ));
    let jobs = usize::from(args.jobs);
    let usual = if dvc::is_usable(context) { EngineName::Dvc } else { EngineName::Local };
    let engine: Box<dyn Engine> = match args.engine.unwrap_or(usual) {
        EngineName::Local => Box::new(local::Local::new(context, &due, jobs)),
        // With nothing to do, DVC is not asked for anything.
        EngineName::Dvc if due.is_empty() => Box::new(local::Local::new(context, &due, jobs)),
        EngineName::Dvc => Box::new(dvc::Dvc::new(context, jobs)?),
    };
    let _lock = ProjectLock::take(&context.layout, LOCKED)?;
    work(context, engine.as_ref(), &due, jobs)?;
    context.terminal.check().map_err(|e| {
        anyhow!(e).context("what is finished is kept; run `cifar-cli experiments run` again to go on from here")
    })?;
    let entries = self::entries(context, &args.grid)?;
    if entries.iter().any(|e| e.state == State::Finished) {
        conclude(context, &entries)?;
    }
    tell_failures(context, &entries)
}

/// Figures, report and words over all runs that are finished.
fn conclude(context: &Context, entries: &[Entry]) -> Result<()> {
    let summary = figures(context, entries)?;
    let out = context.layout.experiments();
    context.terminal.result(&summary, || {
        format!(
            "\n{}\n\n{}\nn = {} images of the pool; {}\nfigures: {}\nreport: {}",
            experiments::table(&summary),
            conclusions(&summary).join("\n"),
            summary.pool_images,
            summary.source,
            out.join(experiments::SUMMARY).display(),
            out.join(experiments::REPORT).display()
        )
    });
    Ok(())
}

/// Writes all files over the finished runs.
fn figures(context: &Context, entries: &[Entry]) -> Result<Summary> {
    let (finished, others): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|e| e.state == State::Finished);
    let folders: Vec<PathBuf> = finished.iter().map(|e| e.folder.clone()).collect();
    let runs = Runs::read(&folders)?;
    let summary = summarise(&runs, others.iter().map(|e| e.run.name.clone()).collect());
    experiments::write(&runs, &summary, &context.layout.experiments())?;
    experiments::average_hard_images(&folders, &context.layout.experiments())?;
    strangers(context, entries);
    Ok(summary)
}

/// Runs of another grid may lie beside those of this one: they stay, and are left out.
fn strangers(context: &Context, entries: &[Entry]) {
    let folder = context.layout.experiments().join(experiments::RUNS);
    let names = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.file_name());
    let known = |name: &std::ffi::OsStr| entries.iter().any(|e| *name == *e.run.name);
    let count = names.filter(|name| !known(name)).count();
    if count > 0 {
        context.terminal.say(&format!(
            "{}: {count} other folders are not of this grid; they are left out and left alone",
            folder.display()
        ));
    }
}

/// Does the runs that are due.
fn work(context: &Context, engine: &dyn Engine, due: &[&Entry], jobs: usize) -> Result<()> {
    let costs: Vec<f64> = due.iter().map(|e| e.cost).collect();
    let board = Board::new(context.terminal, &costs);
    let list = due.iter().enumerate().map(|(index, e)| Job { index, data: engine.data(&e.run) }).collect();
    let result = execute(
        list,
        jobs,
        &|job, schedule| {
            let entry = due[job.index];
            let watch = Stopwatch::start();
            let row = board.begin(&entry.run.name, entry.cost);
            let result = one(engine, entry, &row, &|| schedule.data_ready(&job.data));
            row.end();
            let (done, all) = board.ended();
            let seconds = duration(watch.seconds());
            match result {
                Ok(()) => {
                    watch.record(&context.layout, &format!("experiments/{}", entry.run.name));
                    let score = score(&entry.folder).unwrap_or_default();
                    board.line(context.terminal, &format!("[{done}/{all}] {:<30} {score}{seconds}", entry.run.name));
                    Ok(())
                }
                Err(error) if is_cancelled(&error) => Err(error),
                Err(error) => {
                    let reason = crate::one_line(&error);
                    board.line(context.terminal, &format!("[{done}/{all}] {:<30} failed: {reason}", entry.run.name));
                    // On a full disk this fails too, and the run waits like one that was stopped.
                    let path = entry.folder.join(FAILED);
                    if let Err(e) = cifar_data::output::write_file(&path, format!("{reason}\n").as_bytes()) {
                        board.line(context.terminal, &format!("warning: {e}"));
                    }
                    Ok(())
                }
            }
        },
        &|| context.terminal.cancelled(),
    );
    board.clear();
    result.or_else(|error| if is_cancelled(&error) { Ok(()) } else { Err(error) })
}

/// One run, from whatever there is to its record.
fn one(engine: &dyn Engine, entry: &Entry, row: &Row, data_ready: &(dyn Fn() + Sync)) -> Result<()> {
    let folder = &entry.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    match std::fs::remove_file(folder.join(FAILED)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("{}: cannot remove", folder.join(FAILED).display()));
        }
        _ => {}
    }
    engine.run(&entry.run, folder, row, data_ready)?;
    Ok(entry.record.write(folder)?)
}

fn is_cancelled(error: &anyhow::Error) -> bool {
    crate::exit_code(error) == crate::EXIT_INTERRUPTED
}

/// Accuracies of a run, in words.
fn score(folder: &Path) -> Option<String> {
    let text = std::fs::read(folder.join("evaluation/test/metrics.json")).ok()?;
    let metrics: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let accuracy = |set: &str| metrics[set]["accuracy"].as_f64().map(|a| a * 100.0);
    Some(format!("test {:.2} %, pool {:.2} %, ", accuracy("test")?, accuracy("pool")?))
}

/// The log of a run, to go on with.
fn log(folder: &Path) -> Result<std::fs::File> {
    let path = folder.join(LOG);
    std::fs::File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("{}: cannot write the log", path.display()))
}

/// All runs of the grid with their states.
///
/// # Errors
/// If a folder holds a run of the same name that is another one.
fn entries(context: &Context, args: &GridArgs) -> Result<Vec<Entry>> {
    let base = context.params()?;
    let path = args.grid.clone().unwrap_or_else(|| context.layout.grid());
    if !path.exists() {
        ensure!(args.grid.is_none(), "{}: there is no such file", path.display());
        context.terminal.say(&format!("{}: not there; the usual fifteen runs are taken", path.display()));
    }
    let runs = grid::read(&path, &base)?;
    let (data, images) = data(context)?;
    let program = train::program()?;
    let mut entries = Vec::new();
    for run in runs {
        let folder = context.layout.run_of_grid(&run.name);
        let params = run.params.to_json().map_err(|e| anyhow!("{}: {e}", run.name))?;
        let (seed, setting) = (run.params.random_seed, run.setting.clone());
        let record = RunRecord::new(&run.name, &run.combination, seed, setting, params, data.clone(), program.clone());
        let state = match RunRecord::read(&folder)? {
            Some(found) => {
                if let Some(difference) = found.difference(&record) {
                    bail!(
                        "{}: holds another run of this name ({difference}); move the folder away, or take back the change",
                        folder.display()
                    );
                }
                State::Finished
            }
            None => match std::fs::read_to_string(folder.join(FAILED)) {
                Ok(reason) => State::Failed(reason.trim().to_string()),
                Err(_) => State::Waiting,
            },
        };
        let cost = cost(&run, &images);
        entries.push(Entry { run, folder, record, state, cost });
    }
    Ok(entries)
}

/// What stands for the images and labels, and the number of images of each partition.
fn data(context: &Context) -> Result<(String, [usize; 3])> {
    let mut hasher = blake3::Hasher::new();
    let mut images = [0; 3];
    for (partition, images) in Partition::ALL.into_iter().zip(&mut images) {
        let path = context.layout.partitions().join(partition.name()).join("manifest.csv");
        let bytes = std::fs::read(&path).with_context(|| {
            format!("{}: cannot read the partition; run `cifar-cli partition` first, or `dvc pull`", path.display())
        })?;
        *images = String::from_utf8_lossy(&bytes).lines().count();
        hasher.update(blake3::hash(&bytes).as_bytes());
    }
    for labels in [context.layout.overrides(), context.layout.review()] {
        let bytes = std::fs::read(&labels).with_context(|| format!("{}: cannot read", labels.display()))?;
        hasher.update(blake3::hash(&bytes).as_bytes());
    }
    Ok((hasher.finalize().to_hex().to_string(), images))
}

/// Training images × epochs, more or less: for the time that is left.
fn cost(run: &Run, images: &[usize; 3]) -> f64 {
    let split = &run.params.split;
    let chosen = run.params.dataset_version.partitions();
    let all: usize = Partition::ALL.iter().zip(images).filter(|(p, _)| chosen.contains(p)).map(|(_, n)| n).sum();
    let training = all as f64 * (1.0 - split.test_fraction) * (1.0 - split.val_fraction);
    let used = if split.train_images == 0 { training } else { training.min(split.train_images as f64) };
    used * run.params.train.epochs as f64
}

/// `--dry-run`: what would be run.
fn list(context: &Context, entries: &[Entry]) {
    let lines: Vec<serde_json::Value> = entries
        .iter()
        .map(|e| serde_json::json!({"name": e.run.name, "setting": e.run.setting, "state": e.state}))
        .collect();
    context.terminal.result(&lines, || {
        let row = |e: &Entry| {
            let setting: Vec<String> = e.run.setting.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let state = match &e.state {
                State::Finished => "finished".to_string(),
                State::Waiting => "to do".into(),
                State::Failed(reason) => format!("failed: {reason}"),
            };
            format!("{:<30} {state:<10} {}", e.run.name, setting.join(" "))
        };
        entries.iter().map(row).collect::<Vec<_>>().join("\n")
    });
}

/// Names what failed, with the last lines of its log.
fn tell_failures(context: &Context, entries: &[Entry]) -> Result<()> {
    let failed: Vec<&Entry> = entries.iter().filter(|e| matches!(e.state, State::Failed(_))).collect();
    for entry in &failed {
        let path = entry.folder.join(LOG);
        let text = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL)..];
        context.terminal.say(&format!("{}, the end of {}:", entry.run.name, path.display()));
        for line in tail {
            context.terminal.say(&format!("    {line}"));
        }
    }
    if let Some(Entry { run, state: State::Failed(reason), .. }) = failed.first() {
        bail!(
            "{} of {} runs failed, first {}: {reason}; `cifar-cli experiments run --retry` does them again",
            failed.len(),
            entries.len(),
            run.name
        );
    }
    Ok(())
}

/// The last word of a run that fails, into its log as well.
fn log_error(log: &mut std::fs::File, error: &anyhow::Error) {
    let _ = writeln!(log, "error: {}", crate::one_line(error));
}
