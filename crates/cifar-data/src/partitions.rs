//! The partitions of a data set: its thirds v1, v2 and v3, and those that are added later.
//!
//! A partition that is added never changes what was there. Its ids follow the last one, and it
//! holds the identity of everything before it, so that [`read()`] refuses partitions that do not
//! belong together.

mod version;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::output::OutputFolder;
use crate::store::Part;
use crate::{DataError, Dataset, Progress, Result, SampleId, Stage, store};

pub use self::version::{ALL, DatasetVersion};

/// A partition of a data set: v1, v2, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Partition(u8);

impl Partition {
    /// The first third of the first set.
    pub const V1: Self = Self(1);
    /// The second third of the first set.
    pub const V2: Self = Self(2);
    /// The last third of the first set.
    pub const V3: Self = Self(3);
    /// The partitions of the first set, in order. All others were added to it.
    pub const FIRST: [Self; 3] = [Self::V1, Self::V2, Self::V3];
    /// The largest number of a partition.
    pub const MOST: u8 = 99;

    /// Returns the partition with this number, which is 1 to [`Partition::MOST`].
    pub fn new(number: u32) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| (1..=Self::MOST).contains(number)).map(Self)
    }

    /// Returns its number, from 1.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Returns its name, which is also the name of its folder, such as `v1`.
    pub fn name(self) -> String {
        self.to_string()
    }

    /// Returns the partition after it; none after the last possible one.
    pub fn next(self) -> Option<Self> {
        Self::new(u32::from(self.0) + 1)
    }

    /// Returns whether it was added to the first set.
    pub fn is_added(self) -> bool {
        self > Self::V3
    }

    /// Returns all possible partitions, in order.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (1..=Self::MOST).map(Self)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix('v').and_then(|digits| digits.parse().ok()).and_then(Self::new);
        // Only one text names a partition: not `v01` or `v+1`.
        number
            .filter(|partition| partition.to_string() == text)
            .ok_or_else(|| format!("{text:?} is not a partition; allowed are v1 to v{}", Self::MOST))
    }
}

impl TryFrom<String> for Partition {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Partition> for String {
    fn from(partition: Partition) -> Self {
        partition.to_string()
    }
}

/// Returns the positions of the images of v1, v2 and v3 among `total`: thirds, the first ones
/// rounded down. 60,000 gives 20,000 each.
pub fn thirds(total: usize) -> [Range<usize>; 3] {
    [0, 1, 2].map(|k| k * total / 3..(k + 1) * total / 3)
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
///
/// # Errors
/// If there are fewer than three images, or partitions were added to the set that would be
/// replaced.
pub fn write(dataset: &Dataset, folder: &Path, progress: &dyn Progress) -> Result<()> {
    let whole = store::identity(dataset);
    refuse_to_orphan(folder, &whole)?;
    let mut folders = Vec::new();
    for (done, (partition, range)) in Partition::FIRST.into_iter().zip(thirds(dataset.len())).enumerate() {
        progress.update("writing", done as u64, 3);
        progress.check()?;
        let part = dataset.part(range);
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

/// Refuses a new first set with the identity `whole` if partitions were added to another one: they
/// could not be used any more.
fn refuse_to_orphan(folder: &Path, whole: &str) -> Result<()> {
    let Some(first) = known(folder)?.into_iter().find(|partition| partition.is_added()) else { return Ok(()) };
    let path = folder.join(first.name());
    if store::read_part(&path).is_ok_and(|part| part.added_to.as_deref() == Some(whole)) {
        return Ok(());
    }
    let problem = "was added to the set that these images would replace; move this folder away first, and add its \
                   images again afterwards";
    Err(DataError::malformed(&path, problem))
}

/// Adds `images` to the partitions in `folder` as `partition`, which is the next one.
///
/// The ids of the images follow the last one that is there. The new folder appears whole or not at
/// all, and the others do not change.
///
/// # Errors
/// If `partition` is not the next one, or classes, size or ids do not continue those of the
/// partitions that are there.
pub fn add(images: &Dataset, partition: Partition, before: &Partitions, folder: &Path) -> Result<()> {
    let next = before.next();
    if next != Some(partition) {
        let next = next.map_or("none is free".to_string(), |next| format!("the next one is {next}"));
        return Err(DataError::Unsuitable(format!("{partition} cannot be added; {next}")));
    }
    before.check_header(images)?;
    if images.samples().first().map(|sample| sample.id) != Some(before.next_id()?) {
        return Err(DataError::Unsuitable("the ids of added images must follow those that are there".into()));
    }
    let output = OutputFolder::create(&folder.join(partition.name()))?;
    store::write_added(images, &before.identity_up_to(partition), output.path())?;
    output.commit()
}

/// Returns the partitions in `folder`: v1, v2 and v3 always, and those that were added, in order. A
/// partition that is missing below another one counts as there, so that reading it reports it.
///
/// # Errors
/// If the folder cannot be read.
pub fn known(folder: &Path) -> Result<Vec<Partition>> {
    let mut last = Partition::V3;
    match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries.map_err(DataError::io("read the folder", folder))? {
                let name = entry.map_err(DataError::io("read the folder", folder))?.file_name();
                if let Some(partition) = name.to_str().and_then(|name| name.parse().ok()) {
                    last = last.max(partition);
                }
            }
        }
    }
    Ok(Partition::all().take_while(|partition| *partition <= last).collect())
}

/// The partitions of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct Partitions {
    /// v1, v2 and v3, then the partitions that were added, in order.
    pub sets: Vec<Dataset>,
    /// [`store::identity`] of the whole first set: v1, v2 and v3.
    pub identity: String,
    /// [`store::identity`] of the images of each partition that was added.
    pub added: BTreeMap<Partition, String>,
}

impl Partitions {
    /// Returns the sets with their partitions, in order.
    pub fn each(&self) -> impl Iterator<Item = (Partition, &Dataset)> {
        Partition::all().zip(&self.sets)
    }

    /// Returns the partition that can be added; none if all numbers are taken.
    pub fn next(&self) -> Option<Partition> {
        Partition::new(self.sets.len() as u32 + 1)
    }

    /// Returns the id of the first image that can be added.
    fn next_id(&self) -> Result<SampleId> {
        let last = self.sets.iter().rev().find_map(|set| set.samples().last()).map(|sample| sample.id);
        let next = last.map_or(Some(0), |last| last.0.checked_add(1)).map(SampleId);
        next.ok_or_else(|| DataError::Unsuitable("all ids are taken; no image can be added".into()))
    }

    /// Returns `images` as [`add`] needs them: with the classes of this set, found by their names,
    /// and with the ids after the last one. Some classes may have no new images.
    ///
    /// # Errors
    /// If there is a class that the set does not have, the images have another size or were resized
    /// by another rule, or only one of the two is synthetic.
    pub fn continued_by(&self, images: Dataset) -> Result<Dataset> {
        let Some(first) = self.sets.first() else { return Ok(images) };
        let images = images.with_classes(first.classes())?.numbered_from(self.next_id()?.0)?;
        self.check_header(&images)?;
        Ok(images)
    }

    /// Returns the identity of the first set together with the partitions that were added, up to
    /// `last`. Later partitions do not change it.
    pub fn identity_up_to(&self, last: Partition) -> String {
        let added = self.added.range(..=last).map(|(_, identity)| identity.as_str());
        added.fold(self.identity.clone(), |before, added| continued(&before, added))
    }

    /// Refuses images whose classes, size, kind or fit differ from those that are there.
    fn check_header(&self, images: &Dataset) -> Result<()> {
        let Some(first) = self.sets.first() else { return Ok(()) };
        let wrong = |problem: String| Err(DataError::Unsuitable(problem));
        let (new, there) = (images.header(), first.header());
        if new.classes != there.classes {
            return wrong("the new images have other classes than those that are there".into());
        }
        if new.size != there.size {
            return wrong(format!(
                "the new images have {} pixels, those that are there {}; all images of a set have one size",
                new.size, there.size
            ));
        }
        if new.source.is_synthetic() != there.source.is_synthetic() {
            return wrong("synthetic images and real ones cannot be in one set".into());
        }
        if new.source.fit != there.source.fit {
            return wrong("the new images were resized by another rule than those that are there".into());
        }
        Ok(())
    }
}

/// Returns the identity of a set with the identity `before` and the images `added` to it.
fn continued(before: &str, added: &str) -> String {
    blake3::hash(format!("{before}\n{added}").as_bytes()).to_hex()[..32].to_string()
}

/// Reads the partitions in `folder` and checks that they belong together.
///
/// # Errors
/// If one is missing or damaged, or they are from different sets.
pub fn read(folder: &Path, progress: &dyn Progress) -> Result<Partitions> {
    const WHAT: &str = "reading and checking partitions";
    let known = known(folder)?;
    let count = known.len() as u64;
    let mut parts = Vec::new();
    for (done, partition) in known.iter().enumerate() {
        progress.check()?;
        progress.update(WHAT, done as u64, count);
        parts.push(store::read_part(&existing(folder, *partition)?)?);
    }
    progress.update(WHAT, count, count);
    let identity = parts.first().and_then(|part| part.part_of.clone()).ok_or_else(|| {
        let problem = "does not say which set it is a part of";
        DataError::stale(&folder.join("v1"), problem, Stage::Partition.alone())
    })?;
    let mut partitions = Partitions { sets: Vec::new(), identity, added: BTreeMap::new() };
    for (partition, part) in known.into_iter().zip(parts) {
        let path = folder.join(partition.name());
        let Part { set, part_of, added_to, identity } = part;
        if partition.is_added() {
            if added_to != Some(partitions.identity_up_to(partition)) {
                let problem = "was added to other partitions than those before it; move this folder away, and add its \
                               images again";
                return Err(DataError::malformed(&path, problem));
            }
            partitions.check_header(&set)?;
            partitions.added.insert(partition, identity);
        } else if part_of.as_ref() != Some(&partitions.identity) {
            let problem = "was cut from another set of images than v1";
            return Err(DataError::stale(&path, problem, Stage::Partition.alone()));
        }
        partitions.sets.push(set);
    }
    Ok(partitions)
}

/// Returns the folder of a partition.
///
/// # Errors
/// If it has no images.
pub(crate) fn existing(folder: &Path, partition: Partition) -> Result<std::path::PathBuf> {
    let path = folder.join(partition.name());
    if path.join(store::IMAGES).is_file() {
        return Ok(path);
    }
    if partition.is_added() {
        let problem = "this partition is missing, or is no folder of images; restore it, or add its images again";
        return Err(DataError::malformed(&path, problem));
    }
    Err(DataError::missing(&path, "this partition is missing", Stage::Partition.alone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_cover_everything_once() {
        for total in [3, 4, 5, 6000, 60_000, 60_001] {
            let ranges = thirds(total);
            assert_eq!((ranges[0].start, ranges[2].end), (0, total));
            assert_eq!((ranges[0].end, ranges[1].end), (ranges[1].start, ranges[2].start));
        }
        assert_eq!(thirds(60_000)[1], 20_000..40_000);
    }

    #[test]
    fn one_text_names_a_partition() {
        for number in [1, 3, 4, 10, 99] {
            let partition = Partition::new(number).unwrap();
            assert_eq!((partition.to_string().parse(), partition.name()), (Ok(partition), format!("v{number}")));
        }
        for text in ["", "v", "v0", "v01", "v+1", "V1", "v100", "v1 ", "1", "v1.dvc", ".partial-v4-x"] {
            assert!(text.parse::<Partition>().is_err(), "{text}");
        }
        assert_eq!((Partition::V3.next(), Partition(99).next()), (Some(Partition(4)), None));
        assert!(Partition(4).is_added() && !Partition::V3.is_added());
    }

    #[test]
    fn partitions_are_found_by_their_folders() {
        let root = tempfile::tempdir().unwrap();
        let known = || known(root.path()).unwrap().len();
        assert_eq!((super::known(&root.path().join("none")).unwrap().len(), known()), (3, 3));
        for (name, count) in [("v1", 3), ("v4.bak", 3), (".partial-v7-x", 3), ("v4", 4), ("v6", 6)] {
            std::fs::create_dir(root.path().join(name)).unwrap();
            assert_eq!(known(), count, "{name}");
        }
    }
}
