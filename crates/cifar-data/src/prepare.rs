//! Prepares the train, validation and test sets.
//!
//! Reads the folder of [`crate::pull`], the label overrides and the review decisions. Writes one
//! folder:
//!
//! - `train/`, `val/` and `test/`: the sets;
//! - `review.csv`: a copy of the decisions, for later stages;
//! - `split.csv`: `id,split,partition,label,original_label`;
//! - `near_duplicates.csv`: `id_a,id_b,split_a,split_b,similarity,kind`;
//! - `report.json` ([`PreparedReport`]) and `provenance.json` ([`crate::provenance`]).

mod corrections;
mod coverage;
mod division;
mod in_memory;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::corrections::{override_labels, review_images};
use self::division::{Basis, Sets};
use crate::duplicates::{Kind, NEAR_DUPLICATES, Pair, PairCounts};
use crate::labels::{self, Entries, Review, read_overrides, read_review};
use crate::output::OutputFolder;
use crate::partitions::{DatasetVersion, Partition};
use crate::provenance::{self, Provenance};
use crate::pull::{Raw, check_fingerprint, parse_json, table};
use crate::splits::{Protocol, Split, SplitParams};
use crate::spreadsheet::neutral;
use crate::{DataError, Dataset, Header, ImageSize, Progress, Result, SampleId, Source, Stage, store};

pub use self::corrections::{OverrideCounts, ReviewCounts};
pub use self::in_memory::{SplitImages, split};

/// File name of the copy of the decisions.
pub const REVIEW: &str = "review.csv";
const SPLIT: &str = "split.csv";
const REPORT: &str = "report.json";
const SCHEMA: u32 = 4;
/// Name of the stage that writes the folder.
const COMMAND: &str = "prepare";
/// The stages that follow a change of the division.
const PULL_AND_PREPARE: &[Stage] = &[Stage::Pull, Stage::Prepare];
const OVERRIDES_INPUT: &str = "overrides";
const REVIEW_INPUT: &str = "review";
const SPLIT_COLUMNS: [&str; 5] = ["id", "split", "partition", "label", "original_label"];
const PAIR_COLUMNS: [&str; 6] = ["id_a", "id_b", "split_a", "split_b", "similarity", "kind"];

/// Mean and standard deviation of each channel over the training images, for pixel values in 0..1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// Red, green, blue.
    pub mean: Vec<f32>,
    /// Red, green, blue; at least 1/255, so that a constant channel does not divide by zero.
    pub std: Vec<f32>,
}

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
    /// Identity of the set of all three partitions ([`crate::store::identity`]).
    pub set: String,
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

/// The images that training may use. It gives no access to test images.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingData {
    /// Training images: weights are learnt from these.
    pub train: Dataset,
    /// Validation images: epochs and settings are chosen by these. May be empty.
    pub val: Dataset,
    /// The report of the prepared set.
    pub report: PreparedReport,
}

/// Test images. Opened by evaluation and later stages, never by training or tuning.
///
/// Only [`TestSet::open`] and [`split`] make one. `cifar-train` never names the type; a test of the
/// workspace enforces this.
///
/// ```no_run
/// use cifar_data::prepare::{PreparedReport, TestSet};
///
/// let report = PreparedReport::read("data/prepared".as_ref())?;
/// let test = TestSet::open("data/prepared/test".as_ref(), report.test_fingerprint())?;
/// assert_eq!(test.dataset().classes(), report.classes);
/// # Ok::<(), cifar_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TestSet(Dataset);

impl TestSet {
    /// Reads the test images in `folder`, which is `test/` of a prepared set or the evaluation
    /// pool.
    ///
    /// # Errors
    /// If they are not those of the prepared set's report: `fingerprint` is
    /// [`PreparedReport::test_fingerprint`] or [`PreparedReport::pool_fingerprint`].
    pub fn open(folder: &Path, fingerprint: &str) -> Result<Self> {
        let set = store::read(folder)?;
        check_fingerprint(folder, &set, fingerprint, COMMAND)?;
        Ok(Self(set))
    }

    /// Returns the images.
    pub fn dataset(&self) -> &Dataset {
        &self.0
    }
}

/// A pair of `near_duplicates.csv`, with the splits of its images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlacedPair {
    /// The images and their similarity.
    pub pair: Pair,
    /// The splits of the first and the second image.
    pub splits: [Split; 2],
}

impl PlacedPair {
    /// Returns whether exactly one image is a test image.
    pub fn straddles(&self) -> bool {
        (self.splits[0] == Split::Test) != (self.splits[1] == Split::Test)
    }
}

/// Reads the pairs of a prepared set whose images are both in it, ordered by their ids.
pub fn read_pairs(prepared: &Path) -> Result<Vec<PlacedPair>> {
    type Fields = (SampleId, SampleId, Split, Split, f64, Kind);
    let place = |(first, second, one, other, similarity, kind): Fields| PlacedPair {
        pair: Pair { first, second, similarity, kind },
        splits: [one, other],
    };
    Ok(read_table(&prepared.join(NEAR_DUPLICATES), &PAIR_COLUMNS)?.into_iter().map(place).collect())
}

/// Reads the partition of every image of a prepared set.
pub fn read_partitions(prepared: &Path) -> Result<BTreeMap<SampleId, Partition>> {
    type Fields = (SampleId, Split, Partition, String, String);
    let rows: Vec<Fields> = read_table(&prepared.join(SPLIT), &SPLIT_COLUMNS)?;
    Ok(rows.into_iter().map(|(id, _, partition, _, _)| (id, partition)).collect())
}

/// The decisions with which a set was prepared: its copy of `labels/review.csv`.
///
/// # Errors
/// If the copy is missing, was changed or damaged, or cannot be parsed.
pub fn read_decisions(prepared: &Path, classes: &[String]) -> Result<Entries<Review>> {
    let path = prepared.join(REVIEW);
    provenance::read(&path, COMMAND)?;
    read_review(&path, classes)
}

fn read_table<R: for<'a> Deserialize<'a>>(path: &Path, columns: &[&str]) -> Result<Vec<R>> {
    let text = provenance::read(path, COMMAND)?;
    let mut csv = csv::Reader::from_reader(text.as_slice());
    let found = csv.headers().map_err(|e| DataError::malformed(path, e.to_string()))?;
    if found.iter().ne(columns.iter().copied()) {
        let found = found.iter().collect::<Vec<_>>().join(",");
        return Err(DataError::malformed(path, format!("has the columns {found:?}; expected {}", columns.join(","))));
    }
    let rows = csv.deserialize().enumerate();
    rows.map(|(index, row)| row.map_err(|e| DataError::line(path, index as u64 + 2, e.to_string()))).collect()
}

/// Divides the pulled images in `raw`, applies the label files, and writes the folder `out`.
pub fn prepare(
    raw: &Path,
    overrides: &Path,
    review: &Path,
    version: DatasetVersion,
    split: &SplitParams,
    out: &Path,
    progress: &dyn Progress,
) -> Result<PreparedReport> {
    const WHAT: &str = "dividing images";
    progress.update(WHAT, 0, 5);
    let pulled = Raw::read(raw)?;
    pulled.check(version, split)?;
    let new_labels = read_overrides(overrides, pulled.dataset.classes())?;
    let decisions = read_review(review, pulled.dataset.classes())?;
    if !(new_labels.is_empty() && decisions.is_empty()) {
        let images = pulled.images();
        labels::check(overrides, &new_labels, &images, progress)?;
        labels::check(review, &decisions, &images, progress)?;
    }
    progress.update(WHAT, 1, 5);
    progress.check()?;

    let test = match split.protocol {
        Protocol::Pooled => None,
        // The published test set, whichever partitions are chosen.
        Protocol::Official => Some(pulled.pool()?),
    };
    let Raw { dataset, membership, pairs, record, .. } = pulled;
    let basis = Basis {
        version,
        split,
        membership: &membership,
        pairs: &pairs,
        set: record.set,
        pool_fingerprint: record.pool_fingerprint,
    };
    let mut sets = Sets::divide(&dataset, test, &basis)?;
    let Sets { train, val, test } = &mut sets;
    let counts = override_labels(&new_labels, [&mut *train, &mut *val], test, overrides, progress)?;
    let reviewed = review_images(&decisions, [&mut *train, val], test, review, progress)?;
    if train.is_empty() {
        return Err(DataError::malformed(review, "drops every training image"));
    }
    progress.update(WHAT, 2, 5);

    let (report, placed) = sets.report(basis, (counts, reviewed), progress)?;
    let folder = OutputFolder::create(out)?;
    let mut rows: Vec<_> = Vec::new();
    for (done, (split, set)) in sets.each().into_iter().enumerate() {
        progress.check()?;
        progress.update(WHAT, 2 + done as u64, 5);
        let path = folder.path().join(split.name());
        fs::create_dir(&path).map_err(DataError::io("create the folder", &path))?;
        store::write(set, &path)?;
        rows.extend(set.samples().iter().map(|s| {
            let class = |label: u16| neutral(&set.classes()[usize::from(label)]);
            (s.id, split, membership[&s.id].partition, class(s.label), class(s.original_label))
        }));
    }
    rows.sort_unstable();
    folder.write(SPLIT, &table(&SPLIT_COLUMNS, rows))?;
    let rows = placed.iter().map(|PlacedPair { pair, splits: [one, other] }| {
        (pair.first, pair.second, *one, *other, pair.similarity, pair.kind)
    });
    folder.write(NEAR_DUPLICATES, &table(&PAIR_COLUMNS, rows))?;
    let copy = fs::read(review).map_err(DataError::io("read", review))?;
    folder.write(REVIEW, &copy)?;
    folder.write_json(REPORT, &report)?;
    let inputs =
        [("raw", &*record.fingerprint), (OVERRIDES_INPUT, &hash_of(overrides)?), (REVIEW_INPUT, &hash_of(review)?)];
    provenance::write(folder.path(), COMMAND, &inputs, &[SPLIT, NEAR_DUPLICATES, REVIEW, REPORT])?;
    progress.update(WHAT, 5, 5);
    progress.check()?;
    folder.commit()?;
    Ok(report)
}

fn hash_of(path: &Path) -> Result<String> {
    Ok(provenance::hash(&fs::read(path).map_err(DataError::io("read", path))?))
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
    /// If `overrides` or `review` is not what [`prepare`] read, or cannot be read.
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

impl TrainingData {
    /// Reads the training and validation images of a prepared set.
    pub fn open(prepared: &Path) -> Result<Self> {
        let report = PreparedReport::read(prepared)?;
        let read = |split: Split| {
            let folder = prepared.join(split.name());
            let set = store::read(&folder)?;
            check_fingerprint(&folder, &set, report.fingerprint(split), COMMAND)?;
            Ok::<_, DataError>(set)
        };
        Ok(Self { train: read(Split::Train)?, val: read(Split::Val)?, report })
    }
}

/// Computes mean and standard deviation of each channel from exact integer sums.
pub fn normalisation(set: &Dataset) -> Normalisation {
    let (mut sums, mut squares) = ([0u64; 3], [0u64; 3]);
    for pixel in set.pixels().chunks_exact(3) {
        for channel in 0..3 {
            let value = u64::from(pixel[channel]);
            sums[channel] += value;
            squares[channel] += value * value;
        }
    }
    let n = (set.pixels().len() / 3).max(1) as f64;
    let mean = sums.map(|s| s as f64 / n / 255.0);
    let std = [0, 1, 2]
        .map(|c| (squares[c] as f64 / n / (255.0 * 255.0) - mean[c] * mean[c]).max(0.0).sqrt().max(1.0 / 255.0));
    Normalisation { mean: mean.map(|m| m as f32).to_vec(), std: std.map(|s| s as f32).to_vec() }
}
