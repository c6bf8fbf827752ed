//! `--engine slurm`: the runs as the tasks of a job array on a cluster, whose nodes share the project's folder.
//!
//! This program makes the data, submits, and follows: it looks at the queue and at what tasks leave in the folders of their
//! runs, nothing else, so it may be killed at any moment and started again. Tasks need neither DVC nor git: each does one run
//! as `--engine local` would.

mod follow;
mod params;
mod queue;
mod submission;
pub mod task;

use cifar_pipeline::{Context as _, Project, Result, bail};

use self::follow::{Followed, follow};
pub use self::params::SlurmParams;
use self::queue::Phase;
pub(crate) use self::queue::Queue;
use self::submission::{Submission, data_folder, folders};
use super::Session;
use super::local::Local;
use crate::analysis::RunRecord;
use crate::board::Board;
use crate::plan::Entry;
use crate::reporter::RunReporter;
use crate::run::{clear, log, log_error};

/// Does the runs that are due, `jobs` of them at once if that is given. Returns the names of those that somebody cancelled.
///
/// # Errors
/// If they cannot be submitted, none of them starts, or this program is stopped. The runs then continue.
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
            // Data that stay take room, and harm nothing.
            let _ = std::fs::remove_dir_all(data_folder(&project.layout));
        }
        Ok(cancelled)
    });
    session.reporter.grid_ended();
    result
}

/// Finds arrays that an earlier call submitted, and in them the tasks that still wait or run.
fn adopt(project: &Project, queue: &Queue, tasks: &mut [Followed], board: &Board) -> Result<Vec<Submission>> {
    let mut submissions = Vec::new();
    for folder in folders(&project.layout) {
        let submission = Submission::read(&folder, queue)?;
        let listing = submission.as_ref().map_or(Ok(queue::Listing::new()), |s| queue.list(s.job))?;
        let is_alive = |number: usize| {
            listing.get(&number).is_some_and(|task| matches!(task.phase, Phase::Waiting | Phase::Running))
        };
        let Some(submission) = submission.filter(|s| (0..s.runs.len()).any(is_alive)) else {
            // No task uses this folder any more. Their results are in the folders of the runs.
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
            board.reporter().note(&format!("job {job}: followed again, tasks of an earlier call: {count}"));
            submissions.push(submission);
        }
    }
    Ok(submissions)
}

/// Makes the data of all runs that are to be submitted. Those whose data cannot be made have failed.
fn make_data<'a>(session: Session, tasks: &mut [Followed<'a>], board: &'a Board<'a>) -> Result<()> {
    let data = tasks.first().map(|task| task.entry().record.data.clone()).unwrap_or_default();
    // One for all: it reads data that are there no more than once.
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

/// Refuses runs that are waiting or running in Slurm, for the other engines.
pub(crate) fn refuse_what_is_at_work(project: &Project, due: &[&Entry]) -> Result<()> {
    let found = folders(&project.layout);
    let Some(first) = found.first() else { return Ok(()) };
    let Ok(queue) = Queue::find() else {
        bail!(
            "{}: a job of Slurm may still work on runs of this project, and there is no Slurm here to ask; use a machine that has it, or remove the folder if the job is over",
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
