//! Synthetic images with invented measures, so that the page has an example of everything.
//!
//! No network is trained. The measures follow from the planted flaws and a random stream. The page
//! is marked SYNTHETIC.

use std::collections::BTreeMap;
use std::error::Error;

use cifar_data::duplicates::{Kind, Pair};
use cifar_data::random::{Purpose, Stream, stream};
use cifar_data::sources::synthetic::{self, Planted, Synthetic, SyntheticParams};
use cifar_data::splits::Split;
use cifar_data::{Content, Sample, SampleId};
use cifar_eval::page::{
    ActivationMaps, Decision, Embed, Entry, Measures, PageData, PatternLine, Patterns, Review, Row, hard_images_page,
};

/// Separates these random streams from those that generate the images.
const MEASURES_STREAM: u64 = 1000;
const EPOCHS: f64 = 8.0;
const NEIGHBOURS: usize = 5;

/// Synthetic images and their invented analysis.
#[derive(Debug)]
pub(crate) struct Demo {
    set: Synthetic,
    findings: Vec<Finding>,
}

#[derive(Debug)]
struct Finding {
    /// Index of the image in the set.
    image: usize,
    split: Split,
    predicted: u16,
    suggested: Option<u16>,
    measures: Measures,
    category: &'static str,
    reason: String,
    neighbours: Vec<SampleId>,
    position: [f32; 2],
    activation_map: Vec<f32>,
}

impl Demo {
    /// Generates `images` images.
    pub(crate) fn new(images: usize) -> Result<Self, Box<dyn Error>> {
        let set = synthetic::generate(&SyntheticParams { count: images, ..Default::default() })?;
        let planted: BTreeMap<SampleId, Planted> = set.truth.iter().copied().collect();
        let samples = set.dataset.samples();
        let mut findings: Vec<Finding> = samples
            .iter()
            .enumerate()
            .map(|(image, sample)| finding(image, sample, planted.get(&sample.id), samples, set.dataset.classes()))
            .collect();
        let score = |f: &Finding| f.measures.label_issue_score.unwrap_or(0.0);
        findings.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.image.cmp(&b.image)));
        Ok(Self { set, findings })
    }

    /// Returns the ids in the order of the page, hardest first.
    #[allow(dead_code, reason = "tests use it, the example does not")]
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.findings.iter().map(|f| self.set.dataset.samples()[f.image].id.0).collect()
    }

    /// Renders the page.
    pub(crate) fn page(&self, embed: Embed) -> Result<Vec<u8>, Box<dyn Error>> {
        let dataset = &self.set.dataset;
        let rows: Vec<Row> = self
            .findings
            .iter()
            .map(|f| {
                let sample = &dataset.samples()[f.image];
                Row {
                    id: sample.id,
                    content: dataset.content(f.image),
                    split: f.split,
                    file: &sample.file,
                    label: sample.label,
                    original_label: sample.original_label,
                    predicted: f.predicted,
                    suggested: f.suggested,
                    measures: f.measures,
                    category: f.category,
                    reason: &f.reason,
                    neighbours: &f.neighbours,
                    position: Some(f.position),
                    pixels: dataset.image(f.image),
                }
            })
            .collect();
        let pairs: Vec<Pair> = self
            .set
            .truth
            .iter()
            .filter_map(|(id, planted)| match planted {
                Planted::NearDuplicate { of } => {
                    let similarity = f64::from(9000 + id.0 % 900) / 1e4;
                    Some(Pair { first: *of, second: *id, similarity, kind: Kind::Near })
                }
                _ => None,
            })
            .collect();
        let first = dataset.samples()[self.findings[0].image].id;
        let review = BTreeMap::from([
            (first, decided(Decision::Dismiss, "a note with \"quotes\", and a comma", "")),
            (SampleId(4_000_000_000), decided(Decision::Drop, "not in this data set", "gone.png")),
        ]);
        let id = |f: &Finding| dataset.samples()[f.image].id;
        let maps = self.findings.iter().map(|f| (id(f), f.activation_map.clone())).collect();
        let page = hard_images_page(&PageData {
            header: dataset.header(),
            dataset_version: "v1+v2+v3",
            model: "invented measures",
            seeds: &[42, 43, 44],
            fingerprint: &format!("demo-{}", dataset.len()),
            rows: &rows,
            pairs: &pairs,
            patterns: &patterns(dataset.len()),
            withheld: &[],
            review: &review,
            embed,
            activation_maps: Some(&ActivationMaps { size: [3, 3], maps }),
        })?;
        Ok(page)
    }
}

fn decided(decision: Decision, note: &str, file: &str) -> Entry<Review> {
    let content = (!file.is_empty()).then(|| Content::of(file.as_bytes()));
    Entry { line: 0, content, file: file.into(), says: Review { decision, note: note.into() } }
}

fn patterns(images: usize) -> Patterns {
    let pattern = |sentence: &str, effect: &str, q| PatternLine {
        sentence: sentence.into(),
        effect: effect.into(),
        n: images,
        q,
    };
    Patterns {
        tested: 48,
        level: 0.05,
        significant: vec![
            pattern(
                "Images that mix two classes are misclassified more often than others.",
                "odds ratio 6.2 (5.1 to 7.6)",
                3e-9,
            ),
            pattern("Dark images are misclassified slightly more often.", "odds ratio 1.3 (1.1 to 1.5)", 0.021),
        ],
    }
}

fn finding(image: usize, sample: &Sample, planted: Option<&Planted>, all: &[Sample], classes: &[String]) -> Finding {
    let mut random = stream(0, Purpose::Synthetic, MEASURES_STREAM, sample.id.0.into());
    let label = sample.label;
    let other = {
        let other = random.below(classes.len() as u64 - 1) as u16;
        if other < label { other } else { other + 1 }
    };
    let misclassified = random.chance(0.06);
    let (rival, p_label) = match planted {
        Some(Planted::Mislabel { true_label }) => (*true_label, random.uniform(0.005, 0.2)),
        Some(Planted::Blend { with, .. }) => (*with, random.uniform(0.3, 0.62)),
        _ if misclassified => (other, random.uniform(0.12, 0.45)),
        _ => (other, 1.0 - 0.45 * random.unit().powi(3)),
    };
    let p_rival = (1.0 - p_label) * random.uniform(0.75, 0.98);
    let predicted = if p_rival > p_label { rival } else { label };
    let split = match sample.id.0 % 10 {
        0..=6 => Split::Train,
        7 => Split::Val,
        _ => Split::Test,
    };
    let measures = measures(&mut random, split, p_label, p_rival);
    let (category, reason) = match planted {
        Some(Planted::Mislabel { .. }) => (
            "likely mislabelled",
            format!(
                "The network never predicts {}; it predicts {} in every epoch.",
                classes[usize::from(label)],
                classes[usize::from(rival)]
            ),
        ),
        Some(Planted::Blend { .. }) => (
            "ambiguous",
            format!(
                "The network is undecided between {} and {} in every epoch.",
                classes[usize::from(label)],
                classes[usize::from(rival)]
            ),
        ),
        Some(Planted::NearDuplicate { of }) => ("duplicate or leak", format!("Near duplicate of image {of}.")),
        None if predicted != label => {
            ("clear but missed", "Similar images are classified correctly, and this one is not.".to_string())
        }
        None => ("", String::new()),
    };
    let suggested = (predicted != label).then_some(predicted);
    let start = random.below(all.len() as u64) as usize;
    let neighbours = all.iter().cycle().skip(start).take(all.len());
    let neighbours = neighbours.filter(|s| s.label == predicted && s.id.0 % 10 <= 6 && s.id != sample.id);
    let neighbours = neighbours.take(NEIGHBOURS).map(|s| s.id).collect();
    // The classes are groups around a circle.
    let angle = f64::from(predicted) / classes.len() as f64 * std::f64::consts::TAU;
    let position = [angle.cos(), angle.sin()].map(|middle| (8.0 * middle + random.normal()) as f32);
    let activation_map = (0..9).map(|_| random.normal() as f32).collect();
    Finding { image, split, predicted, suggested, measures, category, reason, neighbours, position, activation_map }
}

/// Returns invented measures. Test images have no training dynamics: only the final network
/// predicts them.
fn measures(random: &mut Stream, split: Split, p_label: f64, p_rival: f64) -> Measures {
    let dynamic = |value: f64| (split != Split::Test).then_some(value);
    let confidence = (p_label * random.uniform(0.75, 1.0)).clamp(0.0, 1.0);
    let variability = (confidence * (1.0 - confidence)).sqrt() * random.uniform(0.35, 0.95);
    let correctness = ((confidence + random.uniform(-0.12, 0.12)).clamp(0.0, 1.0) * EPOCHS).round() / EPOCHS;
    let first_learnt = (correctness > 0.0).then(|| ((1.0 - correctness) * EPOCHS).round() + 1.0);
    let rest = (1.0 - p_label - p_rival).max(1e-9);
    let entropy = -[p_label, p_rival, rest].iter().map(|p| p * p.ln()).sum::<f64>();
    Measures {
        label_issue_score: Some((1.0 - p_label) * (0.5 + p_rival / 2.0)),
        hardness_score: Some(entropy / 10f64.ln()),
        outlier_score: Some(random.unit()),
        p_label: Some(p_label),
        p_suggested: (p_rival > p_label).then_some(p_rival),
        margin: Some(p_label - p_rival),
        entropy: Some(entropy),
        loss: Some(-p_label.ln()),
        aum: dynamic((p_label - p_rival) * 8.0 + random.normal()),
        mean_margin: dynamic(confidence - p_rival * 0.9),
        el2n: dynamic((1.0 - confidence) * 1.2),
        forgetting_events: dynamic((variability * 8.0).round()),
        first_learnt_epoch: first_learnt.and_then(dynamic),
        confidence: dynamic(confidence),
        variability: dynamic(variability),
        correctness: dynamic(correctness),
        oof_self_confidence: None,
        oof_margin: None,
    }
}
