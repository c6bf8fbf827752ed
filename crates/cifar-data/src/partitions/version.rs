//! The choice of partitions: `dataset_version`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Partition;
use crate::{DataError, Result};

/// The word for all partitions that there are.
pub const ALL: &str = "all";

/// A non-empty set of partitions, such as `v1`, `v2+v3` or `v1+v2+v3+v4`.
///
/// The partitions may be in any order, and the text form has them in ascending order.
///
/// ```
/// use cifar_data::partitions::{DatasetVersion, Partition};
///
/// let version: DatasetVersion = "v3+v1".parse()?;
/// assert_eq!(version.to_string(), "v1+v3");
/// assert_eq!(version.partitions(), [Partition::V1, Partition::V3]);
/// assert_eq!(DatasetVersion::choose("all", &Partition::FIRST)?.to_string(), "v1+v2+v3");
/// # Ok::<(), cifar_data::DataError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatasetVersion(u128);

impl DatasetVersion {
    /// Returns the version with these partitions; none if there are none.
    pub fn of(partitions: &[Partition]) -> Option<Self> {
        let bits = partitions.iter().fold(0, |bits, partition| bits | 1 << partition.number());
        (bits != 0).then_some(Self(bits))
    }

    /// Parses a version, in which `all` means the partitions in `known`.
    ///
    /// # Errors
    /// If the text is not a version, or names a partition that is not in `known`.
    pub fn choose(text: &str, known: &[Partition]) -> Result<Self> {
        if text == ALL
            && let Some(all) = Self::of(known)
        {
            return Ok(all);
        }
        let version: Self = text.parse()?;
        match version.partitions().into_iter().find(|partition| !known.contains(partition)) {
            None => Ok(version),
            Some(unknown) => {
                let known = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                Err(refused(text, format!("there is no {unknown}; the partitions are {known}")))
            }
        }
    }

    /// Returns the partitions, in ascending order.
    pub fn partitions(self) -> Vec<Partition> {
        Partition::all().filter(|partition| self.contains(*partition)).collect()
    }

    /// Returns whether a partition is one of them.
    pub fn contains(self, partition: Partition) -> bool {
        self.0 & (1 << partition.number()) != 0
    }

    /// Returns the last partition on which the division of these images depends: v3, or the last
    /// one of this version if it was added later.
    pub fn depends_on(self) -> Partition {
        self.partitions().into_iter().fold(Partition::V3, Ord::max)
    }
}

impl Default for DatasetVersion {
    /// Returns `v1`.
    fn default() -> Self {
        Self(1 << Partition::V1.number())
    }
}

impl FromStr for DatasetVersion {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self> {
        if text == ALL {
            return Err(refused(text, "the partitions must be named here, such as v1+v2+v3".into()));
        }
        let mut chosen: Vec<Partition> = Vec::new();
        for name in text.split('+') {
            let Ok(partition) = name.parse() else {
                let allowed = "allowed are partitions joined by +, such as v1 or v1+v2, and all";
                let hint = suggestion(text).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
                return Err(refused(text, format!("{allowed}{hint}")));
            };
            chosen.push(partition);
        }
        let version = Self::of(&chosen).unwrap_or_default();
        let repeated = chosen.iter().find(|partition| chosen.iter().filter(|other| other == partition).count() > 1);
        match repeated {
            Some(repeated) => Err(refused(text, format!("{repeated} is repeated; did you mean {version}?"))),
            None => Ok(version),
        }
    }
}

fn refused(text: &str, allowed: String) -> DataError {
    DataError::Parameter { key: "dataset_version", value: format!("{text:?}"), allowed }
}

/// Returns what was probably meant: `v1+v2` for `V1,v2`, `v1+v2+v3` for `v1-v3`.
fn suggestion(text: &str) -> Option<String> {
    /// Signs between two partitions that mean all those between them, too.
    const RANGES: [&str; 6] = ["-", "..", "–", "…", ":", "to"];
    let text = text.trim().to_lowercase();
    if text == ALL {
        return Some(ALL.into());
    }
    let mut chosen: Vec<Partition> = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let start = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (between, from_digit) = rest.split_at(start);
        let end = from_digit.find(|c: char| !c.is_ascii_digit()).unwrap_or(from_digit.len());
        let (digits, after) = from_digit.split_at(end);
        rest = after;
        let sign: String = between.chars().filter(|c| !c.is_whitespace() && *c != 'v').collect();
        let is_range = RANGES.contains(&sign.as_str());
        if !is_range && !sign.chars().all(|c| ",;+&|/._[]\"'".contains(c)) {
            return None;
        }
        if digits.is_empty() {
            continue;
        }
        let partition = Partition::new(digits.parse().ok()?)?;
        if is_range {
            let other = *chosen.last()?;
            let between = other.min(partition)..=other.max(partition);
            chosen.extend(Partition::all().filter(|partition| between.contains(partition)));
        }
        chosen.push(partition);
    }
    DatasetVersion::of(&chosen).map(|version| version.to_string())
}

impl TryFrom<String> for DatasetVersion {
    type Error = DataError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DatasetVersion> for String {
    fn from(version: DatasetVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for DatasetVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.partitions().iter().map(ToString::to_string).collect::<Vec<_>>().join("+"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<DatasetVersion>().unwrap_err().to_string()
    }

    #[test]
    fn any_set_of_partitions_is_a_version_in_ascending_order() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<DatasetVersion>().unwrap().to_string(), expected);
        };
        for text in ["v1", "v2", "v3", "v1+v2", "v1+v2+v3", "v2+v3", "v1+v3", "v4", "v1+v9+v10+v99"] {
            check(text, text);
        }
        check("v3+v1", "v1+v3");
        check("v10+v9+v1", "v1+v9+v10");
        let version: DatasetVersion = "v2+v5".parse().unwrap();
        assert_eq!((version.contains(Partition::V2), version.contains(Partition::V1)), (true, false));
        assert_eq!(version.depends_on().to_string(), "v5");
        assert_eq!(DatasetVersion::default().depends_on(), Partition::V3);
        assert_eq!((DatasetVersion::default().to_string().as_str(), DatasetVersion::of(&[])), ("v1", None));
    }

    #[test]
    fn all_means_the_partitions_that_there_are() {
        let known = Partition::FIRST.into_iter().chain(Partition::new(4)).collect::<Vec<_>>();
        let choose = |text: &str| DatasetVersion::choose(text, &known).map(|version| version.to_string());
        assert_eq!(choose("all").unwrap(), "v1+v2+v3+v4");
        assert_eq!(choose("v4+v2").unwrap(), "v2+v4");
        assert_eq!(
            choose("v1+v5").unwrap_err().to_string(),
            "dataset_version: \"v1+v5\" is not allowed; there is no v5; the partitions are v1, v2, v3, v4"
        );
        assert!(choose("V1").unwrap_err().to_string().ends_with("did you mean v1?"));
        assert_eq!(
            refusal("all"),
            "dataset_version: \"all\" is not allowed; the partitions must be named here, such as v1+v2+v3"
        );
    }

    #[test]
    fn near_misses_get_a_suggestion() {
        let check = |text: &str, meant: &str| {
            let expected = format!(
                "dataset_version: {text:?} is not allowed; \
                 allowed are partitions joined by +, such as v1 or v1+v2, and all; did you mean {meant}?"
            );
            assert_eq!(refusal(text), expected);
        };
        for (text, meant) in [
            ("V1", "v1"),
            ("v1,v2", "v1+v2"),
            ("v1 + v2", "v1+v2"),
            ("v3;V1", "v1+v3"),
            ("v1-v3", "v1+v2+v3"),
            ("v1..v3", "v1+v2+v3"),
            ("v2 to 4", "v2+v3+v4"),
            ("1+2", "v1+v2"),
            ("v1v2", "v1+v2"),
            ("v1+", "v1"),
            ("v01", "v1"),
            ("[v1, v2]", "v1+v2"),
            ("All", "all"),
        ] {
            check(text, meant);
        }
        assert_eq!(refusal("v1+v1"), "dataset_version: \"v1+v1\" is not allowed; v1 is repeated; did you mean v1?");
        assert!(refusal("v3+v1+v3").ends_with("v3 is repeated; did you mean v1+v3?"));
        for text in ["", "+", "v0", "v100", "cats", "v1*v2", "v", "v99999999999", "v-1", "ｖ1"] {
            let expected = "is not allowed; allowed are partitions joined by +, such as v1 or v1+v2, and all";
            assert!(refusal(text).ends_with(expected), "{text:?}: {}", refusal(text));
        }
    }
}
