//! The analysis of a small synthetic set whose wrong labels are known.
#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cifar_data::labels::{Decision, Entries, Entry, Review};
use cifar_data::partitions::{self, DatasetVersion};
use cifar_data::prepare::{TestSet, TrainingData, prepare, read_pairs};
use cifar_data::random::{Purpose, stream};
use cifar_data::sources::synthetic::{self, Planted, SyntheticParams};
use cifar_data::splits::{Split, SplitParams};
use cifar_data::{Dataset, ImageSize, SampleId, Silent, Stage, provenance, pull, store};
use cifar_eval::hard_images::{Category, Features, HardImagesParams, Inputs, Run, SplitPredictions, identify};
use cifar_eval::predictions::{self, PREDICTIONS};
use cifar_model::{Architecture, Model, ModelParams, ModelSpec, predict};
use cifar_train::{Dynamics, Fitted, TrainParams, artifacts, fit};

struct Project {
    folder: tempfile::TempDir,
    planted: BTreeSet<u32>,
    fitted: Fitted,
}

/// Trains on two thirds of 2,000 images.
fn project() -> Project {
    project_of(2000, 6)
}

fn project_of(count: usize, epochs: usize) -> Project {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let images = synthetic::generate(&SyntheticParams { count, ..Default::default() }).unwrap();
    let is_mislabel = |planted: &Planted| matches!(planted, Planted::Mislabel { .. });
    let planted = images.truth.iter().filter(|(_, p)| is_mislabel(p)).map(|(id, _)| id.0).collect();
    partitions::write(&images.dataset, &at("partitions"), &Silent).unwrap();
    let (version, split) = ("v1+v2+v3".parse::<DatasetVersion>().unwrap(), SplitParams::default());
    pull::pull(&at("partitions"), version, &split, None, &at("raw"), &Silent).unwrap();
    std::fs::write(at("overrides.csv"), "id,label\n").unwrap();
    std::fs::write(at("review.csv"), "id,decision,label,note\n").unwrap();
    prepare(&at("raw"), &at("overrides.csv"), &at("review.csv"), version, &split, &at("prepared"), &Silent).unwrap();
    let data = TrainingData::open(&at("prepared")).unwrap();
    let params = TrainParams { epochs, batch_size: 64, ..Default::default() };
    let fitted = fit(&params, &ModelParams::default(), &data, 42, &Silent).unwrap();
    artifacts::write(&fitted, &data, &at("model")).unwrap();
    Project { folder, planted, fitted }
}

impl Project {
    /// Analyses `data` and `test`, and returns the rows of the table.
    fn analyse(&self, data: &TrainingData, test: &Dataset, review: &Entries<Review>) -> Vec<csv::StringRecord> {
        let at = |name: &str| self.folder.path().join(name);
        std::fs::create_dir_all(at("test")).unwrap();
        store::write(test, &at("test")).unwrap();
        let test = TestSet::open(&at("test"), &store::fingerprint(test)).unwrap();
        let probabilities = predict(&self.fitted.model, test.dataset(), "", &Silent).unwrap().probabilities().unwrap();
        std::fs::create_dir_all(at("evaluation")).unwrap();
        let table = predictions::to_csv(test.dataset(), &probabilities);
        std::fs::write(at("evaluation").join(PREDICTIONS), table).unwrap();
        // A model that was not loaded from a file has no hash.
        let inputs = [("model", ""), ("test", &store::fingerprint(test.dataset()))];
        provenance::write(&at("evaluation"), predictions::COMMAND, &inputs, &[PREDICTIONS]).unwrap();
        let dynamics = self.dynamics(data).unwrap();
        let run = Run {
            model: &self.fitted.model,
            dynamics: &dynamics,
            data,
            test: test.dataset(),
            predictions: &predictions::read(&at("evaluation"), &self.fitted.model, test.dataset()).unwrap(),
            first_epoch: self.fitted.first_epoch.as_ref(),
            out_of_fold: None,
        };
        let pairs = read_pairs(&at("prepared")).unwrap().into_iter().map(|placed| placed.pair).collect();
        let inputs = Inputs { pairs, review: review.clone(), ..Inputs::of_run(&run, &Silent).unwrap() };
        let found = identify(&inputs, &Silent).unwrap();
        found.save(&HardImagesParams { per_class: 3, ..Default::default() }, &at("out"), &Silent).unwrap();
        rows(&at("out/hard_images.csv"))
    }

    fn dynamics(&self, data: &TrainingData) -> cifar_train::Result<Dynamics> {
        let model = self.folder.path().join("model");
        Dynamics::read(&model.join(artifacts::DYNAMICS), &model.join(artifacts::MODEL), &data.train, &data.val)
    }

    fn data(&self) -> (TrainingData, Dataset) {
        let prepared = self.folder.path().join("prepared");
        (TrainingData::open(&prepared).unwrap(), store::read(&prepared.join("test")).unwrap())
    }
}

fn rows(path: &Path) -> Vec<csv::StringRecord> {
    csv::Reader::from_path(path).unwrap().records().map(Result::unwrap).collect()
}

/// Returns the AUROC of some images among `all`, from their ranks, of which 1 is the best.
fn auroc(ranks: &[usize], all: usize) -> f64 {
    let (planted, others) = (ranks.len() as f64, (all - ranks.len()) as f64);
    1.0 - (ranks.iter().sum::<usize>() as f64 - planted * (planted + 1.0) / 2.0) / (planted * others)
}

/// Every twentieth test image becomes a mosaic of 16 colours, which is of no class. Their outlier
/// scores are the highest.
fn outliers(project: &Project, data: &TrainingData, test: &Dataset) {
    const TILE: usize = 8;
    let is_planted = |index: usize| index.is_multiple_of(20);
    let (width, mut pixels) = (test.size().width, test.pixels().to_vec());
    for (index, image) in pixels.chunks_exact_mut(test.size().bytes()).enumerate().filter(|(at, _)| is_planted(*at)) {
        let mut draws = stream(1, Purpose::Synthetic, 9, index as u64);
        let colours: Vec<u8> = (0..16 * 3).map(|_| draws.below(256) as u8).collect();
        for (at, value) in image.iter_mut().enumerate() {
            let (y, x) = (at / 3 / width, at / 3 % width);
            *value = colours[(y / TILE * 4 + x / TILE) * 3 + at % 3];
        }
    }
    let planted: BTreeSet<u32> =
        test.samples().iter().enumerate().filter(|(at, _)| is_planted(*at)).map(|(_, sample)| sample.id.0).collect();
    let test = Dataset::new(test.header().clone(), test.samples().to_vec(), pixels).unwrap();
    let found = project.analyse(data, &test, &Entries::new());
    let mut of_test: Vec<&csv::StringRecord> = found.iter().filter(|row| &row[SPLIT] == "test").collect();
    let score = |row: &csv::StringRecord| row[OUTLIER].parse::<f64>().unwrap();
    of_test.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let is_planted = |row: &csv::StringRecord| planted.contains(&row[0].parse().unwrap());
    let ranks: Vec<usize> = (1..).zip(&of_test).filter(|(_, row)| is_planted(row)).map(|(rank, _)| rank).collect();
    assert_eq!(ranks.len(), test.len().div_ceil(20));
    let auroc = auroc(&ranks, of_test.len());
    // Guessing gives ½.
    assert!(auroc > 0.9, "{auroc}");
}

/// Returns the same images with other original labels.
fn with_other_originals(set: &Dataset) -> Dataset {
    let classes = set.classes().len() as u16;
    let mut samples = set.samples().to_vec();
    for sample in &mut samples {
        sample.original_label = (sample.original_label + 1 + sample.id.0 as u16 % (classes - 1)) % classes;
    }
    Dataset::new(set.header().clone(), samples, set.pixels().to_vec()).unwrap()
}

const SPLIT: usize = 2;
const ORIGINAL_LABEL: usize = 5;
const AUM: usize = 13;
const SCORES: [usize; 2] = [23, 24];
const OUTLIER: usize = 25;
const CATEGORY: usize = 26;
const REASON: usize = 27;

#[test]
fn every_image_is_scored_and_planted_mislabels_come_first() {
    let project = project();
    let (data, test) = project.data();
    let found = project.analyse(&data, &test, &Entries::new());
    assert_eq!(found.len(), 2000);
    let ids: BTreeSet<&str> = found.iter().map(|row| &row[0]).collect();
    assert_eq!(ids.len(), 2000);
    for row in &found {
        for score in SCORES.into_iter().chain([OUTLIER]).map(|at| &row[at]) {
            assert!((0.0..=1.0).contains(&score.parse::<f64>().unwrap()), "{row:?}");
        }
        assert_eq!(row[CATEGORY].is_empty(), row[REASON].is_empty(), "a category has a reason: {row:?}");
        assert_eq!(row[AUM].is_empty(), &row[SPLIT] == "test", "only test images have no trajectory: {row:?}");
    }
    // Hardly any of the 206 validation images is planted.
    for split in ["train", "test"] {
        let of_split: Vec<&csv::StringRecord> = found.iter().filter(|row| &row[SPLIT] == split).collect();
        let is_planted = |row: &csv::StringRecord| project.planted.contains(&row[0].parse().unwrap());
        let ranks: Vec<usize> = (1..).zip(&of_split).filter(|(_, row)| is_planted(row)).map(|(rank, _)| rank).collect();
        let auroc = auroc(&ranks, of_split.len());
        // Guessing gives ½. A network that is trained for seconds on 1,397 images also
        // misclassifies many correctly labelled ones.
        assert!(auroc > 0.85, "{split}: {auroc}");
    }

    let permuted = TrainingData {
        train: with_other_originals(&data.train),
        val: with_other_originals(&data.val),
        report: data.report.clone(),
    };
    let again = project.analyse(&permuted, &with_other_originals(&test), &Entries::new());
    for (row, permuted) in found.iter().zip(&again) {
        assert_ne!(row[ORIGINAL_LABEL], permuted[ORIGINAL_LABEL]);
        let rest = |row: &csv::StringRecord| {
            row.iter()
                .enumerate()
                .filter(|(at, _)| *at != ORIGINAL_LABEL)
                .map(|(_, v)| v.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(rest(row), rest(permuted), "nothing depends on original labels");
    }

    let flagged: u32 =
        found.iter().find(|row| &row[CATEGORY] == "likely mislabelled").expect("there are some")[0].parse().unwrap();
    let is_candidate = || {
        rows(&project.folder.path().join("out/review_candidates.csv")).iter().any(|row| row[0] == flagged.to_string())
    };
    assert!(is_candidate());
    let says = Review { decision: Decision::Dismiss, note: "a remark".into() };
    let dismissed = Entries::from([(SampleId(flagged), Entry { line: 2, content: None, file: String::new(), says })]);
    let after = project.analyse(&data, &test, &dismissed);
    let row = after.iter().find(|row| row[0] == flagged.to_string()).unwrap();
    assert!(row[CATEGORY].is_empty() && !is_candidate(), "{row:?}");
    let page = std::fs::read_to_string(project.folder.path().join("out/index.html")).unwrap();
    assert!(
        page.contains(&format!(
            "{{\"id\":{flagged},\"content\":null,\"file\":\"\",\"decision\":\"dismiss\",\"label\":\"\",\"note\":\"a remark\"}}"
        )),
        "the page has the earlier decision"
    );

    let sources: BTreeSet<String> = ["hard_images", "confusion_pairs", "patterns", "neighbours", "map"]
        .iter()
        .flat_map(|name| rows(&project.folder.path().join(format!("out/{name}.csv"))))
        .map(|row| row[row.len() - 1].to_string())
        .collect();
    assert_eq!(sources, BTreeSet::from(["SYNTHETIC, 2000 images, seed 0".to_string()]));
    outliers(&project, &data, &test);
    refusals(&project, &data);
}

#[test]
fn an_inaccurate_network_flags_nothing() {
    let project = project_of(900, 1);
    let (data, test) = project.data();
    let found = project.analyse(&data, &test, &Entries::new());
    let of_predictions = ["likely mislabelled", "ambiguous", "clear but missed"];
    assert!(
        found.iter().all(|row| !of_predictions.contains(&&row[CATEGORY])),
        "no category depends on the predictions"
    );
    assert!(found.iter().any(|row| row[6] != row[4]), "some images are misclassified");
    assert!(found.iter().all(|row| SCORES.iter().all(|score| !row[*score].is_empty())), "every image has scores");
    let out = project.folder.path().join("out");
    let summary: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap()).unwrap();
    for split in ["train", "val", "test"] {
        let reason = summary[split]["withheld"][0].as_str().unwrap();
        assert!(reason.contains("the network knows too little: it classifies "), "{split}: {reason}");
        assert!(summary[split]["estimated_mislabelled"].is_null(), "{summary}");
    }
    assert!(std::fs::read_to_string(out.join("index.html")).unwrap().contains("Images that the network cannot judge"));
}

/// Dynamics of another run or other images are refused.
fn refusals(project: &Project, data: &TrainingData) {
    let check = |data: &TrainingData, expected: &str| {
        let message = project.dynamics(data).unwrap_err().to_string();
        assert!(message.contains("dynamics.safetensors: ") && message.contains(expected), "{message}");
    };
    let fewer = TrainingData { train: data.train.filter(|s| s.id.0 % 7 != 0), ..data.clone() };
    check(&fewer, "is about other training images than the prepared set, such as image");
    let model = project.folder.path().join("model").join(artifacts::MODEL);
    let mut bytes = std::fs::read(&model).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&model, bytes).unwrap();
    check(data, "is of another run than the model");
    let path = project.folder.path().join("model").join(artifacts::DYNAMICS);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    check(data, "is damaged or cut short");
    std::fs::remove_file(&path).unwrap();
    check(data, "cannot read it");
    assert_eq!(project.dynamics(data).unwrap_err().made_by(), [Stage::Train]);
}

/// Predictions of any model: two classes, of which the network is right about most images.
fn predictions(ids: std::ops::Range<u32>) -> (Dataset, Vec<f32>) {
    let count = ids.len();
    let probabilities = (0..count).flat_map(|i| if i % 2 == 0 { [0.9, 0.1] } else { [0.02, 0.98] }).collect();
    let labels: Vec<u16> = (0..count).map(|i| (i % 2) as u16).collect();
    let size = ImageSize { height: 8, width: 8 };
    let pixels = (0..count * size.bytes()).map(|i| (i * 7 % 251) as u8).collect();
    let images = Dataset::from_arrays(&["cat", "dog"], size, &labels, pixels).unwrap();
    (images.numbered_from(ids.start).unwrap(), probabilities)
}

#[test]
fn predictions_of_any_model_are_analysed() {
    let ((train, of_train), (test, of_test)) = (predictions(0..400), predictions(400..600));
    let mut spoilt = train.clone();
    spoilt.relabel(|sample| (sample.id.0 == 7).then_some(0)).unwrap();
    let mut inputs = Inputs::of_predictions(&test, of_test);
    let mut split = SplitPredictions::new(Split::Train, &spoilt, of_train.clone());
    let logits: Vec<f32> = of_train.iter().map(|p| p.ln()).collect();
    split.follow(3, |_| logits.clone()).unwrap();
    split.out_of_fold = Some(of_train);
    let features = |n: usize| Features { values: (0..n * 2).map(|i| (i % 4) as f32 + 1.0).collect(), width: 2 };
    split.features = Some(features(400));
    inputs.splits[0].features = Some(features(200));
    inputs.splits.insert(0, split);
    let found = identify(&inputs, &Silent).unwrap();
    let first = &found.images[0];
    assert_eq!((first.sample.id, first.category), (SampleId(7), Some(Category::LikelyMislabelled)));
    assert!(first.reason.ends_with("of its 5 nearest training images have its label"), "{}", first.reason);
    assert_eq!(first.neighbours.len(), 5);
    assert_eq!(first.figures.suggested.map(|(class, _)| class), Some(1));
    let positions = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let found = pool.install(|| identify(&inputs, &Silent).unwrap());
        found.images.iter().map(|image| image.position.unwrap().map(f32::to_bits)).collect::<Vec<_>>()
    };
    assert_eq!(positions(1), positions(3), "nothing depends on the number of threads");
    assert!(found.images.iter().all(|image| image.figures.outlier.is_some_and(|rank| rank > 0.0 && rank < 1.0)));
    assert!((first.figures.out_of_fold.unwrap().0 - 0.02).abs() < 1e-6);
    let summary = &found.summary;
    assert_eq!((summary.epochs, summary.train.as_ref().unwrap().misclassified), (3, 1));
    assert_eq!((summary.val.as_ref(), summary.test.as_ref().unwrap().images), (None, 200));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    found.save(&HardImagesParams::default(), &out, &Silent).unwrap();
    assert_eq!(rows(&out.join("hard_images.csv")).len(), 600);
    assert_eq!(
        rows(&out.join("neighbours.csv")).len(),
        5 * found.images.iter().filter(|i| i.category.is_some()).count()
    );
    assert_eq!(rows(&out.join("map.csv")).len(), 600);
    assert!(out.join("sheets/cat.png").exists() && out.join("index.html").exists());
}

#[test]
fn the_page_has_the_activation_maps_of_the_predicted_classes() {
    let images = synthetic::generate(&SyntheticParams { count: 60, ..Default::default() }).unwrap().dataset;
    let params = ModelParams { widths: vec![4; 3], ..ModelParams::of(Architecture::Airbench94) };
    let (classes, size) = (images.classes().to_vec(), images.size());
    let normalisation = cifar_data::prepare::normalisation(&images);
    let model = Model::new(ModelSpec { params, classes, size, normalisation }, 7).unwrap();
    let probabilities = predict(&model, &images, "", &Silent).unwrap().probabilities().unwrap();
    let inputs = Inputs { network: Some(&model), ..Inputs::of_predictions(&images, probabilities) };
    let found = identify(&inputs, &Silent).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    found.save(&HardImagesParams { per_class: 1, folds: 0 }, &out, &Silent).unwrap();
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    let data = page.split("type=\"application/json\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["pictures"]["rows"].as_array().unwrap().len(), 60);
    let bytes = BASE64.decode(data["activations"]["values"].as_str().unwrap()).unwrap();
    assert_eq!(bytes.len(), 60 * 9);
    // The pictures are in the order of the images.
    for (image, bytes) in found.images.iter().zip(bytes.chunks_exact(9)) {
        let pixels = images.image(images.index_of(image.sample.id).unwrap());
        let maps = model.class_activations(pixels).unwrap().expect("maps of 3 × 3 places");
        let predicted = usize::from(image.figures.predicted);
        let map: Vec<f32> =
            maps.values().unwrap().iter().skip(predicted).step_by(images.classes().len()).copied().collect();
        let largest = map.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        for (value, byte) in map.iter().zip(bytes) {
            assert!((value / largest * 127.0 - f32::from(*byte as i8)).abs() < 0.51, "{map:?} {bytes:?}");
        }
    }
}

#[test]
fn predictions_that_do_not_fit_are_refused() {
    let (images, probabilities) = predictions(0..200);
    let (others, _) = predictions(100..300);
    let (more, more_probabilities) = predictions(200..300);
    let check = |change: &dyn Fn(&mut Inputs), expected: &str| {
        let mut inputs = Inputs::of_predictions(&images, probabilities.clone());
        inputs.splits.push(SplitPredictions::new(Split::Train, &more, more_probabilities.clone()));
        assert!(identify(&inputs, &Silent).is_ok());
        // Fields borrow from the test's images.
        let mut inputs: Inputs = inputs;
        change(&mut inputs);
        let message = identify(&inputs, &Silent).unwrap_err().to_string();
        assert_eq!(message, expected);
    };
    let test = "the predictions for the test images: ";
    check(&|inputs| inputs.splits.clear(), "images: none is not allowed; at least one split must have some");
    check(
        &|inputs| inputs.splits[0].probabilities.truncate(9),
        &format!("{test}cannot be scored: 9 probabilities do not fit 200 images and 2 classes"),
    );
    check(
        &|inputs| inputs.splits[0].probabilities[3] = f32::NAN,
        &format!("{test}cannot be scored: the probabilities of image 1 add up to NaN, not 1"),
    );
    check(
        &|inputs| inputs.splits[0].out_of_fold = Some(vec![0.5; 3]),
        &format!("{test}3 out-of-fold probabilities, expected 400"),
    );
    check(
        &|inputs| inputs.splits[0].features = Some(Features { values: vec![0.5; 3], width: 2 }),
        &format!("{test}3 features, expected 400"),
    );
    check(
        &|inputs| inputs.splits[0].features = Some(Features { values: Vec::new(), width: 0 }),
        &format!("{test}0 features per image; all splits must have the same number, at least 1"),
    );
    let with_nan = (0..400).map(|at| if at == 3 { f32::NAN } else { 1.0 }).collect::<Vec<_>>();
    check(
        &|inputs| inputs.splits[0].features = Some(Features { values: with_nan.clone(), width: 2 }),
        &format!("{test}a feature of image 1 is NaN or infinite"),
    );
    check(&|inputs| inputs.splits[1].split = Split::Test, &format!("{test}the split appears twice"));
    let twice = Inputs {
        splits: vec![
            SplitPredictions::new(Split::Test, &images, probabilities.clone()),
            SplitPredictions::new(Split::Train, &others, probabilities.clone()),
        ],
        ..Inputs::of_predictions(&images, Vec::new())
    };
    let message = identify(&twice, &Silent).unwrap_err().to_string();
    let expected = "the predictions for the train images: image 100 is also a test image; give each its own id";
    assert!(message.starts_with(expected), "{message}");
}
