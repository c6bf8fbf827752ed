//! The report of a prepared set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{COMMAND, Normalisation, OVERRIDES_INPUT, OverrideCounts, REPORT, REVIEW_INPUT, ReviewCounts, hash_of};
use crate::duplicates::PairCounts;
use crate::partitions::{DatasetVersion, Partition};
use crate::provenance::{self, Provenance};
use crate::pull::{AddedPartition, parse_json};
use crate::splits::{Split, SplitParams};
use crate::{DataError, Header, ImageSize, Result, Source, Stage};

pub(super) const SCHEMA: u32 = 4;
/// The stages that follow a change of the division.
const PULL_AND_PREPARE: &[Stage] = &[Stage::Pull, Stage::Prepare];

/// The content of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedReport {
    /// Version of the file's layout.
    pub schema: u32,
    /// The chosen partitions.
    pub dataset_version: DatasetVersion,
    /// How the images were divided.
    pub split: SplitParams,
    /// The source of the images.
    pub source: Source,
    /// Identity of the set of v1, v2 and v3 ([`crate::store::identity`]).
    pub set: String,
    /// The added partitions on which the division depends, up to the last chosen one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub added: BTreeMap<Partition, AddedPartition>,
    /// Class names.
    pub classes: Vec<String>,
    /// Size of every image.
    pub size: ImageSize,
    /// Number of images of each split.
    pub images: BTreeMap<Split, usize>,
    /// Number of images of each split and class, by the current labels.
    pub images_by_class: BTreeMap<Split, BTreeMap<String, usize>>,
    /// Number of images of each split and partition.
    pub images_by_partition: BTreeMap<Split, BTreeMap<String, usize>>,
    /// Numbers of label overrides.
    pub overrides: OverrideCounts,
    /// Numbers of review decisions.
    pub review: ReviewCounts,
    /// Statistics of the training images.
    pub normalisation: Normalisation,
    /// Hash over ids, labels and pixels of each split.
    pub fingerprints: BTreeMap<Split, String>,
    /// Hash over ids, labels and pixels of the evaluation pool that belongs to these splits.
    pub pool_fingerprint: String,
    /// Numbers of pairs that show the same picture, with both images in these splits.
    pub duplicate_pairs: PairCounts,
    /// Of those, the pairs with one test image. Under `pooled` none is exact or near; `official`
    /// keeps the published test set with all duplicates that it shares with the training images.
    pub straddling_pairs: PairCounts,
}

impl PreparedReport {
    /// Reads the report of a prepared set.
    pub fn read(prepared: &Path) -> Result<Self> {
        let path = prepared.join(REPORT);
        let report: Self = parse_json(&provenance::read(&path, COMMAND)?, &path, COMMAND)?;
        if report.schema == SCHEMA {
            Ok(report)
        } else {
            let problem = format!("has schema {}, this program reads schema {SCHEMA}", report.schema);
            Err(DataError::stale(&prepared.join(REPORT), problem, Stage::Prepare.alone()))
        }
    }

    /// Refuses a set that was prepared with other parameters.
    pub fn check(&self, prepared: &Path, version: DatasetVersion, split: &SplitParams) -> Result<()> {
        let report: PathBuf = prepared.join(REPORT);
        if self.dataset_version != version {
            let problem = format!("was prepared for dataset_version {}, expected {version}", self.dataset_version);
            return Err(DataError::stale(&report, problem, PULL_AND_PREPARE));
        }
        if self.split != *split {
            let problem = "was prepared with other `split` parameters";
            return Err(DataError::stale(&report, problem, PULL_AND_PREPARE));
        }
        Ok(())
    }

    /// Refuses a set that was prepared before one of the label files changed.
    ///
    /// # Errors
    /// If `overrides` or `review` is not what [`prepare`](super::prepare()) read, or cannot be read.
    pub fn check_labels(&self, prepared: &Path, overrides: &Path, review: &Path) -> Result<()> {
        let provenance = Provenance::read(prepared, COMMAND)?;
        for (input, path) in [(OVERRIDES_INPUT, overrides), (REVIEW_INPUT, review)] {
            if provenance.input(input) != hash_of(path)? {
                let problem = format!("has changed since {} was made", prepared.display());
                return Err(DataError::stale(path, problem, Stage::Prepare.alone()));
            }
        }
        Ok(())
    }

    /// Returns the classes, size and source of the images.
    pub fn header(&self) -> Header {
        Header { classes: self.classes.clone(), size: self.size, source: self.source.clone() }
    }

    /// Returns the hash over ids, labels and pixels of the test images; empty if the report has
    /// none.
    pub fn test_fingerprint(&self) -> &str {
        self.fingerprint(Split::Test)
    }

    /// Returns the hash over ids, labels and pixels of the images of `split`; empty if the report
    /// has none.
    pub fn fingerprint(&self, split: Split) -> &str {
        self.fingerprints.get(&split).map_or("", String::as_str)
    }
}
