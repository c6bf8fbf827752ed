//! A project on disk: its folders, parameters and lock, and the pipeline as one function.

use std::path::{Path, PathBuf};

use cifar_data::partitions::{self, Partition};
use cifar_data::prepare::PreparedReport;
use cifar_data::{DataError, Resize};
use cifar_model::{ModelSpec, Precision, Transfer};
use cifar_train::{Init, Recipe};

use crate::layout::Layout;
use crate::lock::ProjectLock;
use crate::params::{Params, Setting, shown_settings, with_settings};
use crate::reporter::Reporter;
use crate::run_record::{Stopwatch, last_settings};
use crate::stages::evaluate::Evaluated;
use crate::stages::hard_images::HardImages;
use crate::stages::inspect::Inspected;
use crate::stages::partition::add::{self, Added};
use crate::stages::partition::{PartitionOptions, Partitioned};
use crate::stages::prepare::Prepared;
use crate::stages::pull::Pulled;
use crate::stages::train::{TrainOptions, Trained};
use crate::stages::tune::TuningOutcome;
use crate::stages::{evaluate, hard_images, inspect, partition, prepare, pull, train, tune};
use crate::{Error, Result, ensure};

/// A folder with params.yaml, in which the stages leave their results.
///
/// Each stage is a method. It takes the project's lock, so that two processes do not write to the
/// same folder, and records how long it took in `.cifar/runs`.
#[derive(Debug, Clone)]
pub struct Project {
    /// The paths of all files and folders.
    pub layout: Layout,
    /// The file with the parameters; by default params.yaml in the project's folder.
    pub params_file: PathBuf,
    /// Parameters with other values than in that file, by key, for this project value alone.
    pub settings: Setting,
}

/// Options of [`Project::run`].
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The source that is partitioned first ([`PartitionOptions::source`]). With `None`, existing
    /// partitions are used; if there are none, the source is `auto`.
    pub source: Option<String>,
    /// The size to which the images of `source` are resized, with the rule.
    pub resize: Option<Resize>,
    /// Whether to avoid the network.
    pub offline: bool,
}

impl Project {
    /// Opens the project in `folder`.
    ///
    /// # Errors
    /// If there is no such folder. The parameters are read when a stage needs them.
    ///
    /// ```
    /// use cifar_data::Silent;
    /// use cifar_pipeline::{PartitionOptions, Project};
    ///
    /// let folder = tempfile::tempdir()?;
    /// cifar_pipeline::init::init(folder.path(), &[])?;
    /// let project = Project::open(folder.path())?;
    /// let images = PartitionOptions { synthetic_images: 300, ..PartitionOptions::of("synthetic") };
    /// project.partition(&images, &Silent)?;
    /// project.pull(&Silent)?;
    /// let prepared = project.prepare(&Silent)?;
    /// assert_eq!(prepared.report.classes.len(), 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(folder: &Path) -> Result<Self> {
        ensure!(folder.is_dir(), "{}: there is no such folder", folder.display());
        let layout = Layout::new(folder);
        Ok(Self { params_file: layout.params(), layout, settings: Setting::new() })
    }

    /// Returns the same project with its parameters in another file.
    #[must_use]
    pub fn with_params_file(self, file: PathBuf) -> Self {
        Self { params_file: file, ..self }
    }

    /// Returns the same project with other values for some parameters
    /// ([`parse_settings`](crate::params::parse_settings)). The file stays as it is.
    #[must_use]
    pub fn with_settings(self, settings: Setting) -> Self {
        Self { settings, ..self }
    }

    /// Reads and checks the parameters, first those of the file, then the settings of this project.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if a key is unknown or missing or a value is not allowed.
    pub fn params(&self) -> Result<Params> {
        self.params_for(&self.known_partitions()?)
    }

    /// Reads the parameters as if `known` were the partitions that there are.
    pub(crate) fn params_for(&self, known: &[Partition]) -> Result<Params> {
        with_settings(Params::read(&self.params_file, known)?, &self.settings, known)
    }

    /// Returns the partitions that there are, in order: v1, v2 and v3, and those that were added. A
    /// partition that DVC tracks counts, too, since `dvc pull` brings it.
    ///
    /// # Errors
    /// If the folder of the partitions cannot be read.
    pub fn known_partitions(&self) -> Result<Vec<Partition>> {
        let folder = self.layout.partitions();
        let mut known = partitions::known(&folder)?;
        let next = |known: &[Partition]| known.last().and_then(|last| last.next());
        while let Some(next) = next(&known).filter(|next| folder.join(format!("{next}.dvc")).is_file()) {
            known.push(next);
        }
        Ok(known)
    }

    /// Reads the trained network that a recipe starts from, if it starts from one, and checks that
    /// it fits the network and the prepared images.
    ///
    /// # Errors
    /// If the file is not a model, does not fit, or is in the folder that the run replaces.
    pub(crate) fn read_init(&self, recipe: Recipe, data: &PreparedReport) -> Result<Recipe> {
        let Init::File(path) = &recipe.train.init else { return Ok(recipe) };
        let (file, own) = (self.layout.join(path), self.layout.final_model());
        let refused = |problem: String| Error::usage(format!("train.init: {}: {problem}", file.display()));
        let is_own = |of: fn(&Path) -> std::io::Result<PathBuf>| {
            of(&file).is_ok_and(|file| of(&own).is_ok_and(|own| file.starts_with(own)))
        };
        if is_own(|path| std::path::absolute(path)) || is_own(Path::canonicalize) {
            return Err(refused(
                "this run replaces that folder; copy the file to another one, such as pretrained/".into(),
            ));
        }
        let init = recipe.train.init.read(&self.layout.join(""))?;
        if let Some(model) = init.model()? {
            let spec = ModelSpec {
                params: recipe.model.clone(),
                classes: data.classes.clone(),
                size: data.size,
                normalisation: data.normalisation.clone(),
            };
            Transfer::plan(&spec, model).map_err(|e| refused(e.to_string()))?;
        }
        Ok(Recipe { train: cifar_train::TrainParams { init, ..recipe.train }, model: recipe.model })
    }

    /// Runs every stage in order: pull, prepare, inspect, tune, train, evaluate, hard-images.
    /// Partitions images first if `options` name a source or there are no partitions.
    ///
    /// # Errors
    /// The first error of a stage. The results of the stages before it stay.
    pub fn run(&self, options: &RunOptions, reporter: &dyn Reporter) -> Result<()> {
        self.locked("run", reporter, || {
            // Mistakes in the parameters are reported before any image is decoded.
            self.params()?.train.check_dynamics()?;
            if options.resize.is_some() && options.source.is_none() {
                return Err(Error::usage("--size resizes images when they are partitioned; name them with --source"));
            }
            let has_partitions = Partition::FIRST.iter().all(|p| self.layout.partitions().join(p.name()).is_dir());
            if options.source.is_some() || !has_partitions {
                let source = options.source.as_deref().unwrap_or("auto");
                let RunOptions { resize, offline, .. } = *options;
                let images = PartitionOptions { offline, resize, ..PartitionOptions::of(source) };
                reporter.finished(&partition::run(self, &images, reporter)?);
            }
            reporter.finished(&pull::run(self, reporter)?);
            reporter.finished(&prepare::run(self, reporter)?);
            reporter.finished(&inspect::run(self, reporter)?);
            self.learn(reporter)
        })
    }

    /// Runs the stages after the data stages: tune, train, evaluate, hard-images.
    fn learn(&self, reporter: &dyn Reporter) -> Result<()> {
        reporter.check()?;
        reporter.finished(&tune::run(self, reporter)?);
        reporter.finished(&train::run(self, &TrainOptions::default(), reporter)?);
        reporter.finished(&evaluate::run(self, reporter)?);
        reporter.finished(&hard_images::run(self, reporter)?);
        Ok(())
    }

    /// Reads images and divides them into the partitions v1, v2 and v3.
    ///
    /// # Errors
    /// If the images cannot be read, or real images would be replaced by synthetic ones without
    /// being asked for.
    pub fn partition(&self, options: &PartitionOptions, reporter: &dyn Reporter) -> Result<Partitioned> {
        self.locked("partition", reporter, || partition::run(self, options, reporter))
    }

    /// Reads images and adds them as the partition `name`, which is the next one, such as v4. What
    /// was there does not change.
    ///
    /// # Errors
    /// If `name` is not the next partition, the partitions are missing or damaged, or the images
    /// cannot be read or do not suit those that are there.
    pub fn add_partition(&self, name: &str, options: &PartitionOptions, reporter: &dyn Reporter) -> Result<Added> {
        self.locked("partition", reporter, || add::run(self, name, options, reporter))
    }

    /// Joins the partitions that the parameters name, and separates the shared test images.
    ///
    /// # Errors
    /// If the partitions are missing, damaged or of different sets.
    pub fn pull(&self, reporter: &dyn Reporter) -> Result<Pulled> {
        self.locked("pull", reporter, || pull::run(self, reporter))
    }

    /// Divides the pulled images into training, validation and test images.
    ///
    /// # Errors
    /// If the pulled images are missing or stale, or a file in `labels/` is wrong.
    pub fn prepare(&self, reporter: &dyn Reporter) -> Result<Prepared> {
        self.locked("prepare", reporter, || prepare::run(self, reporter))
    }

    /// Describes the prepared images: counts, image quality, duplicates, contradicting labels.
    ///
    /// # Errors
    /// If the prepared images are missing or stale.
    pub fn inspect(&self, reporter: &dyn Reporter) -> Result<Inspected> {
        self.locked("inspect", reporter, || inspect::run(self, reporter))
    }

    /// Searches for better parameters with validation images.
    ///
    /// # Errors
    /// If the prepared images are missing or stale, or the search is impossible or was stopped.
    pub fn tune(&self, reporter: &dyn Reporter) -> Result<TuningOutcome> {
        self.locked("tune", reporter, || tune::run(self, reporter))
    }

    /// Trains the network.
    ///
    /// # Errors
    /// If the prepared images are missing or stale, training diverged or was stopped.
    pub fn train(&self, options: &TrainOptions, reporter: &dyn Reporter) -> Result<Trained> {
        self.locked("train", reporter, || train::run(self, options, reporter))
    }

    /// Scores the trained network on test images.
    ///
    /// # Errors
    /// If the model or the test images are missing, damaged or of another split.
    pub fn evaluate(&self, reporter: &dyn Reporter) -> Result<Evaluated> {
        self.evaluate_in(Precision::F32, reporter)
    }

    /// Scores the trained network as [`Project::evaluate`] does, with the products of the network
    /// in `precision`.
    ///
    /// # Errors
    /// As [`Project::evaluate`].
    pub fn evaluate_in(&self, precision: Precision, reporter: &dyn Reporter) -> Result<Evaluated> {
        self.locked("evaluate", reporter, || evaluate::run_in(self, precision, reporter))
    }

    /// Ranks the images that the network finds hard.
    ///
    /// # Errors
    /// If a result that this stage reads is missing, damaged or of another run.
    pub fn hard_images(&self, reporter: &dyn Reporter) -> Result<HardImages> {
        self.locked("hard-images", reporter, || hard_images::run(self, reporter))
    }

    /// Calls `work` with the project's lock held, and records its time as that of `command`.
    ///
    /// # Errors
    /// If another process uses this folder, a folder of results is a link, or `work` fails.
    pub fn locked<T>(&self, command: &str, reporter: &dyn Reporter, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let _lock = ProjectLock::take(&self.layout, command)?;
        let watch = Stopwatch::start().with_settings(self.settings.clone());
        let result = work().map_err(|error| self.explain(error))?;
        reporter.check()?;
        watch.record(&self.layout, command);
        Ok(result)
    }

    /// Adds to the error of a stale result that its stage ran with settings that this command does
    /// not have.
    fn explain(&self, error: Error) -> Error {
        let stages = error.data_error().map_or(&[][..], DataError::made_by);
        let differing = stages.iter().map(|stage| stage.name()).find_map(|stage| {
            let settings = last_settings(&self.layout, stage);
            (!settings.is_empty() && settings != self.settings).then(|| (stage, shown_settings(&settings)))
        });
        match differing {
            Some((stage, settings)) => {
                error.context(format!("the last `cifar-cli {stage}` had {settings}, unlike this command"))
            }
            None => error,
        }
    }
}

#[cfg(test)]
mod tests;
