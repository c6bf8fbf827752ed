//! Decodes lists of image files on all threads.

mod sizes;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{MAX_PIXELS, ReadOptions};
use crate::decode::{self, Budget, MAX_SIDE, Unread, read_fitted, read_header};
use crate::memory::room_for;
use crate::names::shown;
use crate::{
    DataError, Dataset, Header, ImageSize, Progress, Published, Resize, Result, Sample, SampleId, Source, SourceKind,
    input,
};

/// A file that should be an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative to the source folder, with `/`.
    pub(super) file: String,
    pub(super) label: u16,
    pub(super) published: Published,
}

/// An image that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its file, relative to the source folder.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Returns the first of each class, then the second of each class, …; training images before test
/// images.
pub(super) fn interleaved(found: Vec<Vec<Entry>>) -> Vec<Entry> {
    let mut ranked: Vec<(Published, usize, Entry)> = found
        .into_iter()
        .flat_map(|class| class.into_iter().enumerate().map(|(rank, entry)| (entry.published, rank, entry)))
        .collect();
    ranked.sort_by_key(|(published, rank, entry)| (*published, *rank, entry.label));
    ranked.into_iter().map(|(_, _, entry)| entry).collect()
}

/// What was found in an image file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    /// Whether a pixel was transparent.
    pub(super) transparent: bool,
    /// Whether the image was enlarged in some direction.
    pub(super) enlarged: bool,
}

impl Found {
    /// Returns what was found in an image that was resized.
    pub(super) fn of_resized(found: decode::Found, resize: Resize) -> Self {
        let ImageSize { height, width } = found.original;
        let enlarged = height < resize.size.height || width < resize.size.width;
        Self { transparent: found.transparent, enlarged }
    }
}

/// Why an image cannot be used.
pub(super) enum Problem {
    /// Its size is another one than that of the set, or too large without resizing.
    Size(String),
    Other(String),
}

impl Problem {
    /// Returns what is wrong; it follows the name of the file.
    pub(super) fn words(&self) -> &str {
        let (Self::Size(words) | Self::Other(words)) = self;
        words
    }
}

/// What a task found: usable images, and the positions of the others with their problems.
type Outcome = (Vec<Found>, Vec<(usize, Problem)>);

/// Decodes the files of `folder` in this order: the image at position i has the id i. Returns the
/// images, and those that were skipped.
///
/// # Errors
/// If a file is not a usable image and `options` do not skip it, or the images do not fit into
/// memory.
pub(super) fn decode_all(
    folder: &Path,
    (kind, what): (SourceKind, &str),
    classes: Vec<String>,
    entries: &[Entry],
    options: ReadOptions,
    progress: &dyn Progress,
) -> Result<(Dataset, Vec<Skipped>)> {
    const WHAT: &str = "decoding";
    // Progress is reported, and the wish to stop is noticed, after each task: photographs take long.
    let task_length = if options.resize.is_some() { 8 } else { 250 };
    let size = match options.resize {
        Some(resize) => resize.size,
        None => first_size(folder, entries, options)?,
    };
    let kept = room_for(entries.len() as u64, size)?;
    let budget = Budget::beside(kept);
    let mut pixels = vec![0; entries.len() * size.bytes()];
    let mut hashes = vec![blake3::Hash::from_bytes([0; blake3::OUT_LEN]); entries.len()];
    let done = AtomicUsize::new(0);
    let total = entries.len() as u64;
    progress.update(WHAT, 0, total);
    let tasks = pixels
        .par_chunks_mut(task_length * size.bytes())
        .zip(hashes.par_chunks_mut(task_length))
        .zip(entries.par_chunks(task_length));
    let outcomes: Vec<Outcome> = tasks
        .enumerate()
        .map(|(task, ((pixels, hashes), entries))| {
            progress.check()?;
            let (mut buffer, mut found, mut problems) = (Vec::new(), Vec::new(), Vec::new());
            let images = pixels.chunks_exact_mut(size.bytes()).zip(hashes);
            for (index, (entry, (pixels, hash))) in entries.iter().zip(images).enumerate() {
                let path = folder.join(&entry.file);
                let read = match options.resize {
                    None => decode_file(&path, size, &mut buffer, pixels),
                    Some(resize) => resize_file(&path, resize, &budget, pixels)?,
                };
                match read {
                    Ok(image) => found.push(image),
                    Err(problem) => problems.push((task * task_length + index, problem)),
                }
                // Hashed here, while the pixels are in the cache.
                *hash = blake3::hash(pixels);
            }
            progress.update(WHAT, (done.fetch_add(entries.len(), Ordering::Relaxed) + entries.len()) as u64, total);
            Ok((found, problems))
        })
        .collect::<Result<_>>()?;
    let (found, problems): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
    let found: Vec<Found> = found.into_iter().flatten().collect();
    let problems: Vec<(usize, Problem)> = problems.into_iter().flatten().collect();
    if let (Some((index, problem)), false) = (problems.first(), options.skip_broken) {
        let path = folder.join(&entries[*index].file);
        return Err(match problem {
            Problem::Size(words) => sizes::error(folder, entries, (&path, words)),
            Problem::Other(words) => DataError::unusable(&path, words, problems.len() - 1),
        });
    }
    warn(folder, &found, options.resize, progress);
    let samples = (0..).zip(entries).map(|(id, e)| Sample {
        id: SampleId(id),
        label: e.label,
        original_label: e.label,
        published: e.published,
        file: e.file.clone(),
    });
    let count = entries.len() - problems.len();
    let source = Source::new(kind, format!("{what}, {count} images")).resized(options.resize);
    let dataset = Dataset::new(Header { classes, size, source }, samples.collect(), pixels)?.with_hashes(hashes);
    if problems.is_empty() {
        return Ok((dataset, Vec::new()));
    }
    let broken: BTreeSet<usize> = problems.iter().map(|(index, _)| *index).collect();
    let mut index = 0;
    let dataset = dataset.filter(|_| {
        index += 1;
        !broken.contains(&(index - 1))
    });
    let skipped = problems
        .into_iter()
        .map(|(index, problem)| Skipped { file: entries[index].file.clone(), problem: problem.words().to_string() });
    Ok((dataset, skipped.collect()))
}

/// Says once how many images were changed in a way that may surprise.
pub(super) fn warn(path: &Path, found: &[Found], resize: Option<Resize>, progress: &dyn Progress) {
    let transparent = found.iter().filter(|found| found.transparent).count();
    say(path, transparent, ["has", "have"], "transparent pixels, which are shown over white", progress);
    if let Some(resize) = resize {
        warn_of_enlarged(path, found.iter().filter(|found| found.enlarged).count(), resize, progress);
    }
}

/// Says how many images were enlarged.
pub(super) fn warn_of_enlarged(path: &Path, count: usize, resize: Resize, progress: &dyn Progress) {
    say(path, count, ["is", "are"], &format!("smaller than {} and enlarged", resize.size), progress);
}

fn say(path: &Path, count: usize, have: [&str; 2], what: &str, progress: &dyn Progress) {
    if count > 0 {
        let (images, have) = if count == 1 { ("image", have[0]) } else { ("images", have[1]) };
        progress.warn(&format!("{}: {count} {images} {have} {what}", shown(path)));
    }
}

/// Returns the size that all images must have: that of the first image, or of the first usable one
/// if broken ones are skipped.
fn first_size(folder: &Path, entries: &[Entry], options: ReadOptions) -> Result<ImageSize> {
    let mut buffer = Vec::new();
    for entry in entries {
        let path = folder.join(&entry.file);
        let size = read_file(&path, &mut buffer).map_err(Problem::Other).and_then(|()| {
            let header = small_header(&buffer)?;
            let size = header.size();
            // A broken image that will be skipped must not decide the size. If none is usable,
            // decoding reports it.
            if options.skip_broken {
                header.decode(&mut vec![0; size.bytes()]).map_err(Problem::Other)?;
            }
            Ok(size)
        });
        match size {
            Ok(size) => return Ok(size),
            Err(_) if options.skip_broken => {}
            Err(Problem::Size(words)) => return Err(sizes::error(folder, entries, (&path, &words))),
            Err(Problem::Other(words)) => return Err(DataError::image(&path, words)),
        }
    }
    Err(DataError::Empty { path: folder.to_path_buf() })
}

fn decode_file(path: &Path, size: ImageSize, buffer: &mut Vec<u8>, pixels: &mut [u8]) -> Result<Found, Problem> {
    read_file(path, buffer).map_err(Problem::Other)?;
    decode_small(buffer, size, pixels)
}

/// Decodes an image that is not resized.
pub(super) fn decode_small(bytes: &[u8], size: ImageSize, pixels: &mut [u8]) -> Result<Found, Problem> {
    let header = small_header(bytes)?;
    if header.size() != size {
        let problem = format!("has {} pixels, the first image has {size}; all must have the same size", header.size());
        return Err(Problem::Size(problem));
    }
    let transparent = header.decode(pixels).map_err(Problem::Other)?;
    Ok(Found { transparent, enlarged: false })
}

/// Reads the header of an image that is not resized.
pub(super) fn small_header(bytes: &[u8]) -> Result<decode::Header<'_>, Problem> {
    let could_be_resized = || read_header(bytes, MAX_SIDE).is_ok();
    read_header(bytes, MAX_PIXELS)
        .map_err(|words| if could_be_resized() { Problem::Size(words) } else { Problem::Other(words) })
}

/// Decodes and resizes a file.
///
/// # Errors
/// If there is too little memory: that is no problem of the image.
fn resize_file(path: &Path, resize: Resize, budget: &Budget, pixels: &mut [u8]) -> Result<Result<Found, Problem>> {
    match read_fitted(path, resize, budget, pixels) {
        Ok(found) => Ok(Ok(Found::of_resized(found, resize))),
        Err(Unread::Image(problem)) => Ok(Err(Problem::Other(problem))),
        Err(Unread::Memory(e)) => Err(e),
    }
}

/// Reads a file into a reused buffer.
fn read_file(path: &Path, buffer: &mut Vec<u8>) -> Result<(), String> {
    /// A 1024×1024 image is smaller in all formats.
    const MAX_BYTES: u64 = 64 * 1024 * 1024;
    input::read_image(path, MAX_BYTES, buffer).map_err(|e| e.problem())
}
