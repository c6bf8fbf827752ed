//! All against all: which pairs of images are worth a close look, and what the close look says.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::detail::{Detail, Overlay};
use super::judge::judge;
use super::sketch::{BYTES, Sketch};
use super::thumbnail::Thumbnail;
use super::{Image, Kind};
use crate::{Monitor, Result};

/// Images of which one task looks for the partners.
const ROWS: usize = 32;
/// Images whose sketches stay in the processor's nearest cache meanwhile.
const TILE: usize = 256;
/// Pairs whose sketches differ by more, on the average of their bytes, are not looked at closely.
const MOST_DISTANCE: u32 = 21 * BYTES as u32;
/// An image is paired with so many later ones at most. A set that consists of changed copies then takes a bounded time,
/// and its groups are the same, since the copies are paired with each other.
const MOST_PARTNERS: usize = 64;
/// Images with less detail, in sixteenths of a level, show nothing that could be recognised.
const LEAST_CONTRAST: i32 = 2 * 16;

/// Two places among the images, and what is said of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub(super) first: usize,
    pub(super) second: usize,
    pub(super) similarity: f64,
    pub(super) kind: Kind,
}

/// The images that show something, in order, and what is compared of them.
struct Features {
    places: Vec<usize>,
    sketches: Vec<Sketch>,
    details: Vec<Detail>,
}

impl Features {
    fn of(images: &[Image]) -> Self {
        let all: Vec<(Sketch, Detail)> = images
            .par_iter()
            .map(|image| {
                let thumbnail = Thumbnail::new(image.pixels, image.size);
                (Sketch::new(&thumbnail), Detail::new(&thumbnail))
            })
            .collect();
        let mut features = Self { places: Vec::new(), sketches: Vec::new(), details: Vec::new() };
        for (place, (sketch, detail)) in all.into_iter().enumerate() {
            if detail.contrast >= LEAST_CONTRAST {
                features.places.push(place);
                features.sketches.push(sketch);
                features.details.push(detail);
            }
        }
        features
    }
}

/// Every pair that the close look finds alike, ordered by its first and then its second place. `images` differ in their bytes.
pub(super) fn pairs(images: &[Image], monitor: &dyn Monitor) -> Result<Vec<Found>> {
    const WHAT: &str = "looking for near-duplicates";
    monitor.check()?;
    let features = Features::of(images);
    let count = features.places.len();
    let total = (count * count.saturating_sub(1) / 2) as u64;
    let compared = AtomicU64::new(0);
    let found: Vec<Vec<Found>> = (0..count.div_ceil(ROWS))
        .into_par_iter()
        .map(|task| {
            monitor.check()?;
            let rows = task * ROWS..((task + 1) * ROWS).min(count);
            let more: usize = rows.clone().map(|row| count - 1 - row).sum();
            let found = partners(images, &features, rows);
            let before = compared.fetch_add(more as u64, Ordering::Relaxed);
            monitor.progress(WHAT, before + more as u64, total);
            Ok(found)
        })
        .collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// The later images that are like those in `rows`.
fn partners(images: &[Image], features: &Features, rows: Range<usize>) -> Vec<Found> {
    let queries: Vec<[Sketch; 2]> = features.sketches[rows.clone()].iter().map(|s| [*s, s.mirrored()]).collect();
    let overlays: Vec<Overlay> = features.details[rows.clone()].iter().map(Overlay::new).collect();
    let mut found: Vec<Vec<Found>> = vec![Vec::new(); rows.len()];
    for tile in (rows.start..features.places.len()).step_by(TILE) {
        let end = (tile + TILE).min(features.places.len());
        for (at, row) in rows.clone().enumerate() {
            let from = tile.max(row + 1);
            for (other, sketch) in (from..end).zip(features.sketches.get(from..end).unwrap_or_default()) {
                let alike = queries[at].each_ref().map(|query| query.distance(sketch) <= MOST_DISTANCE);
                if alike == [false, false] || found[at].len() == MOST_PARTNERS {
                    continue;
                }
                let hopeful = [false, true].map(|mirrored| {
                    alike[usize::from(mirrored)] && overlays[at].could_match(&features.details[other], mirrored)
                });
                found[at].extend(look(images, features, &overlays[at], [row, other], hopeful));
            }
        }
    }
    found.into_iter().flatten().collect()
}

/// The close look at the images in two rows, as they are and mirrored as far as `ways` says.
fn look(images: &[Image], features: &Features, overlay: &Overlay, rows: [usize; 2], ways: [bool; 2]) -> Option<Found> {
    let [first, second] = rows.map(|row| features.places[row]);
    let placements = [false, true]
        .into_iter()
        .filter(|mirrored| ways[usize::from(*mirrored)])
        .map(|mirrored| overlay.best_on(&features.details[rows[1]], mirrored));
    let placement = placements.reduce(|one, other| if other.correlation > one.correlation { other } else { one })?;
    let (similarity, kind) = judge(&images[first], &images[second], placement)?;
    Some(Found { first, second, similarity, kind })
}

/// The slow twin of [`pairs`]: a close look at every pair, however much their sketches differ.
pub(super) fn all_pairs(images: &[Image]) -> Vec<Found> {
    let features = Features::of(images);
    let mut found = Vec::new();
    for row in 0..features.places.len() {
        let overlay = Overlay::new(&features.details[row]);
        let look = |other| look(images, &features, &overlay, [row, other], [true, true]);
        found.extend((row + 1..features.places.len()).filter_map(look));
    }
    found
}
