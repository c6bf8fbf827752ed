//! A task of a job array on its node: executes one run as `--engine local` does, in the run's
//! folder of the shared project. The submitting program sees only the files that it leaves there.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use cifar_data::DataError;
use cifar_pipeline::links::refuse_links;
use cifar_pipeline::params::Params;
use cifar_pipeline::run_record::Stopwatch;
use cifar_pipeline::{Context as _, Error, Project, Result, bail, ensure};

use super::submission::{data_folder, interrupted_file, project_of, run_of_task};
use crate::analysis::RunRecord;
use crate::board::Board;
use crate::engines::local::Local;
use crate::engines::{Session, do_run};
use crate::grid::Run;
use crate::plan::{Data, Entry, State, init};
use crate::reporter::GridReporter;
use crate::run_folder::{self, write_failure};

/// Slurm's number of earlier starts of this task.
const RESTARTS: &str = "SLURM_RESTART_COUNT";
/// How long to wait for the run's lock. A lost node may still be working on a run that Slurm has
/// given to another node.
const PATIENCE: Duration = Duration::from_mins(10);

/// Executes run `number` of the array in whose folder this process was started.
///
/// # Errors
/// If the run fails. The reason is also written to its folder.
pub fn run(number: usize, reporter: &dyn GridReporter) -> Result<()> {
    let array = std::env::current_dir().context("cannot find the current folder")?;
    let project = &Project::open(&project_of(&array)?)?;
    let (record, threads) = run_of_task(&array, number)?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Error::failed(format!("cannot start the threads: {e}")))?;
    refuse_links(&project.layout)?;
    let folder = project.layout.run_of_grid(&record.name);
    let interrupted = interrupted_file(&array, number);
    let _ = std::fs::remove_file(&interrupted);
    let node = std::env::var("SLURMD_NODENAME").unwrap_or_else(|_| "this node".into());
    let restarts = std::env::var(RESTARTS).ok().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
    let begins = format!("{} on {node}, start {} of this task", record.name, restarts + 1);
    let result = work(Session { project, reporter }, record, &folder, &begins);
    match &result {
        Err(error) if error.is_cancelled() => {
            let _ = cifar_data::output::write_file(&interrupted, b"");
            return Err(Error::from(DataError::Cancelled).context("stopped from outside; its checkpoint is kept"));
        }
        Err(error) => write_failure(&folder, &error.one_line())?,
        Ok(()) => {}
    }
    result
}

fn work(session: Session, record: RunRecord, folder: &Path, begins: &str) -> Result<()> {
    let project = session.project;
    let _lock = lock(session, &record.name)?;
    if RunRecord::read(folder)?.is_some_and(|found| found.difference(&record).is_none()) {
        return Ok(());
    }
    let params =
        Params::parse(&record.params.to_string()).map_err(|e| Error::failed(format!("{}: {e}", record.name)))?;
    let (name, combination, setting) = (record.name.clone(), record.combination.clone(), record.setting.clone());
    let run = Run { name, combination, setting, params };
    let all = Data::read(project)?;
    ensure!(
        all.identity(run.params.dataset_version) == record.data,
        "the partitions or the label overrides have changed since the run was submitted; use `--retry` to submit it with the current ones"
    );
    ensure!(
        init(project, &run.params)? == record.init,
        "the file of train.init has changed since the run was submitted; use `--retry` to submit it with the current one"
    );
    let data = [(run.params.dataset_version.to_string(), record.data.clone())].into();
    let local = Local::shared(session, data, data_folder(&project.layout));
    if let Some(missing) = local.folders(&run).iter().find(|data| !data.is_dir()) {
        bail!("{}: the data of this run are missing; use `--retry` to make them again", missing.display());
    }
    let (epochs, steps) = (run.epochs(&all.images), run.steps(&all.images));
    let (folder_of_run, state, cost) = (folder.to_path_buf(), State::Waiting, 1.0);
    let entry = Entry { run, folder: folder_of_run, record, state, cost, epochs, steps, images: [0, 0] };
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    let _ = writeln!(run_folder::log(folder)?, "{begins}");
    let watch = Stopwatch::start();
    let board = Board::new(session.reporter, &[entry.cost]);
    do_run(&local, &entry, &board.begin(&entry.run.name, entry.cost), &|| {})?;
    watch.record(&project.layout, &format!("experiments/{}", entry.run.name));
    Ok(())
}

/// Takes the run's lock, so that no other process works on it. The system releases the lock when
/// its process ends, even on another node.
fn lock(session: Session, name: &str) -> Result<File> {
    let folder = session.project.layout.slurm().join("locks");
    std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    let path = folder.join(name);
    let file = File::options().create(true).write(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("{}: cannot open the lock", path.display()))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                session.reporter.check()?;
                std::thread::sleep(Duration::from_secs(1));
            }
            Err(TryLockError::WouldBlock) => bail!(
                "{}: after {} minutes another process is still running this run, perhaps on a lost node; stop it, then use `--retry`",
                path.display(),
                PATIENCE.as_secs() / 60
            ),
            Err(TryLockError::Error(e)) => return Err(e).with_context(|| format!("{}: cannot lock", path.display())),
        }
    }
}
