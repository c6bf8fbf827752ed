//! Progress of a grid: each running run, all runs together, and the time left.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use crate::reporter::GridReporter;

/// Approximate fraction of a run's time that training takes; the rest is scoring.
const TRAINING: f64 = 0.95;
/// The runs of a grid that this process executes, and their progress.
pub struct Board<'a> {
    reporter: &'a dyn GridReporter,
    totals: Mutex<Totals>,
}

/// Completed work, in units of cost: training images × epochs.
#[derive(Debug)]
struct Totals {
    started: Instant,
    runs: usize,
    ended: usize,
    /// Of all runs of this process.
    cost: f64,
    /// Of the runs that ended.
    ended_cost: f64,
    /// Of the runs that ended, the part that this process executed.
    own_cost: f64,
    /// By run: its cost, its fraction done when this process started it, and its fraction done now.
    running: BTreeMap<String, (f64, Option<f64>, f64)>,
}

/// One run of the board.
#[derive(Clone)]
pub struct Row<'a> {
    name: String,
    board: &'a Board<'a>,
}

impl<'a> Board<'a> {
    /// Creates a board for runs of these costs.
    pub fn new(reporter: &'a dyn GridReporter, costs: &[f64]) -> Self {
        let totals = Totals {
            started: Instant::now(),
            runs: costs.len(),
            ended: 0,
            cost: costs.iter().sum(),
            ended_cost: 0.0,
            own_cost: 0.0,
            running: BTreeMap::new(),
        };
        Self { reporter, totals: Mutex::new(totals) }
    }

    /// Returns the reporter that shows the board.
    pub fn reporter(&self) -> &'a dyn GridReporter {
        self.reporter
    }

    /// Adds a row for a run that starts.
    pub fn begin(&'a self, name: &str, cost: f64) -> Row<'a> {
        if let Ok(mut totals) = self.totals.lock() {
            totals.running.insert(name.to_string(), (cost, None, 0.0));
        }
        self.reporter.run_started(name);
        self.update();
        Row { name: name.into(), board: self }
    }

    /// Returns the number of runs that ended, and of all runs.
    pub fn ended(&self) -> (usize, usize) {
        self.totals.lock().map_or((0, 0), |totals| (totals.ended, totals.runs))
    }

    fn update(&self) {
        let Ok(totals) = self.totals.lock() else { return };
        let left = totals.seconds_left().map(|s| format!(" · {} left", duration(s))).unwrap_or_default();
        self.reporter.grid_progress(totals.fraction_done(), &format!("{}/{} runs{left}", totals.ended, totals.runs));
    }
}

impl<'a> Row<'a> {
    /// Returns the board of this row.
    pub fn board(&self) -> &'a Board<'a> {
        self.board
    }

    /// Shows that the run has finished `done` of `total` units of `what`.
    pub fn show(&self, what: &str, done: u64, total: u64, note: Option<&str>) {
        let fraction = done as f64 / total.max(1) as f64;
        let note = note.map(|note| format!(" · {note}")).unwrap_or_default();
        self.board.reporter.run_progress(&self.name, fraction, &format!("{what} {done}/{total}{note}"));
        if what == "training" {
            self.trained(fraction);
        }
    }

    /// Records the fraction of its training that the run has finished, 0 to 1.
    pub fn trained(&self, fraction: f64) {
        if let Ok(mut totals) = self.board.totals.lock()
            && let Some((_, first, now)) = totals.running.get_mut(&self.name)
        {
            first.get_or_insert(fraction * TRAINING);
            *now = fraction * TRAINING;
        }
        self.board.update();
    }

    /// Shows an activity whose progress cannot be measured.
    pub fn note(&self, what: &str) {
        self.board.reporter.run_note(&self.name, what);
    }

    /// Removes the row of a run that waits again and has not ended.
    pub fn withdraw(&self) {
        if let Ok(mut totals) = self.board.totals.lock() {
            totals.running.remove(&self.name);
        }
        self.board.reporter.run_ended(&self.name);
        self.board.update();
    }

    /// Removes the row of a run that has ended.
    pub fn end(&self) {
        if let Ok(mut totals) = self.board.totals.lock()
            && let Some((cost, first, _)) = totals.running.remove(&self.name)
        {
            totals.ended += 1;
            totals.ended_cost += cost;
            totals.own_cost += cost * (1.0 - first.unwrap_or(0.0));
        }
        self.board.reporter.run_ended(&self.name);
        self.board.update();
    }
}

impl Totals {
    fn fraction_done(&self) -> f64 {
        let running: f64 = self.running.values().map(|(cost, _, now)| cost * now).sum();
        (self.ended_cost + running) / self.cost.max(f64::MIN_POSITIVE)
    }

    /// Returns the time left at the speed of this process so far; none before it has finished any
    /// work.
    fn seconds_left(&self) -> Option<f64> {
        let running: f64 = self.running.values().map(|(cost, first, now)| cost * (now - first.unwrap_or(*now))).sum();
        let own = self.own_cost + running;
        let rate = own / self.started.elapsed().as_secs_f64();
        (own > 0.0).then(|| self.cost * (1.0 - self.fraction_done()).max(0.0) / rate)
    }
}

/// Returns a time in words, such as `99 s`, `10 min` or `2.0 h`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn work_of_an_earlier_process_does_not_count_towards_the_speed() {
        let board = Board::new(&cifar_data::Silent, &[10.0, 10.0]);
        let row = board.begin("a", 10.0);
        row.show("training", 50, 100, None);
        let totals = || board.totals.lock().unwrap();
        assert!((totals().fraction_done() - 0.2375).abs() < 1e-9, "half of {TRAINING} of one of two runs");
        assert_eq!(totals().seconds_left(), None, "this process has done no work");
        row.show("training", 100, 100, None);
        totals().started = Instant::now().checked_sub(Duration::from_secs(19)).unwrap();
        // A quarter of a run's training took 19 s. One whole run remains, and the scoring of the
        // first.
        let left = totals().seconds_left().unwrap();
        assert!((left - 19.0 / 4.75 * 10.5).abs() < 0.5, "{left}");
        row.end();
        assert_eq!(board.ended(), (1, 2));
        assert!((totals().fraction_done() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn times_are_short() {
        for (seconds, expected) in [(3.4, "3 s"), (99.0, "99 s"), (600.0, "10 min"), (7200.0, "2.0 h")] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
