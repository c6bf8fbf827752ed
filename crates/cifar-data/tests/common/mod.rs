//! Shared by the tests: small sets, image files, and access to folders.

#![allow(dead_code, reason = "every test program has a copy of this module and uses some of it")]

pub(crate) mod archives;
pub(crate) mod flow;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::Path;

use cifar_data::random::{Purpose, stream};
use cifar_data::sources::synthetic::{SyntheticParams, generate};
use cifar_data::splits::{Protocol, SplitParams};
use cifar_data::{Dataset, Header, ImageSize, Progress, Published, Sample, SampleId, Source, SourceKind};
use image::{ExtendedColorType, ImageEncoder};
use proptest::prelude::*;

/// Size of the test images: neither square nor even, so that swapped axes show.
pub(crate) const SIZE: ImageSize = ImageSize { height: 3, width: 5 };

/// Returns `n` bytes of noise that are the same in every run.
pub(crate) fn noise(seed: u64, n: usize) -> Vec<u8> {
    let mut random = stream(seed, Purpose::Synthetic, u64::MAX, 0);
    (0..n).map(|_| random.bits() as u8).collect()
}

pub(crate) fn header(classes: &[&str], size: ImageSize) -> Header {
    Header {
        classes: classes.iter().map(ToString::to_string).collect(),
        size,
        source: Source::new(SourceKind::ClassFolders, "class folders, by hand"),
    }
}

pub(crate) fn sample(id: u32, label: u16) -> Sample {
    Sample {
        id: SampleId(id),
        label,
        original_label: label,
        published: Published::Train,
        file: format!("train/x/{id}.png"),
    }
}

/// Returns a set with one image of `SIZE` with noise per sample.
pub(crate) fn set(classes: &[&str], samples: Vec<Sample>) -> Dataset {
    let pixels = noise(0, samples.len() * SIZE.bytes());
    Dataset::new(header(classes, SIZE), samples, pixels).expect("a valid set")
}

/// Returns a synthetic set. With 120 images it has 40 per partition, 100 of them published for
/// training.
pub(crate) fn synthetic(count: usize) -> Dataset {
    generate(&SyntheticParams { count, ..SyntheticParams::default() }).expect("a valid number of images").dataset
}

/// Returns other images than those of [`synthetic`].
pub(crate) fn synthetic_of_seed(count: usize, seed: u64) -> Dataset {
    generate(&SyntheticParams { count, seed, ..SyntheticParams::default() }).expect("a valid number of images").dataset
}

pub(crate) fn pooled(split_seed: u64, test_fraction: f64, val_fraction: f64) -> SplitParams {
    SplitParams { split_seed, test_fraction, val_fraction, ..SplitParams::default() }
}

pub(crate) fn official(val_fraction: f64) -> SplitParams {
    SplitParams { protocol: Protocol::Official, val_fraction, ..SplitParams::default() }
}

pub(crate) fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Writes a file and creates its folders.
pub(crate) fn put(path: &Path, contents: &[u8]) {
    fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("folders can be made");
    fs::write(path, contents).expect("the file can be written");
}

pub(crate) fn get(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn text(path: &Path) -> String {
    String::from_utf8(get(path)).expect("text is UTF-8")
}

/// Replaces the only occurrence of `from`.
pub(crate) fn edit(path: &Path, from: &str, to: &str) {
    let old = get(path);
    let places: Vec<usize> = (0..old.len()).filter(|at| old[*at..].starts_with(from.as_bytes())).collect();
    assert_eq!(places.len(), 1, "{from:?} must appear once in {}", path.display());
    let new = [&old[..places[0]], to.as_bytes(), &old[places[0] + from.len()..]].concat();
    fs::write(path, new).expect("the file can be written");
}

/// Returns a PNG file of 8-bit pixels.
pub(crate) fn png(size: ImageSize, pixels: &[u8], color: ExtendedColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(pixels, size.width as u32, size.height as u32, color)
        .expect("pixels fit");
    bytes
}

/// Returns an RGB PNG file with noise.
pub(crate) fn noisy_png(seed: u64, size: ImageSize) -> Vec<u8> {
    png(size, &noise(seed, size.bytes()), ExtendedColorType::Rgb8)
}

/// Returns a JPEG file of the best quality.
pub(crate) fn jpeg(size: ImageSize, pixels: &[u8], color: ExtendedColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 100)
        .write_image(pixels, size.width as u32, size.height as u32, color)
        .expect("pixels fit");
    bytes
}

/// Returns a file of the format with this extension, whose encoder keeps all pixels; GIF keeps those
/// of images with at most 256 colours.
pub(crate) fn encoded(extension: &str, size: ImageSize, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let format = image::ImageFormat::from_extension(extension).expect("a known extension");
    let image = image::RgbImage::from_raw(size.width as u32, size.height as u32, pixels.to_vec()).expect("they fit");
    image.write_to(&mut bytes, format).expect("pixels fit");
    bytes.into_inner()
}

/// Runs `task` with this many threads.
pub(crate) fn on_threads<T: Send>(threads: usize, task: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started").install(task)
}

/// Returns every file under `folder` with its content.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(root, &path, files);
            } else {
                let name = path.strip_prefix(root).expect("it is inside").to_string_lossy().into_owned();
                files.insert(name, get(&path));
            }
        }
    }
    let mut files = BTreeMap::new();
    collect(folder, folder, &mut files);
    files
}

/// Creates a named pipe without a writer.
#[cfg(unix)]
pub(crate) fn make_pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo can be run").success());
}

/// Checks that the result is an error with a one-line message that has all of `parts`.
#[track_caller]
pub(crate) fn check_refused<T, E: Display>(result: Result<T, E>, parts: &[&str]) {
    let Err(error) = result else { panic!("accepted, but should be refused with {parts:?}") };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
    assert!(!message.contains('\n'), "{message:?} has more than one line");
}

/// Returns a path as messages print it.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Collects warnings.
#[derive(Default)]
pub(crate) struct Warned(pub(crate) std::sync::Mutex<Vec<String>>);

impl Progress for Warned {
    fn update(&self, _: &'static str, _: u64, _: u64) {}

    fn warn(&self, message: &str) {
        self.0.lock().expect("nobody panicked").push(message.to_string());
    }
}

/// Damage to a file.
#[derive(Debug, Clone)]
pub(crate) struct Mutation {
    edits: Vec<(prop::sample::Index, Edit)>,
    cut: Option<prop::sample::Index>,
}

#[derive(Debug, Clone)]
enum Edit {
    Set(u8),
    Flip(u8),
    Insert(Vec<u8>),
    Remove(usize),
    Repeat(usize),
}

/// Changes, inserts, removes or duplicates some bytes, and perhaps cuts the end.
pub(crate) fn mutation() -> impl Strategy<Value = Mutation> {
    let edit = prop_oneof![
        4 => any::<u8>().prop_map(Edit::Set),
        4 => (0..8_u8).prop_map(Edit::Flip),
        1 => prop::sample::select(vec![0_u8, 0x7f, 0x80, 0xff, b'"', b',', b'\n']).prop_map(Edit::Set),
        1 => prop::collection::vec(any::<u8>(), 1..9).prop_map(Edit::Insert),
        1 => (1..40_usize).prop_map(Edit::Remove),
        1 => (1..40_usize).prop_map(Edit::Repeat),
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), edit), 0..6);
    (edits, prop::option::weighted(0.2, any::<prop::sample::Index>())).prop_map(|(edits, cut)| Mutation { edits, cut })
}

impl Mutation {
    /// Damages the bytes from `from` on.
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>, from: usize) {
        for (place, edit) in &self.edits {
            if bytes.len() <= from {
                return;
            }
            let at = from + place.index(bytes.len() - from);
            let end = |length: usize| (at + length).min(bytes.len());
            match edit {
                Edit::Set(value) => bytes[at] = *value,
                Edit::Flip(bit) => bytes[at] ^= 1 << bit,
                Edit::Insert(more) => drop(bytes.splice(at..at, more.iter().copied())),
                Edit::Remove(length) => drop(bytes.drain(at..end(*length))),
                Edit::Repeat(length) => {
                    let again = bytes[at..end(*length)].to_vec();
                    bytes.splice(at..at, again);
                }
            }
        }
        if let Some(cut) = self.cut
            && bytes.len() > from
        {
            bytes.truncate(from + cut.index(bytes.len() - from));
        }
    }
}
