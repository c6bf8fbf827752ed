//! Parses one batch file into labels and pixels, and converts planes to height × width × RGB.

use std::borrow::Cow;

use super::Labels;
use super::pickle::{Array, Payload, Pickle};
use super::version::{Form, SIZE, Version};

/// Bytes of one colour plane of an image.
const PLANE: usize = SIZE.height * SIZE.width;
/// Bytes of one image.
const IMAGE: usize = 3 * PLANE;

/// The images of one file, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) labels: Vec<u16>,
    /// The pixels, height × width × RGB each.
    pub(super) pixels: Vec<u8>,
}

pub(super) fn read(version: &Version, labels: Labels, bytes: Vec<u8>) -> Result<Batch, String> {
    match version.form {
        Form::Binary => read_binary(version, labels, bytes),
        Form::Python => read_python(version, labels, &bytes),
    }
}

/// Parses the class names of a meta file. They must be printable and valid as CSV fields and file
/// names.
pub(super) fn class_names(version: &Version, labels: Labels, bytes: &[u8]) -> Result<Vec<String>, String> {
    let names: Vec<String> = match version.form {
        Form::Binary => {
            let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text; expected one class name per line")?;
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect()
        }
        Form::Python => {
            let pickle = Pickle::load(bytes)?;
            let key = version.keys(labels).names;
            let list = pickle.list(pickle.entry(key)?);
            let names = list.map(|names| names.iter().map(|name| name.text().map(String::from)).collect());
            names.flatten().ok_or_else(|| format!("its {key} are not a list of strings"))?
        }
    };
    if names.is_empty() {
        return Err("names no classes".into());
    }
    for (index, name) in names.iter().enumerate() {
        let odd = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
        if name.is_empty() || name.len() > 100 || name.starts_with('.') || name.contains(odd) {
            let shown: String = name.chars().take(100).collect();
            return Err(format!(
                "{shown:?} is not a valid class name; allowed are 1 to 100 bytes without / \\ : and without a leading dot"
            ));
        }
        if names[..index].contains(name) {
            return Err(format!("names the class {name:?} twice"));
        }
    }
    Ok(names)
}

/// Parses records of labels and planes in place. An image is shorter than its record, so no image
/// is overwritten before it is read.
fn read_binary(version: &Version, which: Labels, mut bytes: Vec<u8>) -> Result<Batch, String> {
    let record = version.labels_a_record + IMAGE;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        return Err(format!(
            "has {} bytes; expected a whole number of records of {record} bytes: {} of labels, {IMAGE} of pixels",
            bytes.len(),
            version.labels_a_record
        ));
    }
    let count = bytes.len() / record;
    let mut labels = Vec::with_capacity(count);
    // The coarse label comes before the fine one.
    let label = if which == Labels::Coarse { 0 } else { version.labels_a_record - 1 };
    let mut image = [0; IMAGE];
    for index in 0..count {
        let pixels = index * record + version.labels_a_record;
        labels.push(u16::from(bytes[index * record + label]));
        interleave(&bytes[pixels..pixels + IMAGE], &mut image);
        bytes[index * IMAGE..(index + 1) * IMAGE].copy_from_slice(&image);
    }
    bytes.truncate(count * IMAGE);
    Ok(Batch { labels, pixels: bytes })
}

fn read_python(version: &Version, labels: Labels, bytes: &[u8]) -> Result<Batch, String> {
    let pickle = Pickle::load(bytes)?;
    let array = pickle.array(pickle.entry("data")?).ok_or("its data are not a NumPy array")?;
    let key = version.keys(labels).labels;
    let labels = pickle.list(pickle.entry(key)?).ok_or_else(|| format!("its {key} are not a list"))?;
    let count = match array.shape[..] {
        [count, IMAGE] if count > 0 => count,
        _ => return Err(format!("its data have the shape {:?}; expected N × {IMAGE}", array.shape)),
    };
    if labels.len() != count {
        return Err(format!("has {} {key} for {count} images; expected one per image", labels.len()));
    }
    let label = |(index, label): (usize, &super::pickle::Value)| {
        let number = label.number().and_then(|number| u16::try_from(number).ok());
        number.ok_or_else(|| format!("the label of image {index} is not a whole number from 0"))
    };
    let labels = labels.iter().enumerate().map(label).collect::<Result<_, _>>()?;
    let mut pixels = rows(array, count)?;
    let mut image = [0; IMAGE];
    for row in pixels.chunks_exact_mut(IMAGE) {
        interleave(row, &mut image);
        row.copy_from_slice(&image);
    }
    Ok(Batch { labels, pixels })
}

/// Returns the rows of the array, one per image.
fn rows(array: &Array, count: usize) -> Result<Vec<u8>, String> {
    if !matches!(array.dtype, b"u1" | b"|u1" | b"uint8") {
        let found = String::from_utf8_lossy(array.dtype);
        return Err(format!("its data are numbers of the type {:?}; expected uint8", found.escape_debug().to_string()));
    }
    // The shape is only a claim until the bytes are there.
    let expected = count.checked_mul(IMAGE);
    let wrong = |found: usize| format!("its data have {found} bytes; {count} images have {IMAGE} each");
    let values = match array.data {
        Payload::Bytes(bytes) if Some(bytes.len()) == expected => Cow::Borrowed(bytes),
        Payload::Bytes(bytes) => return Err(wrong(bytes.len())),
        Payload::Latin1(text) => {
            let found = text.chars().count();
            if Some(found) != expected {
                return Err(wrong(found));
            }
            let mut values = Vec::with_capacity(found);
            for character in text.chars() {
                values.push(u8::try_from(character).map_err(|_| "its data are text that does not encode bytes")?);
            }
            Cow::Owned(values)
        }
    };
    if !array.column_major {
        return Ok(values.into_owned());
    }
    let mut rows = vec![0; values.len()];
    for (column, values) in values.chunks_exact(count).enumerate() {
        for (row, value) in values.iter().enumerate() {
            rows[row * IMAGE + column] = *value;
        }
    }
    Ok(rows)
}

/// Converts red, green and blue planes to RGB pixels.
fn interleave(planes: &[u8], pixels: &mut [u8; IMAGE]) {
    let (red, rest) = planes.split_at(PLANE);
    let (green, blue) = rest.split_at(PLANE);
    for (pixel, ((r, g), b)) in pixels.chunks_exact_mut(3).zip(red.iter().zip(green).zip(blue)) {
        pixel.copy_from_slice(&[*r, *g, *b]);
    }
}
