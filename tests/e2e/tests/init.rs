//! A new project in an empty folder, created by the installed program, and shell completions.

use cifar_e2e::{Answer, binary};
use std::path::Path;
use std::process::Command;

fn run(folder: &Path, arguments: &[&str]) -> Answer {
    Answer::of(Command::new(binary()).args(arguments).current_dir(folder).output().expect("the program starts"))
}

#[test]
fn an_empty_folder_becomes_a_project_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(here, &["init", "new"]).success();
    let project = here.join("new");
    run(&project, &["recipe", "simple_cnn"]).success();
    let params = std::fs::read_to_string(project.join("params.yaml")).unwrap();
    let params = params.replace("epochs: 15", "epochs: 1").replace("batch_size: 128", "batch_size: 16");
    std::fs::write(project.join("params.yaml"), params).unwrap();
    let again = run(&project, &["init"]).success();
    assert!(again.stdout.contains("wrote nothing; kept params.yaml"), "{}", again.stdout);
    assert!(std::fs::read_to_string(project.join("params.yaml")).unwrap().contains("epochs: 1 "));
    run(&project, &["partition", "--source", "synthetic", "--synthetic-images", "300"]).success();
    run(&project, &["run"]).success();
    run(&project, &["check"]).success();
    assert!(project.join("evaluation/hard_images/index.html").is_file());
}

#[test]
fn shell_completions_cover_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = run(folder.path(), &["completions", shell]).success();
        assert!(script.stdout.contains("hard-images") && script.stdout.contains("allow-mixed-isa"), "{shell}");
    }
    run(folder.path(), &["man", "pages"]).success();
    let page = std::fs::read_to_string(folder.path().join("pages/cifar-cli-train.1")).unwrap();
    assert!(page.contains("\\-\\-find\\-lr"), "{page}");
}
