//! Callbacks of a training run: the terminal, the files for DVC and editors, `TensorBoard`.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cifar_data::Progress;
use cifar_model::Model;
use cifar_train::live::Live;
use cifar_train::tensorboard::EventFile;
use cifar_train::{EpochRecord, StepRecord, TrainingCallback};

use super::TrainOptions;
use crate::links::refuse_links_to;
use crate::{Project, Reporter, Result};

/// The file that tells DVC's editor extensions that there are new values, in DVC's root, as
/// `DVCLive` has it.
const SIGNAL: &str = ".dvc/tmp/exps/run/DVCLIVE_STEP_COMPLETED";

/// Updates the terminal and the files that are written after each epoch. A file that cannot be
/// written only causes a warning, since the run matters more.
pub(super) struct Watched<'a> {
    reporter: &'a dyn Reporter,
    files: Mutex<Files>,
}

struct Files {
    live: Live,
    tensorboard: Option<EventFile>,
    events: Option<PathBuf>,
    warned: bool,
}

impl<'a> Watched<'a> {
    /// Creates the callbacks of run `key`, with `TensorBoard` files in a folder if given.
    pub(super) fn new(
        project: &Project,
        options: &TrainOptions,
        key: &str,
        reporter: &'a dyn Reporter,
    ) -> Result<Self> {
        let root = std::env::var_os("DVC_ROOT").map(PathBuf::from).filter(|root| root.join(".dvc").is_dir());
        let live = Live::new(&project.layout.final_model(), root.map(|root| root.join(SIGNAL)));
        let tensorboard = options.tensorboard.as_deref();
        if let Some(folder) = tensorboard {
            refuse_links_to(&project.layout, folder)?;
        }
        let tensorboard = tensorboard.map(|folder| EventFile::create(folder, key)).transpose()?;
        let events = options.events.clone();
        Ok(Self { reporter, files: Mutex::new(Files { live, tensorboard, events, warned: false }) })
    }

    fn write(&self, history: &[EpochRecord]) {
        let Ok(mut files) = self.files.lock() else { return };
        let tensorboard = files.tensorboard.as_mut().map_or(Ok(()), |events| events.update(history));
        let events = files.events.as_ref().map_or(Ok(()), |path| write_epochs(path, history));
        if let Err(error) = files.live.update(history).and(tensorboard).and(events)
            && !std::mem::replace(&mut files.warned, true)
        {
            self.reporter.warn(&format!("{error}; training continues, but the curves on disk are no longer updated"));
        }
    }
}

/// Returns all epochs so far as JSON lines.
fn write_epochs(path: &Path, history: &[EpochRecord]) -> cifar_train::Result<()> {
    let lines = history.iter().filter_map(|record| serde_json::to_string(record).ok());
    let text: String = lines.map(|line| line + "\n").collect();
    Ok(cifar_data::output::write_file(path, text.as_bytes())?)
}

impl Progress for Watched<'_> {
    fn update(&self, what: &'static str, done: u64, total: u64) {
        self.reporter.update(what, done, total);
    }

    fn cancelled(&self) -> bool {
        self.reporter.cancelled()
    }

    fn warn(&self, message: &str) {
        self.reporter.warn(message);
    }
}

impl TrainingCallback for Watched<'_> {
    fn started(&self, model: &Model, history: &[EpochRecord], steps: usize) {
        self.reporter.started(model, history, steps);
        if !history.is_empty() {
            self.write(history);
        }
    }

    fn step(&self, step: &StepRecord) {
        self.reporter.step(step);
    }

    fn should_continue(&self, history: &[EpochRecord]) -> bool {
        self.reporter.should_continue(history)
    }

    fn epoch(&self, history: &[EpochRecord]) {
        self.reporter.epoch(history);
        self.write(history);
    }
}
