//! Train, validation and test sets, ready for training.
//!
//! In: what [`crate::pull`] left, and the label overrides. Out, in one folder: `train/`, `val/`, `test/` as sets of
//! their own, `review.csv` (a copy of the decisions, which later stages remember), `split.csv` (`id,split,partition,label,original_label`), `near_duplicates.csv`
//! (`id_a,id_b,split_a,split_b,similarity,kind`), `report.json` and `provenance.json` ([`crate::provenance`]).

mod corrections;
mod coverage;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::corrections::{override_labels, review_images};
use crate::duplicates::{Kind, NEAR_DUPLICATES, Pair, PairCounts};
use crate::labels::{self, Entries, Review, read_overrides, read_review};
use crate::output::OutputFolder;
use crate::partitions::{DatasetVersion, Partition};
use crate::provenance::{self, Provenance};
use crate::pull::{Raw, check_fingerprint, json, parse_json, table};
use crate::splits::{Protocol, Split, SplitParams, training_subset};
use crate::spreadsheet::neutral;
use crate::{DataError, Dataset, Header, ImageSize, Monitor, Result, SampleId, Source, store};

pub use self::corrections::{OverrideCounts, ReviewCounts};

/// File name of the copy of the decisions.
pub const REVIEW: &str = "review.csv";
const SPLIT: &str = "split.csv";
const REPORT: &str = "report.json";
const SCHEMA: u32 = 4;
/// The command that writes the folder.
const COMMAND: &str = "prepare";
const OVERRIDES_INPUT: &str = "overrides";
const REVIEW_INPUT: &str = "review";
const SPLIT_COLUMNS: [&str; 5] = ["id", "split", "partition", "label", "original_label"];
const PAIR_COLUMNS: [&str; 6] = ["id_a", "id_b", "split_a", "split_b", "similarity", "kind"];

/// Mean and standard deviation of each channel over the training images, of pixel values in 0..1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// Red, green, blue.
    pub mean: Vec<f32>,
    /// Red, green, blue; at least 1/255, so that a constant channel does not divide by zero.
    pub std: Vec<f32>,
}

/// What was found: `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedReport {
    /// Version of this file's layout.
    pub schema: u32,
    /// The chosen partitions.
    pub dataset_version: DatasetVersion,
    /// How images were divided.
    pub split: SplitParams,
    /// Where the images came from.
    pub source: Source,
    /// Identity of the set of all three partitions ([`crate::store::identity`]).
    pub set: String,
    /// Class names.
    pub classes: Vec<String>,
    /// Size of every image.
    pub size: ImageSize,
    /// Number of images of each split.
    pub images: BTreeMap<Split, usize>,
    /// Number of images of each split and class, by the label in force.
    pub images_by_class: BTreeMap<Split, BTreeMap<String, usize>>,
    /// Number of images of each split and partition.
    pub images_by_partition: BTreeMap<Split, BTreeMap<String, usize>>,
    /// Label overrides.
    pub overrides: OverrideCounts,
    /// Decisions of people.
    pub review: ReviewCounts,
    /// Statistics of the training images.
    pub normalisation: Normalisation,
    /// Hash over ids, labels and pixels of each split.
    pub fingerprints: BTreeMap<Split, String>,
    /// The same of the evaluation pool that belongs to these splits.
    pub pool_fingerprint: String,
    /// Pairs of images that show the same picture, both of them in these splits.
    pub duplicate_pairs: PairCounts,
    /// Those pairs of which one image is for test and the other is not. Under `pooled` none is exact or near; `official`
    /// keeps the published test set and what it shares with the training images.
    pub straddling_pairs: PairCounts,
}

/// What training may see. There is no way from here to a test image.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingData {
    /// Weights are learnt from these.
    pub train: Dataset,
    /// Epochs and settings are chosen by these; may be empty.
    pub val: Dataset,
    /// How these were made.
    pub report: PreparedReport,
}

/// Test images: opened by evaluation and what follows it, never by training or tuning.
///
/// The type has this one constructor, and `cifar-train` does not call it; a test of the workspace holds it to that.
#[derive(Debug, Clone, PartialEq)]
pub struct TestSet(Dataset);

impl TestSet {
    /// Reads the test images in `folder`, `test/` of a prepared set or the evaluation pool, and checks that they are
    /// those that the prepared set's report names: [`PreparedReport::test_fingerprint`] or
    /// [`PreparedReport::pool_fingerprint`].
    pub fn open(folder: &Path, fingerprint: &str) -> Result<Self> {
        let set = store::read(folder)?;
        check_fingerprint(folder, &set, fingerprint, COMMAND)?;
        Ok(Self(set))
    }

    /// The images.
    pub fn dataset(&self) -> &Dataset {
        &self.0
    }
}

/// A pair of `near_duplicates.csv`, with the splits of its images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlacedPair {
    /// The images and how alike they are.
    pub pair: Pair,
    /// Where the first and the second one are.
    pub splits: [Split; 2],
}

impl PlacedPair {
    /// Whether one image is for test and the other is not.
    pub fn straddles(&self) -> bool {
        (self.splits[0] == Split::Test) != (self.splits[1] == Split::Test)
    }
}

/// The pairs of a prepared set of which both images are in it, ordered by their ids.
pub fn read_pairs(prepared: &Path) -> Result<Vec<PlacedPair>> {
    type Fields = (SampleId, SampleId, Split, Split, f64, Kind);
    let place = |(first, second, one, other, similarity, kind): Fields| PlacedPair {
        pair: Pair { first, second, similarity, kind },
        splits: [one, other],
    };
    Ok(read_table(&prepared.join(NEAR_DUPLICATES), &PAIR_COLUMNS)?.into_iter().map(place).collect())
}

/// The partition of every image of a prepared set.
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

/// Divides the pulled images and writes `out`.
pub fn prepare(
    raw: &Path,
    overrides: &Path,
    review: &Path,
    version: DatasetVersion,
    split: &SplitParams,
    out: &Path,
    monitor: &dyn Monitor,
) -> Result<PreparedReport> {
    const WHAT: &str = "dividing images";
    monitor.progress(WHAT, 0, 5);
    let pulled = Raw::read(raw)?;
    pulled.check(version, split)?;
    let new_labels = read_overrides(overrides, pulled.dataset.classes())?;
    let decisions = read_review(review, pulled.dataset.classes())?;
    if !(new_labels.is_empty() && decisions.is_empty()) {
        let images = pulled.images();
        labels::check(overrides, &new_labels, &images, monitor)?;
        labels::check(review, &decisions, &images, monitor)?;
    }
    monitor.progress(WHAT, 1, 5);
    monitor.check()?;

    let part = |wanted| pulled.dataset.filter(|s| pulled.membership[&s.id].split == wanted);
    let (mut train, mut val) = (part(Split::Train), part(Split::Val));
    let test = match split.protocol {
        Protocol::Pooled => part(Split::Test),
        // The published test set, whichever partitions were chosen.
        Protocol::Official => pulled.pool()?,
    };
    let Raw { membership, pairs, record, .. } = pulled;
    if split.train_images > 0 {
        let stratum = |s: &crate::Sample| (s.id, (membership[&s.id].partition, s.original_label));
        let used = training_subset(train.samples().iter().map(stratum).collect(), split)?;
        train = train.filter(|s| used.contains(&s.id));
    }
    if train.is_empty() {
        return Err(DataError::Unsuitable(format!(
            "no training image is left of dataset_version {version} with protocol {:?}; choose other partitions or fractions",
            split.protocol
        )));
    }
    let counts = override_labels(&new_labels, [&mut train, &mut val], &test, overrides, monitor)?;
    let reviewed = review_images(&decisions, [&mut train, &mut val], &test, review, monitor)?;
    if train.is_empty() {
        return Err(DataError::malformed(review, "drops every training image"));
    }
    monitor.progress(WHAT, 2, 5);

    let sets = [(Split::Train, &train), (Split::Val, &val), (Split::Test, &test)];
    coverage::check(sets, version, split, monitor)?;
    let placed = placed(&pairs, &sets);
    let straddling = straddling(&placed, monitor);
    let by_split =
        |of: &dyn Fn(&Dataset) -> BTreeMap<String, usize>| sets.iter().map(|(split, set)| (*split, of(set))).collect();
    let report = PreparedReport {
        schema: SCHEMA,
        dataset_version: version,
        split: split.clone(),
        source: record.source,
        set: record.set,
        classes: train.classes().to_vec(),
        size: train.size(),
        images: sets.iter().map(|(split, set)| (*split, set.len())).collect(),
        images_by_class: by_split(&|set| set.classes().iter().cloned().zip(set.counts_by_class()).collect()),
        images_by_partition: by_split(&|set| {
            let mut counts = BTreeMap::new();
            for sample in set.samples() {
                *counts.entry(membership[&sample.id].partition.to_string()).or_insert(0) += 1;
            }
            counts
        }),
        overrides: counts,
        review: reviewed,
        normalisation: normalisation(&train),
        fingerprints: sets.iter().map(|(split, set)| (*split, store::fingerprint(set))).collect(),
        pool_fingerprint: record.pool_fingerprint,
        duplicate_pairs: PairCounts::of(placed.iter().map(|placed| &placed.pair)),
        straddling_pairs: PairCounts::of(&straddling),
    };

    let folder = OutputFolder::create(out)?;
    let mut rows: Vec<_> = Vec::new();
    for (done, (split, set)) in sets.iter().enumerate() {
        monitor.check()?;
        monitor.progress(WHAT, 2 + done as u64, 5);
        let path = folder.path().join(split.name());
        fs::create_dir(&path).map_err(DataError::io("create the folder", &path))?;
        store::write(set, &path)?;
        rows.extend(set.samples().iter().map(|s| {
            let class = |label: u16| neutral(&set.classes()[usize::from(label)]);
            (s.id, *split, membership[&s.id].partition, class(s.label), class(s.original_label))
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
    folder.write(REPORT, json(&report).as_bytes())?;
    let inputs =
        [("raw", &*record.fingerprint), (OVERRIDES_INPUT, &hash_of(overrides)?), (REVIEW_INPUT, &hash_of(review)?)];
    provenance::write(folder.path(), COMMAND, &inputs, &[SPLIT, NEAR_DUPLICATES, REVIEW, REPORT])?;
    monitor.progress(WHAT, 5, 5);
    monitor.check()?;
    folder.commit()?;
    Ok(report)
}

fn hash_of(path: &Path) -> Result<String> {
    Ok(provenance::hash(&fs::read(path).map_err(DataError::io("read", path))?))
}

/// The pairs of which both images are in `sets`, with their splits.
fn placed(pairs: &[Pair], sets: &[(Split, &Dataset)]) -> Vec<PlacedPair> {
    let place = |id| sets.iter().find(|(_, set)| set.index_of(id).is_some()).map(|(split, _)| *split);
    let placed = |pair: &Pair| Some(PlacedPair { pair: *pair, splits: [place(pair.first)?, place(pair.second)?] });
    pairs.iter().filter_map(placed).collect()
}

/// The pairs between test images and others; a warning tells of copies among them.
fn straddling(placed: &[PlacedPair], monitor: &dyn Monitor) -> Vec<Pair> {
    let pairs: Vec<Pair> = placed.iter().filter(|placed| placed.straddles()).map(|placed| placed.pair).collect();
    let copies = pairs.iter().filter(|pair| pair.kind != Kind::Similar).count();
    if copies > 0 {
        monitor.warn(&format!(
            "{copies} pairs of duplicates have one image for test and one for training or validation; {NEAR_DUPLICATES} lists them"
        ));
    }
    pairs
}

impl PreparedReport {
    /// Reads the report of a prepared set.
    pub fn read(prepared: &Path) -> Result<Self> {
        let path = prepared.join(REPORT);
        let report: Self = parse_json(&provenance::read(&path, COMMAND)?, &path, COMMAND)?;
        if report.schema == SCHEMA {
            Ok(report)
        } else {
            Err(DataError::malformed(
                &prepared.join(REPORT),
                format!("has schema {}, this program reads schema {SCHEMA}; run `cifar-cli prepare`", report.schema),
            ))
        }
    }

    /// Refuses a set that was prepared for other parameters.
    pub fn check(&self, prepared: &Path, version: DatasetVersion, split: &SplitParams) -> Result<()> {
        let report: PathBuf = prepared.join(REPORT);
        if self.dataset_version != version {
            return Err(DataError::malformed(
                &report,
                format!(
                    "was prepared for dataset_version {}, params.yaml says {version}; run `cifar-cli pull` and `cifar-cli prepare`",
                    self.dataset_version
                ),
            ));
        }
        if self.split != *split {
            return Err(DataError::malformed(
                &report,
                "was prepared with other `split` parameters than params.yaml has; run `cifar-cli pull` and `cifar-cli prepare`",
            ));
        }
        Ok(())
    }

    /// Refuses a set that was prepared before one of the files that people write was changed.
    ///
    /// # Errors
    /// If `overrides` or `review` is not what [`prepare`] read, or cannot be read.
    pub fn check_labels(&self, prepared: &Path, overrides: &Path, review: &Path) -> Result<()> {
        let provenance = Provenance::read(prepared, COMMAND)?;
        for (input, path) in [(OVERRIDES_INPUT, overrides), (REVIEW_INPUT, review)] {
            if provenance.input(input) != hash_of(path)? {
                return Err(DataError::malformed(
                    path,
                    format!("has changed since {} was made; run `cifar-cli {COMMAND}` again", prepared.display()),
                ));
            }
        }
        Ok(())
    }

    /// Classes, size and source of the set's images.
    pub fn header(&self) -> Header {
        Header { classes: self.classes.clone(), size: self.size, source: self.source.clone() }
    }

    /// Hash over ids, labels and pixels of the test images; empty if the report has none.
    pub fn test_fingerprint(&self) -> &str {
        self.fingerprint(Split::Test)
    }

    /// Hash over ids, labels and pixels of the images of `split`; empty if the report has none.
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

/// Mean and standard deviation of each channel, from exact integer sums.
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
