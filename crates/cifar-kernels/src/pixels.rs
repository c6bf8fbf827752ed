//! From bytes to normalised values.

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
    if let Some(std) = std.iter().find(|s| !(**s > 0.0 && s.is_finite())) {
        return Err(KernelError::Range {
            op: OP,
            argument: "std",
            found: std.to_string(),
            allowed: "a finite number above 0",
        });
    }
    crate::arm()?; // the same on every arm, but one that cannot be used is an error of every kernel
    // A byte has 256 values: one table a channel replaces two roundings a pixel.
    let tables: Vec<[f32; 256]> = (mean.iter().zip(std))
        .map(|(mean, std)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std))
        .collect();
    output.par_chunks_mut(PIXELS * channels).zip(pixels.par_chunks(PIXELS * channels)).for_each(|(output, pixels)| {
        for (output, pixel) in output.chunks_exact_mut(channels).zip(pixels.chunks_exact(channels)) {
            for ((y, byte), table) in output.iter_mut().zip(pixel).zip(&tables) {
                *y = table[usize::from(*byte)];
            }
        }
    });
    Ok(())
}
