//! Progress of a running training run, and the learning rate range test before it.

use cifar_e2e::{Project, tree};

fn prepared() -> Project {
    let project = Project::with_partitions();
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    project
}

#[test]
fn a_range_test_writes_a_table_and_a_plot_but_no_model() {
    let project = prepared();
    let answer = project.run(&["train", "--find-lr"]).success();
    assert!(answer.stdout.contains("the loss falls fastest at a learning rate of"), "{answer:#?}");
    let table = String::from_utf8(project.read("models/learning_rate/range_test.csv")).unwrap();
    let rows: Vec<Vec<f64>> =
        table.lines().skip(1).map(|row| row.split(',').map(|v| v.parse().unwrap()).collect()).collect();
    assert!((20..=100).contains(&rows.len()), "{} steps", rows.len());
    assert!((rows[0][0] - 0.1e-4).abs() < 1e-12, "a ten-thousandth of the recipe's rate: {:?}", rows[0]);
    // A hundred rates over six decades.
    for pair in rows.windows(2) {
        assert!((pair[1][0] / pair[0][0] - 10f64.powf(6.0 / 99.0)).abs() < 1e-9, "{pair:?}");
    }
    assert!(rows[0][1] > 1.0 && rows[0][1] < 5.0, "an untrained network is near ln 10: {:?}", rows[0]);
    assert!(project.read("models/learning_rate/range_test.png").starts_with(b"\x89PNG"));
    assert!(!project.path("models/final").exists() && !project.path(".cifar/checkpoints").exists());
    project.run(&["train", "--find-lr"]).success();
    assert_eq!(
        project.read("models/learning_rate/range_test.csv"),
        table.into_bytes(),
        "the same seed, the same losses"
    );
}

#[test]
fn tensorboard_has_one_file_per_run_across_restarts() {
    let project = prepared();
    project.run(&["train", "--tensorboard", "runs/first"]).success();
    let files = tree(&project.path("runs/first"));
    let (name, bytes) = files.iter().next().expect("a file");
    assert!(files.len() == 1 && name.to_string_lossy().starts_with("events.out.tfevents."), "{:?}", files.keys());
    for tag in ["train/loss", "train/accuracy", "val/loss", "val/accuracy", "learning_rate"] {
        let found = bytes.windows(tag.len()).filter(|window| *window == tag.as_bytes()).count();
        assert_eq!(found, 2, "{tag}, once per epoch");
    }
    project.run(&["train", "--tensorboard", "runs/first"]).success();
    let again = tree(&project.path("runs/first"));
    assert!(again.keys().eq(files.keys()) && again[name].len() == bytes.len(), "the whole history is there once");
}
