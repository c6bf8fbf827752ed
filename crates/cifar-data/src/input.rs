//! Opens files that a user names or that are in a user's folders.
//!
//! Only regular files and links to them are opened: opening a named pipe would wait for a writer,
//! and a device may never end.

use std::fs::{self, File, FileType, Metadata};
use std::io::Read;
use std::path::Path;

use crate::names::shown;
use crate::{DataError, Result};

/// Opens the regular file at `path` for reading.
///
/// # Errors
/// If it is not a regular file, does not exist or cannot be opened.
pub(crate) fn open(path: &Path) -> Result<File> {
    let found = metadata(path)?;
    match not_regular(found.file_type()) {
        Some(problem) => Err(DataError::malformed(path, problem)),
        None => File::open(path).map_err(DataError::io("open", path)),
    }
}

/// Returns the metadata of `path`, following links.
///
/// # Errors
/// If it does not exist or cannot be reached. For a dangling link, for example to a disk that is
/// not mounted, the error has the target.
pub(crate) fn metadata(path: &Path) -> Result<Metadata> {
    fs::metadata(path).map_err(|e| match fs::read_link(path) {
        Ok(target) => {
            let problem = format!("cannot follow the link to {}: {e}", shown(&target));
            DataError::malformed(path, problem)
        }
        Err(_) => DataError::io("read", path)(e),
    })
}

/// Appends the content of the regular file at `path` to `buffer`, up to `most` bytes.
///
/// # Errors
/// As [`open`], or if the file has more bytes.
pub(crate) fn read_into(path: &Path, most: u64, buffer: &mut Vec<u8>) -> Result<()> {
    let mut file = open(path)?.take(most.saturating_add(1));
    let read = file.read_to_end(buffer).map_err(DataError::io("read", path))?;
    if read as u64 > most {
        return Err(DataError::malformed(path, format!("has more than {most} bytes, the most that is read")));
    }
    Ok(())
}

/// Replaces `buffer` with the image file at `path`. Stops reading after the first bytes if they are
/// not those of an image.
///
/// # Errors
/// As [`read_into`], or if the file is not an image.
pub(crate) fn read_image(path: &Path, most: u64, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    let mut file = open(path)?;
    file.by_ref().take(HEAD).read_to_end(buffer).map_err(DataError::io("read", path))?;
    if !is_image(buffer) {
        return Err(DataError::image(path, no_image(buffer)));
    }
    let read = file.take(most.saturating_add(1)).read_to_end(buffer).map_err(DataError::io("read", path))?;
    if read as u64 > most {
        return Err(DataError::image(path, format!("has more than {most} bytes, the most that is read")));
    }
    Ok(())
}

/// Returns the first bytes of the regular file at `path`, which show its kind.
///
/// # Errors
/// As [`read_start`].
pub(crate) fn head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    read_start(path, HEAD, &mut head)?;
    Ok(head)
}

/// Replaces `buffer` with at most the first `most` bytes of the regular file at `path`.
///
/// # Errors
/// As [`open`], or if the file cannot be read.
pub(crate) fn read_start(path: &Path, most: u64, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    open(path)?.take(most).read_to_end(buffer).map_err(DataError::io("read", path))?;
    Ok(())
}

/// Bytes that show the kind of a file: the name of the `tar` format is at byte 257.
const HEAD: u64 = 512;
const JPEG: &[u8] = &[0xff, 0xd8];
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const GZIP: &[u8] = &[0x1f, 0x8b];

/// The formats of images that can be decoded, for messages.
pub(crate) const FORMATS: &str = "JPEG, PNG, WebP, BMP, GIF or TIFF";

/// A format of images that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Jpeg,
    Png,
    WebP,
    Bmp,
    Gif,
    Tiff,
}

/// Returns the format of a file, by its first bytes. Its name does not matter.
pub(crate) fn format(head: &[u8]) -> Option<Format> {
    const STARTS: [(&[u8], Format); 8] = [
        (JPEG, Format::Jpeg),
        (PNG, Format::Png),
        (b"GIF87a", Format::Gif),
        (b"GIF89a", Format::Gif),
        (b"II*\0", Format::Tiff),
        (b"MM\0*", Format::Tiff),
        // With offsets of 64 bits.
        (b"II+\0", Format::Tiff),
        (b"MM\0+", Format::Tiff),
    ];
    let found = STARTS.iter().find(|(start, _)| head.starts_with(start)).map(|(_, format)| *format);
    found.or_else(|| match (head.get(..4)?, head.get(8..12)?) {
        (b"RIFF", b"WEBP") => Some(Format::WebP),
        // A text may start with these two letters: the length of the second header has few values.
        ([b'B', b'M', ..], _) if matches!(head.get(14..18)?, [12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]) => {
            Some(Format::Bmp)
        }
        _ => None,
    })
}

/// Returns whether a file with these first bytes is an image that can be decoded.
pub(crate) fn is_image(head: &[u8]) -> bool {
    format(head).is_some()
}

/// Returns whether a file with these first bytes is gzip-compressed.
pub(crate) fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(GZIP)
}

/// Returns whether a file with these first bytes is an uncompressed `tar` file.
pub(crate) fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// Says what is wrong with a file with these first bytes that should be an image.
pub(crate) fn no_image(head: &[u8]) -> String {
    match kind(head) {
        _ if head.is_empty() => "is empty".into(),
        Some(kind) => format!("is not an image ({FORMATS}) but {kind}"),
        None => format!("is not an image ({FORMATS})"),
    }
}

/// Returns the kind of a file, by its first bytes.
pub(crate) fn kind(head: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 7] = [
        (b"version https://git-lfs", "a Git LFS pointer, not the data; run `git lfs pull`"),
        (b"PK\x03\x04", "a ZIP archive; unpack it"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
        (GZIP, "a gzip file"),
        (b"PAR1", "a parquet file"),
        (b"%PDF", "a PDF document"),
        (b"<!", "a web page"),
    ];
    if let Some(format) = format(head) {
        return Some(match format {
            Format::Jpeg => "a JPEG image",
            Format::Png => "a PNG image",
            Format::WebP => "a WebP image",
            Format::Bmp => "a BMP image",
            Format::Gif => "a GIF image",
            Format::Tiff => "a TIFF image",
        });
    }
    let kind = KINDS.iter().find(|(start, _)| head.starts_with(start)).map(|(_, kind)| *kind);
    kind.or_else(|| match (head.get(4..8), head.get(8..12)) {
        (Some(b"ftyp"), Some(b"avif")) => Some("an AVIF image"),
        (Some(b"ftyp"), Some([b'h', b'e', ..] | b"mif1")) => Some("a HEIC image"),
        _ => None,
    })
}

/// Says what a file is that is not regular.
pub(crate) fn not_regular(kind: FileType) -> Option<&'static str> {
    if kind.is_file() {
        return None;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if kind.is_fifo() {
            return Some("is a named pipe; expected a regular file");
        }
        if kind.is_socket() {
            return Some("is a socket; expected a regular file");
        }
        if kind.is_block_device() || kind.is_char_device() {
            return Some("is a device; expected a regular file");
        }
    }
    Some(if kind.is_dir() { "is a folder; expected a regular file" } else { "is not a regular file" })
}
