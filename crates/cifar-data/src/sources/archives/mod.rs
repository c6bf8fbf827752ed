//! CIFAR-10 and CIFAR-100 as published by their authors: the binary and the Python version, packed
//! (`.tar.gz`) or unpacked.
//!
//! Ids follow the files: `data_batch_1` to `data_batch_5`, then `test_batch` (CIFAR-100: `train`,
//! then `test`), so both versions give the same ids, labels and pixels. CIFAR-100 has fine and
//! coarse labels. Batches may have any number of images, as long as a file is less than about three
//! times the size of the official one. Nothing is unpacked on the disk, and nothing in a file is
//! executed, not even in the pickles of the Python version.

mod batch;
mod container;
mod pickle;
mod version;

use std::path::Path;

use batch::Batch;
use container::Place;
use version::{Part, SIZE, Version};

pub(super) use version::VERSIONS;

use super::Labels;
use crate::{DataError, Dataset, Header, Progress, Result, Sample, SampleId, Source, SourceKind};

/// Reads a `.tar.gz` file, or the folder of the unpacked files.
///
/// ```no_run
/// use cifar_data::Silent;
/// use cifar_data::sources::{Labels, archives};
///
/// let cifar100 = archives::read("cifar-100-python.tar.gz".as_ref(), Labels::Coarse, &Silent)?;
/// assert_eq!(cifar100.classes().len(), 20);
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If coarse labels are requested of CIFAR-10, a file is missing, unexpected, damaged, cut short or
/// too large, a label has no class, files of two versions are mixed, or a pickle has unsupported
/// content.
pub fn read(path: &Path, labels: Labels, progress: &dyn Progress) -> Result<Dataset> {
    let mut assembly = Assembly { whole: path, labels, progress, version: None, classes: None, batches: Vec::new() };
    if path.is_dir() {
        container::read_folder(path, &mut assembly)?;
    } else {
        container::read_archive(path, &mut assembly)?;
    }
    assembly.finish()
}

/// Returns whether a file with this name has images of one of the versions.
pub(super) fn is_batch(file: &str) -> bool {
    matches!(version::recognise(file, Labels::Fine), Some((_, Part::Batch(_))))
}

/// The files read so far.
struct Assembly<'a> {
    /// The folder or archive.
    whole: &'a Path,
    labels: Labels,
    progress: &'a dyn Progress,
    version: Option<&'static Version>,
    classes: Option<Vec<String>>,
    batches: Vec<Option<(Place, Batch)>>,
}

impl Assembly<'_> {
    /// Called before a file is read: checks that it is of the same version as the others and not a
    /// duplicate.
    fn expect(&mut self, version: &'static Version, part: Part, place: &Place) -> Result<()> {
        self.progress.check()?;
        let known = *self.version.get_or_insert(version);
        if known != version {
            return Err(DataError::malformed(
                self.whole,
                format!(
                    "holds files of {} and, with {}, of {}; keep one of them",
                    known.name(),
                    version.file(part, self.labels),
                    version.name()
                ),
            ));
        }
        if self.labels == Labels::Coarse && version.coarse.is_none() {
            let name = version.name();
            return Err(DataError::malformed(
                self.whole,
                format!("is {name}, which has no coarse labels; CIFAR-100 has"),
            ));
        }
        self.batches.resize_with(version.batches.len(), || None);
        let twice = match part {
            Part::Batch(index) => self.batches[index].is_some(),
            Part::Meta => self.classes.is_some(),
        };
        if twice { Err(place.wrong("appears in the archive twice")) } else { Ok(()) }
    }

    /// Adds a file that [`Assembly::expect`] accepted.
    fn add(&mut self, version: &'static Version, part: Part, place: Place, bytes: Vec<u8>) -> Result<()> {
        match part {
            Part::Batch(index) => {
                let batch = batch::read(version, self.labels, bytes).map_err(|problem| place.wrong(problem))?;
                self.batches[index] = Some((place, batch));
            }
            Part::Meta => {
                self.classes =
                    Some(batch::class_names(version, self.labels, &bytes).map_err(|problem| place.wrong(problem))?);
            }
        }
        let done = self.batches.iter().flatten().count() + usize::from(self.classes.is_some());
        self.progress.update("reading", done as u64, version.batches.len() as u64 + 1);
        Ok(())
    }

    /// Concatenates the batches.
    fn finish(self) -> Result<Dataset> {
        let Self { whole, labels, version, classes, batches, .. } = self;
        let Some(version) = version else {
            return Err(DataError::malformed(
                whole,
                "holds no file of CIFAR-10 or CIFAR-100; allowed are their binary and python versions",
            ));
        };
        let missing = |file: &str| {
            let files = version.files(labels);
            DataError::malformed(whole, format!("has no {file}; {} has {files}", version.name()))
        };
        let classes = classes.ok_or_else(|| missing(version.meta(labels)))?;
        let count = batches.iter().flatten().map(|(_, batch)| batch.labels.len()).sum();
        let mut samples = Vec::with_capacity(count);
        let mut pixels = Vec::new();
        for (index, batch) in batches.into_iter().enumerate() {
            let (place, batch) = batch.ok_or_else(|| missing(version.batches[index]))?;
            for (number, label) in batch.labels.into_iter().enumerate() {
                if usize::from(label) >= classes.len() {
                    return Err(place.wrong(format!(
                        "image {number} has label {label}; {} names {} classes, 0 to {}",
                        version.meta(labels),
                        classes.len(),
                        classes.len() - 1
                    )));
                }
                samples.push(Sample {
                    id: SampleId(samples.len() as u32),
                    label,
                    original_label: label,
                    published: version.published(index),
                    file: format!("{}/{number:05}", version.batch_name(index)),
                });
            }
            if pixels.is_empty() {
                // The first batch grows in place, so all pixels take less than twice their size.
                pixels = batch.pixels;
                pixels.reserve_exact((count * SIZE.bytes()).saturating_sub(pixels.len()));
            } else {
                pixels.extend_from_slice(&batch.pixels);
            }
        }
        let coarse = if labels == Labels::Coarse { ", coarse labels" } else { "" };
        let description = format!("{}, {count} images{coarse}", version.name().trim_start_matches("the "));
        let source = Source::new(SourceKind::Archive, description);
        Dataset::new(Header { classes, size: SIZE, source }, samples, pixels)
    }
}
