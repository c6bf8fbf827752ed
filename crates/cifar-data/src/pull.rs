//! Joins the chosen partitions and sets the evaluation pool apart.
//!
//! Reads the partition folders. Writes one folder:
//!
//! - the chosen partitions as one set;
//! - `pool/`: the test images of v1, v2 and v3, on which all choices of partitions can be compared.
//!   Partitions that are added later do not change it;
//! - `membership.csv`: `id,partition,split,content` of all images up to the last partition on which
//!   the choice depends: v3, or the last chosen one if it was added;
//! - `near_duplicates.csv`: `id_a,id_b,similarity,kind`, the pairs of these images that show the
//!   same picture;
//! - `later.csv`: `id,content` of the images of later partitions, if there are any, by which label
//!   files are checked;
//! - `pull.json` ([`PullRecord`]) and `provenance.json` ([`crate::provenance`]).

mod assignment;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::duplicates::{self, NEAR_DUPLICATES, Pair, PairCounts};
use crate::output::OutputFolder;
use crate::partitions::{self, DatasetVersion, Partition, Partitions};
use crate::provenance::{self, Provenance};
use crate::splits::{AddedCounts, Split, SplitParams};
use crate::{Content, DataError, Dataset, ImageIndex, Known, Progress, Result, SampleId, Source, Stage, store};

pub use self::assignment::Assignment;
pub(crate) use self::assignment::membership;

/// Name of the evaluation pool's folder.
pub const POOL: &str = "pool";
const MEMBERSHIP: &str = "membership.csv";
const LATER: &str = "later.csv";
const RECORD: &str = "pull.json";
const SCHEMA: u32 = 4;
/// Name of the stage that writes the folder.
const COMMAND: &str = "pull";

/// The content of `pull.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullRecord {
    /// Version of the file's layout.
    pub schema: u32,
    /// The chosen partitions.
    pub dataset_version: DatasetVersion,
    /// How the images are divided, without the number of training images, which is applied later.
    pub split: SplitParams,
    /// The source of the images.
    pub source: Source,
    /// [`store::identity`] of the set of v1, v2 and v3.
    pub set: String,
    /// The added partitions on which the division depends, up to the last chosen one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub added: BTreeMap<Partition, AddedPartition>,
    /// Number of images of later partitions, which are in `later.csv`; none if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub later_images: Option<usize>,
    /// Number of chosen images.
    pub images: usize,
    /// Hash over ids, labels and pixels of the chosen images.
    pub fingerprint: String,
    /// Number of images in the evaluation pool.
    pub pool_images: usize,
    /// Hash over ids, labels and pixels of the pool.
    pub pool_fingerprint: String,
    /// Hash over ids, labels and pixels of each partition on which the division depends.
    pub partitions: BTreeMap<String, String>,
    /// Numbers of pairs of images that show the same picture, over these partitions.
    pub duplicate_pairs: PairCounts,
    /// Number of groups of two or more images that exact and near pairs connect; each group is in
    /// one split.
    pub duplicate_groups: usize,
}

/// A partition that was added to the first three.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedPartition {
    /// [`store::identity`] of its images.
    pub identity: String,
    /// Its images and their duplicates.
    pub counts: AddedCounts,
}

/// The partition and split of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Its partition.
    pub partition: Partition,
    /// Its split.
    pub split: Split,
    /// Its content.
    pub content: Content,
}

/// The content of a folder that [`pull`] wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Raw {
    /// The chosen partitions, joined.
    pub dataset: Dataset,
    /// The partition and split of every image up to the last partition on which the choice depends.
    pub membership: BTreeMap<SampleId, Membership>,
    /// Pairs of these images that show the same picture.
    pub pairs: Vec<Pair>,
    /// The images of later partitions.
    later: BTreeMap<SampleId, Content>,
    /// The content of `pull.json`.
    pub record: PullRecord,
    folder: PathBuf,
}

/// Reads the partitions in the folder `partitions`, checks every image and writes `out`.
///
/// With a folder `known`, searches for pairs that show the same picture run once and are then
/// reused ([`duplicates::find_once`]). The result is the same.
///
/// # Errors
/// If a partition is missing or damaged, they do not belong together, or `out` cannot be written.
pub fn pull(
    partitions: &Path,
    version: DatasetVersion,
    split: &SplitParams,
    known: Option<&Path>,
    out: &Path,
    progress: &dyn Progress,
) -> Result<PullRecord> {
    let mut read = partitions::read(partitions, progress)?;
    let last = version.depends_on();
    if read.sets.len() < usize::from(last.number()) {
        partitions::existing(partitions, last)?;
    }
    let identity = read.identity_up_to(last);
    let later = read.sets.split_off(read.sets.len().min(last.number().into()));
    let later: Vec<(SampleId, Content)> = later.iter().flat_map(contents).collect();
    // Over all of these partitions, whichever are chosen: an image's duplicates decide its split,
    // which must not depend on the choice.
    let assignment = Assignment::of(&read.sets, split, known, progress)?;
    let added = (assignment.added.iter())
        .filter_map(|(partition, counts)| Some((*partition, read.added.get(partition)?.clone(), counts.clone())))
        .map(|(partition, identity, counts)| (partition, AddedPartition { identity, counts }))
        .collect();
    let fingerprints = read.each().map(|(partition, set)| (partition.to_string(), store::fingerprint(set))).collect();
    let rows: Vec<_> = (read.each())
        .flat_map(|(partition, set)| contents(set).map(move |(id, content)| (id, partition, content)))
        .map(|(id, partition, content)| (id, partition, assignment.splits[&id], content))
        .collect();

    let Partitions { sets, identity: set, .. } = read;
    let is_test = |sample: &crate::Sample| assignment.splits[&sample.id] == Split::Test;
    let pool = sets.iter().take(Partition::FIRST.len()).map(|set| set.filter(is_test)).collect();
    let chosen = Partition::all().zip(sets).filter(|(partition, _)| version.contains(*partition));
    let chosen: Vec<Dataset> = chosen.map(|(_, set)| set).collect();
    let source = Source::joined(chosen.iter().map(|set| &set.header().source));
    let of_source = |set: Dataset| match &source {
        Some(source) => set.with_source(source.clone()),
        None => set,
    };
    let chosen = Dataset::joined(chosen.into_iter().map(of_source).collect())?;
    let (Some(chosen), Some(pool)) = (chosen, Dataset::joined(pool)?) else {
        return Err(DataError::Unsuitable(format!("dataset_version {version} chooses no partition")));
    };
    let groups = duplicates::groups(&assignment.pairs);
    let record = PullRecord {
        schema: SCHEMA,
        dataset_version: version,
        split: split.division(),
        source: chosen.header().source.clone(),
        set,
        added,
        later_images: (!later.is_empty()).then_some(later.len()),
        images: chosen.len(),
        fingerprint: store::fingerprint(&chosen),
        pool_images: pool.len(),
        pool_fingerprint: store::fingerprint(&pool),
        partitions: fingerprints,
        duplicate_pairs: PairCounts::of(&assignment.pairs),
        duplicate_groups: groups.iter().filter(|(id, leader)| id == leader).count(),
    };

    let folder = OutputFolder::create(out)?;
    store::write(&chosen, folder.path())?;
    let pool_folder = folder.path().join(POOL);
    fs::create_dir(&pool_folder).map_err(DataError::io("create the folder", &pool_folder))?;
    store::write(&pool, &pool_folder)?;
    folder.write(MEMBERSHIP, &table(&["id", "partition", "split", "content"], rows))?;
    folder.write(NEAR_DUPLICATES, &duplicates::to_csv(&assignment.pairs))?;
    folder.write_json(RECORD, &record)?;
    let mut files = vec![MEMBERSHIP, NEAR_DUPLICATES, RECORD];
    if !later.is_empty() {
        folder.write(LATER, &table(&["id", "content"], later))?;
        files.push(LATER);
    }
    provenance::write(folder.path(), COMMAND, &[("partitions", &identity)], &files)?;
    progress.check()?;
    folder.commit()?;
    Ok(record)
}

fn contents(set: &Dataset) -> impl Iterator<Item = (SampleId, Content)> {
    set.samples().iter().enumerate().map(|(index, sample)| (sample.id, set.content(index)))
}

impl Raw {
    /// Reads a folder that [`pull`] wrote.
    pub fn read(folder: &Path) -> Result<Self> {
        let provenance = Provenance::read(folder, COMMAND)?;
        let record: PullRecord = parse_json(&provenance.file(RECORD)?, &folder.join(RECORD), COMMAND)?;
        if record.schema != SCHEMA {
            let problem = format!("has schema {}, this program reads schema {SCHEMA}", record.schema);
            return Err(DataError::stale(&folder.join(RECORD), problem, Stage::Pull.alone()));
        }
        let dataset = store::read(folder)?;
        check_fingerprint(folder, &dataset, &record.fingerprint, COMMAND)?;
        let membership = parse_membership(&provenance.file(MEMBERSHIP)?, &folder.join(MEMBERSHIP))?;
        if let Some(sample) = dataset.samples().iter().find(|s| !membership.contains_key(&s.id)) {
            return Err(DataError::malformed(&folder.join(MEMBERSHIP), format!("does not list image {}", sample.id)));
        }
        let pairs = duplicates::parse(&provenance.file(NEAR_DUPLICATES)?, &folder.join(NEAR_DUPLICATES))?;
        let later = match record.later_images {
            None => BTreeMap::new(),
            Some(_) => parse_rows(&provenance.file(LATER)?, &folder.join(LATER))?,
        };
        Ok(Self { dataset, membership, pairs, later, record, folder: folder.to_path_buf() })
    }

    /// Reads the shared test images: those of v1, v2 and v3.
    pub(crate) fn pool(&self) -> Result<Dataset> {
        let folder = self.folder.join(POOL);
        let pool = store::read(&folder)?;
        check_fingerprint(&folder, &pool, &self.record.pool_fingerprint, COMMAND)?;
        match pool.samples().iter().find(|s| !self.membership.contains_key(&s.id)) {
            Some(sample) => {
                let list = self.folder.join(MEMBERSHIP);
                Err(DataError::malformed(&list, format!("does not list image {} of the shared test images", sample.id)))
            }
            None => Ok(pool),
        }
    }

    /// Returns the images of all partitions by id and content. Images that were not pulled have no
    /// file.
    pub fn images(&self) -> ImageIndex {
        let file = |id: SampleId| self.dataset.index_of(id).map(|index| self.dataset.samples()[index].file.clone());
        let members = self.membership.iter().map(|(id, member)| (*id, member.content));
        let contents = members.chain(self.later.iter().map(|(id, content)| (*id, *content)));
        let known = contents.map(|(id, content)| (id, Known { content, file: file(id).unwrap_or_default() }));
        ImageIndex::from_images(known)
    }

    /// Refuses images that were pulled with other parameters.
    pub fn check(&self, version: DatasetVersion, split: &SplitParams) -> Result<()> {
        let record = self.folder.join(RECORD);
        if self.record.dataset_version != version {
            let problem = format!("was pulled for dataset_version {}, expected {version}", self.record.dataset_version);
            return Err(DataError::stale(&record, problem, Stage::Pull.alone()));
        }
        if self.record.split != split.division() {
            let problem = "was pulled with other `split` parameters";
            return Err(DataError::stale(&record, problem, Stage::Pull.alone()));
        }
        Ok(())
    }
}

/// Refuses a set that is intact but is not the one that was written here.
pub(crate) fn check_fingerprint(folder: &Path, set: &Dataset, expected: &str, made_by: &str) -> Result<()> {
    if store::fingerprint(set) == expected {
        return Ok(());
    }
    let problem = format!("is not the set that the stage {made_by} wrote and recorded");
    Err(DataError::stale(folder, problem, Stage::named(made_by)))
}

fn parse_membership(text: &[u8], path: &Path) -> Result<BTreeMap<SampleId, Membership>> {
    let rows: Vec<(SampleId, Partition, Split, Content)> = parse_rows(text, path)?;
    Ok(rows.into_iter().map(|(id, partition, split, content)| (id, Membership { partition, split, content })).collect())
}

/// Parses the rows after the header.
fn parse_rows<R: for<'a> Deserialize<'a>, C: FromIterator<R>>(text: &[u8], path: &Path) -> Result<C> {
    let mut csv = csv::Reader::from_reader(text);
    let rows = csv.deserialize().enumerate();
    rows.map(|(index, row)| row.map_err(|e| DataError::line(path, index as u64 + 2, e.to_string()))).collect()
}

/// Returns rows as CSV, with quotes around fields that need them.
pub(crate) fn table<R: Serialize>(columns: &[&str], rows: impl IntoIterator<Item = R>) -> Vec<u8> {
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    csv.write_record(columns).expect("writing to memory does not fail");
    for row in rows {
        csv.serialize(row).expect("writing to memory does not fail");
    }
    csv.into_inner().expect("writing to memory does not fail")
}

/// Parses a JSON record that the stage `made_by` wrote to `path`.
pub(crate) fn parse_json<T: for<'a> Deserialize<'a>>(text: &[u8], path: &Path, made_by: &str) -> Result<T> {
    serde_json::from_slice(text)
        .map_err(|e| DataError::stale(path, format!("is of another version ({e})"), Stage::named(made_by)))
}
