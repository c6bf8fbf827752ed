//! Contact sheets of duplicate pairs: both images, and their difference after alignment.

use cifar_data::duplicates::{Difference, Kind, NEAR_DUPLICATES, difference};
use cifar_data::prepare::{PlacedPair, PreparedReport};

use super::{Images, caption, footer, missing};
use crate::Result;
use crate::plots::{Tile, contact_sheet};

/// Maximum number of pairs on a sheet. A row has three.
const PAIRS: usize = 30;

/// Pairs to draw, with the file name and title of their sheet.
pub(super) struct Sheet {
    pub(super) name: &'static str,
    pub(super) title: String,
    pairs: Vec<PlacedPair>,
}

/// Returns the sheets that are not empty.
pub(super) fn sheets(pairs: &[PlacedPair], conflicts: &[&PlacedPair]) -> Vec<Sheet> {
    let of = |wanted: &dyn Fn(&PlacedPair) -> bool| pairs.iter().filter(|p| wanted(p)).copied().collect::<Vec<_>>();
    let is_duplicate = |p: &PlacedPair| p.pair.kind != Kind::Similar;
    let all = [
        ("near_duplicates", "exact and near duplicate pairs, most similar first", of(&is_duplicate)),
        ("similar", "similar pairs, not kept in one split, most similar first", of(&|p| !is_duplicate(p))),
        (
            "straddling",
            "exact and near duplicate pairs between test and other images",
            of(&|p| is_duplicate(p) && p.straddles()),
        ),
        (
            "label_conflicts",
            "exact and near duplicate pairs with different labels",
            conflicts.iter().map(|p| **p).collect(),
        ),
    ];
    let sheet = |(name, title, mut pairs): (&'static str, &str, Vec<PlacedPair>)| {
        let n = pairs.len();
        pairs.sort_by(|a, b| b.pair.similarity.total_cmp(&a.pair.similarity));
        let shown = n.min(PAIRS);
        // Evenly spaced from most to least similar, so that the sheet also shows the threshold.
        let pairs: Vec<PlacedPair> = (0..shown).map(|at| pairs[at * (n - 1) / (shown - 1).max(1)]).collect();
        let title = format!(
            "{n} {title}{}",
            if shown < n { format!("; {shown} of them shown, evenly spaced") } else { String::new() }
        );
        Sheet { name, title, pairs }
    };
    all.into_iter().filter(|(_, _, pairs)| !pairs.is_empty()).map(sheet).collect()
}

/// Draws a sheet and returns the bytes of the PNG file.
pub(super) fn draw(sheet: &Sheet, images: &Images, prepared: &PreparedReport) -> Result<Vec<u8>> {
    let mut shown = Vec::new();
    for placed in &sheet.pairs {
        let get = |id| images.get(id).ok_or_else(|| missing(NEAR_DUPLICATES, id));
        let (first, second) = (get(placed.pair.first)?, get(placed.pair.second)?);
        shown.push((placed, first, second, difference(first.pixels, second.pixels, prepared.size)));
    }
    let mut tiles = Vec::new();
    for (placed, first, second, difference) in &shown {
        let warn = placed.straddles();
        for image in [first, second] {
            let lines = vec![format!("{} {}", image.sample.id, images.class(*image)), image.split.to_string()];
            tiles.push(Tile { pixels: image.pixels, lines, warn });
        }
        let similarity = format!("{} {:.3}", kind_name(placed.pair.kind), placed.pair.similarity);
        tiles.push(Tile { pixels: &difference.pixels, lines: vec![similarity, alignment(difference)], warn });
    }
    let footer = format!("{} · third image of a pair: difference × 2", footer(prepared));
    let (height, width) = (prepared.size.height, prepared.size.width);
    Ok(contact_sheet(&tiles, height, width, 9, &caption(&sheet.title, &footer, prepared))?)
}

/// Describes how the second image was aligned to the first.
fn alignment(difference: &Difference) -> String {
    let mut words = Vec::new();
    words.extend((difference.zoom != [0, 0]).then(|| "zoomed".to_string()));
    words.extend(difference.mirrored.then(|| "mirrored".to_string()));
    for (shift, positive, negative) in [(difference.up, "up", "down"), (difference.left, "left", "right")] {
        if shift != 0 {
            words.push(format!("{} {}", shift.abs(), if shift > 0 { positive } else { negative }));
        }
    }
    if words.is_empty() { "not shifted".into() } else { words.join(", ") }
}

/// Returns the name used in `near_duplicates.csv`.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Exact => "exact",
        Kind::Near => "near",
        Kind::Similar => "similar",
    }
}
