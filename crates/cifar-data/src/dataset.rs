//! Data sets in memory: samples with their ids and labels, and their pixels.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::size::{CHANNELS, ImageSize};
use crate::{Content, DataError, Result, Source, SourceKind, names};

/// The id of an image: its position in the original order. It is the same in every file and report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SampleId(pub u32);

impl fmt::Display for SampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The split that the publisher of a data set put an image in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Published {
    /// One of the published training images.
    Train,
    /// One of the published test images.
    Test,
    /// The source has no such split.
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

/// An image without its pixels: its id, labels and origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The id.
    pub id: SampleId,
    /// The current label: an index into [`Header::classes`].
    pub label: u16,
    /// The label before any override.
    pub original_label: u16,
    /// The published split.
    pub published: Published,
    /// The file, relative to the source folder, with `/` between the parts.
    pub file: String,
}

/// The properties that all images of a set share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Class names. A label is an index into them.
    pub classes: Vec<String>,
    /// The size of every image.
    pub size: ImageSize,
    /// The source of the images.
    pub source: Source,
}

/// Images with their labels: `samples.len()` × height × width × RGB, one byte per value.
///
/// Samples are in ascending order of their ids, without repetition. A set may be empty, for example
/// a validation set.
#[derive(Debug, Clone)]
pub struct Dataset {
    header: Header,
    samples: Vec<Sample>,
    pixels: Vec<u8>,
    /// One hash per image, computed on first use: pixels never change, and hashing them takes
    /// longer than writing them.
    hashes: OnceLock<Vec<blake3::Hash>>,
}

impl PartialEq for Dataset {
    fn eq(&self, other: &Self) -> bool {
        (&self.header, &self.samples, &self.pixels) == (&other.header, &other.samples, &other.pixels)
    }
}

impl Eq for Dataset {}

impl Dataset {
    /// Creates a set.
    ///
    /// # Errors
    /// If there are no classes, a class name cannot be a file name, ids do not ascend, a label has
    /// no class or the number of pixels is wrong.
    pub fn new(header: Header, samples: Vec<Sample>, pixels: Vec<u8>) -> Result<Self> {
        let wrong = |problem: String| Err(DataError::Unsuitable(problem));
        if header.classes.is_empty() || header.classes.len() > usize::from(u16::MAX) {
            return wrong(format!("a data set has 1 to {} classes, this one has {}", u16::MAX, header.classes.len()));
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
            return wrong(format!("id {} comes before id {}; ids must ascend", pair[0].id, pair[1].id));
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

    /// Creates a set from arrays: pixels (N × height × width × RGB) and the N labels, which are
    /// indices into `classes`. Ids count from 0.
    ///
    /// ```
    /// use cifar_data::{Dataset, ImageSize};
    ///
    /// let (size, pixels) = (ImageSize { height: 8, width: 8 }, [vec![0; 192], vec![255; 192]].concat());
    /// let images = Dataset::from_arrays(&["black", "white"], size, &[0, 1], pixels)?;
    /// assert_eq!((images.len(), images.labels()), (2, vec![0, 1]));
    /// assert!(Dataset::from_arrays(&["black"], size, &[0, 1], vec![0; 384]).is_err(), "label 1 has no class");
    /// # Ok::<(), cifar_data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Dataset::new`].
    pub fn from_arrays(classes: &[&str], size: ImageSize, labels: &[u16], pixels: Vec<u8>) -> Result<Self> {
        let source = Source::new(SourceKind::Arrays, format!("arrays, {} images", labels.len()));
        let header = Header { classes: classes.iter().map(|c| (*c).to_string()).collect(), size, source };
        let sample = |(id, label): (u32, &u16)| Sample {
            id: SampleId(id),
            label: *label,
            original_label: *label,
            published: Published::None,
            file: format!("array[{id}]"),
        };
        Self::new(header, (0..).zip(labels).map(sample).collect(), pixels)
    }

    /// Returns the set with ids from `first` on, so that it can be used beside sets with other ids.
    ///
    /// ```
    /// use cifar_data::sources::synthetic::{self, SyntheticParams};
    ///
    /// let images = synthetic::generate(&SyntheticParams { count: 30, ..Default::default() })?.dataset;
    /// let images = images.numbered_from(50_000)?;
    /// assert_eq!(images.samples()[29].id.0, 50_029);
    /// # Ok::<(), cifar_data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// If an id does not fit 32 bits.
    pub fn numbered_from(mut self, first: u32) -> Result<Self> {
        if u32::try_from(self.len()).ok().and_then(|n| first.checked_add(n)).is_none() {
            let problem = format!("{} ids from {first} on do not fit 32 bits; begin with a smaller one", self.len());
            return Err(DataError::Unsuitable(problem));
        }
        for (id, sample) in (first..).zip(&mut self.samples) {
            sample.id = SampleId(id);
        }
        Ok(self)
    }

    /// Returns the set with the labels as indices into `classes`, found by the names of its classes.
    ///
    /// # Errors
    /// If one of its classes that has images is not among `classes`.
    pub fn with_classes(mut self, classes: &[String]) -> Result<Self> {
        if self.header.classes == classes {
            return Ok(self);
        }
        let mut used = vec![false; self.header.classes.len()];
        for sample in &self.samples {
            used[usize::from(sample.label)] = true;
            used[usize::from(sample.original_label)] = true;
        }
        let place = |class: &String| classes.iter().position(|other| other == class);
        let places: Vec<Option<usize>> = self.header.classes.iter().map(place).collect();
        let unknown = self.header.classes.iter().zip(used.iter().zip(&places));
        let unknown: Vec<String> = unknown
            .filter(|(_, (is_used, place))| **is_used && place.is_none())
            .map(|(class, _)| class.clone())
            .collect();
        if !unknown.is_empty() {
            let plural = if unknown.len() == 1 { "is not a class" } else { "are not classes" };
            let (unknown, classes) = (names::listed(&unknown), names::listed(classes));
            return Err(DataError::Unsuitable(format!("{unknown} {plural} of this set; its classes are {classes}")));
        }
        let moved = |label: u16| places[usize::from(label)].unwrap_or_default() as u16;
        for sample in &mut self.samples {
            (sample.label, sample.original_label) = (moved(sample.label), moved(sample.original_label));
        }
        self.header.classes = classes.to_vec();
        Ok(self)
    }

    /// Returns the set with another source.
    #[must_use]
    pub(crate) fn with_source(mut self, source: Source) -> Self {
        self.header.source = source;
        self
    }

    /// Returns the images at some positions.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        let mut index = 0;
        self.filter(|_| {
            index += 1;
            range.contains(&(index - 1))
        })
    }

    /// Returns the set with the hashes of its images, which the caller has already computed.
    pub(crate) fn with_hashes(mut self, hashes: Vec<blake3::Hash>) -> Self {
        debug_assert_eq!(hashes.len(), self.samples.len());
        self.hashes = OnceLock::from(hashes);
        self
    }

    /// Returns the BLAKE3 hash of every image's pixels, computed on the first call. Must not be
    /// called from a parallel task.
    pub(crate) fn hashes(&self) -> &[blake3::Hash] {
        self.hashes.get_or_init(|| self.pixels.par_chunks(self.header.size.bytes()).map(blake3::hash).collect())
    }

    /// Returns the content of the image at `index`, a short hash. Must not be called from a
    /// parallel task.
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`].
    pub fn content(&self, index: usize) -> Content {
        Content::of_hash(&self.hashes()[index])
    }

    /// Returns the classes, image size and source.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the class names. A label is an index into them.
    pub fn classes(&self) -> &[String] {
        &self.header.classes
    }

    /// Returns the size of every image.
    pub fn size(&self) -> ImageSize {
        self.header.size
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Returns all samples, ids ascending.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Returns all pixels: image by image, row by row, RGB.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Returns the pixels of the image at `index` (not id): height × width × RGB.
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`].
    pub fn image(&self, index: usize) -> &[u8] {
        let bytes = self.header.size.bytes();
        &self.pixels[index * bytes..(index + 1) * bytes]
    }

    /// Returns the index of the sample with this id.
    pub fn index_of(&self, id: SampleId) -> Option<usize> {
        self.samples.binary_search_by_key(&id, |s| s.id).ok()
    }

    /// Returns the labels of all images, as indices into the classes.
    pub fn labels(&self) -> Vec<u16> {
        self.samples.iter().map(|s| s.label).collect()
    }

    /// Returns the number of images of each class, by their current labels.
    pub fn counts_by_class(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes().len()];
        for sample in &self.samples {
            counts[usize::from(sample.label)] += 1;
        }
        counts
    }

    /// Returns the images for which `keep` returns true, in the same order.
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

    /// Joins sets with equal headers whose ids ascend from each set to the next. None if there are
    /// no sets.
    ///
    /// # Errors
    /// As [`Dataset::append`].
    pub(crate) fn joined(parts: Vec<Self>) -> Result<Option<Self>> {
        let bytes: usize = parts.iter().map(|part| part.pixels.len()).sum();
        let mut parts = parts.into_iter();
        let Some(mut all) = parts.next() else { return Ok(None) };
        // Reserved once: a growing list would be copied repeatedly.
        all.pixels.reserve_exact(bytes - all.pixels.len());
        for part in parts {
            all.append(part)?;
        }
        Ok(Some(all))
    }

    /// Appends `other`. Its header must be equal, and all its ids must be greater.
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
            return Err(DataError::Unsuitable(format!("id {} comes before id {}; ids must ascend", last.id, first.id)));
        }
        self.hashes = match (self.hashes.take(), other.hashes.take()) {
            (Some(ours), Some(theirs)) => OnceLock::from([ours, theirs].concat()),
            _ => OnceLock::new(),
        };
        self.samples.extend(other.samples);
        self.pixels.extend_from_slice(&other.pixels);
        Ok(())
    }

    /// Relabels the images for which `new_label` returns a label, and returns how many labels
    /// changed. The original labels stay.
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
    fn class_names_must_be_valid_file_names() {
        let check = |name: &str, allowed: bool| {
            let source = Source::new(crate::SourceKind::ClassFolders, "test");
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
