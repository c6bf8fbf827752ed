//! The runs of a grid, where they lie and how far they are.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use cifar_data::partitions::Partition;
use cifar_eval::experiments::RunRecord;
use serde::Serialize;

use super::FAILED;
use crate::args::GridArgs;
use crate::commands::{Context, train};
use crate::experiments::grid::{self, Grid, GridError, PartitionImages, Run};

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Finished,
    Failed(String),
    Waiting,
}

/// A run, where it lies and how far it is.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) run: Run,
    pub(super) folder: PathBuf,
    pub(super) record: RunRecord,
    pub(super) state: State,
    /// Training images × epochs, more or less: for the time that is left.
    pub(super) cost: f64,
    /// Optimiser steps, more or less.
    pub(super) steps: usize,
    /// Training and validation images, more or less.
    pub(super) images: [usize; 2],
}

/// What experiments.toml says.
pub(super) fn grid(context: &Context, args: &GridArgs) -> Result<Grid> {
    let path = args.grid.clone().unwrap_or_else(|| context.layout.grid());
    Ok(grid::read(&path, &context.params()?)?)
}

/// All runs of the grid with their states.
///
/// # Errors
/// If a folder holds a run of the same name that is another one.
pub(super) fn entries(context: &Context, args: &GridArgs) -> Result<Vec<Entry>> {
    let path = args.grid.clone().unwrap_or_else(|| context.layout.grid());
    if !path.exists() {
        ensure!(args.grid.is_none(), "{}: there is no such file", path.display());
        context.terminal.say(&format!("{}: not there; the usual fifteen runs are taken", path.display()));
    }
    let mut grid = grid(context, args)?;
    let (data, images) = data(context)?;
    grid.hold_steps(&images).map_err(|problem| GridError::new(&path, problem))?;
    let program = train::program()?;
    let mut entries = Vec::new();
    for run in grid.runs {
        let folder = context.layout.run_of_grid(&run.name);
        let params = run.params.to_json().map_err(|e| anyhow!("{}: {e}", run.name))?;
        let (seed, setting) = (run.params.random_seed, run.setting.clone());
        let record = RunRecord::new(&run.name, &run.combination, seed, setting, params, data.clone(), program.clone());
        let state = match RunRecord::read(&folder)? {
            Some(found) => {
                if let Some(difference) = found.difference(&record) {
                    bail!(
                        "{}: holds another run of this name ({difference}); move the folder away, or take back the change",
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
        let cost = run.training_images(&images) * run.params.train.epochs as f64;
        let steps = run.steps(&images);
        let images = [run.training_images(&images), run.validation_images(&images)].map(|n| n.ceil() as usize);
        entries.push(Entry { run, folder, record, state, cost, steps, images });
    }
    Ok(entries)
}

/// What stands for the images and labels, and the number of images of each partition.
pub(super) fn data(context: &Context) -> Result<(String, [PartitionImages; 3])> {
    let mut hasher = blake3::Hasher::new();
    let mut images = [PartitionImages::default(); 3];
    for (partition, images) in Partition::ALL.into_iter().zip(&mut images) {
        let path = context.layout.partitions().join(partition.name()).join("manifest.csv");
        let bytes = std::fs::read(&path).with_context(|| {
            format!("{}: cannot read the partition; run `cifar-cli partition` first, or `dvc pull`", path.display())
        })?;
        let text = String::from_utf8_lossy(&bytes);
        // The first line has the names of the columns; `published_split` is the last but two.
        let published = |line: &str| line.rsplit(',').nth(2).is_some_and(|split| split == "test");
        let rows = || text.lines().skip(1);
        *images = PartitionImages { all: rows().count(), published_test: rows().filter(|l| published(l)).count() };
        hasher.update(blake3::hash(&bytes).as_bytes());
    }
    for labels in [context.layout.overrides(), context.layout.review()] {
        let bytes = std::fs::read(&labels).with_context(|| format!("{}: cannot read", labels.display()))?;
        hasher.update(blake3::hash(&bytes).as_bytes());
    }
    Ok((hasher.finalize().to_hex().to_string(), images))
}
