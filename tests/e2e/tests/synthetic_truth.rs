//! The synthetic dataset has a known truth, against which the pipeline's results are scored.

use std::collections::BTreeSet;

use cifar_e2e::{Project, note};

/// Returns the probability that a planted image ranks before another one, from the planted images'
/// ranks among all (counted from 1).
fn auroc(ranks: &[usize], total: usize) -> f64 {
    let (planted, others) = (ranks.len() as f64, (total - ranks.len()) as f64);
    let sum: usize = ranks.iter().sum();
    1.0 - (sum as f64 - planted * (planted + 1.0) / 2.0) / (planted * others)
}

#[test]
fn auroc_of_known_rankings() {
    assert!((auroc(&[1, 2], 10) - 1.0).abs() < 1e-12);
    assert!(auroc(&[9, 10], 10).abs() < 1e-12);
    assert!((auroc(&[1, 10], 10) - 0.5).abs() < 1e-12);
}

#[test]
fn planted_label_errors_limit_accuracy_and_rank_among_the_hardest() {
    let project = Project::new();
    project.edit("params.yaml", "dataset_version: v1", "dataset_version: v1+v2+v3");
    project.edit("params.yaml", "epochs: 2", "epochs: 6");
    project.run(&["run", "--source", "synthetic"]).success();

    let truth = String::from_utf8(project.read("dataset_partitions/synthetic_truth.csv")).unwrap();
    let mislabelled: BTreeSet<&str> =
        truth.lines().filter(|l| l.contains(",mislabel,")).map(|l| l.split(',').next().unwrap()).collect();
    // 3 % of 6,000.
    assert_eq!(mislabelled.len(), 180);

    let table = project.read("evaluation/hard_images/hard_images.csv");
    let mut csv = csv::Reader::from_reader(table.as_slice());
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 6000);
    for split in ["train", "val", "test"] {
        let of_split: Vec<&csv::StringRecord> = rows.iter().filter(|r| &r[2] == split).collect();
        let ranks: Vec<usize> =
            (1..).zip(&of_split).filter(|(_, r)| mislabelled.contains(&r[0])).map(|(rank, _)| rank).collect();
        let found = auroc(&ranks, of_split.len());
        note(&format!("{split}: AUROC of {} planted mislabels by label_issue_score: {found:.3}", ranks.len()));
        assert!(found > 0.9, "{split}: {found}");
    }

    let wrong = mislabelled.iter().filter(|id| rows.iter().any(|r| r[0] == ***id && &r[2] == "test")).count();
    let metrics = project.json("evaluation/test/metrics.json");
    let (accuracy, images) =
        (metrics["test"]["accuracy"].as_f64().unwrap(), metrics["test"]["images"].as_u64().unwrap());
    note(&format!("accuracy {accuracy:.4} on {images} test images, {wrong} of them mislabelled"));
    // A network that learnt every class perfectly would misclassify only the planted images. Chance
    // is 10 %.
    assert!(accuracy > 0.7 && accuracy < 1.0 - 0.5 * wrong as f64 / images as f64, "{accuracy}");
}
