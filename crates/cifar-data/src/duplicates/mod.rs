//! Images that show the same picture: exact copies, near-duplicates and look-alikes.
//!
//! A network that is tested on copies of its training images is rewarded for its memory. CIFAR-10 has such copies: some
//! photographs were collected twice, cropped, scaled or lit otherwise. They are found in four steps:
//!
//! 1. images with the same bytes are **exact** copies; the first of them stands for all in what follows;
//! 2. *sketches*, a few bytes an image, are compared all against all, also mirrored: most pairs end here;
//! 3. the *details* of what is left are laid over each other at every shift of up to two pixels, mirrored and not, and, if
//!    they agree in part, with either image zoomed by a fifteenth and a seventh. The correlation at the best place, and that
//!    of the colours there, say whether the pair is **near** or **similar**;
//! 4. sketches of windows are compared with those of whole images, which finds copies that were cut, stretched or framed by
//!    bars; and sketches of strips with those of the same strips, which finds copies with a caption. What agrees is aligned
//!    (`align`), or judged without the rectangle that differs (`part`), and must agree better than whole images must.
//!
//! A figure on another background is not found: on drawn images it is another image, not a copy.
//!
//! Exact and near pairs make groups, which [`crate::splits`] keeps together. Similar pairs are for people to look at.
//! All arithmetic on pixels is of integers, and no image's partners depend on what another thread does. [`find_once`] keeps
//! what was found for the next time.

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

/// How alike two images are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The same bytes.
    Exact,
    /// The same picture, shifted, mirrored, cropped, stretched, framed, captioned, lit otherwise, with noise or compressed again.
    Near,
    /// Much alike, and perhaps another photograph.
    Similar,
}

/// Two images that are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The smaller id.
    pub first: SampleId,
    /// The greater id.
    pub second: SampleId,
    /// The lower one of the correlations of details and of colours where one image lies best on the other,
    /// zoomed or not, in ten-thousandths; 1 for exact copies. Where one image is stretched, its distance from 1 is 5/3 of
    /// that; where a rectangle is left out, 5/2, and the correlation of slopes counts, too.
    pub similarity: f64,
    /// What this makes of them.
    pub kind: Kind,
}

/// Numbers of pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairCounts {
    /// With the same bytes.
    pub exact: usize,
    /// With the same picture.
    pub near: usize,
    /// Much alike.
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

/// Of so many images with the same bytes every pair is listed; each one beyond is paired with the one before it. The
/// list then stays short for a set that consists of copies, and what it connects is the same.
const LISTED: usize = 8;

/// An image on its own.
#[derive(Clone, Copy)]
struct Image<'a> {
    pixels: &'a [u8],
    size: ImageSize,
}

/// All pairs over the images of all `sets`, whose ids ascend from set to set; ordered by their ids.
pub fn find(sets: &[&Dataset], monitor: &dyn Progress) -> Result<Vec<Pair>> {
    find_by(sets, |images| search::pairs(images, monitor))
}

/// The same, but the comparison of whole images looks closely at every pair, without sketches: the slow twin that judges [`find`].
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

/// The places (set, index) of all images; those with the same bytes together, in ascending order.
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
