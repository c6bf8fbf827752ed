//! Aligns an image with a cropped, stretched or squeezed copy of it: a search from a rough window
//! to an exact one.

use super::thumbnail::{AREA, SIDE, Thumbnail};
use super::zoom::{FULL, Window};

/// Steps of the search in sixteenths of a point, and the minimum agreement after each step. Of
/// planted copies of CIFAR-10, 99 % start above 0.45 and 98 % reach 0.94.
const STEPS: [(i32, f64); 4] = [(24, 0.6), (12, 0.7), (6, 0.8), (3, 0.85)];
/// Minimum agreement before the first step.
const HOPEFUL: f64 = 0.4;
/// Distance of the compared points, in both directions.
const STRIDE: usize = 2;
/// Blocks per side. Each is compared after subtracting its mean, so that slow changes of light and
/// distant parts do not count.
const BLOCKS: usize = 4;
/// Minimum and maximum side of a window, and how far it may extend beyond the image.
const LENGTHS: std::ops::RangeInclusive<i32> = FULL * 72 / 100..=FULL * 104 / 100;
const BEYOND: i32 = 16;
/// Variance of a block, in squared levels, below which it has no information.
const FLOOR: f64 = 4.0;

/// Slightly blurred brightness, one byte per point.
pub(super) type Plane = [u8; AREA];

/// Returns the brightness of an image: the mean of each point and its neighbours, weighted 1-2-1 in
/// both directions.
pub(super) fn plane(thumbnail: &Thumbnail) -> Plane {
    let mut across = [0; AREA];
    for (at, value) in across.iter_mut().enumerate() {
        let (row, x) = (at / SIDE * SIDE, at % SIDE);
        let luma = |x: usize| thumbnail.luma[row + x];
        *value = luma(x.saturating_sub(1)) + 2 * luma(x) + luma((x + 1).min(SIDE - 1));
    }
    std::array::from_fn(|at| {
        let (y, x) = (at / SIDE, at % SIDE);
        let row = |y: usize| across[y * SIDE + x];
        ((row(y.saturating_sub(1)) + 2 * row(y) + row((y + 1).min(SIDE - 1)) + 8) >> 4) as u8
    })
}

/// Returns the window of the first image that agrees best with the whole second one, near a rough
/// window; `None` if the agreement is poor.
pub(super) fn refined(first: &Plane, second: &Plane, mirrored: bool, rough: Window) -> Option<Window> {
    let mut best = rough;
    let mut agreement = agree(first, second, mirrored, &rough);
    if agreement < HOPEFUL {
        return None;
    }
    for (step, least) in STEPS {
        loop {
            let before = agreement;
            for change in 0..8 {
                let (axis, by) = (change / 2 % 2, if change % 2 == 0 { step } else { -step });
                let mut tried = best;
                tried.start[axis] += by;
                if change >= 4 {
                    tried.length[axis] -= 2 * by;
                }
                if !allowed(&tried) {
                    continue;
                }
                let found = agree(first, second, mirrored, &tried);
                if found > agreement {
                    (best, agreement) = (tried, found);
                }
            }
            if agreement <= before + 0.002 {
                break;
            }
        }
        if agreement < least {
            return None;
        }
    }
    Some(best)
}

fn allowed(window: &Window) -> bool {
    (0..2).all(|axis| {
        let (start, length) = (window.start[axis], window.length[axis]);
        LENGTHS.contains(&length) && start >= -BEYOND && start + length <= FULL + BEYOND
    })
}

/// Returns the correlation of a window of the first image with the second one, block by block.
fn agree(first: &Plane, second: &Plane, mirrored: bool, window: &Window) -> f64 {
    const SAMPLES: usize = SIDE / STRIDE;
    const EACH: usize = SAMPLES / BLOCKS;
    let places = |axis: usize| {
        std::array::from_fn::<_, SAMPLES, _>(|sample| {
            let point = (sample * STRIDE) as i32;
            let point = if axis == 1 && mirrored { SIDE as i32 - 1 - point } else { point };
            let at = window.start[axis] + (2 * point + 1) * window.length[axis] / 64 - 8;
            let at = at.clamp(0, FULL - 17);
            ((at / 16) as usize, at % 16)
        })
    };
    let (rows, columns) = (places(0), places(1));
    let (mut aa, mut ab, mut bb) = (0.0, 0.0, 0.0);
    for block_row in 0..BLOCKS {
        let mut sums = [[0i32; 5]; BLOCKS];
        for sample in block_row * EACH..(block_row + 1) * EACH {
            let (above, down) = rows[sample];
            let upper = &first[above * SIDE..][..SIDE];
            let lower = &first[(above + 1) * SIDE..][..SIDE];
            let other = &second[sample * STRIDE * SIDE..][..SIDE];
            for (column, (left, right)) in columns.iter().enumerate() {
                let mix = |row: &[u8]| i32::from(row[*left]) * (16 - right) + i32::from(row[*left + 1]) * right;
                let a = (mix(upper) * (16 - down) + mix(lower) * down + 8) >> 4;
                let b = i32::from(other[column * STRIDE]);
                let a = a >> 4;
                let sums = &mut sums[column / EACH];
                sums[0] += a;
                sums[1] += b;
                sums[2] += a * a;
                sums[3] += a * b;
                sums[4] += b * b;
            }
        }
        let n = (EACH * EACH) as i32;
        for [a, b, a2, a_b, b2] in sums {
            aa += f64::from(n * a2 - a * a);
            ab += f64::from(n * a_b - a * b);
            bb += f64::from(n * b2 - b * b);
        }
    }
    let floor = FLOOR * (EACH * EACH * SAMPLES * SAMPLES) as f64;
    ab / (aa.max(floor) * bb.max(floor)).sqrt()
}
