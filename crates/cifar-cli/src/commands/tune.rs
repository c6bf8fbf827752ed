//! `tune`: searches for better values with validation images.

use anyhow::{Result, anyhow};
use cifar_data::DataError;
use cifar_data::prepare::TrainingData;
use cifar_eval::plots::{Caption, TrialPoint, importance_bars, parallel_coordinates, tuning_history};
use cifar_train::TrainError;
use cifar_train::tune::artifacts::{self, TUNED, Tuned};
use cifar_train::tune::{Blocks, Journal, Outcome, Score, Space, Trials, importances, search, search_key};

use super::{Context, train};

pub(super) fn run(context: &Context) -> Result<()> {
    let (layout, params) = (&context.layout, context.params()?);
    let (tune, seed, out) = (&params.tune, params.random_seed, layout.tuning());
    if tune.trials == 0 {
        artifacts::write_none(&out)?;
        context.terminal.result(&serde_json::json!({"trials": 0}), || {
            format!("{}: no search, since tune.trials is 0", out.join(TUNED).display())
        });
        return Ok(());
    }
    let blocks = Blocks { model: params.model.clone(), train: params.train.clone() };
    blocks.check(&tune.space)?;
    let data = TrainingData::open(&layout.prepared())?;
    data.report.check(&layout.prepared(), params.dataset_version, &params.split)?;
    data.report.check_labels(&layout.prepared(), &layout.overrides(), &layout.review())?;
    // Scores of other kernels are not mixed with those of these.
    let program = train::program_here()?;
    let key = search_key(tune, &blocks, &data.report, seed, &program);
    let folder = layout.searches().join(&key);
    blocks.check_with(&tune.space, &data)?;
    let mut journal = Journal::open(&folder, &key, context.terminal)?;
    let mut trials = Trials::new(&blocks, &data, &journal, &program, context.terminal);
    context.terminal.say(&format!(
        "{} settings of {} parameters; {} training images, scores on {} validation images; journal in {}\n",
        tune.trials,
        tune.space.len(),
        data.train.len(),
        data.val.len(),
        folder.display()
    ));
    let outcome = search(tune, seed, params.train.epochs, &mut trials, &mut journal).map_err(|e| match e {
        TrainError::Data(DataError::Cancelled) => {
            anyhow!(e).context("scores so far are kept; run `cifar-cli tune` again to go on from here")
        }
        other => anyhow!(other),
    })?;
    context.terminal.clear();
    let source = &data.report.source;
    journal.end();
    let tuned = Tuned::of(&outcome, &blocks, &data.report);
    let footer = format!(
        "{} trials, scored on {} validation images of {} ({}), seed {seed}",
        tuned.trials,
        data.val.len(),
        params.dataset_version,
        source.description
    );
    let pictures = pictures(&tune.space, &outcome, &footer, source.is_synthetic())?;
    artifacts::write(&tuned, &tune.space, &outcome, &pictures, &out)?;
    context.terminal.result(&tuned, || in_words(&tuned, &out.join(TUNED).display().to_string()));
    Ok(())
}

fn in_words(tuned: &Tuned, path: &str) -> String {
    let percent = |accuracy: Option<f64>| accuracy.map_or("–".into(), |a| format!("{:.2} %", a * 100.0));
    let n = tuned.seeds;
    let found = if tuned.best_trial == 0 {
        format!(
            "nothing found that is better than the recipe as it stands ({}, n = {n} seeds)",
            percent(tuned.accuracy_of_recipe)
        )
    } else {
        let values: Vec<String> = tuned.setting.iter().map(|(key, value)| format!("  {key}: {value}")).collect();
        format!(
            "trial {} has {} on validation images, the recipe as it stands {} (means of {n} seeds, after {} epochs)\n{}\n\
             `train.use_tuned: true` in params.yaml trains with it; the score of the best of many is too good by a little",
            tuned.best_trial,
            percent(tuned.accuracy),
            percent(tuned.accuracy_of_recipe),
            tuned.epochs,
            values.join("\n")
        )
    };
    format!("{path}: {found}")
}

fn pictures(space: &Space, outcome: &Outcome, footer: &str, synthetic: bool) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let trials: Vec<TrialPoint> = outcome
        .trials
        .iter()
        .map(|trial| {
            let trained = trial.rungs.iter().filter(|(_, score)| matches!(score, Score::Trained { .. }));
            TrialPoint {
                number: trial.number,
                accuracies: trained.map(|(epochs, score)| (*epochs, score.accuracy())).collect(),
                point: trial.point.clone(),
            }
        })
        .collect();
    let names: Vec<&str> = space.keys().collect();
    let shown = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let [low, high] = [0.0, 1.0 - f64::EPSILON].map(|x| space.at(&vec![x; names.len()]));
    let labels: Vec<[String; 2]> = names.iter().map(|name| [shown(&low[*name]), shown(&high[*name])]).collect();
    let caption = |title| Caption { title, footer, synthetic };
    let importances = importances(space, outcome);
    let bars: Vec<(&str, f64)> = importances.iter().map(|i| (i.key.as_str(), i.share)).collect();
    Ok(vec![
        ("plots/history.png", tuning_history(&trials, outcome.best, &caption("Trials"))?),
        (
            "plots/parallel_coordinates.png",
            parallel_coordinates(&names, &labels, &trials, outcome.best, &caption("Settings"))?,
        ),
        ("plots/importance.png", importance_bars(&bars, &caption("Share of variance explained"))?),
    ])
}
