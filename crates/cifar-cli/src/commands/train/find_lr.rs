//! `train --find-lr`: which learning rates could do.

use anyhow::Result;
use cifar_data::output::OutputFolder;
use cifar_data::prepare::TrainingData;
use cifar_eval::plots::{Caption, RangeCurve, range_test as picture};
use cifar_model::ModelParams;
use cifar_train::{RangeTest, TrainParams, range_test};

use crate::commands::Context;

pub(super) fn run(
    context: &Context,
    recipe: &TrainParams,
    model: &ModelParams,
    data: &TrainingData,
    seed: u64,
) -> Result<()> {
    let found = range_test(recipe, model, data, seed, context.terminal)?;
    context.terminal.clear();
    let out = context.layout.learning_rate();
    let source = &data.report.source;
    let footer = format!(
        "{}, {} steps of {} images of {} ({}), seed {seed}",
        model.architecture.name(),
        found.points.len(),
        recipe.batch_size,
        data.report.dataset_version,
        source.description
    );
    let caption = Caption { title: "Learning-rate range test", footer: &footer, synthetic: source.is_synthetic() };
    let points = found.points.iter().map(|p| (p.learning_rate, p.loss, p.smoothed)).collect();
    let curve = RangeCurve { points, steepest: found.steepest, recipe: recipe.learning_rate };
    let folder = OutputFolder::create(&out)?;
    let rows: Vec<String> =
        found.points.iter().map(|p| format!("{:e},{},{}\n", p.learning_rate, p.loss, p.smoothed)).collect();
    folder.write("range_test.csv", format!("learning_rate,loss,smoothed_loss\n{}", rows.concat()).as_bytes())?;
    folder.write("range_test.png", &picture(&curve, &caption)?)?;
    folder.commit()?;
    context
        .terminal
        .result(&found, || format!("{}\nresults: {}", in_words(&found, recipe.learning_rate), out.display()));
    Ok(())
}

fn in_words(found: &RangeTest, recipe: f64) -> String {
    let (Some(steepest), Some(lowest)) = (found.steepest, found.lowest) else {
        return format!("the loss never falls between {:.1e} and {:.1e}", recipe * 1e-4, recipe * 1e2);
    };
    let end = match found.blown_up {
        Some(rate) => format!(", and blows up at {rate:.1e}"),
        None => String::new(),
    };
    format!(
        "the loss falls fastest at a learning rate of {steepest:.1e}, is lowest at {lowest:.1e}{end}\n\
         usual first choices are the steepest point and a tenth of the lowest, {:.1e}; the recipe has {recipe:.1e}",
        lowest / 10.0
    )
}
