//! The search space: the range of each tuned parameter. Its points are those of the unit cube, one
//! axis per key.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{Result, TrainError, current_key};

/// Lowest Jaro–Winkler similarity at which a known name is suggested for an unknown one.
const MIN_SIMILARITY: f64 = 0.8;

/// Values by key, such as `train.learning_rate`; empty for the unchanged recipe.
pub type Setting = BTreeMap<String, Value>;

/// The values that a parameter may have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// Log-uniform between two numbers above 0.
    LogUniform([f64; 2]),
    /// Uniform between two numbers.
    Uniform([f64; 2]),
    /// An integer between two, both included.
    Integer([i64; 2]),
    /// One of a list.
    Choice(Vec<Value>),
}

impl Domain {
    /// Returns the value at `x`, 0 ≤ x < 1.
    fn at(&self, x: f64) -> Value {
        match self {
            Self::LogUniform([low, high]) => rounded(libm::exp(libm::log(*low) + x * libm::log(high / low))).into(),
            Self::Uniform([low, high]) => rounded(low + x * (high - low)).into(),
            Self::Integer([low, high]) => {
                let count = (high - low) as f64 + 1.0;
                (low + (x * count).floor().min(count - 1.0) as i64).into()
            }
            Self::Choice(values) => {
                values.get((x * values.len() as f64) as usize).or(values.last()).cloned().unwrap_or(Value::Null)
            }
        }
    }

    /// Returns the values at both ends, or all of a choice.
    fn bounds(&self) -> Vec<Value> {
        match self {
            Self::Choice(values) => values.clone(),
            Self::LogUniform(ends) | Self::Uniform(ends) => ends.iter().map(|end| (*end).into()).collect(),
            Self::Integer(ends) => ends.iter().map(|end| (*end).into()).collect(),
        }
    }

    fn check(&self) -> std::result::Result<(), String> {
        let finite = |ends: &[f64; 2]| ends.iter().all(|end| end.is_finite());
        match self {
            Self::LogUniform(ends) if !finite(ends) || ends[0] <= 0.0 => {
                Err(format!("log_uniform: {ends:?} is not allowed; both ends must be above 0"))
            }
            Self::Uniform(ends) if !finite(ends) => {
                Err(format!("uniform: {ends:?} is not allowed; both ends must be finite"))
            }
            Self::LogUniform([low, high]) | Self::Uniform([low, high]) if low >= high => {
                Err(format!("[{low}, {high}] is not allowed; the first must be below the second"))
            }
            Self::Integer([low, high]) if low >= high || low.unsigned_abs().max(high.unsigned_abs()) > 1 << 52 => {
                Err(format!("integer: [{low}, {high}] is not allowed; the first must be below the second"))
            }
            Self::Choice(values) if values.len() < 2 => Err("choice: at least two values are needed".into()),
            _ => Ok(()),
        }
    }
}

/// Four digits are precise enough for any setting, and short enough to type.
fn rounded(x: f64) -> f64 {
    format!("{x:.3e}").parse().unwrap_or(x)
}

/// The tuned parameters and their ranges, keys in alphabetical order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Space(BTreeMap<String, Domain>);

impl<'de> Deserialize<'de> for Space {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let domains = BTreeMap::<String, Domain>::deserialize(deserializer)?;
        let mut space = BTreeMap::new();
        for (key, domain) in domains {
            domain.check().map_err(|problem| D::Error::custom(format!("tune.space.{key}: {problem}")))?;
            let current = current_key(&key).to_string();
            if space.insert(current.clone(), domain).is_some() {
                return Err(D::Error::custom(format!("tune.space.{key}: is an earlier name of {current}; keep one")));
            }
        }
        Ok(Self(space))
    }
}

impl Serialize for Space {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Space {
    /// Returns the number of axes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no axes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the keys, in order of the axes.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the setting at a point of the unit cube.
    pub fn at(&self, point: &[f64]) -> Setting {
        self.0.iter().zip(point).map(|((key, domain), x)| (key.clone(), domain.at(*x))).collect()
    }

    /// Checks that every key exists in `blocks` and can be tuned, and that `validate` accepts every
    /// bound.
    ///
    /// # Errors
    /// Names the first key or bound that is wrong.
    pub fn check(&self, blocks: &Value, validate: impl Fn(&Value) -> Result<()>) -> Result<()> {
        for (key, domain) in &self.0 {
            for value in domain.bounds() {
                let setting = Setting::from([(key.clone(), value)]);
                validate(&apply(&setting, blocks)?).map_err(|e| TrainError::Space(format!("tune.space.{key}: {e}")))?;
            }
        }
        Ok(())
    }
}

/// Returns the blocks of a recipe, `{"model": {…}, "train": {…}}`, with the values of a setting.
///
/// # Errors
/// If a key is unknown or cannot be tuned, such as `train.epochs`: successive halving decides how
/// long a trial is trained.
pub fn apply(setting: &Setting, blocks: &Value) -> Result<Value> {
    let mut blocks = blocks.clone();
    for (key, value) in setting {
        let reason = match current_key(key) {
            "train.epochs" | "train.min_steps" => Some("successive halving decides how long a trial is trained"),
            "train.use_tuned" => Some("it decides how the result of the search is used"),
            "train.init" => Some("all trials start from the same weights"),
            "train.precision" if value == "auto" => {
                Some("`auto` has other results on other processors; name f32 or bf16")
            }
            "train.select" | "train.early_stopping" | "train.dynamics_fraction" => Some("it has no effect on trials"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(TrainError::Space(format!("tune.space.{key}: cannot be tuned; {reason}")));
        }
        let known: Vec<String> = blocks
            .as_object()
            .into_iter()
            .flatten()
            .flat_map(|(block, keys)| {
                keys.as_object().into_iter().flatten().map(move |(key, _)| format!("{block}.{key}"))
            })
            .collect();
        let place = current_key(key).split_once('.').and_then(|(block, key)| blocks.get_mut(block)?.get_mut(key));
        let Some(place) = place else {
            // The name of the block may be missing.
            let similarity = |known: &String| {
                let short = known.split_once('.').map_or(known.as_str(), |(_, short)| short);
                strsim::jaro_winkler(known, key).max(strsim::jaro_winkler(short, key))
            };
            let nearest = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
            let hint = match nearest.filter(|nearest| similarity(nearest) > MIN_SIMILARITY) {
                Some(nearest) => format!("; did you mean `{nearest}`?"),
                None => "; parameters of the blocks `model` and `train` can be tuned".to_string(),
            };
            return Err(TrainError::Space(format!("tune.space: there is no parameter `{key}`{hint}")));
        };
        *place = value.clone();
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn space(json: Value) -> std::result::Result<Space, String> {
        serde_json::from_value(json).map_err(|e| e.to_string())
    }

    #[test]
    fn points_map_to_values_within_their_bounds() {
        let check = |domain: Value, x: f64, expected: Value| {
            let found = space(json!({ "k": domain })).unwrap().at(&[x]);
            assert_eq!(found["k"], expected);
        };
        check(json!({"log_uniform": [0.01, 1.0]}), 0.0, json!(0.01));
        check(json!({"log_uniform": [0.01, 1.0]}), 0.5, json!(0.1));
        check(json!({"uniform": [-1.0, 1.0]}), 0.75, json!(0.5));
        check(json!({"integer": [2, 4]}), 0.0, json!(2));
        check(json!({"integer": [2, 4]}), 0.5, json!(3));
        check(json!({"integer": [2, 4]}), 0.999_999, json!(4));
        check(json!({"choice": ["a", "b"]}), 0.49, json!("a"));
        check(json!({"choice": ["a", "b"]}), 0.5, json!("b"));
    }

    #[test]
    fn invalid_bounds_are_refused() {
        let check = |domain: Value, expected: &str| {
            let error = space(json!({ "train.x": domain })).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(
            json!({"log_uniform": [1.0, 0.1]}),
            "tune.space.train.x: [1, 0.1] is not allowed; the first must be below the second",
        );
        check(json!({"log_uniform": [0.0, 0.1]}), "both ends must be above 0");
        check(json!({"uniform": [0.1, 0.1]}), "the first must be below the second");
        check(json!({"integer": [4, 2]}), "the first must be below the second");
        check(json!({"choice": ["a"]}), "at least two");
        check(json!({"normal": [0, 1]}), "unknown variant `normal`");
        check(json!({"uniform": [0.1]}), "invalid length 1");
    }

    #[test]
    fn earlier_names_of_parameters_are_read() {
        let domain = json!({"uniform": [1, 2]});
        let read = space(json!({"train.head_rate": domain, "train.momentum": domain})).unwrap();
        assert_eq!(read.keys().collect::<Vec<_>>(), ["train.head_lr_scale", "train.momentum"]);
        let both = space(json!({"train.head_rate": domain, "train.head_lr_scale": domain})).unwrap_err();
        assert_eq!(both, "tune.space.train.head_rate: is an earlier name of train.head_lr_scale; keep one");
        let setting = Setting::from([("train.head_rate".to_string(), json!(2.0))]);
        let blocks = apply(&setting, &json!({"train": {"head_lr_scale": 1.0}})).unwrap();
        assert_eq!(blocks, json!({"train": {"head_lr_scale": 2.0}}));
    }

    #[test]
    fn settings_replace_values_of_blocks() {
        let blocks = json!({"train": {"learning_rate": 0.1, "epochs": 3}, "model": {"dropout": 0.0}});
        let set = |key: &str| apply(&Setting::from([(key.to_string(), json!(0.2))]), &blocks);
        assert_eq!(set("train.learning_rate").unwrap()["train"]["learning_rate"], json!(0.2));
        let check = |key: &str, expected: &str| assert_eq!(set(key).unwrap_err().to_string(), expected);
        check(
            "train.learning_rat",
            "tune.space: there is no parameter `train.learning_rat`; did you mean `train.learning_rate`?",
        );
        check("dropout", "tune.space: there is no parameter `dropout`; did you mean `model.dropout`?");
        check(
            "random_seed",
            "tune.space: there is no parameter `random_seed`; parameters of the blocks `model` and `train` can be tuned",
        );
        check(
            "train.epochs",
            "tune.space.train.epochs: cannot be tuned; successive halving decides how long a trial is trained",
        );
        let auto = apply(&Setting::from([("train.precision".to_string(), json!("auto"))]), &blocks).unwrap_err();
        assert!(auto.to_string().ends_with("name f32 or bf16"), "{auto}");
        check("train.early_stopping", "tune.space.train.early_stopping: cannot be tuned; it has no effect on trials");
        check("train.dynamics_share", "tune.space.train.dynamics_share: cannot be tuned; it has no effect on trials");
        check(
            "train.use_tuned",
            "tune.space.train.use_tuned: cannot be tuned; it decides how the result of the search is used",
        );
    }
}
