//! Parquet files as Hugging Face publishes CIFAR-10 and CIFAR-100: a column `img` or `image` with
//! the bytes of an image file, and a column `label`, or `fine_label` and `coarse_label`.
//!
//! Ids follow the rows: `train*.parquet`, shard by shard, then `test*.parquet`; or
//! `train/*.parquet` and `test/*.parquet`. A single file, and files with other names, have no
//! published split. The rows of CIFAR-10 are in the order of the official archives, so they give
//! the same ids, labels and pixels. Class names are in the file's metadata (`huggingface`).

mod classes;
mod pages;
mod shards;
mod table;
mod values;

use std::path::Path;

use rayon::prelude::*;
use table::{Row, Table};

use super::ReadOptions;
use super::files::{self, Found, Problem};
use crate::decode::{Budget, Unread, decode_fitted};
use crate::memory::room_for;
use crate::{
    DataError, Dataset, Header, ImageSize, Progress, Published, Resize, Result, Sample, SampleId, Source, SourceKind,
};

/// Number of rows that are decoded at a time.
const ROWS: usize = 2048;
/// The same for images that are resized, which may be photographs.
const ROWS_RESIZED: usize = 64;

/// Reads a `.parquet` file, or a folder of them.
///
/// ```no_run
/// use cifar_data::Silent;
/// use cifar_data::sources::{ReadOptions, parquet};
///
/// let cifar10 = parquet::read("cifar10/plain_text".as_ref(), &ReadOptions::default(), &Silent)?;
/// assert_eq!(cifar10.len(), 60_000);
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If a shard is missing; if a file has other columns, is cut short or damaged, or uses a
/// compression other than snappy or zstd or a rare encoding; if a row has no image or a label
/// without a class; if an image is damaged, also if broken files are to be skipped; if an image has
/// another size than the first one and is not resized; or if there is too little memory.
pub fn read(path: &Path, options: &ReadOptions, progress: &dyn Progress) -> Result<Dataset> {
    const WHAT: &str = "reading";
    let files =
        if path.is_dir() { shards::in_folder(path, progress)? } else { vec![(path.to_path_buf(), Published::None)] };
    let tables: Vec<(Table, Published)> = files
        .into_iter()
        .map(|(file, published)| Ok((Table::open(&file, options.labels)?, published)))
        .collect::<Result<_>>()?;
    let classes = common_classes(&tables, progress)?;
    let total: u64 = tables.iter().map(|(table, _)| table.rows()).sum();
    let resize = options.resize;
    let rows_at_a_time = if resize.is_some() { ROWS_RESIZED } else { ROWS };
    let mut images = Images::new(total, resize)?;
    for (table, published) in &tables {
        // In a folder with both parts: `train/0000.parquet`.
        let name = table.path().strip_prefix(path).ok().filter(|name| !name.as_os_str().is_empty());
        let name = name.or(table.path().file_name().map(Path::new)).unwrap_or(path).to_string_lossy().into_owned();
        let mut number = 0;
        table.for_each(rows_at_a_time, |rows| {
            progress.check()?;
            progress.update(WHAT, images.samples.len() as u64, total);
            for row in rows {
                let at = number;
                number += 1;
                let label = u16::try_from(row.label).ok().filter(|label| usize::from(*label) < classes.len());
                let label = label.ok_or_else(|| {
                    let (last, label) = (classes.len() - 1, row.label);
                    let names = format!("there are {} classes, 0 to {last}", classes.len());
                    DataError::malformed(table.path(), format!("row {at} has label {label}; {names}"))
                })?;
                let id = u32::try_from(images.samples.len()).map(SampleId);
                let id = id.map_err(|_| DataError::malformed(table.path(), "has more rows than there are ids"))?;
                let file = format!("{name}/{at:05}");
                images.samples.push(Sample { id, label, original_label: label, published: *published, file });
            }
            images.decode(rows, number - rows.len(), table.path())
        })?;
    }
    progress.update(WHAT, total, total);
    files::warn(path, &images.found, resize, progress);
    let Images { size: Some(size), samples, mut pixels, hashes, .. } = images else {
        return Err(DataError::malformed(path, "has no rows"));
    };
    if samples.is_empty() {
        return Err(DataError::malformed(path, "has no rows"));
    }
    pixels.shrink_to_fit();
    let source = Source::new(SourceKind::Parquet, format!("parquet, {} images", samples.len())).resized(resize);
    Ok(Dataset::new(Header { classes, size, source }, samples, pixels)?.with_hashes(hashes))
}

/// Returns whether [`read`] accepts a file with this name.
pub(super) fn is_parquet(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

/// Returns the class names, which must be the same in all files; numbers if the files have none.
fn common_classes(tables: &[(Table, Published)], progress: &dyn Progress) -> Result<Vec<String>> {
    let Some(((first, _), others)) = tables.split_first() else { return Ok(Vec::new()) };
    if let Some((other, _)) = others.iter().find(|(table, _)| table.classes() != first.classes()) {
        let file = first.path().file_name().unwrap_or_default().display();
        return Err(DataError::malformed(other.path(), format!("has other class names than {file}")));
    }
    if let Some(classes) = first.classes() {
        return Ok(classes.to_vec());
    }
    let mut most = 0;
    for (table, _) in tables {
        most = most.max(table.highest_label()?);
    }
    let digits = most.to_string().len();
    let path = first.path().display();
    progress.warn(&format!("{path}: has no class names (metadata `huggingface`); classes are named by their numbers"));
    Ok((0..=most).map(|label| format!("{label:0digits$}")).collect())
}

/// The images read so far.
struct Images {
    /// The number of rows that the files claim.
    total: u64,
    resize: Option<Resize>,
    /// The memory for decoding images that are resized.
    budget: Budget,
    /// That to which images are resized, or that of the first image.
    size: Option<ImageSize>,
    samples: Vec<Sample>,
    pixels: Vec<u8>,
    hashes: Vec<blake3::Hash>,
    found: Vec<Found>,
}

impl Images {
    fn new(total: u64, resize: Option<Resize>) -> Result<Self> {
        let size = resize.map(|resize| resize.size);
        let kept = size.map_or(Ok(0), |size| room_for(total, size))?;
        Ok(Self {
            total,
            resize,
            // The pixels grow to up to twice their size.
            budget: Budget::beside(kept.saturating_mul(2)),
            size,
            samples: Vec::new(),
            pixels: Vec::new(),
            hashes: Vec::new(),
            found: Vec::new(),
        })
    }

    /// Decodes rows; `first` is the number of the first one in the file.
    fn decode(&mut self, rows: &[Row], first: usize, path: &Path) -> Result<()> {
        let wrong = |row: usize, problem: &Problem| {
            let words = format!("the image of row {} {}", first + row, problem.words());
            match problem {
                Problem::Size(_) => DataError::Sizes { path: path.to_path_buf(), problem: words },
                Problem::Other(_) => DataError::malformed(path, words),
            }
        };
        let size = match (self.size, rows.first()) {
            (Some(size), _) => size,
            (None, None) => return Ok(()),
            (None, Some(row)) => {
                let size = files::small_header(row.image.data()).map_err(|problem| wrong(0, &problem))?.size();
                room_for(self.total, size)?;
                *self.size.insert(size)
            }
        };
        let start = self.pixels.len();
        self.pixels.resize(start + rows.len() * size.bytes(), 0);
        let (budget, resize) = (&self.budget, self.resize);
        let decoded: Vec<(blake3::Hash, Result<Found, Problem>)> = self.pixels[start..]
            .par_chunks_exact_mut(size.bytes())
            .zip(rows)
            .map(|(pixels, row)| {
                let bytes = row.image.data();
                let found = match resize {
                    None => files::decode_small(bytes, size, pixels),
                    Some(resize) => match decode_fitted(bytes, resize, budget, pixels) {
                        Ok(found) => Ok(Found::of_resized(found, resize)),
                        Err(Unread::Image(problem)) => Err(Problem::Other(problem)),
                        Err(Unread::Memory(e)) => return Err(e),
                    },
                };
                Ok((blake3::hash(pixels), found))
            })
            .collect::<Result<_>>()?;
        for (row, (hash, found)) in decoded.into_iter().enumerate() {
            self.found.push(found.map_err(|problem| wrong(row, &problem))?);
            self.hashes.push(hash);
        }
        Ok(())
    }
}
