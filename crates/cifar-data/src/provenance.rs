//! What a stage's results were made from, and whether the files are unchanged.
//!
//! Every folder that one stage writes and another one reads has a `provenance.json`: the stage that
//! wrote it, the fingerprints of its inputs, and the BLAKE3 hash of each file that later stages
//! read. The file has a hash of itself ([`crate::seal`]). Images have their own hashes
//! ([`crate::store`]) and are not listed. The schema is 1.
//!
//! ```
//! use cifar_data::output::OutputFolder;
//! use cifar_data::provenance::{self, Provenance};
//!
//! # let root = tempfile::tempdir().unwrap();
//! # let out = root.path().join("scores");
//! let folder = OutputFolder::create(&out)?;
//! folder.write("scores.csv", b"id,score\n0,0.5\n")?;
//! provenance::write(folder.path(), "score", &[("model", "3f2a")], &["scores.csv"])?;
//! folder.commit()?;
//!
//! let found = Provenance::read(&out, "score")?;
//! found.expect("model", "3f2a", "the model of this project")?;
//! assert_eq!(found.file("scores.csv")?, b"id,score\n0,0.5\n");
//! # Ok::<(), cifar_data::DataError>(())
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataError, Result, Stage, seal};

/// File name of the record.
pub const PROVENANCE: &str = "provenance.json";
const SCHEMA: u32 = 1;
/// The key of a record's hash of itself.
const SEAL: &str = "seal";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    schema: u32,
    made_by: String,
    inputs: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
}

/// The record of a folder, read and checked against its own hash.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    folder: PathBuf,
    record: Record,
}

/// Writes the record of `folder`, which the stage `made_by` wrote from `inputs` (names and
/// fingerprints), with the hashes of its existing `files`. Call it before the folder is committed
/// ([`crate::output`]).
///
/// # Errors
/// If a file cannot be read or the record cannot be written.
pub fn write(folder: &Path, made_by: &str, inputs: &[(&str, &str)], files: &[&str]) -> Result<()> {
    let hash_of = |name: &&str| {
        let path = folder.join(name);
        Ok((name.to_string(), hash(&fs::read(&path).map_err(DataError::io("read", &path))?)))
    };
    let record = Record {
        schema: SCHEMA,
        made_by: made_by.into(),
        inputs: inputs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        files: files.iter().map(hash_of).collect::<Result<_>>()?,
    };
    let path = folder.join(PROVENANCE);
    fs::write(&path, sealed_json(&record, &path)?).map_err(DataError::io("write", &path))
}

impl Provenance {
    /// Reads the record of a folder that the stage `made_by` wrote.
    ///
    /// # Errors
    /// If it is missing or damaged, or another stage wrote it.
    pub fn read(folder: &Path, made_by: &str) -> Result<Self> {
        let path = folder.join(PROVENANCE);
        let stages = Stage::named(made_by);
        let stale = |problem: String| DataError::stale(&path, problem, stages);
        let text = match fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound && folder.is_dir() => {
                return Err(stale("is missing, so the inputs of this folder are unknown".into()));
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(DataError::missing(folder, "there is no such folder", stages));
            }
            other => other.map_err(DataError::io("read", &path))?,
        };
        let record: Record = read_sealed(&text).map_err(stale)?;
        if record.schema != SCHEMA {
            let found = record.schema;
            return Err(stale(format!("has schema {found}, this program reads schema {SCHEMA}")));
        }
        if record.made_by != made_by {
            let found = record.made_by;
            let problem = format!("is a result of the stage {found}, expected a result of {made_by}");
            return Err(DataError::malformed(&path, problem));
        }
        Ok(Self { folder: folder.to_path_buf(), record })
    }

    /// Returns the fingerprint of the input `name`; empty if there is none.
    pub fn input(&self, name: &str) -> &str {
        self.record.inputs.get(name).map_or("", String::as_str)
    }

    /// Checks that the input `name` had this `fingerprint`. `what` describes the input, for the
    /// message.
    ///
    /// # Errors
    /// If the folder was made from something else.
    pub fn expect(&self, name: &str, fingerprint: &str, what: &str) -> Result<()> {
        if self.input(name) == fingerprint {
            return Ok(());
        }
        Err(DataError::stale(&self.folder, format!("was not made from {what}"), self.stages()))
    }

    /// Reads the file `name` of the folder and compares it with its hash.
    ///
    /// # Errors
    /// If it is missing, damaged or not listed.
    pub fn file(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(name);
        let stale = |path: &Path, problem: String| DataError::stale(path, problem, self.stages());
        let expected = self.record.files.get(name);
        let expected = expected.ok_or_else(|| stale(&self.folder.join(PROVENANCE), format!("does not list {name}")))?;
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(stale(&path, "is missing".into())),
            other => other.map_err(DataError::io("read", &path))?,
        };
        if hash(&bytes) == *expected {
            return Ok(bytes);
        }
        Err(stale(&path, format!("was changed or damaged after the stage {} wrote it", self.record.made_by)))
    }

    /// Returns the stage that wrote the folder, as a list; empty if it is not one of the pipeline.
    fn stages(&self) -> &'static [Stage] {
        Stage::named(&self.record.made_by)
    }

    /// Returns the recorded hash of the file `name`; empty if it is not listed.
    pub fn hash_of(&self, name: &str) -> &str {
        self.record.files.get(name).map_or("", String::as_str)
    }
}

/// Reads a file that its folder's record lists, and checks its hash.
///
/// # Errors
/// Those of [`Provenance::read`] and [`Provenance::file`].
pub fn read(path: &Path, made_by: &str) -> Result<Vec<u8>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Provenance::read(folder, made_by)?.file(&name)
}

/// Returns the first 128 bits of the BLAKE3 hash of `bytes`, in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_string()
}

/// Encodes a record, which must become a JSON object, with a hash of itself under the key `seal`.
/// `path` is for messages.
///
/// # Errors
/// If the record is not an object, or something in it looks like a seal.
pub fn sealed_json<T: Serialize>(record: &T, path: &Path) -> Result<Vec<u8>> {
    let wrong = |problem: String| DataError::malformed(path, problem);
    let mut value = serde_json::to_value(record).map_err(|e| wrong(e.to_string()))?;
    let object = value.as_object_mut().ok_or_else(|| wrong("cannot be sealed: it is not an object".into()))?;
    object.insert(SEAL.into(), seal::PLACEHOLDER.into());
    let mut text = serde_json::to_vec_pretty(&value).map_err(|e| wrong(e.to_string()))?;
    text.push(b'\n');
    seal::seal(&mut text).map_err(|e| wrong(e.to_string()))?;
    Ok(text)
}

/// Decodes a text that [`sealed_json`] made.
///
/// # Errors
/// What is wrong with the text: it is damaged, or is not such a record.
pub fn read_sealed<T: for<'a> Deserialize<'a>>(text: &[u8]) -> Result<T, String> {
    seal::check(text).map_err(|e| e.to_string())?;
    let another = |e: serde_json::Error| format!("is of another version ({e})");
    let mut value: serde_json::Value = serde_json::from_slice(text).map_err(another)?;
    if let Some(object) = value.as_object_mut() {
        object.shift_remove(SEAL);
    }
    serde_json::from_value(value).map_err(another)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::OutputFolder;

    fn made(root: &Path) -> PathBuf {
        let out = root.join("out");
        let folder = OutputFolder::create(&out).unwrap();
        folder.write("a.csv", b"1").unwrap();
        write(folder.path(), "prepare", &[("raw", "abc")], &["a.csv"]).unwrap();
        folder.commit().unwrap();
        out
    }

    #[test]
    fn an_unchanged_folder_is_read() {
        let root = tempfile::tempdir().unwrap();
        let out = made(root.path());
        assert_eq!(read(&out.join("a.csv"), "prepare").unwrap(), b"1");
        let found = Provenance::read(&out, "prepare").unwrap();
        assert_eq!((found.input("raw"), found.input("none")), ("abc", ""));
        assert_eq!(found.hash_of("a.csv"), hash(b"1"));
        found.expect("raw", "abc", "data/raw").unwrap();
    }

    #[test]
    fn mismatches_are_refused_with_the_stage_to_run() {
        let root = tempfile::tempdir().unwrap();
        let out = made(root.path());
        let message = |result: Result<Vec<u8>>| result.unwrap_err().to_string().replace(&*out.to_string_lossy(), "OUT");
        let found = Provenance::read(&out, "prepare").unwrap();
        assert_eq!(
            message(found.expect("raw", "xyz", "the pulled images").map(|()| Vec::new())),
            "OUT: was not made from the pulled images"
        );
        assert_eq!(message(read(&out.join("b.csv"), "prepare")), "OUT/provenance.json: does not list b.csv");
        assert_eq!(
            message(read(&out.join("a.csv"), "pull")),
            "OUT/provenance.json: is a result of the stage prepare, expected a result of pull"
        );
        fs::write(out.join("a.csv"), b"2").unwrap();
        assert_eq!(
            message(read(&out.join("a.csv"), "prepare")),
            "OUT/a.csv: was changed or damaged after the stage prepare wrote it"
        );
        fs::remove_file(out.join("a.csv")).unwrap();
        assert_eq!(message(read(&out.join("a.csv"), "prepare")), "OUT/a.csv: is missing");
        let text = fs::read_to_string(out.join(PROVENANCE)).unwrap();
        fs::write(out.join(PROVENANCE), text.replace("abc", "abd")).unwrap();
        assert_eq!(
            message(read(&out.join("a.csv"), "prepare")),
            "OUT/provenance.json: is damaged: its content does not match the hash that it carries"
        );
        fs::remove_file(out.join(PROVENANCE)).unwrap();
        assert!(message(read(&out.join("a.csv"), "prepare")).starts_with("OUT/provenance.json: is missing, so"));
        fs::remove_dir_all(&out).unwrap();
        assert_eq!(message(read(&out.join("a.csv"), "prepare")), "OUT: there is no such folder");
    }
}
