//! What a task of a job array does on its node: one run, as `--engine local` does it, in the run's folder of the shared project.
//! What it leaves there is all that the submitting program sees of it.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use cifar_data::{DataError, Monitor as _};
use cifar_eval::experiments::RunRecord;

use super::super::local::Local;
use super::super::{Entry, Run, State, data, is_cancelled, one, write_failure};
use super::submission::{data_folder, interrupted_file, project_of, run_of_task};
use crate::args::TaskArgs;
use crate::commands::Context;
use crate::experiments::board::Board;
use crate::layout::Layout;
use crate::links::refuse_links;
use crate::params::Params;
use crate::run_record::Stopwatch;

/// Slurm's number of earlier starts of this task.
const RESTARTS: &str = "SLURM_RESTART_COUNT";
/// A node that went away may still work on the run that Slurm gave to another: until its lock is gone, for so long.
const PATIENCE: Duration = Duration::from_mins(10);

/// Does the run of that number of the array in whose folder this process was started.
///
/// # Errors
/// If the run fails: the reason is in its folder then.
pub(in crate::commands::experiments) fn run(context: &Context, args: &TaskArgs) -> Result<()> {
    let array = std::env::current_dir().context("cannot find the current folder")?;
    let layout = Layout::new(&project_of(&array)?);
    let (record, threads) = run_of_task(&array, args.number)?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start the threads")?;
    refuse_links(&layout)?;
    let context = &Context { params_file: layout.params(), layout, terminal: context.terminal };
    let folder = context.layout.run_of_grid(&record.name);
    let interrupted = interrupted_file(&array, args.number);
    let _ = std::fs::remove_file(&interrupted);
    let node = std::env::var("SLURMD_NODENAME").unwrap_or_else(|_| "this node".into());
    let restarts = std::env::var(RESTARTS).ok().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
    let begins = format!("{} on {node}, start {} of this task", record.name, restarts + 1);
    let result = work(context, record, &folder, &begins);
    match &result {
        Err(error) if is_cancelled(error) => {
            let _ = cifar_data::output::write_file(&interrupted, b"");
            return Err(anyhow!(DataError::Cancelled).context("stopped from outside; its checkpoint stands"));
        }
        Err(error) => write_failure(&folder, &crate::one_line(error))?,
        Ok(()) => {}
    }
    result
}

fn work(context: &Context, record: RunRecord, folder: &Path, begins: &str) -> Result<()> {
    let _lock = lock(context, &record.name)?;
    if RunRecord::read(folder)?.is_some_and(|found| found.difference(&record).is_none()) {
        return Ok(());
    }
    let params = Params::parse(&record.params.to_string()).map_err(|e| anyhow!("{}: {e}", record.name))?;
    let (name, combination, setting) = (record.name.clone(), record.combination.clone(), record.setting.clone());
    let run = Run { name, combination, setting, params };
    ensure!(
        data(context)?.0 == record.data,
        "the partitions or the label overrides have changed since the run was submitted; `--retry` submits it with what is there now"
    );
    let local = Local::in_company(context, record.data.clone(), data_folder(&context.layout));
    if let Some(missing) = local.folders(&run).iter().find(|data| !data.is_dir()) {
        bail!("{}: the data that were made for this run are gone; `--retry` makes them again", missing.display());
    }
    let entry =
        Entry { run, folder: folder.to_path_buf(), record, state: State::Waiting, cost: 1.0, steps: 0, images: [0, 0] };
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    let _ = writeln!(super::super::log(folder)?, "{begins}");
    let watch = Stopwatch::start();
    let board = Board::new(context.terminal, &[entry.cost]);
    one(&local, &entry, &board.begin(&entry.run.name, entry.cost), &|| {})?;
    watch.record(&context.layout, &format!("experiments/{}", entry.run.name));
    Ok(())
}

/// Keeps other processes from the run. The lock goes with its process, also with one on another node that dies.
fn lock(context: &Context, name: &str) -> Result<File> {
    let folder = context.layout.slurm().join("locks");
    std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    let path = folder.join(name);
    let file = File::options().create(true).write(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("{}: cannot open the lock", path.display()))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                context.terminal.check()?;
                std::thread::sleep(Duration::from_secs(1));
            }
            Err(TryLockError::WouldBlock) => bail!(
                "{}: after {} minutes another process still works on this run, perhaps on a node that went away; stop it, then `--retry`",
                path.display(),
                PATIENCE.as_secs() / 60
            ),
            Err(TryLockError::Error(e)) => return Err(e).with_context(|| format!("{}: cannot lock", path.display())),
        }
    }
}
