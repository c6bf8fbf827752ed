//! `--engine dvc`: executes every run as `dvc exp run --temp` under its name, so that
//! `dvc exp show`, `diff`, `apply`, `branch` and `push` can use it. The work tree and HEAD do not
//! change, and DVC's run-cache computes shared stages once. Results are copied from DVC's cache into
//! the run's folder.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use cifar_data::DataError;
use cifar_data::partitions::Partition;
use cifar_pipeline::params::Params;
use cifar_pipeline::{Context as _, Error, Project, Result, bail, contract, ensure, programs};
use serde_json::Value;

use super::{Engine, Session};
use crate::board::Row;
use crate::epochs::{EVENTS_VARIABLE, EpochReader};
use crate::grid::Run;
use crate::plan::Data;
use crate::run_folder::{EVENTS, log, log_error};

/// The oldest tested version of DVC.
const OLDEST: [u64; 2] = [3, 67];
/// Paths whose changes affect no run.
const HARMLESS: [&str; 3] = ["experiments/", "experiments.toml", "dvc.lock"];
/// The results of a run.
const RESULTS: [&str; 3] = ["models/final", "evaluation/test", "evaluation/hard_images"];

/// Returns the file in which DVC tracks a partition.
fn tracked(partition: Partition) -> String {
    format!("dataset_partitions/{partition}.dvc")
}

pub(crate) struct Dvc<'a> {
    session: Session<'a>,
    program: PathBuf,
    /// Threads of each run's commands.
    threads: usize,
}

/// Returns DVC's program, from the project's environment or the path, if it is installed.
pub(crate) fn find(project: &Project) -> Option<PathBuf> {
    let local = project.layout.join(".venv/bin/dvc");
    let local = std::path::absolute(local).ok().filter(|p| p.is_file());
    local.or_else(|| programs::find("dvc"))
}

/// Returns whether DVC can run experiments in the project.
pub(crate) fn is_usable(project: &Project) -> bool {
    find(project).is_some() && [".dvc", ".git", "dvc.yaml"].iter().all(|name| project.layout.join(name).exists())
}

impl<'a> Dvc<'a> {
    /// Checks that experiments can be run here.
    ///
    /// # Errors
    /// If DVC is missing or too old, HEAD is detached, the work tree has changes, or the partitions
    /// are not tracked.
    pub(crate) fn new(session: Session<'a>, jobs: usize) -> Result<Self> {
        let project = session.project;
        let Some(program) = find(project) else {
            bail!("DVC is not installed; run scripts/dvc.sh, or use `--engine local`");
        };
        ensure!(
            project.params_file == project.layout.params(),
            "{}: DVC runs experiments with the project's params.yaml only; leave --params out, or use --engine local",
            project.params_file.display()
        );
        let threads = (rayon::current_num_threads() / jobs).max(1);
        let dvc = Self { session, program, threads };
        dvc.check_version()?;
        dvc.check_git()?;
        let known = project.known_partitions()?;
        let files: Vec<String> = known.iter().map(|partition| tracked(*partition)).collect();
        if let Some(untracked) = files.iter().find(|file| !project.layout.join(file).is_file()) {
            bail!("{untracked}: is missing; track all partitions with `dvc add`, and commit their .dvc files");
        }
        let mut arguments = vec!["status", "--json"];
        arguments.extend(files.iter().map(String::as_str));
        let status = dvc.dvc(&arguments)?;
        let names: Vec<String> = known.iter().map(ToString::to_string).collect();
        ensure!(
            status.trim() == "{}",
            "dataset_partitions: differs from its .dvc files, which experiments use; `dvc add` {} and commit their .dvc files",
            names.join(", ")
        );
        let pipeline = std::fs::read_to_string(project.layout.pipeline());
        if pipeline.is_ok_and(|text| contract::compiles_program(&text)) {
            session.reporter.note("dvc repro build");
            // Fills the run-cache, so that no run compiles.
            dvc.dvc(&["repro", "--quiet", "build"])?;
        }
        Ok(dvc)
    }

    fn check_version(&self) -> Result<()> {
        let text = self.dvc(&["--version"])?;
        let numbers: Vec<u64> = text.trim().split('.').map_while(|part| part.parse().ok()).collect();
        let [major, minor] = OLDEST;
        ensure!(
            numbers.as_slice() >= &OLDEST[..],
            "{}: is DVC {}; {major}.{minor} or newer is needed: scripts/dvc.sh installs it",
            self.program.display(),
            text.trim()
        );
        Ok(())
    }

    fn check_git(&self) -> Result<()> {
        self.git(&["rev-parse", "--verify", "--quiet", "HEAD"]).map_err(|_| {
            Error::failed(
                "the project is not a git repository with a commit, which DVC's experiments need; use `--engine local`",
            )
        })?;
        ensure!(
            self.git(&["symbolic-ref", "--quiet", "HEAD"]).is_ok(),
            "HEAD is detached (as a killed `dvc exp run` can leave it); run `git switch BRANCH` first, so that experiments belong to a branch's commit"
        );
        let status = self.git(&["status", "--porcelain", "--untracked-files=no"])?;
        let changed: Vec<&str> = (status.lines().filter_map(|line| line.get(3..)))
            .filter(|path| !HARMLESS.iter().any(|harmless| path.starts_with(harmless)))
            .collect();
        if let Some(first) = changed.first() {
            let more = if changed.len() > 1 { format!(" and {} more", changed.len() - 1) } else { String::new() };
            bail!(
                "the work tree has uncommitted changes ({first}{more}), which every experiment would include; commit or stash them first"
            );
        }
        Ok(())
    }

    /// Returns the commits of the experiments of this name.
    fn commits(&self, name: &str) -> Result<Vec<String>> {
        let refs = self.git(&["for-each-ref", "--format=%(refname) %(objectname)", "refs/exps"])?;
        let named = refs.lines().filter_map(|line| {
            // refs/exps/ab/cdef…/NAME
            let (reference, commit) = line.split_once(' ')?;
            let parts: Vec<&str> = reference.splitn(5, '/').collect();
            (parts.len() == 5 && parts[2].len() == 2 && parts[4] == name).then(|| commit.to_string())
        });
        Ok(named.collect())
    }

    /// Returns the commit of the run's experiment, if there is one.
    ///
    /// # Errors
    /// If an experiment of other parameters, data or labels has its name.
    fn existing(&self, run: &Run) -> Result<Option<String>> {
        let commits = self.commits(&run.name)?;
        let [commit] = commits.as_slice() else {
            ensure!(
                commits.is_empty(),
                "there are {} experiments called {}; keep one (`dvc exp remove`, `dvc exp rename`)",
                commits.len(),
                run.name
            );
            return Ok(None);
        };
        let text = self.git(&["show", &format!("{commit}:params.yaml")])?;
        let same_params = Params::parse(&text).is_ok_and(|params| params == run.params);
        let tree =
            |commit: &str, path: &str| self.git(&["rev-parse", "--quiet", "--verify", &format!("{commit}:{path}")]);
        // The partitions on which the run depends, and the labels.
        let last = run.params.dataset_version.depends_on();
        let known = self.session.project.known_partitions()?;
        let inputs = known.into_iter().filter(|partition| *partition <= last).map(tracked);
        let same_inputs =
            inputs.chain(["labels".to_string()]).all(|path| tree(commit, &path).ok() == tree("HEAD", &path).ok());
        ensure!(
            same_params && same_inputs,
            "an experiment called {} exists with other {}; remove or rename it (`dvc exp remove {0}`, `dvc exp rename {0} NAME`)",
            run.name,
            if same_params { "data or labels" } else { "parameters" }
        );
        Ok(Some(commit.clone()))
    }

    /// Runs `dvc exp run` and writes its output to the log.
    fn experiment(
        &self,
        run: &Run,
        folder: &Path,
        log: &mut std::fs::File,
        row: &Row,
        data_ready: &(dyn Fn() + Sync),
    ) -> Result<()> {
        // Without this, parallel runs would refuse each other.
        let mut arguments = vec![
            "--wait-for-lock".to_string(),
            "exp".into(),
            "run".into(),
            "--temp".into(),
            "--name".into(),
            run.name.clone(),
        ];
        let all = run.epochs(&Data::read(self.session.project)?.images);
        // With constant_steps the number of epochs is not a key of the grid.
        let epochs = ("train.epochs".to_string(), Value::from(run.params.train.epochs));
        for (key, value) in std::iter::once((&epochs.0, &epochs.1)).chain(&run.setting) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            arguments.extend(["--set-param".into(), format!("{key}={value}")]);
        }
        let events = std::path::absolute(folder.join(EVENTS))?;
        let mut epochs = EpochReader::new(&events);
        let mut command = self.command(&self.program, &arguments);
        command.env(EVENTS_VARIABLE, &events);
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        let again = writer.try_clone().context("cannot make a pipe")?;
        // Its own process group: Ctrl-C reaches this process, which then stops the whole group.
        command.stdout(writer).stderr(again);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().with_context(|| format!("{}: cannot start it", self.program.display()))?;
        drop(command);
        let (send, lines) = channel();
        let pipe = std::thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        let mut is_stopping = false;
        let mut last = String::new();
        loop {
            match lines.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => {
                    let _ = writeln!(log, "{line}");
                    if let Some(stage) = line.strip_prefix("Running stage '") {
                        row.show(stage.trim_end_matches("':").trim_end_matches('\''), 0, 1, None);
                        if stage.starts_with("tune") || stage.starts_with("train_model") {
                            data_ready();
                        }
                    }
                    if line.contains("ERROR") || line.starts_with("error: ") {
                        last.clone_from(&line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(epoch) = epochs.latest() {
                        row.show("training", epoch, all as u64, Some("epochs"));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.session.reporter.cancelled() && !std::mem::replace(&mut is_stopping, true) {
                interrupt(&child);
            }
        }
        let status = child.wait().context("cannot wait for DVC")?;
        let _ = pipe.join();
        if is_stopping {
            return Err(DataError::Cancelled.into());
        }
        ensure!(
            status.success(),
            "`dvc exp run` ended with {status}{}",
            if last.is_empty() { last } else { format!(": {last}") }
        );
        Ok(())
    }

    /// Copies the results of an experiment into the run's folder.
    fn fetch(&self, commit: &str, folder: &Path) -> Result<()> {
        let folder = std::path::absolute(folder)?;
        for out in RESULTS {
            let target = folder.join(out);
            cifar_data::output::remove(&target)?;
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent).with_context(|| format!("{}: cannot create", parent.display()))?;
            }
            let target = target.to_string_lossy();
            self.dvc(&["--wait-for-lock", "get", "--quiet", "--rev", commit, "--out", &target, ".", out])?;
        }
        Ok(())
    }

    fn dvc(&self, arguments: &[&str]) -> Result<String> {
        self.answer(&self.program, arguments)
    }

    fn git(&self, arguments: &[&str]) -> Result<String> {
        let git = programs::find("git").context("git is not on the path; install it, or use `--engine local`")?;
        self.answer(&git, arguments)
    }

    fn answer(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let what =
            || format!("`{} {}`", program.file_name().unwrap_or_default().to_string_lossy(), arguments.join(" "));
        let output = self.command(program, arguments).output().with_context(|| format!("cannot start {}", what()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let line = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no output").trim();
            bail!("{} failed: {line}", what());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, program: &Path, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.session.project.layout.join(".")).stdin(Stdio::null());
        let quiet: BTreeMap<&str, String> = [
            ("DVC_NO_ANALYTICS", "1".to_string()),
            ("NO_COLOR", "1".into()),
            ("RAYON_NUM_THREADS", self.threads.to_string()),
        ]
        .into();
        command.envs(quiet);
        command
    }
}

impl Engine for Dvc<'_> {
    fn run(&self, run: &Run, folder: &Path, row: &Row, data_ready: &(dyn Fn() + Sync)) -> Result<()> {
        let mut log = log(folder)?;
        let result = || -> Result<()> {
            if self.existing(run)?.is_none() {
                self.experiment(run, folder, &mut log, row, data_ready)?;
            }
            let commit = self.existing(run)?;
            let commit = commit.with_context(|| format!("DVC left no experiment called {}", run.name))?;
            self.fetch(&commit, folder)
        }();
        if let Err(error) = &result {
            log_error(&mut log, error);
        }
        result
    }

    fn data(&self, run: &Run) -> String {
        let split = serde_json::to_value(&run.params.split).unwrap_or(Value::Null);
        format!("{} {split}", run.params.dataset_version)
    }
}

/// Sends SIGINT to the process group of a child.
fn interrupt(child: &Child) {
    let Some(kill) = programs::find("kill") else { return };
    let _ = Command::new(kill).args(["-INT", "--", &format!("-{}", child.id())]).status();
}
