//! Who watches a training run: the terminal, the files for DVC and editors, `TensorBoard`.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Result;
use cifar_data::Progress;
use cifar_model::Model;
use cifar_train::live::Live;
use cifar_train::tensorboard::EventFile;
use cifar_train::{EpochRecord, StepRecord, TrainingCallback};

use crate::commands::Context;
use crate::links::refuse_links_to;
use crate::terminal::Terminal;

/// The terminal, and the files that are written epoch by epoch. If one of those fails, that is a warning: the run is worth
/// more.
pub(super) struct Watched<'a> {
    terminal: &'a Terminal,
    files: Mutex<Files>,
}

struct Files {
    live: Live,
    events: Option<EventFile>,
    warned: bool,
}

impl<'a> Watched<'a> {
    /// The run `key` is to be watched, with `TensorBoard` in that folder if there is one.
    pub(super) fn new(context: &'a Context, tensorboard: Option<&Path>, key: &str) -> Result<Self> {
        let root = std::env::var_os("DVC_ROOT").map(PathBuf::from);
        let live = Live::new(&context.layout.final_model(), root.as_deref());
        if let Some(folder) = tensorboard {
            refuse_links_to(&context.layout, folder)?;
        }
        let events = tensorboard.map(|folder| EventFile::create(folder, key)).transpose()?;
        Ok(Self { terminal: context.terminal, files: Mutex::new(Files { live, events, warned: false }) })
    }

    fn write(&self, history: &[EpochRecord]) {
        let Ok(mut files) = self.files.lock() else { return };
        let events = files.events.as_mut().map_or(Ok(()), |events| events.update(history));
        if let Err(error) = files.live.update(history).and(events)
            && !std::mem::replace(&mut files.warned, true)
        {
            self.terminal.warn(&format!("{error}; training goes on, the curves on disk stand still"));
        }
    }
}

impl Progress for Watched<'_> {
    fn update(&self, what: &'static str, done: u64, total: u64) {
        self.terminal.update(what, done, total);
    }

    fn cancelled(&self) -> bool {
        self.terminal.cancelled()
    }

    fn warn(&self, message: &str) {
        self.terminal.warn(message);
    }
}

impl TrainingCallback for Watched<'_> {
    fn started(&self, model: &Model, history: &[EpochRecord], steps: usize) {
        self.terminal.started(model, history, steps);
        if !history.is_empty() {
            self.write(history);
        }
    }

    fn step(&self, step: &StepRecord) {
        self.terminal.step(step);
    }

    fn epoch(&self, history: &[EpochRecord]) {
        self.terminal.epoch(history);
        self.write(history);
    }
}
