//! Rounding to bf16 and the blocked layout.

use super::Real;

/// Returns the bf16 number nearest to `x`, the even one of two. NaN stays NaN.
pub fn bf16_rounded(x: f32) -> f64 {
    let x = f64::from(x);
    if !x.is_finite() {
        return x;
    }
    // The spacing of bf16 numbers next to x: numbers have 8 bits, and subnormal numbers have the
    // spacing of the smallest normal ones, 2⁻¹³³.
    let mut spacing = 1.0 / 2.0_f64.powi(133);
    while x.abs() >= 256.0 * spacing {
        spacing *= 2.0;
    }
    let rounded = (x / spacing).round_ties_even() * spacing;
    if rounded.abs() < 2.0_f64.powi(128) { rounded } else { f64::INFINITY.copysign(x) }
}

/// Calls `visit(NHWC index, blocked index)` for every value of images
/// `[images, height, width, channels]`.
fn for_each_value([images, height, width, channels]: [usize; 4], mut visit: impl FnMut(usize, usize)) {
    for image in 0..images {
        for pixel in 0..height * width {
            for channel in 0..channels {
                let map = image / 32 * channels.div_ceil(32) + channel / 32;
                let block = map * height * width + pixel;
                let nhwc = (image * height * width + pixel) * channels + channel;
                visit(nhwc, (block * 32 + image % 32) * 32 + channel % 32);
            }
        }
    }
}

/// Returns NHWC images in the blocked layout, filled up with 0.
pub fn blocked<R: Real>(dims: [usize; 4], images: &[R]) -> Vec<R> {
    let [n, height, width, channels] = dims;
    let mut blocked = vec![R::ZERO; n.div_ceil(32) * channels.div_ceil(32) * height * width * 1024];
    for_each_value(dims, |nhwc, at| blocked[at] = images[nhwc]);
    blocked
}

/// Returns images in the blocked layout as NHWC.
pub fn unblocked<R: Real>(dims: [usize; 4], blocked: &[R]) -> Vec<R> {
    let mut images = vec![R::ZERO; dims.iter().product()];
    for_each_value(dims, |nhwc, at| images[nhwc] = blocked[at]);
    images
}
