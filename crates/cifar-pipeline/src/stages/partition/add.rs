//! `partition --add`: adds images as a new partition, and changes nothing that is there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use cifar_data::output::write_file;
use cifar_data::partitions::{self, Partition, Partitions};
use cifar_data::pull::Assignment;
use cifar_data::sources::synthetic;
use cifar_data::splits::{AddedCounts, Split};
use cifar_data::{DataError, Dataset, Header, ImageIndex, Resize, Source};
use serde::{Serialize, Serializer};

use super::{PartitionOptions, draw, read_images};
use crate::links::refuse_links_to;
use crate::stages::labels;
use crate::{Context as _, Error, Project, Reporter, Result, bail, ensure};

/// The option that adds a partition.
const OPTION: &str = "--add";

/// What was added.
#[derive(Debug, Serialize)]
pub struct Added {
    /// The new partition.
    pub partition: Partition,
    /// The source of its images.
    pub source: Source,
    /// Images of each class, in the order of the classes.
    #[serde(serialize_with = "as_map")]
    pub images_by_class: Vec<(String, usize)>,
    /// Ids of its first and last image.
    pub ids: [u32; 2],
    /// Images of each split, by the parameters of the project.
    pub images_by_split: BTreeMap<Split, usize>,
    /// Its images and their duplicates.
    pub counts: AddedCounts,
    /// All partitions that there are now.
    pub partitions: Vec<Partition>,
    /// The folder of the partition.
    pub folder: PathBuf,
}

/// Reads images and adds them as the partition `name`.
///
/// # Errors
/// If `name` is not the next partition, the partitions are missing or damaged, the images cannot be
/// read or do not suit those that are there, or all of them are copies of these.
pub fn run(project: &Project, name: &str, options: &PartitionOptions, reporter: &dyn Reporter) -> Result<Added> {
    let mut known = project.known_partitions()?;
    let partition = expected(project, name, &known)?;
    known.push(partition);
    let split = project.params_for(&known)?.split;
    let source = options.source.as_str();
    if matches!(source, "auto" | "download") {
        return Err(Error::usage(format!("{OPTION} {name} needs the images to add: --source PATH")));
    }
    let folder = project.layout.partitions();
    let mut all = partitions::read(&folder, reporter)?;
    let (images, truth) = read(project, &all, options, reporter)?;
    warn_of_missing_classes(&images, reporter);

    all.sets.push(images);
    let near_duplicates = project.layout.near_duplicates();
    let assignment = Assignment::of(&all.sets, &split, Some(&near_duplicates), reporter)?;
    let index = ImageIndex::of(&all.sets);
    let Some(images) = all.sets.pop() else { bail!("{source}: has no images") };
    let counts = assignment.added.get(&partition).cloned().unwrap_or_default();
    ensure!(
        counts.exact_copies < counts.images,
        "{source}: all {} images are exact copies of images that are there; nothing was added",
        counts.images
    );
    if let Some(truth) = truth {
        write_file(&project.layout.synthetic_truth(), truth.as_bytes())?;
    }
    partitions::add(&images, partition, &all, &folder)?;
    depend_on(project, partition, reporter)?;
    labels::warn_of_misplaced(project, &index, images.classes(), reporter);
    let of_split = |split| images.samples().iter().filter(|s| assignment.splits.get(&s.id) == Some(&split)).count();
    let id = |sample: Option<&cifar_data::Sample>| sample.map_or(0, |sample| sample.id.0);
    Ok(Added {
        partition,
        source: images.header().source.clone(),
        images_by_class: images.classes().iter().cloned().zip(images.counts_by_class()).collect(),
        ids: [id(images.samples().first()), id(images.samples().last())],
        images_by_split: Split::ALL.map(|split| (split, of_split(split))).into(),
        counts,
        partitions: known,
        folder: folder.join(partition.name()),
    })
}

/// Returns the partition that can be added, which is `name`.
fn expected(project: &Project, name: &str, known: &[Partition]) -> Result<Partition> {
    let folder = project.layout.partitions();
    let is_there = |partition: &Partition| folder.join(partition.name()).symlink_metadata().is_ok();
    ensure!(
        Partition::FIRST.iter().any(is_there),
        "{}: there are no partitions to add to; run `cifar-cli partition` first, or `dvc pull`",
        folder.display()
    );
    let Some(next) = known.last().and_then(|last| last.next()) else {
        return Err(Error::usage(format!(
            "{OPTION} {name}: there are {} partitions, and no more are possible",
            known.len()
        )));
    };
    if name != next.name() {
        let exists = known.iter().any(|partition| partition.name() == name);
        let problem = if exists { format!("{name} exists; ") } else { String::new() };
        return Err(Error::usage(format!("{OPTION} {name} is not allowed; {problem}the next partition is {next}")));
    }
    if let Some(missing) = known.iter().find(|partition| !is_there(partition)) {
        bail!("{}: this partition is missing; run `dvc pull` first", folder.join(missing.name()).display());
    }
    Ok(next)
}

/// Reads the images, with the classes of the set and ids after its last one. Of synthetic images
/// also returns the truth about all of the set.
fn read(
    project: &Project,
    before: &Partitions,
    options: &PartitionOptions,
    reporter: &dyn Reporter,
) -> Result<(Dataset, Option<String>)> {
    let Some(first) = before.sets.first() else { bail!("there are no partitions") };
    if options.source == "synthetic" {
        let synthetic = draw(options)?;
        let images = before.continued_by(synthetic.dataset.clone())?;
        let id = images.samples().first().map_or(0, |sample| sample.id.0);
        let truth = synthetic::truth_csv(&synthetic.numbered_from(id)?);
        return Ok((images, Some(extended(&project.layout.synthetic_truth(), id, &truth)?)));
    }
    let resize = resize(first.header(), options.resize)?;
    let options = PartitionOptions { resize, ..options.clone() };
    let path = Path::new(&options.source);
    let images = match read_images(path, &options, reporter) {
        // The usual advice, another size, does not apply.
        Err(Error::Data(error @ DataError::Sizes { .. })) => {
            let size = first.size();
            bail!("{error}; the images that are there have {size} pixels and were not resized; add images of this size")
        }
        other => other?,
    };
    let images = before.continued_by(images).with_context(|| options.source.clone())?;
    Ok((images, None))
}

/// Returns how the images of the set were resized, if they were, which the user may have repeated.
fn resize(first: &Header, wanted: Option<Resize>) -> Result<Option<Resize>> {
    let there = first.source.fit.map(|fit| Resize { size: first.size, fit });
    let Some(wanted) = wanted.filter(|wanted| Some(*wanted) != there) else { return Ok(there) };
    let side = wanted.size.width;
    Err(Error::usage(match there {
        Some(there) => format!(
            "--size {side}: new images would be {wanted}, those that are there were {there}; leave out --size and --fit"
        ),
        None => format!(
            "--size {side}: the images that are there were not resized; leave out --size, and add images of {} pixels",
            first.size
        ),
    }))
}

/// Returns the table of planted images with those of an added set, whose first id is `first`.
fn extended(path: &Path, first: u32, added: &str) -> Result<String> {
    let before = match std::fs::read_to_string(path) {
        // Partitions that came from elsewhere have no such table.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("{}: cannot read", path.display()))?,
    };
    let id = |line: &str| line.split(',').next().and_then(|id| id.parse::<u32>().ok());
    let header = added.lines().next().unwrap_or_default();
    let before = before.lines().filter(|line| id(line).is_some_and(|id| id < first));
    let lines = std::iter::once(header).chain(before).chain(added.lines().skip(1));
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}

fn as_map<S: Serializer>(images_by_class: &[(String, usize)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(images_by_class.iter().map(|(class, images)| (class, images)))
}

fn warn_of_missing_classes(images: &Dataset, reporter: &dyn Reporter) {
    let classes = images.classes().iter().zip(images.counts_by_class());
    let missing: Vec<&str> = classes.filter(|(_, count)| *count == 0).map(|(class, _)| class.as_str()).collect();
    if !missing.is_empty() {
        let plural = if missing.len() == 1 { "class has" } else { "classes have" };
        reporter.warn(&format!("{} {plural} no new images: {}", missing.len(), missing.join(", ")));
    }
}

/// Makes the stage that joins partitions depend on the new one, in dvc.yaml. Does nothing without
/// that file.
fn depend_on(project: &Project, partition: Partition, reporter: &dyn Reporter) -> Result<()> {
    let path = project.layout.pipeline();
    let text = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        text => text.with_context(|| format!("{}: cannot read", path.display()))?,
    };
    if depends_on(&text, partition) {
        return Ok(());
    }
    match with_dependency(&text, partition) {
        Some(text) => {
            refuse_links_to(&project.layout, &path)?;
            write_file(&path, text.as_bytes())?;
            reporter.note(&format!("{}: pull_data depends on {} now", path.display(), dependency(partition)));
        }
        None => reporter.warn(&missing_dependency(&path, partition)),
    }
    Ok(())
}

/// Returns what to do about a pipeline that does not depend on a partition.
pub(crate) fn missing_dependency(path: &Path, partition: Partition) -> String {
    let line = dependency(partition);
    format!("{}: add the line `- {line}` to the deps of pull_data, so that DVC follows this partition", path.display())
}

/// Returns whether a pipeline depends on a partition.
pub(crate) fn depends_on(pipeline: &str, partition: Partition) -> bool {
    pipeline.lines().any(|line| is_dependency(line, partition))
}

fn dependency(partition: Partition) -> String {
    format!("dataset_partitions/{partition}")
}

fn is_dependency(line: &str, partition: Partition) -> bool {
    line.split('#').next().and_then(|line| line.trim().strip_prefix("- ")) == Some(dependency(partition).as_str())
}

/// Returns the pipeline with one more partition, in the line after the one before it; none if there
/// is no such line.
fn with_dependency(pipeline: &str, partition: Partition) -> Option<String> {
    let before = Partition::new(u32::from(partition.number()) - 1)?;
    let line = pipeline.split_inclusive('\n').find(|line| is_dependency(line, before))?;
    let end = line.find('-').map(|dash| &line[..dash])?;
    let ending = if line.ends_with("\r\n") { "\r\n" } else { "\n" };
    let start = line.trim_end_matches(['\r', '\n']);
    let with_both = format!("{start}{ending}{end}- {}{ending}", dependency(partition));
    Some(pipeline.replacen(line, &with_both, 1))
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let classes: Vec<String> = self.images_by_class.iter().map(|(class, n)| format!("{class} {n}")).collect();
        let AddedCounts { images, exact_copies, near_duplicates, of_test_images, connecting_groups } = &self.counts;
        let [train, val, test] = Split::ALL.map(|split| self.images_by_split.get(&split).copied().unwrap_or(0));
        writeln!(f, "{}\n{}", self.source.description, classes.join(", "))?;
        writeln!(
            f,
            "duplicates of earlier images: {exact_copies} exact, {near_duplicates} near, {of_test_images} of them of \
             test images; each has the split of the earlier image"
        )?;
        if *connecting_groups > 0 {
            writeln!(
                f,
                "groups of duplicates that connect earlier images of different splits: {connecting_groups}; the earlier \
                 images stay where they are"
            )?;
        }
        let known = self.partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(
            f,
            "{}: {images} images with the ids {} to {}: {train} for training, {val} for validation, {test} for test; \
             the partitions are {known}",
            self.folder.display(),
            self.ids[0],
            self.ids[1]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pipeline_gets_a_line_per_partition() {
        let shipped = include_str!("../../../../../dvc.yaml");
        let [v4, v5] = [4, 5].map(|number| Partition::new(number).unwrap());
        assert!(!depends_on(shipped, v4) && with_dependency(shipped, v5).is_none());
        let with_v4 = with_dependency(shipped, v4).unwrap();
        let with_both = with_dependency(&with_v4, v5).unwrap();
        assert!(depends_on(&with_both, v4) && depends_on(&with_both, v5));
        let [v3, v4, v5] = ["v3", "v4", "v5"].map(|name| format!("      - dataset_partitions/{name}\n"));
        assert_eq!(with_both, shipped.replace(&v3, &format!("{v3}{v4}{v5}")));
        let last = "deps:\r\n- dataset_partitions/v3 # the last";
        let expected = "deps:\r\n- dataset_partitions/v3 # the last\n- dataset_partitions/v4\n";
        assert_eq!(with_dependency(last, Partition::new(4).unwrap()).unwrap(), expected);
    }

    #[test]
    fn the_rule_of_the_set_holds_for_new_images() {
        use cifar_data::{Fit, ImageSize, SourceKind};
        let size = ImageSize { height: 64, width: 64 };
        let header = |fit| {
            let source = Source { fit, ..Source::new(SourceKind::ClassFolders, "class folders") };
            Header { classes: vec!["cat".into()], size, source }
        };
        let rule = |side, fit| Some(Resize::square(side, fit).unwrap());
        let (plain, cropped) = (header(None), header(Some(Fit::Crop)));
        assert_eq!(resize(&plain, None).unwrap(), None);
        assert_eq!(resize(&cropped, None).unwrap(), rule(64, Fit::Crop));
        assert_eq!(resize(&cropped, rule(64, Fit::Crop)).unwrap(), rule(64, Fit::Crop));
        let refused = |header: &Header, wanted| resize(header, wanted).unwrap_err().to_string();
        assert_eq!(
            refused(&cropped, rule(64, Fit::Pad)),
            "--size 64: new images would be padded to 64×64, those that are there were cropped to 64×64; leave out \
             --size and --fit"
        );
        assert_eq!(
            refused(&plain, rule(32, Fit::Crop)),
            "--size 32: the images that are there were not resized; leave out --size, and add images of 64×64 pixels"
        );
    }

    #[test]
    fn the_truth_of_added_images_replaces_what_an_interrupted_command_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("truth.csv");
        assert_eq!(extended(&path, 30, "id,kind\n31,blend\n").unwrap(), "id,kind\n31,blend\n");
        std::fs::write(&path, "id,kind\n3,mislabel\n30,blend\n").unwrap();
        assert_eq!(extended(&path, 30, "id,kind\n31,blend\n").unwrap(), "id,kind\n3,mislabel\n31,blend\n");
    }
}
