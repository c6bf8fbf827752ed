//! `hard-images`: ranks and shows the images that the network finds hard.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cifar_data::Dataset;
use cifar_data::duplicates::Pair;
use cifar_data::prepare::{TestSet, TrainingData, read_decisions, read_pairs};
use cifar_eval::evaluate::Metrics;
use cifar_eval::hard_images::{HardImagesSummary, Inputs, Run, identify};
use cifar_eval::predictions;
use cifar_model::{Model, Precision};
use cifar_train::Dynamics;
use cifar_train::Recipe;
use cifar_train::artifacts;
use cifar_train::folds::{self, Folds, OutOfFold};
use serde::Serialize;

use super::train;
use crate::params::Params;
use crate::{Project, Reporter, Result, program};

/// How often cross-validated training writes a checkpoint.
pub(super) const EVERY: Duration = Duration::from_mins(1);

/// What `hard-images` found.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct HardImages {
    /// Counts by category, and the patterns of the mistakes.
    pub summary: HardImagesSummary,
    /// The folder of the results.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Ranks the images of all splits.
///
/// # Errors
/// If a result that this stage reads is missing, damaged or of another run.
pub fn run(project: &Project, reporter: &dyn Reporter) -> Result<HardImages> {
    let (layout, params) = (&project.layout, project.params()?);
    let prepared = layout.prepared();
    let data = TrainingData::open(&prepared)?;
    data.report.check(&prepared, params.dataset_version, &params.split)?;
    let model = Model::load(&layout.model_file())?;
    model.expect_trained_on(&data.report, &layout.model_file())?;
    let test = TestSet::open(&layout.prepared_test(), data.report.test_fingerprint())?;
    let dynamics = Dynamics::read(&layout.dynamics(), &layout.model_file(), &data.train, &data.val)?;
    let first_epoch = artifacts::read_first_epoch(&layout.final_model(), &model)?;
    if first_epoch.is_none() {
        reporter.warn(&format!(
            "{}: an earlier version trained this model and kept no weights of the first epoch, so hard test images are ranked less well; run `cifar-cli train` again",
            layout.final_model().display()
        ));
    }
    let pairs: Vec<Pair> = read_pairs(&prepared)?.into_iter().map(|placed| placed.pair).collect();
    // Everything is read before networks are trained fold by fold, which can take hours.
    let predictions = predictions::read(&layout.evaluation(), &model, test.dataset())?;
    let metrics = std::fs::read(layout.evaluation().join(predictions::METRICS));
    let metrics = metrics.ok().and_then(|text| serde_json::from_slice::<Metrics>(&text).ok());
    if metrics.is_some_and(|metrics| metrics.precision != Precision::F32) {
        reporter.warn(&format!(
            "{}: test images were predicted in bf16, and all others are predicted in f32 here; run `cifar-cli evaluate` without --precision",
            layout.evaluation().display()
        ));
    }
    let review = read_decisions(&prepared, data.train.classes())?;
    let out_of_fold = out_of_fold(project, &params, (&data, test.dataset()), &model, &pairs, reporter)?;
    let run = Run {
        model: &model,
        dynamics: &dynamics,
        data: &data,
        test: test.dataset(),
        predictions: &predictions,
        first_epoch: first_epoch.as_ref(),
        out_of_fold: out_of_fold.as_ref(),
    };
    let inputs = Inputs { pairs, review, ..Inputs::of_run(&run, reporter)? };
    let found = identify(&inputs, reporter)?;
    let folder = layout.hard_images();
    found.save(&params.hard_images, &folder, reporter)?;
    Ok(HardImages { summary: found.summary, folder })
}

/// Returns predictions of networks that were not trained on the image, if the parameters ask for
/// them. Folds that were trained before a stop are read from disk.
fn out_of_fold(
    project: &Project,
    params: &Params,
    (data, test): (&TrainingData, &Dataset),
    whole: &Model,
    pairs: &[Pair],
    reporter: &dyn Reporter,
) -> Result<Option<OutOfFold>> {
    let folds = params.hard_images.folds;
    if folds == 0 {
        return Ok(None);
    }
    let Recipe { model, train } = train::tuned(project, params, &data.report, reporter)?;
    train::expect_same_recipe(project, params, &model, whole)?;
    let how = Folds {
        train: &train,
        model: &model,
        folds,
        seed: params.random_seed,
        pairs,
        checkpoints: &project.layout.checkpoints(),
        every: EVERY,
        program: &program::identity_here()?,
    };
    Ok(Some(folds::out_of_fold(&how, data, test, reporter)?))
}

impl fmt::Display for HardImages {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}\nresults: {}", self.summary.in_words(), self.folder.display())
    }
}
