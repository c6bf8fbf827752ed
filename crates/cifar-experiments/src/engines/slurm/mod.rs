//! `--engine slurm`: runs as tasks of a job array on a cluster whose nodes share the project
//! folder.
//!
//! This program makes the data, submits the tasks and follows them. Its only state is the queue and
//! the files in the runs' folders, so it can be killed at any moment and started again. Tasks need
//! neither DVC nor git: each executes one run as `--engine local` would.

mod follow;
mod queue;
mod submission;
pub mod task;

use cifar_pipeline::{Context as _, Project, Result, bail};

use self::follow::{Followed, follow};
use self::queue::Phase;
pub(crate) use self::queue::Queue;
use self::submission::{Submission, data_folder, folders};
use super::Session;
use super::local::{Local, identities};
use super::run_reporter::RunReporter;
use crate::analysis::RunRecord;
use crate::board::Board;
use crate::grid::SlurmParams;
use crate::plan::Entry;
use crate::run_folder::{clear, log, log_error};

/// Executes the runs that are due, at most `jobs` at once if given. Returns the names of the runs
/// that were cancelled in Slurm.
///
/// # Errors
/// If the runs cannot be submitted, none of them starts, or this program is stopped. Submitted runs
/// continue after a stop.
pub(crate) fn work(
    session: Session,
    queue: &Queue,
    params: &SlurmParams,
    jobs: Option<u16>,
    due: &[&Entry],
) -> Result<Vec<String>> {
    let project = session.project;
    let at_once = jobs.map(i64::from).or((params.max_tasks > 0).then_some(params.max_tasks));
    let costs: Vec<f64> = due.iter().map(|e| e.cost).collect();
    let board = Board::new(session.reporter, &costs);
    let mut tasks: Vec<Followed> = due.iter().map(|entry| Followed::new(entry)).collect();
    let result = adopt(session.project, queue, &mut tasks, &board).and_then(|mut submissions| {
        let mut cancelled = Vec::new();
        loop {
            make_data(session, &mut tasks, &board)?;
            let new: Vec<usize> = (0..tasks.len()).filter(|at| tasks[*at].is_to_submit()).collect();
            if !new.is_empty() {
                let runs: Vec<RunRecord> = new.iter().map(|at| tasks[*at].entry().record.clone()).collect();
                let submission = Submission::submit(session.project, queue, params, at_once, runs)?;
                let (job, count) = (submission.job, new.len());
                board.reporter().note(&format!("job {job}: tasks submitted: {count}; scancel {job} stops them"));
                for (number, at) in new.into_iter().enumerate() {
                    tasks[at].submitted(submissions.len(), number);
                }
                submissions.push(submission);
            }
            cancelled.extend(follow(session, queue, params, &submissions, &mut tasks, &board)?);
            if !tasks.iter().any(Followed::is_to_submit) {
                break;
            }
        }
        submissions.iter().for_each(Submission::remove);
        if folders(&project.layout).is_empty() {
            // Leftover data only use disk space.
            let _ = std::fs::remove_dir_all(data_folder(&project.layout));
        }
        Ok(cancelled)
    });
    session.reporter.grid_ended();
    result
}

/// Finds the arrays that an earlier call submitted, and their tasks that still wait or run.
fn adopt(project: &Project, queue: &Queue, tasks: &mut [Followed], board: &Board) -> Result<Vec<Submission>> {
    let mut submissions = Vec::new();
    for folder in folders(&project.layout) {
        let submission = Submission::read(&folder, queue)?;
        let listing = submission.as_ref().map_or(Ok(queue::Listing::new()), |s| queue.list(s.job))?;
        let is_alive = |number: usize| {
            listing.get(&number).is_some_and(|task| matches!(task.phase, Phase::Waiting | Phase::Running))
        };
        let Some(submission) = submission.filter(|s| (0..s.runs.len()).any(is_alive)) else {
            // No task uses this folder any more; the results are in the folders of the runs.
            let _ = std::fs::remove_dir_all(&folder);
            continue;
        };
        let mut count = 0;
        for (number, run) in submission.runs.iter().enumerate().filter(|(number, _)| is_alive(*number)) {
            let Some(task) = tasks.iter_mut().find(|task| task.entry().run.name == run.name) else { continue };
            if let Some(difference) = run.difference(&task.entry().record) {
                bail!(
                    "job {} of Slurm is running another run called {} ({difference}); undo the change, or stop it: scancel {0}",
                    submission.job,
                    run.name
                );
            }
            task.submitted(submissions.len(), number);
            count += 1;
        }
        if count > 0 {
            let job = submission.job;
            board.reporter().note(&format!("job {job}: following tasks of an earlier call: {count}"));
            submissions.push(submission);
        }
    }
    Ok(submissions)
}

/// Makes the data of all runs that will be submitted. A run whose data cannot be made fails.
fn make_data<'a>(session: Session, tasks: &mut [Followed<'a>], board: &'a Board<'a>) -> Result<()> {
    let data = identities(tasks.iter().map(Followed::entry));
    // One engine for all runs, so that existing data are read only once.
    let local = Local::shared(session, data, data_folder(&session.project.layout));
    for task in tasks.iter_mut().filter(|task| task.is_to_submit()) {
        let entry = task.entry();
        clear(&entry.folder)?;
        let row = board.begin(&entry.run.name, entry.cost);
        let mut log = log(&entry.folder)?;
        let reporter = RunReporter::new(log.try_clone().context("cannot share the log")?, row.clone());
        let made = local.project_of(&entry.run, &entry.folder).and_then(|of_run| local.make_data(&of_run, &reporter));
        row.withdraw();
        session.reporter.check()?;
        if let Err(error) = made {
            log_error(&mut log, &error);
            task.failed(session.project, board, &error.one_line());
        }
    }
    Ok(())
}

/// Refuses runs that wait or run in Slurm. The other engines call this before they start.
pub(crate) fn refuse_what_is_at_work(project: &Project, due: &[&Entry]) -> Result<()> {
    let found = folders(&project.layout);
    let Some(first) = found.first() else { return Ok(()) };
    let Ok(queue) = Queue::find() else {
        bail!(
            "{}: a Slurm job may still be running runs of this project, and Slurm is not available here; use a machine that has it, or remove the folder if the job is over",
            first.display()
        );
    };
    for folder in found {
        let Some(submission) = Submission::read(&folder, &queue)? else { continue };
        let listing = queue.list(submission.job)?;
        for (number, run) in submission.runs.iter().enumerate() {
            let is_alive = listing.get(&number).is_some_and(|t| matches!(t.phase, Phase::Waiting | Phase::Running));
            if is_alive && due.iter().any(|entry| entry.run.name == run.name) {
                bail!(
                    "job {} of Slurm is running {}; `--engine slurm` follows it, scancel {0} stops it",
                    submission.job,
                    run.name
                );
            }
        }
    }
    Ok(())
}
