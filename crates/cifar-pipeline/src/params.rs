//! params.yaml: every hyper-parameter, composed of the crates' own parameter types. All keys are
//! required except [`cifar_train::optional_keys`], and unknown keys are refused.

mod settings;
mod syntax;
pub mod wording;

use std::collections::BTreeMap;
use std::path::Path;

use cifar_data::partitions::{DatasetVersion, Partition};
use cifar_data::splits::SplitParams;
use cifar_eval::{EvaluateParams, HardImagesParams};
use cifar_model::ModelParams;
use cifar_train::tune::TuneParams;
use cifar_train::{TrainParams, add_optional_keys, current_key, optional_keys, rename_keys};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;

pub(crate) use self::settings::with_settings;
pub use self::settings::{parse_settings, shown_settings};

/// The content of params.yaml. All values are within their ranges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The partitions to use.
    pub dataset_version: DatasetVersion,
    /// The seed of initial weights, image order, augmentation and dropout.
    pub random_seed: u64,
    /// The division into training, validation and test images.
    pub split: SplitParams,
    /// The network.
    pub model: ModelParams,
    /// The training.
    pub train: TrainParams,
    /// The search for better values.
    pub tune: TuneParams,
    /// The evaluation.
    pub evaluate: EvaluateParams,
    /// The analysis of hard images.
    pub hard_images: HardImagesParams,
}

/// The key of the chosen partitions.
pub const VERSION: &str = "dataset_version";

/// Values by key, such as `train.epochs`.
pub type Setting = BTreeMap<String, Value>;

impl Params {
    /// Reads and checks the file. `dataset_version` may name the partitions in `known`, and `all`
    /// means these.
    ///
    /// # Errors
    /// As [`Params::parse_for`], with the name of the file.
    pub fn read(path: &Path, known: &[Partition]) -> crate::Result<Self> {
        let wrong = |problem: String| Error::usage(format!("{}: {problem}", path.display()));
        let bytes = std::fs::read(path).map_err(|e| wrong(format!("cannot read the parameters: {e}")))?;
        Self::parse_for(&text_of(bytes).map_err(wrong)?, known).map_err(wrong)
    }

    /// Reads and checks the text of a parameter file in which `dataset_version` is not `all`.
    /// Whether its partitions exist is not checked.
    ///
    /// # Errors
    /// What is wrong with which key or line, and what is allowed.
    pub fn parse(document: &str) -> Result<Self, String> {
        Self::from_value(value_of(document)?)
    }

    /// Reads and checks the text of a parameter file. `dataset_version` may name the partitions in
    /// `known`, and `all` means these.
    ///
    /// # Errors
    /// What is wrong with which key or line, and what is allowed.
    pub fn parse_for(document: &str, known: &[Partition]) -> Result<Self, String> {
        let mut value = value_of(document)?;
        if let Some(version) = value.get_mut(VERSION) {
            choose_partitions(version, known)?;
        }
        Self::from_value(value)
    }

    /// Returns the parameters with other values for some keys, checked again as a whole. As with
    /// [`Params::parse`], `all` is not allowed; [`choose_partitions`] replaces it.
    pub fn with(&self, setting: &Setting) -> Result<Self, String> {
        let mut value = self.to_json()?;
        add_optional_keys(&mut value);
        for (key, new) in setting {
            let key = current_key(key);
            let leaves = leaves(&value, "");
            if !leaves.iter().any(|known| known == key) {
                // The block's name may have been left out.
                let short = |known: &str| known.rsplit('.').next().unwrap_or(known).to_string();
                let likeness = |known: &String| {
                    strsim::jaro_winkler(known, key).max(strsim::jaro_winkler(&short(known), &short(key)))
                };
                let nearest = leaves.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
                let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
                return Err(format!("there is no parameter `{key}`{hint}"));
            }
            let place = key.split('.').try_fold(&mut value, |value, part| value.get_mut(part));
            if let Some(place) = place {
                *place = new.clone();
            }
        }
        Self::from_value(value)
    }

    /// Returns the parameters as JSON. They are converted through text: an f32 converted to a JSON
    /// value directly would show digits that it does not have.
    pub fn to_json(&self) -> Result<Value, String> {
        serde_json::to_string(self).and_then(|text| serde_json::from_str(&text)).map_err(|e| e.to_string())
    }

    fn from_value(mut value: Value) -> Result<Self, String> {
        rename_keys(&mut value);
        let mut known = serde_json::to_value(Self::example()).map_err(|e| e.to_string())?;
        add_optional_keys(&mut known);
        check_keys(&value, &known, "")?;
        serde_path_to_error::deserialize(value).map_err(|e| {
            let (path, found) = (e.path().to_string(), e.inner().to_string());
            let message = wording::in_plain_words(&found);
            if message != found {
                return format!("{path}: {message}");
            }
            if message.starts_with(&path) {
                message
            } else if message.contains(" is not allowed; ") {
                format!("{path}.{message}")
            } else {
                format!("{path}: {message}")
            }
        })
    }

    /// Returns the defaults of every crate: the required keys, and the value to suggest for a
    /// missing one.
    fn example() -> Self {
        Self {
            dataset_version: DatasetVersion::default(),
            random_seed: 42,
            split: SplitParams::default(),
            model: ModelParams::default(),
            train: TrainParams::default(),
            tune: TuneParams::default(),
            evaluate: EvaluateParams::default(),
            hard_images: HardImagesParams::default(),
        }
    }
}

fn value_of(document: &str) -> Result<Value, String> {
    serde_saphyr::from_str(document).map_err(|e| syntax::in_plain_words(document, &e))
}

/// Replaces a value of `dataset_version` by the partitions that it means, in ascending order: `all`
/// by those in `known`. A value that is no text stays.
///
/// # Errors
/// If it is not a set of partitions, or one of them is not in `known`.
pub fn choose_partitions(value: &mut Value, known: &[Partition]) -> Result<(), String> {
    if let Some(text) = value.as_str() {
        let chosen = DatasetVersion::choose(text, known).map_err(|e| e.to_string())?;
        *value = chosen.to_string().into();
    }
    Ok(())
}

/// Returns the keys of the file at `path` that have been renamed, as (former, current). Empty if
/// the file cannot be read, which reading the parameters reports.
pub fn former_keys(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let value = serde_saphyr::from_str::<Value>(&text);
    let renamed = value.map_or_else(|_| Vec::new(), |mut value| rename_keys(&mut value));
    renamed.into_iter().map(|(former, current)| (former.to_string(), current.to_string())).collect()
}

/// Returns a file's text.
///
/// # Errors
/// If it is not UTF-8: the line of the first invalid byte.
pub fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
        format!("line {line}: is not UTF-8; save the file as UTF-8")
    })
}

/// Returns the keys of all values, with their blocks.
fn leaves(value: &Value, prefix: &str) -> Vec<String> {
    let Some(map) = value.as_object().filter(|_| prefix != "tune.space.") else {
        return vec![prefix.trim_end_matches('.').to_string()];
    };
    map.iter().flat_map(|(key, value)| leaves(value, &format!("{prefix}{key}."))).collect()
}

/// Compares the keys of `found` with those of `known`, recursively.
fn check_keys(found: &Value, known: &Value, prefix: &str) -> Result<(), String> {
    let Some(known) = known.as_object() else { return Ok(()) };
    // The user chooses the keys of this block.
    if prefix == "tune.space." {
        return Ok(());
    }
    let place = if prefix.is_empty() { "the file".to_string() } else { format!("`{}`", prefix.trim_end_matches('.')) };
    let Some(found) = found.as_object() else {
        return Err(format!("{place} must be a block with the keys {}", keys(known.keys())));
    };
    for key in found.keys() {
        if !known.contains_key(key) {
            let nearest =
                known.keys().max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
            let hint = match nearest {
                Some(nearest) if strsim::jaro_winkler(nearest, key) > 0.7 => {
                    format!("; did you mean `{prefix}{nearest}`?")
                }
                _ => format!("; allowed are {}", keys(known.keys())),
            };
            return Err(format!("unknown key `{prefix}{key}`{hint}"));
        }
    }
    for (key, default) in known {
        match found.get(key) {
            Some(value) => check_keys(value, default, &format!("{prefix}{key}."))?,
            None if default.is_object() => {
                return Err(format!(
                    "the block `{prefix}{key}` is missing; its keys are {}",
                    keys(default.as_object().into_iter().flat_map(|o| o.keys()))
                ));
            }
            None if is_optional(prefix.trim_end_matches('.'), key) => {}
            None => return Err(format!("the key `{prefix}{key}` is missing; its usual value is {default}")),
        }
    }
    Ok(())
}

fn is_optional(block: &str, key: &str) -> bool {
    optional_keys().get(block).is_some_and(|keys| keys.contains_key(key))
}

fn keys<'a>(keys: impl Iterator<Item = &'a String>) -> String {
    keys.map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::stages::recipe::SIMPLE_CNN;

    fn check(from: &str, to: &str, expected: &str) {
        assert!(SIMPLE_CNN.contains(from), "{from}");
        assert_eq!(Params::parse(&SIMPLE_CNN.replace(from, to)).unwrap_err(), expected);
    }

    #[test]
    fn the_shipped_file_is_valid() {
        Params::parse(include_str!("../../../params.yaml")).unwrap();
    }

    #[test]
    fn errors_name_the_allowed_values() {
        check(
            "dataset_version: v1",
            "dataset_version: v1+v1",
            "dataset_version: \"v1+v1\" is not allowed; v1 is repeated; did you mean v1?",
        );
        check("  momentum:", "  momentun:", "unknown key `train.momentun`; did you mean `train.momentum`?");
        check(
            "random_seed:",
            "zebra:",
            "unknown key `zebra`; allowed are dataset_version, random_seed, split, model, train, tune, evaluate, hard_images",
        );
        check(
            "  test_fraction: 0.2",
            "  test_fraction: 1.5",
            "split.test_fraction: 1.5 is not allowed; allowed is 0 to 0.9",
        );
        check(
            "  batch_size: 128",
            "  batch_size: -1",
            "train.batch_size: -1 is not allowed; expected a whole number, 0 or more",
        );
        check("  epochs: 15", "  epochs: 0", "train.epochs: 0 is not allowed; allowed is 1 to 100000");
        check(
            "  epochs: 15",
            "  epochs: many",
            "train.epochs: \"many\" is not allowed; expected a whole number, 0 or more",
        );
        check(
            "  architecture: simple_cnn",
            "  architecture: alexnet",
            "model.architecture: \"alexnet\" is not allowed; allowed are simple_cnn, airbench94, airbench96, resnet18",
        );
        check("  mixup: 0.0", "  mixup: -3.0", "train.mixup: -3 is not allowed; allowed is 0 to 10");
        check("random_seed: 42\n", "", "the key `random_seed` is missing; its usual value is 42");
    }

    #[test]
    fn the_version_names_partitions_that_there_are() {
        let known = [Partition::V1, Partition::V2, Partition::V3, "v4".parse().unwrap()];
        let parse = |version: &str| {
            let text = SIMPLE_CNN.replace("dataset_version: v1", &format!("dataset_version: {version}"));
            Params::parse_for(&text, &known).map(|params| params.dataset_version.to_string())
        };
        assert_eq!(parse("all").unwrap(), "v1+v2+v3+v4");
        assert_eq!(parse("v4+v2").unwrap(), "v2+v4");
        let unknown = "dataset_version: \"v5\" is not allowed; there is no v5; the partitions are v1, v2, v3, v4";
        assert_eq!(parse("v5").unwrap_err(), unknown);
        assert!(parse("v1-v3").unwrap_err().ends_with("did you mean v1+v2+v3?"));
        assert!(parse("[v1, v2]").unwrap_err().starts_with("dataset_version: "), "{:?}", parse("[v1, v2]"));
        check(
            "dataset_version: v1",
            "dataset_version: all",
            "dataset_version: \"all\" is not allowed; the partitions must be named here, such as v1+v2+v3",
        );
    }

    #[test]
    fn keys_of_later_versions_may_be_left_out() {
        let shipped = Params::parse(&SIMPLE_CNN).unwrap();
        let optional: Vec<(&str, String)> = optional_keys()
            .into_iter()
            .flat_map(|(block, keys)| keys.into_iter().map(move |(key, _)| (block, key)))
            .collect();
        let is_left_out = |line: &str| {
            line.strip_prefix("  ")
                .and_then(|line| line.split_once(':'))
                .is_some_and(|(key, _)| optional.iter().any(|(_, optional)| optional == key))
        };
        let earlier: Vec<&str> = SIMPLE_CNN.lines().filter(|line| !is_left_out(line)).collect();
        assert_eq!(SIMPLE_CNN.lines().count() - earlier.len(), optional.len());
        assert_eq!(Params::parse(&earlier.join("\n")).unwrap(), shipped);
        let written = shipped.to_json().unwrap();
        assert!(optional.iter().all(|(block, key)| written[block].get(key).is_none()), "{written}");
        let setting = Setting::from([("train.class_weights".to_string(), "balanced".into())]);
        assert_eq!(shipped.with(&setting).unwrap().train.class_weights, cifar_train::ClassWeights::Balanced);
        check(
            "  class_weights: none",
            "  class_weights: some",
            "train.class_weights: \"some\" is not allowed; expected none, balanced, or a list with one weight above 0 per class",
        );
        check(
            "  class_weights: none",
            "  class_weights: [1, 0]",
            "train.class_weights: 0 is not allowed; allowed is none, balanced, or a list with one weight above 0 per class",
        );
    }

    #[test]
    fn invalid_yaml_is_reported_with_position_and_cause() {
        let whole = |text: &str, expected: &str| assert_eq!(Params::parse(text).unwrap_err(), expected);
        whole(
            "dataset_version: [v1\n",
            "line 1, column 18: not valid YAML: `[` is not closed on its line, in `dataset_version: [v1`",
        );
        whole(
            "",
            "the file must be a block with the keys dataset_version, random_seed, split, model, train, tune, evaluate, hard_images",
        );
        // A message quotes only as much of a line as fits on a screen.
        let long = Params::parse(&"[".repeat(200_000)).unwrap_err();
        assert!(long.ends_with(&format!("in `{}…`", "[".repeat(100))), "{long}");
        let check = |from: &str, to: &str, column: usize, expected: &str| {
            assert!(SIMPLE_CNN.contains(from), "{from}");
            let line = SIMPLE_CNN[..SIMPLE_CNN.find(from).unwrap()].matches('\n').count() + 1;
            let expected = format!("line {line}, column {column}: not valid YAML: {expected}");
            let message = Params::parse(&SIMPLE_CNN.replacen(from, to, 1)).unwrap_err();
            assert!(message.starts_with(&expected), "{to}: {message}\n{expected}");
            assert_eq!(message.lines().count(), 1);
        };
        check("  momentum: 0.9", "  momentum: .nan", 13, "`.nan` is not a finite number, in `momentum: .nan`");
        check("  epochs: 15", "\tepochs: 15", 1, "a tab indents this line; use spaces, in `epochs: 15`");
        check(
            "  epochs: 15",
            "  epochs 15",
            3,
            "a colon is missing; expected `key: value`, or `key:` before a block, in `epochs 15`",
        );
        check(
            "  epochs: 15",
            "  epochs:15",
            10,
            "a space is missing after the colon; expected `key: value`, in `epochs:15`",
        );
        check(
            "  widths: [32, 64, 128]",
            "  widths: [32, 64, 128",
            11,
            "`[` is not closed on its line, in `widths: [32, 64, 128`",
        );
        check(
            "  optimiser: sgd",
            "  optimiser: \"sgd",
            14,
            "the quotation mark \" is not closed on its line, in `optimiser: \"sgd`",
        );
        check(
            "  batch_size: 128",
            "  epochs: 128",
            3,
            "the key `epochs` appears twice in its block; keep one of them, in `epochs: 128`",
        );
        check(
            "  batch_size: 128",
            "    batch_size: 128",
            5,
            "this line is indented by 4 spaces, the one before it by 2;",
        );
        check("  batch_size: 128", " batch_size: 128", 2, "this line is indented by 1 spaces, the one before it by 2;");
        check("  epochs: 15", "  epochs: 15 batch: 3", 19, "a second colon is in this line;");
        check("  optimiser: sgd", "  optimiser: @sgd", 14, "a value cannot begin with this character;");
    }

    #[test]
    fn former_names_of_keys_are_read_and_named() {
        let former = SIMPLE_CNN.replace("head_lr_scale: 1.0", "head_rate: 3.0").replace("tta_fraction:", "tta_share:");
        let params = Params::parse(&former).unwrap();
        assert!((params.train.head_lr_scale - 3.0).abs() < f64::EPSILON);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("params.yaml");
        std::fs::write(&path, &former).unwrap();
        let expected = [("train.head_rate", "train.head_lr_scale"), ("evaluate.tta_share", "evaluate.tta_fraction")];
        let mut found = former_keys(&path);
        found.sort_by_key(|(key, _)| expected.iter().position(|(former, _)| former == key));
        assert_eq!(found, expected.map(|(a, b)| (a.to_string(), b.to_string())));
        let setting = Setting::from([("train.head_rate".to_string(), 2.0.into())]);
        assert!((params.with(&setting).unwrap().train.head_lr_scale - 2.0).abs() < f64::EPSILON);
        let both = SIMPLE_CNN.replace("head_lr_scale: 1.0", "head_lr_scale: 1.0\n  head_rate: 3.0");
        assert!(Params::parse(&both).unwrap_err().contains("head_rate"));
    }

    #[test]
    fn a_file_that_is_not_utf_8_is_refused() {
        assert_eq!(text_of(b"a: 1\nb: \xf6\n".to_vec()).unwrap_err(), "line 2: is not UTF-8; save the file as UTF-8");
    }
}
