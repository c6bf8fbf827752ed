//! Compares all images with all others: selects candidate pairs and compares these in detail.
//!
//! The first pass compares whole images. The second one compares parts of them ([`super::lens`]):
//! it finds copies that were cropped or squeezed, and copies with a caption.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::align::{self, Plane};
use super::detail::{Detail, Overlay};
use super::judge::{judge, judge_rest, judge_stretched};
use super::lens::Index;
use super::part;
use super::sketch::{BYTES, Sketch};
use super::thumbnail::Thumbnail;
use super::zoom::{MARGINS, Window, zoomed};
use super::{Image, Kind};
use crate::{Progress, Result, Silent};

/// Number of images per task.
const ROWS: usize = 32;
/// Number of images whose sketches stay in the processor's first cache during a task.
const TILE: usize = 256;
/// Maximum mean difference of the bytes of two sketches for a detailed comparison.
const MOST_DISTANCE: u32 = 21 * BYTES as u32;
/// Maximum number of later images that an image is paired with. This bounds the time for a set of
/// modified copies. Its groups stay the same, since the copies are also paired with each other.
const MOST_PARTNERS: usize = 64;
/// Range of agreement in which the details are compared again with either image zoomed: the middle
/// of an enlarged crop agrees.
const WORTH_ZOOMING: f64 = 0.7;
/// Minimum detail of an image, in sixteenths of a level. Images with less show nothing
/// recognisable.
const LEAST_CONTRAST: i32 = 2 * 16;

/// Two positions among the images, and the decision about them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub(super) first: usize,
    pub(super) second: usize,
    pub(super) similarity: f64,
    pub(super) kind: Kind,
}

/// The images with enough detail, in order, and what is compared of them.
struct Features {
    places: Vec<usize>,
    sketches: Vec<Sketch>,
    details: Vec<Detail>,
}

impl Features {
    fn of(images: &[Image]) -> Self {
        // Each list is filtered at once: together they need the most memory of the search.
        let (mut sketches, mut details) = (Vec::new(), Vec::new());
        images
            .par_iter()
            .map(|image| {
                let thumbnail = Thumbnail::new(image.pixels, image.size);
                (Sketch::new(&thumbnail), Detail::new(&thumbnail))
            })
            .unzip_into_vecs(&mut sketches, &mut details);
        let shows = |detail: &Detail| detail.contrast >= LEAST_CONTRAST;
        let places: Vec<usize> = (0..images.len()).filter(|place| shows(&details[*place])).collect();
        let sketches = places.iter().map(|place| sketches[*place]).collect();
        details.retain(shows);
        Self { places, sketches, details }
    }
}

/// Returns every pair that is similar, ordered by its first and then its second position. The bytes
/// of all `images` differ.
pub(super) fn pairs(images: &[Image], monitor: &dyn Progress) -> Result<Vec<Found>> {
    monitor.check()?;
    let features = Features::of(images);
    let count = features.places.len();
    let mut found = in_tasks(count, monitor, "looking for near-duplicates", &|row| count - 1 - row, |rows| {
        partners(images, &features, rows)
    })?;
    found.extend(partial_pairs(images, &features, &found, monitor)?);
    Ok(best_of_each(found))
}

/// Returns what `search` finds for all rows, in their order. `work` weights a row for the progress.
fn in_tasks(
    count: usize,
    monitor: &dyn Progress,
    what: &'static str,
    work: &(dyn Fn(usize) -> usize + Sync),
    search: impl Fn(Range<usize>) -> Vec<Found> + Sync,
) -> Result<Vec<Found>> {
    let total = (0..count).map(work).sum::<usize>() as u64;
    let done = AtomicU64::new(0);
    let found: Vec<Vec<Found>> = (0..count.div_ceil(ROWS))
        .into_par_iter()
        .map(|task| {
            monitor.check()?;
            let rows = task * ROWS..((task + 1) * ROWS).min(count);
            let more = rows.clone().map(work).sum::<usize>() as u64;
            let found = search(rows);
            let before = done.fetch_add(more, Ordering::Relaxed);
            monitor.update(what, before + more, total);
            Ok(found)
        })
        .collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// Returns the best decision about each pair, ordered by positions.
fn best_of_each(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by(|one, other| {
        let places = |found: &Found| (found.first, found.second);
        places(one).cmp(&places(other)).then(other.similarity.total_cmp(&one.similarity))
    });
    found.dedup_by_key(|found| (found.first, found.second));
    found
}

/// Returns the pairs that agree in part and are not near in `known`.
fn partial_pairs(images: &[Image], features: &Features, known: &[Found], monitor: &dyn Progress) -> Result<Vec<Found>> {
    let near = known.iter().filter(|found| found.kind == Kind::Near);
    let near: HashSet<[usize; 2]> = near.map(|found| [found.first, found.second]).collect();
    let index = Index::of(images, &features.places, &features.sketches);
    let planes: Vec<Plane> = features
        .places
        .par_iter()
        .map(|place| align::plane(&Thumbnail::new(images[*place].pixels, images[*place].size)))
        .collect();
    let rows = features.places.len();
    in_tasks(rows, monitor, "looking for cut and captioned copies", &|_| 1, |rows| {
        rows.flat_map(|row| partial_partners(images, features, (&index, &planes), &near, row)).collect()
    })
}

/// Returns the images that show the same as a window of the image in `row`, and the later ones that
/// differ from it in a rectangle.
fn partial_partners(
    images: &[Image],
    features: &Features,
    (index, planes): (&Index, &[Plane]),
    near: &HashSet<[usize; 2]>,
    row: usize,
) -> Vec<Found> {
    let own = features.places[row];
    let candidates = index.candidates(&images[own], row as u32);
    let mut found = Vec::new();
    let mut look = |other: usize, look: &dyn Fn(usize) -> Option<(f64, Kind)>| {
        let place = features.places[other];
        let [first, second] = [own.min(place), own.max(place)];
        if !near.contains(&[first, second])
            && let Some((similarity, kind)) = look(place)
        {
            found.push(Found { first, second, similarity, kind });
        }
    };
    for candidate in &candidates.windows {
        let (other, mirrored) = (candidate.image as usize, candidate.mirrored);
        look(other, &|place| {
            let window = align::refined(&planes[row], &planes[other], mirrored, candidate.window())?;
            let pixels = zoomed(&images[own], &window);
            let stretched = Image { pixels: &pixels, ..images[own] };
            let detail = Detail::new(&Thumbnail::new(&pixels, stretched.size));
            let placement = Overlay::new(&detail).best_on(&features.details[other], mirrored);
            judge_stretched(&stretched, &images[place], placement)
        });
    }
    for candidate in &candidates.strips {
        let other = candidate.image as usize;
        look(other, &|place| {
            let thumbnails = || [own, place].map(|place| Thumbnail::new(images[place].pixels, images[place].size));
            judge_rest(&part::rest([&planes[row], &planes[other]], thumbnails, candidate.mirrored)?)
        });
    }
    found
}

/// Returns the later images that are similar to those in `rows`.
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

/// Compares the images in two rows in detail, as they are and mirrored, as far as `ways` says.
fn look(images: &[Image], features: &Features, overlay: &Overlay, rows: [usize; 2], ways: [bool; 2]) -> Option<Found> {
    let [first, second] = rows.map(|row| features.places[row]);
    let other = &features.details[rows[1]];
    let placements = [false, true]
        .into_iter()
        .filter(|mirrored| ways[usize::from(*mirrored)])
        .map(|mirrored| overlay.best_on(other, mirrored));
    let placement = placements.reduce(|one, other| if other.correlation > one.correlation { other } else { one })?;
    let verdict = judge(&images[first], &images[second], placement);
    let verdict = match verdict {
        Some((_, Kind::Near)) => verdict,
        _ if placement.correlation < WORTH_ZOOMING => verdict,
        _ => [verdict, look_zoomed([&images[first], &images[second]], overlay, other, placement.mirrored)]
            .into_iter()
            .flatten()
            .reduce(|one, other| if other.0 > one.0 { other } else { one }),
    };
    let (similarity, kind) = verdict?;
    Some(Found { first, second, similarity, kind })
}

/// Returns the decision about two images, one of which may be a crop of the other: the best one
/// with either image zoomed. `overlay` is that of the first image, `detail` that of the second.
fn look_zoomed(images: [&Image; 2], overlay: &Overlay, detail: &Detail, mirrored: bool) -> Option<(f64, Kind)> {
    let mut best: Option<(f64, Kind)> = None;
    for margin in MARGINS {
        let pixels = images.map(|image| zoomed(image, &Window::inside(margin)));
        let one = Image { pixels: &pixels[0], ..*images[0] };
        let other = Image { pixels: &pixels[1], ..*images[1] };
        let [over, under] = [&one, &other].map(|image| Detail::new(&Thumbnail::new(image.pixels, image.size)));
        let verdicts = [
            judge(&one, images[1], Overlay::new(&over).best_on(detail, mirrored)),
            judge(images[0], &other, overlay.best_on(&under, mirrored)),
        ];
        for verdict in verdicts.into_iter().flatten() {
            if best.is_none_or(|(similarity, _)| verdict.0 > similarity) {
                best = Some(verdict);
            }
        }
    }
    best
}

/// A slow reference for [`pairs`]: its first pass compares every pair in detail, whatever the
/// difference of their sketches.
pub(super) fn all_pairs(images: &[Image]) -> Result<Vec<Found>> {
    let features = Features::of(images);
    let mut found = Vec::new();
    for row in 0..features.places.len() {
        let overlay = Overlay::new(&features.details[row]);
        let look = |other| look(images, &features, &overlay, [row, other], [true, true]);
        found.extend((row + 1..features.places.len()).filter_map(look));
    }
    found.extend(partial_pairs(images, &features, &found, &Silent)?);
    Ok(best_of_each(found))
}
