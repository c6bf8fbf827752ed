//! Decodes the values of one column from its decompressed pages.
//!
//! The `parquet` crate reads a file's metadata and decompresses its pages. Its value decoders trust
//! that a page holds what it claims, and panic if not. So values are decoded here: PLAIN, and
//! indices into a dictionary, which are what all writers use for bytes and for few different
//! numbers.

use std::collections::VecDeque;

use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageReader};
use parquet::data_type::ByteArray;
use parquet::file::reader::RowGroupReader;

/// Most values of a page; some ten thousand are usual.
const MAX_VALUES: u32 = 1 << 22;

/// A value of one of the two columns.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Bytes(ByteArray),
    Number(i64),
}

/// The rest of a column in one row group.
pub(super) struct Column {
    pages: Box<dyn PageReader>,
    kind: Type,
    /// The definition level of a value that is not null.
    full: u32,
    dictionary: Vec<Value>,
    /// Values of the current page; `None` is null.
    ready: VecDeque<Option<Value>>,
}

impl Column {
    pub(super) fn of(group: &dyn RowGroupReader, place: usize) -> Result<Self, String> {
        let described = group.metadata().columns().get(place).ok_or("a group lacks a column")?.column_descr_ptr();
        let pages = group.get_column_page_reader(place).map_err(|e| one_line(&e))?;
        let full = u32::try_from(described.max_def_level()).unwrap_or(0);
        Ok(Self { pages, kind: described.physical_type(), full, dictionary: Vec::new(), ready: VecDeque::new() })
    }

    /// Returns the next `most` values, fewer at the end.
    pub(super) fn next(&mut self, most: usize) -> Result<Vec<Option<Value>>, String> {
        while self.ready.len() < most {
            let Some(page) = self.pages.get_next_page().map_err(|e| one_line(&e))? else { break };
            self.take(&page)?;
        }
        let count = self.ready.len().min(most);
        Ok(self.ready.drain(..count).collect())
    }

    fn take(&mut self, page: &Page) -> Result<(), String> {
        let count = page.num_values();
        if count > MAX_VALUES {
            return Err(format!("a page claims {count} values; allowed are {MAX_VALUES}"));
        }
        let count = count as usize;
        let bytes: &[u8] = page.buffer();
        // Levels come first: they say which values are null.
        let (levels, start) = match page {
            Page::DictionaryPage { .. } => {
                self.dictionary = plain(page, 0, count, self.kind).ok_or("a dictionary is cut short")?;
                return Ok(());
            }
            Page::DataPage { .. } if self.full == 0 => (None, 0),
            Page::DataPage { .. } => {
                let length = bytes.first_chunk().map(|length| u32::from_le_bytes(*length) as usize);
                let end = length.and_then(|length| length.checked_add(4)).ok_or("a page lacks its levels")?;
                let levels = bytes.get(4..end).and_then(|levels| runs(levels, self.width(), count));
                (Some(levels.ok_or("a page's levels are cut short")?), end)
            }
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
                let end = *def_levels_byte_len as usize;
                if *rep_levels_byte_len > 0 {
                    return Err("a page has lists".into());
                }
                let levels = if self.full == 0 {
                    None
                } else {
                    let levels = bytes.get(..end).and_then(|levels| runs(levels, self.width(), count));
                    Some(levels.ok_or("a page's levels are cut short")?)
                };
                (levels, end)
            }
        };
        let there = levels.as_ref().map_or(count, |levels| levels.iter().filter(|level| **level == self.full).count());
        let mut values = self.values(page, start, there)?.into_iter();
        match levels {
            None => self.ready.extend(values.map(Some)),
            Some(levels) => {
                let full = self.full;
                let value = |level| if level == full { values.next() } else { None };
                self.ready.extend(levels.into_iter().map(value));
            }
        }
        Ok(())
    }

    /// Decodes `count` values that start at byte `start` of the page.
    fn values(&self, page: &Page, start: usize, count: usize) -> Result<Vec<Value>, String> {
        if count == 0 {
            return Ok(Vec::new());
        }
        match page.encoding() {
            Encoding::PLAIN => plain(page, start, count, self.kind).ok_or_else(|| "a page is cut short".into()),
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => {
                let bytes: &[u8] = page.buffer();
                let indices = bytes.get(start..).and_then(<[u8]>::split_first);
                let indices = indices.and_then(|(width, indices)| runs(indices, u32::from(*width), count));
                let value = |index: u32| self.dictionary.get(index as usize).cloned();
                let values = indices.ok_or("a page is cut short")?.into_iter().map(value).collect::<Option<Vec<_>>>();
                values.ok_or_else(|| "a page refers to a value that its dictionary does not have".into())
            }
            other => Err(format!("values are encoded as {other}; allowed are PLAIN and RLE_DICTIONARY")),
        }
    }

    /// Returns the number of bits of a level.
    fn width(&self) -> u32 {
        u32::BITS - self.full.leading_zeros()
    }
}

/// Decodes numbers of 4 or 8 bytes, or bytes after their length; `None` if some are missing.
fn plain(page: &Page, start: usize, count: usize, kind: Type) -> Option<Vec<Value>> {
    let buffer = page.buffer();
    let mut at = start;
    let mut values = Vec::with_capacity(count.min(buffer.len()));
    for _ in 0..count {
        let rest = buffer.get(at..)?;
        let value = match kind {
            Type::INT32 => {
                at += 4;
                Value::Number(i32::from_le_bytes(*rest.first_chunk()?).into())
            }
            Type::INT64 => {
                at += 8;
                Value::Number(i64::from_le_bytes(*rest.first_chunk()?))
            }
            Type::BYTE_ARRAY => {
                let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
                let end = at.checked_add(4)?.checked_add(length)?;
                buffer.get(at + 4..end)?;
                let bytes = ByteArray::from(buffer.slice(at + 4..end));
                at = end;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        values.push(value);
    }
    Some(values)
}

/// Decodes `count` numbers of `width` bits, in runs of one number and packs of eight; `None` if
/// some are missing.
fn runs(mut input: &[u8], width: u32, count: usize) -> Option<Vec<u32>> {
    if width > 32 {
        return None;
    }
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count {
        let header = varint(&mut input)?;
        let wanted = count - numbers.len();
        let length = usize::try_from(header >> 1).ok()?;
        if header & 1 == 0 {
            let (value, rest) = input.split_at_checked(width.div_ceil(8) as usize)?;
            input = rest;
            let value = value.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
            numbers.extend(std::iter::repeat_n(value, length.min(wanted)));
            continue;
        }
        let (packs, rest) = input.split_at_checked(length.checked_mul(width as usize)?)?;
        input = rest;
        for index in 0..length.saturating_mul(8).min(wanted) {
            let bit = index * width as usize;
            // A number of up to 32 bits spans at most five bytes.
            let bytes = packs.iter().skip(bit / 8).take(5).rev();
            let word = bytes.fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
            let filled = packs.len().saturating_sub(bit / 8).min(5);
            debug_assert!(filled * 8 >= bit % 8 + width as usize || width == 0);
            numbers.push((word >> (bit % 8) & ((1 << width) - 1)) as u32);
        }
    }
    Some(numbers)
}

fn varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_packs_are_read() {
        // Three fives, then eight numbers of three bits: 0 to 7 (the format's own example).
        let input = [0x06, 0x05, 0x03, 0x88, 0xc6, 0xfa];
        assert_eq!(runs(&input, 3, 11), Some(vec![5, 5, 5, 0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(runs(&input, 3, 5), Some(vec![5, 5, 5, 0, 1]));
        assert_eq!(runs(&input, 3, 12), None);
        assert_eq!(runs(&input[..5], 3, 11), None);
        assert_eq!(runs(&[0x02, 0x34, 0x12], 16, 1), Some(vec![0x1234]));
        assert_eq!(runs(&[0x08], 0, 4), Some(vec![0; 4]));
        assert_eq!(runs(&[0x03, 1, 2, 3, 4], 32, 1), None);
        assert_eq!(runs(&[], 33, 0), None);
        assert_eq!(runs(&[0xff; 20], 1, 5), None);
    }
}
