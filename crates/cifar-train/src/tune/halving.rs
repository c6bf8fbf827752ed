//! Synchronous successive halving.
//!
//! All trials are trained for a few epochs. Of each rung, the best are trained for more. The best
//! trial and the baseline are then retrained under other seeds.

use super::sampler::{Tried, sampler};
use super::{Journal, Score, Scored, Setting, TuneParams};
use crate::Result;

/// Trains settings and scores them.
pub trait Objective {
    /// Trains `setting` under `seed` until `epochs` epochs are done in all, and returns its score
    /// on the validation images. Resumes from where an earlier call with the same arguments but
    /// fewer epochs stopped.
    ///
    /// A diverging loss, and values that are not allowed together, are a [`Score::Failed`], not an
    /// error. So is a [`Score::Trained`] with a value that is not finite.
    ///
    /// # Errors
    /// If the search cannot continue: the user asks to stop, a file cannot be read or written, or
    /// the baseline is not allowed.
    fn train(&mut self, trial: usize, setting: &Setting, seed: u64, epochs: usize) -> Result<Score>;

    /// Called for every score, from training or from the journal.
    fn scored(&mut self, _scored: &Scored) {}
}

/// A setting and its scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The trial's number; 0 is the baseline.
    pub number: usize,
    /// Its point in the space; empty for the baseline.
    pub point: Vec<f64>,
    /// What the trial changes in the recipe.
    pub setting: Setting,
    /// Its scores under the search's own seed, by number of epochs, in ascending order.
    pub rungs: Vec<(usize, Score)>,
    /// Its scores under other seeds, after all epochs. Only the best trial and the baseline have
    /// any.
    pub rescored: Vec<(u64, Score)>,
}

impl Trial {
    /// Returns the number of epochs trained under the search's own seed.
    pub fn epochs(&self) -> usize {
        self.rungs.last().map_or(0, |(epochs, _)| *epochs)
    }

    /// Returns its score after exactly `epochs` epochs under the search's own seed, if it has one.
    pub fn score_after(&self, epochs: usize) -> Option<&Score> {
        self.rungs.iter().find(|(at, _)| *at == epochs).map(|(_, score)| score)
    }

    /// Returns whether its training failed under any seed.
    pub fn has_failed(&self) -> bool {
        let others = self.rescored.iter().map(|(_, score)| score);
        self.rungs.iter().map(|(_, score)| score).chain(others).any(|score| matches!(score, Score::Failed(_)))
    }

    /// Returns the key by which trials are ordered after `epochs` epochs: the better one is
    /// greater. A trial without a score is below all others.
    fn rank_after(&self, epochs: usize) -> (f64, f64) {
        self.score_after(epochs).map_or((f64::NEG_INFINITY, f64::NEG_INFINITY), Score::rank)
    }
}

/// The result of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// All trials by number; the first one is the baseline.
    pub trials: Vec<Trial>,
    /// The search's own seed.
    pub seed: u64,
    /// Epochs of the whole recipe.
    pub epochs: usize,
    /// Number of the trial with the best score after all epochs under the search's own seed; 0 if
    /// none is above the baseline. As the best of many it need not be better than the baseline: see
    /// [`Comparison`](super::Comparison).
    pub best: usize,
}

/// Tries `params.trials` settings of `params.space`, for up to `epochs` epochs each.
///
/// Scores in `journal` are reused. The same arguments give the same outcome, whatever the journal
/// contains.
///
/// # Errors
/// Those of `objective` and of the journal.
pub fn search(
    params: &TuneParams,
    seed: u64,
    epochs: usize,
    objective: &mut dyn Objective,
    journal: &mut Journal,
) -> Result<Outcome> {
    halve(params, seed, epochs, &mut |trial, seed, epochs| {
        let known = journal.get(trial.number, seed, epochs, &trial.setting)?.cloned();
        let is_new = known.is_none();
        let score = match known {
            Some(score) => score,
            None => objective.train(trial.number, &trial.setting, seed, epochs)?.or_failed(),
        };
        let scored = Scored { trial: trial.number, seed, epochs, setting: trial.setting.clone(), score: score.clone() };
        if is_new {
            journal.add(scored.clone())?;
        }
        objective.scored(&scored);
        Ok(score)
    })
}

/// The search, with a function that scores a trial by seed and number of epochs.
pub(super) fn halve(
    params: &TuneParams,
    seed: u64,
    epochs: usize,
    score: &mut dyn FnMut(&Trial, u64, usize) -> Result<Score>,
) -> Result<Outcome> {
    let sampler = sampler(params.sampler, seed);
    // The first rung is sequential, so that each suggestion knows the scores of all earlier trials.
    // Later rungs start after the last suggestion, so the scores of the first rung are the only
    // ones that suggestions can use.
    let first = params.min_epochs.min(epochs);
    let (mut trials, mut tried): (Vec<Trial>, Vec<Tried>) = Default::default();
    for number in 0..=params.trials {
        let point = if number == 0 { Vec::new() } else { sampler.suggest(number, params.space.len(), &tried) };
        let setting = params.space.at(&point);
        let mut trial = Trial { number, point, setting, rungs: Vec::new(), rescored: Vec::new() };
        let found = score(&trial, seed, first)?;
        if number > 0 {
            tried.push(Tried { point: trial.point.clone(), score: found.accuracy() });
        }
        trial.rungs.push((first, found));
        trials.push(trial);
    }

    // The later rungs. The baseline is trained for every rung, beside the promoted trials.
    let mut at = first;
    let mut promoted: Vec<usize> = (1..trials.len()).collect();
    while at < epochs {
        promoted = best_of(&trials, &promoted, at, promoted.len().div_ceil(params.reduction));
        at = at.saturating_mul(params.reduction).min(epochs);
        for number in std::iter::once(0).chain(promoted.iter().copied()) {
            let found = score(&trials[number], seed, at)?;
            trials[number].rungs.push((at, found));
        }
    }

    // The choice is made; other seeds do not affect it.
    let rank = |number: usize| trials[number].rank_after(epochs);
    let best =
        best_of(&trials, &promoted, epochs, 1).first().copied().filter(|best| rank(*best) > rank(0)).unwrap_or(0);
    for number in [0, best].into_iter().filter(|_| best > 0) {
        for offset in 1..=params.rescore_seeds as u64 {
            let seed = seed.wrapping_add(offset);
            let found = score(&trials[number], seed, epochs)?;
            trials[number].rescored.push((seed, found));
        }
    }
    Ok(Outcome { trials, seed, epochs, best })
}

/// Returns the `count` best of `numbers` by their scores after `epochs` epochs, in ascending order.
/// Failed trials are left out; ties go to the earlier trial.
fn best_of(trials: &[Trial], numbers: &[usize], epochs: usize, count: usize) -> Vec<usize> {
    let rank = |number: usize| trials[number].rank_after(epochs);
    let mut numbers: Vec<usize> = numbers.iter().copied().filter(|n| rank(*n).0.is_finite()).collect();
    numbers.sort_by(|a, b| {
        let (a, b) = (rank(*a), rank(*b));
        b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1))
    });
    numbers.truncate(count);
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use cifar_data::Silent;
    use cifar_data::random::{Purpose, stream};
    use serde_json::json;

    use super::*;
    use crate::TrainError;
    use crate::tune::{Comparison, SamplerKind};

    fn params(trials: usize) -> TuneParams {
        let space =
            json!({"train.learning_rate": {"log_uniform": [0.01, 1.0]}, "train.momentum": {"uniform": [0.0, 0.9]}});
        TuneParams { trials, space: serde_json::from_value(space).unwrap(), ..TuneParams::default() }
    }

    /// The highest accuracy is at a learning rate of 0.1; trials with a rate above 0.5 fail. Call
    /// number `fails_at` returns an error.
    struct Fake {
        epochs_trained: BTreeMap<(usize, u64), usize>,
        calls: usize,
        fails_at: usize,
    }

    impl Fake {
        fn new(fails_at: usize) -> Self {
            Self { epochs_trained: BTreeMap::new(), calls: 0, fails_at }
        }
    }

    impl Objective for Fake {
        fn train(&mut self, trial: usize, setting: &Setting, seed: u64, epochs: usize) -> Result<Score> {
            self.calls += 1;
            if self.calls == self.fails_at {
                return Err(TrainError::Tuning("killed".into()));
            }
            let before = self.epochs_trained.insert((trial, seed), epochs).unwrap_or(0);
            assert!(epochs > before, "trial {trial} is trained for {epochs} epochs after {before}");
            let rate = setting.get("train.learning_rate").map_or(0.05, |rate| rate.as_f64().unwrap());
            if rate > 0.5 {
                return Ok(Score::Failed("the loss is NaN".into()));
            }
            let accuracy = 0.9 - 0.1 * (rate / 0.1).ln().abs() - 0.2 / epochs as f64 + 0.001 * (seed % 3) as f64;
            Ok(Score::Trained { accuracy, loss: 1.0 })
        }
    }

    fn run(params: &TuneParams, path: &Path, fake: &mut Fake) -> Result<Outcome> {
        search(params, 42, 9, fake, &mut Journal::open(path, "k", &Silent)?)
    }

    #[test]
    fn the_best_trials_and_the_baseline_are_trained_longer() {
        let folder = tempfile::tempdir().unwrap();
        for sampler in [SamplerKind::QuasiRandom, SamplerKind::Tpe] {
            let mut fake = Fake::new(usize::MAX);
            let params = TuneParams { sampler, ..params(18) };
            let outcome = run(&params, &folder.path().join(format!("{sampler:?}")), &mut fake).unwrap();
            let trained = |epochs| outcome.trials.iter().filter(|t| t.epochs() == epochs).count();
            assert_eq!((outcome.trials.len(), trained(9), trained(3), trained(1)), (19, 3, 4, 12));
            assert_eq!(outcome.trials[0].rungs.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 3, 9]);
            let rescored: Vec<usize> =
                outcome.trials.iter().filter(|t| !t.rescored.is_empty()).map(|t| t.number).collect();
            assert_eq!(rescored, [0, outcome.best]);
            for trial in [0, outcome.best] {
                let seeds: Vec<u64> = outcome.trials[trial].rescored.iter().map(|(seed, _)| *seed).collect();
                assert_eq!(seeds, [43, 44, 45], "never the search's own seed, 42");
            }
            let accuracy = |number: usize| outcome.trials[number].rungs[0].1.accuracy();
            let best_first = (1..19).map(accuracy).fold(f64::NEG_INFINITY, f64::max);
            assert!((accuracy(outcome.best) - best_first).abs() < 1e-12 && outcome.best > 0);
            assert!(outcome.trials.iter().any(|t| matches!(t.rungs[0].1, Score::Failed(_))), "one fails");
            // Epochs of one rung are not repeated for the next: 19 · 1 + 7 · 2 + 3 · 6, and 2 · 3 ·
            // 9 under other seeds.
            assert_eq!(fake.epochs_trained.values().sum::<usize>(), 12 + 4 * 3 + 3 * 9 + 6 * 9);
        }
    }

    #[test]
    fn a_search_that_is_killed_at_any_call_resumes_to_the_same_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let params = params(10);
        let mut fake = Fake::new(usize::MAX);
        let expected = run(&params, &folder.path().join("whole"), &mut fake).unwrap();
        for fails_at in 1..=fake.calls {
            let path = folder.path().join(format!("killed {fails_at}"));
            assert!(run(&params, &path, &mut Fake::new(fails_at)).is_err());
            let mut rest = Fake::new(usize::MAX);
            assert_eq!(run(&params, &path, &mut rest).unwrap(), expected);
            assert_eq!(rest.calls, fake.calls - (fails_at - 1), "finished trials are not trained again");
        }
    }

    #[test]
    fn more_trials_extend_a_search() {
        let folder = tempfile::tempdir().unwrap();
        let (part, whole) = (folder.path().join("part"), folder.path().join("whole"));
        run(&params(6), &part, &mut Fake::new(usize::MAX)).unwrap();
        let (mut more, mut all) = (Fake::new(usize::MAX), Fake::new(usize::MAX));
        let extended = run(&params(12), &part, &mut more).unwrap();
        assert_eq!(extended, run(&params(12), &whole, &mut all).unwrap());
        assert!(more.calls < all.calls);
    }

    #[test]
    fn more_seeds_extend_a_search() {
        let folder = tempfile::tempdir().unwrap();
        let mut fake = Fake::new(usize::MAX);
        let few = run(&TuneParams { rescore_seeds: 2, ..params(6) }, folder.path(), &mut fake).unwrap();
        let mut more = Fake::new(usize::MAX);
        let outcome = run(&TuneParams { rescore_seeds: 5, ..params(6) }, folder.path(), &mut more).unwrap();
        assert_eq!((few.best, more.calls), (outcome.best, 2 * 3), "three more seeds for two settings");
    }

    #[test]
    fn the_baseline_is_best_if_no_score_is_higher() {
        for (of_baseline, of_others) in [(0.9, 0.8), (0.8, 0.8)] {
            let mut calls = 0;
            let outcome = halve(&params(5), 42, 9, &mut |trial, seed, _| {
                calls += usize::from(seed != 42);
                let accuracy = if trial.number == 0 { of_baseline } else { of_others };
                Ok(Score::Trained { accuracy, loss: 1.0 })
            });
            assert_eq!((outcome.unwrap().best, calls), (0, 0), "nothing is retrained");
        }
    }

    #[test]
    fn a_score_that_is_not_finite_is_journalled_as_a_failure() {
        struct Overflows;
        impl Objective for Overflows {
            fn train(&mut self, trial: usize, _: &Setting, _: u64, _: usize) -> Result<Score> {
                Ok(Score::Trained { accuracy: 0.9, loss: if trial == 2 { f64::INFINITY } else { 1.0 } })
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let search = || {
            let mut journal = Journal::open(folder.path(), "k", &Silent)?;
            search(&params(3), 42, 9, &mut Overflows, &mut journal)
        };
        let outcome = search().unwrap();
        assert!(outcome.trials.iter().all(|t| t.has_failed() == (t.number == 2)), "{outcome:?}");
        assert_eq!(search().unwrap(), outcome);
    }

    /// Shifts every score by an amount that depends on epochs or seed alone, and returns the
    /// outcome.
    fn shifted(sampler: SamplerKind, by_epochs: [f64; 3], by_seed: f64) -> Outcome {
        let params = TuneParams { sampler, ..params(30) };
        let outcome = halve(&params, 42, 9, &mut |trial, seed, epochs| {
            let at = [1, 3, 9].iter().position(|rung| *rung == epochs).unwrap();
            // The order of trials differs from rung to rung.
            let quality = stream(1, Purpose::Tune, epochs as u64, trial.number as u64).unit();
            let accuracy = 0.1 * quality + by_epochs[at] + by_seed * (seed - 42) as f64;
            Ok(Score::Trained { accuracy, loss: 1.0 })
        });
        outcome.unwrap()
    }

    #[test]
    fn scores_after_different_epochs_or_seeds_are_never_compared() {
        for sampler in [SamplerKind::QuasiRandom, SamplerKind::Tpe] {
            let path = |outcome: &Outcome| -> Vec<(Vec<f64>, usize)> {
                outcome.trials.iter().map(|t| (t.point.clone(), t.epochs())).collect()
            };
            let compared = |o: &Outcome| Comparison::of(&o.trials[o.best], &o.trials[0], 2000);
            let expected = shifted(sampler, [0.3, 0.5, 0.7], 0.0);
            assert!(expected.best > 0);
            let best = |t: &&Trial| t.score_after(9).map_or(f64::NEG_INFINITY, Score::accuracy);
            let highest = expected.trials.iter().max_by(|a, b| best(a).total_cmp(&best(b))).unwrap();
            assert_eq!(highest.number, expected.best);
            for (by_epochs, by_seed) in
                [([0.7, 0.5, 0.3], 0.0), ([0.9, 0.0, 0.5], 0.0), ([0.3, 0.9, 0.0], 0.02), ([0.3, 0.5, 0.7], -0.1)]
            {
                let found = shifted(sampler, by_epochs, by_seed);
                assert_eq!((path(&found), found.best), (path(&expected), expected.best), "{by_epochs:?}");
                let (found, expected) = (compared(&found), compared(&expected));
                assert!((found.difference.unwrap() - expected.difference.unwrap()).abs() < 1e-12);
                assert_eq!(found.verdict, expected.verdict);
            }
        }
    }
}
