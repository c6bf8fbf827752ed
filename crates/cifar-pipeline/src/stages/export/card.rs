//! The model card: Markdown with front matter as Hugging Face reads it.

use std::fmt::Write as _;
use std::path::Path;

use cifar_data::prepare::TestSet;
use cifar_data::provenance;
use cifar_data::splits::{Protocol, Split};
use cifar_eval::evaluate::{Metrics, SetMetrics};
use cifar_eval::interval::wilson;
use cifar_eval::metrics::{Scores, by_class};
use cifar_eval::predictions;
use cifar_model::{Model, Views};
use serde_json::{Value, json};

use super::known::{KnownRecipe, PROGRAM};
use crate::{Project, Result};

/// Number of pairs of classes in the card.
const PAIRS: usize = 10;

/// A public data set, recognised by its classes and image size.
#[derive(Debug, PartialEq, Eq)]
struct Published {
    name: &'static str,
    /// The name on Hugging Face.
    id: &'static str,
}

/// Returns the text of the card.
///
/// # Errors
/// If the test images or the evaluation of this model are missing, damaged or of another run.
pub(super) fn write(project: &Project, model: &Model, file: &Path, known: &KnownRecipe) -> Result<String> {
    let layout = &project.layout;
    let test = TestSet::open(&layout.prepared_test(), known.data.test_fingerprint())?;
    let predictions = predictions::read(&layout.evaluation(), model, test.dataset())?;
    let path = layout.evaluation().join(predictions::METRICS);
    let metrics: Metrics = serde_json::from_slice(&provenance::read(&path, predictions::COMMAND)?)?;
    let labels = test.dataset().labels();
    let classes = &model.spec().classes;
    let scores =
        Scores::new(&predictions.probabilities, &labels, classes.len()).map_err(cifar_eval::EvalError::from)?;

    let published = published(model, &metrics.source);
    let data = published.as_ref().map_or(metrics.source.as_str(), |set| set.name);
    let architecture = model.spec().params.architecture.name();
    let mut text = front_matter(architecture, data, published.as_ref(), &metrics, known);
    let _ = writeln!(text, "\n# {architecture} on {}\n", escaped(data));
    text += &introduction(model, &metrics, known);
    text += &results(&metrics);
    text += &by_class_and_pairs(classes, &scores);
    text += &training_data(&metrics, known, published.as_ref());
    text += &training(model, file, known)?;
    text += LIMITS;
    Ok(text)
}

/// Returns CIFAR-10 or CIFAR-100 if the classes and the size of the images are theirs.
fn published(model: &Model, source: &str) -> Option<Published> {
    const CIFAR_10: [&str; 10] =
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    let spec = model.spec();
    let is_small = (spec.size.height, spec.size.width) == (32, 32);
    let mut classes: Vec<&str> = spec.classes.iter().map(String::as_str).collect();
    classes.sort_unstable();
    if is_small && classes == CIFAR_10 {
        return Some(Published { name: "CIFAR-10", id: "uoft-cs/cifar10" });
    }
    // The source of an official archive names the set.
    source.contains("CIFAR-100").then_some(Published { name: "CIFAR-100", id: "uoft-cs/cifar100" })
}

/// Returns the front matter in YAML. Text is quoted as in JSON, which is also YAML.
fn front_matter(
    architecture: &str,
    data: &str,
    published: Option<&Published>,
    metrics: &Metrics,
    known: &KnownRecipe,
) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let protocol = match known.params.split.protocol {
        Protocol::Pooled => "test images drawn from all images",
        Protocol::Official => "published test images",
    };
    let (dataset, tag) = match published {
        Some(set) => (set.id, set.name.to_lowercase()),
        None => ("image-folder", "image-folder".into()),
    };
    let mut text = String::from("---\n# Choose a licence for your weights, such as mit.\nlicense: unknown\n");
    let _ = writeln!(
        text,
        "pipeline_tag: image-classification\ntags:\n- image-classification\n- {architecture}\n- {tag}\n- onnx"
    );
    if let Some(set) = published {
        let _ = writeln!(text, "datasets:\n- {}", set.id);
    }
    let name = quoted(&format!("{architecture}-{}-seed-{}", metrics.dataset_version, metrics.seed));
    let dataset_name = quoted(&format!("{data}, {protocol}"));
    let _ = write!(
        text,
        "metrics:\n- accuracy\n- f1\nmodel-index:\n- name: {name}\n  results:\n  - task:\n      type: image-classification\n    \
         dataset:\n      name: {dataset_name}\n      type: {dataset}\n    metrics:\n"
    );
    let figures = [("accuracy", "Accuracy", Some(metrics.test.accuracy)), ("f1", "Macro F1", metrics.test.macro_f1)];
    for (kind, name, value) in figures {
        if let Some(value) = value {
            let _ = writeln!(text, "    - type: {kind}\n      name: {name}\n      value: {value:.4}");
        }
    }
    text + "---\n"
}

fn introduction(model: &Model, metrics: &Metrics, known: &KnownRecipe) -> String {
    let spec = model.spec();
    let mut text = String::new();
    if model.origin.as_ref().is_some_and(|origin| origin.source.is_synthetic()) {
        text += "**SYNTHETIC: the model knows drawn figures, not photographs.**\n\n";
    }
    let names: Vec<String> = spec.classes.iter().map(|class| escaped(class)).collect();
    let _ = write!(
        text,
        "Classifies images of {} pixels into {} classes: {}.\n\n\
         | | |\n|---|---|\n\
         | test accuracy | {} |\n\
         | network | {}, widths {:?}, {} trained values |\n\
         | recipe | {} |\n\
         | data | {}; partitions {} |\n\
         | input | RGB; normalisation with mean {:?} and standard deviation {:?} is inside the exported graph |\n\n",
        spec.size,
        spec.classes.len(),
        names.join(", "),
        accuracy(&metrics.test),
        spec.params.architecture.name(),
        spec.params.widths,
        model.parameters().count(),
        known.name,
        escaped(&metrics.source),
        metrics.dataset_version,
        spec.normalisation.mean,
        spec.normalisation.std,
    );
    text
}

/// Returns an accuracy with its interval and number of images.
fn accuracy(set: &SetMetrics) -> String {
    let [low, high] = [set.accuracy_low, set.accuracy_high].map(|bound| bound * 100.0);
    format!("{:.2} % (95 % interval {low:.2} to {high:.2}, n = {})", set.accuracy * 100.0, set.images)
}

fn results(metrics: &Metrics) -> String {
    let mut text = String::from(
        "## Results\n\n| images | accuracy | top-2 | macro F1 | cross-entropy | calibration error |\n\
         |---|---|--:|--:|--:|--:|\n",
    );
    let mut row = |name: &str, set: Option<&SetMetrics>| {
        let Some(set) = set else { return };
        let macro_f1 = set.macro_f1.map_or_else(|| "–".into(), |f1| format!("{f1:.4}"));
        let (top2, error) = (set.top2_accuracy * 100.0, set.calibration_error * 100.0);
        let accuracy = accuracy(set);
        let _ = writeln!(
            text,
            "| {name} | {accuracy} | {top2:.2} % | {macro_f1} | {:.4} | {error:.2} % |",
            set.cross_entropy
        );
    };
    row("test", Some(&metrics.test));
    row("test, without test-time augmentation", metrics.test_without_tta.as_ref());
    row("shared test images, of v1, v2 and v3", Some(&metrics.pool));
    row("shared, without test-time augmentation", metrics.pool_without_tta.as_ref());
    let tta = if metrics.tta == Views::None { "none" } else { metrics.tta.name() };
    let _ = writeln!(
        text,
        "\nTest-time augmentation: {tta}. Precision: {}. Intervals (Wilson) are for the sampling of test images. They do not include\n\
         the spread between seeds. Training and the choice of the epoch used no test image.\n",
        metrics.precision
    );
    text
}

fn by_class_and_pairs(classes: &[String], scores: &Scores) -> String {
    let confusion = scores.confusion();
    let mut text = String::from(
        "## Classes\n\n| class | test images | recall (95 % interval) | precision | F1 |\n|---|--:|---|--:|--:|\n",
    );
    let percent = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{:.1} %", value * 100.0));
    for (k, (name, class)) in classes.iter().zip(by_class(&confusion)).enumerate() {
        let interval = wilson(confusion.get(k, k), class.support);
        let _ = writeln!(
            text,
            "| {} | {} | {} ({:.1} to {:.1}) | {} | {} |",
            escaped(name),
            class.support,
            percent(class.recall),
            interval.low * 100.0,
            interval.high * 100.0,
            percent(class.precision),
            class.f1.map_or_else(|| "–".into(), |f1| format!("{f1:.3}"))
        );
    }
    let pairs = confusion.confused_pairs();
    if !pairs.is_empty() {
        text += "\n## Most confused classes\n\n| label | predicted | images of the label |\n|---|---|--:|\n";
    }
    for pair in pairs.iter().take(PAIRS) {
        let (label, predicted) = (escaped(&classes[pair.label]), escaped(&classes[pair.predicted]));
        let _ = writeln!(text, "| {label} | {predicted} | {} of {} |", pair.count, confusion.row_sum(pair.label));
    }
    text + "\n"
}

fn training_data(metrics: &Metrics, known: &KnownRecipe, published: Option<&Published>) -> String {
    let data = &known.data;
    let count = |split| data.images.get(&split).copied().unwrap_or(0);
    let mut text = format!(
        "## Data\n\n{}, partitions {}.\n\n| split | images | hash of ids, labels and pixels |\n|---|--:|---|\n",
        escaped(&metrics.source),
        metrics.dataset_version
    );
    for split in Split::ALL {
        let _ = writeln!(text, "| {split} | {} | `{}` |", count(split), data.fingerprint(split));
    }
    let _ = writeln!(text, "\nIdentity of the whole set: `{}`.", data.set);
    let pairs = &data.straddling_pairs;
    let _ = writeln!(
        text,
        "Pairs of a test image and another image: {} exact, {} near and {} similar duplicates.",
        pairs.exact, pairs.near, pairs.similar
    );
    let changed = data.overrides.changed + data.review.changed;
    let _ = writeln!(
        text,
        "Corrected labels: {changed}; images left out after review: {}. Labels of test images are never changed.\n",
        data.review.dropped
    );
    text += match published {
        Some(_) => {
            "Licence of the data: its authors publish it without a licence and ask to cite Alex Krizhevsky,\n\
             *Learning Multiple Layers of Features from Tiny Images*, 2009.\n\n"
        }
        None => "Licence of the data: that of the images, which this card does not know.\n\n",
    };
    text
}

/// Returns the parameters and how to reproduce the model.
fn training(model: &Model, file: &Path, known: &KnownRecipe) -> Result<String> {
    let params = known.params.to_json().map_err(crate::Error::failed)?;
    let values = json!({
        "dataset_version": params["dataset_version"],
        "random_seed": params["random_seed"],
        "split": params["split"],
        "model": known.json["model"],
        "train": known.json["train"],
        "evaluate": params["evaluate"],
    });
    let mut text = String::from("## Training\n\n");
    if let Some(origin) = &model.origin {
        let _ = writeln!(
            text,
            "Recipe `{}`, seed {}, weights after epoch {} of {}.\n",
            known.name, origin.seed, origin.epoch, known.epochs
        );
        let _ = writeln!(
            text,
            "The hash of the model file is `{}`. To reproduce it bit by bit, use the same images, the parameters below,\n\
             the numeric target `{}` and the version of the program that trained it. {PROGRAM} wrote this card.\n",
            model.seal(),
            origin.arithmetic
        );
    }
    for run in model.origin.iter().flat_map(|origin| &origin.continues) {
        let (epochs, hash) = (run.epochs, &run.model);
        let _ =
            writeln!(text, "The run continued a finished one of {epochs} epochs, whose model has the hash `{hash}`.\n");
    }
    if known.data.overrides.changed + known.data.review.changed + known.data.review.dropped > 0 {
        text += "The corrections in `labels/` of the project are also needed.\n\n";
    }
    let name = file.file_name().unwrap_or_default().display();
    let _ = writeln!(
        text,
        "```sh\ncifar-cli partition --source DATA\ncifar-cli run                       # writes models/final/{name}\n```\n"
    );
    let _ = writeln!(
        text,
        "params.yaml (JSON is YAML, too; add the blocks that are missing here):\n\n```json\n{values:#}\n```\n"
    );
    Ok(text)
}

const LIMITS: &str = "\
## Limits

- The model knows only these classes. For an image of anything else it still names one of them.
- The figures hold for images like the test images: same source, size and preparation. Expect lower accuracy
  on other images.
- Probabilities are those of a softmax. See the calibration error before you use them as confidence.
- The figures are of one seed.
- It was not tested for fairness, safety or attacks. Do not use it for decisions about people.
";

/// Returns a name for a table of Markdown.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        if c.is_ascii_punctuation() && !matches!(c, ',' | '.' | '-' | ';' | ':' | '(' | ')' | '%' | '/' | ' ') {
            escaped.push('\\');
        }
        escaped.push(c);
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_a_table() {
        assert_eq!(escaped("a|b *c* <d>"), "a\\|b \\*c\\* \\<d\\>");
        assert_eq!(escaped("class folders, 60000 images (é)"), "class folders, 60000 images (é)");
    }
}
