//! Decodes image files, for training data and single pictures alike.
//!
//! Pixels are upright, as the EXIF orientation says: red, green and blue with 8 bits each. Grey
//! becomes RGB, transparency is dropped, 16 bits are rounded to 8, and colour profiles are not
//! applied. A damaged file is refused; bytes after the end of the image are ignored.

mod huffman;
mod jpeg_blocks;

use std::io::Cursor;

use image::codecs::png::PngDecoder;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, Limits, RgbImage};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::{ImageSize, input};

/// Most pixels of an image: 100 megapixels.
const MAX_PIXELS: usize = 100_000_000;

/// An image whose header was read.
pub(crate) struct Header<'a> {
    decoder: Decoder<'a>,
    /// The size as stored, before rotation.
    stored: ImageSize,
    orientation: Orientation,
}

enum Decoder<'a> {
    Jpeg(Box<JpegDecoder<ZCursor<&'a [u8]>>>, &'a [u8]),
    Png(Box<PngDecoder<Cursor<&'a [u8]>>>),
}

/// Reads the header of a JPEG or PNG file with at most `most` pixels per side.
///
/// # Errors
/// If it is neither, too large or damaged. The message follows the name of the file.
pub(crate) fn read_header(bytes: &[u8], most: usize) -> Result<Header<'_>, String> {
    let header = if bytes.starts_with(input::JPEG) {
        jpeg_header(bytes)?
    } else if bytes.starts_with(input::PNG) {
        png_header(bytes)?
    } else {
        return Err(input::no_image(bytes));
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
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        let ImageSize { height, width } = self.stored;
        match self.orientation {
            Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => ImageSize { height: width, width: height },
            _ => self.stored,
        }
    }

    /// Decodes the upright image into `pixels`, height × width × RGB.
    ///
    /// # Errors
    /// If the file is damaged. The message follows the name of the file.
    pub(crate) fn decode(self, pixels: &mut [u8]) -> Result<(), String> {
        if self.orientation == Orientation::NoTransforms {
            return self.decoder.decode(pixels);
        }
        let mut stored = vec![0; self.stored.bytes()];
        self.decoder.decode(&mut stored)?;
        let image = RgbImage::from_raw(self.stored.width as u32, self.stored.height as u32, stored);
        let mut image = DynamicImage::ImageRgb8(image.ok_or("is too large")?);
        image.apply_orientation(self.orientation);
        pixels.copy_from_slice(image.as_bytes());
        Ok(())
    }
}

impl Decoder<'_> {
    fn decode(self, pixels: &mut [u8]) -> Result<(), String> {
        match self {
            Self::Jpeg(mut decoder, bytes) => {
                jpeg_blocks::check(bytes)?;
                decoder.decode_into(pixels).map_err(|e| damaged(&e))
            }
            Self::Png(decoder) => decode_png(*decoder, pixels),
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
    if matches!(decoder.input_colorspace(), Some(ColorSpace::CMYK | ColorSpace::YCCK)) {
        return Err("is a CMYK image, whose colours depend on a printer; save it as RGB or grey".into());
    }
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    Ok(Header {
        decoder: Decoder::Jpeg(Box::new(decoder), bytes),
        stored: ImageSize { height, width },
        orientation: orientation.unwrap_or(Orientation::NoTransforms),
    })
}

fn png_header(bytes: &[u8]) -> Result<Header<'_>, String> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(png_room(bytes));
    let mut decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(|e| damaged(&e))?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().map_err(|e| damaged(&e))?;
    let stored = ImageSize { height: height as usize, width: width as usize };
    Ok(Header { decoder: Decoder::Png(Box::new(decoder)), stored, orientation })
}

/// Returns the memory limit of decoding, in bytes. The header of a PNG says how many pixels it has;
/// other chunks, such as a compressed colour profile, must not take much more.
fn png_room(bytes: &[u8]) -> u64 {
    /// A pixel with four values of 16 bits, twice.
    const A_PIXEL: u64 = 16;
    const BESIDE: u64 = 4 << 20;
    let side = |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |side| u32::from_be_bytes(*side));
    let pixels = u64::from(side(16)) * u64::from(side(20));
    pixels.min(MAX_PIXELS as u64) * A_PIXEL + BESIDE
}

fn decode_png(decoder: PngDecoder<Cursor<&[u8]>>, pixels: &mut [u8]) -> Result<(), String> {
    let (channels, bytes) = match decoder.color_type() {
        ColorType::Rgb8 => return decoder.read_image(pixels).map_err(|e| damaged(&e)),
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
    decoder.read_image(&mut buffer).map_err(|e| damaged(&e))?;
    if bytes == 2 {
        // 65535 is 257 times 255.
        let rounded = |pair: &[u8]| ((u32::from(u16::from_ne_bytes([pair[0], pair[1]])) + 128) / 257) as u8;
        buffer = buffer.chunks_exact(2).map(rounded).collect();
    }
    for (rgb, values) in pixels.chunks_exact_mut(3).zip(buffer.chunks_exact(channels)) {
        match values {
            [r, g, b, ..] => rgb.copy_from_slice(&[*r, *g, *b]),
            [grey, ..] => rgb.fill(*grey),
            [] => {}
        }
    }
    Ok(())
}

fn damaged(error: &dyn std::fmt::Display) -> String {
    let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    format!("is damaged: {error}")
}
