//! `near_duplicates.csv`: the pairs of a prepared set, with the splits of their images.

use std::path::Path;

use super::read_table;
use crate::duplicates::{Kind, NEAR_DUPLICATES, Pair};
use crate::splits::Split;
use crate::{Dataset, Progress, Result, SampleId};

pub(super) const PAIR_COLUMNS: [&str; 6] = ["id_a", "id_b", "split_a", "split_b", "similarity", "kind"];

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

/// Returns the pairs whose images are both in `sets`, with their splits.
pub(super) fn placed(pairs: &[Pair], sets: &[(Split, &Dataset)]) -> Vec<PlacedPair> {
    let place = |id| sets.iter().find(|(_, set)| set.index_of(id).is_some()).map(|(split, _)| *split);
    let placed = |pair: &Pair| Some(PlacedPair { pair: *pair, splits: [place(pair.first)?, place(pair.second)?] });
    pairs.iter().filter_map(placed).collect()
}

/// Returns the pairs of one test image and one other; warns if there are duplicates among them.
pub(super) fn straddling(placed: &[PlacedPair], progress: &dyn Progress) -> Vec<Pair> {
    let pairs: Vec<Pair> = placed.iter().filter(|placed| placed.straddles()).map(|placed| placed.pair).collect();
    let copies = pairs.iter().filter(|pair| pair.kind != Kind::Similar).count();
    if copies > 0 {
        progress.warn(&format!(
            "{copies} pairs of duplicates have one image for test and one for training or validation; {NEAR_DUPLICATES} lists them"
        ));
    }
    pairs
}
