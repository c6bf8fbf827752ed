//! What an analysis of hard images is made from.

use cifar_data::duplicates::Pair;
use cifar_data::labels::{Entries, Review};
use cifar_data::prepare::TrainingData;
use cifar_data::splits::Split;
use cifar_data::{Dataset, Progress};
use cifar_model::{Embeddings, Model, predict, predict_with_features};
use cifar_train::Dynamics;
use cifar_train::folds::OutOfFold;

use crate::confusion::check_memory;
use crate::measures::Trajectories;
use crate::metrics::Scores;
use crate::predictions::Predictions;
use crate::{EvalError, Result};

/// The images of one split with the predictions of a model.
///
/// Labels are judged by *class probabilities*: the mean of the predictions and of what else there
/// is (epochs of training, networks that were not trained on the image).
#[derive(Debug, Clone, PartialEq)]
pub struct SplitPredictions<'a> {
    /// The split.
    pub split: Split,
    /// The images. Their current labels are judged.
    pub images: &'a Dataset,
    /// Predicted probabilities, images × classes.
    pub probabilities: Vec<f32>,
    /// Measures over the epochs of training, if they were recorded.
    pub trajectories: Option<Trajectories>,
    /// Probabilities of networks that were not trained on the image, images × classes.
    pub out_of_fold: Option<Vec<f32>>,
    /// Probabilities after the first epoch of training, images × classes.
    pub first_epoch: Option<Vec<f32>>,
    /// Features, by which neighbours are found.
    pub features: Option<Features>,
}

/// The features of the images of a split, such as the inputs of the last layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Images × `width`.
    pub values: Vec<f32>,
    /// Features per image.
    pub width: usize,
}

/// What an analysis is made from: images with predictions.
///
/// [`Inputs::of_predictions`] takes the predictions of any model, [`Inputs::of_run`] computes those
/// of a training run of this workspace.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// The splits, each at most once. All have the same classes and image size, and no image is in
    /// two of them.
    pub splits: Vec<SplitPredictions<'a>>,
    /// Pairs of images that show the same picture; see
    /// [`duplicates::find`](cifar_data::duplicates::find).
    pub pairs: Vec<Pair>,
    /// Decisions of people. An image whose label they found to be right gets no category.
    pub review: Entries<Review>,
    /// The model in a few words, for the page.
    pub model: String,
    /// The partitions that the images are from; empty if they are not from partitions.
    pub dataset_version: String,
    /// The run's seed, if there is one.
    pub seed: Option<u64>,
    /// The hash of the model file ([`Model::seal`]); may be empty.
    pub model_seal: String,
    /// The hash of the file of the model after the first epoch; empty if it was not used.
    pub first_epoch_seal: String,
    /// The network, for class-activation maps on the page. `None` for given predictions.
    pub network: Option<&'a Model>,
}

/// A training run: its model with everything that it was trained and tested on.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The trained network.
    pub model: &'a Model,
    /// Per-epoch logits.
    pub dynamics: &'a Dynamics,
    /// Training and validation images.
    pub data: &'a TrainingData,
    /// Test images.
    pub test: &'a Dataset,
    /// The predictions on the test images, from [`evaluate`](fn@crate::evaluate::evaluate).
    pub predictions: &'a Predictions,
    /// The network after the first epoch, if it was kept.
    pub first_epoch: Option<&'a Model>,
    /// Predictions of networks that were not trained on the image, if there are any.
    pub out_of_fold: Option<&'a OutOfFold>,
}

impl<'a> SplitPredictions<'a> {
    /// Creates a split with predictions alone.
    ///
    /// `probabilities` are images × classes, and those of an image sum to 1.
    pub fn new(split: Split, images: &'a Dataset, probabilities: Vec<f32>) -> Self {
        Self { split, images, probabilities, trajectories: None, out_of_fold: None, first_epoch: None, features: None }
    }

    /// Adds the measures over `epochs` epochs of training, and the probabilities after the first:
    /// `logits` returns those of an epoch, counted from 0, as images × classes.
    ///
    /// # Errors
    /// If the logits of an epoch do not fit the images.
    pub fn follow(&mut self, epochs: usize, mut logits: impl FnMut(usize) -> Vec<f32>) -> Result<()> {
        let classes = self.images.classes().len();
        let mut first = None;
        let of_epoch = |epoch| {
            let found = logits(epoch);
            if epoch == 0 {
                first = Some(found.clone());
            }
            found
        };
        self.trajectories = Trajectories::from_logits(classes, &self.images.labels(), epochs, of_epoch)?;
        if let Some(logits) = first {
            let mut probabilities = vec![0.0; logits.len()];
            cifar_kernels::softmax(self.images.len(), classes, &logits, &mut probabilities)
                .map_err(|e| cifar_model::ModelError::Unsuitable(e.to_string()))?;
            self.first_epoch = Some(probabilities);
        }
        Ok(())
    }

    /// Returns whether no network that predicted the images was trained on them.
    pub(super) fn is_held_out(&self) -> bool {
        self.split != Split::Train || (self.trajectories.is_none() && self.out_of_fold.is_some())
    }

    /// Checks that everything is about these images.
    fn check(&self) -> Result<()> {
        let (images, classes) = (self.images.len(), self.images.classes().len());
        let wrong = |problem: String| Err(EvalError::Predictions { split: self.split, problem });
        if let Err(error) = Scores::new(&self.probabilities, &self.images.labels(), classes) {
            return wrong(error.to_string());
        }
        let lengths = [
            ("out-of-fold probabilities", self.out_of_fold.as_ref().map(Vec::len), images * classes),
            ("probabilities after the first epoch", self.first_epoch.as_ref().map(Vec::len), images * classes),
            ("trajectories", self.trajectories.as_ref().map(|t| t.images.len()), images),
            (
                "mean probabilities over epochs",
                self.trajectories.as_ref().map(|t| t.late_probabilities.len()),
                images * classes,
            ),
            (
                "features",
                self.features.as_ref().map(|f| f.values.len()),
                self.features.as_ref().map_or(0, |f| images * f.width),
            ),
        ];
        if let Some((what, Some(found), expected)) =
            lengths.into_iter().find(|(_, found, expected)| found.is_some_and(|found| found != *expected))
        {
            return wrong(format!("{found} {what}, expected {expected}"));
        }
        let features = self.features.iter().flat_map(|f| f.values.chunks_exact(f.width.max(1)));
        match self.images.samples().iter().zip(features).find(|(_, row)| row.iter().any(|value| !value.is_finite())) {
            Some((sample, _)) => wrong(format!("a feature of image {} is NaN or infinite", sample.id)),
            None => Ok(()),
        }
    }
}

impl<'a> Inputs<'a> {
    /// Takes the predictions of any model on `images`: probabilities, images × classes.
    ///
    /// They should be out-of-sample predictions, for example from cross-validation: a model
    /// memorises the labels that it is trained on. Images are treated as test images. All fields
    /// can be changed.
    ///
    /// ```
    /// use cifar_data::{Dataset, ImageSize, Silent};
    /// use cifar_eval::hard_images::{Inputs, identify};
    ///
    /// // 200 images; image 0 is labelled as the other class.
    /// let size = ImageSize { height: 8, width: 8 };
    /// let mut labels: Vec<u16> = (0..200).map(|i| i % 2).collect();
    /// let pixels = (0..200 * size.bytes()).map(|i| (i % 251) as u8).collect();
    /// let of_label = |l: &u16| if *l == 0 { [0.9, 0.1] } else { [0.2, 0.8] };
    /// let probabilities = labels.iter().flat_map(of_label).collect();
    /// labels[0] = 1;
    /// let images = Dataset::from_arrays(&["cat", "dog"], size, &labels, pixels)?;
    ///
    /// let inputs = Inputs::of_predictions(&images, probabilities);
    /// let found = identify(&inputs, &Silent)?;
    /// assert_eq!(found.images[0].sample.id.0, 0, "the most suspicious label comes first");
    /// assert_eq!(found.images[0].category.unwrap().name(), "likely mislabelled");
    /// # Ok::<(), cifar_eval::EvalError>(())
    /// ```
    pub fn of_predictions(images: &'a Dataset, probabilities: Vec<f32>) -> Self {
        Self {
            splits: vec![SplitPredictions::new(Split::Test, images, probabilities)],
            pairs: Vec::new(),
            review: Entries::new(),
            model: "given predictions".into(),
            dataset_version: String::new(),
            seed: None,
            model_seal: String::new(),
            first_epoch_seal: String::new(),
            network: None,
        }
    }

    /// Predicts the images of a training run. `pairs` and `review` are empty and can be set.
    ///
    /// ```
    /// use cifar_data::{Silent, prepare, sources::synthetic, splits::SplitParams};
    /// use cifar_eval::evaluate::{EvaluateParams, evaluate};
    /// use cifar_eval::hard_images::{Inputs, Run, identify};
    /// use cifar_model::ModelParams;
    /// use cifar_train::{TrainParams, fit};
    ///
    /// let params = synthetic::SyntheticParams { count: 300, ..Default::default() };
    /// let images = synthetic::generate(&params)?.dataset;
    /// let split = prepare::split(&images, &SplitParams::default(), &Silent)?;
    /// let (data, test) = (&split.data, split.test.dataset());
    /// # let model = ModelParams { widths: vec![8, 8, 8], ..Default::default() };
    /// # let params = TrainParams { epochs: 2, ..Default::default() };
    /// let fitted = fit(&params, &model, data, 42, &Silent)?;
    /// let evaluation = evaluate(&EvaluateParams::default(), &fitted.model, test, &Silent)?;
    /// let (model, predictions) = (&fitted.model, evaluation.predictions());
    /// let dynamics = fitted.dynamics.as_ref().expect("they are recorded");
    /// let first_epoch = fitted.first_epoch.as_ref();
    /// let run = Run { model, dynamics, data, test, predictions, first_epoch, out_of_fold: None };
    /// let inputs = Inputs { pairs: split.pairs.clone(), ..Inputs::of_run(&run, &Silent)? };
    /// let found = identify(&inputs, &Silent)?;
    /// assert_eq!(found.images.len(), images.len());
    /// # Ok::<(), cifar_eval::EvalError>(())
    /// ```
    ///
    /// # Errors
    /// If the dynamics have no logits of single images in every epoch, the predictions are about
    /// other images than the test set, the model does not fit the images, there are no test images,
    /// or the caller cancels.
    pub fn of_run(run: &Run<'a>, progress: &dyn Progress) -> Result<Self> {
        let Run { model, dynamics, data, test, predictions, first_epoch, out_of_fold } = *run;
        dynamics.check_train()?;
        let epochs = dynamics.epochs();
        if epochs < 2 {
            progress.warn(&format!(
                "training recorded {epochs} epoch: forgetting events, variability and other measures over epochs mean little with fewer than two"
            ));
        }
        let mut splits = Vec::new();
        let embeddings = predict_with_features(model, &data.train, "scoring training images", progress)?;
        let mut train = SplitPredictions::new(Split::Train, &data.train, embeddings.logits.probabilities()?);
        train.follow(epochs, |epoch| dynamics.of_train(epoch).unwrap_or_default())?;
        // Logits of the first training pass are from before the network learnt from the image.
        train.first_epoch = match first_epoch {
            Some(first) => Some(probabilities_of(first, &data.train, progress)?),
            None if epochs > 0 && dynamics.pass(0).is_some() => None,
            None => train.first_epoch,
        };
        train.out_of_fold = out_of_fold.map(|found| found.train.clone());
        train.features = Some(embeddings.into());
        splits.push(train);
        let mut val = SplitPredictions::new(Split::Val, &data.val, Vec::new());
        if !data.val.is_empty() {
            let embeddings = predict_with_features(model, &data.val, "scoring validation images", progress)?;
            val.probabilities = embeddings.logits.probabilities()?;
            val.follow(epochs, |epoch| dynamics.of_val(epoch))?;
            val.out_of_fold = out_of_fold.map(|found| found.val.clone());
            val.features = Some(embeddings.into());
        }
        splits.push(val);
        let wrong = |problem: &str| Err(EvalError::Predictions { split: Split::Test, problem: problem.into() });
        if test.is_empty() {
            return wrong("there are no images");
        }
        if predictions.ids.iter().ne(test.samples().iter().map(|s| &s.id)) {
            return wrong("they are about other images than the test set");
        }
        let mut tested = SplitPredictions::new(Split::Test, test, predictions.probabilities.clone());
        tested.check()?;
        tested.out_of_fold = out_of_fold.map(|found| found.test.clone());
        tested.first_epoch = first_epoch.map(|first| probabilities_of(first, test, progress)).transpose()?;
        tested.features = Some(predict_with_features(model, test, "features of test images", progress)?.into());
        splits.push(tested);
        Ok(Self {
            splits,
            pairs: Vec::new(),
            review: Entries::new(),
            model: format!("{}, {epochs} epochs", model.spec().params.architecture.name()),
            dataset_version: data.report.dataset_version.to_string(),
            seed: Some(model.origin.as_ref().map_or(0, |o| o.seed)),
            model_seal: model.seal().into(),
            first_epoch_seal: first_epoch.map_or(String::new(), |first| first.seal().into()),
            network: Some(model),
        })
    }

    /// Returns the splits that have images.
    pub(super) fn with_images(&self) -> impl Iterator<Item = &SplitPredictions<'a>> {
        self.splits.iter().filter(|split| !split.images.is_empty())
    }

    /// Returns the images of a split, if there are any.
    pub(super) fn images(&self, split: Split) -> Option<&'a Dataset> {
        self.with_images().find(|found| found.split == split).map(|found| found.images)
    }

    /// Checks that all splits have images of one kind, with predictions that fit them, and that
    /// there is enough memory for tables over their classes.
    pub(super) fn check(&self) -> Result<()> {
        let Some(first) = self.with_images().next() else {
            return Err(EvalError::Parameter {
                key: "images",
                value: "none".into(),
                allowed: "at least one split must have some".into(),
            });
        };
        check_memory(first.images.classes().len())?;
        let wrong = |split: Split, problem: String| Err(EvalError::Predictions { split, problem });
        for (index, own) in self.splits.iter().enumerate() {
            if self.splits[..index].iter().any(|other| other.split == own.split) {
                return wrong(own.split, "the split appears twice".into());
            }
            if own.images.classes() != first.images.classes() || own.images.size() != first.images.size() {
                return wrong(own.split, format!("other classes or another image size than {} images", first.split));
            }
            for other in &self.splits[..index] {
                let shared = own.images.samples().iter().find(|s| other.images.index_of(s.id).is_some());
                if let Some(sample) = shared {
                    let problem = format!(
                        "image {} is also a {} image; give each its own id (Dataset::numbered_from)",
                        sample.id, other.split
                    );
                    return wrong(own.split, problem);
                }
            }
        }
        let widths = || self.with_images().filter_map(|split| Some((split.split, split.features.as_ref()?.width)));
        let expected = widths().next().map_or(0, |(_, width)| width);
        if let Some((split, width)) = widths().find(|(_, width)| *width == 0 || *width != expected) {
            return wrong(
                split,
                format!("{width} features per image; all splits must have the same number, at least 1"),
            );
        }
        self.with_images().try_for_each(SplitPredictions::check)
    }
}

/// Returns the probabilities of the network after its first epoch.
fn probabilities_of(first: &Model, set: &Dataset, progress: &dyn Progress) -> Result<Vec<f32>> {
    Ok(predict(first, set, "scoring images after the first epoch", progress)?.probabilities()?)
}

impl From<Embeddings> for Features {
    fn from(embeddings: Embeddings) -> Self {
        Self { values: embeddings.features, width: embeddings.width }
    }
}
