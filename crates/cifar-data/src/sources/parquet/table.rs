//! The two needed columns of one file, checked before they are read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use parquet::basic::{Compression, Type};
use parquet::data_type::ByteArray;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;

use super::super::Labels;
use super::values::{Column, Value};
use super::{classes, pages};
use crate::{DataError, Result, input};

/// Most bytes of a file's metadata; those of 50,000 images in a thousand row groups have 1 MB.
const MAX_METADATA: u32 = 64 << 20;

/// One row.
pub(super) struct Row {
    /// The bytes of a PNG or JPEG file.
    pub(super) image: ByteArray,
    pub(super) label: i64,
}

/// A file with the columns of a set of images.
pub(super) struct Table {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    /// Indices of the two columns.
    image: usize,
    label: usize,
    classes: Option<Vec<String>>,
}

impl Table {
    /// Opens a file and checks everything except the values.
    pub(super) fn open(path: &Path, labels: Labels) -> Result<Self> {
        let wrong = |problem: String| DataError::malformed(path, problem);
        let mut file = input::open(path)?;
        check_ends(&mut file, path)?;
        let again = file.try_clone().map_err(DataError::io("open", path))?;
        let reader = SerializedFileReader::new(file).map_err(|e| damaged(path, &e))?;
        let metadata = reader.metadata().file_metadata();
        let columns: Vec<String> = metadata.schema_descr().columns().iter().map(|c| c.path().string()).collect();
        let place = |names: &[&str]| columns.iter().position(|column| names.contains(&column.as_str()));
        let label_names: &[&str] = match labels {
            Labels::Fine => &["label", "fine_label"],
            Labels::Coarse => &["coarse_label"],
        };
        let (Some(image), Some(label)) = (place(&["img.bytes", "image.bytes"]), place(label_names)) else {
            let expected = label_names.join(" or ");
            let found = columns.join(", ");
            return Err(wrong(format!(
                "has the columns {found}; expected img or image, with bytes and path, and {expected}"
            )));
        };
        for (place, types) in [(image, &[Type::BYTE_ARRAY][..]), (label, &[Type::INT32, Type::INT64])] {
            let column = metadata.schema_descr().column(place);
            if column.max_rep_level() > 0 || !types.contains(&column.physical_type()) {
                let found = column.physical_type();
                let list = if column.max_rep_level() > 0 { "a list of " } else { "" };
                return Err(wrong(format!("column {} is {list}{found}; expected {types:?}", columns[place])));
            }
        }
        let json = metadata.key_value_metadata().and_then(|list| list.iter().find(|pair| pair.key == "huggingface"));
        let json = json.and_then(|pair| pair.value.as_deref());
        let classes = json.map(|json| classes::names(json, &columns[label])).transpose().map_err(wrong)?.flatten();
        let table = Self { path: path.to_path_buf(), reader, image, label, classes };
        table.check_pages(again)?;
        Ok(table)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the class names, if the file has them.
    pub(super) fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    /// Returns the number of rows that the file claims.
    pub(super) fn rows(&self) -> u64 {
        u64::try_from(self.reader.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Returns the highest label; at least 0.
    pub(super) fn highest_label(&self) -> Result<u16> {
        let mut most = 0;
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group).map_err(|e| damaged(&self.path, &e))?;
            let mut labels = Column::of(&*group, self.label).map_err(|e| damaged(&self.path, &e))?;
            loop {
                let read = labels.next(4096).map_err(|e| damaged(&self.path, &e))?;
                if read.is_empty() {
                    break;
                }
                let number = |value| if let Some(Value::Number(label)) = value { label } else { 0 };
                most = read.into_iter().map(number).fold(most, i64::max);
            }
        }
        u16::try_from(most)
            .map_err(|_| DataError::malformed(&self.path, format!("has label {most}; allowed are 0 to {}", u16::MAX)))
    }

    /// Calls `take` with up to `most` rows at a time, in order.
    pub(super) fn for_each(&self, most: usize, mut take: impl FnMut(&[Row]) -> Result<()>) -> Result<()> {
        let broken = |e: &dyn std::fmt::Display| damaged(&self.path, e);
        let mut before = 0;
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group).map_err(|e| broken(&e))?;
            let mut images = Column::of(&*group, self.image).map_err(|e| broken(&e))?;
            let mut labels = Column::of(&*group, self.label).map_err(|e| broken(&e))?;
            loop {
                let (images, labels) =
                    (images.next(most).map_err(|e| broken(&e))?, labels.next(most).map_err(|e| broken(&e))?);
                if images.len() != labels.len() {
                    let problem = format!("has {} images and {} labels", before + images.len(), before + labels.len());
                    return Err(DataError::malformed(&self.path, format!("{problem}; it is cut short or damaged")));
                }
                if images.is_empty() {
                    break;
                }
                let mut rows = Vec::with_capacity(images.len());
                for (at, pair) in images.into_iter().zip(labels).enumerate() {
                    let (Some(Value::Bytes(image)), Some(Value::Number(label))) = pair else {
                        let what = if pair.0.is_none() { "image bytes" } else { "label" };
                        return Err(DataError::malformed(&self.path, format!("row {} has no {what}", before + at)));
                    };
                    rows.push(Row { image, label });
                }
                before += rows.len();
                if before as u64 > self.rows() {
                    let problem = format!("holds more than the {} rows that it claims", self.rows());
                    return Err(DataError::malformed(&self.path, problem));
                }
                take(&rows)?;
            }
        }
        if before as u64 == self.rows() {
            return Ok(());
        }
        Err(DataError::malformed(&self.path, format!("holds {before} of the {} rows that it claims", self.rows())))
    }

    /// Checks the pages and the compression of both columns.
    fn check_pages(&self, mut file: File) -> Result<()> {
        let wrong = |problem: String| DataError::malformed(&self.path, problem);
        for group in self.reader.metadata().row_groups() {
            for place in [self.image, self.label] {
                let column =
                    group.columns().get(place).ok_or_else(|| wrong("has a group without its columns".into()))?;
                let name = column.column_path().string();
                if !matches!(
                    column.compression(),
                    Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_)
                ) {
                    let found = column.compression();
                    return Err(wrong(format!(
                        "column {name} is packed with {found}; allowed are SNAPPY, ZSTD and none"
                    )));
                }
                let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
                let (Ok(start), Ok(length)) = (u64::try_from(start), u64::try_from(column.compressed_size())) else {
                    return Err(wrong(format!("column {name} is outside the file")));
                };
                let pages = pages::check(&mut file, start, length).map_err(DataError::io("read", &self.path))?;
                pages.map_err(|problem| wrong(format!("column {name} {problem}")))?;
            }
        }
        Ok(())
    }
}

/// Checks the marks at both ends, and the length of the metadata before the last one.
fn check_ends(file: &mut File, path: &Path) -> Result<()> {
    const MARK: &[u8] = b"PAR1";
    let io = |e| DataError::io("read", path)(e);
    let mut first = Vec::new();
    file.by_ref().take(64).read_to_end(&mut first).map_err(io)?;
    if !first.starts_with(MARK) {
        let kind = input::kind(&first).map(|kind| format!(" but {kind}")).unwrap_or_default();
        return Err(DataError::malformed(path, format!("is not a parquet file{kind}")));
    }
    let mut last = [0; 8];
    let whole = file.seek(SeekFrom::End(-8)).and_then(|_| file.read_exact(&mut last));
    if whole.is_err() || last[4..] != *MARK {
        return Err(DataError::malformed(path, "is cut short; copy or download it again"));
    }
    let length = u32::from_le_bytes([last[0], last[1], last[2], last[3]]);
    if length > MAX_METADATA {
        return Err(DataError::malformed(path, format!("has {length} bytes of metadata; allowed are {MAX_METADATA}")));
    }
    Ok(())
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> DataError {
    let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    DataError::malformed(path, format!("is cut short or damaged: {error}"))
}
