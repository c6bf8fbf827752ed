//! The splits of all images of some partitions.

use std::collections::BTreeMap;
use std::path::Path;

use super::Membership;
use crate::duplicates::{self, Pair};
use crate::partitions::{Partition, thirds};
use crate::splits::{AddedCounts, Candidate, Split, SplitParams, assign, assign_added};
use crate::{Dataset, Progress, Result, Sample, SampleId};

/// The splits of the images of v1, v2, v3 and the partitions that were added.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The split of every image.
    pub splits: BTreeMap<SampleId, Split>,
    /// The pairs of images that show the same picture, ordered by their ids.
    pub pairs: Vec<Pair>,
    /// The duplicates of each partition that was added.
    pub added: BTreeMap<Partition, AddedCounts>,
}

impl Assignment {
    /// Assigns the images of `sets`, which are v1, v2, v3 and so on. What it says about the first of
    /// them is the same with and without later ones.
    ///
    /// With a folder `known`, searches for pairs run once and are then reused
    /// ([`duplicates::find_once`]).
    ///
    /// # Errors
    /// As [`assign`], or if the caller cancels.
    pub fn of(sets: &[Dataset], split: &SplitParams, known: Option<&Path>, progress: &dyn Progress) -> Result<Self> {
        let (first, added) = sets.split_at(sets.len().min(Partition::FIRST.len()));
        let find = |sets: &[Dataset]| {
            let sets: Vec<&Dataset> = sets.iter().collect();
            match known {
                Some(folder) => duplicates::find_once(&sets, folder, progress),
                None => duplicates::find(&sets, progress),
            }
        };
        let mut pairs = find(first)?;
        let groups = duplicates::groups(&pairs);
        let partitions = Partition::FIRST.into_iter().zip(first);
        let of_first: Vec<Candidate> =
            partitions.flat_map(|(partition, set)| candidates(partition, set.samples(), &groups)).collect();
        let mut splits = assign(&of_first, split)?;
        let mut counts = BTreeMap::new();
        for (index, set) in added.iter().enumerate() {
            let count = first.len() + index + 1;
            let (Some(partition), Some(least)) = (Partition::new(count as u32), set.samples().first()) else {
                continue;
            };
            // Pairs of earlier images stay as they were found without this set.
            let found = find(&sets[..count])?.into_iter();
            let of_set: Vec<Pair> = found.filter(|pair| pair.second >= least.id).collect();
            let candidates: Vec<Candidate> = candidates(partition, set.samples(), &BTreeMap::new()).collect();
            counts.insert(partition, assign_added(&candidates, &of_set, &mut splits, split)?);
            pairs.extend(of_set);
        }
        pairs.sort_unstable_by_key(|pair| (pair.first, pair.second));
        Ok(Self { splits, pairs, added: counts })
    }
}

/// Returns the partition and split of every image of a whole first set.
pub(crate) fn membership(set: &Dataset, pairs: &[Pair], split: &SplitParams) -> Result<BTreeMap<SampleId, Membership>> {
    let groups = duplicates::groups(pairs);
    let partitions = Partition::FIRST.into_iter().zip(thirds(set.len()));
    let candidates: Vec<Candidate> =
        partitions.flat_map(|(partition, range)| candidates(partition, &set.samples()[range], &groups)).collect();
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
