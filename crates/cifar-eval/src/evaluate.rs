//! The score of a trained network on test images.

mod files;
mod set_metrics;

use std::fmt;
use std::path::Path;

use cifar_data::{Dataset, Header, Progress, Sample, store};
use cifar_model::{Augmented, Model, TestTimeAugmentation, Views, predict_augmented};
use cifar_train::EpochRecord;
use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;
use crate::confusion::{ConfusionMatrix, check_memory};
use crate::metrics::{ClassMetrics, Scores, by_class};
use crate::predictions::Predictions;
use crate::{EvalError, Result};

pub use self::set_metrics::{ClassScore, Metrics, SetMetrics};

pub(crate) use self::files::quoted;

/// Number of pairs of classes that the printed evaluation lists.
const CONFUSED_PAIRS: usize = 3;

/// Parameters of the evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "UncheckedEvaluateParams")]
pub struct EvaluateParams {
    /// Test-time augmentation (TTA): the copies of each image over which predictions are averaged.
    pub tta: Views,
    /// Fraction of the images that are augmented, 0 to 1: those with the least certain predictions.
    pub tta_fraction: f64,
    /// Number of bins of equal width for the calibration error, 1 to 100.
    pub calibration_bins: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedEvaluateParams {
    tta: Views,
    #[serde(alias = "tta_share")]
    tta_fraction: f64,
    calibration_bins: usize,
}

impl TryFrom<UncheckedEvaluateParams> for EvaluateParams {
    type Error = EvalError;

    fn try_from(p: UncheckedEvaluateParams) -> Result<Self> {
        let UncheckedEvaluateParams { tta, tta_fraction, calibration_bins } = p;
        let refuse = |key, value: String, allowed: &str| {
            Err(EvalError::Parameter { key, value, allowed: format!("allowed is {allowed}") })
        };
        if !(0.0..=1.0).contains(&tta_fraction) {
            return refuse("tta_fraction", tta_fraction.to_string(), "0 to 1");
        }
        if !(1..=100).contains(&calibration_bins) {
            return refuse("calibration_bins", calibration_bins.to_string(), "1 to 100");
        }
        Ok(Self { tta, tta_fraction, calibration_bins })
    }
}

impl Default for EvaluateParams {
    fn default() -> Self {
        Self { tta: Views::None, tta_fraction: 1.0, calibration_bins: 15 }
    }
}

/// The score of a model on test images: everything that [`Evaluation::save`] writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// All figures.
    pub metrics: Metrics,
    /// Figures of each class, in the order of the classes.
    pub per_class: Vec<ClassMetrics>,
    /// Numbers of test images by label and predicted class.
    pub confusion: ConfusionMatrix,
    /// Calibration on the test images.
    pub calibration: Calibration,
    test: PredictedSet,
    /// The shared test images, if they are other images.
    pool: Option<PredictedSet>,
    history: Vec<EpochRecord>,
    /// The hash of the model file.
    model: String,
}

/// Images without their pixels, with predictions.
#[derive(Debug, Clone, PartialEq)]
struct PredictedSet {
    header: Header,
    samples: Vec<Sample>,
    fingerprint: String,
    predictions: Predictions,
    /// Images × classes, without test-time augmentation.
    plain: Vec<f32>,
}

/// Scores `model` on the images of `test`. Writes nothing; see [`Evaluation::save`].
///
/// ```
/// use cifar_data::{Silent, prepare, sources::synthetic, splits::SplitParams};
/// use cifar_eval::evaluate::{EvaluateParams, evaluate};
/// use cifar_model::ModelParams;
/// use cifar_train::{TrainParams, fit};
///
/// let params = synthetic::SyntheticParams { count: 300, ..Default::default() };
/// let images = synthetic::generate(&params)?.dataset;
/// let split = prepare::split(&images, &SplitParams::default(), &Silent)?;
/// let (data, test) = (&split.data, split.test.dataset());
/// let params = TrainParams { epochs: 1, ..Default::default() };
/// let fitted = fit(&params, &ModelParams::default(), data, 42, &Silent)?;
/// let evaluation = evaluate(&EvaluateParams::default(), &fitted.model, test, &Silent)?;
/// assert_eq!(evaluation.metrics.test.images, test.len());
/// assert!(evaluation.to_string().contains("accuracy"));
/// # Ok::<(), cifar_eval::EvalError>(())
/// ```
///
/// # Errors
/// If there are no images, the model does not fit them, there is not enough memory, or the caller
/// cancels.
pub fn evaluate(params: &EvaluateParams, model: &Model, test: &Dataset, progress: &dyn Progress) -> Result<Evaluation> {
    evaluate_with_pool(params, model, test, test, progress)
}

/// Scores `model` on `test`, and on `pool`: images on which models with other test images are
/// scored, too, so that they can be compared.
///
/// ```
/// # use cifar_data::{Silent, prepare, sources::synthetic, splits::SplitParams};
/// # use cifar_model::{Model, ModelParams, ModelSpec};
/// use cifar_eval::evaluate::{EvaluateParams, evaluate_with_pool};
///
/// # let params = synthetic::SyntheticParams { count: 60, ..Default::default() };
/// # let images = synthetic::generate(&params)?.dataset;
/// # let normalisation = prepare::normalisation(&images);
/// # let (classes, size) = (images.classes().to_vec(), images.size());
/// # let params = ModelParams::default();
/// # let model = Model::new(ModelSpec { params, classes, size, normalisation }, 7)?;
/// let own = images.filter(|sample| sample.id.0 < 40);
/// let params = EvaluateParams::default();
/// let evaluation = evaluate_with_pool(&params, &model, &own, &images, &Silent)?;
/// assert_eq!((evaluation.metrics.test.images, evaluation.metrics.pool.images), (40, 60));
/// # Ok::<(), cifar_eval::EvalError>(())
/// ```
///
/// # Errors
/// As [`evaluate`](fn@evaluate).
pub fn evaluate_with_pool(
    params: &EvaluateParams,
    model: &Model,
    test: &Dataset,
    pool: &Dataset,
    progress: &dyn Progress,
) -> Result<Evaluation> {
    let classes = test.classes().len();
    check_memory(classes)?;
    let augmentation = TestTimeAugmentation { views: params.tta, fraction: params.tta_fraction };
    let is_augmented = params.tta != Views::None;
    let bins = params.calibration_bins;
    let predict = |set: &Dataset, what: &'static str| -> Result<(PredictedSet, SetMetrics, Option<SetMetrics>)> {
        let predicted = PredictedSet::of(set, &predict_augmented(model, set, augmentation, what, progress)?)?;
        let labels = set.labels();
        let metrics = |probabilities: &[f32]| -> Result<SetMetrics> {
            Ok(SetMetrics::of(&Scores::new(probabilities, &labels, classes)?, bins))
        };
        let averaged = metrics(&predicted.predictions.probabilities)?;
        let plain = is_augmented.then(|| metrics(&predicted.plain)).transpose()?;
        Ok((predicted, averaged, plain))
    };
    let (predicted, metrics, without_tta) = predict(test, "testing")?;
    let (pool, pool_metrics, pool_without_tta) = if pool == test {
        (None, metrics.clone(), without_tta.clone())
    } else {
        let (pool, metrics, plain) = predict(pool, "testing on the shared test images")?;
        (Some(pool), metrics, plain)
    };
    let labels = test.labels();
    let scores = Scores::new(&predicted.predictions.probabilities, &labels, classes)?;
    let (confusion, calibration) = (scores.confusion(), Calibration::new(&scores, bins));
    let origin = model.origin.as_ref();
    let per_class = by_class(&confusion);
    let metrics = Metrics {
        test: metrics,
        classes: test.classes().iter().cloned().zip(per_class.iter().map(ClassScore::from)).collect(),
        pool: pool_metrics,
        tta: params.tta,
        test_without_tta: without_tta,
        pool_without_tta,
        precision: model.precision(),
        source: test.header().source.description.clone(),
        dataset_version: origin.map(|o| o.dataset_version.clone()).unwrap_or_default(),
        seed: origin.map_or(0, |o| o.seed),
        epoch: origin.map_or(0, |o| o.epoch),
    };
    Ok(Evaluation {
        metrics,
        per_class,
        confusion,
        calibration,
        test: predicted,
        pool,
        history: Vec::new(),
        model: model.seal().into(),
    })
}

impl PredictedSet {
    fn of(set: &Dataset, logits: &Augmented) -> Result<Self> {
        Ok(Self {
            header: set.header().clone(),
            samples: set.samples().to_vec(),
            fingerprint: store::fingerprint(set),
            predictions: Predictions {
                ids: set.samples().iter().map(|s| s.id).collect(),
                probabilities: logits.averaged.probabilities()?,
            },
            plain: logits.plain.probabilities()?,
        })
    }
}

impl Evaluation {
    /// Returns the evaluation with the history of the training, which the saved folder has as a
    /// plot.
    #[must_use]
    pub fn with_history(self, history: &[EpochRecord]) -> Self {
        Self { history: history.to_vec(), ..self }
    }

    /// Returns the predictions on the test images.
    pub fn predictions(&self) -> &Predictions {
        &self.test.predictions
    }

    /// Writes everything into the folder `out`, which it replaces: `metrics.json`, the tables
    /// `predictions.csv`, `pool_predictions.csv`, `per_class.csv`, `confusion_matrix.csv` and
    /// `reliability.csv`, and `plots/`.
    ///
    /// ```
    /// # use cifar_data::{Silent, prepare, sources::synthetic, splits::SplitParams};
    /// # use cifar_eval::evaluate::{EvaluateParams, evaluate};
    /// # use cifar_model::{Model, ModelParams, ModelSpec};
    /// # let params = synthetic::SyntheticParams { count: 60, ..Default::default() };
    /// # let images = synthetic::generate(&params)?.dataset;
    /// # let normalisation = prepare::normalisation(&images);
    /// # let (classes, size) = (images.classes().to_vec(), images.size());
    /// # let params = ModelParams::default();
    /// # let model = Model::new(ModelSpec { params, classes, size, normalisation }, 7)?;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let out = folder.path().join("evaluation");
    /// let evaluation = evaluate(&EvaluateParams::default(), &model, &images, &Silent)?;
    /// evaluation.save(&out, &Silent)?;
    /// assert!(out.join("metrics.json").exists() && out.join("plots/reliability.png").exists());
    /// # Ok::<(), cifar_eval::EvalError>(())
    /// ```
    ///
    /// # Errors
    /// If a file cannot be written or the caller cancels. The folder is then unchanged.
    pub fn save(&self, out: &Path, progress: &dyn Progress) -> Result<()> {
        files::save(self, out, progress)
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.metrics.test)?;
        if let Some(plain) = &self.metrics.test_without_tta {
            let name = self.metrics.tta.name();
            write!(f, "\nwithout TTA        accuracy {:.2} % (with: {name})", plain.accuracy * 100.0)?;
        }
        let classes = &self.test.header.classes;
        let scores = classes.iter().zip(&self.per_class).map(|(name, class)| (name.as_str(), class.into()));
        if let Some(lowest) = set_metrics::lowest_recall(scores) {
            write!(f, "\nlowest recall      {lowest}")?;
        }
        for (index, pair) in self.confusion.confused_pairs().iter().take(CONFUSED_PAIRS).enumerate() {
            let title = if index == 0 { "most confused" } else { "" };
            let (label, predicted) = (&classes[pair.label], &classes[pair.predicted]);
            write!(
                f,
                "\n{title:<18} {label} → {predicted} ({} of {})",
                pair.count,
                self.confusion.row_sum(pair.label)
            )?;
        }
        write!(f, "\n({})", self.metrics.source)
    }
}
