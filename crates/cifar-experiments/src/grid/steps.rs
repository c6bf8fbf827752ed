//! Counts the images and optimiser steps of runs, and holds the number of steps constant.

use std::collections::BTreeMap;

use cifar_data::partitions::Partition;
use cifar_data::splits::Protocol;
use cifar_pipeline::params::Setting;

use super::{CONSTANT_STEPS, EPOCHS, Grid, Run};

/// The number of optimiser steps of every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConstantSteps {
    /// That of the run with the most steps.
    Most,
    /// This number.
    Number(usize),
}

/// Image counts of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionImages {
    /// Number of all images.
    pub all: usize,
    /// Number of images from the published test set.
    pub published_test: usize,
}

impl Grid {
    /// Sets `train.epochs` of every run so that all take the same number of optimiser steps, as
    /// nearly as whole epochs allow. Returns that number; none if the grid does not set
    /// `constant_steps`.
    ///
    /// # Errors
    /// If a run's parameters do not allow its number of epochs.
    pub fn hold_steps(&mut self, images: &BTreeMap<Partition, PartitionImages>) -> Result<Option<usize>, String> {
        let Some(constant) = self.constant_steps else { return Ok(None) };
        let steps = match constant {
            ConstantSteps::Number(steps) => steps,
            ConstantSteps::Most => self.runs.iter().map(|run| run.steps(images)).max().unwrap_or(0),
        };
        for run in &mut self.runs {
            let epochs = (steps as f64 / run.steps_per_epoch(images) as f64).round().max(1.0) as u64;
            let least = run.params.train.min_steps;
            if least > steps {
                return Err(format!(
                    "{CONSTANT_STEPS}: {steps} is less than train.min_steps: {least} of {}; raise it, or set train.min_steps to 0",
                    run.name
                ));
            }
            run.params = (run.params.with(&Setting::from([(EPOCHS.into(), epochs.into())])))
                .map_err(|e| format!("{CONSTANT_STEPS}: {steps} steps are {epochs} epochs of {}: {e}", run.name))?;
        }
        Ok(Some(steps))
    }
}

impl Run {
    /// Returns the approximate number of training images, from the sizes of partitions and splits.
    /// Groups of near-duplicates stay together, which shifts a few images.
    pub fn training_images(&self, images: &BTreeMap<Partition, PartitionImages>) -> f64 {
        let split = &self.params.split;
        let training = self.images_to_learn(images) * (1.0 - split.val_fraction);
        if split.train_images == 0 { training } else { training.min(split.train_images as f64) }
    }

    /// About how many validation images it has.
    pub(crate) fn validation_images(&self, images: &BTreeMap<Partition, PartitionImages>) -> f64 {
        self.images_to_learn(images) * self.params.split.val_fraction
    }

    /// All images of its partitions but those for test.
    fn images_to_learn(&self, images: &BTreeMap<Partition, PartitionImages>) -> f64 {
        let split = &self.params.split;
        let chosen = self.params.dataset_version;
        let of = |images: &PartitionImages| match split.protocol {
            Protocol::Official => (images.all - images.published_test.min(images.all)) as f64,
            Protocol::Pooled => images.all as f64 * (1.0 - split.test_fraction),
        };
        images.iter().filter(|(partition, _)| chosen.contains(**partition)).map(|(_, n)| of(n)).sum()
    }

    fn steps_per_epoch(&self, images: &BTreeMap<Partition, PartitionImages>) -> usize {
        self.params.train.steps_per_epoch(self.training_images(images).round() as usize)
    }

    /// Returns the number of epochs without early stopping. With `train.min_steps` it depends on the
    /// number of training images, so it is as approximate as that.
    pub fn epochs(&self, images: &BTreeMap<Partition, PartitionImages>) -> usize {
        self.params.train.for_images(self.training_images(images).round() as usize).epochs
    }

    /// Returns the approximate number of optimiser steps without early stopping.
    pub fn steps(&self, images: &BTreeMap<Partition, PartitionImages>) -> usize {
        self.steps_per_epoch(images).saturating_mul(self.epochs(images))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::{base, parse};
    use super::*;

    /// The counts of the real data: a sixth of each partition are published test images.
    fn images() -> BTreeMap<Partition, PartitionImages> {
        Partition::FIRST.map(|partition| (partition, PartitionImages { all: 20_000, published_test: 3334 })).into()
    }

    /// The constant number of steps; names, epochs and steps of a grid's runs.
    type Held = (Option<usize>, Vec<(String, usize, usize)>);

    fn held(text: &str, change: &str) -> Result<Held, String> {
        let (key, value) = change.split_once('=').unwrap();
        let base = base().with(&Setting::from([(key.into(), serde_json::from_str(value).unwrap())])).unwrap();
        let mut grid = parse(text, &base).unwrap();
        let images = images();
        let steps = grid.hold_steps(&images)?;
        Ok((steps, grid.runs.iter().map(|r| (r.name.clone(), r.epochs(&images), r.steps(&images))).collect()))
    }

    #[test]
    fn steps_can_be_held_constant() {
        let grid = "[grid]\ndataset_version = ['v1', 'v1+v2', 'v1+v2+v3']\n";
        let include = "[[include]]\ndataset_version = ['v1+v2+v3']\nsplit.train_images = [5000]\n";
        let run = |name: &str, epochs, steps| (format!("{name}-seed42"), epochs, steps);
        // 14,000, 28,000 and 42,000 images in batches of 128: 110, 219 and 329 steps per epoch.
        // Names do not change.
        let as_it_is = vec![run("v1", 15, 1650), run("v1+v2", 15, 3285), run("v1+v2+v3", 15, 4935)];
        assert_eq!(held(grid, "train.epochs=15").unwrap(), (None, as_it_is));
        let (steps, runs) = held(&format!("constant_steps = true\n{grid}{include}"), "train.epochs=15").unwrap();
        assert_eq!(steps, Some(4935));
        let of_5000 = run("v1+v2+v3-train_images5000", 123, 123 * 40);
        assert_eq!(runs, [run("v1", 45, 4950), run("v1+v2", 23, 5037), run("v1+v2+v3", 15, 4935), of_5000]);
        let (steps, runs) = held(&format!("constant_steps = 660\n{grid}"), "train.epochs=15").unwrap();
        assert_eq!(steps, Some(660));
        assert_eq!(runs, [run("v1", 6, 660), run("v1+v2", 3, 657), run("v1+v2+v3", 2, 658)]);
        // Published test images are not used for training: 16,666 × ⅞ = 14,583.
        // A least number of steps: the smallest number of whole epochs that has it.
        let (steps, runs) = held(&format!("{grid}{include}"), "train.min_steps=4935").unwrap();
        let of_5000 = run("v1+v2+v3-train_images5000", 124, 124 * 40);
        assert_eq!(runs, [run("v1", 45, 4950), run("v1+v2", 23, 5037), run("v1+v2+v3", 15, 4935), of_5000]);
        assert_eq!(steps, None);
        let error = held(&format!("constant_steps = 659\n{grid}"), "train.min_steps=660").unwrap_err();
        let expected =
            "constant_steps: 659 is less than train.min_steps: 660 of v1-seed42; raise it, or set train.min_steps to 0";
        assert_eq!(error, expected);
        let (_, runs) = held(&format!("constant_steps = 114\n{grid}"), "split.protocol=\"official\"").unwrap();
        assert_eq!(runs[0], run("v1", 1, 114));
        let error = held(&format!("constant_steps = 660\n{grid}"), "train.warmup_epochs=3.0").unwrap_err();
        let start = "constant_steps: 660 steps are 2 epochs of v1+v2+v3-seed42: train.warmup_epochs: 3";
        assert!(error.starts_with(start), "{error}");
    }
}
