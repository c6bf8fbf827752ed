//! Checks the page headers of a column before anything is decompressed.
//!
//! The `parquet` crate allocates what a header claims, up to 2 GB, and trusts the content. So every
//! header is read here first: a page must be inside its column, and must not decompress to more
//! than [`MAX_PAGE`] bytes. Headers are structs of Thrift's compact protocol; two of their numbers
//! are needed, the rest is skipped.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Most bytes of a decompressed page; 1 MB is usual.
const MAX_PAGE: i64 = 32 << 20;
/// Most bytes of a page header, which may hold the smallest and the greatest value of the page.
const MAX_HEADER: u64 = 1 << 20;
/// Most levels of nested structs; a header has three.
const MAX_DEPTH: u8 = 8;

/// Checks the pages in the `length` bytes from `start` on.
pub(super) fn check(file: &mut File, start: u64, length: u64) -> io::Result<Result<(), String>> {
    let end = start.saturating_add(length);
    let mut at = start;
    while at < end {
        file.seek(SeekFrom::Start(at))?;
        let mut header = Vec::new();
        // Nearly all headers are shorter; a longer one is read again.
        for most in [512, MAX_HEADER] {
            header.clear();
            file.seek(SeekFrom::Start(at))?;
            file.by_ref().take(most.min(end - at)).read_to_end(&mut header)?;
            if sizes(&header).is_some() {
                break;
            }
        }
        let Some((used, unpacked, packed)) = sizes(&header) else {
            return Ok(Err(format!("has no readable page at byte {at}; it is cut short or damaged")));
        };
        if !(0..=MAX_PAGE).contains(&unpacked) {
            return Ok(Err(format!("has a page of {unpacked} bytes at byte {at}; allowed are 0 to {MAX_PAGE}")));
        }
        let next = u64::try_from(packed).ok().and_then(|packed| at.checked_add(used as u64)?.checked_add(packed));
        match next {
            Some(next) if next <= end => at = next,
            _ => return Ok(Err(format!("has a page at byte {at} that extends beyond its column's end, byte {end}"))),
        }
    }
    Ok(Ok(()))
}

/// Returns the length of a header, and the decompressed and compressed size of its page.
fn sizes(header: &[u8]) -> Option<(usize, i64, i64)> {
    let mut input = Compact(header);
    let (mut unpacked, mut packed, mut id) = (None, None, 0);
    loop {
        match (input.field(&mut id)?, id) {
            (STOP, _) => break,
            (I32, 2) => unpacked = Some(input.integer()?),
            (I32, 3) => packed = Some(input.integer()?),
            (kind, _) => input.skip(kind, MAX_DEPTH)?,
        }
    }
    Some((header.len() - input.0.len(), unpacked?, packed?))
}

/// Types of the compact protocol, and the end of a struct.
const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;

/// The rest of the input. Methods return `None` if it ends too early or is not understood.
struct Compact<'a>(&'a [u8]);

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn advance(&mut self, bytes: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Zigzag: 0, −1, 1, −2, …
    fn integer(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Returns the type of the next field and writes its number to `id`; or returns `STOP`.
    fn field(&mut self, id: &mut i64) -> Option<u8> {
        let byte = self.byte()?;
        if byte == STOP {
            return Some(STOP);
        }
        *id = match byte >> 4 {
            0 => self.integer()?,
            step => id.checked_add(i64::from(step))?,
        };
        let kind = byte & 0x0f;
        (kind != STOP).then_some(kind)
    }

    fn skip(&mut self, kind: u8, depth: u8) -> Option<()> {
        match kind {
            TRUE | FALSE => Some(()),
            BYTE => self.advance(1),
            I16 | I32 | I64 => self.unsigned().map(|_| ()),
            DOUBLE => self.advance(8),
            BINARY => {
                let length = self.unsigned()?;
                self.advance(length)
            }
            LIST | SET => {
                let depth = depth.checked_sub(1)?;
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.unsigned()? } else { u64::from(byte >> 4) };
                // Every element of a list takes at least a byte, so the loop ends with the input.
                (0..count).try_for_each(|_| match byte & 0x0f {
                    TRUE | FALSE => self.advance(1),
                    kind => self.skip(kind, depth),
                })
            }
            STRUCT => {
                let depth = depth.checked_sub(1)?;
                let mut id = 0;
                loop {
                    match self.field(&mut id)? {
                        STOP => return Some(()),
                        kind => self.skip(kind, depth)?,
                    }
                }
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type 0, 100 bytes decompressed, 60 compressed, and a data page header with statistics.
    const HEADER: [u8; 27] = [
        0x15, 0x00, 0x15, 0xc8, 0x01, 0x15, 0x78, 0x2c, 0x15, 0x06, 0x15, 0x00, 0x15, 0x06, 0x15, 0x06, 0x1c, 0x18,
        0x02, b'a', b'b', 0x11, 0x19, 0x08, 0x00, 0x00, 0x00,
    ];

    #[test]
    fn a_header_has_both_sizes() {
        assert_eq!(sizes(&[&HEADER[..], b"page"].concat()), Some((27, 100, 60)));
        for length in 0..HEADER.len() {
            assert_eq!(sizes(&HEADER[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn long_or_deep_headers_are_refused_quickly() {
        assert_eq!(sizes(&vec![0x1c; 100_000]), None);
        assert_eq!(sizes(&[0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x0f]), None);
        assert_eq!(sizes(&[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), None);
    }
}
