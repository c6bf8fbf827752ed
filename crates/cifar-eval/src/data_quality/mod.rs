//! Describes prepared images without a network: counts, brightness statistics, suspicious images,
//! duplicates, and duplicates with different labels.
//!
//! [`inspect`] reads a prepared data set and writes one folder:
//!
//! - `report.json`: a [`DataQualityReport`];
//! - `issues.csv`: suspicious images, `id,content,split,class,issue,value,file`;
//! - `label_conflicts.csv`: duplicates with different labels,
//!   `id_a,id_b,content_a,content_b,split_a,split_b,label_a,label_b,similarity,kind`;
//! - `index.html` and its contact sheets.
//!
//! The inspection removes no image and changes no label.

mod page;
mod pairs;
mod quality;

use std::collections::BTreeMap;
use std::path::Path;

use cifar_data::duplicates::{Kind, PairCounts};
use cifar_data::output::OutputFolder;
use cifar_data::partitions::Partition;
use cifar_data::prepare::{PlacedPair, PreparedReport, TestSet, TrainingData, read_pairs, read_partitions};
use cifar_data::splits::Split;
use cifar_data::{Content, Dataset, Progress, Sample, SampleId, spreadsheet};
use serde::{Deserialize, Serialize};

pub use quality::{Issue, Quality};

use crate::plots::{Caption, Tile, contact_sheet};
use crate::{EvalError, Result};

/// File name of the report.
pub const REPORT: &str = "report.json";
/// File name of the page.
pub const PAGE: &str = "index.html";
const ISSUES: &str = "issues.csv";
const CONFLICTS: &str = "label_conflicts.csv";
const SCHEMA: u32 = 1;
/// Maximum number of images on a contact sheet.
const SHEET: usize = 60;

/// The content of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataQualityReport {
    /// Version of this file's layout.
    pub schema: u32,
    /// The source of the images.
    pub source: String,
    /// Whether the images are synthetic.
    pub synthetic: bool,
    /// The partitions.
    pub dataset_version: String,
    /// Seed of the split.
    pub split_seed: u64,
    /// Number of images.
    pub images: usize,
    /// Number of images by split, class (current label) and partition.
    pub counts: BTreeMap<Split, BTreeMap<String, BTreeMap<String, usize>>>,
    /// Brightness statistics by split.
    pub statistics: BTreeMap<Split, Statistics>,
    /// Number of images that fail each test, by split and class. Zero counts are omitted.
    pub issues: BTreeMap<Issue, BTreeMap<Split, BTreeMap<String, usize>>>,
    /// The criterion of each test, in words.
    pub tests: BTreeMap<Issue, String>,
    /// Number of duplicate pairs.
    pub duplicate_pairs: PairCounts,
    /// Number of duplicate pairs with one image in the test split and the other in another split.
    pub straddling_pairs: PairCounts,
    /// Number of exact and near duplicates with different labels.
    pub label_conflicts: usize,
}

/// Brightness statistics of the images of a split. Brightness is 0 to 255.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Number of images.
    pub images: usize,
    /// Mean brightness of an image, mean over images.
    pub brightness: f64,
    /// Standard deviation of the brightness of an image, mean over images.
    pub contrast: f64,
    /// Entropy of the brightness of an image in bits per pixel, mean over images.
    pub entropy: f64,
    /// Sharpness of an image, mean over images with any contrast.
    pub sharpness: f64,
    /// Mean brightness of the darkest image.
    pub darkest: f64,
    /// Mean brightness of the brightest image.
    pub brightest: f64,
}

impl DataQualityReport {
    /// Returns the number of images that fail a test.
    pub fn failing(&self, issue: Issue) -> usize {
        self.issues.get(&issue).into_iter().flat_map(BTreeMap::values).flat_map(BTreeMap::values).sum()
    }

    /// Returns a summary of three lines.
    pub fn in_words(&self) -> String {
        let issues = Issue::ALL.map(|issue| format!("{} {}", self.failing(issue), issue.name().replace('_', " ")));
        let PairCounts { exact, near, similar } = self.duplicate_pairs;
        format!(
            "{} images of {} ({})\nsuspicious images: {}\nduplicate pairs: {exact} exact, {near} near, {similar} similar; of the exact and near ones, {} between test and other images, {} with different labels",
            self.images,
            self.dataset_version,
            self.source,
            issues.join(", "),
            self.straddling_pairs.exact + self.straddling_pairs.near,
            self.label_conflicts
        )
    }
}

/// An image and its split.
#[derive(Debug, Clone, Copy)]
struct Placed<'a> {
    split: Split,
    sample: &'a Sample,
    content: Content,
    pixels: &'a [u8],
}

/// All images of the prepared data set.
struct Images<'a> {
    sets: [(Split, &'a Dataset); 3],
    classes: &'a [String],
}

impl<'a> Images<'a> {
    fn all(&self) -> impl Iterator<Item = Placed<'a>> {
        self.sets.into_iter().flat_map(|(split, set)| {
            let image =
                move |(index, sample)| Placed { split, sample, content: set.content(index), pixels: set.image(index) };
            set.samples().iter().enumerate().map(image)
        })
    }

    fn get(&self, id: SampleId) -> Option<Placed<'a>> {
        self.sets.into_iter().find_map(|(split, set)| {
            let index = set.index_of(id)?;
            let (sample, content) = (&set.samples()[index], set.content(index));
            Some(Placed { split, sample, content, pixels: set.image(index) })
        })
    }

    fn class(&self, placed: Placed) -> &'a str {
        &self.classes[usize::from(placed.sample.label)]
    }
}

/// Inspects the prepared data set in the folder `prepared` and writes the folder `out`.
///
/// # Errors
/// If `prepared` is incomplete or inconsistent, `out` cannot be written, or `progress` cancels.
///
/// ```no_run
/// use std::path::Path;
///
/// use cifar_data::Silent;
/// use cifar_eval::data_quality::{Issue, inspect};
///
/// let report = inspect(Path::new("data/prepared"), Path::new("evaluation/data"), &Silent)?;
/// println!("{} dark images", report.failing(Issue::Dark));
/// # Ok::<(), cifar_eval::EvalError>(())
/// ```
pub fn inspect(prepared: &Path, out: &Path, progress: &dyn Progress) -> Result<DataQualityReport> {
    const WHAT: &str = "inspecting images";
    let data = TrainingData::open(prepared)?;
    let test = TestSet::open(&prepared.join(Split::Test.name()), data.report.test_fingerprint())?;
    let pairs = read_pairs(prepared)?;
    let partitions = read_partitions(prepared)?;
    let classes = data.train.classes();
    let sets = [(Split::Train, &data.train), (Split::Val, &data.val), (Split::Test, test.dataset())];
    let images = Images { sets, classes };
    let total = data.report.images.values().sum();

    let mut measured = Vec::with_capacity(total);
    for (number, placed) in images.all().enumerate() {
        if number % 1000 == 0 {
            progress.check()?;
            progress.update(WHAT, number as u64, total as u64);
        }
        measured.push((placed, Quality::of(placed.pixels, data.report.size.width)));
    }
    progress.update(WHAT, total as u64, total as u64);
    let mut findings: Vec<Finding> = measured
        .iter()
        .flat_map(|(placed, quality)| {
            quality.issues().into_iter().map(|(issue, value)| Finding { placed: *placed, issue, value })
        })
        .collect();
    // Worst first; ties by id.
    findings.sort_by(|a, b| {
        let badness = |f: &Finding| if f.issue == Issue::Bright { -f.value } else { f.value };
        (a.issue, badness(a))
            .partial_cmp(&(b.issue, badness(b)))
            .unwrap_or(std::cmp::Ordering::Equal)
            .then(a.placed.sample.id.cmp(&b.placed.sample.id))
    });
    let conflicts: Vec<&PlacedPair> = pairs.iter().filter(|pair| labels_conflict(&images, pair)).collect();
    let report = summary(&data.report, &images, &partitions, &measured, &findings, &pairs, conflicts.len())?;

    let folder = OutputFolder::create(out)?;
    folder.write_json(REPORT, &report)?;
    folder.write(ISSUES, &issues_csv(&images, &findings))?;
    folder.write(CONFLICTS, &conflicts_csv(&images, &conflicts))?;
    let mut pictures = Vec::new();
    for sheet in pairs::sheets(&pairs, &conflicts) {
        progress.check()?;
        let png = pairs::draw(&sheet, &images, &data.report)?;
        folder.write(&format!("{}.png", sheet.name), &png)?;
        pictures.push((sheet.name, sheet.title));
    }
    for issue in Issue::ALL {
        progress.check()?;
        let of_issue: Vec<&Finding> = findings.iter().filter(|f| f.issue == issue).collect();
        if of_issue.is_empty() {
            continue;
        }
        let title = format!("{}: {} images, worst first", issue.name().replace('_', " "), of_issue.len());
        let png = issue_sheet(&images, &of_issue, &title, &data.report)?;
        folder.write(&format!("{}.png", issue.name()), &png)?;
        pictures.push((issue.name(), title));
    }
    folder.write(PAGE, page::html(&report, classes, &pictures).as_bytes())?;
    progress.check()?;
    folder.commit()?;
    Ok(report)
}

/// An image that fails a test.
#[derive(Clone, Copy)]
struct Finding<'a> {
    placed: Placed<'a>,
    issue: Issue,
    /// The measure that was tested.
    value: f64,
}

/// Whether two images are exact or near duplicates with different labels.
fn labels_conflict(images: &Images, pair: &PlacedPair) -> bool {
    let label = |id| images.get(id).map(|placed| placed.sample.label);
    pair.pair.kind != Kind::Similar && label(pair.pair.first) != label(pair.pair.second)
}

fn summary(
    prepared: &PreparedReport,
    images: &Images,
    partitions: &BTreeMap<SampleId, Partition>,
    measured: &[(Placed, Quality)],
    findings: &[Finding],
    pairs: &[PlacedPair],
    label_conflicts: usize,
) -> Result<DataQualityReport> {
    let mut counts: BTreeMap<Split, BTreeMap<String, BTreeMap<String, usize>>> = BTreeMap::new();
    let mut statistics: BTreeMap<Split, Vec<&Quality>> = BTreeMap::new();
    for (placed, quality) in measured {
        let partition = partitions.get(&placed.sample.id).ok_or_else(|| {
            cifar_data::DataError::Unsuitable(format!(
                "split.csv does not list image {}; run the stage `prepare`",
                placed.sample.id
            ))
        })?;
        let class = counts.entry(placed.split).or_default().entry(images.class(*placed).to_string()).or_default();
        *class.entry(partition.to_string()).or_default() += 1;
        statistics.entry(placed.split).or_default().push(quality);
    }
    let mut issues: BTreeMap<Issue, BTreeMap<Split, BTreeMap<String, usize>>> = BTreeMap::new();
    for finding in findings {
        let split = issues.entry(finding.issue).or_default().entry(finding.placed.split).or_default();
        *split.entry(images.class(finding.placed).to_string()).or_default() += 1;
    }
    Ok(DataQualityReport {
        schema: SCHEMA,
        source: prepared.source.description.clone(),
        synthetic: prepared.source.is_synthetic(),
        dataset_version: prepared.dataset_version.to_string(),
        split_seed: prepared.split.split_seed,
        images: measured.len(),
        counts,
        statistics: statistics.into_iter().map(|(split, qualities)| (split, statistics_of(&qualities))).collect(),
        issues,
        tests: Issue::ALL.into_iter().map(|issue| (issue, issue.test())).collect(),
        duplicate_pairs: PairCounts::of(pairs.iter().map(|placed| &placed.pair)),
        straddling_pairs: PairCounts::of(pairs.iter().filter(|p| p.straddles()).map(|placed| &placed.pair)),
        label_conflicts,
    })
}

fn statistics_of(qualities: &[&Quality]) -> Statistics {
    let mean = |value: &dyn Fn(&Quality) -> Option<f64>| {
        let values: Vec<f64> = qualities.iter().filter_map(|quality| value(quality)).collect();
        values.iter().sum::<f64>() / values.len().max(1) as f64
    };
    let means = || qualities.iter().map(|quality| quality.mean);
    Statistics {
        images: qualities.len(),
        brightness: mean(&|q| Some(q.mean)),
        contrast: mean(&|q| Some(q.contrast)),
        entropy: mean(&|q| Some(q.entropy)),
        sharpness: mean(&|q| q.sharpness),
        darkest: means().reduce(f64::min).unwrap_or_default(),
        brightest: means().reduce(f64::max).unwrap_or_default(),
    }
}

fn issue_sheet(images: &Images, findings: &[&Finding], title: &str, prepared: &PreparedReport) -> Result<Vec<u8>> {
    let mut tiles = Vec::new();
    for finding in findings.iter().take(SHEET) {
        let Finding { placed, value, .. } = **finding;
        let lines =
            vec![format!("{} {}", placed.sample.id, images.class(placed)), format!("{} {value:.2}", placed.split)];
        tiles.push(Tile { pixels: placed.pixels, lines, warn: false });
    }
    let (height, width) = (prepared.size.height, prepared.size.width);
    Ok(contact_sheet(&tiles, height, width, 10, &caption(title, &footer(prepared), prepared))?)
}

fn footer(prepared: &PreparedReport) -> String {
    let images: usize = prepared.images.values().sum();
    let (version, source) = (prepared.dataset_version, &prepared.source.description);
    format!(
        "{images} images of {version}, training, validation and test · {source} · split seed {}",
        prepared.split.split_seed
    )
}

fn caption<'a>(title: &'a str, footer: &'a str, prepared: &PreparedReport) -> Caption<'a> {
    Caption { title, footer, synthetic: prepared.source.is_synthetic() }
}

fn issues_csv(images: &Images, findings: &[Finding]) -> Vec<u8> {
    let row = |finding: &Finding| {
        let Placed { split, sample, content, .. } = finding.placed;
        [
            sample.id.to_string(),
            content.to_string(),
            split.to_string(),
            images.class(finding.placed).to_string(),
            finding.issue.name().to_string(),
            format!("{:.4}", finding.value),
            sample.file.clone(),
        ]
    };
    spreadsheet::csv(&["id", "content", "split", "class", "issue", "value", "file"], findings.iter().map(row))
}

fn conflicts_csv(images: &Images, conflicts: &[&PlacedPair]) -> Vec<u8> {
    let content = |id| images.get(id).map(|placed| placed.content.to_string()).unwrap_or_default();
    let class = |id| images.get(id).map_or("", |placed| images.class(placed)).to_string();
    let row = |PlacedPair { pair, splits }: &&PlacedPair| {
        [
            pair.first.to_string(),
            pair.second.to_string(),
            content(pair.first),
            content(pair.second),
            splits[0].to_string(),
            splits[1].to_string(),
            class(pair.first),
            class(pair.second),
            pair.similarity.to_string(),
            pairs::kind_name(pair.kind).to_string(),
        ]
    };
    let columns =
        ["id_a", "id_b", "content_a", "content_b", "split_a", "split_b", "label_a", "label_b", "similarity", "kind"];
    spreadsheet::csv(&columns, conflicts.iter().map(row))
}

/// The error for an image that a list names but no split contains.
fn missing(prepared: &str, id: SampleId) -> EvalError {
    cifar_data::DataError::Unsuitable(format!(
        "{prepared} lists image {id}, which is in no split; run the stage `prepare`"
    ))
    .into()
}
