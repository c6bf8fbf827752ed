//! Groups of images that are connected by exact and near pairs.

use std::collections::BTreeMap;

use super::{Kind, Pair};
use crate::SampleId;

/// Returns the smallest id of the group of every image that has an exact or near duplicate. Similar
/// images form no groups: they may be different photographs.
pub fn groups(pairs: &[Pair]) -> BTreeMap<SampleId, SampleId> {
    let mut parents = BTreeMap::new();
    for pair in pairs.iter().filter(|pair| pair.kind != Kind::Similar) {
        let (one, other) = (leader(&mut parents, pair.first), leader(&mut parents, pair.second));
        parents.insert(one.max(other), one.min(other));
    }
    let ids: Vec<SampleId> = parents.keys().copied().collect();
    ids.into_iter().map(|id| (id, leader(&mut parents, id))).collect()
}

/// Returns the end of the path from `id`, which is its own parent, and shortens the path.
fn leader(parents: &mut BTreeMap<SampleId, SampleId>, id: SampleId) -> SampleId {
    let mut end = id;
    while let Some(&parent) = parents.get(&end)
        && parent != end
    {
        end = parent;
    }
    let mut at = id;
    while let Some(parent) = parents.insert(at, end)
        && parent != end
    {
        at = parent;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(u32, u32, Kind)], expected: &[(u32, u32)]) {
        let pair =
            |&(first, second, kind)| Pair { first: SampleId(first), second: SampleId(second), similarity: 1.0, kind };
        let found = groups(&pairs.iter().map(pair).collect::<Vec<_>>());
        assert_eq!(found, expected.iter().map(|(id, leader)| (SampleId(*id), SampleId(*leader))).collect());
    }

    #[test]
    fn groups_are_what_is_connected() {
        use Kind::{Exact, Near, Similar};
        check(&[], &[]);
        check(&[(1, 2, Similar)], &[]);
        check(&[(3, 7, Near)], &[(3, 3), (7, 3)]);
        check(&[(7, 9, Near), (2, 8, Exact), (3, 9, Near)], &[(2, 2), (3, 3), (7, 3), (8, 2), (9, 3)]);
        // A path that ends in its smallest id.
        let path: Vec<_> = (1..50).rev().map(|id| (id, id + 1, Near)).chain([(0, 50, Exact)]).collect();
        check(&path, &(0..=50).map(|id| (id, 0)).collect::<Vec<_>>());
    }
}
