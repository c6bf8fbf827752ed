//! What may vary, and between which bounds. A point of the space is a point of the unit cube, one axis a key.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{Result, TrainError};

/// How alike a name must be to a known one, by Jaro and Winkler's measure, to be a slip of the pen.
const LIKE: f64 = 0.8;

/// Values by key, such as `train.learning_rate`; empty for the recipe as it stands.
pub type Setting = BTreeMap<String, Value>;

/// The values that a key may have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// Between two numbers above 0; equal ratios are equally likely.
    LogUniform([f64; 2]),
    /// Between two numbers.
    Uniform([f64; 2]),
    /// A whole number between two, both included.
    Integer([i64; 2]),
    /// One of these.
    Choice(Vec<Value>),
}

impl Domain {
    /// The value at `x`, 0 ≤ x < 1.
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

    /// The values at its ends, or all of a choice.
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

/// Four digits are enough for any setting, and can be typed.
fn rounded(x: f64) -> f64 {
    format!("{x:.3e}").parse().unwrap_or(x)
}

/// What may vary, keys in alphabetical order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Space(BTreeMap<String, Domain>);

impl<'de> Deserialize<'de> for Space {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let domains = BTreeMap::<String, Domain>::deserialize(deserializer)?;
        for (key, domain) in &domains {
            domain.check().map_err(|problem| D::Error::custom(format!("tune.space.{key}: {problem}")))?;
        }
        Ok(Self(domains))
    }
}

impl Serialize for Space {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Space {
    /// Number of axes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing may vary.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys, in order of the axes.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The setting at a point of the unit cube.
    pub fn at(&self, point: &[f64]) -> Setting {
        self.0.iter().zip(point).map(|((key, domain), x)| (key.clone(), domain.at(*x))).collect()
    }

    /// Refuses keys that `blocks` does not have or that cannot be tuned, and bounds of which `validate` says that they cannot be.
    ///
    /// # Errors
    /// If so.
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

/// The blocks of a recipe, `{"model": {…}, "train": {…}}`, with the values of a setting.
///
/// # Errors
/// If a key is none of the recipe's or cannot be tuned, such as `train.epochs`: successive halving decides how long a trial is trained.
pub fn apply(setting: &Setting, blocks: &Value) -> Result<Value> {
    let mut blocks = blocks.clone();
    for (key, value) in setting {
        let reason = match key.as_str() {
            "train.epochs" => Some("halving decides how long a trial is trained"),
            "train.use_tuned" => Some("it says what becomes of the outcome"),
            "train.select" | "train.early_stopping" | "train.dynamics_share" => Some("it changes no trial"),
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
        let place = key.split_once('.').and_then(|(block, key)| blocks.get_mut(block)?.get_mut(key));
        let Some(place) = place else {
            // Somebody may have left out the block's name.
            let likeness = |known: &String| {
                let short = known.split_once('.').map_or(known.as_str(), |(_, short)| short);
                strsim::jaro_winkler(known, key).max(strsim::jaro_winkler(short, key))
            };
            let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
            let hint = match nearest.filter(|nearest| likeness(nearest) > LIKE) {
                Some(nearest) => format!("; did you mean `{nearest}`?"),
                None => "; those of the blocks `model` and `train` can vary".to_string(),
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
    fn points_become_values_within_their_bounds() {
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
    fn bounds_that_cannot_be_are_refused() {
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
    fn settings_are_put_into_blocks() {
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
            "tune.space: there is no parameter `random_seed`; those of the blocks `model` and `train` can vary",
        );
        check("train.epochs", "tune.space.train.epochs: cannot be tuned; halving decides how long a trial is trained");
        check("train.early_stopping", "tune.space.train.early_stopping: cannot be tuned; it changes no trial");
        check("train.use_tuned", "tune.space.train.use_tuned: cannot be tuned; it says what becomes of the outcome");
    }
}
