//! Folders of JPEG or PNG files, one per class: `train/CLASS/*` and `test/CLASS/*`, or `CLASS/*`.
//!
//! `train` and `test` may be capitalised, or be called `training` and `testing`. Classes are the
//! folder names in sorted order.
//!
//! `index.csv` (`id,file`) gives every file its id. Without it, files are interleaved: the first of
//! each class, the second of each class, and so on, in sorted order, training images before test
//! images.
//!
//! Hidden files and those that Windows creates (`Thumbs.db`, `desktop.ini`) are ignored. Other
//! files outside class folders, such as those of `val/`, are counted in a warning, except text
//! files.

mod index;
mod listing;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use self::listing::{Entry, Listing};
use super::{MAX_PIXELS, ReadOptions};
use crate::decode::read_header;
use crate::memory::room_for;
use crate::{
    DataError, Dataset, Header, ImageSize, Progress, Published, Result, Sample, SampleId, Source, SourceKind, input,
};

const INDEX: &str = "index.csv";

/// An image that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its file, relative to the source folder.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The result of [`read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassFolders {
    /// The images. Skipped ones leave gaps in the ids.
    pub dataset: Dataset,
    /// The skipped images, by id.
    pub skipped: Vec<Skipped>,
}

/// Reads and decodes all images of `folder` on all threads.
///
/// ```no_run
/// use cifar_data::Silent;
/// use cifar_data::sources::{ReadOptions, class_folders};
///
/// let options = ReadOptions { skip_broken: true, ..Default::default() };
/// let found = class_folders::read("photos".as_ref(), &options, &Silent)?;
/// for skipped in &found.skipped {
///     eprintln!("{}: {}", skipped.file, skipped.problem);
/// }
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If there are no class folders, train/ and test/ have different ones, one is empty, `index.csv`
/// does not list exactly the existing files, or an image is damaged or has another size than the
/// first one.
pub fn read(folder: &Path, options: &ReadOptions, progress: &dyn Progress) -> Result<ClassFolders> {
    let listing = listing::list(folder, options.skip_broken)?;
    if let Some(warning) = listing.warning(folder) {
        progress.warn(&warning);
    }
    let Listing { classes, files, no_images, .. } = listing;
    let index = folder.join(INDEX);
    // Anything with this name, even a dangling link.
    let has_index = fs::symlink_metadata(&index).is_ok();
    let entries = if has_index { index::in_order(&index, folder, files)? } else { interleaved(files) };
    let mut read = decode_all(folder, classes, &entries, *options, progress)?;
    if options.skip_broken {
        check_emptied(folder, &entries, &read)?;
        read.skipped.extend(no_images);
    }
    Ok(read)
}

/// Checks that skipping leaves no class folder without images.
fn check_emptied(folder: &Path, entries: &[Entry], read: &ClassFolders) -> Result<()> {
    let folder_of = |file: &str| file.rsplit_once('/').map(|(folder, _)| folder.to_string()).unwrap_or_default();
    let mut left: BTreeMap<String, usize> = entries.iter().map(|entry| (folder_of(&entry.file), 0)).collect();
    for sample in read.dataset.samples() {
        *left.entry(folder_of(&sample.file)).or_default() += 1;
    }
    let Some((class, _)) = left.iter().find(|(_, count)| **count == 0) else { return Ok(()) };
    let mut skipped = read.skipped.iter().filter(|skipped| folder_of(&skipped.file) == *class);
    let Some(first) = skipped.next() else { return Ok(()) };
    let (count, problem) = (1 + skipped.count(), &first.problem);
    let message = format!("none of its {count} images can be used; the first, {}, {problem}", first.file);
    Err(DataError::malformed(&folder.join(class), message))
}

/// Returns the first of each class, then the second of each class, …; training images before test
/// images.
fn interleaved(found: Vec<Vec<Entry>>) -> Vec<Entry> {
    let mut ranked: Vec<(Published, usize, Entry)> = found
        .into_iter()
        .flat_map(|class| class.into_iter().enumerate().map(|(rank, entry)| (entry.published, rank, entry)))
        .collect();
    ranked.sort_by_key(|(published, rank, entry)| (*published, *rank, entry.label));
    ranked.into_iter().map(|(_, _, entry)| entry).collect()
}

fn decode_all(
    folder: &Path,
    classes: Vec<String>,
    entries: &[Entry],
    options: ReadOptions,
    progress: &dyn Progress,
) -> Result<ClassFolders> {
    const WHAT: &str = "decoding";
    /// Number of images per task; progress is reported after each task.
    const TASK: usize = 250;
    let size = first_size(folder, entries, options)?;
    room_for(entries.len() as u64, size)?;
    let mut pixels = vec![0; entries.len() * size.bytes()];
    let mut hashes = vec![blake3::Hash::from_bytes([0; blake3::OUT_LEN]); entries.len()];
    let done = AtomicUsize::new(0);
    let total = entries.len() as u64;
    progress.update(WHAT, 0, total);
    let tasks =
        pixels.par_chunks_mut(TASK * size.bytes()).zip(hashes.par_chunks_mut(TASK)).zip(entries.par_chunks(TASK));
    let problems: Vec<Vec<(usize, String)>> = tasks
        .enumerate()
        .map(|(task, ((pixels, hashes), entries))| {
            progress.check()?;
            let mut buffer = Vec::new();
            let mut problems = Vec::new();
            let images = pixels.chunks_exact_mut(size.bytes()).zip(hashes);
            for (index, (entry, (pixels, hash))) in entries.iter().zip(images).enumerate() {
                if let Err(problem) = decode_file(&folder.join(&entry.file), size, &mut buffer, pixels) {
                    problems.push((task * TASK + index, problem));
                }
                // Hashed here, while the pixels are in the cache.
                *hash = blake3::hash(pixels);
            }
            progress.update(WHAT, (done.fetch_add(entries.len(), Ordering::Relaxed) + entries.len()) as u64, total);
            Ok(problems)
        })
        .collect::<Result<_>>()?;
    let problems: Vec<(usize, String)> = problems.into_iter().flatten().collect();
    if let (Some((index, problem)), false) = (problems.first(), options.skip_broken) {
        return Err(DataError::unusable(&folder.join(&entries[*index].file), problem, problems.len() - 1));
    }
    let samples = (0..).zip(entries).map(|(id, e)| Sample {
        id: SampleId(id),
        label: e.label,
        original_label: e.label,
        published: e.published,
        file: e.file.clone(),
    });
    let count = entries.len() - problems.len();
    let source = Source { kind: SourceKind::ClassFolders, description: format!("class folders, {count} images") };
    let dataset = Dataset::new(Header { classes, size, source }, samples.collect(), pixels)?.with_hashes(hashes);
    if problems.is_empty() {
        return Ok(ClassFolders { dataset, skipped: Vec::new() });
    }
    let broken: std::collections::BTreeSet<usize> = problems.iter().map(|(index, _)| *index).collect();
    let mut index = 0;
    let dataset = dataset.filter(|_| {
        index += 1;
        !broken.contains(&(index - 1))
    });
    let skipped = problems.into_iter().map(|(index, problem)| Skipped { file: entries[index].file.clone(), problem });
    Ok(ClassFolders { dataset, skipped: skipped.collect() })
}

/// Returns the size that all images must have: that of the first image, or of the first usable one
/// if broken ones are skipped.
fn first_size(folder: &Path, entries: &[Entry], options: ReadOptions) -> Result<ImageSize> {
    let mut buffer = Vec::new();
    for entry in entries {
        let path = folder.join(&entry.file);
        let size = read_file(&path, &mut buffer).and_then(|()| {
            let header = read_header(&buffer, MAX_PIXELS)?;
            let size = header.size();
            // A broken image that will be skipped must not decide the size. If none is usable,
            // decoding reports it.
            if options.skip_broken {
                header.decode(&mut vec![0; size.bytes()])?;
            }
            Ok(size)
        });
        match size {
            Ok(size) => return Ok(size),
            Err(problem) if !options.skip_broken => return Err(DataError::image(&path, problem)),
            Err(_) => {}
        }
    }
    Err(DataError::Empty { path: folder.to_path_buf() })
}

fn decode_file(path: &Path, size: ImageSize, buffer: &mut Vec<u8>, pixels: &mut [u8]) -> Result<(), String> {
    read_file(path, buffer)?;
    let header = read_header(buffer, MAX_PIXELS)?;
    if header.size() != size {
        return Err(format!("has {} pixels, the first image has {size}; all must have the same size", header.size()));
    }
    header.decode(pixels)
}

/// Reads a file into a reused buffer.
fn read_file(path: &Path, buffer: &mut Vec<u8>) -> Result<(), String> {
    /// A 1024×1024 image is smaller in both formats.
    const MAX_BYTES: u64 = 64 * 1024 * 1024;
    input::read_image(path, MAX_BYTES, buffer).map_err(|e| e.problem())
}
