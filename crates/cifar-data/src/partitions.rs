//! The three partitions of a data set, and the five ways to choose among them.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::output::OutputFolder;
use crate::{DataError, Dataset, Progress, Result, Stage, store};

/// One third of a data set, by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Partition {
    /// The first third.
    V1,
    /// The second third.
    V2,
    /// The last third.
    V3,
}

impl Partition {
    /// All three, in order.
    pub const ALL: [Self; 3] = [Self::V1, Self::V2, Self::V3];

    /// Returns its name, which is also the name of its folder: `v1`, `v2` or `v3`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
        }
    }

    /// Returns the positions of its images among `total`: thirds, the first ones rounded down.
    /// 60,000 gives 20,000 each.
    pub fn range(self, total: usize) -> Range<usize> {
        let k = self as usize;
        k * total / 3..(k + 1) * total / 3
    }

    /// Returns its images.
    pub fn of(self, dataset: &Dataset) -> Dataset {
        let range = self.range(dataset.len());
        let mut index = 0;
        dataset.filter(|_| {
            index += 1;
            range.contains(&(index - 1))
        })
    }
}

/// Writes the three partitions of `dataset` as `folder`/v1, v2 and v3.
///
/// All three are written before the first replaces an old one, and each has the identity of the
/// whole set. If the process is killed in between, [`read()`] refuses the mixture.
///
/// ```
/// use cifar_data::sources::synthetic::{self, SyntheticParams};
/// use cifar_data::{Silent, partitions};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// let images = synthetic::generate(&SyntheticParams { count: 90, ..Default::default() })?;
/// partitions::write(&images.dataset, folder, &Silent)?;
/// let read = partitions::read(folder, &Silent)?;
/// assert!(read.sets.iter().all(|set| set.len() == 30));
/// # Ok::<(), cifar_data::DataError>(())
/// ```
pub fn write(dataset: &Dataset, folder: &Path, progress: &dyn Progress) -> Result<()> {
    let whole = store::identity(dataset);
    let mut folders = Vec::new();
    for (done, partition) in Partition::ALL.into_iter().enumerate() {
        progress.update("writing", done as u64, 3);
        progress.check()?;
        let part = partition.of(dataset);
        if part.is_empty() {
            return Err(DataError::Unsuitable(format!("{} images are too few for three partitions", dataset.len())));
        }
        let output = OutputFolder::create(&folder.join(partition.name()))?;
        store::write_part(&part, &whole, output.path())?;
        folders.push(output);
    }
    progress.check()?;
    for output in folders {
        output.commit()?;
    }
    progress.update("writing", 3, 3);
    Ok(())
}

/// The three partitions of one set.
#[derive(Debug, Clone, PartialEq)]
pub struct Partitions {
    /// v1, v2 and v3.
    pub sets: [Dataset; 3],
    /// [`store::identity`] of the whole set.
    pub identity: String,
}

/// Reads `folder`/v1, v2 and v3 and checks that they are parts of one set.
///
/// # Errors
/// If one is missing or damaged, or they are from different sets.
pub fn read(folder: &Path, progress: &dyn Progress) -> Result<Partitions> {
    const WHAT: &str = "reading and checking partitions";
    let mut parts = Vec::new();
    for (done, partition) in Partition::ALL.into_iter().enumerate() {
        progress.check()?;
        progress.update(WHAT, done as u64, 3);
        let folder = folder.join(partition.name());
        if !folder.join(store::IMAGES).is_file() {
            return Err(DataError::missing(&folder, "this partition is missing", Stage::Partition.alone()));
        }
        parts.push(store::read_part(&folder)?);
    }
    progress.update(WHAT, 3, 3);
    let identity = parts[0].1.clone().ok_or_else(|| {
        let problem = "does not say which set it is a part of";
        DataError::stale(&folder.join("v1"), problem, Stage::Partition.alone())
    })?;
    for (partition, (_, found)) in Partition::ALL.iter().zip(&parts) {
        if found.as_ref() != Some(&identity) {
            let problem = "was cut from another set of images than v1";
            return Err(DataError::stale(&folder.join(partition.name()), problem, Stage::Partition.alone()));
        }
    }
    let sets: Vec<Dataset> = parts.into_iter().map(|(set, _)| set).collect();
    let sets = sets.try_into().map_err(|_| DataError::Unsuitable("there are three partitions".into()))?;
    Ok(Partitions { sets, identity })
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The partitions to work with: `v1`, `v2`, `v3`, `v1+v2` or `v1+v2+v3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatasetVersion(&'static [Partition]);

impl DatasetVersion {
    /// The five choices, in their text form.
    pub const ALLOWED: [&'static str; 5] = ["v1", "v2", "v3", "v1+v2", "v1+v2+v3"];

    /// Returns the chosen partitions, in order.
    pub fn partitions(self) -> &'static [Partition] {
        self.0
    }
}

impl Default for DatasetVersion {
    /// Returns `v1`.
    fn default() -> Self {
        Self(&[Partition::V1])
    }
}

impl FromStr for DatasetVersion {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self> {
        use Partition::{V1, V2, V3};
        Ok(Self(match text {
            "v1" => &[V1],
            "v2" => &[V2],
            "v3" => &[V3],
            "v1+v2" => &[V1, V2],
            "v1+v2+v3" => &[V1, V2, V3],
            _ => {
                return Err(DataError::Parameter {
                    key: "dataset_version",
                    value: format!("{text:?}"),
                    allowed: format!("allowed are {}", Self::ALLOWED.join(", ")),
                });
            }
        }))
    }
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
        f.write_str(&self.0.iter().map(|p| p.name()).collect::<Vec<_>>().join("+"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_allowed_version_is_parsed_and_formatted() {
        for text in DatasetVersion::ALLOWED {
            assert_eq!(text.parse::<DatasetVersion>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn errors_list_the_allowed_versions() {
        for text in ["v4", "v1+v1", "v2+v3", "v1+v3", "", "V1", "v1 + v2"] {
            let message = text.parse::<DatasetVersion>().unwrap_err().to_string();
            assert_eq!(
                message,
                format!("dataset_version: {text:?} is not allowed; allowed are v1, v2, v3, v1+v2, v1+v2+v3")
            );
        }
    }

    #[test]
    fn partitions_cover_everything_once() {
        for total in [3, 4, 5, 6000, 60_000, 60_001] {
            let ranges = Partition::ALL.map(|p| p.range(total));
            assert_eq!((ranges[0].start, ranges[2].end), (0, total));
            assert_eq!((ranges[0].end, ranges[1].end), (ranges[1].start, ranges[2].start));
        }
        assert_eq!(Partition::V2.range(60_000), 20_000..40_000);
    }
}
