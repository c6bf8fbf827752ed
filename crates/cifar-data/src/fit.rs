//! Fits images of any size to the size of a data set, with the same bytes on every processor.

use std::fmt;
use std::ops::RangeInclusive;

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use crate::{DataError, ImageSize, Result};

/// Sides to which the images of a data set can be resized, in pixels.
pub const SIDES: RangeInclusive<u16> = 16..=224;

/// How an image of another size becomes one of the size that is needed.
///
/// A triangle filter as wide as a target pixel averages all pixels in it, so shrinking does not
/// alias. Smaller images are enlarged by linear interpolation. An image that has the size already
/// keeps its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Scales the centre of the image: the largest part that has the target's aspect ratio.
    #[default]
    Crop,
    /// Scales the whole image and keeps its aspect ratio. The rest is black, on both sides.
    Pad,
    /// Scales the whole image and does not keep its aspect ratio.
    Stretch,
}

/// A size for all images of a data set, and how images get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resize {
    /// The size.
    pub size: ImageSize,
    /// How images get the size.
    pub fit: Fit,
}

impl Resize {
    /// Returns a resize to `side` × `side` pixels.
    ///
    /// ```
    /// use cifar_data::{Fit, Resize};
    ///
    /// assert_eq!(Resize::square(64, Fit::Pad)?.size.to_string(), "64×64");
    /// assert!(Resize::square(225, Fit::Pad).is_err());
    /// # Ok::<(), cifar_data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// If `side` is not in [`SIDES`].
    pub fn square(side: u16, fit: Fit) -> Result<Self> {
        if !SIDES.contains(&side) {
            let allowed = format!("allowed is {} to {} pixels", SIDES.start(), SIDES.end());
            return Err(DataError::Parameter { key: "size", value: side.to_string(), allowed });
        }
        let side = usize::from(side);
        Ok(Self { size: ImageSize { height: side, width: side }, fit })
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.fit, self.size)
    }
}

impl fmt::Display for Fit {
    /// Writes what happened to an image, as before the size: `cropped to`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crop => "cropped to",
            Self::Pad => "padded to",
            Self::Stretch => "stretched to",
        })
    }
}

impl Fit {
    /// Returns an image of `from` pixels (height × width × RGB) at the size `to`; `None` if the
    /// number of bytes is wrong.
    pub(crate) fn apply(self, pixels: Vec<u8>, from: ImageSize, to: ImageSize) -> Option<Vec<u8>> {
        if from == to {
            return (pixels.len() == from.bytes()).then_some(pixels);
        }
        let image = RgbImage::from_raw(from.width as u32, from.height as u32, pixels)?;
        let (width, height) = (to.width as u32, to.height as u32);
        let scaled = match self {
            Self::Stretch => imageops::resize(&image, width, height, FilterType::Triangle),
            Self::Crop => {
                let part = inside(to, from);
                let [x, y] = margins(from, part);
                let part = imageops::crop_imm(&image, x, y, part.width as u32, part.height as u32);
                imageops::resize(&*part, width, height, FilterType::Triangle)
            }
            Self::Pad => {
                let part = inside(from, to);
                let scaled = imageops::resize(&image, part.width as u32, part.height as u32, FilterType::Triangle);
                let mut padded = RgbImage::from_pixel(width, height, Rgb([0; 3]));
                let [x, y] = margins(to, part);
                imageops::replace(&mut padded, &scaled, x.into(), y.into());
                padded
            }
        };
        Some(scaled.into_raw())
    }

    /// Returns the bytes that [`Fit::apply`] needs besides the pixels of the image, at most.
    pub(crate) fn memory(from: ImageSize, to: ImageSize) -> u64 {
        /// Four channels of 32 bits.
        const A_PIXEL: u64 = 16;
        A_PIXEL * from.width as u64 * to.height as u64 + 2 * to.bytes() as u64
    }
}

/// Returns the largest size of the shape of `shape` that fits into `frame`, at least one pixel per
/// side.
fn inside(shape: ImageSize, frame: ImageSize) -> ImageSize {
    let rounded = |a: usize, b: usize, by: usize, most: usize| {
        let product = a as u128 * b as u128;
        ((product + by as u128 / 2) / by.max(1) as u128).clamp(1, most.max(1) as u128) as usize
    };
    let (ImageSize { height, width }, ImageSize { height: most_high, width: most_wide }) = (shape, frame);
    if width as u128 * most_high as u128 >= height as u128 * most_wide as u128 {
        ImageSize { height: rounded(most_wide, height, width, most_high), width: most_wide }
    } else {
        ImageSize { height: most_high, width: rounded(most_high, width, height, most_wide) }
    }
}

/// Returns the columns left of and the rows above a part in the middle of a whole.
fn margins(whole: ImageSize, part: ImageSize) -> [u32; 2] {
    [(whole.width - part.width) / 2, (whole.height - part.height) / 2].map(|margin| margin as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    const fn size(width: usize, height: usize) -> ImageSize {
        ImageSize { height, width }
    }

    #[test]
    fn parts_have_the_shape_of_the_target() {
        let check = |shape, frame, expected| assert_eq!(inside(shape, frame), expected);
        check(size(32, 32), size(640, 480), size(480, 480));
        check(size(32, 32), size(480, 640), size(480, 480));
        check(size(640, 480), size(32, 32), size(32, 24));
        check(size(3, 10_000), size(32, 32), size(1, 32));
        check(size(32, 32), size(1, 10_000), size(1, 1));
        check(size(2, 3), size(100, 90), size(60, 90));
        assert_eq!(margins(size(640, 481), size(480, 480)), [80, 0]);
    }

    /// Four columns: black, red, green, black; two rows.
    #[test]
    fn a_wide_image_is_cropped_padded_and_stretched() {
        let row = [[0; 3], [255, 0, 0], [0, 255, 0], [0; 3]].concat();
        let pixels = [row.clone(), row].concat();
        let apply = |fit: Fit, to| fit.apply(pixels.clone(), size(4, 2), to).expect("pixels fit");
        assert_eq!(apply(Fit::Crop, size(2, 2)), [255, 0, 0, 0, 255, 0].repeat(2));
        let padded = apply(Fit::Pad, size(4, 4));
        assert_eq!(padded, [&[0; 12][..], &pixels, &[0; 12]].concat());
        // By hand: the triangle around the first of two pixels gives the four columns the weights 3,
        // 3, 1, 0 of 7 at the distances 1/4, 1/4, 3/4 and more than 1; the second mirrors it.
        assert_eq!(apply(Fit::Stretch, size(2, 1)), [109, 36, 0, 36, 109, 0]);
        for fit in [Fit::Crop, Fit::Pad, Fit::Stretch] {
            assert_eq!(apply(fit, size(4, 2)), pixels, "an image of the size keeps its pixels");
            assert_eq!(fit.apply(vec![9; 3], size(1, 1), size(3, 3)), Some(vec![9; 27]), "one colour is enlarged");
            assert_eq!(fit.apply(vec![9; 4], size(1, 1), size(1, 1)), None);
        }
    }

    /// The bytes must be the same on every processor and with every version of the filter: models
    /// and data sets depend on them.
    #[test]
    fn resized_pixels_never_change() {
        let mut random = stream(7, Purpose::Synthetic, 0, 0);
        let from = size(157, 93);
        let pixels: Vec<u8> = (0..from.bytes()).map(|_| random.bits() as u8).collect();
        let hash = |fit: Fit| {
            let fitted = fit.apply(pixels.clone(), from, size(32, 32)).expect("pixels fit");
            assert_eq!(fitted.len(), 32 * 32 * 3);
            blake3::hash(&fitted).to_hex()[..16].to_string()
        };
        let expected = ["4867a30259c222e6", "1fc841a9ce6d3370", "81231036d190c304"];
        assert_eq!([Fit::Crop, Fit::Pad, Fit::Stretch].map(hash), expected);
    }

    #[test]
    fn rules_have_words_and_names() {
        let resize = Resize::square(32, Fit::Crop).expect("an allowed size");
        assert_eq!(resize.to_string(), "cropped to 32×32");
        let names = [Fit::Crop, Fit::Pad, Fit::Stretch].map(|fit| serde_json::to_string(&fit).expect("a name"));
        assert_eq!(names, ["\"crop\"", "\"pad\"", "\"stretch\""]);
        for side in [0, 15, 225, u16::MAX] {
            let problem = Resize::square(side, Fit::Crop).expect_err("out of range").to_string();
            assert_eq!(problem, format!("size: {side} is not allowed; allowed is 16 to 224 pixels"));
        }
    }
}
