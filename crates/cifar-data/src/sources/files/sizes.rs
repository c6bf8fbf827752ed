//! The sizes of the images of a set, for the error about images of several sizes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use super::Entry;
use crate::decode::{Budget, read_size};
use crate::{DataError, ImageSize};

/// Number of sizes that the error names.
const NAMED: usize = 5;

/// Returns the error that the images have several sizes, with the most common ones; or, if all have
/// the same, what is wrong with the `first`.
pub(super) fn error(folder: &Path, entries: &[Entry], first: (&Path, &str)) -> DataError {
    let budget = Budget::beside(0);
    let size_of = |entry: &Entry| read_size(&folder.join(&entry.file), &budget).ok();
    let found: Vec<(Option<ImageSize>, &Entry)> = entries.par_iter().map(|entry| (size_of(entry), entry)).collect();
    let mut images: BTreeMap<(usize, usize), Vec<&Entry>> = BTreeMap::new();
    for (size, entry) in found {
        if let Some(ImageSize { height, width }) = size {
            images.entry((width, height)).or_default().push(entry);
        }
    }
    if images.len() < 2 {
        return DataError::Sizes { path: first.0.to_path_buf(), problem: first.1.to_string() };
    }
    let mut sizes: Vec<_> = images.into_iter().collect();
    sizes.sort_by_key(|(_, entries)| Reverse(entries.len()));
    let in_words = |((width, height), entries): &((usize, usize), Vec<&Entry>)| match entries[..] {
        [only] => format!("{width}×{height} (1, {})", only.file),
        _ => format!("{width}×{height} ({})", entries.len()),
    };
    let mut named: Vec<String> = sizes.iter().take(NAMED).map(in_words).collect();
    if sizes.len() > NAMED {
        let rest: usize = sizes[NAMED..].iter().map(|(_, entries)| entries.len()).sum();
        named.push(format!("{} others ({rest})", sizes.len() - NAMED));
    }
    let problem = format!(
        "has images of {} sizes: {}; all must have the same size, or be resized",
        sizes.len(),
        named.join(", ")
    );
    DataError::Sizes { path: folder.to_path_buf(), problem }
}
