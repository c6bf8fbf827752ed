//! A job array on disk, in a folder of its own below `.cifar/slurm`: the program as it was when it was submitted, the runs, the
//! script, and the job's number.
//!
//! The name of the job stands in the folder before it is submitted, and its number behind: whoever comes after a process that
//! was killed in between finds the job by its name, and submits nothing twice.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use cifar_data::output::write_file;
use cifar_eval::experiments::RunRecord;
use serde::{Deserialize, Serialize};

use super::queue::Queue;
use crate::commands::Context;
use crate::commands::train::running_program;
use crate::experiments::cluster::SlurmParams;
use crate::layout::Layout;

const SCHEMA: u32 = 1;
const JOB: &str = "job.json";
const RUNS: &str = "runs.json";
const SCRIPT: &str = "task.sh";
const PROGRAM: &str = "cifar-cli";
/// Stands for the code that trains; see `train::program`.
const FINGERPRINT: &str = "train_model.fingerprint";
/// Below `.cifar/slurm`, beside the folders of arrays.
const DATA: &str = "data";
/// So many last lines of what a task said are kept when it ends without a word of its own.
const TAIL: usize = 5;

/// A job array that Slurm has.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) folder: PathBuf,
    /// Slurm's number of it.
    pub(super) job: u64,
    /// What its tasks do, by number.
    pub(super) runs: Vec<RunRecord>,
}

/// `job.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    schema: u32,
    /// The job's name in Slurm.
    name: String,
    /// Its number, once it is known.
    number: Option<u64>,
}

/// Pulled and prepared data, which the tasks of all arrays share.
pub(super) fn data_folder(layout: &Layout) -> PathBuf {
    layout.slurm().join(DATA)
}

/// The run that a task is to do.
pub(super) fn run_of_task(folder: &Path, number: usize) -> Result<RunRecord> {
    let runs = read_runs(folder)?;
    let count = runs.len();
    let run = runs.into_iter().nth(number);
    run.with_context(|| format!("{}: has {count} runs, and none of number {number}", folder.join(RUNS).display()))
}

/// The file that a task leaves which was asked to stop, and would go on.
pub(super) fn interrupted_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("interrupted-{number}"))
}

/// Folders of arrays, whether Slurm still knows them or not.
pub(super) fn folders(layout: &Layout) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(layout.slurm()).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|e| e.path()).filter(|path| path.join(JOB).is_file()).collect();
    folders.sort();
    folders
}

impl Submission {
    /// Reads the folder of an array; none if it never came to be submitted.
    pub(super) fn read(folder: &Path, queue: &Queue) -> Result<Option<Self>> {
        let path = folder.join(JOB);
        let text = std::fs::read(&path).with_context(|| format!("{}: cannot read", path.display()))?;
        let remedy = "if no job of Slurm works for this project any more, remove its folder";
        let mut job: Job =
            serde_json::from_slice(&text).with_context(|| format!("{}: is damaged; {remedy}", path.display()))?;
        ensure!(
            job.schema == SCHEMA,
            "{}: has schema {}, this program reads schema {SCHEMA}; {remedy}",
            path.display(),
            job.schema
        );
        if job.number.is_none() {
            job.number = queue.named(&job.name)?;
            if job.number.is_some() {
                job.write(folder)?;
            }
        }
        let Some(number) = job.number else { return Ok(None) };
        Ok(Some(Self { folder: folder.to_path_buf(), job: number, runs: read_runs(folder)? }))
    }

    /// Submits an array of these runs, so many at once if there is a limit.
    pub(super) fn submit(
        context: &Context,
        queue: &Queue,
        params: &SlurmParams,
        at_once: Option<i64>,
        runs: Vec<RunRecord>,
    ) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let identity = format!("{now} {} {}", std::process::id(), runs.len());
        let name = format!("cifar-{}", &blake3::hash(identity.as_bytes()).to_hex()[..12]);
        let folder = std::path::absolute(context.layout.slurm().join(&name))?;
        let result = Self::submit_from(context, queue, params, at_once, &runs, &name, &folder);
        match result {
            Ok(job) => Ok(Self { folder, job, runs }),
            Err(error) => {
                // If Slurm cannot say whether it took the job, whoever comes next asks again.
                if queue.named(&name).is_ok() {
                    let _ = std::fs::remove_dir_all(&folder);
                }
                Err(error)
            }
        }
    }

    fn submit_from(
        context: &Context,
        queue: &Queue,
        params: &SlurmParams,
        at_once: Option<i64>,
        runs: &[RunRecord],
        name: &str,
        folder: &Path,
    ) -> Result<u64> {
        let project = std::path::absolute(context.layout.join("."))?;
        let project = project.components().collect::<PathBuf>();
        write_file(&folder.join(RUNS), serde_json::to_string_pretty(runs)?.as_bytes())?;
        copy_program(folder)?;
        let limit = at_once.map(|n| format!("%{n}")).unwrap_or_default();
        let mut arguments: Vec<String> = vec![
            "--parsable".into(),
            "--requeue".into(),
            format!("--job-name={name}"),
            format!("--array=0-{}{limit}", runs.len() - 1),
            "--open-mode=append".into(),
            format!("--output={}/task-%a.txt", folder.display().to_string().replace('%', "%%")),
            format!("--chdir={}", project.display()),
        ];
        arguments.extend(params.arguments());
        arguments.push(folder.join(SCRIPT).display().to_string());
        write_file(&folder.join(SCRIPT), script(&project, folder, params.cpus_per_task, &arguments).as_bytes())?;
        let mut job = Job { schema: SCHEMA, name: name.into(), number: None };
        job.write(folder)?;
        let number = match queue.submit(&arguments) {
            Ok(number) => number,
            // It may have given up on the answer to a job that Slurm took.
            Err(error) => queue.named(name).ok().flatten().ok_or(error)?,
        };
        job.number = Some(number);
        // Without its number the array would be lost sight of.
        job.write(folder).inspect_err(|_| drop(queue.cancel(number)))?;
        Ok(number)
    }

    /// The end of what Slurm and the task said outside of the run's log.
    pub(super) fn last_words(&self, number: usize) -> Vec<String> {
        let text = std::fs::read(self.folder.join(format!("task-{number}.txt"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL)..].iter().map(ToString::to_string).collect()
    }

    /// Removes the folder, once no task needs it.
    pub(super) fn remove(&self) {
        // A folder that stays takes room, and harms nothing.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Job {
    fn write(&self, folder: &Path) -> Result<()> {
        Ok(write_file(&folder.join(JOB), (serde_json::to_string_pretty(self)? + "\n").as_bytes())?)
    }
}

fn read_runs(folder: &Path) -> Result<Vec<RunRecord>> {
    let path = folder.join(RUNS);
    let text = std::fs::read(&path).with_context(|| format!("{}: cannot read", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{}: is damaged", path.display()))
}

/// The program, with what stands for its code: tasks that wait for days do not see that it was compiled anew.
fn copy_program(folder: &Path) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let to = folder.join(PROGRAM);
    std::fs::copy(running_program()?, &to).with_context(|| format!("{}: cannot write", to.display()))?;
    let fingerprint = program.with_file_name(FINGERPRINT);
    if fingerprint.is_file() {
        let to = folder.join(FINGERPRINT);
        std::fs::copy(&fingerprint, &to).with_context(|| format!("{}: cannot write", to.display()))?;
    }
    Ok(())
}

fn script(project: &Path, folder: &Path, threads: i64, arguments: &[String]) -> String {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let arm = std::env::var("CIFAR_KERNELS_ARM").ok().filter(|arm| arm.chars().all(|c| c.is_ascii_alphanumeric()));
    let arm = arm.map(|arm| format!("export CIFAR_KERNELS_ARM={arm}\n")).unwrap_or_default();
    format!(
        "#!/bin/sh\n# A task of a job array: it does the run that has its number in runs.json. Submitted as\n# sbatch {}\n\
         {arm}exec {} --directory {} --threads {threads} experiments task {} \"$SLURM_ARRAY_TASK_ID\"\n",
        arguments.join(" "),
        quoted(&folder.join(PROGRAM)),
        quoted(project),
        quoted(folder),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_script_may_have_any_characters() {
        let text = script(Path::new("/a b/it's"), Path::new("/f"), 3, &["--array=0-1".into()]);
        assert!(text.starts_with("#!/bin/sh\n"), "{text}");
        assert!(text.contains("# sbatch --array=0-1\n"), "{text}");
        let command = r#"exec '/f/cifar-cli' --directory '/a b/it'\''s' --threads 3 experiments task '/f' "$SLURM_ARRAY_TASK_ID""#;
        assert!(text.contains(command), "{text}");
    }
}
