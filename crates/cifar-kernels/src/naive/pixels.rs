use super::Real;
use crate::PixelView;

/// Returns images `[height, width, channels]`, each through its view: (byte / 255 − mean) / std.
pub fn normalise_views<R: Real>(
    images: &[&[u8]],
    [height, width]: [usize; 2],
    channels: usize,
    views: &[PixelView],
    mean: &[R],
    std: &[R],
) -> Vec<R> {
    let mut output = Vec::new();
    for (image, view) in images.iter().zip(views) {
        for y in 0..height {
            for x in 0..width {
                let x = if view.mirrored { width - 1 - x } else { x };
                let (row, column) = (turned_back(y, view.down, height), turned_back(x, view.right, width));
                for c in 0..channels {
                    let byte = image[(row * width + column) * channels + c];
                    output.push((R::from_f64(f64::from(byte)) / R::from_f64(255.0) - mean[c]) / std[c]);
                }
            }
        }
    }
    output
}

/// Moves `at` step by step and reverses direction at the first and last coordinate.
fn turned_back(at: usize, moved: isize, len: usize) -> usize {
    let (mut at, mut direction) = (at, moved.signum());
    for _ in 0..moved.unsigned_abs() {
        if (direction < 0 && at == 0) || (direction > 0 && at + 1 == len) {
            direction = -direction;
        }
        at = at.wrapping_add_signed(direction);
    }
    at
}
