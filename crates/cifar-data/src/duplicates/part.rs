//! Compares two images without the rectangle in which they differ, as a picture and its captioned
//! copy do.

use super::align::Plane;
use super::colours::ColourSums;
use super::thumbnail::{AREA, SIDE, Sums, Thumbnail};

/// Maximum size of the rectangle that may differ, in points.
const MOST_COVERED: usize = AREA * 33 / 100;
/// Correlation that a rectangle must gain per area of the image that it covers.
const PER_AREA: f64 = 0.3;
/// Minimum correlation of slopes outside the rectangle.
const LEAST_AGREEMENT: f64 = 0.75;
/// Extent of a point's neighbourhood in each direction, in points.
const NEIGHBOURHOOD: i32 = 6;

/// Rows and columns of a rectangle: first and end.
type Rectangle = [[usize; 2]; 2];

/// How well two images agree outside of the rectangle in which they differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    /// Correlation of slopes outside.
    pub(super) slopes: f64,
    /// Correlation of details and of colours outside.
    pub(super) details: f64,
    pub(super) colours: f64,
    /// Standard deviation of details outside, in sixteenths of a level; the smaller one of the two
    /// images.
    pub(super) contrast: f64,
    /// Fraction of the slopes that are outside, for the image with the larger one.
    pub(super) share: f64,
}

/// Sums over the points above and left of each point.
struct Prefix(Vec<[i32; 3]>);

impl Prefix {
    fn of(first: &Plane, second: &Plane, mirrored: bool) -> Self {
        let mut sums = vec![[0i32; 3]; (SIDE + 1) * (SIDE + 1)];
        let slopes = |plane: &Plane, y: usize, x: usize| {
            let at = |y: usize, x: usize| i32::from(plane[y * SIDE + x]);
            [
                at((y + 1).min(SIDE - 1), x) - at(y.saturating_sub(1), x),
                at(y, (x + 1).min(SIDE - 1)) - at(y, x.saturating_sub(1)),
            ]
        };
        for y in 0..SIDE {
            let mut row = [0; 3];
            for x in 0..SIDE {
                let mut a = slopes(first, y, if mirrored { SIDE - 1 - x } else { x });
                if mirrored {
                    a[1] = -a[1];
                }
                let b = slopes(second, y, x);
                row[0] += a[0] * a[0] + a[1] * a[1];
                row[1] += a[0] * b[0] + a[1] * b[1];
                row[2] += b[0] * b[0] + b[1] * b[1];
                let above = sums[y * (SIDE + 1) + x + 1];
                sums[(y + 1) * (SIDE + 1) + x + 1] = std::array::from_fn(|n| above[n] + row[n]);
            }
        }
        Self(sums)
    }

    fn within(&self, [[top, bottom], [left, right]]: Rectangle) -> [i32; 3] {
        let at = |y: usize, x: usize| &self.0[y * (SIDE + 1) + x];
        let corners = [at(bottom, right), at(top, right), at(bottom, left), at(top, left)];
        std::array::from_fn(|n| corners[0][n] - corners[1][n] - corners[2][n] + corners[3][n])
    }

    /// Sums outside.
    fn outside(&self, rectangle: Rectangle) -> [i32; 3] {
        let (all, inside) = (self.0[self.0.len() - 1], self.within(rectangle));
        std::array::from_fn(|n| all[n] - inside[n])
    }
}

fn correlation([aa, ab, bb]: [i32; 3]) -> f64 {
    f64::from(ab) / (f64::from(aa.max(AREA as i32)) * f64::from(bb.max(AREA as i32))).sqrt()
}

fn area(rectangle: Rectangle) -> usize {
    rectangle.iter().map(|[from, to]| to - from).product()
}

/// Returns the rectangle outside of which the images agree best, less a penalty for its area.
fn covered(sums: &Prefix) -> Rectangle {
    let worth =
        |rectangle: Rectangle| correlation(sums.outside(rectangle)) - PER_AREA * area(rectangle) as f64 / AREA as f64;
    let mut best = [[0, 0], [0, 0]];
    let mut most = worth(best);
    let edges = |from: usize| (from + 4..=SIDE).step_by(4);
    for top in (0..SIDE).step_by(4) {
        for bottom in edges(top) {
            for left in (0..SIDE).step_by(4) {
                for right in edges(left) {
                    let tried = [[top, bottom], [left, right]];
                    if area(tried) * 2 > AREA {
                        break;
                    }
                    let found = worth(tried);
                    if found > most {
                        (best, most) = (tried, found);
                    }
                }
            }
        }
    }
    loop {
        let before = most;
        for edge in 0..4 {
            for by in [-2i32, -1, 1, 2] {
                let mut tried = best;
                let place = &mut tried[edge / 2][edge % 2];
                *place = (*place as i32 + by).clamp(0, SIDE as i32) as usize;
                if tried.iter().any(|[from, to]| from > to) {
                    continue;
                }
                let found = worth(tried);
                if found > most {
                    (best, most) = (tried, found);
                }
            }
        }
        if most <= before {
            return best;
        }
    }
}

/// Compares two images outside the rectangle in which they differ most. Returns `None` if no
/// rectangle explains the difference.
pub(super) fn rest(planes: [&Plane; 2], thumbnails: impl FnOnce() -> [Thumbnail; 2], mirrored: bool) -> Option<Rest> {
    let sums = Prefix::of(planes[0], planes[1], mirrored);
    let rectangle = covered(&sums);
    let size = area(rectangle);
    let outside = sums.outside(rectangle);
    let slopes = correlation(outside);
    if size == 0 || size > MOST_COVERED || slopes < LEAST_AGREEMENT {
        return None;
    }
    let all = sums.0[sums.0.len() - 1];
    let part = |n: usize| f64::from(outside[n]) / f64::from(all[n].max(1));
    // Blurring and compression spread what is covered by a point.
    let [[top, bottom], [left, right]] = rectangle;
    let rows = top.saturating_sub(1)..bottom + 1;
    let columns = left.saturating_sub(1)..right + 1;
    let shown = |at: usize| !(rows.contains(&(at / SIDE)) && columns.contains(&(at % SIDE)));
    let [mut first, second] = thumbnails();
    let mut plane = *planes[0];
    if mirrored {
        plane.chunks_exact_mut(SIDE).for_each(<[u8]>::reverse);
        first.luma.chunks_exact_mut(SIDE).for_each(<[i32]>::reverse);
        first.chroma.iter_mut().for_each(|plane| plane.chunks_exact_mut(SIDE).for_each(<[i32]>::reverse));
    }
    let count = Sums::of(&std::array::from_fn(|at| i32::from(shown(at))));
    let [one, other] = [&plane, planes[1]].map(|plane| details(plane, &count, &shown));
    let (mut aa, mut ab, mut bb, mut n) = (0.0, 0.0, 0.0, 0.0);
    let mut colours = ColourSums::default();
    for at in (0..AREA).filter(|at| shown(*at)) {
        let (a, b) = (f64::from(one[at]), f64::from(other[at]));
        aa += a * a;
        ab += a * b;
        bb += b * b;
        n += 1.0;
        colours.add([&first, &second], [at, at]);
    }
    Some(Rest {
        slopes,
        details: ab / (aa.max(1.0) * bb.max(1.0)).sqrt(),
        colours: colours.correlation(),
        contrast: (aa.min(bb) / n).sqrt(),
        share: part(0).max(part(2)),
    })
}

/// Returns brightness less the mean of its neighbourhood, in sixteenths of a level. Only points
/// that are `shown` count.
fn details(plane: &Plane, count: &Sums, shown: &impl Fn(usize) -> bool) -> [i32; AREA] {
    let sums = Sums::of(&std::array::from_fn(|at| if shown(at) { i32::from(plane[at]) } else { 0 }));
    std::array::from_fn(|at| {
        if !shown(at) {
            return 0;
        }
        let (y, x) = ((at / SIDE) as i32, (at % SIDE) as i32);
        let around = |at: i32| {
            let reach = NEIGHBOURHOOD.min(at).min(SIDE as i32 - 1 - at);
            [at - reach, at + reach + 1]
        };
        let (sum, _) = sums.within(around(y), around(x));
        let (number, _) = count.within(around(y), around(x));
        16 * i32::from(plane[at]) - (16 * sum / number.max(1)) as i32
    })
}
