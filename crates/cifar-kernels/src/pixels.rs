//! From bytes to normalised values, as they are or through a moved and mirrored window.

use rayon::prelude::*;

use crate::error::{KernelError, Result, check_len, product};

/// Pixels that one task works on.
const PIXELS: usize = 16 * 1024;

/// `output = (pixel / 255 − mean[c]) / std[c]` for `pixels` [.., channels]; every std must be above 0.
pub fn normalise_pixels(pixels: &[u8], channels: usize, mean: &[f32], std: &[f32], output: &mut [f32]) -> Result<()> {
    const OP: &str = "normalise_pixels";
    product(OP, &[pixels.len(), channels])?;
    check_len(OP, "output", output, pixels.len())?;
    check_len(OP, "mean", mean, channels)?;
    check_len(OP, "std", std, channels)?;
    if !pixels.len().is_multiple_of(channels) {
        return Err(KernelError::Shape {
            op: OP,
            problem: format!("{} values are no whole pixels of {channels} channels", pixels.len()),
        });
    }
    check_std(OP, std)?;
    crate::arm()?; // the same on every arm, but one that cannot be used is an error of every kernel
    let tables = tables(mean, std);
    output.par_chunks_mut(PIXELS * channels).zip(pixels.par_chunks(PIXELS * channels)).for_each(|(output, pixels)| {
        for (output, pixel) in output.chunks_exact_mut(channels).zip(pixels.chunks_exact(channels)) {
            for ((y, byte), table) in output.iter_mut().zip(pixel).zip(&tables) {
                *y = table[usize::from(*byte)];
            }
        }
    });
    Ok(())
}

/// How an image is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PixelView {
    /// Rows that the window goes down over the image and its reflection, less than the image has in either direction.
    pub down: isize,
    /// Columns that it goes to the right, likewise.
    pub right: isize,
    /// Whether left and right are exchanged then.
    pub mirrored: bool,
}

/// [`normalise_pixels`] of images [height, width, channels], each through the view of its own, in one pass. Beyond the border
/// lies the image's reflection, without the border itself a second time. `output` is [images, height, width, channels].
///
/// # Errors
/// As [`normalise_pixels`]; if images and views differ in number, an image has another length, or a window moves by as much as
/// the image has rows or columns.
pub fn normalise_views(
    images: &[&[u8]],
    [height, width]: [usize; 2],
    channels: usize,
    views: &[PixelView],
    mean: &[f32],
    std: &[f32],
    output: &mut [f32],
) -> Result<()> {
    const OP: &str = "normalise_views";
    let all = product(OP, &[images.len(), height, width, channels])?;
    let image_len = all / images.len();
    check_len(OP, "views", views, images.len())?;
    for image in images {
        check_len(OP, "image", image, image_len)?;
    }
    check_len(OP, "output", output, all)?;
    check_len(OP, "mean", mean, channels)?;
    check_len(OP, "std", std, channels)?;
    check_std(OP, std)?;
    for (argument, moves, side) in [
        ("down", views.iter().map(|v| v.down).max_by_key(|d| d.unsigned_abs()), height),
        ("right", views.iter().map(|v| v.right).max_by_key(|d| d.unsigned_abs()), width),
    ] {
        if let Some(found) = moves.filter(|moves| moves.unsigned_abs() >= side) {
            let allowed = "fewer than the image has, in either direction";
            return Err(KernelError::Range { op: OP, argument, found: found.to_string(), allowed });
        }
    }
    crate::arm()?;
    let tables = tables(mean, std);
    let tasks = output.par_chunks_mut(image_len).zip(images.par_iter().zip(views));
    tasks.for_each(|(output, (image, view))| {
        let columns: Vec<usize> = (0..width)
            .map(|x| reflected(if view.mirrored { width - 1 - x } else { x }, view.right, width) * channels)
            .collect();
        for (y, output) in output.chunks_exact_mut(width * channels).enumerate() {
            let row = &image[reflected(y, view.down, height) * width * channels..][..width * channels];
            for (output, column) in output.chunks_exact_mut(channels).zip(&columns) {
                for ((y, byte), table) in output.iter_mut().zip(&row[*column..]).zip(&tables) {
                    *y = table[usize::from(*byte)];
                }
            }
        }
    });
    Ok(())
}

/// The coordinate `moved` on from `at`, turned back at the first and the last one; `moved` is less than `len` in size.
fn reflected(at: usize, moved: isize, len: usize) -> usize {
    let (to, last) = (at as isize + moved, len as isize - 1);
    (if to > last { 2 * last - to } else { to.abs() }) as usize
}

fn check_std(op: &'static str, std: &[f32]) -> Result<()> {
    match std.iter().find(|s| !(**s > 0.0 && s.is_finite())) {
        None => Ok(()),
        Some(std) => {
            Err(KernelError::Range { op, argument: "std", found: std.to_string(), allowed: "a finite number above 0" })
        }
    }
}

/// A byte has 256 values: one table a channel replaces two roundings a pixel.
fn tables(mean: &[f32], std: &[f32]) -> Vec<[f32; 256]> {
    mean.iter().zip(std).map(|(mean, std)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std)).collect()
}
