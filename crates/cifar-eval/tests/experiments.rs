//! Figures over runs, on runs so small that they can be checked by hand.

use std::collections::BTreeMap;

use cifar_data::random::{Purpose, stream};
use cifar_eval::evaluate::SetMetrics;
use cifar_eval::experiments::{
    Pool, RunRecord, Runs, ScoredRun, conclusions, markdown, missed_by_all, summarise, write,
};
use serde_json::{Value, json};

const CLASSES: [&str; 3] = ["cat", "dog", "ship"];

fn metrics(images: usize, accuracy: f64) -> SetMetrics {
    SetMetrics {
        images,
        accuracy,
        accuracy_low: 0.0,
        accuracy_high: 1.0,
        top2_accuracy: 1.0,
        cross_entropy: 0.5,
        macro_precision: None,
        macro_recall: None,
        macro_f1: None,
        calibration_error: 0.0,
        brier: 0.0,
    }
}

fn run(combination: &str, seed: u64, train_images: usize, labels: &[u16], predicted: Vec<u16>) -> ScoredRun {
    let right = predicted.iter().zip(labels).filter(|(p, l)| p == l).count();
    let setting: BTreeMap<String, Value> =
        [("dataset_version".into(), json!(combination)), ("random_seed".into(), json!(seed))].into();
    let accuracy = right as f64 / labels.len() as f64;
    ScoredRun {
        record: RunRecord::new(
            &format!("{combination}-seed{seed}"),
            combination,
            seed,
            setting,
            json!({}),
            "data".into(),
            "program".into(),
        ),
        train_images,
        source: "drawn".into(),
        test: metrics(labels.len(), accuracy),
        pool: metrics(labels.len(), accuracy),
        predicted,
    }
}

fn runs(labels: Vec<u16>, runs: Vec<ScoredRun>) -> Runs {
    let ids: Vec<u32> = (0..labels.len() as u32).collect();
    let files = ids.iter().map(|id| format!("{id}.png")).collect();
    Runs { pool: Pool { classes: CLASSES.map(String::from).to_vec(), ids, files, labels }, runs }
}

/// Six images; v1 has two runs with 3 and 4 right, v1+v2 two with 5 and 4.
fn small() -> Runs {
    let labels = vec![0, 0, 1, 1, 2, 2];
    let list = vec![
        run("v1", 1, 100, &labels, vec![0, 1, 1, 0, 2, 0]),
        run("v1", 2, 100, &labels, vec![0, 1, 1, 1, 2, 0]),
        run("v1+v2", 1, 200, &labels, vec![0, 1, 1, 1, 2, 2]),
        run("v1+v2", 2, 200, &labels, vec![0, 2, 0, 1, 2, 2]),
    ];
    runs(labels, list)
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
}

#[test]
fn figures_agree_with_those_by_hand() {
    let runs = small();
    let summary = summarise(&runs, vec!["v2-seed1".into()]);
    let [v1, both] = summary.combinations.as_slice() else { panic!("two combinations") };
    assert_eq!((v1.name.as_str(), v1.seeds.as_slice(), v1.train_images, both.pool.n), ("v1", &[1, 2][..], 100, 2));
    close(v1.pool.mean, 3.5 / 6.0);
    close(both.pool.mean, 4.5 / 6.0);
    // One image of six has other answers in v1's runs; two in the other's.
    close(v1.agreement.expect("two runs").same, 5.0 / 6.0);
    close(both.agreement.expect("two runs").same, 4.0 / 6.0);

    let [comparison] = summary.comparisons.as_slice() else { panic!("one pair") };
    close(comparison.difference.value, -1.0 / 6.0);
    assert!(comparison.difference.low <= -1.0 / 6.0 && comparison.difference.high >= -1.0 / 6.0);
    close(comparison.p_holm, comparison.difference.p);
    let tables: Vec<_> = comparison.by_seed.iter().map(|s| (s.seed, s.table.only_first, s.table.only_second)).collect();
    assert_eq!(tables, [(1, 0, 2), (2, 1, 1)]);

    // Right answers of four runs: cat 4 of 8, dog 6 of 8, ship 6 of 8.
    let order: Vec<_> = summary.classes.iter().map(|c| (c.name.as_str(), c.images)).collect();
    assert_eq!(order, [("cat", 2), ("dog", 2), ("ship", 2)]);
    close(summary.classes[0].recall[0], 0.5);
    close(summary.classes[0].difference.value, -0.25);
    close(summary.classes[1].difference.value, 0.75 - 0.625);
    close(summary.classes[2].by_combination["v1"].mean, 0.5);

    let missed = missed_by_all(&runs);
    assert_eq!((missed.len(), missed[0].id, missed[0].label.as_str(), missed[0].said.as_str()), (1, 1, "cat", "dog"));
    close(missed[0].share, 0.75);
    let [curve] = summary.learning_curves.as_slice() else { panic!("one curve") };
    assert_eq!(curve.points.iter().map(|p| p.train_images).collect::<Vec<_>>(), [100, 200]);
    close(curve.points[0].error, 2.5 / 6.0);
    // The error falls from 2.5 to 1.5 sixths with twice the images, so once more by that.
    let doubled = curve.doubled.clone().expect("two points make a line");
    assert_eq!((doubled.train_images, doubled.predicted.low), (400, None));
    close(doubled.predicted.error, 1.5 / 6.0 * 1.5 / 2.5);
}

#[test]
fn words_say_what_the_figures_carry_and_no_more() {
    let labels = vec![0, 0, 1, 1, 2, 2];
    let list = vec![
        run("v1", 1, 100, &labels, vec![0, 1, 1, 0, 2, 0]),
        run("v1+v2", 1, 200, &labels, vec![0, 0, 1, 1, 2, 2]),
        run("v1+v2", 2, 200, &labels, vec![0, 1, 0, 1, 2, 2]),
    ];
    let summary = summarise(&runs(labels, list), vec!["v1-seed2".into()]);
    let lines = conclusions(&summary);
    let has = |part: &str| assert!(lines.iter().any(|l| l.contains(part)), "{part}: {lines:#?}");
    has("1 of 4 runs (v1-seed2)");
    has("One seed only, so no interval over seeds: v1.");
    has("Not told apart on the pool: v1 and v1+v2.");
    has("two points make a line, but no interval");
    assert!(!lines.iter().any(|l| l.contains("is better than") || l.contains("EXTRAPOLATION")), "{lines:#?}");
    let page = markdown(&summary);
    assert!(page.contains("| v1 | 1 | 100 | 50.00 (n = 1: no interval) | 6 |"), "{page}");
}

/// Predictions that are right with a probability of `right`, of 600 images.
fn many(combination: &str, seed: u64, train_images: usize, right: f64) -> ScoredRun {
    let labels: Vec<u16> = (0..600).map(|i| i % 3).collect();
    let mut draws = stream(seed, Purpose::Synthetic, train_images as u64, 0);
    let predicted = labels.iter().map(|l| if draws.chance(right) { *l } else { (l + 1) % 3 }).collect();
    run(combination, seed, train_images, &labels, predicted)
}

#[test]
fn a_clear_difference_is_told_with_its_correction_and_more_data_are_an_extrapolation() {
    let labels = (0..600).map(|i| i % 3).collect();
    let sizes = [("v1", 100, 0.60), ("v2", 101, 0.60), ("v1+v2", 200, 0.72), ("v1+v2+v3", 400, 0.80)];
    let list = sizes.iter().flat_map(|(name, n, p)| (1..=3).map(move |seed| many(name, seed, *n, *p))).collect();
    let runs = runs(labels, list);
    let summary = summarise(&runs, Vec::new());
    let lines = conclusions(&summary);
    let told = |a: &str, b: &str| lines.iter().any(|l| l.starts_with(&format!("{a} is better than {b} by")));
    assert!(told("v1+v2", "v1") && told("v1+v2+v3", "v1+v2") && told("v1+v2+v3", "v2"), "{lines:#?}");
    assert!(!told("v1", "v2") && !told("v2", "v1"), "{lines:#?}");
    assert!(lines.iter().any(|l| l.contains("after Holm's correction for 6 comparisons")), "{lines:#?}");
    let extrapolation = lines.iter().find(|l| l.starts_with("EXTRAPOLATION")).expect("four combinations, three sizes");
    assert!(extrapolation.contains("800 images"), "{extrapolation}");

    let [first, second] = [(), ()].map(|()| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(&runs, &summary, folder.path()).expect("an empty folder");
        ["runs.csv", "comparisons.csv", "classes.csv", "missed_by_all.csv", "summary.json", "report.md"]
            .map(|name| std::fs::read(folder.path().join(name)).expect("just written"))
    });
    assert!(first == second, "equal runs, equal bytes");
    let rows = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().count() - 1;
    assert_eq!((rows(&first[0]), rows(&first[1])), (12, 6 * (1 + 3)));
    let text = String::from_utf8_lossy(&first[0]).into_owned();
    assert!(text.starts_with("name,combination,dataset_version,random_seed,train_images,"), "{text}");
    assert_eq!(serde_json::from_slice::<cifar_eval::experiments::Summary>(&first[4]).expect("its own JSON"), summary);
}
