//! Distributes runs over a few workers; shared data are made only once.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

use cifar_pipeline::{Error, Result};

/// A run that waits for a worker.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its index in the list of runs.
    pub index: usize,
    /// The identity of its data. While one worker makes them, no other starts a run that needs
    /// them.
    pub data: String,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Job>,
    in_the_making: BTreeSet<String>,
    ready: BTreeSet<String>,
}

/// State that the workers share.
#[derive(Debug, Default)]
pub struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

impl Schedule {
    fn new(jobs: Vec<Job>) -> Self {
        let state = State { waiting: jobs, ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Marks `data` as made, so that other runs that need them may start.
    pub fn data_ready(&self, data: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_the_making.remove(data);
        state.ready.insert(data.into());
        self.changed.notify_all();
    }

    /// Returns the next run, in order, whose data no worker is making; none if no run waits.
    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.waiting.is_empty() {
                return None;
            }
            if let Some(at) = state.waiting.iter().position(|job| !state.in_the_making.contains(&job.data)) {
                let job = state.waiting.remove(at);
                if !state.ready.contains(&job.data) {
                    state.in_the_making.insert(job.data.clone());
                }
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Records that a run has ended. If its data were not made, another run makes them.
    fn over(&self, data: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_the_making.remove(data);
        self.changed.notify_all();
    }
}

/// Executes all jobs on `workers` threads. `work` may call [`Schedule::data_ready`]. Once `stopped`
/// returns true, no further run starts.
pub fn execute(
    jobs: Vec<Job>,
    workers: usize,
    work: &(dyn Fn(&Job, &Schedule) -> Result<()> + Sync),
    stopped: &(dyn Fn() -> bool + Sync),
) -> Result<()> {
    let schedule = Schedule::new(jobs);
    let worker = || -> Result<()> {
        while let Some(job) = schedule.next() {
            let result = if stopped() { Ok(()) } else { work(&job, &schedule) };
            schedule.over(&job.data);
            result?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers.max(1)).map(|_| scope.spawn(worker)).collect();
        let first = worker();
        let results =
            others.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(Error::failed("a worker panicked"))));
        results.fold(first, Result::and)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn jobs(data: &[&str]) -> Vec<Job> {
        data.iter().enumerate().map(|(index, data)| Job { index, data: (*data).into() }).collect()
    }

    #[test]
    fn every_run_is_executed_once_and_data_are_made_once() {
        for workers in [1, 2, 5] {
            let done = Mutex::new(Vec::new());
            let (making, made) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
            let work = |job: &Job, schedule: &Schedule| {
                if !made.lock().unwrap().contains(&job.data) {
                    assert!(making.lock().unwrap().insert(job.data.clone()), "two runs make {}", job.data);
                    std::thread::sleep(Duration::from_millis(2));
                    made.lock().unwrap().insert(job.data.clone());
                    schedule.data_ready(&job.data);
                }
                done.lock().unwrap().push(job.index);
                Ok(())
            };
            execute(jobs(&["a", "a", "a", "b", "b", "c"]), workers, &work, &|| false).unwrap();
            let mut done = done.into_inner().unwrap();
            done.sort_unstable();
            assert_eq!(done, [0, 1, 2, 3, 4, 5], "{workers}");
        }
    }

    #[test]
    fn after_a_run_fails_to_make_its_data_the_next_run_makes_them() {
        let tries = AtomicUsize::new(0);
        let work = |_: &Job, _: &Schedule| {
            tries.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        execute(jobs(&["a", "a", "a"]), 3, &work, &|| false).unwrap();
        assert_eq!(tries.into_inner(), 3);
    }

    #[test]
    fn no_run_starts_after_a_stop() {
        let begun = AtomicUsize::new(0);
        let work = |_: &Job, _: &Schedule| {
            begun.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        execute(jobs(&["a", "b", "c"]), 1, &work, &|| begun.load(Ordering::Relaxed) > 0).unwrap();
        assert_eq!(begun.into_inner(), 1);
    }
}
