//! A two-node Slurm cluster on this machine, run by `tests/slurm.sh`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{note, repository};

/// A cluster with the nodes n1 and n2. It stops when it is dropped or when the test process ends.
#[derive(Debug)]
pub struct Cluster {
    folder: tempfile::TempDir,
    script: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Cluster {
    /// Starts a cluster. Prints the reason and returns `None` if Slurm is missing; in CI this is a
    /// failure.
    pub fn start() -> Option<Self> {
        let there = |name: &str| {
            let folders = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&folders).chain(["/usr/sbin".into()]).any(|folder| folder.join(name).is_file())
        };
        if let Some(missing) = ["munged", "slurmctld", "slurmd", "sbatch"].into_iter().find(|name| !there(name)) {
            let reason = format!("{missing} is missing; scripts/slurm.sh installs it");
            assert!(std::env::var_os("CI").is_none(), "{reason}");
            note(&format!("skipped: {reason}"));
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut script = Command::new(repository().join("tests/slurm.sh"))
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script starts");
        let input = script.stdin.take();
        let output = BufReader::new(script.stdout.take().expect("a pipe"));
        let mut cluster = Self { folder, script, input, output };
        assert_eq!(cluster.answer(), "ready", "the cluster did not start; its script's output says why");
        Some(cluster)
    }

    /// Kills a node and everything that runs on it, as a power failure does.
    pub fn kill(&mut self, node: &str) {
        self.say(&format!("kill {node}"));
    }

    /// Restarts a node that was killed.
    pub fn restart(&mut self, node: &str) {
        self.say(&format!("start {node}"));
    }

    /// Sets the environment with which a command finds the cluster.
    pub fn reaches<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("SLURM_CONF", self.folder.path().join("slurm.conf"))
    }

    /// Returns the standard output of one of Slurm's programs.
    #[track_caller]
    pub fn ask(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.reaches(Command::new(program).args(arguments)).output().expect("the program starts");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Returns the numbers of all array jobs that Slurm knows, in any state.
    pub fn jobs(&self) -> Vec<String> {
        let text = self.ask("squeue", &["--noheader", "--states=all", "--format=%F"]);
        let mut jobs: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
        jobs.sort();
        jobs.dedup();
        jobs
    }

    /// Returns the pending and running tasks: job, number and node.
    pub fn tasks(&self) -> Vec<[String; 3]> {
        let text = self.ask("squeue", &["--noheader", "--array", "--format=%F|%K|%N"]);
        let fields = |line: &str| {
            let parts: Vec<String> = line.trim().split('|').map(String::from).collect();
            <[String; 3]>::try_from(parts).expect("three fields")
        };
        text.lines().map(fields).collect()
    }

    /// Applies an `scontrol` action to all pending and running tasks.
    pub fn all(&self, what: &str) {
        for [job, number, _] in self.tasks() {
            self.ask("scontrol", &[what, &format!("{job}_{number}")]);
        }
    }

    /// Lifts the two-minute delay that Slurm puts on requeued tasks.
    pub fn hurry(&self) {
        for [job, number, node] in self.tasks() {
            if node.is_empty() {
                let task = format!("JobId={job}_{number}");
                self.ask("scontrol", &["update", &task, "StartTime=now"]);
            }
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().expect("open until the end"), "{line}").expect("the script listens");
        assert_eq!(self.answer(), "done");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the script's output is text");
        line.trim().to_string()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The script stops at the end of its input.
        self.input.take();
        let _ = self.script.wait();
    }
}

/// Waits until `is_so` returns true, for at most four minutes.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_mins(4), "timed out waiting: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the number of files with this name under a folder.
pub fn count(folder: &Path, name: &str) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|e| e.path())
        .map(|path| if path.is_dir() { count(&path, name) } else { usize::from(path.ends_with(name)) })
        .sum()
}
