//! Opens files that a user names or that are found in a user's folders.
//!
//! Only regular files, or links to them, are opened: opening a named pipe waits until somebody writes to it, a device may
//! never end.

use std::fs::{self, File, FileType};
use std::io::Read;
use std::path::Path;

use crate::{DataError, Result};

/// Opens the regular file at `path` for reading.
///
/// # Errors
/// If it is anything else, does not exist or cannot be opened.
pub(crate) fn open(path: &Path) -> Result<File> {
    let found = fs::metadata(path).map_err(DataError::io("read", path))?;
    match not_regular(found.file_type()) {
        Some(problem) => Err(DataError::malformed(path, problem)),
        None => File::open(path).map_err(DataError::io("open", path)),
    }
}

/// Appends the contents of the regular file at `path` to `buffer`, up to `most` bytes.
///
/// # Errors
/// As [`open`], or if there are more bytes.
pub(crate) fn read_into(path: &Path, most: u64, buffer: &mut Vec<u8>) -> Result<()> {
    let mut file = open(path)?.take(most.saturating_add(1));
    let read = file.read_to_end(buffer).map_err(DataError::io("read", path))?;
    if read as u64 > most {
        return Err(DataError::malformed(path, format!("has more than {most} bytes, the most that is read")));
    }
    Ok(())
}

/// Says what a file is that is not a regular one.
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
