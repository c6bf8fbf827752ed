//! A job array on disk, in its own folder in `.cifar/slurm`: a copy of the program at submission,
//! the runs, the script and the job's number.
//!
//! The job's name is written before it is submitted, and its number after. If the process is killed
//! in between, the next one finds the job by its name and submits nothing twice.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cifar_data::names::shown;
use cifar_data::output::write_file;
use cifar_data::provenance::{read_sealed, sealed_json};
use cifar_kernels::{DEPRECATED_ISA_VARIABLE, ISA_VARIABLE};
use cifar_pipeline::layout::Layout;
use cifar_pipeline::program::{FINGERPRINT, running};
use cifar_pipeline::{Context as _, Error, Project, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::queue::Queue;
use crate::analysis::RunRecord;
use crate::grid::SlurmParams;

const SCHEMA: u32 = 3;
const JOB: &str = "job.json";
const RUNS: &str = "runs.json";
const SCRIPT: &str = "task.sh";
const PROGRAM: &str = "cifar-cli";
/// The name of the forced instruction set, if there is one.
const ARM: &str = "arm.txt";
/// Slurm's file with the output of a task outside of its run's log; `%a` is the task's number.
const OUTPUT: &str = "task-%a.txt";
/// Under `.cifar/slurm`, next to the folders of arrays.
const DATA: &str = "data";
/// What to do with the folder of an array that cannot be read.
const REMEDY: &str = "if no Slurm job works for this project any more, remove its folder";
/// Number of last lines of a task's output that are kept if it ends without a result.
const TAIL: usize = 5;

/// A submitted job array.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) folder: PathBuf,
    /// Its job number in Slurm.
    pub(super) job: u64,
    /// The runs of its tasks, by task number.
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
    /// Threads of each task.
    threads: i64,
}

/// `runs.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Runs {
    /// In the order of their tasks.
    runs: Vec<RunRecord>,
}

/// Returns the folder of pulled and prepared data, which the tasks of all arrays share.
pub(super) fn data_folder(layout: &Layout) -> PathBuf {
    layout.slurm().join(DATA)
}

/// Returns the run of a task and its number of threads.
pub(super) fn run_of_task(folder: &Path, number: usize) -> Result<(RunRecord, usize)> {
    let job = Job::read(folder)?;
    let runs = read_runs(folder)?;
    let count = runs.len();
    let run = runs.into_iter().nth(number);
    let run =
        run.with_context(|| format!("{}: has {count} runs, and none of number {number}", folder.join(RUNS).display()))?;
    Ok((run, usize::try_from(job.threads).unwrap_or(1)))
}

/// Returns the folder of the project to which the folder of an array belongs.
pub(super) fn project_of(folder: &Path) -> Result<PathBuf> {
    let root = folder.ancestors().nth(3).map(Path::to_path_buf);
    let root = root.filter(|root| Layout::new(root).slurm() == folder.parent().unwrap_or(folder));
    root.with_context(|| {
        format!("{}: is not the folder of a job array; `experiments task` is run by Slurm only", folder.display())
    })
}

/// Returns the file that a task leaves when it was asked to stop and can resume.
pub(super) fn interrupted_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("interrupted-{number}"))
}

/// Returns the folders of all arrays, whether Slurm still knows them or not.
pub(super) fn folders(layout: &Layout) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(layout.slurm()).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|e| e.path()).filter(|path| path.join(JOB).is_file()).collect();
    folders.sort();
    folders
}

impl Submission {
    /// Reads the folder of an array; none if it was never submitted.
    pub(super) fn read(folder: &Path, queue: &Queue) -> Result<Option<Self>> {
        let mut job = Job::read(folder)?;
        if job.number.is_none() {
            job.number = queue.named(&job.name)?;
            if job.number.is_some() {
                job.write(folder)?;
            }
        }
        let Some(number) = job.number else { return Ok(None) };
        Ok(Some(Self { folder: folder.to_path_buf(), job: number, runs: read_runs(folder)? }))
    }

    /// Submits an array of these runs, with a limit on how many run at once if given.
    pub(super) fn submit(
        project: &Project,
        queue: &Queue,
        params: &SlurmParams,
        at_once: Option<i64>,
        runs: Vec<RunRecord>,
    ) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let identity = format!("{now} {} {}", std::process::id(), runs.len());
        let name = format!("cifar-{}", &blake3::hash(identity.as_bytes()).to_hex()[..12]);
        let folder = std::path::absolute(project.layout.slurm().join(&name))?;
        let result = Self::submit_from(queue, params, at_once, &runs, &name, &folder);
        match result {
            Ok(job) => Ok(Self { folder, job, runs }),
            Err(error) => {
                // If Slurm cannot say whether it accepted the job, the next call asks again.
                if queue.named(&name).is_ok() {
                    let _ = std::fs::remove_dir_all(&folder);
                }
                Err(error)
            }
        }
    }

    fn submit_from(
        queue: &Queue,
        params: &SlurmParams,
        at_once: Option<i64>,
        runs: &[RunRecord],
        name: &str,
        folder: &Path,
    ) -> Result<u64> {
        let (script_file, folder_text) = (folder.join(SCRIPT), printable(folder)?);
        cifar_kernels::numeric_target()?;
        write_runs(runs, folder)?;
        copy_program(folder)?;
        let limit = at_once.map(|n| format!("%{n}")).unwrap_or_default();
        let mut arguments: Vec<String> = vec![
            "--parsable".into(),
            "--requeue".into(),
            format!("--job-name={name}"),
            format!("--array=0-{}{limit}", runs.len() - 1),
            "--open-mode=append".into(),
            // Relative to the folder of the next option.
            format!("--output={OUTPUT}"),
            format!("--chdir={folder_text}"),
        ];
        arguments.extend(params.arguments());
        arguments.push(format!("{folder_text}/{SCRIPT}"));
        write_file(&script_file, script().as_bytes())?;
        if let Some(arm) = cifar_kernels::isa_variable()?.and_then(std::env::var_os) {
            write_file(&folder.join(ARM), arm.as_encoded_bytes())?;
        }
        let threads = params.cpus_per_task;
        let mut job = Job { schema: SCHEMA, name: name.into(), number: None, threads };
        job.write(folder)?;
        let number = match queue.submit(&arguments) {
            Ok(number) => number,
            // sbatch may have timed out although Slurm accepted the job.
            Err(error) => queue.named(name).ok().flatten().ok_or(error)?,
        };
        job.number = Some(number);
        // Without its number the array could not be followed.
        job.write(folder).inspect_err(|_| drop(queue.cancel(number)))?;
        Ok(number)
    }

    /// Returns the last lines that Slurm and the task printed outside of the run's log.
    pub(super) fn last_words(&self, number: usize) -> Vec<String> {
        let text = std::fs::read(self.folder.join(OUTPUT.replace("%a", &number.to_string()))).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL)..].iter().map(ToString::to_string).collect()
    }

    /// Removes the folder, once no task needs it.
    pub(super) fn remove(&self) {
        // A leftover folder only uses disk space.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Job {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(JOB);
        let text = std::fs::read(&path).with_context(|| format!("{}: cannot read", path.display()))?;
        let value: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
        // A file of an older version says so, though it has no hash.
        if let Some(schema) = value.and_then(|value| value["schema"].as_u64()) {
            ensure!(
                schema == u64::from(SCHEMA),
                "{}: has schema {schema}, this program reads schema {SCHEMA}; {REMEDY}",
                path.display()
            );
        }
        read_sealed(&text).map_err(|problem| Error::failed(format!("{}: {problem}; {REMEDY}", path.display())))
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(JOB);
        Ok(write_file(&path, &sealed_json(self, &path)?)?)
    }
}

fn read_runs(folder: &Path) -> Result<Vec<RunRecord>> {
    let path = folder.join(RUNS);
    let text = std::fs::read(&path).with_context(|| format!("{}: cannot read", path.display()))?;
    let runs: Runs =
        read_sealed(&text).map_err(|problem| Error::failed(format!("{}: {problem}; {REMEDY}", path.display())))?;
    Ok(runs.runs)
}

fn write_runs(runs: &[RunRecord], folder: &Path) -> Result<()> {
    let path = folder.join(RUNS);
    Ok(write_file(&path, &sealed_json(&Runs { runs: runs.to_vec() }, &path)?)?)
}

/// Copies the program and the fingerprint of its code, so that tasks that wait for days are not
/// affected when it is recompiled.
fn copy_program(folder: &Path) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let to = folder.join(PROGRAM);
    std::fs::copy(running()?, &to).with_context(|| format!("{}: cannot write", to.display()))?;
    let fingerprint = program.with_file_name(FINGERPRINT);
    if fingerprint.is_file() {
        let to = folder.join(FINGERPRINT);
        std::fs::copy(&fingerprint, &to).with_context(|| format!("{}: cannot write", to.display()))?;
    }
    Ok(())
}

/// Returns a path as text for the command line of sbatch.
///
/// # Errors
/// If it is not UTF-8, or has a control character such as a newline, which Slurm's line-based files
/// cannot represent.
fn printable(path: &Path) -> Result<&str> {
    match path.to_str() {
        Some(text) if !text.contains(char::is_control) => Ok(text),
        _ => bail!(
            "{}: a path with control characters or bytes that are not UTF-8 is not allowed under `--engine slurm`; move the project",
            shown(path)
        ),
    }
}

/// The script that Slurm executes, the same for every job. It runs in the folder of the array and
/// reads what differs between jobs from files there, so none of it becomes part of a shell's text.
fn script() -> String {
    format!(
        "#!/bin/sh\n\
         # A task of a job array: it does the run that has its number in runs.json.\n\
         if [ -f {ARM} ]; then\n  unset {DEPRECATED_ISA_VARIABLE}\n  {ISA_VARIABLE}=$(cat {ARM})\n  export {ISA_VARIABLE}\nfi\n\
         exec ./{PROGRAM} experiments task \"$SLURM_ARRAY_TASK_ID\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_of_an_array_is_found_by_its_folder() {
        let folder = Path::new("/a b/it's/.cifar/slurm/cifar-1");
        assert_eq!(project_of(folder).unwrap(), Path::new("/a b/it's"));
        for other in ["/a/.cifar/runs/x", "/a/slurm/x", "/", "x"] {
            let error = project_of(Path::new(other)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{other}: is not the folder of a job array")), "{error}");
        }
    }

    #[test]
    fn a_damaged_submission_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let params = serde_json::json!({"train": {"learning_rate": 0.05}});
        let run =
            RunRecord::new("v1-seed1", "v1", 1, std::collections::BTreeMap::default(), params, "d".into(), "p".into());
        let job = Job { schema: SCHEMA, name: "cifar-1".into(), number: Some(17), threads: 4 };
        job.write(folder.path()).unwrap();
        write_runs(std::slice::from_ref(&run), folder.path()).unwrap();
        assert_eq!(run_of_task(folder.path(), 0).unwrap(), (run, 4));
        for (file, from, to) in [
            (JOB, "17", "19"),
            (JOB, "\"threads\": 4", "\"threads\": 5"),
            (RUNS, "0.05", "0.15"),
            (RUNS, "seed1", "seed3"),
        ] {
            let path = folder.path().join(file);
            let whole = std::fs::read_to_string(&path).unwrap();
            let changed = whole.replacen(from, to, 1);
            assert_ne!(changed, whole, "{from}");
            std::fs::write(&path, changed).unwrap();
            let error = run_of_task(folder.path(), 0).unwrap_err().to_string();
            let start = format!("{}: is damaged: its content does not match", path.display());
            assert!(error.starts_with(&start) && error.ends_with(REMEDY), "{error}");
            std::fs::write(&path, whole).unwrap();
        }
        let old = folder.path().join(JOB);
        std::fs::write(&old, "{\"schema\": 2, \"name\": \"cifar-1\", \"number\": 17, \"threads\": 4}").unwrap();
        let error = Job::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("has schema 2, this program reads schema 3"), "{error}");
    }

    #[test]
    fn paths_with_control_characters_are_refused() {
        assert_eq!(printable(Path::new("/a b/it's $(x)")).unwrap(), "/a b/it's $(x)");
        for wrong in ["/a\ntouch x", "/a\r", "/\u{1b}[2J"] {
            let error = printable(Path::new(wrong)).unwrap_err().to_string();
            assert!(error.contains("control characters") && error.lines().count() == 1, "{error}");
        }
    }
}
