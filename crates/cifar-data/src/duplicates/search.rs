//! All against all: which pairs of images are worth a close look, and what the close look says.
//!
//! The first pass compares whole images. The second one compares parts of them ([`super::lens`]):
//! it finds copies that were cut or squeezed, and copies with a caption.

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

/// Images of which one task looks for the partners.
const ROWS: usize = 32;
/// Images whose sketches stay in the processor's nearest cache meanwhile.
const TILE: usize = 256;
/// Pairs whose sketches differ by more, on the average of their bytes, are not looked at closely.
const MOST_DISTANCE: u32 = 21 * BYTES as u32;
/// An image is paired with so many later ones at most. A set that consists of changed copies then
/// takes a bounded time, and its groups are the same, since the copies are paired with each other.
const MOST_PARTNERS: usize = 64;
/// Pairs whose details agree so well, and not well enough, are looked at again with either image
/// zoomed: a crop that was enlarged agrees in its middle.
const WORTH_ZOOMING: f64 = 0.7;
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
        // Into their own lists at once, and sifted there: they are the most memory of all that the
        // search needs.
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

/// Every pair that the close look finds alike, ordered by its first and then its second place.
/// `images` differ in their bytes.
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

/// What `search` finds for all rows, in their order. `work` weighs a row for the progress.
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

/// The best verdict on each pair, ordered by its places.
fn best_of_each(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by(|one, other| {
        let places = |found: &Found| (found.first, found.second);
        places(one).cmp(&places(other)).then(other.similarity.total_cmp(&one.similarity))
    });
    found.dedup_by_key(|found| (found.first, found.second));
    found
}

/// The pairs of which parts agree and that are not near in `known`.
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

/// The images that show what a window of the one in `row` does, and the later ones that differ from
/// it in a rectangle.
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

/// The verdict on two images of which one may be a crop of the other: the best that is found with
/// either one zoomed. `overlay` is that of the first one, `detail` that of the second.
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

/// The slow twin of [`pairs`]: its first pass looks closely at every pair, however much their
/// sketches differ.
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
