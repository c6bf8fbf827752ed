//! The stages partition → pull → prepare on a small set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cifar_data::partitions::{self, DatasetVersion};
use cifar_data::prepare::{PreparedReport, prepare};
use cifar_data::provenance::{self, PROVENANCE};
use cifar_data::pull::{PullRecord, pull};
use cifar_data::splits::SplitParams;
use cifar_data::{Dataset, Result, Silent, store};

use super::{get, put, synthetic, temporary};

/// A project with the partitions of a set, and the folders of the later stages.
pub(crate) struct Flow {
    pub(crate) root: tempfile::TempDir,
    pub(crate) all: Dataset,
}

impl Flow {
    /// Creates 120 images with ids 0 to 39, 40 to 79 and 80 to 119; those from 100 on are published
    /// for test.
    pub(crate) fn new() -> Self {
        Self::of(synthetic(120))
    }

    pub(crate) fn of(all: Dataset) -> Self {
        let flow = Self { root: temporary(), all };
        partitions::write(&flow.all, &flow.path("partitions"), &Silent).expect("the folder is free");
        put(&flow.path("overrides.csv"), b"id,label\n");
        put(&flow.path("review.csv"), b"id,decision,label,note\n");
        flow
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Adds images as the partition `name`.
    pub(crate) fn grow(&self, name: &str, images: &Dataset) -> Result<()> {
        let folder = self.path("partitions");
        let before = partitions::read(&folder, &Silent)?;
        let images = before.continued_by(images.clone())?;
        partitions::add(&images, name.parse().expect("a partition"), &before, &folder)
    }

    pub(crate) fn pull(&self, version: &str, split: &SplitParams) -> Result<PullRecord> {
        pull(&self.path("partitions"), self::version(version), split, None, &self.path("raw"), &Silent)
    }

    pub(crate) fn prepare(&self, version: &str, split: &SplitParams) -> Result<PreparedReport> {
        let [raw, overrides, review] = ["raw", "overrides.csv", "review.csv"].map(|name| self.path(name));
        prepare(&raw, &overrides, &review, self::version(version), split, &self.path("prepared"), &Silent)
    }

    pub(crate) fn both(&self, version: &str, split: &SplitParams) -> PreparedReport {
        self.pull(version, split).expect("partitions are there");
        self.prepare(version, split).expect("it was pulled for the same parameters")
    }

    pub(crate) fn read(&self, folder: &str) -> Dataset {
        store::read(&self.path(folder)).expect("a stored set")
    }

    /// Returns the split of every image in split.csv.
    pub(crate) fn places(&self) -> BTreeMap<u32, String> {
        rows(&self.path("prepared/split.csv"))
            .into_iter()
            .map(|row| (row[0].parse().expect("an id"), row[1].clone()))
            .collect()
    }
}

pub(crate) fn version(text: &str) -> DatasetVersion {
    text.parse().expect("an allowed version")
}

pub(crate) fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = get(path);
    let mut csv = csv::Reader::from_reader(text.as_slice());
    csv.records().map(|row| row.expect("a row").iter().map(String::from).collect()).collect()
}

pub(crate) fn ids(set: &Dataset) -> Vec<u32> {
    set.samples().iter().map(|s| s.id.0).collect()
}

/// Lists the current files of a stage's folder, as if the stage had written them.
pub(crate) fn list_again(folder: &Path, made_by: &str) {
    let record: serde_json::Value =
        provenance::read_sealed(&get(&folder.join(PROVENANCE))).expect("the record was not touched");
    let names = |key: &str| record[key].as_object().expect("a map").clone();
    let (inputs, files) = (names("inputs"), names("files"));
    let inputs: Vec<(&str, &str)> = inputs.iter().map(|(k, v)| (k.as_str(), v.as_str().expect("a string"))).collect();
    let files: Vec<&str> = files.keys().map(String::as_str).collect();
    provenance::write(folder, made_by, &inputs, &files).expect("the folder can be written");
}
