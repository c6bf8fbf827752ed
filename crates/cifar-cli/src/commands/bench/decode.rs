//! `bench decode`: decodes image files with the function that `partition` calls.

use std::fs;
use std::path::Path;
use std::time::Instant;

use cifar_data::sources::{self, ReadOptions};
use cifar_data::{Dataset, SourceKind};
use cifar_pipeline::{Context as _, Error, Result};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder as _};
use serde::Serialize;

use super::laps::median_and_least;
use super::{Context, row, subject};
use crate::args::DecodeArgs;

/// JPEG quality of the synthetic images, about that of camera photographs.
const QUALITY: u8 = 90;

/// The measured speed of reading. The names are the keys of the JSON object.
#[derive(Debug, Serialize)]
struct Report {
    source: String,
    images: usize,
    /// Total size of all files, in 10⁶ bytes.
    megabytes: f64,
    threads: usize,
    rounds: u32,
    /// Median over the rounds.
    seconds: f64,
    /// The first round, in which files may come from disk instead of memory.
    first_seconds: f64,
    images_per_s: f64,
    /// MB of files per second, not of pixels.
    mb_per_s: f64,
}

pub(super) fn run(context: &Context, args: &DecodeArgs) -> Result<()> {
    let drawn = args.source.is_none().then(|| draw_files(context, args.images as usize)).transpose()?;
    let folder = match (&args.source, &drawn) {
        (Some(source), _) => source.as_path(),
        (None, Some(drawn)) => drawn.path(),
        (None, None) => Path::new("."),
    };
    let mut seconds = Vec::new();
    let mut read = None;
    for _ in 0..args.rounds {
        drop(read.take());
        let started = Instant::now();
        let images = sources::read(folder, &ReadOptions::default(), context.terminal)?;
        seconds.push(started.elapsed().as_secs_f64());
        if images.dataset.header().source.kind != SourceKind::ClassFolders {
            return Err(Error::usage(format!(
                "{}: is an archive or a parquet file; expected a folder of image files",
                folder.display()
            )));
        }
        read = Some(images.dataset);
    }
    let images = read.context("no round was read")?;
    let megabytes = file_bytes(folder, &images)? as f64 / 1e6;
    let first_seconds = seconds[0];
    let (median, _) = median_and_least(seconds);
    let report = Report {
        source: match &args.source {
            Some(source) => source.display().to_string(),
            None => "drawn images".into(),
        },
        images: images.len(),
        megabytes,
        threads: rayon::current_num_threads(),
        rounds: args.rounds,
        seconds: median,
        first_seconds,
        images_per_s: images.len() as f64 / median,
        mb_per_s: megabytes / median,
    };
    context.terminal.result(&report, || in_words(&report));
    Ok(())
}

/// Writes synthetic images as class folders of JPEG files. They are removed when the returned value
/// is dropped.
fn draw_files(context: &Context, count: usize) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    context.terminal.say(&format!("no source given: writing {count} synthetic images as JPEG and reading them back"));
    let set = subject::draw(count)?;
    for class in set.classes() {
        let class = folder.path().join(class);
        fs::create_dir(&class).with_context(|| format!("{}: cannot create the folder", class.display()))?;
    }
    for (index, sample) in set.samples().iter().enumerate() {
        let class = &set.classes()[usize::from(sample.label)];
        let path = folder.path().join(class).join(format!("{}.jpg", sample.id));
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, QUALITY)
            .write_image(set.image(index), set.size().width as u32, set.size().height as u32, ExtendedColorType::Rgb8)
            .map_err(|e| Error::failed(format!("cannot encode a synthetic image: {e}")))?;
        fs::write(&path, bytes).with_context(|| format!("{}: cannot write", path.display()))?;
    }
    Ok(folder)
}

/// Returns the total size of all files in bytes.
fn file_bytes(folder: &Path, images: &Dataset) -> Result<u64> {
    let mut bytes = 0;
    for sample in images.samples() {
        let path = folder.join(&sample.file);
        bytes += fs::metadata(&path).with_context(|| format!("{}: cannot read its size", path.display()))?.len();
    }
    Ok(bytes)
}

fn in_words(report: &Report) -> String {
    let (first, rounds) = (report.first_seconds, report.rounds);
    [
        row("source", &report.source),
        row("files", &format!("{} images, {:.1} MB; {} threads", report.images, report.megabytes, report.threads)),
        row("time", &format!("{:.2} s (median of {rounds}; first round {first:.2} s)", report.seconds)),
        row("speed", &format!("{:.0} images/s, {:.1} MB/s", report.images_per_s, report.mb_per_s)),
    ]
    .join("\n")
}
