//! The verdict on two images, once it is known how one lies on the other.

use super::detail::Placement;
use super::part::Rest;
use super::thumbnail::{SIDE, Thumbnail};
use super::{Image, Kind};

/// From these similarities on, a pair is near or similar. Found by looking at pairs of CIFAR-10:
/// above 0.9 nearly all show one photograph (what does not are ships far away on a calm sea),
/// between 0.84 and 0.88 about half do.
const NEAR: f64 = 0.9;
const SIMILAR: f64 = 0.8;
/// Factors of the distance from full agreement where one image is stretched, and where a rectangle
/// is left out. Such pairs are near from 0.94 and from 0.96 on. 98 % of planted copies reach 0.95,
/// and 95 % of captioned ones reach 0.98.
const STRETCHED: f64 = 5.0 / 3.0;
const REST: f64 = 2.5;
/// Least contrast of the rest, in sixteenths of a level, and its least share of the slopes of the
/// image of which more is left.
const LEAST_REST_CONTRAST: f64 = 8.0 * 16.0;
const LEAST_REST_SHARE: f64 = 0.4;

/// How alike two images are, and what that makes of them; none if they are not.
///
/// Both must agree: the details, for two skies that fade alike are no copies, and the picture with
/// its colours, for neither are two figures of one shape.
pub(super) fn judge(first: &Image, second: &Image, placement: Placement) -> Option<(f64, Kind)> {
    if placement.correlation < SIMILAR {
        return None;
    }
    let similarity = placement.correlation.min(of_colours(first, second, placement));
    verdict(similarity)
}

/// Returns the verdict on two images of which one was stretched to lie on the other. The more
/// freely it is placed, the better it must agree.
pub(super) fn judge_stretched(first: &Image, second: &Image, placement: Placement) -> Option<(f64, Kind)> {
    let (similarity, _) = judge(first, second, placement)?;
    verdict(stricter(similarity, STRETCHED))
}

/// Returns the verdict on two images that differ in a rectangle.
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

/// Correlation of brightness, less its mean, and colours, at the place where the details agree
/// best.
fn of_colours(first: &Image, second: &Image, placement: Placement) -> f64 {
    let (first, second) = (Thumbnail::new(first.pixels, first.size), Thumbnail::new(second.pixels, second.size));
    let mut luma = Moments::default();
    let mut colours = Moments::default();
    for at in 0..SIDE * SIDE {
        let Some(under) = placement.under(at) else { continue };
        luma.add(first.luma[under], second.luma[at]);
        for (first, second) in first.chroma.iter().zip(&second.chroma) {
            colours.add(first[under], second[at]);
        }
    }
    // Both sums by the number of points, which keeps them whole. The mean of a colour stays in: it
    // belongs to the picture.
    let [aa, ab, bb] = [
        luma.n * (luma.aa + colours.aa) - luma.a * luma.a,
        luma.n * (luma.ab + colours.ab) - luma.a * luma.b,
        luma.n * (luma.bb + colours.bb) - luma.b * luma.b,
    ];
    ab as f64 / (aa.max(1) as f64 * bb.max(1) as f64).sqrt()
}

/// Sums over pairs of values.
#[derive(Default)]
struct Moments {
    n: i64,
    a: i64,
    b: i64,
    aa: i64,
    ab: i64,
    bb: i64,
}

impl Moments {
    fn add(&mut self, a: i32, b: i32) {
        let (a, b) = (i64::from(a), i64::from(b));
        self.n += 1;
        self.a += a;
        self.b += b;
        self.aa += a * a;
        self.ab += a * b;
        self.bb += b * b;
    }
}
