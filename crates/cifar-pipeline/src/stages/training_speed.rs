//! How fast this machine trains a network, measured over a few steps.

use std::time::Instant;

use cifar_data::batches::{epoch_order, training_batch};
use cifar_data::prepare::{Normalisation, TrainingData, normalisation};
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::splits::Split;
use cifar_data::{Dataset, Progress, memory, store};
use cifar_model::{Model, ModelParams, ModelSpec};
use cifar_train::{ClassWeights, Recipe, TrainParams, Trainer, training_memory};

use crate::params::Params;
use crate::{Project, Result};

/// Number of timed steps; the first is warm-up.
const STEPS: usize = 4;
/// Maximum number of images for the timing, if they are small: a few batches.
const TIMED_IMAGES: usize = 1024;
/// Maximum number of pixels for the timing, unless four images have more.
const TIMED_PIXELS: usize = TIMED_IMAGES * 32 * 32;

/// The images of a run, as far as they are known.
pub(super) struct Subject {
    /// Some of the images.
    pub(super) set: Dataset,
    normalisation: Normalisation,
    /// Numbers of training and validation images.
    pub(super) counts: [usize; 2],
    /// What the training images are, with their number.
    pub(super) in_words: String,
}

/// The memory of a run in bytes.
pub(super) struct Needed {
    /// All of it.
    pub(super) all: u64,
    /// What this process has not taken yet.
    pub(super) more: u64,
    /// That of the images.
    pub(super) images: u64,
}

impl Subject {
    /// Returns the prepared images; without these, those of the partitions; without these too,
    /// synthetic images of the size and number of CIFAR-10.
    pub(super) fn of(project: &Project, params: &Params) -> Result<Self> {
        if let Ok(data) = TrainingData::open(&project.layout.prepared()) {
            let in_words = format!("the {} prepared training images", data.train.len());
            let counts = [data.report.images.get(&Split::Train), data.report.images.get(&Split::Val)];
            let counts = counts.map(|count| count.copied().unwrap_or(0));
            return Ok(Self { set: data.train, normalisation: data.report.normalisation, counts, in_words });
        }
        let chosen = params.dataset_version.partitions();
        let folders = chosen.iter().map(|partition| project.layout.partitions().join(partition.name()));
        let sets: Vec<Dataset> = folders.map_while(|folder| store::read(&folder).ok()).collect();
        let of_all = |all: usize| {
            let rest = all as f64 * (1.0 - params.split.test_fraction);
            let train = (rest * (1.0 - params.split.val_fraction)) as usize;
            let used = if params.split.train_images == 0 { train } else { train.min(params.split.train_images) };
            [used, rest as usize - train.min(rest as usize)]
        };
        let (set, counts, of) = if sets.len() == chosen.len()
            && let Some(first) = sets.first()
        {
            let counts = of_all(sets.iter().map(Dataset::len).sum());
            (first.clone(), counts, format!("{} of the partitions", params.dataset_version))
        } else {
            let drawn = synthetic::generate(&SyntheticParams { count: TIMED_IMAGES, ..SyntheticParams::default() })?;
            (drawn.dataset, [42_000, 6000], "v1+v2+v3 of CIFAR-10".to_string())
        };
        let in_words = format!("about {} training images of {of}", counts[0]);
        Ok(Self { normalisation: normalisation(&set), set, counts, in_words })
    }

    /// Returns a network for these images.
    pub(super) fn spec(&self, model: &ModelParams) -> ModelSpec {
        ModelSpec {
            params: model.clone(),
            classes: self.set.classes().to_vec(),
            size: self.set.size(),
            normalisation: self.normalisation.clone(),
        }
    }

    /// Returns the memory that training a recipe needs.
    ///
    /// # Errors
    /// If the network does not suit the images.
    pub(super) fn memory(&self, recipe: &Recipe) -> Result<Needed> {
        let needed = training_memory(&recipe.train, &self.spec(&recipe.model), self.counts)?;
        let images = self.counts.iter().sum::<usize>() as u64 * self.set.size().bytes() as u64;
        // The images that are open here already take memory.
        let more = needed + images.saturating_sub(self.set.pixels().len() as u64);
        Ok(Needed { all: needed + images, more, images })
    }

    /// Measures the training images per second of a recipe that suits the images and the memory.
    ///
    /// # Errors
    /// If it does not suit, a step fails, or the user asks to stop.
    pub(super) fn rate(&self, recipe: &Recipe, progress: &dyn Progress) -> Result<f64> {
        let [train, val] = self.counts;
        recipe.train.check(train, val, self.set.size())?;
        memory::check("training", self.memory(recipe)?.more, "use fewer or smaller images")?;
        self.images_per_second(recipe, progress)
    }

    /// Measures the training images per second of a recipe: the fastest of a few steps.
    ///
    /// # Errors
    /// If the recipe does not suit the images, a step fails, or the user asks to stop.
    pub(super) fn images_per_second(&self, recipe: &Recipe, progress: &dyn Progress) -> Result<f64> {
        let (set, train) = (&self.set, &recipe.train);
        let most = (TIMED_PIXELS / (set.size().height * set.size().width)).clamp(STEPS, TIMED_IMAGES).min(set.len());
        let batch_size = train.batch_size.min(most / STEPS).max(1);
        // Weights change no time, and those of the classes are not known without all images.
        let timed = TrainParams { batch_size, class_weights: ClassWeights::None, ..train.clone() };
        timed.augmentation().check(set.size())?;
        let mut trainer = Trainer::new(Model::new(self.spec(&recipe.model), 0)?, &timed, set.len(), 0)?;
        let order = epoch_order(set.len(), 0, 0);
        let mut seconds = Vec::new();
        for indices in order.chunks_exact(batch_size).take(STEPS + 1) {
            progress.check()?;
            let start = Instant::now();
            let batch = training_batch(set, indices, &timed.augmentation(), 0, 0);
            trainer.step(&batch, 0)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        // The first step warms up, if there are more.
        let best = seconds.iter().skip(usize::from(seconds.len() > 1)).copied().fold(f64::INFINITY, f64::min);
        Ok(batch_size as f64 / best)
    }
}
