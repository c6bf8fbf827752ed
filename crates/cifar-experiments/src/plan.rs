//! The runs of a grid, their folders and states.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cifar_data::partitions::{DatasetVersion, Partition};
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
    grid::read(&grid_file(project, file), &project.params()?, &project.known_partitions()?)
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
    let data = Data::read(project)?;
    let images = &data.images;
    grid.hold_steps(images).map_err(|problem| grid::wrong(&path, &problem))?;
    let program = program::identity()?;
    let mut entries = Vec::new();
    for run in grid.runs {
        let folder = project.layout.run_of_grid(&run.name);
        let params = run.params.to_json().map_err(|e| Error::failed(format!("{}: {e}", run.name)))?;
        let (seed, setting) = (run.params.random_seed, run.setting.clone());
        let init = init(project, &run.params).map_err(|e| e.context(run.name.clone()))?;
        let inputs = data.identity(run.params.dataset_version);
        let record =
            RunRecord::new(&run.name, &run.combination, seed, setting, params, inputs, program.clone()).with_init(init);
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
        let (epochs, steps) = (run.epochs(images), run.steps(images));
        let cost = run.training_images(images) * epochs as f64;
        let images = [run.training_images(images), run.validation_images(images)].map(|n| n.ceil() as usize);
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

/// The images and labels of a project.
#[derive(Debug)]
pub struct Data {
    /// The image counts of each partition.
    pub images: BTreeMap<Partition, PartitionImages>,
    /// The hash of each partition's list of images.
    partitions: BTreeMap<Partition, blake3::Hash>,
    /// The hashes of the files in `labels/`.
    labels: [blake3::Hash; 2],
}

impl Data {
    /// Reads the lists of images and the labels.
    ///
    /// # Errors
    /// If a partition or a file in `labels/` cannot be read.
    pub fn read(project: &Project) -> Result<Self> {
        let (mut images, mut partitions) = (BTreeMap::new(), BTreeMap::new());
        for partition in project.known_partitions()? {
            let path = project.layout.partitions().join(partition.name()).join("manifest.csv");
            let bytes = std::fs::read(&path).with_context(|| {
                let remedy = if partition.is_added() { "run" } else { "run `cifar-cli partition` first, or" };
                format!("{}: cannot read the partition; {remedy} `dvc pull`", path.display())
            })?;
            let text = String::from_utf8_lossy(&bytes);
            // The first line is the header; `published_split` is the third column from the right.
            let published = |line: &str| line.rsplit(',').nth(2).is_some_and(|split| split == "test");
            let rows = || text.lines().skip(1);
            let counts =
                PartitionImages { all: rows().count(), published_test: rows().filter(|l| published(l)).count() };
            images.insert(partition, counts);
            partitions.insert(partition, blake3::hash(&bytes));
        }
        let hash = |path: PathBuf| -> Result<blake3::Hash> {
            let bytes = std::fs::read(&path).with_context(|| format!("{}: cannot read", path.display()))?;
            Ok(blake3::hash(&bytes))
        };
        let labels = [hash(project.layout.overrides())?, hash(project.layout.review())?];
        Ok(Self { images, partitions, labels })
    }

    /// Returns the identity of the images and labels on which runs with `version` depend. Partitions
    /// that are added later do not change it.
    pub fn identity(&self, version: DatasetVersion) -> String {
        let mut hasher = blake3::Hasher::new();
        let partitions = self.partitions.range(..=version.depends_on()).map(|(_, hash)| hash);
        for hash in partitions.chain(&self.labels) {
            hasher.update(hash.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_partition_changes_only_what_uses_it() {
        let hash = |text: &str| blake3::hash(text.as_bytes());
        let data = |partitions: &[&str]| {
            let partitions = (1..).zip(partitions).map(|(number, text)| (Partition::new(number).unwrap(), hash(text)));
            let labels = [hash("overrides"), hash("review")];
            Data { images: BTreeMap::new(), partitions: partitions.collect(), labels }
        };
        let of = |partitions: &[&str], version: &str| data(partitions).identity(version.parse().unwrap());
        let (three, four) = (["a", "b", "c"], ["a", "b", "c", "d"]);
        // The hash of the hashes, in order.
        let mut expected = blake3::Hasher::new();
        for text in ["a", "b", "c", "overrides", "review"] {
            expected.update(hash(text).as_bytes());
        }
        assert_eq!(of(&three, "v1"), expected.finalize().to_hex().to_string());
        for version in ["v1", "v2", "v1+v2+v3"] {
            assert_eq!(of(&three, "v1"), of(&four, version), "{version}");
        }
        assert_eq!(of(&four, "v4"), of(&four, "v1+v4"));
        assert_ne!(of(&four, "v4"), of(&four, "v1"));
        assert_ne!(of(&four, "v4"), of(&["a", "b", "c", "e"], "v4"));
    }
}
