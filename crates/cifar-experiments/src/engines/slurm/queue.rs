//! Calls Slurm's programs `sbatch`, `squeue` and `scancel`. `sacct` is not used, since a cluster
//! may keep no accounting data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cifar_pipeline::{Context as _, Error, Result, bail, programs};

/// Fields of a line of `squeue`: task number in the array, state, reason, node.
const FORMAT: &str = "--format=%K|%T|%r|%N";
/// Prefix of environment variables that would change which lines `squeue` shows.
const FILTERS: &str = "SQUEUE_";

/// The paths of Slurm's programs.
#[derive(Debug)]
pub(crate) struct Queue {
    sbatch: PathBuf,
    squeue: PathBuf,
    scancel: PathBuf,
}

/// The state of a task according to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not started, or waits to start again.
    Waiting,
    /// It has a node.
    Running,
    /// It left its node without being cancelled, so another attempt may succeed.
    Stopped,
    /// It was cancelled.
    Cancelled,
    /// It ended by itself.
    Over,
}

/// A task as `squeue` reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) phase: Phase,
    /// The state as Slurm names it.
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) node: String,
}

/// The tasks of an array that Slurm still knows, by number.
pub(super) type Listing = BTreeMap<usize, Listed>;

impl Queue {
    /// Finds Slurm's programs.
    ///
    /// # Errors
    /// If one of them is not on the path.
    pub(crate) fn find() -> Result<Self> {
        let find = |name: &str| {
            programs::find(name).ok_or_else(|| {
                Error::failed(format!("{name} is not on the path, so Slurm is not available here; use a machine from which jobs are submitted, or `--engine local`"))
            })
        };
        Ok(Self { sbatch: find("sbatch")?, squeue: find("squeue")?, scancel: find("scancel")? })
    }

    /// Submits a job. Returns its number.
    pub(super) fn submit(&self, arguments: &[String]) -> Result<u64> {
        let mut command = Command::new(&self.sbatch);
        command.args(arguments).env_remove("SBATCH_WAIT");
        // Its own process group: Ctrl-C must not reach sbatch, or a job could be submitted whose
        // number is lost.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        job_number(&answer(command, "sbatch")?)
    }

    /// Returns the tasks of a job; empty if Slurm no longer knows it.
    pub(super) fn list(&self, job: u64) -> Result<Listing> {
        let jobs = format!("--jobs={job}");
        match self.squeue(&["--array", "--states=all", FORMAT, &jobs]) {
            Ok(text) => Ok(listing(&text)),
            Err(error) if error.to_string().contains("Invalid job id") => Ok(Listing::new()),
            Err(error) => Err(error),
        }
    }

    /// Returns the number of the job of this name, if Slurm knows one.
    pub(super) fn named(&self, name: &str) -> Result<Option<u64>> {
        let text = self.squeue(&["--states=all", "--format=%F", &format!("--name={name}")])?;
        Ok(text.lines().find_map(|line| line.trim().parse().ok()))
    }

    /// Cancels a job, waiting or running.
    pub(super) fn cancel(&self, job: u64) -> Result<()> {
        let mut command = Command::new(&self.scancel);
        command.arg(job.to_string());
        answer(command, "scancel").map(drop)
    }

    fn squeue(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.squeue);
        command.arg("--noheader").args(arguments);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(FILTERS)) {
            command.env_remove(name);
        }
        answer(command, "squeue")
    }
}

/// Returns the output of a program. If it fails, the error has its message in one line, without
/// prefixes.
fn answer(mut command: Command, name: &str) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {name}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut lines = text.lines().map(|line| {
        let line = line.trim();
        let words = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(line);
        words.strip_prefix("error: ").or_else(|| words.strip_prefix("fatal: ")).unwrap_or(words).to_string()
    });
    let first = lines.find(|line| !line.is_empty()).unwrap_or_else(|| "no output".into());
    match lines.rfind(|line| !line.is_empty()) {
        Some(last) => bail!("{name} failed: {first}; {last}"),
        None => bail!("{name} failed: {first}"),
    }
}

/// Returns the job number in the output of `sbatch --parsable`: `NUMBER` or `NUMBER;CLUSTER`,
/// possibly after messages of the site.
fn job_number(text: &str) -> Result<u64> {
    let number = |line: &str| line.trim().split(';').next().and_then(|part| part.parse().ok());
    text.lines().rev().find_map(number).with_context(|| format!("sbatch printed no job number, but {:?}", text.trim()))
}

fn listing(text: &str) -> Listing {
    let mut listing = Listing::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.trim().splitn(4, '|').collect();
        let [number, state, reason, node] = fields.as_slice() else { continue };
        let Ok(number) = number.parse() else { continue };
        let (state, reason, node) = ((*state).to_string(), (*reason).to_string(), (*node).to_string());
        listing.insert(number, Listed { phase: phase(&state), state, reason, node });
    }
    listing
}

fn phase(state: &str) -> Phase {
    match state {
        "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "RESV_DEL_HOLD" | "SPECIAL_EXIT" => Phase::Waiting,
        "TIMEOUT" | "NODE_FAIL" | "PREEMPTED" | "BOOT_FAIL" | "DEADLINE" | "REVOKED" => Phase::Stopped,
        "CANCELLED" => Phase::Cancelled,
        "COMPLETED" | "FAILED" | "OUT_OF_MEMORY" => Phase::Over,
        // RUNNING, CONFIGURING, COMPLETING, SUSPENDED and all other states between start and end.
        _ => Phase::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_numbers_are_parsed_from_the_output_of_sbatch() {
        for (text, expected) in [
            ("17\n", Some(17)),
            ("17;alpha\n", Some(17)),
            ("Welcome.\n17\n", Some(17)),
            ("", None),
            ("Submitted\n", None),
        ] {
            assert_eq!(job_number(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_of_squeue_are_parsed_into_tasks() {
        let text = "2|PENDING|JobArrayTaskLimit|\n0|RUNNING|None|n1\n1|COMPLETED|None|n2\n3|NODE_FAIL|NodeDown|n2\n\
                    N/A|PENDING|None|\nodd\n4|CANCELLED|PartitionDown|\n5|STAGE_OUT|a|b|c\n";
        let listing = listing(text);
        let phases: Vec<(usize, Phase)> = listing.iter().map(|(number, task)| (*number, task.phase)).collect();
        let expected = [
            (0, Phase::Running),
            (1, Phase::Over),
            (2, Phase::Waiting),
            (3, Phase::Stopped),
            (4, Phase::Cancelled),
            (5, Phase::Running),
        ];
        assert_eq!(phases, expected);
        assert_eq!((listing[&0].node.as_str(), listing[&2].reason.as_str()), ("n1", "JobArrayTaskLimit"));
    }

    #[test]
    fn errors_of_programs_are_one_line() {
        let script = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{text}; exit 1")]);
            answer(command, "sbatch").unwrap_err().to_string()
        };
        let two = "echo sbatch: error: invalid partition specified: x >&2; echo sbatch: error: Batch job submission failed: Invalid partition >&2";
        assert_eq!(
            script(two),
            "sbatch failed: invalid partition specified: x; Batch job submission failed: Invalid partition"
        );
        assert_eq!(script("echo sbatch: fatal: no >&2"), "sbatch failed: no");
        assert_eq!(script("true"), "sbatch failed: no output");
    }
}
