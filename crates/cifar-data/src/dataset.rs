//! The data set in memory: samples with their identity, and their pixels.

use std::fmt;
use std::sync::OnceLock;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Content, DataError, Result, names};

/// Colour channels of every image: red, green, blue.
pub(crate) const CHANNELS: usize = 3;

/// The identity of an image, from its file to the report: its place in the original order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SampleId(pub u32);

impl fmt::Display for SampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Height and width of every image of a set, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageSize {
    /// Bytes of one image: height × width × 3.
    pub fn bytes(self) -> usize {
        self.height * self.width * CHANNELS
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.width, self.height)
    }
}

/// The split in which the publisher of a data set put an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Published {
    /// One of the published training images.
    Train,
    /// One of the published test images.
    Test,
    /// The source knows no such split.
    None,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Test => "test",
            Self::None => "none",
        })
    }
}

/// One image's facts, without its pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its identity.
    pub id: SampleId,
    /// The label in force: an index into [`Header::classes`].
    pub label: u16,
    /// The label before any override.
    pub original_label: u16,
    /// The published split that it comes from.
    pub published: Published,
    /// Its file, relative to the source folder, with `/` between the parts.
    pub file: String,
}

/// Where the images of a set came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Folders of image files, one a class.
    ClassFolders,
    /// An official archive of CIFAR-10 or CIFAR-100.
    Archive,
    /// Parquet files in the layout of Hugging Face.
    Parquet,
    /// Drawn by this program.
    Synthetic,
}

/// Where the images of a set came from, for manifests, metrics and reports. Holds no path: results must not depend on one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The kind of source.
    pub kind: SourceKind,
    /// A few words for people, such as `class folders, 60000 images` or `SYNTHETIC, seed 0`.
    pub description: String,
}

impl Source {
    /// True for the built-in set: everything made from it must say so.
    pub fn is_synthetic(&self) -> bool {
        self.kind == SourceKind::Synthetic
    }
}

/// What all images of a set have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Class names; a label is an index into them.
    pub classes: Vec<String>,
    /// Size of every image.
    pub size: ImageSize,
    /// Where the images came from.
    pub source: Source,
}

/// Images with their labels: `samples.len()` × height × width × RGB, one byte a value.
///
/// Samples stand in ascending order of their ids, without repetition. A set may be empty (a validation set need not exist).
#[derive(Debug, Clone)]
pub struct Dataset {
    header: Header,
    samples: Vec<Sample>,
    pixels: Vec<u8>,
    /// One an image, once somebody wanted them: pixels never change, and hashing them takes longer than writing them.
    hashes: OnceLock<Vec<blake3::Hash>>,
}

impl PartialEq for Dataset {
    fn eq(&self, other: &Self) -> bool {
        (&self.header, &self.samples, &self.pixels) == (&other.header, &other.samples, &other.pixels)
    }
}

impl Eq for Dataset {}

impl Dataset {
    /// Puts a set together.
    ///
    /// # Errors
    /// If there are no classes, a class's name cannot be a file's, ids do not ascend, a label has no class or the number of pixels is wrong.
    pub fn new(header: Header, samples: Vec<Sample>, pixels: Vec<u8>) -> Result<Self> {
        let wrong = |problem: String| Err(DataError::Unsuitable(problem));
        if header.classes.is_empty() || header.classes.len() > usize::from(u16::MAX) {
            return wrong(format!("a data set has 1 to {} classes, this one {}", u16::MAX, header.classes.len()));
        }
        names::check_classes(&header.classes).map_err(DataError::Unsuitable)?;
        let expected =
            header.size.height.checked_mul(header.size.width).and_then(|n| n.checked_mul(CHANNELS * samples.len()));
        if expected != Some(pixels.len()) || (header.size.bytes() == 0) {
            return wrong(format!(
                "{} images of {} pixels do not fit {} bytes",
                samples.len(),
                header.size,
                pixels.len()
            ));
        }
        if let Some(pair) = samples.windows(2).find(|pair| pair[0].id >= pair[1].id) {
            return wrong(format!("id {} stands before id {}; ids must ascend", pair[0].id, pair[1].id));
        }
        let classes = header.classes.len();
        if let Some(sample) = samples.iter().find(|s| usize::from(s.label.max(s.original_label)) >= classes) {
            return wrong(format!(
                "image {} has label {}, but there are {classes} classes",
                sample.id,
                sample.label.max(sample.original_label)
            ));
        }
        Ok(Self { header, samples, pixels, hashes: OnceLock::new() })
    }

    /// The same with the hashes of its images, which the caller has computed on the way.
    pub(crate) fn with_hashes(mut self, hashes: Vec<blake3::Hash>) -> Self {
        debug_assert_eq!(hashes.len(), self.samples.len());
        self.hashes = OnceLock::from(hashes);
        self
    }

    /// The BLAKE3 hash of the pixels of every image, computed at the first call. Not to be called from a parallel task.
    pub(crate) fn hashes(&self) -> &[blake3::Hash] {
        self.hashes.get_or_init(|| self.pixels.par_chunks(self.header.size.bytes()).map(blake3::hash).collect())
    }

    /// What the image at `index` shows, as a short hash. Not to be called from a parallel task.
    ///
    /// # Panics
    /// If there are not so many images.
    pub fn content(&self, index: usize) -> Content {
        Content::of_hash(&self.hashes()[index])
    }

    /// Classes, image size and source.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Class names; a label is an index into them.
    pub fn classes(&self) -> &[String] {
        &self.header.classes
    }

    /// Size of every image.
    pub fn size(&self) -> ImageSize {
        self.header.size
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// True if there is no image.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// All samples, ids ascending.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// All pixels, image after image, row after row, RGB.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The pixels of the image at `index` (not id): height × width × RGB.
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`].
    pub fn image(&self, index: usize) -> &[u8] {
        let bytes = self.header.size.bytes();
        &self.pixels[index * bytes..(index + 1) * bytes]
    }

    /// Where the sample with this id stands.
    pub fn index_of(&self, id: SampleId) -> Option<usize> {
        self.samples.binary_search_by_key(&id, |s| s.id).ok()
    }

    /// Labels of all images, as indices into the classes.
    pub fn labels(&self) -> Vec<u16> {
        self.samples.iter().map(|s| s.label).collect()
    }

    /// Number of images of each class, by the label in force.
    pub fn counts_by_class(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes().len()];
        for sample in &self.samples {
            counts[usize::from(sample.label)] += 1;
        }
        counts
    }

    /// The images for which `keep` says so, in the same order.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(&Sample) -> bool) -> Self {
        let kept: Vec<usize> = (0..self.len()).filter(|index| keep(&self.samples[*index])).collect();
        let mut pixels = Vec::with_capacity(kept.len() * self.header.size.bytes());
        for index in &kept {
            pixels.extend_from_slice(self.image(*index));
        }
        let set = Self {
            header: self.header.clone(),
            samples: kept.iter().map(|index| self.samples[*index].clone()).collect(),
            pixels,
            hashes: OnceLock::new(),
        };
        match self.hashes.get() {
            Some(hashes) => set.with_hashes(kept.iter().map(|index| hashes[*index]).collect()),
            None => set,
        }
    }

    /// Sets that are parts of one, put together again: ids ascend from each to the next, and headers are the same.
    ///
    /// # Errors
    /// As [`Dataset::append`].
    pub(crate) fn joined(parts: Vec<Self>) -> Result<Option<Self>> {
        let bytes: usize = parts.iter().map(|part| part.pixels.len()).sum();
        let mut parts = parts.into_iter();
        let Some(mut all) = parts.next() else { return Ok(None) };
        // Once and for all: a growing list would be copied again and again.
        all.pixels.reserve_exact(bytes - all.pixels.len());
        for part in parts {
            all.append(part)?;
        }
        Ok(Some(all))
    }

    /// Appends `other`, whose ids must all be greater and whose header must be the same.
    ///
    /// # Errors
    /// If the headers differ or the ids overlap.
    pub fn append(&mut self, mut other: Self) -> Result<()> {
        if self.header != other.header {
            return Err(DataError::Unsuitable(format!(
                "sets of different kinds cannot be joined: {} ({} classes, {}) and {} ({} classes, {})",
                self.header.source.description,
                self.header.classes.len(),
                self.header.size,
                other.header.source.description,
                other.header.classes.len(),
                other.header.size,
            )));
        }
        if let (Some(last), Some(first)) = (self.samples.last(), other.samples.first())
            && last.id >= first.id
        {
            return Err(DataError::Unsuitable(format!(
                "id {} stands before id {}; ids must ascend",
                last.id, first.id
            )));
        }
        self.hashes = match (self.hashes.take(), other.hashes.take()) {
            (Some(ours), Some(theirs)) => OnceLock::from([ours, theirs].concat()),
            _ => OnceLock::new(),
        };
        self.samples.extend(other.samples);
        self.pixels.extend_from_slice(&other.pixels);
        Ok(())
    }

    /// Gives the images for which `new_label` has one another label; the original label stays.
    ///
    /// # Errors
    /// If a new label has no class.
    pub fn relabel(&mut self, mut new_label: impl FnMut(&Sample) -> Option<u16>) -> Result<usize> {
        let classes = self.classes().len();
        let mut changed = 0;
        for sample in &mut self.samples {
            let Some(label) = new_label(sample) else { continue };
            if usize::from(label) >= classes {
                return Err(DataError::Unsuitable(format!(
                    "image {} cannot have label {label}: there are {classes} classes",
                    sample.id
                )));
            }
            changed += usize::from(sample.label != label);
            sample.label = label;
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_called_what_a_file_may_be_called() {
        let check = |name: &str, allowed: bool| {
            let source = Source { kind: crate::SourceKind::ClassFolders, description: "test".into() };
            let header = Header { classes: vec![name.into()], size: ImageSize { height: 8, width: 8 }, source };
            assert_eq!(Dataset::new(header, Vec::new(), Vec::new()).is_ok(), allowed, "{name:?}");
        };
        for name in ["cat", "dog, wet", "日本", ".hidden", "a..b"] {
            check(name, true);
        }
        for name in
            ["", ".", "..", "../cat", "/cat", "a\\b", "a\nb", "a\0b", " cat", "cat ", "cat\u{a0}", &"a".repeat(201)]
        {
            check(name, false);
        }
    }
}
