//! The images that a trained network finds hard: ranked by loss and margin, with what is mistaken for what, and drawn.
//!
//! A first version: one network, its final weights. Of training images such a network has learnt even wrong labels to
//! some degree, so their rank says less than that of images it never learnt from; the `split` column tells them apart.
//! Test images are not run again: what `evaluate` wrote is used.

use std::fmt::Write as _;
use std::path::Path;

use cifar_data::output::OutputFolder;
use cifar_data::prepare::{TestSet, TrainingData};
use cifar_data::splits::Split;
use cifar_data::{Dataset, Monitor, Sample};
use cifar_model::{Model, predict};
use serde::{Deserialize, Serialize};

use crate::confusion::ConfusionMatrix;
use crate::evaluate::quoted;
use crate::interval::wilson;
use crate::metrics::{Scores, entropy, loss, margin};
use crate::plots::{Caption, Tile, contact_sheet};
use crate::predictions::{self, predicted_class};
use crate::{EvalError, Result};

/// How to look for hard images. Part of params.yaml, block `hard_images`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "UncheckedHardImagesParams")]
pub struct HardImagesParams {
    /// Images on each class's contact sheet, 1 to 500.
    pub per_class: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedHardImagesParams {
    per_class: usize,
}

impl TryFrom<UncheckedHardImagesParams> for HardImagesParams {
    type Error = EvalError;

    fn try_from(p: UncheckedHardImagesParams) -> Result<Self> {
        if (1..=500).contains(&p.per_class) {
            Ok(Self { per_class: p.per_class })
        } else {
            let (key, value) = ("per_class", p.per_class.to_string());
            Err(EvalError::Parameter { key, value, allowed: "allowed is 1 to 500".into() })
        }
    }
}

impl Default for HardImagesParams {
    fn default() -> Self {
        Self { per_class: 30 }
    }
}

/// What a network says of one image, in measures of hardness.
#[derive(Debug, Clone, Copy)]
struct Ranked<'a> {
    split: Split,
    sample: &'a Sample,
    pixels: &'a [u8],
    predicted: usize,
    p_label: f32,
    p_predicted: f32,
    margin: f64,
    entropy: f64,
    loss: f64,
}

/// Counts of one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// Number of images.
    pub images: usize,
    /// Images whose label is not the most probable class.
    pub missed: usize,
    /// Their share, with its 95 % interval (Wilson).
    pub missed_share: f64,
    /// Lower end of the interval.
    pub missed_low: f64,
    /// Upper end of the interval.
    pub missed_high: f64,
}

/// `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Training images, which the network learnt from.
    pub train: SplitSummary,
    /// Validation images, by which its epoch was chosen.
    pub val: Option<SplitSummary>,
    /// Test images.
    pub test: SplitSummary,
    /// The pair that is confused most often among test images, such as `cat → dog (12 of 100)`.
    pub most_confused: Option<String>,
    /// Where the images came from.
    pub source: String,
    /// The partitions.
    pub dataset_version: String,
    /// The run's seed.
    pub seed: u64,
}

impl Summary {
    /// A few lines for people.
    pub fn in_words(&self) -> String {
        let line = |name: &str, s: &SplitSummary| {
            format!(
                "{name}: {} of {} images missed, {:.2} % (95 % interval {:.2} to {:.2})",
                s.missed,
                s.images,
                s.missed_share * 100.0,
                s.missed_low * 100.0,
                s.missed_high * 100.0
            )
        };
        let mut lines = vec![line("train", &self.train)];
        lines.extend(self.val.as_ref().map(|val| line("val  ", val)));
        lines.push(line("test ", &self.test));
        lines.extend(self.most_confused.as_ref().map(|pair| format!("most confused on test: {pair}")));
        lines.push(format!("({})", self.source));
        lines.join("\n")
    }
}

/// Ranks the images of all splits and writes `out`.
pub fn identify(
    params: &HardImagesParams,
    model: &Model,
    data: &TrainingData,
    test: &TestSet,
    test_predictions: &Path,
    out: &Path,
    monitor: &dyn Monitor,
) -> Result<Summary> {
    let test = test.dataset();
    let of_train = predict(model, &data.train, "scoring training images", monitor)?.probabilities()?;
    let of_val = predict(model, &data.val, "scoring validation images", monitor)?.probabilities()?;
    let of_test = predictions::read(test_predictions, test)?.probabilities;
    let sets =
        [(Split::Train, &data.train, &of_train), (Split::Val, &data.val, &of_val), (Split::Test, test, &of_test)];

    let classes = test.classes();
    let mut ranked: Vec<Ranked> = Vec::new();
    let mut confusions: Vec<(Split, ConfusionMatrix)> = Vec::new();
    for (split, set, probabilities) in sets {
        if set.is_empty() {
            continue;
        }
        let labels = set.labels();
        confusions.push((split, Scores::new(probabilities, &labels, classes.len())?.confusion()));
        ranked.extend(measures(split, set, probabilities));
    }
    ranked.sort_by(|a, b| {
        b.loss.total_cmp(&a.loss).then(a.margin.total_cmp(&b.margin)).then(a.sample.id.cmp(&b.sample.id))
    });

    let of_split =
        |wanted| confusions.iter().find(|(split, _)| *split == wanted).map(|(_, confusion)| summary_of(confusion));
    let missing =
        || EvalError::Parameter { key: "test images", value: "none".into(), allowed: "there must be some".into() };
    let origin = model.origin.as_ref();
    let test_confusion =
        confusions.iter().find(|(split, _)| *split == Split::Test).map(|(_, c)| c).ok_or_else(missing)?;
    let summary = Summary {
        train: of_split(Split::Train).ok_or_else(missing)?,
        val: of_split(Split::Val),
        test: summary_of(test_confusion),
        most_confused: test_confusion.confused_pairs().first().map(|pair| {
            format!(
                "{} → {} ({} of {})",
                classes[pair.label],
                classes[pair.predicted],
                pair.count,
                test_confusion.row_sum(pair.label)
            )
        }),
        source: data.report.source.description.clone(),
        dataset_version: data.report.dataset_version.to_string(),
        seed: origin.map_or(0, |o| o.seed),
    };

    let folder = OutputFolder::create(out)?;
    folder.write("hard_images.csv", &to_csv(&ranked, classes))?;
    folder.write("confusion_pairs.csv", pairs_csv(&confusions, classes).as_bytes())?;
    folder.write("summary.json", (serde_json::to_string_pretty(&summary).unwrap_or_default() + "\n").as_bytes())?;
    for (label, class) in classes.iter().enumerate() {
        monitor.check()?;
        monitor.progress("drawing", label as u64, classes.len() as u64);
        let sheet = sheet(&ranked, label, params.per_class, test, &summary)?;
        // `Dataset` lets only such names through as a file may have.
        folder.write(&format!("sheets/{class}.png"), &sheet)?;
    }
    monitor.progress("drawing", classes.len() as u64, classes.len() as u64);
    monitor.check()?;
    folder.commit()?;
    Ok(summary)
}

fn measures<'a>(split: Split, set: &'a Dataset, probabilities: &'a [f32]) -> impl Iterator<Item = Ranked<'a>> {
    let rows = probabilities.chunks_exact(set.classes().len());
    set.samples().iter().zip(rows).enumerate().map(move |(index, (sample, row))| {
        let (label, predicted) = (usize::from(sample.label), predicted_class(row));
        Ranked {
            split,
            sample,
            pixels: set.image(index),
            predicted,
            p_label: row[label],
            p_predicted: row[predicted],
            margin: margin(row, label),
            entropy: entropy(row),
            loss: loss(row[label]),
        }
    })
}

fn summary_of(confusion: &ConfusionMatrix) -> SplitSummary {
    let images: usize = (0..confusion.classes()).map(|k| confusion.row_sum(k)).sum();
    let correct: usize = (0..confusion.classes()).map(|k| confusion.get(k, k)).sum();
    let missed = images - correct;
    let interval = wilson(missed, images);
    SplitSummary {
        images,
        missed,
        missed_share: missed as f64 / images as f64,
        missed_low: interval.low,
        missed_high: interval.high,
    }
}

fn to_csv(ranked: &[Ranked], classes: &[String]) -> Vec<u8> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let mut write = |row: &[&str]| csv.write_record(row).expect("writing to memory does not fail");
    write(&[
        "rank",
        "id",
        "split",
        "file",
        "label",
        "original_label",
        "pred",
        "p_label",
        "p_pred",
        "margin",
        "entropy",
        "loss",
    ]);
    for (rank, r) in (1..).zip(ranked) {
        let s = r.sample;
        write(&[
            &usize::to_string(&rank),
            &s.id.to_string(),
            r.split.name(),
            &s.file,
            &classes[usize::from(s.label)],
            &classes[usize::from(s.original_label)],
            &classes[r.predicted],
            &r.p_label.to_string(),
            &r.p_predicted.to_string(),
            &r.margin.to_string(),
            &r.entropy.to_string(),
            &r.loss.to_string(),
        ]);
    }
    csv.into_inner().expect("writing to memory does not fail")
}

fn pairs_csv(confusions: &[(Split, ConfusionMatrix)], classes: &[String]) -> String {
    let mut text = String::from("split,label,predicted,images,share_of_label,share_low,share_high\n");
    for (split, confusion) in confusions {
        for pair in confusion.confused_pairs() {
            let total = confusion.row_sum(pair.label);
            let interval = wilson(pair.count, total);
            let (label, predicted) = (quoted(&classes[pair.label]), quoted(&classes[pair.predicted]));
            let share = pair.count as f64 / total as f64;
            let _ =
                writeln!(text, "{split},{label},{predicted},{},{share},{},{}", pair.count, interval.low, interval.high);
        }
    }
    text
}

/// The hardest images with one label.
fn sheet(ranked: &[Ranked], label: usize, count: usize, set: &Dataset, summary: &Summary) -> Result<Vec<u8>> {
    const COLUMNS: usize = 10;
    let classes = set.classes();
    let of_class = ranked.iter().filter(|r| usize::from(r.sample.label) == label);
    let total = of_class.clone().count();
    let tiles: Vec<Tile> = of_class
        .take(count)
        .map(|r| Tile {
            pixels: r.pixels,
            lines: vec![
                format!("{} {:.3}", classes[label], r.p_label),
                format!("{} {:.3}", classes[r.predicted], r.p_predicted),
                format!("#{} {}", r.sample.id, r.split),
            ],
            warn: r.predicted != label,
        })
        .collect();
    let title = format!("Hardest images labelled {}", classes[label]);
    let footer = format!(
        "{} of {total} images of {} by loss; label and prediction with probabilities, id, split; framed if missed. {}, seed {}",
        tiles.len(),
        summary.dataset_version,
        summary.source,
        summary.seed
    );
    let caption = Caption { title: &title, footer: &footer, synthetic: set.header().source.is_synthetic() };
    Ok(contact_sheet(&tiles, set.size().height, set.size().width, COLUMNS, &caption)?)
}
