//! One image file to RGB pixels, refusing what is damaged.

use std::io::Cursor;

use image::codecs::png::PngDecoder;
use image::{ColorType, ImageDecoder, Limits};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::ImageSize;

/// Most pixels a side. A data set of larger images is no business of this program, and a header that claims more is
/// refused before anything is decoded.
pub(super) const MOST_PIXELS: usize = 1024;

/// An image whose header was read.
pub(super) enum Header<'a> {
    Jpeg(Box<JpegDecoder<ZCursor<&'a [u8]>>>, ImageSize),
    Png(Box<PngDecoder<Cursor<&'a [u8]>>>, ImageSize),
}

/// Reads the header of a JPEG or PNG file.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header<'_>, String> {
    let header = if bytes.starts_with(&[0xff, 0xd8]) {
        jpeg_header(bytes)?
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        png_header(bytes)?
    } else if bytes.is_empty() {
        return Err("is empty".into());
    } else {
        return Err("is neither a JPEG nor a PNG file".into());
    };
    let size = header.size();
    if size.height > MOST_PIXELS || size.width > MOST_PIXELS || size.bytes() == 0 {
        return Err(format!("has {size} pixels; allowed are 1 to {MOST_PIXELS} a side"));
    }
    Ok(header)
}

impl Header<'_> {
    pub(super) fn size(&self) -> ImageSize {
        match self {
            Self::Jpeg(_, size) | Self::Png(_, size) => *size,
        }
    }

    /// Decodes into `pixels`, height × width × RGB. Grey becomes RGB; transparency is dropped.
    pub(super) fn decode(self, pixels: &mut [u8]) -> Result<(), String> {
        match self {
            Self::Jpeg(mut decoder, _) => {
                decoder.decode_into(pixels).map_err(|e| format!("is damaged: {}", one_line(&e)))
            }
            Self::Png(decoder, _) => decode_png(*decoder, pixels),
        }
    }
}

fn jpeg_header(bytes: &[u8]) -> Result<Header<'_>, String> {
    // The decoder forgives missing scan data at the very end; a whole file ends with its end-of-image marker.
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    if !bytes[..end].ends_with(&[0xff, 0xd9]) {
        return Err("is truncated: the end-of-image marker is missing".into());
    }
    let options = DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| format!("is damaged: {}", one_line(&e)))?;
    let (width, height) = decoder.dimensions().ok_or("is damaged: it has no dimensions")?;
    if matches!(decoder.input_colorspace(), Some(ColorSpace::CMYK | ColorSpace::YCCK)) {
        return Err("is a CMYK image; expected RGB or grey".into());
    }
    Ok(Header::Jpeg(Box::new(decoder), ImageSize { height, width }))
}

fn png_header(bytes: &[u8]) -> Result<Header<'_>, String> {
    let mut limits = Limits::default();
    limits.max_alloc = Some((MOST_PIXELS * MOST_PIXELS * 16) as u64);
    let decoder =
        PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(|e| format!("is damaged: {}", one_line(&e)))?;
    let (width, height) = decoder.dimensions();
    Ok(Header::Png(Box::new(decoder), ImageSize { height: height as usize, width: width as usize }))
}

fn decode_png(decoder: PngDecoder<Cursor<&[u8]>>, pixels: &mut [u8]) -> Result<(), String> {
    let color = decoder.color_type();
    let channels = match color {
        ColorType::Rgb8 => {
            return decoder.read_image(pixels).map_err(|e| format!("is damaged: {}", one_line(&e)));
        }
        ColorType::L8 => 1,
        ColorType::La8 => 2,
        ColorType::Rgba8 => 4,
        other => return Err(format!("has {other:?} pixels; expected 8 bits a channel")),
    };
    let mut buffer = vec![0; pixels.len() / 3 * channels];
    decoder.read_image(&mut buffer).map_err(|e| format!("is damaged: {}", one_line(&e)))?;
    for (rgb, values) in pixels.chunks_exact_mut(3).zip(buffer.chunks_exact(channels)) {
        match values {
            [r, g, b, _] => rgb.copy_from_slice(&[*r, *g, *b]),
            [grey, ..] => rgb.fill(*grey),
            [] => {}
        }
    }
    Ok(())
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
