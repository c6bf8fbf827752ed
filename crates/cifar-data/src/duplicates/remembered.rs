//! Stores the pairs of a search: searching takes a thousand times as long as reading its result.
//!
//! A result is in a folder, under a name that is a hash of the images (ids, sizes, pixels) and of
//! the sources of the search, so results of other images or another search are never used. Its
//! first line is a hash of name and pairs.

use std::fs;
use std::path::Path;

use super::list::{parse, to_csv};
use super::{Pair, find};
use crate::output::write_file;
use crate::{Dataset, Progress, Result};

/// The sources that decide which pairs are found.
const SEARCH: [&str; 11] = [
    include_str!("mod.rs"),
    include_str!("align.rs"),
    include_str!("detail.rs"),
    include_str!("grid.rs"),
    include_str!("judge.rs"),
    include_str!("lens.rs"),
    include_str!("part.rs"),
    include_str!("search.rs"),
    include_str!("sketch.rs"),
    include_str!("thumbnail.rs"),
    include_str!("zoom.rs"),
];

/// Returns what [`find`] returns. Reads it from `folder` if an earlier call with the same images
/// stored it there, and stores it otherwise.
///
/// A damaged file causes a warning and a new search. If the folder cannot be written, that is a
/// warning, too.
pub fn find_once(sets: &[&Dataset], folder: &Path, monitor: &dyn Progress) -> Result<Vec<Pair>> {
    let key = key(sets);
    let path = folder.join(format!("{key}.csv"));
    match fs::read(&path) {
        Ok(bytes) => match recall(&bytes, &key, &path) {
            Some(pairs) => return Ok(pairs),
            None => monitor.warn(&format!("{}: is damaged; the search is made again", path.display())),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => monitor.warn(&format!("{}: cannot read: {e}; the search is made again", path.display())),
    }
    let pairs = find(sets, monitor)?;
    let list = to_csv(&pairs);
    let contents = [checksum(&key, &list).as_bytes(), b"\n", &list].concat();
    if let Err(e) = write_file(&path, &contents) {
        monitor.warn(&format!("{e}; the next search takes as long again"));
    }
    Ok(pairs)
}

fn recall(bytes: &[u8], key: &str, path: &Path) -> Option<Vec<Pair>> {
    let (first, list) = bytes.split_at_checked(blake3::OUT_LEN * 2)?;
    let list = list.strip_prefix(b"\n")?;
    if first != checksum(key, list).as_bytes() {
        return None;
    }
    parse(list, path).ok()
}

/// The same for every way in which the images are divided into sets.
fn key(sets: &[&Dataset]) -> String {
    let mut hasher = blake3::Hasher::new();
    for source in SEARCH {
        hasher.update(&(source.len() as u64).to_le_bytes()).update(source.as_bytes());
    }
    for set in sets {
        for (sample, hash) in set.samples().iter().zip(set.hashes()) {
            hasher.update(&sample.id.0.to_le_bytes());
            hasher.update(&(set.size().width as u64).to_le_bytes());
            hasher.update(hash.as_bytes());
        }
    }
    hasher.finalize().to_hex()[..32].to_string()
}

fn checksum(key: &str, list: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes()).update(list);
    hasher.finalize().to_hex().to_string()
}
