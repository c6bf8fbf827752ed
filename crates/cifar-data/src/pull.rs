//! Joins the chosen partitions and sets the evaluation pool apart.
//!
//! Reads the three partition folders. Writes one folder:
//!
//! - the chosen partitions as one set;
//! - `pool/`: the test images of *all* partitions, on which all choices of partitions can be
//!   compared;
//! - `membership.csv`: `id,partition,split,content` of all images;
//! - `near_duplicates.csv`: `id_a,id_b,similarity,kind`, the pairs of all images that show the same
//!   picture;
//! - `pull.json` ([`PullRecord`]) and `provenance.json` ([`crate::provenance`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::duplicates::{self, NEAR_DUPLICATES, Pair, PairCounts};
use crate::output::OutputFolder;
use crate::partitions::{self, DatasetVersion, Partition, Partitions};
use crate::provenance::{self, Provenance};
use crate::splits::{Candidate, Split, SplitParams, assign};
use crate::{Content, DataError, Dataset, ImageIndex, Known, Progress, Result, Sample, SampleId, Source, Stage, store};

/// Name of the evaluation pool's folder.
pub const POOL: &str = "pool";
const MEMBERSHIP: &str = "membership.csv";
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
    /// [`store::identity`] of the set of all three partitions.
    pub set: String,
    /// Number of chosen images.
    pub images: usize,
    /// Hash over ids, labels and pixels of the chosen images.
    pub fingerprint: String,
    /// Number of images in the evaluation pool.
    pub pool_images: usize,
    /// Hash over ids, labels and pixels of the pool.
    pub pool_fingerprint: String,
    /// Hash over ids, labels and pixels of each partition.
    pub partitions: BTreeMap<String, String>,
    /// Numbers of pairs of images that show the same picture, over all partitions.
    pub duplicate_pairs: PairCounts,
    /// Number of groups of two or more images that exact and near pairs connect; each group is in
    /// one split.
    pub duplicate_groups: usize,
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
    /// The partition and split of every image of all partitions.
    pub membership: BTreeMap<SampleId, Membership>,
    /// Pairs of images of all partitions that show the same picture.
    pub pairs: Vec<Pair>,
    /// The content of `pull.json`.
    pub record: PullRecord,
    folder: PathBuf,
}

/// Reads `partitions`/v1, v2 and v3, checks every image and writes `out`.
///
/// With a folder `known`, the search for pairs that show the same picture runs once and is then
/// reused ([`duplicates::find_once`]). The result is the same.
pub fn pull(
    partitions: &Path,
    version: DatasetVersion,
    split: &SplitParams,
    known: Option<&Path>,
    out: &Path,
    progress: &dyn Progress,
) -> Result<PullRecord> {
    let Partitions { sets, identity } = partitions::read(partitions, progress)?;

    // Over all partitions, whichever are chosen: an image's group decides its split, which must not
    // depend on the choice.
    let all: Vec<&Dataset> = sets.iter().collect();
    let pairs = match known {
        Some(folder) => duplicates::find_once(&all, folder, progress)?,
        None => duplicates::find(&all, progress)?,
    };
    let groups = duplicates::groups(&pairs);
    let candidates: Vec<Candidate> = Partition::ALL
        .into_iter()
        .zip(&sets)
        .flat_map(|(partition, set)| candidates(partition, set.samples(), &groups))
        .collect();
    let assigned = assign(&candidates, split)?;
    let fingerprints =
        Partition::ALL.iter().zip(&sets).map(|(p, set)| (p.to_string(), store::fingerprint(set))).collect();

    let contents: Vec<Content> = sets.iter().flat_map(|set| (0..set.len()).map(|index| set.content(index))).collect();
    let pool = sets.iter().map(|set| set.filter(|s| assigned[&s.id] == Split::Test)).collect();
    let is_chosen = |partition| version.partitions().contains(&partition);
    let chosen = Partition::ALL.into_iter().zip(sets).filter_map(|(p, set)| is_chosen(p).then_some(set)).collect();
    let (Some(chosen), Some(pool)) = (Dataset::joined(chosen)?, Dataset::joined(pool)?) else {
        return Err(DataError::Unsuitable(format!("dataset_version {version} chooses no partition")));
    };
    let record = PullRecord {
        schema: SCHEMA,
        dataset_version: version,
        split: split.division(),
        source: chosen.header().source.clone(),
        set: identity.clone(),
        images: chosen.len(),
        fingerprint: store::fingerprint(&chosen),
        pool_images: pool.len(),
        pool_fingerprint: store::fingerprint(&pool),
        partitions: fingerprints,
        duplicate_pairs: PairCounts::of(&pairs),
        duplicate_groups: groups.iter().filter(|(id, leader)| id == leader).count(),
    };

    let folder = OutputFolder::create(out)?;
    store::write(&chosen, folder.path())?;
    let pool_folder = folder.path().join(POOL);
    fs::create_dir(&pool_folder).map_err(DataError::io("create the folder", &pool_folder))?;
    store::write(&pool, &pool_folder)?;
    let rows = candidates.iter().zip(contents).map(|(c, content)| (c.id, c.partition, assigned[&c.id], content));
    folder.write(MEMBERSHIP, &table(&["id", "partition", "split", "content"], rows))?;
    folder.write(NEAR_DUPLICATES, &duplicates::to_csv(&pairs))?;
    folder.write_json(RECORD, &record)?;
    provenance::write(folder.path(), COMMAND, &[("partitions", &identity)], &[MEMBERSHIP, NEAR_DUPLICATES, RECORD])?;
    progress.check()?;
    folder.commit()?;
    Ok(record)
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
        Ok(Self { dataset, membership, pairs, record, folder: folder.to_path_buf() })
    }

    /// Reads the test images of all partitions.
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
        let known = |(id, member): (&SampleId, &Membership)| {
            (*id, Known { content: member.content, file: file(*id).unwrap_or_default() })
        };
        ImageIndex::from_images(self.membership.iter().map(known))
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

/// Returns the partition and split of every image of a whole set, as [`pull`] assigns them.
pub(crate) fn membership(set: &Dataset, pairs: &[Pair], split: &SplitParams) -> Result<BTreeMap<SampleId, Membership>> {
    let groups = duplicates::groups(pairs);
    let of_partition =
        |partition: Partition| candidates(partition, &set.samples()[partition.range(set.len())], &groups);
    let candidates: Vec<Candidate> = Partition::ALL.into_iter().flat_map(of_partition).collect();
    let assigned = assign(&candidates, split)?;
    let member = |(index, c): (usize, &Candidate)| {
        let (partition, split, content) = (c.partition, assigned[&c.id], set.content(index));
        (c.id, Membership { partition, split, content })
    };
    Ok(candidates.iter().enumerate().map(member).collect())
}

fn candidates(
    partition: Partition,
    samples: &[Sample],
    groups: &BTreeMap<SampleId, SampleId>,
) -> impl Iterator<Item = Candidate> {
    samples.iter().map(move |s| Candidate {
        id: s.id,
        original_label: s.original_label,
        partition,
        published: s.published,
        group: groups.get(&s.id).copied().unwrap_or(s.id),
    })
}

fn parse_membership(text: &[u8], path: &Path) -> Result<BTreeMap<SampleId, Membership>> {
    let mut csv = csv::Reader::from_reader(text);
    let row = |(index, row): (usize, csv::Result<(SampleId, Partition, Split, Content)>)| {
        let (id, partition, split, content) =
            row.map_err(|e| DataError::line(path, index as u64 + 2, e.to_string()))?;
        Ok((id, Membership { partition, split, content }))
    };
    csv.deserialize().enumerate().map(row).collect()
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
