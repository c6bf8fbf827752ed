//! The content of an image as a short hash, and an index of images by content.
//!
//! An id is a position in the order of files, so adding or removing a file changes which image it
//! means. Everything that people write about images by id has the content beside it, so that it is
//! never applied to another image.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Dataset, Result, Sample, SampleId, partitions, store};

/// The first 64 bits of the BLAKE3 hash of an image's pixels; exact duplicates have the same.
///
/// Written as `b3:` and 16 hexadecimal digits; the prefix keeps spreadsheets from reading the
/// digits as a number. Parsing also accepts digits without `b3:`, and more digits, as in the column
/// `blake3` of manifest.csv.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Content(u64);

const DIGITS: usize = 16;

impl Content {
    /// Returns the content of an image, from its pixels.
    pub fn of(pixels: &[u8]) -> Self {
        Self::of_hash(&blake3::hash(pixels))
    }

    pub(crate) fn of_hash(hash: &blake3::Hash) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b3:{:0DIGITS$x}", self.0)
    }
}

impl From<Content> for String {
    fn from(content: Content) -> Self {
        content.to_string()
    }
}

impl TryFrom<String> for Content {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Content {
    type Err = String;

    /// # Errors
    /// If the text is not a hash: what is wrong with it.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("b3:").unwrap_or(text);
        let is_hash = (DIGITS..=64).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let value = is_hash.then(|| u64::from_str_radix(&digits[..DIGITS], 16).ok()).flatten();
        value.map(Self).ok_or_else(|| {
            format!(
                "content {text:?} is not the hash of an image; expected b3: and {DIGITS} hexadecimal digits, or nothing"
            )
        })
    }
}

/// An image of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The image's content.
    pub content: Content,
    /// The image's file, as in the manifest.
    pub file: String,
}

/// The images of all partitions, by id and by content.
#[derive(Debug, Clone, Default)]
pub struct ImageIndex {
    images: BTreeMap<SampleId, Known>,
    /// Ids ascending.
    by_content: HashMap<Content, Vec<SampleId>>,
}

fn known(set: &Dataset) -> impl Iterator<Item = (SampleId, Known)> {
    let known = move |(index, sample): (usize, &Sample)| {
        (sample.id, Known { content: set.content(index), file: sample.file.clone() })
    };
    set.samples().iter().enumerate().map(known)
}

impl ImageIndex {
    /// Indexes the images of several sets.
    pub fn of<'a>(sets: impl IntoIterator<Item = &'a Dataset>) -> Self {
        Self::from_images(sets.into_iter().flat_map(known))
    }

    /// Indexes the partitions in `folder`. Reads and checks them as a whole.
    ///
    /// # Errors
    /// If a partition is missing or damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut images = Vec::new();
        for partition in partitions::known(folder)? {
            images.extend(known(&store::read(&partitions::existing(folder, partition)?)?));
        }
        Ok(Self::from_images(images))
    }

    pub(crate) fn from_images(images: impl IntoIterator<Item = (SampleId, Known)>) -> Self {
        let images: BTreeMap<SampleId, Known> = images.into_iter().collect();
        let mut by_content: HashMap<Content, Vec<SampleId>> = HashMap::new();
        for (id, known) in &images {
            by_content.entry(known.content).or_default().push(*id);
        }
        Self { images, by_content }
    }

    /// Returns the image with an id.
    pub fn get(&self, id: SampleId) -> Option<&Known> {
        self.images.get(&id)
    }

    /// Returns the ids of the images with a content, ascending. Several ids are exact duplicates.
    pub fn with_content(&self, content: Content) -> &[SampleId] {
        self.by_content.get(&content).map_or(&[], Vec::as_slice)
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Returns whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_formatted_and_parsed() {
        let content = Content::of(&[1, 2, 3]);
        let text = content.to_string();
        assert_eq!((text.len(), &text[..3]), (19, "b3:"));
        let long = store::image_hash(&[1, 2, 3]);
        assert_eq!(long[..16], text[3..]);
        for same in [text.as_str(), &text[3..], &long, &text.to_uppercase().replace("B3:", "b3:")] {
            assert_eq!(same.parse(), Ok(content), "{same}");
        }
        for wrong in ["", "b3:", "b3:123", "1.23E+15", "0123456789abcdeg", "b3:0123456789abcde"] {
            assert!(wrong.parse::<Content>().unwrap_err().contains("is not the hash of an image"), "{wrong}");
        }
        assert_eq!(Content(7).to_string(), "b3:0000000000000007");
    }
}
