//! `run.json`: the request of one run of a grid, with a hash of the file itself. It is written
//! last, so a folder that has it belongs to a finished run. Schema 2.

use std::collections::BTreeMap;
use std::path::Path;

use cifar_data::output::write_file;
use cifar_data::provenance::{read_sealed, sealed_json};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use cifar_eval::{EvalError, Result};

/// Folder of the runs, in that of the experiments.
pub const RUNS: &str = "runs";
/// File name of the record.
pub const RECORD: &str = "run.json";
const SCHEMA: u32 = 2;

/// The request of one run: its parameters, data and program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Version of this file's layout.
    schema: u32,
    /// The run's name.
    pub name: String,
    /// The name that it shares with runs that differ in the seed alone.
    pub combination: String,
    /// Seed of the run.
    pub seed: u64,
    /// The values that the grid sets, by key.
    pub setting: BTreeMap<String, Value>,
    /// All parameters.
    pub params: Value,
    /// Hash of its images and labels.
    pub data: String,
    /// Identity of the program that trained it.
    pub program: String,
    /// Hash of the model file that it starts from; none if it starts from random weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
}

impl RunRecord {
    /// Creates a record of this version.
    pub fn new(
        name: &str,
        combination: &str,
        seed: u64,
        setting: BTreeMap<String, Value>,
        params: Value,
        data: String,
        program: String,
    ) -> Self {
        let (name, combination) = (name.into(), combination.into());
        Self { schema: SCHEMA, name, combination, seed, setting, params, data, program, init: None }
    }

    /// Returns the record of a run that starts from the model file with this hash; none: from random
    /// weights.
    #[must_use]
    pub fn with_init(self, init: Option<String>) -> Self {
        Self { init, ..self }
    }

    /// Reads the record in the folder of a run; none if the run is not finished.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(RECORD);
        let wrong = |problem: String| EvalError::Malformed { path: path.clone(), problem };
        let text = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| wrong(format!("cannot read it: {e}")))?,
        };
        let schema = serde_json::from_slice::<Value>(&text).ok().and_then(|v| v.get("schema")?.as_u64());
        if let Some(schema) = schema.filter(|s| *s != u64::from(SCHEMA)) {
            return Err(wrong(format!(
                "has schema {schema}, this program reads schema {SCHEMA}; move the folder away to repeat the run"
            )));
        }
        let mut record: Self = read_sealed(&text).map_err(|e| wrong(format!("{e}; remove it to repeat the run")))?;
        cifar_train::rename_keys(&mut record.params);
        Ok(Some(record))
    }

    /// Writes the record into the folder of its run.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(RECORD);
        Ok(write_file(&path, &sealed_json(self, &path)?)?)
    }

    /// Returns the first difference between this run and `wanted` in words; none if they are the
    /// same.
    pub fn difference(&self, wanted: &Self) -> Option<String> {
        fn first(found: &Value, wanted: &Value, key: &str) -> Option<String> {
            match (found, wanted) {
                (Value::Object(a), Value::Object(b)) => {
                    let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
                    let inner = |name: &String| if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                    let value = |map: &serde_json::Map<String, Value>, name: &String| {
                        map.get(name).cloned().unwrap_or(Value::Null)
                    };
                    keys.into_iter().find_map(|name| first(&value(a, name), &value(b, name), &inner(name)))
                }
                _ if found == wanted => None,
                _ => Some(format!("{key} was {found} and is {wanted} now")),
            }
        }
        first(&self.params, &wanted.params, "")
            .or_else(|| (self.data != wanted.data).then(|| "the partitions or the label overrides have changed".into()))
            .or_else(|| (self.init != wanted.init).then(|| "the file of train.init has changed".into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(params: Value, data: &str) -> RunRecord {
        RunRecord::new("v1-seed1", "v1", 1, BTreeMap::new(), params, data.into(), "p".into())
    }

    #[test]
    fn a_difference_is_named() {
        let old = record(json!({"a": {"b": 1, "c": [1, 2]}, "d": "x"}), "h");
        let check = |params: Value, data: &str, expected: Option<&str>| {
            assert_eq!(old.difference(&record(params, data)).as_deref(), expected);
        };
        check(json!({"a": {"b": 1, "c": [1, 2]}, "d": "x"}), "h", None);
        check(json!({"a": {"b": 2, "c": [1, 2]}, "d": "x"}), "h", Some("a.b was 1 and is 2 now"));
        check(json!({"a": {"b": 1, "c": [1]}, "d": "x"}), "h", Some("a.c was [1,2] and is [1] now"));
        check(json!({"a": {"b": 1, "c": [1, 2]}, "d": "x", "e": 0}), "h", Some("e was null and is 0 now"));
        let others = "the partitions or the label overrides have changed";
        check(json!({"a": {"b": 1, "c": [1, 2]}, "d": "x"}), "i", Some(others));
        let other = old.clone().with_init(Some("i".into()));
        assert_eq!(old.difference(&other).as_deref(), Some("the file of train.init has changed"));
    }

    #[test]
    fn former_names_of_parameters_are_read_as_the_current_ones() {
        let folder = tempfile::tempdir().unwrap();
        let earlier = json!({"train": {"head_rate": 2.0}, "evaluate": {"tta_share": 0.5}});
        record(earlier, "h").write(folder.path()).unwrap();
        let current = json!({"train": {"head_lr_scale": 2.0}, "evaluate": {"tta_fraction": 0.5}});
        let found = RunRecord::read(folder.path()).unwrap().unwrap();
        assert_eq!(found.difference(&record(current, "h")), None);
    }

    #[test]
    fn records_are_read_back_and_damage_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(RunRecord::read(folder.path()).unwrap(), None);
        let written = record(json!({"learning_rate": 0.1}), "h");
        written.write(folder.path()).unwrap();
        assert_eq!(RunRecord::read(folder.path()).unwrap(), Some(written));
        let path = folder.path().join(RECORD);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"schema\": 2", "\"schema\": 3")).unwrap();
        let message = RunRecord::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("run.json: has schema 3, this program reads schema 2"), "{message}");
        std::fs::write(&path, &text[..20]).unwrap();
        assert!(RunRecord::read(folder.path()).unwrap_err().to_string().contains("is damaged"));
    }
}
