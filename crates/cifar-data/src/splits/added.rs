//! The division of a partition that was added to others.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Candidate, Protocol, Split, SplitParams, divide};
use crate::duplicates::{Kind, Pair, groups};
use crate::{Published, Result, SampleId};

/// How the images of a partition that was added relate to those that were there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedCounts {
    /// Images of the partition.
    pub images: usize,
    /// Images with the same bytes as an earlier one.
    pub exact_copies: usize,
    /// Other images that are near-duplicates of an earlier one.
    pub near_duplicates: usize,
    /// Images that are copies or near-duplicates of an earlier test image.
    pub of_test_images: usize,
    /// Groups of duplicates that connect earlier images of different splits.
    pub connecting_groups: usize,
}

/// Divides the images of a partition that was added. `assigned` has the splits of all earlier
/// images, which stay as they are; those of the new ones are inserted.
///
/// A new image that shows the same picture as an earlier one gets its split, and so do the new
/// images that are duplicates of it alone. If there are earlier ones in several splits, the most
/// protected one wins: test before val before train. All other images are divided like those of the
/// first set, by draws that depend on nothing but the seed, their partition and their ids. So a
/// later partition moves none of them.
///
/// `candidates` are the images of the partition in ascending order of ids; their groups are not
/// used. `pairs` are all pairs with a new image as the second and no later image.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use cifar_data::duplicates::{Kind, Pair};
/// use cifar_data::partitions::Partition;
/// use cifar_data::splits::{Candidate, Split, SplitParams, assign_added};
/// use cifar_data::{Published, SampleId};
///
/// let mut assigned = BTreeMap::from([(SampleId(0), Split::Test), (SampleId(1), Split::Train)]);
/// let added = [2, 3].map(|id| Candidate {
///     id: SampleId(id),
///     original_label: 0,
///     partition: "v4".parse().unwrap(),
///     published: Published::None,
///     group: SampleId(id),
/// });
/// let pair = Pair { first: SampleId(0), second: SampleId(3), similarity: 0.95, kind: Kind::Near };
/// let counts = assign_added(&added, &[pair], &mut assigned, &SplitParams::default())?;
/// assert_eq!((assigned[&SampleId(3)], counts.of_test_images), (Split::Test, 1));
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If a fraction is out of range.
pub fn assign_added(
    candidates: &[Candidate],
    pairs: &[Pair],
    assigned: &mut BTreeMap<SampleId, Split>,
    params: &SplitParams,
) -> Result<AddedCounts> {
    params.check()?;
    let mut counts = count(candidates, pairs, assigned);
    counts.connecting_groups = connecting_groups(pairs, assigned);
    let copies = pairs.iter().filter(|pair| pair.kind != Kind::Similar);
    let mut direct: BTreeMap<SampleId, Split> = BTreeMap::new();
    for (id, split) in copies.filter_map(|pair| Some((pair.second, *assigned.get(&pair.first)?))) {
        let of_image = direct.entry(id).or_insert(split);
        *of_image = split.max(*of_image);
    }
    let among_new: Vec<Pair> = pairs.iter().filter(|pair| !assigned.contains_key(&pair.first)).copied().collect();
    let groups = groups(&among_new);
    let mut of_group: BTreeMap<SampleId, Split> = BTreeMap::new();
    for (leader, split) in groups.iter().filter_map(|(id, leader)| Some((*leader, *direct.get(id)?))) {
        let of_leader = of_group.entry(leader).or_insert(split);
        *of_leader = split.max(*of_leader);
    }
    let official = params.protocol == Protocol::Official;
    let (mut free, mut bound) = (Vec::new(), Vec::new());
    for candidate in candidates {
        let group = groups.get(&candidate.id).copied().unwrap_or(candidate.id);
        match direct.get(&candidate.id).or_else(|| of_group.get(&group)) {
            // `official` keeps published test images whatever their group.
            Some(_) if official && candidate.published == Published::Test => bound.push((candidate.id, Split::Test)),
            Some(split) => bound.push((candidate.id, *split)),
            None => free.push(Candidate { group, ..candidate.clone() }),
        }
    }
    assigned.extend(divide(&free, params)?);
    assigned.extend(bound);
    Ok(counts)
}

/// Returns the number of groups that connect earlier images of different splits.
fn connecting_groups(pairs: &[Pair], assigned: &BTreeMap<SampleId, Split>) -> usize {
    let mut splits: BTreeMap<SampleId, BTreeSet<Split>> = BTreeMap::new();
    for (id, leader) in groups(pairs) {
        if let Some(split) = assigned.get(&id) {
            splits.entry(leader).or_default().insert(*split);
        }
    }
    splits.values().filter(|splits| splits.len() > 1).count()
}

fn count(candidates: &[Candidate], pairs: &[Pair], assigned: &BTreeMap<SampleId, Split>) -> AddedCounts {
    let duplicates = |is: &dyn Fn(&Pair, Split) -> bool| -> BTreeSet<SampleId> {
        let pairs = pairs.iter().filter(|pair| pair.kind != Kind::Similar);
        let earlier = pairs.filter_map(|pair| Some((pair, *assigned.get(&pair.first)?)));
        earlier.filter(|(pair, split)| is(pair, *split)).map(|(pair, _)| pair.second).collect()
    };
    let exact = duplicates(&|pair, _| pair.kind == Kind::Exact);
    let all = duplicates(&|_, _| true);
    AddedCounts {
        images: candidates.len(),
        exact_copies: exact.len(),
        near_duplicates: all.len() - exact.len(),
        of_test_images: duplicates(&|_, split| split == Split::Test).len(),
        connecting_groups: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partitions::Partition;
    use crate::splits::assign;

    /// Ids 0 to 59 in v1 to v3, then 40 in v4 and 40 in v5; two classes.
    fn candidates(partition: Partition) -> Vec<Candidate> {
        let ids = match partition.number() {
            n @ 1..=3 => u32::from(n - 1) * 20..u32::from(n) * 20,
            n => 60 + u32::from(n - 4) * 40..60 + u32::from(n - 3) * 40,
        };
        let candidate = |id: u32| Candidate {
            id: SampleId(id),
            original_label: (id % 2) as u16,
            partition,
            published: Published::None,
            group: SampleId(id),
        };
        ids.map(candidate).collect()
    }

    fn added(number: u32) -> Vec<Candidate> {
        candidates(Partition::new(number).unwrap())
    }

    fn first() -> BTreeMap<SampleId, Split> {
        let all: Vec<Candidate> = Partition::FIRST.into_iter().flat_map(candidates).collect();
        assign(&all, &SplitParams::default()).unwrap()
    }

    fn pair(first: u32, second: u32, kind: Kind) -> Pair {
        Pair { first: SampleId(first), second: SampleId(second), similarity: 1.0, kind }
    }

    fn one_in(assigned: &BTreeMap<SampleId, Split>, split: Split) -> u32 {
        assigned.iter().find(|(_, found)| **found == split).unwrap().0.0
    }

    #[test]
    fn what_was_there_never_moves_and_a_later_partition_moves_no_earlier_one() {
        let before = first();
        let params = SplitParams::default();
        let mut with_v4 = before.clone();
        let counts = assign_added(&added(4), &[], &mut with_v4, &params).unwrap();
        assert_eq!(counts, AddedCounts { images: 40, ..AddedCounts::default() });
        let mut with_both = with_v4.clone();
        assign_added(&added(5), &[pair(61, 101, Kind::Near)], &mut with_both, &params).unwrap();
        assert!(before.iter().all(|(id, split)| with_v4[id] == *split));
        assert!(with_v4.iter().all(|(id, split)| with_both[id] == *split));
        // A fifth of each class for test, an eighth of the rest for validation.
        for (from, images) in [(60, &with_v4), (100, &with_both)] {
            let count = |class: u32, wanted: Split| {
                images.range(SampleId(from)..).filter(|(id, s)| id.0 % 2 == class && **s == wanted).count()
            };
            let [train, val, test] = Split::ALL.map(|split| count(0, split));
            assert_eq!((train + val + test, val, test), (20, 2, 4));
        }
        assert_eq!(with_both.len(), 140);
    }

    #[test]
    fn duplicates_of_earlier_images_get_their_split() {
        let before = first();
        let [train, val, test] = Split::ALL.map(|split| one_in(&before, split));
        // 60 is a copy of a test image, 61 of it through 60, 62 of a validation image. 63 is only
        // similar. 64 and 65 show the same picture, which is new.
        let pairs = [
            pair(test, 60, Kind::Exact),
            pair(60, 61, Kind::Near),
            pair(val, 62, Kind::Near),
            pair(test, 63, Kind::Similar),
            pair(64, 65, Kind::Near),
            // 66 connects all three splits.
            pair(train, 66, Kind::Near),
            pair(val, 66, Kind::Near),
            pair(test, 66, Kind::Near),
        ];
        let mut assigned = before.clone();
        let counts = assign_added(&added(4), &pairs, &mut assigned, &SplitParams::default()).unwrap();
        let of = |id: u32| assigned[&SampleId(id)];
        // 62 is a duplicate of the validation image alone, although 66 connects that to a test image.
        assert_eq!([of(60), of(61), of(62), of(66)], [Split::Test, Split::Test, Split::Val, Split::Test]);
        assert_eq!(of(64), of(65));
        assert!(before.iter().all(|(id, split)| assigned[id] == *split));
        let expected =
            AddedCounts { images: 40, exact_copies: 1, near_duplicates: 2, of_test_images: 2, connecting_groups: 1 };
        assert_eq!(counts, expected);
    }

    #[test]
    fn official_keeps_published_test_images_and_protects_earlier_ones() {
        let params = SplitParams { protocol: Protocol::Official, ..SplitParams::default() };
        let mut assigned = BTreeMap::from([(SampleId(0), Split::Test), (SampleId(1), Split::Train)]);
        let mut new = added(4);
        new[1].published = Published::Test;
        new[2].published = Published::Test;
        let pairs = [pair(0, 60, Kind::Near), pair(1, 61, Kind::Near)];
        let counts = assign_added(&new, &pairs, &mut assigned, &params).unwrap();
        let tests: Vec<u32> = assigned.iter().filter(|(_, s)| **s == Split::Test).map(|(id, _)| id.0).collect();
        assert_eq!((tests, counts.of_test_images), (vec![0, 60, 61, 62], 1));
    }
}
