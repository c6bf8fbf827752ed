//! What the prepared images are like: counts, statistics, images that fail absolute tests, duplicates and the labels that
//! contradict each other among them; as figures, as lists and as a page with pictures.
//!
//! In: a prepared set. Out, in one folder: `report.json`; `issues.csv` (`id,content,split,class,issue,value,file`);
//! `label_conflicts.csv` (`id_a,id_b,content_a,content_b,split_a,split_b,label_a,label_b,similarity,kind`); `index.html`
//! and its pictures.
//! Nothing here decides anything: no image is left out, and no label is changed.

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

/// File name of the figures.
pub const REPORT: &str = "report.json";
/// File name of the page.
pub const PAGE: &str = "index.html";
const ISSUES: &str = "issues.csv";
const CONFLICTS: &str = "label_conflicts.csv";
const SCHEMA: u32 = 1;
/// Images on a sheet at most.
const SHEET: usize = 60;

/// What was found: `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataQualityReport {
    /// Version of this file's layout.
    pub schema: u32,
    /// Where the images came from.
    pub source: String,
    /// Whether that is the built-in set of drawn images.
    pub synthetic: bool,
    /// The partitions.
    pub dataset_version: String,
    /// Seed of the division into splits.
    pub split_seed: u64,
    /// Number of images.
    pub images: usize,
    /// Number of images of each split, class (by the label in force) and partition.
    pub counts: BTreeMap<Split, BTreeMap<String, BTreeMap<String, usize>>>,
    /// Statistics of each split's images.
    pub statistics: BTreeMap<Split, Statistics>,
    /// Number of images that fail each test, by split and class; classes without one are left out.
    pub issues: BTreeMap<Issue, BTreeMap<Split, BTreeMap<String, usize>>>,
    /// What each test is.
    pub tests: BTreeMap<Issue, String>,
    /// Pairs of images that show the same picture.
    pub duplicate_pairs: PairCounts,
    /// Those of them with one image for test and the other not.
    pub straddling_pairs: PairCounts,
    /// Exact and near pairs whose images have different labels.
    pub label_conflicts: usize,
}

/// Of the images of a split, by brightness from 0 to 255.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Number of images.
    pub images: usize,
    /// Mean of the images' mean brightness.
    pub brightness: f64,
    /// Mean of the images' standard deviations of brightness.
    pub contrast: f64,
    /// Mean entropy of brightness, bits a pixel.
    pub entropy: f64,
    /// Mean sharpness of those images that have any contrast.
    pub sharpness: f64,
    /// The darkest and the brightest image's mean brightness.
    pub darkest: f64,
    /// See `darkest`.
    pub brightest: f64,
}

impl DataQualityReport {
    /// Number of images that fail a test.
    pub fn failing(&self, issue: Issue) -> usize {
        self.issues.get(&issue).into_iter().flat_map(BTreeMap::values).flat_map(BTreeMap::values).sum()
    }

    /// A few lines for people.
    pub fn in_words(&self) -> String {
        let issues = Issue::ALL.map(|issue| format!("{} {}", self.failing(issue), issue.name().replace('_', " ")));
        let PairCounts { exact, near, similar } = self.duplicate_pairs;
        format!(
            "{} images of {} ({})\nto look at: {}\npairs: {exact} exact, {near} near, {similar} similar; {} of exact and near between test and other images; {} with labels that differ",
            self.images,
            self.dataset_version,
            self.source,
            issues.join(", "),
            self.straddling_pairs.exact + self.straddling_pairs.near,
            self.label_conflicts
        )
    }
}

/// An image in its split.
#[derive(Debug, Clone, Copy)]
struct Placed<'a> {
    split: Split,
    sample: &'a Sample,
    content: Content,
    pixels: &'a [u8],
}

/// Everything that is looked at.
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

/// Looks at the prepared set in `prepared` and writes `out`.
pub fn inspect(prepared: &Path, out: &Path, monitor: &dyn Progress) -> Result<DataQualityReport> {
    const WHAT: &str = "looking at images";
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
            monitor.check()?;
            monitor.update(WHAT, number as u64, total as u64);
        }
        measured.push((placed, Quality::of(placed.pixels, data.report.size.width)));
    }
    monitor.update(WHAT, total as u64, total as u64);
    let mut found: Vec<Found> = measured
        .iter()
        .flat_map(|(placed, quality)| {
            quality.issues().into_iter().map(|(issue, value)| Found { placed: *placed, issue, value })
        })
        .collect();
    // The worst first; of equals the smallest id.
    found.sort_by(|a, b| {
        let badness = |f: &Found| if f.issue == Issue::Bright { -f.value } else { f.value };
        (a.issue, badness(a))
            .partial_cmp(&(b.issue, badness(b)))
            .unwrap_or(std::cmp::Ordering::Equal)
            .then(a.placed.sample.id.cmp(&b.placed.sample.id))
    });
    let conflicts: Vec<&PlacedPair> = pairs.iter().filter(|pair| contradicts(&images, pair)).collect();
    let report = summary(&data.report, &images, &partitions, &measured, &found, &pairs, conflicts.len())?;

    let folder = OutputFolder::create(out)?;
    folder.write_json(REPORT, &report)?;
    folder.write(ISSUES, &issues_csv(&images, &found))?;
    folder.write(CONFLICTS, &conflicts_csv(&images, &conflicts))?;
    let mut pictures = Vec::new();
    for sheet in pairs::sheets(&pairs, &conflicts) {
        monitor.check()?;
        let png = pairs::draw(&sheet, &images, &data.report)?;
        folder.write(&format!("{}.png", sheet.name), &png)?;
        pictures.push((sheet.name, sheet.title));
    }
    for issue in Issue::ALL {
        monitor.check()?;
        let of_issue: Vec<&Found> = found.iter().filter(|f| f.issue == issue).collect();
        if of_issue.is_empty() {
            continue;
        }
        let title = format!("{}: {} images, the worst first", issue.name().replace('_', " "), of_issue.len());
        let png = issue_sheet(&images, &of_issue, &title, &data.report)?;
        folder.write(&format!("{}.png", issue.name()), &png)?;
        pictures.push((issue.name(), title));
    }
    folder.write(PAGE, page::html(&report, classes, &pictures).as_bytes())?;
    monitor.check()?;
    folder.commit()?;
    Ok(report)
}

/// An image that fails a test.
#[derive(Clone, Copy)]
struct Found<'a> {
    placed: Placed<'a>,
    issue: Issue,
    /// The measure that decided.
    value: f64,
}

/// Whether two images show the same picture and have different labels.
fn contradicts(images: &Images, pair: &PlacedPair) -> bool {
    let label = |id| images.get(id).map(|placed| placed.sample.label);
    pair.pair.kind != Kind::Similar && label(pair.pair.first) != label(pair.pair.second)
}

fn summary(
    prepared: &PreparedReport,
    images: &Images,
    partitions: &BTreeMap<SampleId, Partition>,
    measured: &[(Placed, Quality)],
    found: &[Found],
    pairs: &[PlacedPair],
    label_conflicts: usize,
) -> Result<DataQualityReport> {
    let mut counts: BTreeMap<Split, BTreeMap<String, BTreeMap<String, usize>>> = BTreeMap::new();
    let mut statistics: BTreeMap<Split, Vec<&Quality>> = BTreeMap::new();
    for (placed, quality) in measured {
        let partition = partitions.get(&placed.sample.id).ok_or_else(|| {
            cifar_data::DataError::Unsuitable(format!("split.csv does not list image {}", placed.sample.id))
        })?;
        let class = counts.entry(placed.split).or_default().entry(images.class(*placed).to_string()).or_default();
        *class.entry(partition.to_string()).or_default() += 1;
        statistics.entry(placed.split).or_default().push(quality);
    }
    let mut issues: BTreeMap<Issue, BTreeMap<Split, BTreeMap<String, usize>>> = BTreeMap::new();
    for one in found {
        let split = issues.entry(one.issue).or_default().entry(one.placed.split).or_default();
        *split.entry(images.class(one.placed).to_string()).or_default() += 1;
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

fn issue_sheet(images: &Images, found: &[&Found], title: &str, prepared: &PreparedReport) -> Result<Vec<u8>> {
    let mut tiles = Vec::new();
    for one in found.iter().take(SHEET) {
        let Found { placed, value, .. } = **one;
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

fn issues_csv(images: &Images, found: &[Found]) -> Vec<u8> {
    let row = |one: &Found| {
        let Placed { split, sample, content, .. } = one.placed;
        [
            sample.id.to_string(),
            content.to_string(),
            split.to_string(),
            images.class(one.placed).to_string(),
            one.issue.name().to_string(),
            format!("{:.4}", one.value),
            sample.file.clone(),
        ]
    };
    spreadsheet::csv(&["id", "content", "split", "class", "issue", "value", "file"], found.iter().map(row))
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

/// An image that a list names and no set holds.
fn missing(prepared: &str, id: SampleId) -> EvalError {
    cifar_data::DataError::Unsuitable(format!(
        "{prepared} lists image {id}, which is in no split; run the stage `prepare`"
    ))
    .into()
}
