//! Every example runs.

#[path = "../examples/own_network.rs"]
mod own_network;
#[path = "../examples/own_predictions.rs"]
mod own_predictions;
#[path = "../examples/own_progress.rs"]
mod own_progress;
#[path = "../examples/quickstart.rs"]
mod quickstart;
#[path = "../examples/resume.rs"]
mod resume;
#[path = "../examples/training_loop.rs"]
mod training_loop;

#[test]
fn quickstart_runs() {
    quickstart::main().unwrap();
}

#[test]
fn a_training_loop_runs() {
    training_loop::main().unwrap();
}

#[test]
fn an_own_network_is_trained() {
    own_network::main().unwrap();
}

#[test]
fn own_predictions_are_analysed() {
    own_predictions::main().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("hard_images");
    own_predictions::analyse(Some(&out)).unwrap();
    let table = std::fs::read_to_string(out.join("hard_images.csv")).unwrap();
    assert!(table.lines().nth(1).unwrap().contains("likely mislabelled"), "{table}");
    assert!(std::fs::read_to_string(out.join("index.html")).unwrap().contains("another framework"));
}

#[test]
fn own_progress_runs() {
    own_progress::main().unwrap();
}

#[test]
fn a_stopped_run_is_resumed() {
    resume::main().unwrap();
}
