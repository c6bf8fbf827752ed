//! Blocks as operands of products: filters, and in the weight gradient, whose inner dimension is
//! images, input and gradient.

use super::Bf16;
use super::blocked::{BLOCK, SIDE};

/// Numbers of a vector.
const LANES: usize = 8;

#[cfg(target_arch = "x86_64")]
type Vector = std::arch::x86_64::__m128i;
#[cfg(not(target_arch = "x86_64"))]
type Vector = [Bf16; LANES];

/// Writes a block as an operand A: the rows are its channels. 8×8 numbers are transposed at a time.
#[inline(always)]
pub(super) fn transpose(block: &[Bf16], transposed: &mut [Bf16]) {
    for image in (0..SIDE).step_by(LANES) {
        for channel in (0..SIDE).step_by(LANES) {
            let rows = std::array::from_fn(|row| load(&block[(image + row) * SIDE + channel..]));
            // Each round interleaves rows whose distance is half of their number.
            let columns = interleave_halves(interleave_halves(interleave_halves(rows)));
            for (column, values) in columns.into_iter().enumerate() {
                store(values, &mut transposed[(channel + column) * SIDE + image..]);
            }
        }
    }
}

/// Writes a block as an operand B: the rows are pairs of images, and each tile has 16 channels.
#[inline(always)]
pub(super) fn pair(block: &[Bf16], paired: &mut [Bf16]) {
    let (first, second) = paired.split_at_mut(BLOCK / 2);
    let rows = first.chunks_exact_mut(SIDE).zip(second.chunks_exact_mut(SIDE));
    for (images, (first, second)) in block.chunks_exact(2 * SIDE).zip(rows) {
        for (to, channels) in [(first, 0), (second, SIDE / 2)] {
            for part in [0, LANES] {
                let [even, odd] = [0, SIDE].map(|image| load(&images[image + channels + part..]));
                let [low, high] = interleave(even, odd);
                store(low, &mut to[2 * part..]);
                store(high, &mut to[2 * part + LANES..]);
            }
        }
    }
}

#[inline(always)]
fn interleave_halves(rows: [Vector; LANES]) -> [Vector; LANES] {
    let [a, b, c, d, e, f, g, h] = rows;
    let [[a, b], [c, d], [e, f], [g, h]] = [interleave(a, e), interleave(b, f), interleave(c, g), interleave(d, h)];
    [a, b, c, d, e, f, g, h]
}

#[inline(always)]
fn load(from: &[Bf16]) -> Vector {
    let from = &from[..LANES];
    // SAFETY: the slice has the bytes of a vector, which may have any bits.
    unsafe { from.as_ptr().cast::<Vector>().read_unaligned() }
}

#[inline(always)]
fn store(vector: Vector, to: &mut [Bf16]) {
    let to = &mut to[..LANES];
    // SAFETY: the slice has the bytes of a vector, and numbers may have any bits.
    unsafe { to.as_mut_ptr().cast::<Vector>().write_unaligned(vector) };
}

/// Returns the numbers of `a` and `b` in turn.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn interleave(a: Vector, b: Vector) -> [Vector; 2] {
    use std::arch::x86_64::{_mm_unpackhi_epi16, _mm_unpacklo_epi16};
    // SAFETY: every x86-64 processor has SSE2.
    unsafe { [_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b)] }
}

/// Returns the numbers of `a` and `b` in turn.
#[cfg(not(target_arch = "x86_64"))]
fn interleave(a: Vector, b: Vector) -> [Vector; 2] {
    [0, LANES / 2].map(|half| std::array::from_fn(|lane| [a, b][lane % 2][half + lane / 2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `order` on a block and compares the value of each image and channel.
    fn check(order: impl Fn(&[Bf16], &mut [Bf16]), place: impl Fn(usize, usize) -> usize) {
        let block: Vec<Bf16> = (0..BLOCK).map(|at| Bf16::from_bits(at as u16)).collect();
        let mut ordered = vec![Bf16::NAN; BLOCK];
        order(&block, &mut ordered);
        for image in 0..SIDE {
            for channel in 0..SIDE {
                assert_eq!(ordered[place(image, channel)], block[image * SIDE + channel], "{image}, {channel}");
            }
        }
    }

    #[test]
    fn every_number_has_its_place() {
        check(transpose, |image, channel| channel * SIDE + image);
        check(pair, |image, channel| channel / 16 * 512 + image / 2 * 32 + channel % 16 * 2 + image % 2);
    }
}
