//! Follows job arrays until none of their tasks waits or runs.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use cifar_pipeline::{Error, Project, Result, run_record};

use super::queue::{Listed, Listing, Phase, Queue};
use super::submission::{Submission, interrupted_file};
use crate::analysis::RunRecord;
use crate::board::{Board, Row, duration};
use crate::engines::{Session, note_end};
use crate::epochs::EpochReader;
use crate::grid::SlurmParams;
use crate::plan::Entry;
use crate::run_folder::{EVENTS, FAILED, log, log_error, write_failure};

/// Polls for which a task may be gone without a result before it counts as over. A shared file
/// system may show what a node wrote a little later than Slurm reports the end of the task.
const LOOKS: u32 = 6;
/// The longest time until Ctrl-C takes effect.
const NAP: Duration = Duration::from_millis(100);

/// A run that this process follows.
pub(super) struct Followed<'a> {
    entry: &'a Entry,
    place: Place,
    /// Number of times that this process submitted it.
    tries: i64,
    row: Option<Row<'a>>,
    /// Its latest node; empty before the first.
    node: String,
    /// Number of polls since it ended without leaving a result.
    silent: u32,
    /// The last state that Slurm reported.
    state: String,
    epochs: EpochReader,
}

/// The stage that a run has reached.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    /// It must be submitted.
    ToSubmit,
    /// Index of its array, and its task number in it.
    Submitted(usize, usize),
    /// It has ended.
    Ended,
}

/// How a run ended, by the files that it left.
enum Outcome {
    Finished,
    Failed(String),
}

impl<'a> Followed<'a> {
    pub(super) fn new(entry: &'a Entry) -> Self {
        let epochs = EpochReader::new(&entry.folder.join(EVENTS));
        let (place, node, state) = (Place::ToSubmit, String::new(), String::new());
        Self { entry, place, tries: 0, row: None, node, silent: 0, state, epochs }
    }

    pub(super) fn entry(&self) -> &'a Entry {
        self.entry
    }

    pub(super) fn is_to_submit(&self) -> bool {
        self.place == Place::ToSubmit
    }

    /// Records that it was submitted as task `number` of `array`.
    pub(super) fn submitted(&mut self, array: usize, number: usize) {
        self.place = Place::Submitted(array, number);
        self.tries += 1;
        self.silent = 0;
    }

    /// Removes its row until it has a node again.
    fn withdraw(&mut self) {
        if let Some(row) = self.row.take() {
            row.withdraw();
        }
    }

    /// Ends it with a `reason` that only this process knows, and writes that to its folder.
    pub(super) fn failed(&mut self, project: &Project, board: &'a Board<'a>, reason: &str) {
        if let Err(e) = write_failure(&self.entry.folder, reason) {
            board.reporter().warn(&e.to_string());
        }
        self.end(project, board, Some(reason));
    }

    fn end(&mut self, project: &Project, board: &'a Board<'a>, failure: Option<&str>) {
        self.place = Place::Ended;
        self.row.take().unwrap_or_else(|| board.begin(&self.entry.run.name, self.entry.cost)).end();
        // The time that the task recorded; this process may have followed only a part of it.
        let known = run_record::seconds(&project.layout, &format!("experiments/{}", self.entry.run.name));
        let seconds = known.filter(|_| failure.is_none()).unwrap_or_default();
        note_end(board, self.entry, failure, seconds);
    }

    /// Returns how the run ended; none if it left neither a result nor a failure.
    fn outcome(&self) -> Result<Option<Outcome>> {
        if RunRecord::read(&self.entry.folder)?.is_some() {
            return Ok(Some(Outcome::Finished));
        }
        let reason = std::fs::read_to_string(self.entry.folder.join(FAILED)).ok();
        Ok(reason.map(|reason| Outcome::Failed(reason.trim().to_string())))
    }

    /// Shows the progress of a run that has a node.
    fn runs(&mut self, board: &'a Board<'a>, listed: &Listed) {
        self.node.clone_from(&listed.node);
        self.silent = 0;
        let row = self.row.get_or_insert_with(|| {
            let row = board.begin(&self.entry.run.name, self.entry.cost);
            row.note(&format!("on {}", listed.node));
            row
        });
        if let Some(epoch) = self.epochs.latest() {
            row.show("training", epoch, self.entry.epochs as u64, Some(&listed.node));
        }
    }

    /// Handles a run that waits for a node, for the first time or again.
    fn waits(&mut self, board: &Board, listed: &Listed) {
        self.silent = 0;
        if self.row.is_some() {
            self.withdraw();
            let (name, node) = (&self.entry.run.name, &self.node);
            let words = format!(
                "{name}: requeued by Slurm ({}) after running on {node}; it will resume from its checkpoint",
                listed.reason
            );
            board.reporter().note(&words);
        }
    }
}

/// Polls the queue until every task of `tasks` has ended or must be submitted again. Returns the
/// names of the runs that were cancelled in Slurm.
pub(super) fn follow<'a>(
    session: Session,
    queue: &Queue,
    params: &SlurmParams,
    submissions: &[Submission],
    tasks: &mut [Followed<'a>],
    board: &'a Board<'a>,
) -> Result<Vec<String>> {
    let mut cancelled = Vec::new();
    let mut progress = Instant::now();
    let (mut is_unreachable, mut reasons) = (false, BTreeSet::new());
    loop {
        let arrays: BTreeSet<usize> = tasks.iter().filter_map(Followed::array).collect();
        if arrays.is_empty() {
            return Ok(cancelled);
        }
        let jobs: Vec<u64> = arrays.iter().map(|array| submissions[*array].job).collect();
        // The queue first, then the files: a task writes its files before it ends, so a task
        // that the queue reports as over has written all of them.
        let listings: Result<Vec<(usize, Listing)>> =
            arrays.iter().map(|array| Ok((*array, queue.list(submissions[*array].job)?))).collect();
        match listings {
            Ok(listings) => {
                is_unreachable = false;
                for task in tasks.iter_mut() {
                    let Place::Submitted(array, number) = task.place else { continue };
                    let listing = listings.iter().find(|(of, _)| *of == array);
                    let listed = listing.and_then(|(_, listing)| listing.get(&number));
                    if listed.is_none_or(|l| l.phase != Phase::Waiting) {
                        progress = Instant::now();
                    }
                    let submission = &submissions[array];
                    if look(session.project, params, submission, number, listed, task, board)? {
                        cancelled.push(task.entry.run.name.clone());
                    }
                }
                let now = waiting_reasons(tasks, &listings);
                if let Some(now) = &now
                    && *now != reasons
                    && now.iter().any(|reason| reason != "None")
                {
                    let words = now.iter().cloned().collect::<Vec<_>>().join(", ");
                    board.reporter().note(&format!("{}: all runs are waiting ({words})", named(&jobs)));
                    reasons.clone_from(now);
                }
                if now.is_some() && progress.elapsed() >= params.start_timeout() {
                    return Err(never_starts(queue, params, submissions, &jobs, &reasons));
                }
            }
            Err(error) if !is_unreachable => {
                is_unreachable = true;
                board.reporter().note(&format!("{error}; the runs continue, and the query is repeated"));
            }
            Err(_) => {}
        }
        let next = Instant::now() + params.poll();
        while Instant::now() < next {
            session.reporter.check().map_err(|e| {
                let stop: Vec<String> = jobs.iter().map(u64::to_string).collect();
                Error::from(e).context(format!(
                    "{} continues in Slurm; `cifar-cli experiments run --engine slurm` follows it again, scancel {} stops it",
                    named(&jobs),
                    stop.join(" ")
                ))
            })?;
            std::thread::sleep(NAP);
        }
    }
}

impl Followed<'_> {
    fn array(&self) -> Option<usize> {
        if let Place::Submitted(array, _) = self.place { Some(array) } else { None }
    }
}

/// Updates one task from the queue and its files. Returns whether it was cancelled in Slurm.
fn look<'a>(
    project: &Project,
    params: &SlurmParams,
    submission: &Submission,
    number: usize,
    listed: Option<&Listed>,
    task: &mut Followed<'a>,
    board: &'a Board<'a>,
) -> Result<bool> {
    match task.outcome()? {
        Some(Outcome::Finished) => {
            task.end(project, board, None);
            return Ok(false);
        }
        Some(Outcome::Failed(reason)) => {
            task.end(project, board, Some(&reason));
            return Ok(false);
        }
        None => {}
    }
    let phase = listed.map_or(Phase::Stopped, |listed| listed.phase);
    task.state = listed.map_or_else(|| "no longer known to Slurm".into(), |l| l.state.clone());
    match (phase, listed) {
        (Phase::Running, Some(listed)) => task.runs(board, listed),
        (Phase::Waiting, Some(listed)) => task.waits(board, listed),
        _ if task.silent < LOOKS => task.silent += 1,
        (Phase::Cancelled, _) => {
            task.place = Place::Ended;
            task.withdraw();
            board.reporter().note(&format!("{}: cancelled in Slurm", task.entry.run.name));
            return Ok(true);
        }
        _ => {
            let can_resume = phase == Phase::Stopped || interrupted_file(&submission.folder, number).exists();
            if can_resume && task.tries <= params.resubmissions {
                task.place = Place::ToSubmit;
                task.withdraw();
                let words = format!(
                    "{}: stopped ({}); it is submitted again and resumes from its checkpoint",
                    task.entry.run.name, task.state
                );
                board.reporter().note(&words);
            } else {
                fail(project, submission, number, task, board);
            }
        }
    }
    Ok(false)
}

/// Fails a task that ended without a result. The reason is the state that Slurm reports.
fn fail<'a>(project: &Project, submission: &Submission, number: usize, task: &mut Followed<'a>, board: &'a Board<'a>) {
    let words = submission.last_words(number);
    let tries = if task.tries > 1 { format!(", {} tries", task.tries) } else { String::new() };
    let hint = match task.state.as_str() {
        "OUT_OF_MEMORY" => "; raise `memory` in [slurm]",
        "TIMEOUT" => "; raise `time_limit` or `resubmissions` in [slurm]",
        _ => "",
    };
    // The last line of a task that was stopped from outside does not explain the stop.
    let last = words.last().filter(|_| hint.is_empty()).map(|line| format!(": {line}")).unwrap_or_default();
    let reason =
        format!("its task {}_{number} ended without a result ({}{tries}){hint}{last}", submission.job, task.state);
    if let Ok(mut log) = log(&task.entry.folder) {
        for line in &words {
            let _ = writeln!(log, "{line}");
        }
        log_error(&mut log, &Error::failed(reason.clone()));
    }
    task.failed(project, board, &reason);
}

/// Returns why the runs wait; none unless all of them do.
fn waiting_reasons(tasks: &[Followed], listings: &[(usize, Listing)]) -> Option<BTreeSet<String>> {
    let mut reasons = BTreeSet::new();
    for task in tasks {
        let Place::Submitted(array, number) = task.place else { continue };
        let listed = listings.iter().find(|(of, _)| *of == array).and_then(|(_, listing)| listing.get(&number))?;
        if listed.phase != Phase::Waiting {
            return None;
        }
        reasons.insert(listed.reason.clone());
    }
    (!reasons.is_empty()).then_some(reasons)
}

/// Cancels jobs of which no run started in time, and returns the error that says so.
fn never_starts(
    queue: &Queue,
    params: &SlurmParams,
    submissions: &[Submission],
    jobs: &[u64],
    reasons: &BTreeSet<String>,
) -> Error {
    let waited = duration(params.start_timeout().as_secs_f64());
    let reasons = reasons.iter().cloned().collect::<Vec<_>>().join(", ");
    for job in jobs {
        if let Err(error) = queue.cancel(*job) {
            return error.context(format!("{} does not start, and cannot be cancelled", named(jobs)));
        }
    }
    submissions.iter().filter(|s| jobs.contains(&s.job)).for_each(Submission::remove);
    Error::failed(format!(
        "{}: no run started within {waited}, all were waiting ({reasons}), so it was cancelled; lower the request or raise start_timeout in [slurm] of experiments.toml",
        named(jobs)
    ))
}

/// Returns the jobs in words, such as `job 7 and job 8`.
fn named(jobs: &[u64]) -> String {
    let numbers: Vec<String> = jobs.iter().map(u64::to_string).collect();
    format!("job {}", numbers.join(" and job "))
}
