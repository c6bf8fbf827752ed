//! What is seen while a grid runs: a row for each run under way, and one for all with the time that is left. Shown only
//! where somebody looks.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal::Terminal;

/// The share of a run's time that training takes, more or less; the rest is scoring.
const TRAINING: f64 = 0.95;
/// Steps of a row's bar.
const TICKS: u64 = 1000;

/// All rows.
#[derive(Debug)]
pub(crate) struct Board {
    multi: MultiProgress,
    total: ProgressBar,
    totals: Arc<Mutex<Totals>>,
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

/// One run's row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    name: String,
    bar: ProgressBar,
    total: ProgressBar,
    totals: Arc<Mutex<Totals>>,
}

impl Board {
    /// For runs of these costs.
    pub(crate) fn new(terminal: &Terminal, costs: &[f64]) -> Self {
        let seen = std::io::stderr().is_terminal() && !terminal.quiet();
        let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let multi = MultiProgress::with_draw_target(target);
        let total = multi.add(bar("{prefix:>30} {bar:24} {msg}", TICKS));
        total.set_prefix("all runs");
        total.enable_steady_tick(Duration::from_secs(1));
        let totals = Totals {
            started: Instant::now(),
            runs: costs.len(),
            ended: 0,
            cost: costs.iter().sum(),
            ended_cost: 0.0,
            own_cost: 0.0,
            running: BTreeMap::new(),
        };
        Self { multi, total, totals: Arc::new(Mutex::new(totals)) }
    }

    /// A row for a run that begins.
    pub(crate) fn begin(&self, name: &str, cost: f64) -> Row {
        let bar = self.multi.insert_before(&self.total, bar("{prefix:>30} {bar:24} {elapsed:>4} {msg}", TICKS));
        bar.set_prefix(name.to_string());
        if let Ok(mut totals) = self.totals.lock() {
            totals.running.insert(name.to_string(), (cost, None, 0.0));
        }
        let row = Row { name: name.into(), bar, total: self.total.clone(), totals: Arc::clone(&self.totals) };
        row.update();
        row
    }

    /// Prints above the rows.
    pub(crate) fn line(&self, terminal: &Terminal, text: &str) {
        self.multi.suspend(|| terminal.say(text));
    }

    /// Number of runs that ended, and of all.
    pub(crate) fn ended(&self) -> (usize, usize) {
        self.totals.lock().map_or((0, 0), |totals| (totals.ended, totals.runs))
    }

    /// Removes all rows.
    pub(crate) fn clear(&self) {
        self.total.finish_and_clear();
        let _ = self.multi.clear();
    }
}

impl Row {
    /// The run does `what` and is so far in it.
    pub(crate) fn show(&self, what: &str, done: u64, total: u64, note: Option<&str>) {
        let share = done as f64 / total.max(1) as f64;
        self.bar.set_position((share * TICKS as f64) as u64);
        let note = note.map(|note| format!(" · {note}")).unwrap_or_default();
        self.bar.set_message(format!("{what} {done}/{total}{note}"));
        if what == "training" {
            self.trained(share);
        }
    }

    /// The run is so far in its training, 0..1.
    pub(crate) fn trained(&self, share: f64) {
        if let Ok(mut totals) = self.totals.lock()
            && let Some((_, first, now)) = totals.running.get_mut(&self.name)
        {
            first.get_or_insert(share * TRAINING);
            *now = share * TRAINING;
        }
        self.update();
    }

    /// The run does something that has no measure.
    pub(crate) fn note(&self, what: &str) {
        self.bar.set_message(what.to_string());
    }

    /// The run is no longer under way, though not over.
    pub(crate) fn withdraw(&self) {
        if let Ok(mut totals) = self.totals.lock() {
            totals.running.remove(&self.name);
        }
        self.bar.finish_and_clear();
        self.update();
    }

    /// The run is over.
    pub(crate) fn end(&self) {
        if let Ok(mut totals) = self.totals.lock()
            && let Some((cost, first, _)) = totals.running.remove(&self.name)
        {
            totals.ended += 1;
            totals.ended_cost += cost;
            totals.own_cost += cost * (1.0 - first.unwrap_or(0.0));
        }
        self.bar.finish_and_clear();
        self.update();
    }

    fn update(&self) {
        let Ok(totals) = self.totals.lock() else { return };
        self.total.set_position((totals.share_done() * TICKS as f64) as u64);
        let left = totals.seconds_left().map(|s| format!(" · {} left", duration(s))).unwrap_or_default();
        self.total.set_message(format!("{}/{} runs{left}", totals.ended, totals.runs));
    }
}

impl Totals {
    fn share_done(&self) -> f64 {
        let running: f64 = self.running.values().map(|(cost, _, now)| cost * now).sum();
        (self.ended_cost + running) / self.cost.max(f64::MIN_POSITIVE)
    }

    /// By the speed of this process so far; none before it has done anything.
    fn seconds_left(&self) -> Option<f64> {
        let running: f64 = self.running.values().map(|(cost, first, now)| cost * (now - first.unwrap_or(*now))).sum();
        let own = self.own_cost + running;
        let rate = own / self.started.elapsed().as_secs_f64();
        (own > 0.0).then(|| self.cost * (1.0 - self.share_done()).max(0.0) / rate)
    }
}

/// A time as somebody says it.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn bar(template: &str, length: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_process_did_says_nothing_of_this_ones_speed() {
        let board = Board::new(&Terminal::silent(), &[10.0, 10.0]);
        let row = board.begin("a", 10.0);
        row.show("training", 50, 100, None);
        let totals = || board.totals.lock().unwrap();
        assert!((totals().share_done() - 0.2375).abs() < 1e-9, "half of {TRAINING} of one of two runs");
        assert_eq!(totals().seconds_left(), None, "nothing was done here");
        row.show("training", 100, 100, None);
        totals().started = Instant::now().checked_sub(Duration::from_secs(19)).unwrap();
        // A quarter of a run's cost less the scoring took 19 s; what is left is a run and the first one's scoring.
        let left = totals().seconds_left().unwrap();
        assert!((left - 19.0 / 4.75 * 10.5).abs() < 0.5, "{left}");
        row.end();
        assert_eq!(board.ended(), (1, 2));
        assert!((totals().share_done() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn times_are_short() {
        for (seconds, expected) in [(3.4, "3 s"), (99.0, "99 s"), (600.0, "10 min"), (7200.0, "2.0 h")] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
