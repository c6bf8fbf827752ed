//! Synchronous successive halving: all trials are trained for a few epochs; of each rung the best share goes on, from where
//! it stood, for more; the best of all are trained again under other seeds.

use super::sampler::{Tried, sampler};
use super::{Journal, Score, Scored, Setting, TuneParams};
use crate::Result;

/// Trains settings.
pub trait Objective {
    /// Trains `setting` under `seed` for `epochs` in all, going on from where an earlier call left it, and tells how it did
    /// on validation images after the last of them. A loss that runs away, and a setting that cannot be, is a
    /// [`Score::Failed`], no error.
    ///
    /// # Errors
    /// If the search cannot go on: the user asks to stop, a file cannot be read or written, the recipe as it stands cannot be.
    fn train(&mut self, trial: usize, setting: &Setting, seed: u64, epochs: usize) -> Result<Score>;

    /// A score is known, from training or from the journal.
    fn scored(&mut self, _scored: &Scored) {}
}

/// A setting and how it did.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// 0 for the recipe as it stands.
    pub number: usize,
    /// Its place in the space; empty for the recipe as it stands.
    pub point: Vec<f64>,
    /// What it changes in the recipe.
    pub setting: Setting,
    /// Its scores under the search's own seed, after more and more epochs.
    pub rungs: Vec<(usize, Score)>,
    /// Its scores under other seeds, after all epochs.
    pub rescored: Vec<(u64, Score)>,
}

impl Trial {
    /// Epochs that it was trained for under the search's own seed.
    pub fn epochs(&self) -> usize {
        self.rungs.last().map_or(0, |(epochs, _)| *epochs)
    }

    /// Accuracies after `epochs` epochs, under every seed; negative infinity where it failed.
    pub fn accuracies(&self, epochs: usize) -> Vec<f64> {
        let own = self.rungs.iter().filter(|(at, _)| *at == epochs).map(|(_, score)| score);
        own.chain(self.rescored.iter().map(|(_, score)| score)).map(Score::accuracy).collect()
    }

    /// Mean of [`Trial::accuracies`]; none if it was not trained that long.
    pub fn mean_accuracy(&self, epochs: usize) -> Option<f64> {
        let all = self.accuracies(epochs);
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    }
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// All trials by number; the first one is the recipe as it stands.
    pub trials: Vec<Trial>,
    /// Epochs of the whole recipe.
    pub epochs: usize,
    /// Number of the best trial: of those that were scored under all seeds, that with the highest mean accuracy; 0 if none
    /// is better than the recipe as it stands.
    pub best: usize,
}

/// Searches `params.trials` settings of `params.space` with scores after up to `epochs` epochs. Scores that `journal` holds
/// are taken from it. The same arguments, whatever the journal holds, give the same outcome.
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
    let sampler = sampler(params.sampler, seed);
    let mut score = |trial: &Trial, seed: u64, epochs: usize| -> Result<Score> {
        let known = journal.get(trial.number, seed, epochs, &trial.setting)?.cloned();
        let is_new = known.is_none();
        let score = match known {
            Some(score) => score,
            None => objective.train(trial.number, &trial.setting, seed, epochs)?,
        };
        let scored = Scored { trial: trial.number, seed, epochs, setting: trial.setting.clone(), score: score.clone() };
        if is_new {
            journal.add(scored.clone())?;
        }
        objective.scored(&scored);
        Ok(score)
    };

    // The first rung: one after the other, so that each suggestion knows how those before it did.
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

    // The rungs above. The recipe as it stands goes on with every one, beside those that earned it.
    let mut at = first;
    let mut going: Vec<usize> = (1..trials.len()).collect();
    while at < epochs {
        going = best_of(&trials, &going, going.len().div_ceil(params.reduction));
        at = at.saturating_mul(params.reduction).min(epochs);
        for number in std::iter::once(0).chain(going.iter().copied()) {
            let found = score(&trials[number], seed, at)?;
            trials[number].rungs.push((at, found));
        }
    }

    // The best again, under other seeds.
    let finalists: Vec<usize> = best_of(&trials, &going, params.rescore);
    for number in std::iter::once(0).chain(finalists.iter().copied()) {
        for offset in 1..=params.rescore_seeds as u64 {
            if params.rescore > 0 {
                let seed = seed.wrapping_add(offset);
                let found = score(&trials[number], seed, epochs)?;
                trials[number].rescored.push((seed, found));
            }
        }
    }
    let candidates = if params.rescore > 0 { finalists } else { going };
    let mean = |number: usize| trials[number].mean_accuracy(epochs).unwrap_or(f64::NEG_INFINITY);
    let best = candidates.into_iter().fold(0, |best, number| if mean(number) > mean(best) { number } else { best });
    Ok(Outcome { trials, epochs, best })
}

/// The `count` best of `numbers` by their last score, failed ones left out; of equals the earlier one. By number.
fn best_of(trials: &[Trial], numbers: &[usize], count: usize) -> Vec<usize> {
    let rank = |number: usize| trials[number].rungs.last().map_or((f64::NEG_INFINITY, 0.0), |(_, score)| score.rank());
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
    use serde_json::json;

    use super::*;
    use crate::TrainError;
    use crate::tune::SamplerKind;

    fn params(trials: usize) -> TuneParams {
        let space =
            json!({"train.learning_rate": {"log_uniform": [0.01, 1.0]}, "train.momentum": {"uniform": [0.0, 0.9]}});
        TuneParams { trials, space: serde_json::from_value(space).unwrap(), ..TuneParams::default() }
    }

    /// Accuracy is highest at a learning rate of 0.1; trials with a rate above 0.5 fail. It breaks off at a given call.
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
    fn the_best_share_goes_on_and_the_recipe_as_it_stands_too() {
        let folder = tempfile::tempdir().unwrap();
        for sampler in [SamplerKind::QuasiRandom, SamplerKind::Tpe] {
            let mut fake = Fake::new(usize::MAX);
            let params = TuneParams { sampler, ..params(18) };
            let outcome = run(&params, &folder.path().join(format!("{sampler:?}")), &mut fake).unwrap();
            let trained = |epochs| outcome.trials.iter().filter(|t| t.epochs() == epochs).count();
            assert_eq!((outcome.trials.len(), trained(9), trained(3), trained(1)), (19, 3, 4, 12));
            assert_eq!(outcome.trials[0].rungs.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 3, 9]);
            let rescored = outcome.trials.iter().filter(|t| t.rescored.len() == 2).count();
            assert_eq!(rescored, 3, "two finalists and the recipe as it stands");
            let accuracy = |number: usize| outcome.trials[number].rungs[0].1.accuracy();
            let best_first = (1..19).map(accuracy).fold(f64::NEG_INFINITY, f64::max);
            assert!((accuracy(outcome.best) - best_first).abs() < 1e-12 && outcome.best > 0);
            assert!(outcome.trials.iter().any(|t| matches!(t.rungs[0].1, Score::Failed(_))), "one fails");
            // Epochs of one rung are not trained again for the next: 19 · 1 + 7 · 2 + 3 · 6, and 3 · 2 · 9 again.
            assert_eq!(fake.epochs_trained.values().sum::<usize>(), 12 + 4 * 3 + 3 * 9 + 6 * 9);
        }
    }

    #[test]
    fn a_search_that_is_killed_at_any_call_ends_with_the_same_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let params = params(10);
        let mut fake = Fake::new(usize::MAX);
        let expected = run(&params, &folder.path().join("whole"), &mut fake).unwrap();
        for fails_at in 1..=fake.calls {
            let path = folder.path().join(format!("killed {fails_at}"));
            assert!(run(&params, &path, &mut Fake::new(fails_at)).is_err());
            let mut rest = Fake::new(usize::MAX);
            assert_eq!(run(&params, &path, &mut rest).unwrap(), expected);
            assert_eq!(rest.calls, fake.calls - (fails_at - 1), "what is known is not trained again");
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
    fn the_recipe_stays_where_nothing_is_better() {
        struct Best;
        impl Objective for Best {
            fn train(&mut self, trial: usize, _: &Setting, _: u64, _: usize) -> Result<Score> {
                Ok(Score::Trained { accuracy: if trial == 0 { 0.9 } else { 0.8 }, loss: 1.0 })
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), "k", &Silent).unwrap();
        assert_eq!(search(&params(5), 42, 9, &mut Best, &mut journal).unwrap().best, 0);
    }
}
