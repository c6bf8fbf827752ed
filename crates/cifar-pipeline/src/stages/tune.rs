//! `tune`: searches for better values with validation images.

use std::fmt;
use std::path::PathBuf;

use cifar_data::DataError;
use cifar_data::prepare::TrainingData;
use cifar_eval::plots::{Caption, TrialPoint, importance_bars, parallel_coordinates, tuning_history};
use cifar_train::Recipe;
use cifar_train::TrainError;
use cifar_train::tune::artifacts::{self, TUNED, Tuned};
use cifar_train::tune::{Comparison, Journal, Outcome, Score, Space, Trials, Verdict, importances, search, search_key};
use serde::ser::{Serialize, Serializer};

use super::precision::note_precision;
use crate::{Error, Project, Reporter, Result, program};

/// The outcome of `tune`.
#[derive(Debug)]
pub struct TuningOutcome {
    /// The search's result; none if `tune.trials` is 0.
    pub tuned: Option<Tuned>,
    /// The file with the result.
    pub file: PathBuf,
}

/// Searches for better parameters with validation images.
///
/// # Errors
/// If the prepared images are missing or stale, or the search is impossible or was stopped.
pub fn run(project: &Project, reporter: &dyn Reporter) -> Result<TuningOutcome> {
    let (layout, params) = (&project.layout, project.params()?);
    let (tune, seed, out) = (&params.tune, params.random_seed, layout.tuning());
    let file = out.join(TUNED);
    if tune.trials == 0 {
        artifacts::write_none(&out)?;
        return Ok(TuningOutcome { tuned: None, file });
    }
    let blocks = Recipe { model: params.model.clone(), train: params.train.clone() };
    blocks.check(&tune.space)?;
    let data = TrainingData::open(&layout.prepared())?;
    data.report.check(&layout.prepared(), params.dataset_version, &params.split)?;
    data.report.check_labels(&layout.prepared(), &layout.overrides(), &layout.review())?;
    let blocks = project.read_init(blocks, &data.report)?;
    note_precision(blocks.train.precision, reporter)?;
    // Scores of different kernels are not mixed.
    let program = program::identity_here()?;
    let key = search_key(tune, &blocks, &data.report, seed, &program);
    let folder = layout.searches().join(&key);
    blocks.check_with(&tune.space, &data)?;
    if tune.rescore_seeds < 2 {
        reporter.warn(&format!(
            "tune.rescore_seeds: with {} no setting can be shown to be better than params.yaml; 2 are needed, 3 or more show more",
            tune.rescore_seeds
        ));
    }
    let mut journal = Journal::open(&folder, &key, reporter)?;
    let mut trials = Trials::new(&blocks, &data, &journal, &program, reporter).at_equal_cost(tune.equal_cost);
    reporter.note(&format!(
        "{} settings of {} parameters; {} training images, scores on {} validation images; journal in {}\n",
        tune.trials,
        tune.space.len(),
        data.train.len(),
        data.val.len(),
        folder.display()
    ));
    let images = data.train.len();
    if let Some(raised) = blocks.train.raised_epochs(images) {
        reporter.note(&raised);
    }
    let epochs = blocks.train.for_images(images).epochs;
    let outcome = search(tune, seed, epochs, &mut trials, &mut journal).map_err(|e| match e {
        TrainError::Data(DataError::Cancelled) => {
            Error::from(e).context("scores so far are kept; run `cifar-cli tune` again to resume")
        }
        other => other.into(),
    })?;
    let source = &data.report.source;
    journal.end();
    let tuned = Tuned::of(&outcome, tune, &blocks, &data.report);
    let footer = format!(
        "{} trials{}, scored on {} validation images of {} ({}), seed {seed}",
        tuned.trials,
        if tuned.failed > 0 { format!(" ({} failed)", tuned.failed) } else { String::new() },
        data.val.len(),
        params.dataset_version,
        source.description
    );
    let pictures = pictures(&tune.space, &outcome, &tuned, &footer, source.is_synthetic())?;
    artifacts::write(&tuned, &tune.space, &outcome, &pictures, &out)?;
    Ok(TuningOutcome { tuned: Some(tuned), file })
}

impl Serialize for TuningOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.tuned {
            Some(tuned) => tuned.serialize(serializer),
            None => serde_json::json!({ "trials": 0 }).serialize(serializer),
        }
    }
}

impl fmt::Display for TuningOutcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.tuned {
            Some(tuned) => f.write_str(&in_words(tuned, &self.file.display().to_string())),
            None => write!(f, "{}: no search, since tune.trials is 0", self.file.display()),
        }
    }
}

fn in_words(tuned: &Tuned, path: &str) -> String {
    let Some(best) = &tuned.best else {
        return format!(
            "{path}: no setting is better than params.yaml: none of {} trials scored above it after {} epochs",
            tuned.trials, tuned.epochs
        );
    };
    let (trial, compared) = (best.trial, &best.comparison);
    let values: Vec<String> = best.setting.iter().map(|(key, value)| format!("  {key}: {value}")).collect();
    let (verdict, advice) = match compared.verdict {
        Verdict::Better => (
            format!("trial {trial} is better than params.yaml"),
            "`train.use_tuned: true` in params.yaml trains with it".to_string(),
        ),
        Verdict::NotShown => (
            format!("no setting is shown to be better than params.yaml; the best is trial {trial}"),
            format!(
                "`train.use_tuned: true` changes nothing; more seeds (tune.rescore_seeds, now {}) can show smaller differences",
                compared.seeds.len()
            ),
        ),
        Verdict::Worse => (
            format!("no setting is better than params.yaml; the best, trial {trial}, is worse under other seeds"),
            "`train.use_tuned: true` changes nothing".to_string(),
        ),
    };
    format!("{path}: {verdict}\n  {}\n{}\n{advice}", figures(compared, tuned.epochs), values.join("\n"))
}

/// Returns the difference in validation accuracy, its interval and its basis, in words.
fn figures(compared: &Comparison, epochs: usize) -> String {
    let n = compared.seeds.len();
    let Some(difference) = compared.difference else { return "not compared, since tune.rescore_seeds is 0".into() };
    let interval = match compared.interval {
        Some([low, high]) => format!("95 % interval {:+.2} to {:+.2}", low * 100.0, high * 100.0),
        None => "no interval from one seed".into(),
    };
    let failed = |of: &str, accuracies: &[Option<f64>]| match accuracies.iter().filter(|a| a.is_none()).count() {
        0 => String::new(),
        count => format!("; {of} failed under {count} of them, which counts as 0 %"),
    };
    format!(
        "difference in validation accuracy {:+.2} points ({interval}; at least {:.2} counts), {n} seed{} that did not choose \
         it, {epochs} epochs{}{}",
        difference * 100.0,
        compared.margin * 100.0,
        if n == 1 { "" } else { "s" },
        failed("it", &compared.accuracies),
        failed("params.yaml", &compared.baseline_accuracies),
    )
}

fn pictures(
    space: &Space,
    outcome: &Outcome,
    tuned: &Tuned,
    footer: &str,
    synthetic: bool,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let accuracy = |score: &Score| Some(score.accuracy()).filter(|accuracy| accuracy.is_finite());
    let trials: Vec<TrialPoint> = outcome
        .trials
        .iter()
        .map(|trial| TrialPoint {
            number: trial.number,
            accuracies: trial.rungs.iter().filter_map(|(at, score)| Some((*at, accuracy(score)?))).collect(),
            rescored: trial.rescored.iter().filter_map(|(_, score)| accuracy(score)).collect(),
            failed: trial.has_failed(),
            point: trial.point.clone(),
        })
        .collect();
    let names: Vec<&str> = space.keys().collect();
    let shown = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let [low, high] = [0.0, 1.0 - f64::EPSILON].map(|x| space.at(&vec![x; names.len()]));
    let labels: Vec<[String; 2]> = names.iter().map(|name| [shown(&low[*name]), shown(&high[*name])]).collect();
    let caption = |title| Caption { title, footer, synthetic };
    let importances = importances(space, outcome);
    let bars: Vec<(&str, f64)> = importances.iter().map(|i| (i.key.as_str(), i.share)).collect();
    let (best, epochs) = (outcome.best, outcome.epochs);
    let title = match tuned.best.as_ref().map(|best| best.comparison.verdict) {
        Some(Verdict::Better) => format!("Trials: number {best} is better than params.yaml"),
        Some(Verdict::NotShown) => "Trials: none is shown to be better than params.yaml".into(),
        Some(Verdict::Worse) | None => "Trials: none is better than params.yaml".into(),
    };
    Ok(vec![
        ("plots/history.png", tuning_history(&trials, best, epochs, &caption(&title))?),
        ("plots/parallel_coordinates.png", parallel_coordinates(&names, &labels, &trials, best, &caption("Settings"))?),
        ("plots/importance.png", importance_bars(&bars, &caption("Share of variance explained"))?),
    ])
}

#[cfg(test)]
mod tests {
    use cifar_train::tune::{Setting, Trial};
    use serde_json::json;

    use super::*;

    /// Returns the output for a best trial and a baseline with these accuracies under other seeds.
    fn words(of_trial: &[Option<f64>], of_baseline: &[Option<f64>]) -> String {
        let trial = |number: usize, accuracies: &[Option<f64>]| {
            let score = |a: &Option<f64>| match a {
                Some(accuracy) => Score::Trained { accuracy: *accuracy, loss: 1.0 },
                None => Score::Failed("diverged".into()),
            };
            let setting =
                if number == 0 { Setting::new() } else { Setting::from([("model.dropout".into(), json!(0.1))]) };
            let rescored = (43..).zip(accuracies.iter().map(score)).collect();
            Trial { number, point: Vec::new(), setting, rungs: vec![(9, score(&Some(0.9)))], rescored }
        };
        let trials = [trial(0, of_baseline), trial(1, of_trial)];
        let comparison = Comparison::of(&trials[1], &trials[0], 2000);
        let best = json!({"trial": 1, "setting": trials[1].setting, "comparison": comparison});
        let tuned = json!({"schema": 3, "sought_for": null, "trials": 4, "failed": 0, "epochs": 9, "best": best, "setting": {}});
        in_words(&serde_json::from_value(tuned).unwrap(), "tuned.json")
    }

    #[test]
    fn output_claims_no_more_than_the_comparison_shows() {
        let base = [Some(0.75), Some(0.76), Some(0.74)];
        assert_eq!(
            words(&base.map(|a| a.map(|a| a + 0.03)), &base),
            "tuned.json: trial 1 is better than params.yaml\n  \
             difference in validation accuracy +3.00 points (95 % interval +2.95 to +3.05; at least 0.10 counts), 3 seeds that \
             did not choose it, 9 epochs\n  model.dropout: 0.1\n`train.use_tuned: true` in params.yaml trains with it"
        );
        for (trial, of_baseline, expected) in [
            (
                &[Some(0.76), Some(0.75), Some(0.74)][..],
                &base[..],
                "no setting is shown to be better than params.yaml; ",
            ),
            (&[Some(0.9)][..], &base[..1], "no interval from one seed"),
            (&[][..], &[][..], "not compared, since tune.rescore_seeds is 0"),
            (&[Some(0.70), Some(0.71), Some(0.69)][..], &base[..], "the best, trial 1, is worse under other seeds"),
            (&[Some(0.76), None, Some(0.75)][..], &base[..], "; it failed under 1 of them, which counts as 0 %"),
        ] {
            let found = words(trial, of_baseline);
            assert!(found.contains(expected) && found.contains("changes nothing"), "{found}");
        }
    }
}
