//! `experiments`: a grid of runs, and what may be concluded from it.

mod dvc;
mod entries;
mod local;
mod memory;
mod slurm;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow, bail};
use cifar_data::Monitor as _;
use cifar_eval::experiments::{self, Runs, Summary, conclusions, summarise};

use self::entries::{Entry, State, data, entries, grid};
use super::Context;
use crate::args::{EngineName, ExperimentsArgs, ExperimentsCommand, GridArgs, GridRunArgs};
use crate::experiments::board::{Board, Row, duration};
use crate::experiments::grid::Run;
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

pub(super) fn run(context: &Context, args: &ExperimentsArgs) -> Result<()> {
    match &args.command {
        ExperimentsCommand::Run(args) => run_grid(context, args),
        ExperimentsCommand::Task(args) => slurm::task::run(context, args),
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
    if grid(context, &args.grid)?.constant_steps.is_some() {
        context.terminal.say(&constant_steps(&entries));
    }
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
    let usual = if dvc::is_usable(context) { EngineName::Dvc } else { EngineName::Local };
    // Whoever has nothing to do asks neither DVC nor Slurm for anything.
    let engine = if due.is_empty() { EngineName::Local } else { args.engine.unwrap_or(usual) };
    let (_lock, cancelled, failures) = match engine {
        EngineName::Slurm => {
            let params = grid(context, &args.grid)?.slurm;
            let queue = slurm::Queue::find()?;
            let lock = ProjectLock::take(&context.layout, LOCKED)?;
            (lock, slurm::work(context, &queue, &params, args.jobs, &due)?, BTreeMap::new())
        }
        engine => {
            let jobs = usize::from(args.jobs.unwrap_or(1));
            memory::check(context, &due, jobs)?;
            let engine: Box<dyn Engine> = match engine {
                EngineName::Dvc => Box::new(dvc::Dvc::new(context, jobs)?),
                _ => Box::new(local::Local::new(context, &due, jobs)),
            };
            let lock = ProjectLock::take(&context.layout, LOCKED)?;
            slurm::refuse_what_is_at_work(context, &due)?;
            let failures = work(context, engine.as_ref(), &due, jobs)?;
            (lock, Vec::new(), failures)
        }
    };
    context.terminal.check().map_err(|e| {
        anyhow!(e).context("what is finished is kept; run `cifar-cli experiments run` again to go on from here")
    })?;
    let mut entries = entries::entries(context, &args.grid)?;
    // A run whose failure could not even be written, as on a full disk, has failed all the same.
    let unfinished = |e: &&mut Entry| {
        e.state == State::Waiting && due.iter().any(|d| d.run.name == e.run.name) && !cancelled.contains(&e.run.name)
    };
    for entry in entries.iter_mut().filter(unfinished) {
        let reason = failures.get(&entry.run.name).cloned();
        entry.state = State::Failed(reason.unwrap_or_else(|| "it left no result; is the disk full?".into()));
    }
    if entries.iter().any(|e| e.state == State::Finished) {
        conclude(context, &entries)?;
    }
    tell_failures(context, &entries)?;
    if let Some(first) = cancelled.first() {
        bail!(
            "{} of {} runs were cancelled in Slurm, first {first}; run `cifar-cli experiments run --engine slurm` again to submit them",
            cancelled.len(),
            entries.len()
        );
    }
    Ok(())
}

/// How many epochs and steps each combination has, since the grid and not params.yaml says so.
fn constant_steps(entries: &[Entry]) -> String {
    let mut told: Vec<(&str, String)> = Vec::new();
    for Entry { run, steps, .. } in entries {
        if told.iter().all(|(name, _)| *name != run.combination) {
            let words = format!("{} {} epochs (about {steps} steps)", run.combination, run.params.train.epochs);
            told.push((&run.combination, words));
        }
    }
    let told: Vec<String> = told.into_iter().map(|(_, words)| words).collect();
    format!("constant_steps sets train.epochs: {}", told.join(", "))
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

/// Does the runs that are due. Returns why runs failed, by name.
fn work(context: &Context, engine: &dyn Engine, due: &[&Entry], jobs: usize) -> Result<BTreeMap<String, String>> {
    let costs: Vec<f64> = due.iter().map(|e| e.cost).collect();
    let board = Board::new(context.terminal, &costs);
    let failures = Mutex::new(BTreeMap::new());
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
            if result.is_ok() {
                watch.record(&context.layout, &format!("experiments/{}", entry.run.name));
            }
            match result {
                Err(error) if is_cancelled(&error) => Err(error),
                result => {
                    let failure = result.err().map(|error| crate::one_line(&error));
                    if let Some(reason) = &failure {
                        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                        failures.insert(entry.run.name.clone(), reason.clone());
                    }
                    if let Some(reason) = &failure
                        && let Err(e) = write_failure(&entry.folder, reason)
                    {
                        board.line(context.terminal, &format!("warning: {e}"));
                    }
                    tell_end(context, &board, entry, failure.as_deref(), watch.seconds());
                    Ok(())
                }
            }
        },
        &|| context.terminal.cancelled(),
    );
    board.clear();
    result.or_else(|error| if is_cancelled(&error) { Ok(()) } else { Err(error) })?;
    Ok(failures.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Leaves why the run failed. On a full disk this fails too, and the next call does the run like one that was stopped.
fn write_failure(folder: &Path, reason: &str) -> Result<()> {
    Ok(cifar_data::output::write_file(&folder.join(FAILED), format!("{reason}\n").as_bytes())?)
}

/// The line of a run that is over.
fn tell_end(context: &Context, board: &Board, entry: &Entry, failure: Option<&str>, seconds: f64) {
    let (done, all) = board.ended();
    let words = match failure {
        None => format!("{}{}", score(&entry.folder).unwrap_or_default(), duration(seconds)),
        Some(reason) => format!("failed: {reason}"),
    };
    board.line(context.terminal, &format!("[{done}/{all}] {:<30} {words}", entry.run.name));
}

/// One run, from whatever there is to its record.
fn one(engine: &dyn Engine, entry: &Entry, row: &Row, data_ready: &(dyn Fn() + Sync)) -> Result<()> {
    let folder = &entry.folder;
    clear(folder)?;
    engine.run(&entry.run, folder, row, data_ready)?;
    Ok(entry.record.write(folder)?)
}

/// The folder of a run that begins anew or goes on.
fn clear(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    match std::fs::remove_file(folder.join(FAILED)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("{}: cannot remove", folder.join(FAILED).display()))
        }
        _ => Ok(()),
    }
}

fn is_cancelled(error: &anyhow::Error) -> bool {
    crate::exit_code(error) == crate::EXIT_INTERRUPTED
}

/// Accuracies of a run with their 95 % intervals for the sampling of images, in words.
fn score(folder: &Path) -> Option<String> {
    let text = std::fs::read(folder.join("evaluation/test/metrics.json")).ok()?;
    let metrics: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let percent = |set: &str, figure: &str| metrics[set][figure].as_f64().map(|a| a * 100.0);
    let accuracy = |set: &str| {
        let [value, low, high] = ["accuracy", "accuracy_low", "accuracy_high"].map(|figure| percent(set, figure));
        Some(format!("{set} {:.2} % [{:.2}, {:.2}], ", value?, low?, high?))
    };
    Some(accuracy("test")? + &accuracy("pool")?)
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

/// `--dry-run`: what would be run.
fn list(context: &Context, entries: &[Entry]) {
    let lines: Vec<serde_json::Value> = entries
        .iter()
        .map(|e| {
            serde_json::json!({
                "name": e.run.name,
                "setting": e.run.setting,
                "epochs": e.run.params.train.epochs,
                "steps": e.steps,
                "state": e.state,
            })
        })
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

/// The number of the epoch that a line of the trainer's table tells of.
fn epoch_of(line: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    let (epoch, steps, rate) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    (steps.parse::<u64>().is_ok() && rate.contains('e') && rate.parse::<f64>().is_ok()).then_some(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_epochs_are_told_from_others() {
        assert_eq!(epoch_of("    3     330      9.500e-2      1.2345    56.70 %     1.1000    60.00 % best"), Some(3));
        for other in ["epoch   steps  learning rate", "Running stage 'train_model':", "3 steps in 2.5 s", ""] {
            assert_eq!(epoch_of(other), None, "{other}");
        }
    }
}
