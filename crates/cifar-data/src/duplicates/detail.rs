//! Compares the details of two images, one of them shifted or mirrored.
//!
//! Details are slightly blurred brightness (noise and JPEG change single pixels) minus the mean of
//! the neighbourhood: two skies that fade alike agree in brightness, but not in detail.

use super::thumbnail::{AREA, SIDE, Sums, Thumbnail};

/// Maximum shift of one image against the other in each direction, in points.
pub(super) const REACH: i32 = 2;
const SHIFTS: usize = (2 * REACH as usize + 1) * (2 * REACH as usize + 1);
/// Extent of the neighbourhood in each direction, in points.
const NEIGHBOURHOOD: i32 = 6;
/// Standard deviation to which details are scaled, and the largest value that is kept. With these,
/// 1024 products fit 32 bits: 1024 · 1023² < 2³¹.
const SCALE: i32 = 128;
const LARGEST: i32 = 1023;
/// Minimum sum of squares: a quarter of that of a whole plane, so that a corner alone is no
/// agreement.
const LEAST_ENERGY: u32 = (AREA as i32 * SCALE * SCALE / 4) as u32;
/// Points per side of the coarse plane, which has half the resolution, and the same with its
/// margin.
const COARSE: usize = SIDE / 2;
const COARSE_PADDED: usize = COARSE + REACH as usize;
/// Side of a plane with a margin of zeros, so that every shift reads whole rows.
const PADDED: usize = SIDE + 2 * REACH as usize;

/// The details of an image.
pub(super) struct Detail {
    /// Scaled to a standard deviation of `SCALE`.
    plane: [i16; AREA],
    /// Sum of squares of the visible part at each shift.
    energies: [u32; SHIFTS],
    /// Means of two by two points, and the sum of their squares.
    coarse: [i16; COARSE * COARSE],
    coarse_energy: i64,
    /// Standard deviation before scaling, in sixteenths of a level.
    pub(super) contrast: i32,
}

/// The best position of one image on another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Placement {
    /// The first image is mirrored before it is shifted.
    pub(super) mirrored: bool,
    /// The point (y, x) of the second image shows the same as (y + down, x + right) of the first.
    pub(super) down: i32,
    pub(super) right: i32,
    /// Correlation of the visible details, −1 to 1.
    pub(super) correlation: f64,
}

impl Placement {
    /// Returns the point of the first image that the second shows at `at`; `None` if it is not
    /// visible.
    pub(super) fn under(&self, at: usize) -> Option<usize> {
        let view = 0..SIDE as i32;
        let (y, x) = ((at / SIDE) as i32 + self.down, (at % SIDE) as i32 + self.right);
        let column = if self.mirrored { SIDE as i32 - 1 - x } else { x };
        (view.contains(&y) && view.contains(&x)).then(|| y as usize * SIDE + column as usize)
    }
}

/// The first image of a comparison.
pub(super) struct Overlay {
    /// Unchanged and mirrored.
    planes: [Box<[i16; PADDED * PADDED]>; 2],
    energies: [u32; SHIFTS],
    coarse: [[i16; COARSE_PADDED * COARSE_PADDED]; 2],
    coarse_energy: i64,
}

impl Detail {
    pub(super) fn new(thumbnail: &Thumbnail) -> Self {
        let sums = Sums::of(&thumbnail.luma);
        let mut plane = [0i32; AREA];
        for (at, value) in plane.iter_mut().enumerate() {
            let (y, x) = ((at / SIDE) as i32, (at % SIDE) as i32);
            // The neighbourhood shrinks near an edge. If it were asymmetric there, a picture that
            // only fades would seem to have details.
            let around = |at: i32| {
                let reach = NEIGHBOURHOOD.min(at).min(SIDE as i32 - 1 - at);
                [at - reach, at + reach + 1]
            };
            *value = blurred16(&thumbnail.luma, y, x) - sums.mean16(around(y), around(x));
        }
        let squares: i64 = plane.iter().map(|v| i64::from(v * v)).sum();
        let contrast = (squares / AREA as i64).isqrt() as i32;
        let plane = plane.map(|v| (v * SCALE / contrast.max(1)).clamp(-LARGEST, LARGEST) as i16);
        let energies = std::array::from_fn(|shift| {
            let (down, right) = offsets(shift);
            let kept = |by: i32| by.max(0) as usize..(SIDE as i32 + by.min(0)) as usize;
            kept(down)
                .flat_map(|y| &plane[y * SIDE..][kept(right)])
                .map(|v| (i32::from(*v) * i32::from(*v)) as u32)
                .sum()
        });
        let coarse = std::array::from_fn(|at| {
            let corner = at / COARSE * 2 * SIDE + at % COARSE * 2;
            let four = [corner, corner + 1, corner + SIDE, corner + SIDE + 1];
            (four.map(|at| i32::from(plane[at])).iter().sum::<i32>() / 4) as i16
        });
        let coarse_energy = coarse.iter().map(|v| i64::from(*v) * i64::from(*v)).sum();
        Self { plane, energies, coarse, coarse_energy, contrast }
    }
}

/// Returns the mean of a point and its neighbours, weighted 1-2-1 in both directions, in
/// sixteenths.
fn blurred16(luma: &[i32; AREA], y: i32, x: i32) -> i32 {
    let last = SIDE as i32 - 1;
    let mut sum = 0;
    for (dy, row_weight) in [(-1, 1), (0, 2), (1, 1)] {
        let row = (y + dy).clamp(0, last) as usize * SIDE;
        for (dx, weight) in [(-1, 1), (0, 2), (1, 1)] {
            sum += row_weight * weight * luma[row + (x + dx).clamp(0, last) as usize];
        }
    }
    sum
}

/// Returns how far a shift goes down and to the right.
fn offsets(shift: usize) -> (i32, i32) {
    let side = 2 * REACH as usize + 1;
    ((shift / side) as i32 - REACH, (shift % side) as i32 - REACH)
}

impl Overlay {
    pub(super) fn new(detail: &Detail) -> Self {
        let mut planes = [Box::new([0; PADDED * PADDED]), Box::new([0; PADDED * PADDED])];
        let mut coarse = [[0; COARSE_PADDED * COARSE_PADDED]; 2];
        for (mirrored, (plane, coarse)) in [false, true].into_iter().zip(planes.iter_mut().zip(&mut coarse)) {
            pad(&detail.plane, SIDE, mirrored, plane.as_mut_slice());
            pad(&detail.coarse, COARSE, mirrored, coarse);
        }
        Self { planes, energies: detail.energies, coarse, coarse_energy: detail.coarse_energy }
    }

    /// Returns whether a pair may agree: at half the resolution and shifts of two points, the
    /// correlation is at least one half. The best shift is at most one point away, which costs less
    /// than that.
    pub(super) fn could_match(&self, other: &Detail, mirrored: bool) -> bool {
        let least = self.coarse_energy * other.coarse_energy;
        let padded = &self.coarse[usize::from(mirrored)];
        (0..9).any(|shift| {
            let sum = products::<COARSE>(padded, &other.coarse, shift / 3 * COARSE_PADDED + shift % 3);
            sum > 0 && 4 * i64::from(sum) * i64::from(sum) >= least
        })
    }

    /// Returns the best position of this image, mirrored or not, on `other`; the first of equal
    /// ones.
    pub(super) fn best_on(&self, other: &Detail, mirrored: bool) -> Placement {
        let plane = &self.planes[usize::from(mirrored)];
        let mut best = Placement { mirrored, down: 0, right: 0, correlation: f64::NEG_INFINITY };
        for shift in 0..SHIFTS {
            let (down, right) = offsets(shift);
            let own = self.energies[index(down, if mirrored { -right } else { right })];
            let others = other.energies[index(-down, -right)];
            let start = (REACH + down) as usize * PADDED + (REACH + right) as usize;
            let sum = products::<SIDE>(plane.as_slice(), &other.plane, start);
            let correlation =
                f64::from(sum) / (f64::from(own.max(LEAST_ENERGY)) * f64::from(others.max(LEAST_ENERGY))).sqrt();
            if correlation > best.correlation {
                best = Placement { mirrored, down, right, correlation };
            }
        }
        best
    }
}

fn index(down: i32, right: i32) -> usize {
    ((down + REACH) * (2 * REACH + 1) + right + REACH) as usize
}

/// Copies a plane of `side` points per side into the middle of a larger one.
fn pad(plane: &[i16], side: usize, mirrored: bool, padded: &mut [i16]) {
    let wide = padded.len().isqrt();
    let margin = (wide - side) / 2;
    for (y, row) in plane.chunks_exact(side).enumerate() {
        let place = &mut padded[(y + margin) * wide + margin..][..side];
        place.copy_from_slice(row);
        if mirrored {
            place.reverse();
        }
    }
}

/// Returns the sum of the products of a plane of `N` points per side and the part of a padded one
/// that begins at `start`. It cannot overflow 32 bits (see [`LARGEST`]); a sum that is checked for
/// overflow would not be vectorised.
fn products<const N: usize>(padded: &[i16], plane: &[i16], start: usize) -> i32 {
    let wide = padded.len().isqrt();
    let mut sum = 0i32;
    for (y, row) in plane.chunks_exact(N).enumerate() {
        let other = &padded[start + y * wide..][..N];
        for x in 0..N {
            sum = sum.wrapping_add(i32::from(row[x]).wrapping_mul(i32::from(other[x])));
        }
    }
    sum
}
