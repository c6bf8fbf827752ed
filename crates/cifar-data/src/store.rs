//! A data set on disk: a folder with `images.safetensors`, for programs, and `manifest.csv`, for
//! people and integrity.
//!
//! `images.safetensors` holds `images` (`u8`, N × height × width × 3), `ids` (`u32`, N), `labels`
//! and `original_labels` (`u16`, N, indices into the classes). Its metadata have one key,
//! `cifar_data`: the schema version, class names, image size, source and a hash of the manifest as
//! JSON; for a partition also the identity of the whole set, or of the set that it was added to.
//!
//! `manifest.csv` has one row per image with the columns of [`COLUMNS`]; `blake3` is the first 128
//! bits of the BLAKE3 hash of the pixels, in hexadecimal. Reading compares both files, so it
//! refuses a folder with any changed byte or with files of different sets. The schema is 2.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::size::CHANNELS;
use crate::spreadsheet::{self, plain};
use crate::{DataError, Dataset, Header, Published, Result, Sample, SampleId};

/// File name of the pixels.
pub const IMAGES: &str = "images.safetensors";
/// File name of the list of images.
pub const MANIFEST: &str = "manifest.csv";
/// Columns of the manifest, in order.
pub const COLUMNS: [&str; 7] = ["id", "file", "label", "original_label", "published_split", "source", "blake3"];

const SCHEMA: u32 = 2;
const METADATA_KEY: &str = "cifar_data";

#[derive(Serialize, Deserialize)]
struct Metadata {
    schema: u32,
    #[serde(flatten)]
    header: Header,
    /// Hash over the header and the manifest: it covers what the tensors do not contain.
    manifest_hash: String,
    /// [`identity`] of the whole that this set is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part_of: Option<String>,
    /// Identity of everything that this set was added to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    added_to: Option<String>,
}

/// A set that is a part of a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The images.
    pub set: Dataset,
    /// [`identity`] of the whole, if this set was cut from one.
    pub part_of: Option<String>,
    /// The identity of what was there before this set was added, if it was added.
    pub added_to: Option<String>,
    /// [`identity`] of the set itself.
    pub identity: String,
}

/// Writes a set into `folder`, which must exist. Equal sets give identical files.
///
/// ```
/// use cifar_data::sources::synthetic::{self, SyntheticParams};
/// use cifar_data::store;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// let set = synthetic::generate(&SyntheticParams { count: 30, ..Default::default() })?.dataset;
/// store::write(&set, folder)?;
/// assert_eq!(store::read(folder)?, set);
/// # Ok::<(), cifar_data::DataError>(())
/// ```
pub fn write(dataset: &Dataset, folder: &Path) -> Result<()> {
    write_with(dataset, None, None, folder)
}

/// Writes a part of a set with the identity `whole` (see [`identity`]).
pub fn write_part(dataset: &Dataset, whole: &str, folder: &Path) -> Result<()> {
    write_with(dataset, Some(whole.to_string()), None, folder)
}

/// Writes a set that is added to a whole, which has the identity `before`.
pub fn write_added(dataset: &Dataset, before: &str, folder: &Path) -> Result<()> {
    write_with(dataset, None, Some(before.to_string()), folder)
}

fn write_with(dataset: &Dataset, part_of: Option<String>, added_to: Option<String>, folder: &Path) -> Result<()> {
    let manifest_csv = manifest_csv(dataset);
    let header = dataset.header().clone();
    let manifest_hash = manifest_hash(&header, &manifest_csv);
    let (images, manifest) = (folder.join(IMAGES), folder.join(MANIFEST));
    fs::write(&manifest, manifest_csv).map_err(DataError::io("write", &manifest))?;
    write_images(dataset, &Metadata { schema: SCHEMA, header, manifest_hash, part_of, added_to }, &images)?;
    // The safetensors library lets nobody but the user read its files, whatever the umask says.
    let permissions = fs::metadata(&manifest).map_err(DataError::io("read", &manifest))?.permissions();
    fs::set_permissions(&images, permissions).map_err(DataError::io("write", &images))
}

/// Reads a set and checks every image against its hash.
pub fn read(folder: &Path) -> Result<Dataset> {
    read_part(folder).map(|part| part.set)
}

/// Reads a set and what it is a part of, and checks every image against its hash.
pub fn read_part(folder: &Path) -> Result<Part> {
    let manifest = folder.join(MANIFEST);
    let text = fs::read(&manifest).map_err(DataError::io("read", &manifest))?;
    let path = folder.join(IMAGES);
    let Images { metadata, ids, labels, original_labels, pixels } = read_images(&path)?;
    let Metadata { header, manifest_hash: expected, part_of, added_to, .. } = metadata;
    let rows = parse_manifest(&text, &manifest, &header)?;
    if rows.len() != ids.len() {
        return Err(DataError::malformed(
            &manifest,
            format!("lists {} images, but {IMAGES} holds {}", rows.len(), ids.len()),
        ));
    }
    for (index, (sample, _)) in rows.iter().enumerate() {
        if (sample.id.0, sample.label, sample.original_label) != (ids[index], labels[index], original_labels[index]) {
            return Err(DataError::line(
                &manifest,
                index as u64 + 2,
                format!("image {} is not the image {} of {IMAGES}, or has another label there", sample.id, ids[index]),
            ));
        }
    }
    if manifest_hash(&header, &text) != expected {
        return Err(DataError::malformed(
            &manifest,
            format!("is not the list that {IMAGES} was written with; one of them was changed or damaged"),
        ));
    }
    let hashes: Vec<blake3::Hash> = pixels.par_chunks(header.size.bytes()).map(blake3::hash).collect();
    let broken = rows.iter().zip(&hashes).find(|((_, listed), hash)| short(hash) != *listed);
    if let Some(((sample, _), _)) = broken {
        return Err(DataError::HashMismatch { path, id: sample.id });
    }
    let set = Dataset::new(header, rows.into_iter().map(|(sample, _)| sample).collect(), pixels)
        .map_err(|e| DataError::malformed(&path, e.to_string()))?;
    Ok(Part { set: set.with_hashes(hashes), part_of, added_to, identity: expected })
}

/// Returns one hash over everything in the manifest: ids, files, labels, published splits, source
/// and pixels.
pub fn identity(dataset: &Dataset) -> String {
    manifest_hash(dataset.header(), &manifest_csv(dataset))
}

fn manifest_hash(header: &Header, manifest: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    let header = serde_json::to_vec(header).unwrap_or_default();
    hasher.update(&(header.len() as u64).to_le_bytes()).update(&header).update(manifest);
    short(&hasher.finalize())
}

/// Returns the first 128 bits of the BLAKE3 hash of an image's pixels, in hexadecimal.
pub fn image_hash(pixels: &[u8]) -> String {
    short(&blake3::hash(pixels))
}

fn short(hash: &blake3::Hash) -> String {
    hash.to_hex()[..32].to_string()
}

/// Returns one hash over ids, labels and pixels of all images.
pub fn fingerprint(dataset: &Dataset) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(dataset.classes().join("\n").as_bytes());
    for (sample, hash) in dataset.samples().iter().zip(dataset.hashes()) {
        hasher.update(&sample.id.0.to_le_bytes());
        hasher.update(&sample.label.to_le_bytes());
        hasher.update(&sample.original_label.to_le_bytes());
        hasher.update(hash.as_bytes());
    }
    short(&hasher.finalize())
}

fn write_images(dataset: &Dataset, metadata: &Metadata, path: &Path) -> Result<()> {
    let n = dataset.len();
    let size = dataset.size();
    let column =
        |value: fn(&Sample) -> u16| dataset.samples().iter().flat_map(|s| value(s).to_le_bytes()).collect::<Vec<u8>>();
    let ids: Vec<u8> = dataset.samples().iter().flat_map(|s| s.id.0.to_le_bytes()).collect();
    let (labels, original_labels) = (column(|s| s.label), column(|s| s.original_label));
    let json = serde_json::to_string(metadata).map_err(|e| DataError::malformed(path, e.to_string()))?;
    let view = |dtype, shape: Vec<usize>, data| {
        TensorView::new(dtype, shape, data).map_err(|e| DataError::malformed(path, e.to_string()))
    };
    let tensors = [
        ("images", view(Dtype::U8, vec![n, size.height, size.width, 3], dataset.pixels())?),
        ("ids", view(Dtype::U32, vec![n], &ids)?),
        ("labels", view(Dtype::U16, vec![n], &labels)?),
        ("original_labels", view(Dtype::U16, vec![n], &original_labels)?),
    ];
    // One key only: the header is a hash map, whose order would change the bytes from run to run.
    let metadata = HashMap::from([(METADATA_KEY.to_string(), json)]);
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(source) => DataError::io("write", path)(source),
        other => DataError::malformed(path, other.to_string()),
    })
}

struct Images {
    metadata: Metadata,
    ids: Vec<u32>,
    labels: Vec<u16>,
    original_labels: Vec<u16>,
    pixels: Vec<u8>,
}

fn read_images(path: &Path) -> Result<Images> {
    let mut buffer = fs::read(path).map_err(DataError::io("read", path))?;
    let wrong = |problem: String| DataError::malformed(path, problem);
    let not_ours =
        |e: safetensors::SafeTensorError| wrong(format!("is not a readable safetensors file ({e}); write it again"));
    let (_, found) = SafeTensors::read_metadata(&buffer).map_err(not_ours)?;
    let json = found
        .metadata()
        .as_ref()
        .and_then(|map| map.get(METADATA_KEY))
        .ok_or_else(|| wrong(format!("has no `{METADATA_KEY}` metadata; it was not written by this program")))?;
    let schema = serde_json::from_str::<serde_json::Value>(json).ok().and_then(|v| v.get("schema")?.as_u64());
    if schema != Some(u64::from(SCHEMA)) {
        let found = schema.map_or("none".to_string(), |s| s.to_string());
        return Err(wrong(format!(
            "has schema {found}, this program reads schema {SCHEMA}; write it again with this version"
        )));
    }
    let metadata: Metadata = serde_json::from_str(json).map_err(|e| wrong(format!("has unreadable metadata: {e}")))?;
    let header = &metadata.header;
    let bytes = header.size.height.checked_mul(header.size.width).and_then(|n| n.checked_mul(CHANNELS));
    if bytes.is_none_or(|bytes| bytes == 0) {
        return Err(wrong(format!("has images of {} pixels, which is not a valid size", header.size)));
    }
    let tensors = SafeTensors::deserialize(&buffer).map_err(not_ours)?;
    let column = |name: &str, dtype| {
        let tensor = tensors.tensor(name).map_err(|_| wrong(format!("has no tensor `{name}`")))?;
        if tensor.dtype() != dtype {
            return Err(wrong(format!("tensor `{name}` is {:?}, expected {dtype:?}", tensor.dtype())));
        }
        Ok(tensor)
    };
    let images = column("images", Dtype::U8)?;
    let n = images.shape().first().copied().unwrap_or(0);
    let expected = [n, header.size.height, header.size.width, 3];
    if images.shape() != expected {
        return Err(wrong(format!("tensor `images` has shape {:?}, expected {expected:?}", images.shape())));
    }
    let u16s = |name| {
        Ok(column(name, Dtype::U16)?
            .data()
            .chunks_exact(2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]))
            .collect::<Vec<_>>())
    };
    let (labels, original_labels) = (u16s("labels")?, u16s("original_labels")?);
    let ids: Vec<u32> = column("ids", Dtype::U32)?
        .data()
        .chunks_exact(4)
        .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    if [ids.len(), labels.len(), original_labels.len()] != [n; 3] {
        return Err(wrong(format!(
            "holds {n} images, {} ids, {} labels and {} original labels",
            ids.len(),
            labels.len(),
            original_labels.len()
        )));
    }
    // The pixels stay in the buffer that was read: a copy would double the memory.
    let length = images.data().len();
    let start = images.data().as_ptr().addr() - buffer.as_ptr().addr();
    buffer.truncate(start + length);
    buffer.drain(..start);
    Ok(Images { metadata, ids, labels, original_labels, pixels: buffer })
}

fn manifest_csv(dataset: &Dataset) -> Vec<u8> {
    let source = &dataset.header().source.description;
    let class = |label: u16| dataset.classes()[usize::from(label)].clone();
    let row = |(sample, hash): (&Sample, &blake3::Hash)| {
        [
            sample.id.to_string(),
            sample.file.clone(),
            class(sample.label),
            class(sample.original_label),
            sample.published.to_string(),
            source.clone(),
            short(hash),
        ]
    };
    spreadsheet::csv(&COLUMNS, dataset.samples().iter().zip(dataset.hashes()).map(row))
}

fn parse_manifest(text: &[u8], path: &Path, header: &Header) -> Result<Vec<(Sample, String)>> {
    let mut csv = csv::Reader::from_reader(text);
    let columns = csv.headers().map_err(|e| DataError::malformed(path, e.to_string()))?;
    if columns.iter().ne(COLUMNS) {
        let found = columns.iter().collect::<Vec<_>>().join(",");
        return Err(DataError::malformed(path, format!("has the columns {found:?}; expected {}", COLUMNS.join(","))));
    }
    let class_index: HashMap<&str, u16> = header.classes.iter().map(String::as_str).zip(0u16..).collect();
    let mut rows = Vec::new();
    for (index, record) in csv.records().enumerate() {
        let line = index as u64 + 2;
        let record = record.map_err(|e| DataError::line(path, line, e.to_string()))?;
        let label = |column: usize| {
            class_index.get(plain(&record[column])).copied().ok_or_else(|| {
                DataError::line(
                    path,
                    line,
                    format!("unknown class {:?}; the classes are {}", &record[column], header.classes.join(", ")),
                )
            })
        };
        let id = record[0]
            .parse()
            .map_err(|_| DataError::line(path, line, format!("id {:?} is not a number", &record[0])))?;
        let published = match &record[4] {
            "train" => Published::Train,
            "test" => Published::Test,
            "none" => Published::None,
            other => {
                return Err(DataError::line(
                    path,
                    line,
                    format!("published_split {other:?}; expected train, test or none"),
                ));
            }
        };
        if plain(&record[5]) != header.source.description {
            return Err(DataError::line(
                path,
                line,
                format!("comes from {:?}, but {IMAGES} from {:?}", &record[5], header.source.description),
            ));
        }
        let sample = Sample {
            id: SampleId(id),
            file: plain(&record[1]).to_string(),
            label: label(2)?,
            original_label: label(3)?,
            published,
        };
        rows.push((sample, record[6].to_string()));
    }
    Ok(rows)
}
