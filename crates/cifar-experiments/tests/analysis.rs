//! Statistics over grids so small that they can be checked by hand.

use std::collections::BTreeMap;

use cifar_data::random::{Purpose, stream};
use cifar_eval::evaluate::SetMetrics;
use cifar_experiments::analysis::{
    Pool, RunRecord, Runs, ScoredRun, conclusions, markdown, missed_by_all, page, summarise, write,
};
use serde_json::{Value, json};

const CLASSES: [&str; 3] = ["cat", "dog", "ship"];

fn metrics(images: usize, accuracy: f64) -> SetMetrics {
    SetMetrics {
        images,
        accuracy,
        accuracy_low: accuracy / 2.0,
        accuracy_high: f64::midpoint(accuracy, 1.0),
        balanced_accuracy: None,
        balanced_accuracy_low: None,
        balanced_accuracy_high: None,
        top2_accuracy: 1.0,
        cross_entropy: 0.5,
        macro_precision: None,
        macro_recall: None,
        macro_f1: None,
        never_predicted: 0,
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
            json!({"train": {"epochs": 3}}),
            "data".into(),
            "program".into(),
        ),
        train_images,
        steps: 3 * train_images.div_ceil(50),
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

/// Six images. The two runs on v1 classify 3 and 4 correctly, the two on v1+v2 5 and 4.
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
fn figures_match_hand_computed_values() {
    let runs = small();
    let summary = summarise(&runs, vec!["v2-seed1".into()]);
    let [v1, both] = summary.combinations.as_slice() else { panic!("two combinations") };
    assert_eq!((v1.name.as_str(), v1.seeds.as_slice(), v1.train_images, both.pool.n), ("v1", &[1, 2][..], 100, 2));
    close(v1.pool.mean, 3.5 / 6.0);
    close(both.pool.mean, 4.5 / 6.0);
    // On v1, the two runs disagree on one image of six; on v1+v2, on two.
    close(v1.agreement.expect("two runs").same, 5.0 / 6.0);
    close(both.agreement.expect("two runs").same, 4.0 / 6.0);

    let [comparison] = summary.comparisons.as_slice() else { panic!("one pair") };
    close(comparison.difference.value, -1.0 / 6.0);
    assert!(comparison.difference.low <= -1.0 / 6.0 && comparison.difference.high >= -1.0 / 6.0);
    assert!(comparison.difference.covers_seeds() && comparison.runs == [2, 2]);
    close(comparison.p_holm, comparison.difference.p);
    let tables: Vec<_> = comparison.by_seed.iter().map(|s| (s.seed, s.table.only_first, s.table.only_second)).collect();
    assert_eq!(tables, [(1, 0, 2), (2, 1, 1)]);

    // Correct predictions of four runs: cat 4 of 8, dog 6 of 8, ship 6 of 8.
    let order: Vec<_> = summary.classes.iter().map(|c| (c.name.as_str(), c.images)).collect();
    assert_eq!(order, [("cat", 2), ("dog", 2), ("ship", 2)]);
    close(summary.classes[0].recall.value, 0.5);
    close(summary.classes[0].difference.expect("three classes").value, -0.25);
    close(summary.classes[1].difference.expect("three classes").value, 0.75 - 0.625);
    close(summary.classes[2].by_combination["v1"].mean, 0.5);

    let missed = missed_by_all(&runs);
    assert_eq!((missed.len(), missed[0].id, missed[0].label.as_str(), missed[0].said.as_str()), (1, 1, "cat", "dog"));
    close(missed[0].share, 0.75);
    let [curve] = summary.learning_curves.as_slice() else { panic!("one curve") };
    assert_eq!(curve.points.iter().map(|p| p.train_images).collect::<Vec<_>>(), [100, 200]);
    close(curve.points[0].error, 2.5 / 6.0);
    assert_eq!(curve.points.iter().map(|p| p.steps as usize).collect::<Vec<_>>(), [6, 12]);
    assert!(!curve.has_constant_steps() && curve.exponent.is_some(), "two combinations of two seeds");
    // With twice the images the error falls from 2.5/6 to 1.5/6, so the next doubling multiplies it
    // by the same factor.
    let doubled = curve.doubled.clone().expect("two points make a line");
    assert_eq!(doubled.train_images, 400);
    close(doubled.error, 1.5 / 6.0 * 1.5 / 2.5);
}

#[test]
fn conclusions_claim_no_more_than_the_figures_show() {
    let labels = vec![0, 0, 1, 1, 2, 2];
    let list = vec![
        run("v1", 1, 100, &labels, vec![0, 1, 1, 0, 2, 0]),
        run("v1+v2", 1, 200, &labels, vec![0, 0, 1, 1, 2, 2]),
        run("v1+v2", 2, 200, &labels, vec![0, 1, 0, 1, 2, 2]),
    ];
    let all = runs(labels, list);
    let summary = summarise(&all, vec!["v1-seed2".into()]);
    assert!(!page(&all, &summary).contains("EXTRAPOLATION"), "two points and one seed allow no extrapolation");
    let found = conclusions(&summary);
    let words = found.to_string();
    let has = |part: &str| assert!(words.contains(part), "{part}: {words}");
    has("1 of 4 runs (v1-seed2)");
    has("One seed only, so differences hold for these runs and not for another training: v1.");
    has("None of 1 comparison on the shared test images establishes a difference: v1 and v1+v2.");
    has("no interval, since a combination has one seed");
    has("Two points always lie on a line");
    has("trained for 6 to 12 optimiser steps");
    assert!(found.differences.is_empty() && !words.contains("EXTRAPOLATION"), "{words}");
    assert!(found.sentences.len() <= 3, "{words}");
    let text = markdown(&summary);
    assert!(text.contains("| v1 | 1 | 100 | 6 | 50.00 [18.76, 81.24] (n = 1) | 6 |"), "{text}");
}

#[test]
fn one_seed_allows_conclusions_about_these_runs_only() {
    let labels: Vec<u16> = (0..600).map(|i| i % 3).collect();
    let list = vec![many("v1", 1, 100, 0.6), many("v1+v2", 1, 200, 0.9), many("v1+v2", 2, 200, 0.9)];
    let found = conclusions(&summarise(&runs(labels, list), Vec::new()));
    let [difference] = found.differences.as_slice() else { panic!("{found}") };
    assert_eq!((difference.better.as_str(), difference.worse.as_str()), ("v1+v2", "v1"));
    assert!(!difference.covers_seeds && difference.scope() == "these runs, other images", "{difference:?}");
}

#[test]
fn differences_within_the_variation_of_seeds_are_not_reported() {
    // Accuracies as in a grid of 1,205 images after four epochs: 43.4 ± 3.1 % and 37.6 ± 1.3 %. The
    // variance over images alone would make the difference significant.
    let labels: Vec<u16> = (0..1205).map(|i| i % 3).collect();
    let rates = [("v1", [0.347, 0.376, 0.405]), ("v2", [0.421, 0.434, 0.447])];
    let list = rates.iter().flat_map(|(name, rates)| {
        (1..).zip(rates).map(|(seed, rate)| {
            // Each run classifies the easiest images correctly, so runs of any combination agree on
            // as many as possible.
            let answer =
                |i: usize, label: &u16| if (i * 7 % 1205) as f64 <= rate * 1205.0 { *label } else { (label + 1) % 3 };
            run(name, seed, 100, &labels, labels.iter().enumerate().map(|(i, label)| answer(i, label)).collect())
        })
    });
    let summary = summarise(&runs(labels.clone(), list.collect()), Vec::new());
    let difference = summary.comparisons[0].difference;
    assert!((difference.value + 0.058).abs() < 0.002, "{difference:?}");
    assert!(difference.value.abs() > 4.0 * difference.se_images, "significant by the images alone: {difference:?}");
    assert!(difference.p > 0.05 && difference.p < 0.15 && difference.degrees < 4.0, "{difference:?}");
    assert!(conclusions(&summary).differences.is_empty());
}

#[test]
fn extreme_results_give_complete_figures_and_text() {
    let labels = vec![0, 0, 1, 1, 2, 2];
    let perfect = |name: &str, seed| run(name, seed, 100, &labels, labels.clone());
    let summary = summarise(&runs(labels.clone(), vec![perfect("a", 1), perfect("a", 2), perfect("b", 1)]), Vec::new());
    assert!(!serde_json::to_string(&summary).expect("JSON").contains("NaN"));
    assert_eq!((summary.comparisons[0].difference.value, summary.comparisons[0].p_holm), (0.0, 1.0));
    assert!(summary.combinations[0].pool_interval.low < 0.8, "six images cannot show perfect accuracy");
    assert!(conclusions(&summary).to_string().contains("no line"));
    // A single class has no other to compare with.
    let single = runs(vec![1, 1], vec![run("a", 1, 10, &[1, 1], vec![1, 0])]);
    let summary = summarise(&single, Vec::new());
    assert_eq!((summary.classes.len(), summary.classes[0].difference, summary.classes[0].p_holm), (1, None, None));
    assert!(summary.comparisons.is_empty() && summary.learning_curves.is_empty());
}

/// Returns predictions for 600 images, each correct with probability `right`.
fn many(combination: &str, seed: u64, train_images: usize, right: f64) -> ScoredRun {
    let labels: Vec<u16> = (0..600).map(|i| i % 3).collect();
    let mut draws = stream(seed, Purpose::Synthetic, train_images as u64, 0);
    let predicted = labels.iter().map(|l| if draws.chance(right) { *l } else { (l + 1) % 3 }).collect();
    run(combination, seed, train_images, &labels, predicted)
}

#[test]
fn a_clear_difference_is_reported_corrected_and_more_data_are_marked_as_extrapolation() {
    let labels = (0..600).map(|i| i % 3).collect();
    let sizes = [("v1", 100, 0.60), ("v2", 101, 0.60), ("v1+v2", 200, 0.74), ("v1+v2+v3", 400, 0.88)];
    let list = sizes.iter().flat_map(|(name, n, p)| (1..=3).map(move |seed| many(name, seed, *n, *p))).collect();
    let runs = runs(labels, list);
    let summary = summarise(&runs, Vec::new());
    let found = conclusions(&summary);
    let is_better =
        |a: &str, b: &str| found.differences.iter().any(|d| d.better == a && d.worse == b && d.covers_seeds);
    assert!(is_better("v1+v2", "v1") && is_better("v1+v2+v3", "v1+v2") && is_better("v1+v2+v3", "v2"), "{found}");
    assert!(!is_better("v1", "v2") && !is_better("v2", "v1"), "{found}");
    let words = found.to_string();
    assert!(words.contains("after Holm's correction for 6 comparisons"), "{words}");
    assert!(words.contains("EXTRAPOLATION: twice the data (800 images)"), "{words}");
    assert!(page(&runs, &summary).contains("EXTRAPOLATION to 800"));
    assert!(words.contains("An extrapolation has no interval"), "{words}");
    assert!(found.sentences.len() <= 3, "{words}");
    let interval = summary.learning_curves[0].exponent.expect("three seeds each");
    assert!(interval.low > 0.0 && interval.high < 2.0, "{interval:?}");

    let [first, second] = [(), ()].map(|()| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(&runs, &summary, folder.path()).expect("an empty folder");
        ["runs.csv", "comparisons.csv", "classes.csv", "missed_by_all.csv", "summary.json", "report.md"]
            .map(|name| std::fs::read(folder.path().join(name)).expect("just written"))
    });
    assert!(first == second, "equal runs give identical files");
    let rows = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().count() - 1;
    assert_eq!((rows(&first[0]), rows(&first[1])), (12, 6 * (1 + 3)));
    let text = String::from_utf8_lossy(&first[0]).into_owned();
    let header = "name,combination,dataset_version,random_seed,train_images,epochs,steps,test_images,test_accuracy,\
                  test_accuracy_low,test_accuracy_high,test_cross_entropy,pool_images,pool_accuracy,pool_accuracy_low,";
    assert!(text.starts_with(header), "{text}");
    assert!(text.lines().nth(1).is_some_and(|row| row.starts_with("v1-seed1,v1,v1,1,100,3,6,600,")), "{text}");
    assert_eq!(
        serde_json::from_slice::<cifar_experiments::analysis::GridSummary>(&first[4]).expect("its own JSON"),
        summary
    );
}
