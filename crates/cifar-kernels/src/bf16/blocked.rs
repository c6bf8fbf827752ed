//! The blocked layout of images in bf16:
//! `[images / 32, channels / 32, height, width, 32 images, 32 channels]`, rounded up.
//!
//! A block has one pixel of 32 images and 32 channels: 2 KiB, the rows of which are images. The
//! rows of a matrix product are therefore never pixels, so that every pixel has exactly its own
//! taps, and no image needs a border of zeros.

use rayon::prelude::*;

use super::Bf16;
use crate::Conv2dShape;
use crate::error::{Result, check_len, product};
use crate::isa::{isa, vectorised};

/// Images and channels of a block.
pub(super) const SIDE: usize = 32;
/// Values of a block.
pub(super) const BLOCK: usize = SIDE * SIDE;

/// Images of a task of [`from_blocked`], a part of [`SIDE`].
const IMAGES: usize = 8;

/// The dimensions of images in the blocked layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockedShape {
    pub(super) images: usize,
    pub(super) pixels: usize,
    pub(super) channels: usize,
}

impl BlockedShape {
    /// Checks the dimensions `[images, height, width, channels]`.
    ///
    /// # Errors
    /// If a dimension is 0, or the number of values overflows.
    pub fn new([images, height, width, channels]: [usize; 4]) -> Result<Self> {
        const OP: &str = "blocked";
        product(OP, &[images, height, width, channels])?;
        let shape = Self { images, pixels: height * width, channels };
        product(OP, &[shape.groups(), SIDE, shape.pixels, shape.blocks(), SIDE])?;
        Ok(shape)
    }

    /// Returns the shape of a convolution's input.
    ///
    /// # Errors
    /// If the number of values overflows.
    pub fn of_input(shape: &Conv2dShape) -> Result<Self> {
        Self::new([shape.batch, shape.in_height, shape.in_width, shape.in_channels])
    }

    /// Returns the shape of a convolution's output.
    ///
    /// # Errors
    /// If the number of values overflows.
    pub fn of_output(shape: &Conv2dShape) -> Result<Self> {
        Self::new([shape.batch, shape.out_height, shape.out_width, shape.out_channels])
    }

    /// Returns the number of values, with those that fill up blocks.
    #[expect(clippy::len_without_is_empty, reason = "no dimension is 0")]
    pub fn len(&self) -> usize {
        self.groups() * self.group_len()
    }

    /// Returns the number of values of the images alone, as in NHWC.
    pub fn nhwc_len(&self) -> usize {
        self.images * self.pixels * self.channels
    }

    /// Returns the number of groups of 32 images.
    pub(super) fn groups(&self) -> usize {
        self.images.div_ceil(SIDE)
    }

    /// Returns the number of blocks of 32 channels.
    pub(super) fn blocks(&self) -> usize {
        self.channels.div_ceil(SIDE)
    }

    /// Returns the images in `group` and the channels in `block`, at most 32.
    pub(super) fn filled(&self, group: usize, block: usize) -> [usize; 2] {
        [(self.images - group * SIDE).min(SIDE), (self.channels - block * SIDE).min(SIDE)]
    }

    /// Returns the number of values of a group.
    pub(super) fn group_len(&self) -> usize {
        self.blocks() * self.pixels * BLOCK
    }

    /// Returns the shape of the images from `group` on.
    pub(super) fn starting_at(&self, group: usize) -> Self {
        Self { images: self.images - group * SIDE, ..*self }
    }

    /// Returns the position of the first of 32 channels of a pixel in an NHWC array.
    fn nhwc(&self, image: usize, pixel: usize, block: usize) -> usize {
        (image * self.pixels + pixel) * self.channels + block * SIDE
    }
}

/// Converts NHWC images to the blocked layout, rounded to bf16.
///
/// `images` is `[images, height, width, channels]`. Values of `blocked` beyond the last image and
/// the last channel become 0.
///
/// # Errors
/// If a slice has the wrong length.
///
/// ```
/// use cifar_kernels::bf16::{Bf16, BlockedShape, from_blocked, to_blocked};
///
/// let shape = BlockedShape::new([1, 1, 2, 3])?;
/// let mut blocked = vec![Bf16::ZERO; shape.len()];
/// to_blocked(&shape, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut blocked)?;
/// // The second pixel starts 32 · 32 values after the first.
/// assert_eq!((blocked.len(), blocked[1024].to_f32()), (2048, 4.0));
///
/// let mut images = [0.0; 6];
/// from_blocked(&shape, &blocked, &mut images)?;
/// assert_eq!(images, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn to_blocked(shape: &BlockedShape, images: &[f32], blocked: &mut [Bf16]) -> Result<()> {
    const OP: &str = "to_blocked";
    check_len(OP, "images", images, shape.nhwc_len())?;
    check_len(OP, "blocked", blocked, shape.len())?;
    let isa = isa()?;
    blocked.par_chunks_mut(shape.pixels * BLOCK).enumerate().for_each(|(task, map)| {
        let (group, block) = (task / shape.blocks(), task % shape.blocks());
        let [rows, channels] = shape.filled(group, block);
        vectorised(
            isa,
            #[inline(always)]
            || {
                for (pixel, values) in map.chunks_exact_mut(BLOCK).enumerate() {
                    for (row, to) in values.chunks_exact_mut(SIDE).enumerate() {
                        let at = shape.nhwc(group * SIDE + row, pixel, block);
                        let from = if row < rows { &images[at..at + channels] } else { &[] };
                        for (to, from) in to.iter_mut().zip(from) {
                            *to = Bf16::from_f32(*from);
                        }
                        to[from.len()..].fill(Bf16::ZERO);
                    }
                }
            },
        );
    });
    Ok(())
}

/// Converts images from the blocked layout to NHWC, without rounding.
///
/// # Errors
/// If a slice has the wrong length.
pub fn from_blocked(shape: &BlockedShape, blocked: &[Bf16], images: &mut [f32]) -> Result<()> {
    const OP: &str = "from_blocked";
    check_len(OP, "blocked", blocked, shape.len())?;
    check_len(OP, "images", images, shape.nhwc_len())?;
    let isa = isa()?;
    // The rows of some images follow each other in a block.
    let (image, channels) = (shape.pixels * shape.channels, shape.channels);
    images.par_chunks_mut(IMAGES * image).enumerate().for_each(|(task, images)| {
        let (group, row) = (task * IMAGES / SIDE, task * IMAGES % SIDE);
        vectorised(
            isa,
            #[inline(always)]
            || {
                for (at, block) in (group * shape.blocks()..(group + 1) * shape.blocks()).enumerate() {
                    let used = at * SIDE..channels.min((at + 1) * SIDE);
                    for pixel in 0..shape.pixels {
                        let rows = &blocked[(block * shape.pixels + pixel) * BLOCK + row * SIDE..];
                        for (from, image) in rows.chunks_exact(SIDE).zip(images.chunks_exact_mut(image)) {
                            let to = &mut image[pixel * channels..(pixel + 1) * channels][used.clone()];
                            for (to, from) in to.iter_mut().zip(from) {
                                *to = from.to_f32();
                            }
                        }
                    }
                }
            },
        );
    });
    Ok(())
}
