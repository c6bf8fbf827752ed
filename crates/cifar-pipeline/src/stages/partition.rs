//! `partition`: divides the user's images into the three partitions, or adds one.

pub mod add;

use std::fmt;
use std::path::{Path, PathBuf};

use cifar_data::duplicates::{self, PairCounts};
use cifar_data::names::shown;
use cifar_data::output::write_file;
use cifar_data::partitions::{self, Partition, thirds};
use cifar_data::sources::download::{self, Remote, Timeouts};
use cifar_data::sources::synthetic::{self, Synthetic, SyntheticParams};
use cifar_data::sources::{self, Labels, ReadOptions};
use cifar_data::{DataError, Dataset, ImageIndex, ImageSize, Resize, Source, store};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::labels;
use crate::links::refuse_links_to;
use crate::{Context as _, Error, Project, Reporter, Result, bail};

/// The source of the images.
#[derive(Debug, Clone)]
pub struct PartitionOptions {
    /// `auto` (the project's own images, else a download, else the synthetic set), `download`,
    /// `synthetic`, or the path of a folder, an archive or a table of labels.
    pub source: String,
    /// Whether to avoid the network.
    pub offline: bool,
    /// Another URL of the official archive.
    pub mirror: Option<String>,
    /// Whether to label CIFAR-100 by its 20 superclasses instead of its 100 classes.
    pub coarse_labels: bool,
    /// Whether to leave out unusable image files instead of stopping at the first.
    pub skip_broken: bool,
    /// The size to which images are resized, with the rule. With `None`, all must have one
    /// size.
    pub resize: Option<Resize>,
    /// Size of the synthetic set.
    pub synthetic_images: u32,
    /// Seed of the synthetic set.
    pub synthetic_seed: u64,
}

impl PartitionOptions {
    /// The defaults with this source.
    pub fn of(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            offline: false,
            mirror: None,
            coarse_labels: false,
            skip_broken: false,
            resize: None,
            synthetic_images: 6000,
            synthetic_seed: 0,
        }
    }
}

impl Default for PartitionOptions {
    fn default() -> Self {
        Self::of("auto")
    }
}

/// What `partition` made.
#[derive(Debug)]
pub struct Partitioned {
    /// The source of the images.
    pub source: Source,
    /// Height and width of every image.
    pub size: ImageSize,
    /// Images of each class, in the order of the classes.
    pub images_by_class: Vec<(String, usize)>,
    /// Images of v1, v2 and v3.
    pub images_by_partition: [usize; 3],
    /// Pairs of images that show the same picture.
    pub duplicate_pairs: PairCounts,
    /// Hash of all images and labels.
    pub fingerprint: String,
    /// The folder of the partitions.
    pub folder: PathBuf,
}

/// Reads the images and writes the three partitions.
///
/// # Errors
/// If the images cannot be read, or real images would be replaced by synthetic ones without being
/// asked for.
pub fn run(project: &Project, options: &PartitionOptions, reporter: &dyn Reporter) -> Result<Partitioned> {
    // The ground truth of a synthetic set does not apply to other images.
    let mut truth = None;
    let images = project.layout.dataset();
    let source = options.source.as_str();
    let has_none = source == "synthetic" || source == "auto" && !holds_something(&images)?;
    if has_none && options.resize.is_some() {
        let problem = "name your images, or use --source download";
        return Err(Error::usage(format!("--size is for images; --source {source} has none here; {problem}")));
    }
    let dataset = match source {
        "auto" if holds_something(&images)? => read_images(&images, options, reporter)?,
        "auto" => {
            refuse_to_replace_real_images(project)?;
            match fetch(project, options, reporter)? {
                Ok(archive) => read_images(&archive, options, reporter)?,
                Err(e @ DataError::Unavailable { .. }) => {
                    reporter.warn(&format!(
                        "there is no {}, and {e}: using the built-in SYNTHETIC set of drawn images instead; \
                         every result made from it says so. Your own images: --source PATH",
                        images.display()
                    ));
                    draw_synthetic(options, &mut truth, reporter)?
                }
                Err(e) => return Err(e.into()),
            }
        }
        "download" => read_images(&fetch(project, options, reporter)??, options, reporter)?,
        "synthetic" => draw_synthetic(options, &mut truth, reporter)?,
        path => read_images(Path::new(path), options, reporter)?,
    };
    // Duplicates are searched here, where the images change, so that no later `pull` repeats it.
    let pairs = duplicates::find_once(&[&dataset], &project.layout.near_duplicates(), reporter)?;
    let folder = project.layout.partitions();
    partitions::write(&dataset, &folder, reporter)?;
    // An added partition belongs to the same set as before, and the table has its images, too.
    let has_added = partitions::known(&folder)?.len() > Partition::FIRST.len();
    match truth {
        Some(_) if has_added && project.layout.synthetic_truth().exists() => {}
        Some(truth) => write_file(&project.layout.synthetic_truth(), truth.as_bytes())?,
        None => forget_truth(project)?,
    }
    let index = if has_added { ImageIndex::read(&folder)? } else { ImageIndex::of([&dataset]) };
    labels::warn_of_misplaced(project, &index, dataset.classes(), reporter);
    Ok(Partitioned {
        source: dataset.header().source.clone(),
        size: dataset.size(),
        images_by_class: dataset.classes().iter().cloned().zip(dataset.counts_by_class()).collect(),
        images_by_partition: thirds(dataset.len()).map(|range| range.len()),
        duplicate_pairs: PairCounts::of(&pairs),
        fingerprint: store::fingerprint(&dataset),
        folder,
    })
}

/// Returns whether the folder of the user's images exists, unless it contains only an unfinished
/// download. A dangling link, such as to a disk that is not mounted, counts as existing: reading it
/// reports the error.
fn holds_something(folder: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        found => found.with_context(|| format!("{}: cannot read", shown(folder)))?,
    };
    if !folder.is_dir() {
        return Ok(true);
    }
    let left = download::partial(&folder.join(download::OFFICIAL));
    let mut entries = std::fs::read_dir(folder).with_context(|| format!("{}: cannot read", shown(folder)))?;
    let first = entries.next();
    // An empty folder counts as existing: it is a mistake that reading it reports.
    let only_left =
        first.is_some_and(|entry| entry.is_ok_and(|entry| entry.path() == left)) && entries.next().is_none();
    Ok(!only_left)
}

/// Returns the official archive in the folder of the user's images, downloading it if needed.
fn fetch(project: &Project, options: &PartitionOptions, reporter: &dyn Reporter) -> Result<Result<PathBuf, DataError>> {
    let archive = project.layout.dataset().join(download::OFFICIAL);
    if !options.offline && !archive.exists() {
        refuse_links_to(&project.layout, &download::partial(&archive))?;
    }
    Ok(fetch_archive(project, options, reporter))
}

fn fetch_archive(project: &Project, options: &PartitionOptions, reporter: &dyn Reporter) -> Result<PathBuf, DataError> {
    let archive = project.layout.dataset().join(download::OFFICIAL);
    if archive.exists() {
        return Ok(archive);
    }
    let official = Remote::official();
    let url = options.mirror.clone().unwrap_or(official.url);
    let remote = Remote { url, ..official };
    if options.offline {
        return Err(DataError::Unavailable { url: remote.url, problem: "--offline".into() });
    }
    reporter.note(&format!("fetching {} ({:.0} MB)", remote.url, remote.bytes as f64 / 1e6));
    download::fetch(&remote, &archive, Timeouts::default(), reporter)?;
    Ok(archive)
}

fn read_images(path: &Path, options: &PartitionOptions, reporter: &dyn Reporter) -> Result<Dataset> {
    let labels = if options.coarse_labels { Labels::Coarse } else { Labels::Fine };
    let PartitionOptions { skip_broken, resize, .. } = *options;
    let read = sources::read(path, &ReadOptions { skip_broken, labels, resize }, reporter)?;
    let folder = if path.is_file() { path.parent().unwrap_or(path) } else { path };
    for skipped in &read.skipped {
        reporter.warn(&format!("left out {}: {}", shown(&folder.join(&skipped.file)), skipped.problem));
    }
    if read.ignored > 0 {
        let plural = if read.ignored == 1 { "" } else { "s" };
        let what = "hidden, or left by an operating system, such as .DS_Store and Thumbs.db";
        reporter.note(&format!("ignored {} file{plural}: {what}", read.ignored));
    }
    Ok(read.dataset)
}

fn draw_synthetic(options: &PartitionOptions, truth: &mut Option<String>, reporter: &dyn Reporter) -> Result<Dataset> {
    let synthetic = draw(options)?;
    reporter.check()?;
    *truth = Some(synthetic::truth_csv(&synthetic));
    Ok(synthetic.dataset)
}

fn draw(options: &PartitionOptions) -> Result<Synthetic> {
    let params = SyntheticParams {
        count: options.synthetic_images as usize,
        seed: options.synthetic_seed,
        ..Default::default()
    };
    Ok(synthetic::generate(&params)?)
}

fn forget_truth(project: &Project) -> Result<()> {
    let truth = project.layout.synthetic_truth();
    match std::fs::remove_file(&truth) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => bail!("{}: cannot remove: {e}", truth.display()),
        _ => Ok(()),
    }
}

/// Refuses to replace real images by synthetic ones, as `auto` would if a folder has moved.
fn refuse_to_replace_real_images(project: &Project) -> Result<()> {
    for partition in Partition::FIRST {
        let folder = project.layout.partitions().join(partition.name());
        if let Ok(dataset) = store::read(&folder)
            && !dataset.header().source.is_synthetic()
        {
            bail!(
                "{}: contains real images ({}), and there is no {} to read them from again; use --source synthetic to replace them with synthetic images",
                folder.display(),
                dataset.header().source.description,
                project.layout.dataset().display()
            );
        }
    }
    Ok(())
}

impl Serialize for Partitioned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let by_class: serde_json::Map<_, _> =
            self.images_by_class.iter().map(|(class, n)| (class.clone(), (*n).into())).collect();
        let [v1, v2, v3] = self.images_by_partition;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("source", &self.source)?;
        map.serialize_entry("images", &(v1 + v2 + v3))?;
        map.serialize_entry("size", &self.size)?;
        map.serialize_entry("images_by_class", &by_class)?;
        map.serialize_entry("images_by_partition", &serde_json::json!({ "v1": v1, "v2": v2, "v3": v3 }))?;
        map.serialize_entry("duplicate_pairs", &self.duplicate_pairs)?;
        map.serialize_entry("fingerprint", &self.fingerprint)?;
        map.end()
    }
}

impl fmt::Display for Partitioned {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let classes: Vec<String> = self.images_by_class.iter().map(|(class, n)| format!("{class} {n}")).collect();
        let sizes = self.images_by_partition.map(|n| n.to_string());
        let pairs = &self.duplicate_pairs;
        write!(
            f,
            "{}\n{}\n{} exact, {} near and {} similar pairs\n{}: {} images in v1, v2, v3",
            self.source.description,
            classes.join(", "),
            pairs.exact,
            pairs.near,
            pairs.similar,
            self.folder.display(),
            sizes.join(" + ")
        )
    }
}
