//! The runs of a grid, their folders and states.

use std::path::{Path, PathBuf};

use cifar_data::partitions::Partition;
use cifar_pipeline::params::Params;
use cifar_pipeline::{Context as _, Error, Project, Reporter, Result, bail, ensure, program};
use serde::Serialize;

use crate::analysis::RunRecord;
use crate::grid::{self, Grid, PartitionImages, Run};
use crate::run_folder::FAILED;

/// The state of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its results are complete.
    Finished,
    /// It failed, for this reason.
    Failed(String),
    /// It has not been executed, or was stopped.
    Waiting,
}

/// A run, its folder and its state.
#[derive(Debug)]
pub struct Entry {
    /// The run.
    pub run: Run,
    /// The folder of its results.
    pub folder: PathBuf,
    /// The record that its results must have.
    pub record: RunRecord,
    /// Its state.
    pub state: State,
    /// Approximate training images × epochs, to estimate the time left.
    pub cost: f64,
    /// Number of epochs, by the approximate number of training images.
    pub epochs: usize,
    /// Approximate number of optimiser steps.
    pub steps: usize,
    /// Training and validation images, more or less.
    pub images: [usize; 2],
}

/// Reads experiments.toml.
///
/// # Errors
/// If the grid or the parameters are wrong.
pub fn grid(project: &Project, file: Option<&Path>) -> Result<Grid> {
    grid::read(&grid_file(project, file), &project.params()?)
}

fn grid_file(project: &Project, file: Option<&Path>) -> PathBuf {
    file.map_or_else(|| project.layout.grid(), Path::to_path_buf)
}

/// Returns all runs of the grid with their states.
///
/// # Errors
/// If a folder contains another run of the same name.
pub fn entries(project: &Project, file: Option<&Path>, reporter: &dyn Reporter) -> Result<Vec<Entry>> {
    let path = grid_file(project, file);
    if !path.exists() {
        ensure!(file.is_none(), "{}: there is no such file", path.display());
        reporter.note(&format!("{}: not found; using five combinations × three seeds", path.display()));
    }
    let mut grid = grid(project, file)?;
    let (data, images) = data(project)?;
    grid.hold_steps(&images).map_err(|problem| grid::wrong(&path, &problem))?;
    let program = program::identity()?;
    let mut entries = Vec::new();
    for run in grid.runs {
        let folder = project.layout.run_of_grid(&run.name);
        let params = run.params.to_json().map_err(|e| Error::failed(format!("{}: {e}", run.name)))?;
        let (seed, setting) = (run.params.random_seed, run.setting.clone());
        let init = init(project, &run.params).map_err(|e| e.context(run.name.clone()))?;
        let record = RunRecord::new(&run.name, &run.combination, seed, setting, params, data.clone(), program.clone())
            .with_init(init);
        let state = match RunRecord::read(&folder)? {
            Some(found) => {
                if let Some(difference) = found.difference(&record) {
                    bail!(
                        "{}: contains another run of this name ({difference}); move the folder away, or undo the change",
                        folder.display()
                    );
                }
                State::Finished
            }
            None => match std::fs::read_to_string(folder.join(FAILED)) {
                Ok(reason) => State::Failed(reason.trim().to_string()),
                Err(_) => State::Waiting,
            },
        };
        let (epochs, steps) = (run.epochs(&images), run.steps(&images));
        let cost = run.training_images(&images) * epochs as f64;
        let images = [run.training_images(&images), run.validation_images(&images)].map(|n| n.ceil() as usize);
        entries.push(Entry { run, folder, record, state, cost, epochs, steps, images });
    }
    Ok(entries)
}

/// Returns the hash of the model file that a run starts from; none if it starts from random weights.
///
/// # Errors
/// If the file is not a model.
pub fn init(project: &Project, params: &Params) -> Result<Option<String>> {
    let init = params.train.init.read(&project.layout.join(""))?;
    Ok(init.model()?.map(|model| model.seal().to_string()))
}

/// Returns the identity of images and labels, and the image counts of each partition.
///
/// # Errors
/// If a partition or a file in `labels/` cannot be read.
pub fn data(project: &Project) -> Result<(String, [PartitionImages; 3])> {
    let mut hasher = blake3::Hasher::new();
    let mut images = [PartitionImages::default(); 3];
    for (partition, images) in Partition::ALL.into_iter().zip(&mut images) {
        let path = project.layout.partitions().join(partition.name()).join("manifest.csv");
        let bytes = std::fs::read(&path).with_context(|| {
            format!("{}: cannot read the partition; run `cifar-cli partition` first, or `dvc pull`", path.display())
        })?;
        let text = String::from_utf8_lossy(&bytes);
        // The first line is the header; `published_split` is the third column from the right.
        let published = |line: &str| line.rsplit(',').nth(2).is_some_and(|split| split == "test");
        let rows = || text.lines().skip(1);
        *images = PartitionImages { all: rows().count(), published_test: rows().filter(|l| published(l)).count() };
        hasher.update(blake3::hash(&bytes).as_bytes());
    }
    for labels in [project.layout.overrides(), project.layout.review()] {
        let bytes = std::fs::read(&labels).with_context(|| format!("{}: cannot read", labels.display()))?;
        hasher.update(blake3::hash(&bytes).as_bytes());
    }
    Ok((hasher.finalize().to_hex().to_string(), images))
}
