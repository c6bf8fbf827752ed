//! The verdict on two images, once it is known how one lies on the other.

use super::detail::Placement;
use super::thumbnail::{SIDE, Thumbnail};
use super::{Image, Kind};

/// From these similarities on, a pair is near or similar. Found by looking at pairs of CIFAR-10: above 0.9 nearly all show
/// one photograph (what does not are ships far away on a calm sea), between 0.84 and 0.88 about half do.
const NEAR: f64 = 0.9;
const SIMILAR: f64 = 0.8;

/// How alike two images are, and what that makes of them; none if they are not.
///
/// Both must agree: the details, for two skies that fade alike are no copies, and the picture with its colours, for neither
/// are two figures of one shape.
pub(super) fn judge(first: &Image, second: &Image, placement: Placement) -> Option<(f64, Kind)> {
    if placement.correlation < SIMILAR {
        return None;
    }
    let similarity = placement.correlation.min(of_colours(first, second, placement));
    let kind = match similarity {
        NEAR.. => Kind::Near,
        SIMILAR.. => Kind::Similar,
        _ => return None,
    };
    Some(((similarity * 1e4).round() / 1e4, kind))
}

/// Correlation of brightness, less its mean, and colours, at the place where the details agree best.
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
    // Both sums by the number of points, which keeps them whole. The mean of a colour stays in: it belongs to the picture.
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
