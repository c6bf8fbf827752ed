//! `evaluate`: scores the trained network on test images.

use std::fmt;
use std::path::PathBuf;

use cifar_data::prepare::{PreparedReport, TestSet};
use cifar_eval::evaluate::{Metrics, evaluate_with_pool};
use cifar_model::{Model, Precision};
use serde::Serialize;

use super::precision::note_precision;
use crate::{Project, Reporter, Result};

/// What `evaluate` measured.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Evaluated {
    /// Accuracy, loss and calibration.
    pub metrics: Metrics,
    /// The folder of the results.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Scores the trained network on the test images.
///
/// # Errors
/// If the model or the test images are missing, damaged or of another split.
pub fn run(project: &Project, reporter: &dyn Reporter) -> Result<Evaluated> {
    run_in(project, Precision::F32, reporter)
}

/// Scores the trained network as [`run`] does, with its products in `precision`.
///
/// # Errors
/// As [`run`]. In bf16 also if the processor has AMX, but it cannot be used.
pub fn run_in(project: &Project, precision: Precision, reporter: &dyn Reporter) -> Result<Evaluated> {
    let (layout, params) = (&project.layout, project.params()?);
    let report = PreparedReport::read(&layout.prepared())?;
    report.check(&layout.prepared(), params.dataset_version, &params.split)?;
    let mut model = Model::load(&layout.model_file())?;
    model.set_precision(precision);
    note_precision(precision, reporter)?;
    model.expect_trained_on(&report, &layout.model_file())?;
    let history = cifar_train::artifacts::read_history(&layout.history())?;
    let test = TestSet::open(&layout.prepared_test(), report.test_fingerprint())?;
    let pool = TestSet::open(&layout.pool(), &report.pool_fingerprint)?;
    let folder = layout.evaluation();
    let evaluation = evaluate_with_pool(&params.evaluate, &model, test.dataset(), pool.dataset(), reporter)?;
    let evaluation = evaluation.with_history(&history);
    evaluation.save(&folder, reporter)?;
    Ok(Evaluated { metrics: evaluation.metrics, folder })
}

impl fmt::Display for Evaluated {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}\nresults: {}", self.metrics.in_words(), self.folder.display())
    }
}
