//! CIFAR-10 and CIFAR-100 as their authors publish them: the binary and the python version, packed (`.tar.gz`) or
//! unpacked.
//!
//! Ids follow the files: `data_batch_1` to `data_batch_5`, then `test_batch` (CIFAR-100: `train`, then `test`), so the
//! same images have the same ids, labels and pixels in either version. CIFAR-100 has fine and coarse labels. Batches
//! may have any number of images, as long as a file is less than about three times the official one. Nothing is unpacked
//! on the disk, and nothing in a file is executed, not even in the pickles of the python version.

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
use crate::{DataError, Dataset, Header, Monitor, Result, Sample, SampleId, Source, SourceKind};

/// Reads a `.tar.gz` file, or the folder in which the unpacked files lie.
///
/// # Errors
/// If coarse labels are asked of CIFAR-10, a file is missing, superfluous, damaged, cut short or too large, a label has no class, files of two versions lie
/// side by side, or a pickle wants more than this reader gives.
pub fn read(path: &Path, labels: Labels, monitor: &dyn Monitor) -> Result<Dataset> {
    let mut assembly = Assembly { whole: path, labels, monitor, version: None, classes: None, batches: Vec::new() };
    if path.is_dir() {
        container::read_folder(path, &mut assembly)?;
    } else {
        container::read_archive(path, &mut assembly)?;
    }
    assembly.finish()
}

/// True if a file of this name holds images of one of the versions.
pub(super) fn is_batch(file: &str) -> bool {
    matches!(version::recognise(file, Labels::Fine), Some((_, Part::Batch(_))))
}

/// What has been read so far.
struct Assembly<'a> {
    /// The folder or archive.
    whole: &'a Path,
    labels: Labels,
    monitor: &'a dyn Monitor,
    version: Option<&'static Version>,
    classes: Option<Vec<String>>,
    batches: Vec<Option<(Place, Batch)>>,
}

impl Assembly<'_> {
    /// Told before a file is read: is it of the same version as the others, and new?
    fn expect(&mut self, version: &'static Version, part: Part, place: &Place) -> Result<()> {
        self.monitor.check()?;
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
        if twice { Err(place.wrong("stands in the archive twice")) } else { Ok(()) }
    }

    /// Takes a file that was expected.
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
        self.monitor.progress("reading", done as u64, version.batches.len() as u64 + 1);
        Ok(())
    }

    /// Puts the batches one after the other.
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
                // The first batch grows where it is, so that all pixels are in memory less than twice.
                pixels = batch.pixels;
                pixels.reserve_exact((count * SIZE.bytes()).saturating_sub(pixels.len()));
            } else {
                pixels.extend_from_slice(&batch.pixels);
            }
        }
        let coarse = if labels == Labels::Coarse { ", coarse labels" } else { "" };
        let description = format!("{}, {count} images{coarse}", version.name().trim_start_matches("the "));
        let source = Source { kind: SourceKind::Archive, description };
        Dataset::new(Header { classes, size: SIZE, source }, samples, pixels)
    }
}
