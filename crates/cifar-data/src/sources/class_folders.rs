//! Folders of JPEG or PNG files, one a class: `train/CLASS/*` and `test/CLASS/*`, or `CLASS/*`.
//!
//! Classes are the folders' names in sorted order. `index.csv` (`id,file`), if there is one, gives every file its id;
//! without it files are interleaved: the first of each class, the second of each class, and so on, in sorted order,
//! training images before test images. Hidden files are left alone, as is everything beside the class folders.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::ReadOptions;
use super::decode::read_header;
use crate::memory::room_for;
use crate::{DataError, Dataset, Header, ImageSize, Monitor, Published, Result, Sample, SampleId, Source, SourceKind};

const INDEX: &str = "index.csv";

/// An image that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its file, relative to the source folder.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassFolders {
    /// The images. Ids of skipped ones are missing; the others keep theirs.
    pub dataset: Dataset,
    /// What was left out, by id.
    pub skipped: Vec<Skipped>,
}

/// A file that should be an image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Relative to the source folder, with `/`.
    file: String,
    label: u16,
    published: Published,
}

/// Reads and decodes all images of `folder` on all threads.
///
/// # Errors
/// If the folder has no class folders, train/ and test/ have different ones, one is empty, `index.csv` does not list
/// exactly the files that are there, or an image is damaged or of another size than the first one.
pub fn read(folder: &Path, options: &ReadOptions, monitor: &dyn Monitor) -> Result<ClassFolders> {
    let (classes, found) = list(folder)?;
    let index = folder.join(INDEX);
    let entries = if index.is_file() { in_order_of_index(&index, folder, found)? } else { interleaved(found) };
    decode_all(folder, classes, &entries, *options, monitor)
}

/// The class folders' names and their files, class after class, training images first, each class sorted.
fn list(folder: &Path) -> Result<(Vec<String>, Vec<Vec<Entry>>)> {
    let (train, test) = (folder.join("train"), folder.join("test"));
    let parts: Vec<(&str, Published)> = match (train.is_dir(), test.is_dir()) {
        (true, true) => vec![("train/", Published::Train), ("test/", Published::Test)],
        (true, false) | (false, true) => {
            let (there, missing) = if train.is_dir() { ("train", "test") } else { ("test", "train") };
            return Err(DataError::malformed(
                folder,
                format!("has {there}/ but no {missing}/; expected both, or class folders alone"),
            ));
        }
        (false, false) => vec![("", Published::None)],
    };
    let mut classes: Option<Vec<String>> = None;
    let mut found = Vec::new();
    for (prefix, published) in parts {
        let root = folder.join(prefix);
        let names = names_in(&root, true)?;
        if names.is_empty() {
            return Err(DataError::Empty { path: root });
        }
        if let Some(classes) = &classes {
            let missing = classes.iter().find(|c| !names.contains(c));
            let extra = names.iter().find(|c| !classes.contains(c));
            if let Some(class) = missing {
                return Err(DataError::malformed(
                    &root,
                    format!("has no class folder {class:?}, which train/ has; both must have the same classes"),
                ));
            }
            if let Some(class) = extra {
                return Err(DataError::malformed(
                    &root,
                    format!("has a class folder {class:?}, which train/ has not; both must have the same classes"),
                ));
            }
        }
        if names.len() > usize::from(u16::MAX) {
            return Err(DataError::malformed(
                &root,
                format!("has {} class folders, allowed are {}", names.len(), u16::MAX),
            ));
        }
        for (label, class) in (0..).zip(&names) {
            found.push(files_of_class(&root, prefix, class, label, published)?);
        }
        classes = Some(names);
    }
    Ok((classes.unwrap_or_default(), found))
}

fn files_of_class(root: &Path, prefix: &str, class: &str, label: u16, published: Published) -> Result<Vec<Entry>> {
    let folder = root.join(class);
    let files = names_in(&folder, false)?;
    if files.is_empty() {
        return Err(DataError::malformed(&folder, "holds no images; every class folder must hold some"));
    }
    let entry = |file: String| {
        let extension = Path::new(&file).extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        if matches!(extension.as_str(), "jpg" | "jpeg" | "png") {
            Ok(Entry { file: format!("{prefix}{class}/{file}"), label, published })
        } else {
            Err(DataError::image(
                &folder.join(&file),
                "is no image; class folders hold .jpg, .jpeg and .png files only",
            ))
        }
    };
    files.into_iter().map(entry).collect()
}

/// Sorted names of the folders, or of everything that is no folder, in `folder`; hidden ones are left out.
fn names_in(folder: &Path, folders: bool) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io("read the folder", folder))? {
        let entry = entry.map_err(DataError::io("read the folder", folder))?;
        let name = entry.file_name().into_string().map_err(|name| {
            DataError::malformed(folder, format!("holds {}, whose name is not UTF-8", name.display()))
        })?;
        if name.starts_with('.') || name == "Thumbs.db" {
            continue;
        }
        let mut kind = entry.file_type().map_err(DataError::io("read", &entry.path()))?;
        if kind.is_symlink() {
            kind = fs::metadata(entry.path()).map_err(DataError::io("follow the link", &entry.path()))?.file_type();
        }
        if kind.is_dir() == folders {
            names.push(name);
        } else if kind.is_dir() {
            return Err(DataError::malformed(
                folder,
                format!("holds the folder {name:?}; class folders hold images only"),
            ));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// First of each class, second of each class, …; training images before test images.
fn interleaved(found: Vec<Vec<Entry>>) -> Vec<Entry> {
    let mut ranked: Vec<(Published, usize, Entry)> = found
        .into_iter()
        .flat_map(|class| class.into_iter().enumerate().map(|(rank, entry)| (entry.published, rank, entry)))
        .collect();
    ranked.sort_by_key(|(published, rank, entry)| (*published, *rank, entry.label));
    ranked.into_iter().map(|(_, _, entry)| entry).collect()
}

/// In the order of `index.csv`, which must list every file once under the ids 0, 1, 2, ….
fn in_order_of_index(index: &Path, folder: &Path, found: Vec<Vec<Entry>>) -> Result<Vec<Entry>> {
    let text = fs::read(index).map_err(DataError::io("read", index))?;
    let mut csv = csv::Reader::from_reader(text.as_slice());
    let columns = csv.headers().map_err(|e| DataError::malformed(index, e.to_string()))?;
    if columns.iter().ne(["id", "file"]) {
        let found = columns.iter().collect::<Vec<_>>().join(",");
        return Err(DataError::malformed(index, format!("has the columns {found:?}; expected id,file")));
    }
    let mut unlisted: HashMap<String, Entry> = found.into_iter().flatten().map(|e| (e.file.clone(), e)).collect();
    let count = unlisted.len();
    let mut ordered: Vec<Option<Entry>> = vec![None; count];
    for (row, record) in csv.records().enumerate() {
        let line = row as u64 + 2;
        let record = record.map_err(|e| DataError::line(index, line, e.to_string()))?;
        let (id, file) = (&record[0], &record[1]);
        let id: usize = id.parse().map_err(|_| DataError::line(index, line, format!("id {id:?} is no number")))?;
        let Some(place) = ordered.get_mut(id) else {
            return Err(DataError::line(
                index,
                line,
                format!("id {id} is too high; the {count} files have the ids 0 to {}", count.saturating_sub(1)),
            ));
        };
        if place.is_some() {
            return Err(DataError::line(index, line, format!("id {id} stands twice")));
        }
        *place = Some(unlisted.remove(file).ok_or_else(|| {
            let problem = if folder.join(file).exists() {
                "stands twice, or is no image of a class folder"
            } else {
                "does not exist"
            };
            DataError::line(index, line, format!("the file {file:?} {problem}"))
        })?);
    }
    let skipped = ordered.iter().position(Option::is_none);
    let ordered: Vec<Entry> = ordered.into_iter().flatten().collect();
    match (skipped, unlisted.into_keys().min()) {
        (Some(id), Some(file)) => Err(DataError::malformed(
            index,
            format!("skips id {id} and does not list {file}; every file needs an id, 0 to {}", count - 1),
        )),
        _ => Ok(ordered),
    }
}

fn decode_all(
    folder: &Path,
    classes: Vec<String>,
    entries: &[Entry],
    options: ReadOptions,
    monitor: &dyn Monitor,
) -> Result<ClassFolders> {
    const WHAT: &str = "decoding";
    /// Images that one task decodes, and after which progress is told.
    const TASK: usize = 250;
    let size = first_size(folder, entries, options)?;
    room_for(entries.len() as u64, size)?;
    let mut pixels = vec![0; entries.len() * size.bytes()];
    let mut hashes = vec![blake3::Hash::from_bytes([0; blake3::OUT_LEN]); entries.len()];
    let done = AtomicUsize::new(0);
    let total = entries.len() as u64;
    monitor.progress(WHAT, 0, total);
    let tasks =
        pixels.par_chunks_mut(TASK * size.bytes()).zip(hashes.par_chunks_mut(TASK)).zip(entries.par_chunks(TASK));
    let problems: Vec<Vec<(usize, String)>> = tasks
        .enumerate()
        .map(|(task, ((pixels, hashes), entries))| {
            monitor.check()?;
            let mut buffer = Vec::new();
            let mut problems = Vec::new();
            let images = pixels.chunks_exact_mut(size.bytes()).zip(hashes);
            for (index, (entry, (pixels, hash))) in entries.iter().zip(images).enumerate() {
                if let Err(problem) = decode_file(&folder.join(&entry.file), size, &mut buffer, pixels) {
                    problems.push((task * TASK + index, problem));
                }
                // Now, while the pixels are at hand.
                *hash = blake3::hash(pixels);
            }
            monitor.progress(WHAT, (done.fetch_add(entries.len(), Ordering::Relaxed) + entries.len()) as u64, total);
            Ok(problems)
        })
        .collect::<Result<_>>()?;
    let problems: Vec<(usize, String)> = problems.into_iter().flatten().collect();
    if let (Some((index, problem)), false) = (problems.first(), options.skip_broken) {
        let others = match problems.len() - 1 {
            0 => String::new(),
            1 => " (and 1 other image is unusable; --skip-broken leaves them out)".into(),
            n => format!(" (and {n} other images are unusable; --skip-broken leaves them out)"),
        };
        return Err(DataError::image(&folder.join(&entries[*index].file), format!("{problem}{others}")));
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

/// The size that all images must have: that of the first one, or of the first usable one where broken ones are skipped.
fn first_size(folder: &Path, entries: &[Entry], options: ReadOptions) -> Result<ImageSize> {
    let mut buffer = Vec::new();
    for entry in entries {
        let path = folder.join(&entry.file);
        let size = read_file(&path, &mut buffer).and_then(|()| {
            let header = read_header(&buffer)?;
            let size = header.size();
            // A broken image that will be skipped must not decide about the others; where none is, its turn comes later.
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
    let header = read_header(buffer)?;
    if header.size() != size {
        return Err(format!("has {} pixels, the first image has {size}; all must have the same size", header.size()));
    }
    header.decode(pixels)
}

/// Reads a file into a buffer that is used again and again.
fn read_file(path: &Path, buffer: &mut Vec<u8>) -> Result<(), String> {
    /// A 1024×1024 image is smaller than this in either format.
    const MOST_BYTES: u64 = 64 * 1024 * 1024;
    buffer.clear();
    let mut file = File::open(path).map_err(|e| format!("cannot be opened: {e}"))?.take(MOST_BYTES + 1);
    let read = file.read_to_end(buffer).map_err(|e| format!("cannot be read: {e}"))?;
    if read as u64 > MOST_BYTES { Err(format!("has more than {MOST_BYTES} bytes")) } else { Ok(()) }
}
