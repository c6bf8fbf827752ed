//! Checks that WebP and GIF files are whole: their decoders accept some that end early.

use crate::input::Format;

/// Checks a whole file.
///
/// # Errors
/// If it ends before its end. The message follows the name of the file.
pub(super) fn check(format: Format, bytes: &[u8]) -> Result<(), String> {
    let whole = match format {
        Format::WebP => riff_is_whole(bytes),
        Format::Gif => gif_is_whole(bytes),
        _ => Some(()),
    };
    whole.ok_or_else(|| "is truncated".into())
}

/// Returns `Some` if a RIFF file is as long as it says.
fn riff_is_whole(bytes: &[u8]) -> Option<()> {
    let length = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    bytes.get(8..)?.get(..length as usize).map(|_| ())
}

/// Returns `Some` if all blocks of a GIF (version 89a, sections 17 to 27) and the trailer are there.
fn gif_is_whole(bytes: &[u8]) -> Option<()> {
    const COLOURS: u8 = 0x80;
    let table = |flags: u8| if flags & COLOURS == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + table(*bytes.get(10)?);
    loop {
        match bytes.get(at)? {
            // An extension: its kind, then sub-blocks.
            0x21 => at = after_sub_blocks(bytes, at + 2)?,
            // An image: its descriptor, a table of colours, the size of codes, then sub-blocks.
            0x2c => at = after_sub_blocks(bytes, at + 11 + table(*bytes.get(at + 9)?))?,
            // The trailer, or something else that the decoder judges.
            _ => return Some(()),
        }
    }
}

/// Returns the place after the sub-blocks at `at`, the last of which is empty.
fn after_sub_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}
