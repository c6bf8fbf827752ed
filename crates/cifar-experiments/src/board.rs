//! How far a grid is: each run under way, all runs together, and the time that is left.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use crate::reporter::GridReporter;

/// The share of a run's time that training takes, more or less; the rest is scoring.
const TRAINING: f64 = 0.95;
/// The runs of a grid that this process does, and what is known of their progress.
pub struct Board<'a> {
    reporter: &'a dyn GridReporter,
    totals: Mutex<Totals>,
}

/// What is done, in units of cost: training images × epochs.
#[derive(Debug)]
struct Totals {
    started: Instant,
    runs: usize,
    ended: usize,
    /// Of all runs that this process has to do.
    cost: f64,
    /// Of those that ended.
    ended_cost: f64,
    /// Of those that ended, what this process did itself.
    own_cost: f64,
    /// By run: its cost, where it was when it was taken up, and where it is.
    running: BTreeMap<String, (f64, Option<f64>, f64)>,
}

/// One run of the board.
#[derive(Clone)]
pub struct Row<'a> {
    name: String,
    board: &'a Board<'a>,
}

impl<'a> Board<'a> {
    /// A board for runs of these costs.
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

    /// Where the board is shown.
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

    /// Number of runs that ended, and of all.
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
    /// The board that this row is on.
    pub fn board(&self) -> &'a Board<'a> {
        self.board
    }

    /// The run has done `done` of `total` units of `what`.
    pub fn show(&self, what: &str, done: u64, total: u64, note: Option<&str>) {
        let fraction = done as f64 / total.max(1) as f64;
        let note = note.map(|note| format!(" · {note}")).unwrap_or_default();
        self.board.reporter.run_progress(&self.name, fraction, &format!("{what} {done}/{total}{note}"));
        if what == "training" {
            self.trained(fraction);
        }
    }

    /// The run has done this fraction of its training, 0 to 1.
    pub fn trained(&self, fraction: f64) {
        if let Ok(mut totals) = self.board.totals.lock()
            && let Some((_, first, now)) = totals.running.get_mut(&self.name)
        {
            first.get_or_insert(fraction * TRAINING);
            *now = fraction * TRAINING;
        }
        self.board.update();
    }

    /// The run does something that cannot be measured.
    pub fn note(&self, what: &str) {
        self.board.reporter.run_note(&self.name, what);
    }

    /// The run waits again, and is not over.
    pub fn withdraw(&self) {
        if let Ok(mut totals) = self.board.totals.lock() {
            totals.running.remove(&self.name);
        }
        self.board.reporter.run_ended(&self.name);
        self.board.update();
    }

    /// The run is over.
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

    /// By the speed of this process so far; none before it has done anything.
    fn seconds_left(&self) -> Option<f64> {
        let running: f64 = self.running.values().map(|(cost, first, now)| cost * (now - first.unwrap_or(*now))).sum();
        let own = self.own_cost + running;
        let rate = own / self.started.elapsed().as_secs_f64();
        (own > 0.0).then(|| self.cost * (1.0 - self.fraction_done()).max(0.0) / rate)
    }
}

/// A time as somebody says it.
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
    fn what_an_earlier_process_did_says_nothing_of_this_ones_speed() {
        let board = Board::new(&cifar_data::Silent, &[10.0, 10.0]);
        let row = board.begin("a", 10.0);
        row.show("training", 50, 100, None);
        let totals = || board.totals.lock().unwrap();
        assert!((totals().fraction_done() - 0.2375).abs() < 1e-9, "half of {TRAINING} of one of two runs");
        assert_eq!(totals().seconds_left(), None, "nothing was done here");
        row.show("training", 100, 100, None);
        totals().started = Instant::now().checked_sub(Duration::from_secs(19)).unwrap();
        // A quarter of a run's cost less the scoring took 19 s; what is left is a run and the first one's scoring.
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
