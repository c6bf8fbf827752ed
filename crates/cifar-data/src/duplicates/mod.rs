//! Finds images that show the same picture: exact copies, near-duplicates and look-alikes.
//!
//! A network that is tested on copies of its training images is rewarded for memorising. CIFAR-10
//! has such copies: some photographs were collected twice, or cropped, scaled or lit differently.
//! The search has four steps:
//!
//! 1. Images with the same bytes are **exact** copies. The first one represents them in all later
//!    steps.
//! 2. *Sketches*, a few bytes per image, are compared all against all, also mirrored. This rules
//!    out most pairs.
//! 3. The *details* of the remaining pairs are compared at every shift of up to two pixels,
//!    mirrored and not. If they agree in part, either image is also zoomed by a fifteenth and a
//!    seventh. The correlations of details and of colours at the best position decide whether the
//!    pair is **near** or **similar**.
//! 4. Sketches of windows are compared with those of whole images. This finds copies that were
//!    cropped, stretched or framed by bars. Sketches of strips are compared with those of the same
//!    strips, which finds copies with a caption. Candidates are aligned (`align`) or judged without
//!    the rectangle that differs (`part`), and must agree better than whole images.
//!
//! A figure on another background is not found: among drawn images it is a different image, not a
//! copy.
//!
//! Exact and near pairs form groups, which [`crate::splits`] keeps together. Similar pairs are for
//! people to inspect. All arithmetic on pixels uses integers, and the result does not depend on the
//! number of threads. [`find_once`] stores it for the next call.

mod align;
mod colours;
mod detail;
mod difference;
mod grid;
mod groups;
mod judge;
mod lens;
mod list;
mod part;
mod remembered;
mod search;
mod sketch;
mod thumbnail;
mod zoom;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{Dataset, ImageSize, Progress, Result, SampleId};

pub use difference::{Difference, difference};
pub use groups::groups;
pub use list::NEAR_DUPLICATES;
pub(crate) use list::{parse, to_csv};
pub use remembered::find_once;

/// How similar two images are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The bytes are equal.
    Exact,
    /// The same picture: shifted, mirrored, cropped, stretched, framed, captioned, lit differently,
    /// with noise or compressed again.
    Near,
    /// Similar, but perhaps another photograph.
    Similar,
}

/// A pair of similar images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The smaller id.
    pub first: SampleId,
    /// The larger id.
    pub second: SampleId,
    /// The lower of the correlations of details and of colours at the best position of one image on
    /// the other, zoomed or not, in ten-thousandths; 1 for exact copies. If one image is stretched,
    /// the distance from 1 is multiplied by 5/3. If a rectangle is left out, it is multiplied by
    /// 5/2, and the correlation of slopes counts, too.
    pub similarity: f64,
    /// The kind of the pair.
    pub kind: Kind,
}

/// Numbers of pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairCounts {
    /// Exact pairs.
    pub exact: usize,
    /// Near pairs.
    pub near: usize,
    /// Similar pairs.
    pub similar: usize,
}

impl PairCounts {
    /// Counts.
    pub fn of<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> Self {
        let mut counts = Self::default();
        for pair in pairs {
            match pair.kind {
                Kind::Exact => counts.exact += 1,
                Kind::Near => counts.near += 1,
                Kind::Similar => counts.similar += 1,
            }
        }
        counts
    }
}

/// Up to this number of images with the same bytes, every pair is listed. Each further image is
/// paired with the one before it. This keeps the list short for a set of copies, and connects the
/// same images.
const LISTED: usize = 8;

/// The place of an image: set and index.
#[derive(Clone, Copy)]
struct Image<'a> {
    pixels: &'a [u8],
    size: ImageSize,
}

/// Returns all pairs over the images of all `sets`, ordered by their ids. Ids ascend from set to
/// set.
pub fn find(sets: &[&Dataset], monitor: &dyn Progress) -> Result<Vec<Pair>> {
    find_by(sets, |images| search::pairs(images, monitor))
}

/// As [`find`], but compares every pair of whole images in detail, without sketches. A slow
/// reference for [`find`].
pub fn find_slowly(sets: &[&Dataset]) -> Vec<Pair> {
    find_by(sets, search::all_pairs).unwrap_or_default()
}

fn find_by(sets: &[&Dataset], search: impl FnOnce(&[Image]) -> Result<Vec<search::Found>>) -> Result<Vec<Pair>> {
    let copies = copies(sets);
    let image = |(set, index): (usize, usize)| Image { pixels: sets[set].image(index), size: sets[set].size() };
    let id = |(set, index): (usize, usize)| sets[set].samples()[index].id;
    let mut pairs = Vec::new();
    for places in &copies {
        for (at, second) in places.iter().enumerate() {
            let earlier = if at < LISTED { &places[..at] } else { &places[at - 1..at] };
            let pair = |first: &(usize, usize)| Pair {
                first: id(*first),
                second: id(*second),
                similarity: 1.0,
                kind: Kind::Exact,
            };
            pairs.extend(earlier.iter().map(pair));
        }
    }
    let images: Vec<Image> = copies.iter().map(|places| image(places[0])).collect();
    for found in search(&images)? {
        for one in copies[found.first].iter().take(LISTED).map(|place| id(*place)) {
            for other in copies[found.second].iter().take(LISTED).map(|place| id(*place)) {
                let (first, second) = (one.min(other), one.max(other));
                pairs.push(Pair { first, second, similarity: found.similarity, kind: found.kind });
            }
        }
    }
    pairs.sort_unstable_by_key(|pair| (pair.first, pair.second));
    Ok(pairs)
}

/// Returns the places (set, index) of all images. Images with the same bytes are together, in
/// ascending order.
fn copies(sets: &[&Dataset]) -> Vec<Vec<(usize, usize)>> {
    let mut groups: Vec<Vec<(usize, usize)>> = Vec::new();
    let mut known = HashMap::new();
    for (at, set) in sets.iter().enumerate() {
        for (index, hash) in set.hashes().iter().enumerate() {
            let group = *known.entry((*hash, set.size().width)).or_insert(groups.len());
            if group == groups.len() {
                groups.push(Vec::new());
            }
            groups[group].push((at, index));
        }
    }
    groups
}
