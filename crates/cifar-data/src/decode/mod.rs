//! Decodes image files, for training data and single pictures alike.
//!
//! Pixels are upright, as the EXIF orientation says: red, green and blue with 8 bits each. Grey
//! becomes RGB, transparent pixels are shown over white, 16 bits are rounded to 8, and colour
//! profiles are not applied. Of an animation or a file of several pages, the first image is read. A
//! damaged file is refused; bytes after the end of the image are ignored.
//!
//! JPEG files in CMYK or YCCK store inverted inks, as Adobe's programs and all others that write such
//! files do. Red is the product of the two inverted inks cyan and black, and so on, as in Pillow.

mod budget;
mod fitted;
mod huffman;
mod jpeg_blocks;
mod whole;

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::tiff::TiffDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ExtendedColorType, ImageDecoder, ImageError, ImageResult, Limits, RgbImage};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::input::{self, Format};
use crate::{DataError, ImageSize};

pub(crate) use budget::Budget;
pub(crate) use fitted::{Found, MAX_SIDE, decode_fitted, read_fitted, read_size};

/// Most pixels of an image: 100 megapixels.
const MAX_PIXELS: usize = 100_000_000;

const CMYK: &str = "is a CMYK image, which is read from JPEG files only; save it as RGB or grey";

/// Why an image was not read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// Something is wrong with the image. The message follows the name of the file.
    Image(String),
    /// Not enough memory is left: nothing is wrong with the image.
    Memory(DataError),
}

impl From<String> for Unread {
    fn from(problem: String) -> Self {
        Self::Image(problem)
    }
}

/// An image whose header was read.
pub(crate) struct Header<'a> {
    decoder: Decoder<'a>,
    /// The size as stored, before rotation.
    stored: ImageSize,
    orientation: Orientation,
}

enum Decoder<'a> {
    Jpeg(Box<JpegDecoder<ZCursor<&'a [u8]>>>, &'a [u8]),
    Other(Box<dyn ImageDecoder + 'a>, Format, &'a [u8]),
}

/// Reads the header of an image file with at most `most` pixels per side.
///
/// # Errors
/// If it is not an image, too large or damaged. The message follows the name of the file.
pub(crate) fn read_header(bytes: &[u8], most: usize) -> Result<Header<'_>, String> {
    let header = match input::format(bytes) {
        Some(Format::Jpeg) => jpeg_header(bytes)?,
        Some(format) => other_header(bytes, format)?,
        None => return Err(input::no_image(bytes)),
    };
    let size = header.stored;
    if size.height > most || size.width > most || size.height * size.width > MAX_PIXELS || size.bytes() == 0 {
        return Err(format!("has {size} pixels; allowed are 1 to {most} a side, and {MAX_PIXELS} in all"));
    }
    Ok(header)
}

impl Header<'_> {
    /// Returns the size of the upright image.
    pub(crate) fn size(&self) -> ImageSize {
        let ImageSize { height, width } = self.stored;
        if self.is_turned() { ImageSize { height: width, width: height } } else { self.stored }
    }

    fn is_turned(&self) -> bool {
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        matches!(self.orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
    }

    /// Returns the bytes that decoding takes besides the file, at most.
    pub(crate) fn memory(&self) -> u64 {
        /// Room for tables, rows and what is smaller than one block of a JPEG.
        const BESIDE: u64 = 4 << 20;
        let pixels = self.stored.height as u64 * self.stored.width as u64;
        let of_decoder = match &self.decoder {
            // Progressive files: three or four components of 16 bits, with a mark for each block.
            Decoder::Jpeg(decoder, _) => pixels * if decoder.input_colorspace().is_some_and(is_cmyk) { 9 } else { 7 },
            Decoder::Other(decoder, format, _) => {
                let buffer = if decoder.color_type() == ColorType::Rgb8 { 0 } else { decoder.total_bytes() };
                let own = match format {
                    Format::Jpeg | Format::Png => 0,
                    Format::Bmp => pixels,
                    // One frame with four channels.
                    Format::Gif => 4 * pixels,
                    // TIFF: planes that are interleaved. WebP: a frame with four channels, and its
                    // planes.
                    Format::Tiff | Format::WebP => 8 * pixels,
                };
                buffer + own
            }
        };
        let turned = if self.orientation == Orientation::NoTransforms { 0 } else { 3 * pixels };
        3 * pixels + of_decoder + turned + BESIDE
    }

    /// Decodes the upright image into `pixels`, height × width × RGB. Returns whether some of it was
    /// transparent.
    ///
    /// # Errors
    /// If the file is damaged. The message follows the name of the file.
    pub(crate) fn decode(self, pixels: &mut [u8]) -> Result<bool, String> {
        if self.orientation == Orientation::NoTransforms {
            return self.decoder.decode(pixels);
        }
        let mut stored = vec![0; self.stored.bytes()];
        let transparent = self.decoder.decode(&mut stored)?;
        let image = RgbImage::from_raw(self.stored.width as u32, self.stored.height as u32, stored);
        let mut image = DynamicImage::ImageRgb8(image.ok_or("is too large")?);
        image.apply_orientation(self.orientation);
        pixels.copy_from_slice(image.as_bytes());
        Ok(transparent)
    }
}

impl Decoder<'_> {
    fn decode(self, pixels: &mut [u8]) -> Result<bool, String> {
        match self {
            Self::Jpeg(mut decoder, bytes) => {
                jpeg_blocks::check(bytes)?;
                decoder.decode_into(pixels).map_err(|e| damaged(&e))?;
                Ok(false)
            }
            Self::Other(decoder, format, bytes) => {
                whole::check(format, bytes)?;
                decode_other(decoder, pixels)
            }
        }
    }
}

fn jpeg_header(bytes: &[u8]) -> Result<Header<'_>, String> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    // A file that ends in its header is truncated, whatever the decoder says.
    decoder.decode_headers().map_err(|e| jpeg_blocks::check(bytes).err().unwrap_or_else(|| damaged(&e)))?;
    let (width, height) = decoder.dimensions().ok_or("is damaged: it has no dimensions")?;
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    Ok(Header {
        decoder: Decoder::Jpeg(Box::new(decoder), bytes),
        stored: ImageSize { height, width },
        orientation: orientation.unwrap_or(Orientation::NoTransforms),
    })
}

/// Returns whether a JPEG has four channels of ink.
fn is_cmyk(space: ColorSpace) -> bool {
    matches!(space, ColorSpace::CMYK | ColorSpace::YCCK)
}

fn other_header(bytes: &[u8], format: Format) -> Result<Header<'_>, String> {
    let mut decoder = opened(bytes, format).map_err(|e| refused(&e))?;
    if matches!(decoder.original_color_type(), ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16) {
        return Err(CMYK.into());
    }
    let (width, height) = decoder.dimensions();
    let stored = ImageSize { height: height as usize, width: width as usize };
    let mut limits = Limits::default();
    limits.max_alloc = Some(room(u64::from(height) * u64::from(width)));
    if format != Format::Png {
        decoder.set_limits(limits).map_err(|e| refused(&e))?;
    }
    let orientation = decoder.orientation().map_err(|e| refused(&e))?;
    Ok(Header { decoder: Decoder::Other(decoder, format, bytes), stored, orientation })
}

fn opened(bytes: &[u8], format: Format) -> ImageResult<Box<dyn ImageDecoder + '_>> {
    let file = Cursor::new(bytes);
    Ok(match format {
        Format::Bmp => Box::new(BmpDecoder::new(file)?),
        Format::Gif => Box::new(GifDecoder::new(file)?),
        Format::Tiff => Box::new(TiffDecoder::new(file)?),
        Format::WebP => Box::new(WebPDecoder::new(file)?),
        Format::Jpeg | Format::Png => {
            let mut limits = Limits::default();
            limits.max_alloc = Some(room(png_pixels(bytes)));
            Box::new(PngDecoder::with_limits(file, limits)?)
        }
    })
}

/// Returns the memory limit of a decoder for this many pixels, in bytes. Data beside the pixels,
/// such as a compressed colour profile, must not take much more.
fn room(pixels: u64) -> u64 {
    /// A pixel with four values of 16 bits, twice.
    const A_PIXEL: u64 = 16;
    const BESIDE: u64 = 4 << 20;
    pixels.min(MAX_PIXELS as u64) * A_PIXEL + BESIDE
}

/// Returns the number of pixels that the header of a PNG claims.
fn png_pixels(bytes: &[u8]) -> u64 {
    let side = |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |side| u32::from_be_bytes(*side));
    u64::from(side(16)) * u64::from(side(20))
}

/// Decodes into `pixels` as RGB, over white. Returns whether a pixel was transparent.
fn decode_other(decoder: Box<dyn ImageDecoder + '_>, pixels: &mut [u8]) -> Result<bool, String> {
    let (channels, bytes) = match decoder.color_type() {
        ColorType::Rgb8 => return decoder.read_image_boxed(pixels).map(|()| false).map_err(|e| refused(&e)),
        ColorType::L8 => (1, 1),
        ColorType::La8 => (2, 1),
        ColorType::Rgba8 => (4, 1),
        ColorType::L16 => (1, 2),
        ColorType::La16 => (2, 2),
        ColorType::Rgb16 => (3, 2),
        ColorType::Rgba16 => (4, 2),
        other => return Err(format!("has {other:?} pixels; expected 8 or 16 bits a channel")),
    };
    let mut buffer = vec![0; pixels.len() / 3 * channels * bytes];
    decoder.read_image_boxed(&mut buffer).map_err(|e| refused(&e))?;
    if bytes == 2 {
        // 65535 is 257 times 255. Rounded in place: the image may be large.
        for at in 0..buffer.len() / 2 {
            let wide = u16::from_ne_bytes([buffer[2 * at], buffer[2 * at + 1]]);
            buffer[at] = ((u32::from(wide) + 128) / 257) as u8;
        }
    }
    let mut transparent = false;
    for (rgb, values) in pixels.chunks_exact_mut(3).zip(buffer.chunks_exact(channels)) {
        let (colour, alpha) = match *values {
            [r, g, b, alpha] => ([r, g, b], alpha),
            [r, g, b] => ([r, g, b], u8::MAX),
            [grey, alpha] => ([grey; 3], alpha),
            [grey, ..] => ([grey; 3], u8::MAX),
            [] => continue,
        };
        transparent |= alpha < u8::MAX;
        rgb.copy_from_slice(&colour.map(|value| over_white(value, alpha)));
    }
    Ok(transparent)
}

/// Returns a value that is shown over white with this opacity.
fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha, white) = (u32::from(value), u32::from(alpha), u32::from(u8::MAX));
    ((value * alpha + white * (white - alpha) + white / 2) / white) as u8
}

/// Returns why a decoder refuses a file.
fn refused(error: &ImageError) -> String {
    match error {
        ImageError::Unsupported(_) => format!("is not supported: {}", one_line(error)),
        error => damaged(error),
    }
}

fn damaged(error: &dyn std::fmt::Display) -> String {
    format!("is damaged: {}", one_line(error))
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
