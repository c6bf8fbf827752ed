//! A grid on the terminal: a row for each run under way, and one for all runs. Shown only where
//! somebody watches.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cifar_data::Progress;
use cifar_experiments::GridReporter;
use cifar_pipeline::{Outcome, Reporter};
use cifar_train::TrainingCallback;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal::Terminal;

/// Steps of a row's bar.
const TICKS: u64 = 1000;

/// The rows of a grid.
pub(crate) struct GridRows<'a> {
    terminal: &'a Terminal,
    multi: MultiProgress,
    total: ProgressBar,
    rows: Mutex<BTreeMap<String, ProgressBar>>,
}

impl<'a> GridRows<'a> {
    pub(crate) fn new(terminal: &'a Terminal) -> Self {
        let is_watched = std::io::stderr().is_terminal() && !terminal.quiet();
        let target = if is_watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let multi = MultiProgress::with_draw_target(target);
        let total = bar("{prefix:>30} {bar:24} {msg}");
        total.set_prefix("all runs");
        Self { terminal, multi, total, rows: Mutex::default() }
    }

    fn with_row(&self, run: &str, change: impl FnOnce(&ProgressBar)) {
        if let Some(row) = self.rows.lock().unwrap_or_else(PoisonError::into_inner).get(run) {
            change(row);
        }
    }
}

impl Progress for GridRows<'_> {
    fn update(&self, what: &'static str, done: u64, total: u64) {
        self.terminal.update(what, done, total);
    }

    fn cancelled(&self) -> bool {
        self.terminal.cancelled()
    }

    fn warn(&self, message: &str) {
        self.multi.suspend(|| self.terminal.warn(message));
    }
}

impl TrainingCallback for GridRows<'_> {}

impl Reporter for GridRows<'_> {
    fn note(&self, message: &str) {
        self.multi.suspend(|| self.terminal.say(message));
    }

    fn finished(&self, outcome: &dyn Outcome) {
        self.multi.suspend(|| self.terminal.outcome(outcome));
    }
}

impl GridReporter for GridRows<'_> {
    fn run_started(&self, run: &str) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.is_empty() {
            // Added with the first run, so that it stays below all of them.
            self.multi.add(self.total.clone());
            self.total.enable_steady_tick(Duration::from_secs(1));
        }
        let row = self.multi.insert_before(&self.total, bar("{prefix:>30} {bar:24} {elapsed:>4} {msg}"));
        row.set_prefix(run.to_string());
        rows.insert(run.to_string(), row);
    }

    fn run_progress(&self, run: &str, fraction: f64, message: &str) {
        self.with_row(run, |row| {
            row.set_position((fraction * TICKS as f64) as u64);
            row.set_message(message.to_string());
        });
    }

    fn run_note(&self, run: &str, message: &str) {
        self.with_row(run, |row| row.set_message(message.to_string()));
    }

    fn run_ended(&self, run: &str) {
        if let Some(row) = self.rows.lock().unwrap_or_else(PoisonError::into_inner).remove(run) {
            row.finish_and_clear();
        }
    }

    fn grid_progress(&self, fraction: f64, message: &str) {
        self.total.set_position((fraction * TICKS as f64) as u64);
        self.total.set_message(message.to_string());
    }

    fn grid_ended(&self) {
        self.total.finish_and_clear();
        let _ = self.multi.clear();
    }
}

fn bar(template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(TICKS), ProgressDrawTarget::hidden());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
