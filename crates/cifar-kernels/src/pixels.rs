//! Conversion of bytes to normalised values, optionally through a shifted and mirrored view.

use rayon::prelude::*;

use crate::error::{KernelError, Result, check_len, product};

/// Pixels that one task works on.
const PIXELS: usize = 16 * 1024;

/// Normalises pixels: `output = (pixel / 255 − mean[c]) / std[c]`.
///
/// `pixels` and `output` are `[.., channels]`; `mean` and `std` have one value per channel.
///
/// # Errors
/// If there are no pixels, a slice has the wrong length, or an element of `std` is not a finite
/// number above 0.
///
/// ```
/// let mut output = [0.0; 2];
/// cifar_kernels::normalise_pixels(&[0, 255], 1, &[0.5], &[0.25], &mut output)?;
/// assert_eq!(output, [-2.0, 2.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn normalise_pixels(pixels: &[u8], channels: usize, mean: &[f32], std: &[f32], output: &mut [f32]) -> Result<()> {
    const OP: &str = "normalise_pixels";
    product(OP, &[pixels.len(), channels])?;
    check_len(OP, "output", output, pixels.len())?;
    check_len(OP, "mean", mean, channels)?;
    check_len(OP, "std", std, channels)?;
    if !pixels.len().is_multiple_of(channels) {
        return Err(KernelError::Shape {
            op: OP,
            problem: format!("{} values are not a multiple of {channels} channels", pixels.len()),
        });
    }
    check_std(OP, std)?;
    crate::isa()?; // not used, but every kernel refuses an ISA that is not available
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

/// A shift and mirroring of an image, for augmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PixelView {
    /// Rows by which the window moves down: −height < down < height. Pixels outside are reflected.
    pub down: isize,
    /// Columns by which the window moves right: −width < right < width. Pixels outside are
    /// reflected.
    pub right: isize,
    /// Whether the window is then mirrored left to right.
    pub mirrored: bool,
}

impl PixelView {
    /// Returns the row of the image that each row of the view shows; −height < down < height.
    ///
    /// ```
    /// use cifar_kernels::PixelView;
    ///
    /// let view = PixelView { down: 1, right: -1, mirrored: true };
    /// assert_eq!(view.rows(4).collect::<Vec<_>>(), [1, 2, 3, 2]);
    /// assert_eq!(view.columns(4).collect::<Vec<_>>(), [2, 1, 0, 1]);
    /// ```
    pub fn rows(self, height: usize) -> impl Iterator<Item = usize> {
        (0..height).map(move |y| reflected(y, self.down, height))
    }

    /// Returns the column of the image that each column of the view shows; −width < right < width.
    pub fn columns(self, width: usize) -> impl Iterator<Item = usize> {
        (0..width).map(move |x| reflected(if self.mirrored { width - 1 - x } else { x }, self.right, width))
    }
}

/// Normalises images as [`normalise_pixels`], each through its own view, in one pass.
///
/// Images are `[height, width, channels]` and `output` is `[images, height, width, channels]`.
/// Pixels outside of an image are reflected at its border without repeating the border.
///
/// # Errors
/// As [`normalise_pixels`]; also if images and views differ in number, an image has the wrong
/// length, or a view moves by the height or width of the image or more.
///
/// ```
/// use cifar_kernels::{PixelView, normalise_views};
///
/// let (image, view) = ([0, 255, 0], PixelView { down: 0, right: 1, mirrored: false });
/// let mut output = [0.0; 3];
/// normalise_views(&[&image], [1, 3], 1, &[view], &[0.0], &[1.0], &mut output)?;
/// assert_eq!(output, [1.0, 0.0, 1.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
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
    crate::isa()?;
    let tables = tables(mean, std);
    let tasks = output.par_chunks_mut(image_len).zip(images.par_iter().zip(views));
    tasks.for_each(|(output, (image, view))| {
        let columns: Vec<usize> = view.columns(width).map(|x| x * channels).collect();
        for (y, output) in view.rows(height).zip(output.chunks_exact_mut(width * channels)) {
            let row = &image[y * width * channels..][..width * channels];
            for (output, column) in output.chunks_exact_mut(channels).zip(&columns) {
                for ((y, byte), table) in output.iter_mut().zip(&row[*column..]).zip(&tables) {
                    *y = table[usize::from(*byte)];
                }
            }
        }
    });
    Ok(())
}

/// Returns `at + moved`, reflected at the first and last coordinate; `|moved| < len`.
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

// A byte has 256 values: one table per channel replaces two rounded operations per pixel.
fn tables(mean: &[f32], std: &[f32]) -> Vec<[f32; 256]> {
    mean.iter().zip(std).map(|(mean, std)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std)).collect()
}
