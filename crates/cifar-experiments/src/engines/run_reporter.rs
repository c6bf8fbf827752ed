//! The reporter of one run: messages go to the run's log, progress to its row.

use std::fs::File;
use std::io::Write as _;
use std::sync::Mutex;

use cifar_data::Progress;
use cifar_model::Model;
use cifar_pipeline::{Outcome, Reporter};
use cifar_train::tune::Scored;
use cifar_train::{EpochRecord, StepRecord, TrainingCallback};

use crate::board::Row;

/// The reporter of one run. Messages go to the run's log, progress to its row.
pub(crate) struct RunReporter<'a> {
    log: Mutex<File>,
    row: Row<'a>,
}

impl<'a> RunReporter<'a> {
    pub(crate) fn new(log: File, row: Row<'a>) -> Self {
        Self { log: Mutex::new(log), row }
    }

    /// Writes a line to the log. Errors are ignored: a log that cannot be written stops no run.
    fn line(&self, text: &str) {
        if let Ok(mut log) = self.log.lock() {
            let _ = writeln!(log, "{text}");
        }
    }
}

impl Progress for RunReporter<'_> {
    fn update(&self, what: &'static str, done: u64, total: u64) {
        self.row.show(what, done, total, None);
    }

    fn cancelled(&self) -> bool {
        self.row.board().reporter().cancelled()
    }

    fn warn(&self, message: &str) {
        self.line(&format!("warning: {message}"));
    }
}

impl TrainingCallback for RunReporter<'_> {
    fn started(&self, _model: &Model, history: &[EpochRecord], steps: usize) {
        if steps > 0 {
            self.line(&format!("resuming after step {steps}, from a checkpoint"));
        }
        for record in history {
            self.line(&record.to_string());
        }
    }

    fn step(&self, step: &StepRecord) {
        let accuracy = step.correct as f64 / step.images.max(1) as f64 * 100.0;
        let note = format!("loss {:.3} · acc {accuracy:.1} % · lr {:.2e}", step.loss, step.learning_rate);
        self.row.show("training", step.step as u64, step.steps as u64, Some(&note));
    }

    fn epoch(&self, history: &[EpochRecord]) {
        if let Some(record) = history.last() {
            self.line(&record.to_string());
        }
    }

    fn scored(&self, scored: &Scored) {
        self.line(&scored.to_string());
    }
}

impl Reporter for RunReporter<'_> {
    fn note(&self, message: &str) {
        self.line(message);
    }

    fn finished(&self, outcome: &dyn Outcome) {
        self.line(&outcome.to_string());
    }
}
