//! Event files for `TensorBoard`: scalars per epoch.
//!
//! A file is a sequence of records. Each has a little-endian length, its masked checksum (CRC-32C),
//! the bytes and their masked checksum. The bytes are a protocol buffer `Event` (`TensorFlow`'s
//! `tfrecord` guide; `event.proto` and `summary.proto` of `TensorBoard`). Only the fields that
//! scalars need are written.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cifar_data::DataError;

use crate::artifacts::SERIES;
use crate::{EpochRecord, Result};

/// The event file of one run, open for writing.
///
/// ```
/// use cifar_train::EpochRecord;
/// use cifar_train::tensorboard::EventFile;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let out = folder.path();
/// let record = EpochRecord {
///     epoch: 1,
///     step: 300,
///     learning_rate: 0.1,
///     train_loss: 2.0,
///     train_accuracy: 0.25,
///     val_loss: None,
///     val_accuracy: None,
///     best: false,
/// };
/// let mut events = EventFile::create(out, "run-1")?;
/// events.update(&[record])?;
/// assert!(out.join("events.out.tfevents.0.run-1").is_file());
/// # Ok::<(), cifar_train::TrainError>(())
/// ```
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: std::path::PathBuf,
    epochs: usize,
}

impl EventFile {
    /// Creates a file in `folder`, which is a run of `TensorBoard`. Replaces the file that an
    /// earlier process wrote for the same run (`key`).
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn create(folder: &Path, key: &str) -> Result<Self> {
        fs::create_dir_all(folder).map_err(DataError::io("create the folder", folder))?;
        // TensorBoard expects `tfevents` in the name and reads files in the order of their names.
        let path = folder.join(format!("events.out.tfevents.0.{key}"));
        // Replaces the file instead of writing into it: it may be a link to something else.
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(DataError::io("replace", &path)(e).into()),
            _ => {}
        }
        let file = File::create_new(&path).map_err(DataError::io("write", &path))?;
        let mut events = Self { file, path, epochs: 0 };
        let mut version = Vec::new();
        bytes(&mut version, FILE_VERSION, b"brain.Event:2");
        events.append(version)?;
        Ok(events)
    }

    /// Appends the epochs of `history` that are not in the file yet.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn update(&mut self, history: &[EpochRecord]) -> Result<()> {
        for record in history.iter().skip(self.epochs) {
            let mut summary = Vec::new();
            for (tag, value) in SERIES {
                if let Some(value) = value(record) {
                    let mut scalar = Vec::new();
                    bytes(&mut scalar, TAG, tag.as_bytes());
                    key(&mut scalar, SIMPLE_VALUE, FIXED_32);
                    scalar.extend((value as f32).to_le_bytes());
                    bytes(&mut summary, VALUE, &scalar);
                }
            }
            let mut event = Vec::new();
            key(&mut event, STEP, VARINT);
            varint(&mut event, record.epoch as u64);
            bytes(&mut event, SUMMARY, &summary);
            self.append(event)?;
        }
        self.epochs = history.len();
        Ok(())
    }

    /// Appends an event with the current time.
    fn append(&mut self, mut event: Vec<u8>) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        key(&mut event, WALL_TIME, FIXED_64);
        event.extend(now.as_secs_f64().to_le_bytes());
        self.file.write_all(&framed(&event)).map_err(DataError::io("write", &self.path))?;
        Ok(())
    }
}

// Fields of `Event`, `Summary` and `Summary.Value`.
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const VALUE: u64 = 1;
const TAG: u64 = 1;
const SIMPLE_VALUE: u64 = 2;

// Wire types of protocol buffers.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

fn key(to: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(to, field << 3 | wire_type);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn bytes(to: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(to, field, BYTES);
    varint(to, value.len() as u64);
    to.extend(value);
}

/// Returns a record: the length and the bytes, each with its checksum.
fn framed(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_checksum(&length).to_le_bytes());
    record.extend(event);
    record.extend(masked_checksum(event).to_le_bytes());
    record
}

/// The mask keeps the checksum of data that contain checksums from being trivial.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_records_match_the_published_encodings() {
        let mut found = Vec::new();
        varint(&mut found, 300);
        // The example of the protocol buffers' encoding guide.
        assert_eq!(found, [0xac, 0x02]);
        // The check value of CRC-32C (RFC 3720, B.4: 32 bytes of zeros), and the mask applied to
        // it.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked_checksum(&[0; 32]), 0x6d55_1522_u32.wrapping_add(0xa282_ead8));
        assert_eq!(framed(b"abc").len(), 8 + 4 + 3 + 4);
    }

    /// Returns the bytes of a file's records, and checks their checksums.
    fn records(mut file: &[u8]) -> Vec<&[u8]> {
        let mut found = Vec::new();
        while !file.is_empty() {
            let (length, rest) = file.split_at(8);
            let (sum, rest) = rest.split_at(4);
            assert_eq!(sum, masked_checksum(length).to_le_bytes());
            let (record, rest) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let (sum, rest) = rest.split_at(4);
            assert_eq!(sum, masked_checksum(record).to_le_bytes());
            found.push(record);
            file = rest;
        }
        found
    }

    /// Returns the fields of a protocol buffer as numbers and bytes (a varint as eight bytes).
    fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn take(message: &mut &[u8]) -> u64 {
            let end = message.iter().position(|b| b & 0x80 == 0).unwrap();
            let (number, rest) = message.split_at(end + 1);
            *message = rest;
            number.iter().rev().fold(0, |value, b| value << 7 | u64::from(b & 0x7f))
        }
        let mut found = Vec::new();
        while !message.is_empty() {
            let key = take(&mut message);
            let length = match key & 7 {
                VARINT => {
                    found.push((key >> 3, take(&mut message).to_le_bytes().to_vec()));
                    continue;
                }
                FIXED_64 => 8,
                FIXED_32 => 4,
                BYTES => take(&mut message) as usize,
                other => panic!("wire type {other}"),
            };
            let (value, rest) = message.split_at(length);
            found.push((key >> 3, value.to_vec()));
            message = rest;
        }
        found
    }

    #[test]
    fn each_epoch_is_written_once_and_can_be_read_back() {
        let record = |epoch: usize, val_loss| EpochRecord {
            epoch,
            step: epoch * 300,
            learning_rate: 0.5,
            train_loss: 2.0,
            train_accuracy: 0.25,
            val_loss,
            val_accuracy: None,
            best: false,
        };
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(&folder.path().join("run"), "k").unwrap();
        events.update(&[record(1, None)]).unwrap();
        events.update(&[record(1, None), record(200, Some(1.5))]).unwrap();
        let file = fs::read(folder.path().join("run/events.out.tfevents.0.k")).unwrap();
        let records = records(&file);
        assert_eq!(records.len(), 3);
        assert!(fields(records[0]).contains(&(FILE_VERSION, b"brain.Event:2".to_vec())));
        let scalars = |event: &[u8], epoch: u64| {
            let event = fields(event);
            assert!(event.contains(&(STEP, epoch.to_le_bytes().to_vec())), "{event:?}");
            let seconds = &event.iter().find(|(field, _)| *field == WALL_TIME).unwrap().1;
            assert!(f64::from_le_bytes(seconds.as_slice().try_into().unwrap()) > 1.7e9, "seconds since 1970");
            let summary = &event.iter().find(|(field, _)| *field == SUMMARY).unwrap().1;
            let scalar = |(field, value): (u64, Vec<u8>)| {
                assert_eq!(field, VALUE);
                let [(TAG, tag), (SIMPLE_VALUE, value)] = &fields(&value)[..] else { panic!("{value:?}") };
                let value = f32::from_le_bytes(value.as_slice().try_into().unwrap());
                (String::from_utf8(tag.clone()).unwrap(), value)
            };
            fields(summary).into_iter().map(scalar).collect::<Vec<_>>()
        };
        let named = |pairs: &[(&str, f32)]| pairs.iter().map(|(tag, value)| ((*tag).to_string(), *value)).collect();
        let first: Vec<(String, f32)> = named(&[("train/loss", 2.0), ("train/accuracy", 0.25), ("learning_rate", 0.5)]);
        assert_eq!(scalars(records[1], 1), first);
        let mut second = first;
        second.insert(2, ("val/loss".into(), 1.5));
        assert_eq!(scalars(records[2], 200), second);
    }
}
