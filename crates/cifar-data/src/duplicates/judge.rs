//! The decision about two images, once their alignment is known.

use super::colours::ColourSums;
use super::detail::Placement;
use super::part::Rest;
use super::thumbnail::{AREA, Thumbnail};
use super::{Image, Kind};

/// Minimum similarity of near and similar pairs. Determined by inspecting pairs of CIFAR-10: above
/// 0.9 nearly all show one photograph (the exceptions are distant ships on a calm sea), between
/// 0.84 and 0.88 about half do.
const NEAR: f64 = 0.9;
const SIMILAR: f64 = 0.8;
/// Factors of the distance from full agreement if one image is stretched, and if a rectangle is
/// left out. Such pairs are near from 0.94 and from 0.96 on. 98 % of planted copies reach 0.95, and
/// 95 % of captioned ones reach 0.98.
const STRETCHED: f64 = 5.0 / 3.0;
const REST: f64 = 2.5;
/// Minimum contrast of the rest, in sixteenths of a level, and its minimum fraction of the slopes
/// of the image with the larger rest.
const LEAST_REST_CONTRAST: f64 = 8.0 * 16.0;
const LEAST_REST_SHARE: f64 = 0.4;

/// Returns similarity and kind of two images; `None` if they are not similar.
///
/// Details and colours must both agree. Details alone do not distinguish figures of one shape,
/// colours alone do not distinguish skies.
pub(super) fn judge(first: &Image, second: &Image, placement: Placement) -> Option<(f64, Kind)> {
    if placement.correlation < SIMILAR {
        return None;
    }
    let similarity = placement.correlation.min(of_colours(first, second, placement));
    verdict(similarity)
}

/// Returns the decision about two images, one of which was stretched to fit the other. The more
/// freely it is placed, the better it must agree.
pub(super) fn judge_stretched(first: &Image, second: &Image, placement: Placement) -> Option<(f64, Kind)> {
    let (similarity, _) = judge(first, second, placement)?;
    verdict(stricter(similarity, STRETCHED))
}

/// Returns the decision about two images that differ in a rectangle.
pub(super) fn judge_rest(rest: &Rest) -> Option<(f64, Kind)> {
    if rest.contrast < LEAST_REST_CONTRAST || rest.share < LEAST_REST_SHARE {
        return None;
    }
    verdict(stricter(rest.slopes.min(rest.details).min(rest.colours), REST))
}

fn stricter(similarity: f64, factor: f64) -> f64 {
    1.0 - factor * (1.0 - similarity)
}

fn verdict(similarity: f64) -> Option<(f64, Kind)> {
    let kind = match similarity {
        NEAR.. => Kind::Near,
        SIMILAR.. => Kind::Similar,
        _ => return None,
    };
    Some(((similarity * 1e4).round() / 1e4, kind))
}

/// Returns the correlation of brightness and colours at the position with the best agreement of
/// details.
fn of_colours(first: &Image, second: &Image, placement: Placement) -> f64 {
    let (first, second) = (Thumbnail::new(first.pixels, first.size), Thumbnail::new(second.pixels, second.size));
    let mut sums = ColourSums::default();
    for at in 0..AREA {
        if let Some(under) = placement.under(at) {
            sums.add([&first, &second], [under, at]);
        }
    }
    sums.correlation()
}
