//! `hard-images`: the images that the network finds hard, ranked and drawn.

mod study;

use std::time::Duration;

use anyhow::Result;
use cifar_data::duplicates::Pair;
use cifar_data::prepare::{TestSet, TrainingData, read_decisions, read_pairs};
use cifar_data::provenance;
use cifar_eval::hard_images::{COMMAND, HARD_IMAGES, Inputs, identify};
use cifar_eval::{predictions, truth};
use cifar_model::Model;
use cifar_train::Dynamics;
use cifar_train::folds::{self, Folds, OutOfFold};
use cifar_train::tune::Blocks;

use super::{Context, train};
use crate::args::{HardImagesArgs, HardImagesCommand};
use crate::params::Params;

/// How often training fold by fold writes a checkpoint.
const EVERY: Duration = Duration::from_mins(1);

pub(super) fn run(context: &Context, args: &HardImagesArgs) -> Result<()> {
    let (layout, params) = (&context.layout, context.params()?);
    if let Some(HardImagesCommand::Study(args)) = &args.command {
        return study::run(context, &params, args);
    }
    if let Some(file) = &args.truth {
        let own = layout.hard_images().join(HARD_IMAGES);
        if args.table.is_none() {
            provenance::read(&own, COMMAND)?;
        }
        let table = args.table.clone().unwrap_or(own);
        let out = layout.truth();
        let judged = truth::judge(&table, file, args.column.as_deref(), params.random_seed, &out, context.terminal)?;
        context.terminal.result(&judged, || format!("{}\nresults: {}", truth::in_words(&judged), out.display()));
        return Ok(());
    }
    let prepared = layout.prepared();
    let data = TrainingData::open(&prepared)?;
    data.report.check(&prepared, params.dataset_version, &params.split)?;
    let model = Model::load(&layout.model_file())?;
    model.expect_trained_on(&data.report, &layout.model_file())?;
    let test = TestSet::open(&layout.prepared_test(), data.report.test_fingerprint())?;
    let dynamics = Dynamics::read(&layout.dynamics(), &layout.model_file(), &data.train, &data.val)?;
    let pairs: Vec<Pair> = read_pairs(&prepared)?.into_iter().map(|placed| placed.pair).collect();
    // Everything is read before networks are trained fold by fold, which can take hours.
    let predictions = predictions::read(&layout.evaluation(), &model, test.dataset())?;
    let review = read_decisions(&prepared, data.train.classes())?;
    let out_of_fold = out_of_fold(context, &params, &data, &pairs)?;
    let inputs = Inputs {
        model: &model,
        dynamics: &dynamics,
        data: &data,
        test: &test,
        predictions: &predictions,
        pairs: &pairs,
        review: &review,
        out_of_fold: out_of_fold.as_ref(),
    };
    let out = layout.hard_images();
    let summary = identify(&params.hard_images, &inputs, &out, context.terminal)?;
    context.terminal.result(&summary, || format!("{}\nresults: {}", summary.in_words(), out.display()));
    Ok(())
}

/// What networks say of images that they did not learn from, if params.yaml asks for that. They are trained as the model was; what
/// was trained before a stop is found again.
fn out_of_fold(context: &Context, params: &Params, data: &TrainingData, pairs: &[Pair]) -> Result<Option<OutOfFold>> {
    let folds = params.hard_images.folds;
    if folds == 0 {
        return Ok(None);
    }
    let Blocks { model, train } = train::tuned(context, params, &data.report)?;
    let how = Folds {
        train: &train,
        model: &model,
        folds,
        seed: params.random_seed,
        pairs,
        checkpoints: &context.layout.checkpoints(),
        every: EVERY,
        program: &train::program_here()?,
    };
    Ok(Some(folds::out_of_fold(&how, data, context.terminal)?))
}
