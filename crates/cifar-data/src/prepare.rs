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
mod pairs;
mod report;
mod sets;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use self::corrections::{override_labels, review_images};
use self::division::{Basis, Sets};
use self::pairs::PAIR_COLUMNS;
use crate::duplicates::NEAR_DUPLICATES;
use crate::labels::{self, Entries, Review, read_overrides, read_review};
use crate::output::OutputFolder;
use crate::partitions::{DatasetVersion, Partition};
use crate::provenance;
use crate::pull::{Raw, table};
use crate::splits::{Protocol, Split, SplitParams};
use crate::spreadsheet::neutral;
use crate::{DataError, Dataset, Progress, Result, SampleId, store};

pub use self::corrections::{OverrideCounts, ReviewCounts};
pub use self::in_memory::{SplitImages, split};
pub use self::pairs::{PlacedPair, read_pairs};
pub use self::report::PreparedReport;
pub use self::sets::{TestSet, TrainingData};

/// File name of the copy of the decisions.
pub const REVIEW: &str = "review.csv";
const SPLIT: &str = "split.csv";
const REPORT: &str = "report.json";
/// Name of the stage that writes the folder.
const COMMAND: &str = "prepare";
const OVERRIDES_INPUT: &str = "overrides";
const REVIEW_INPUT: &str = "review";
const SPLIT_COLUMNS: [&str; 5] = ["id", "split", "partition", "label", "original_label"];

/// Mean and standard deviation of each channel over the training images, for pixel values in 0..1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// Red, green, blue.
    pub mean: Vec<f32>,
    /// Red, green, blue; at least 1/255, so that a constant channel does not divide by zero.
    pub std: Vec<f32>,
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
        // The published test set, whichever partitions are chosen, and the test images of those
        // that were added.
        Protocol::Official => Some(with_added(pulled.pool()?, &pulled)?),
    };
    let Raw { dataset, membership, pairs, record, .. } = pulled;
    let basis = Basis {
        version,
        split,
        membership: &membership,
        pairs: &pairs,
        set: record.set,
        added: record.added,
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

/// Returns the shared test images and those of the chosen partitions that were added.
fn with_added(pool: Dataset, pulled: &Raw) -> Result<Dataset> {
    let is_added = |id: SampleId| {
        let member = pulled.membership.get(&id);
        member.is_some_and(|member| member.partition.is_added() && member.split == Split::Test)
    };
    let added = pulled.dataset.filter(|sample| is_added(sample.id));
    let mut all = pool.with_source(pulled.record.source.clone());
    all.append(added)?;
    Ok(all)
}

fn hash_of(path: &Path) -> Result<String> {
    Ok(provenance::hash(&fs::read(path).map_err(DataError::io("read", path))?))
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
