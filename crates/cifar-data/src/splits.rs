//! The division into training, validation and test images.
//!
//! Every image's split is decided once over v1, v2 and v3, stratified by partition and class, so it
//! is the same in v1, v1+v2 and v1+v2+v3. Classes too small to be rounded partition by partition
//! are rounded as a whole (`shares`). A group of near-duplicates follows its smallest id. A subset
//! of the training images contains every smaller one.
//!
//! A partition that is added later is divided on its own, and no image that was there moves
//! (`added`).

mod added;
mod shares;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::partitions::Partition;
use crate::random::{Purpose, stream};
use crate::{DataError, Published, Result, SampleId};

pub use self::added::{AddedCounts, assign_added};

/// One of the three splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Training images: weights are learnt from these.
    Train,
    /// Validation images: epochs and settings are chosen by these.
    Val,
    /// Test images: results are measured on these; nothing is chosen by them.
    Test,
}

impl Split {
    /// All three, in order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// Returns its name: `train`, `val` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How test images are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A fraction of all images is drawn for test: the project's own protocol.
    Pooled,
    /// The published test images are the test set, for comparison with papers.
    Official,
}

/// How images are divided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "UncheckedSplitParams")]
pub struct SplitParams {
    /// How test images are chosen.
    pub protocol: Protocol,
    /// Seed of the division. It is not the seed of training, so runs with different seeds share
    /// their test images.
    pub split_seed: u64,
    /// Fraction of all images held out for test, 0 to 0.9; only used by `pooled`.
    pub test_fraction: f64,
    /// Fraction of the other images held out for validation, 0 to 0.9.
    pub val_fraction: f64,
    /// Number of training images to use, 0: all. Smaller numbers use subsets of greater ones.
    pub train_images: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedSplitParams {
    protocol: Protocol,
    split_seed: u64,
    test_fraction: f64,
    val_fraction: f64,
    train_images: usize,
}

impl TryFrom<UncheckedSplitParams> for SplitParams {
    type Error = DataError;

    fn try_from(p: UncheckedSplitParams) -> Result<Self> {
        let params = Self {
            protocol: p.protocol,
            split_seed: p.split_seed,
            test_fraction: p.test_fraction,
            val_fraction: p.val_fraction,
            train_images: p.train_images,
        };
        params.check()?;
        Ok(params)
    }
}

impl SplitParams {
    /// Returns what decides an image's split: everything except the number of training images.
    #[must_use]
    pub fn division(&self) -> Self {
        Self { train_images: 0, ..self.clone() }
    }

    /// Refuses fractions out of range; a struct literal can hold any.
    fn check(&self) -> Result<()> {
        for (key, value) in [("test_fraction", self.test_fraction), ("val_fraction", self.val_fraction)] {
            if !(0.0..=0.9).contains(&value) {
                return Err(DataError::Parameter {
                    key,
                    value: value.to_string(),
                    allowed: "allowed is 0 to 0.9".into(),
                });
            }
        }
        Ok(())
    }
}

impl Default for SplitParams {
    /// Returns 70/10/20: pooled, seed 0, a fifth for test, an eighth of the rest for validation,
    /// all training images.
    fn default() -> Self {
        Self { protocol: Protocol::Pooled, split_seed: 0, test_fraction: 0.2, val_fraction: 0.125, train_images: 0 }
    }
}

/// What the division needs to know about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: SampleId,
    /// Its original label: overrides must not move an image to another split.
    pub original_label: u16,
    /// Its partition.
    pub partition: Partition,
    /// Its published split.
    pub published: Published,
    /// The smallest id of its group of near-duplicates; its own id without one.
    pub group: SampleId,
}

/// Returns the split of every image of v1, v2 and v3. `candidates` are in ascending order of ids.
/// [`assign_added`] divides the partitions that were added.
///
/// ```
/// use cifar_data::partitions::Partition;
/// use cifar_data::splits::{Candidate, Split, SplitParams, assign};
/// use cifar_data::{Published, SampleId};
///
/// let candidate = |id| Candidate {
///     id: SampleId(id),
///     original_label: (id % 2) as u16,
///     partition: Partition::V1,
///     published: Published::None,
///     group: SampleId(id),
/// };
/// let candidates: Vec<Candidate> = (0..100).map(candidate).collect();
/// let splits = assign(&candidates, &SplitParams::default())?;
/// let count = |split| splits.values().filter(|found| **found == split).count();
/// assert_eq!([Split::Train, Split::Val, Split::Test].map(count), [70, 10, 20]);
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If a fraction is out of range, or the protocol is `official` and the source has no published
/// test set.
pub fn assign(candidates: &[Candidate], params: &SplitParams) -> Result<BTreeMap<SampleId, Split>> {
    params.check()?;
    let official = params.protocol == Protocol::Official;
    if official && !candidates.iter().any(|c| c.published == Published::Test) {
        return Err(DataError::Unsuitable(
            "split.protocol: official needs a source with a published test set (train/ and test/ folders); use pooled"
                .into(),
        ));
    }
    divide(candidates, params)
}

/// Divides images whose groups are complete.
fn divide(candidates: &[Candidate], params: &SplitParams) -> Result<BTreeMap<SampleId, Split>> {
    let official = params.protocol == Protocol::Official;
    let mut assigned = BTreeMap::new();
    let mut strata: BTreeMap<(Partition, u16), Vec<SampleId>> = BTreeMap::new();
    for candidate in candidates {
        if official && candidate.published == Published::Test {
            assigned.insert(candidate.id, Split::Test);
        } else if candidate.group == candidate.id {
            strata.entry((candidate.partition, candidate.original_label)).or_default().push(candidate.id);
        }
    }
    let test_fraction = if official { 0.0 } else { params.test_fraction };
    let sizes = strata.iter().map(|(stratum, leaders)| (*stratum, leaders.len())).collect();
    let tests = shares::of(&sizes, test_fraction, params.split_seed);
    let others = sizes.iter().map(|(stratum, n)| (*stratum, n - tests[stratum])).collect();
    let vals = shares::of(&others, params.val_fraction, params.split_seed);
    for (stratum, leaders) in strata {
        let mut drawn: Vec<(u64, SampleId)> = leaders
            .into_iter()
            .map(|id| (stream(params.split_seed, Purpose::Split, 0, u64::from(id.0)).bits(), id))
            .collect();
        drawn.sort_unstable();
        let (test, val) = (tests[&stratum], vals[&stratum]);
        for (rank, (_, id)) in drawn.into_iter().enumerate() {
            let split = if rank < test {
                Split::Test
            } else if rank < test + val {
                Split::Val
            } else {
                Split::Train
            };
            assigned.insert(id, split);
        }
    }
    for candidate in candidates.iter().filter(|c| c.group != c.id) {
        if !assigned.contains_key(&candidate.id) {
            // `official` keeps its published test images whatever their group; a training image of
            // such a group stays in training.
            let split = match assigned.get(&candidate.group) {
                Some(Split::Test) if official => Split::Train,
                Some(split) => *split,
                None => {
                    return Err(DataError::Unsuitable(format!(
                        "image {} belongs to the group of {}, which does not exist",
                        candidate.id, candidate.group
                    )));
                }
            };
            assigned.insert(candidate.id, split);
        }
    }
    Ok(assigned)
}

/// Returns `count` of the training images `train`, which have their strata, or all of them for 0.
///
/// Every stratum's images are drawn into an order of their own, by `split_seed`; the `r`-th of `n`
/// has the position (r + ½)/n. So every stratum has its fraction of the `count` images to within
/// one image, and smaller subsets are contained in greater ones.
///
/// # Errors
/// If there are fewer than `count` images.
pub fn training_subset<S: Ord>(train: Vec<(SampleId, S)>, params: &SplitParams) -> Result<BTreeSet<SampleId>> {
    let count = params.train_images;
    if count > train.len() {
        return Err(DataError::Parameter {
            key: "split.train_images",
            value: count.to_string(),
            allowed: format!("allowed is 0 to {}, the number of training images of these partitions", train.len()),
        });
    }
    if count == 0 {
        return Ok(train.into_iter().map(|(id, _)| id).collect());
    }
    let mut strata: BTreeMap<S, Vec<(u64, SampleId)>> = BTreeMap::new();
    for (id, stratum) in train {
        // This draw is separate from the one that made it a training image, which is not uniform
        // for groups.
        let draw = stream(params.split_seed, Purpose::Split, 1, u64::from(id.0)).bits();
        strata.entry(stratum).or_default().push((draw, id));
    }
    let mut places: Vec<(f64, u64, SampleId)> = Vec::new();
    for drawn in strata.values_mut() {
        drawn.sort_unstable();
        let n = drawn.len() as f64;
        places.extend(drawn.iter().enumerate().map(|(rank, (draw, id))| ((rank as f64 + 0.5) / n, *draw, *id)));
    }
    places.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    Ok(places.into_iter().take(count).map(|(.., id)| id).collect())
}
