//! Links in a cloned project: nothing is written through them, and nothing in the project is
//! executed unasked.
#![cfg(unix)]

use std::os::unix::fs::symlink;

use cifar_e2e::{Project, tree};

const FAILURE: i32 = 1;

/// A trained project and a folder outside it.
struct Scene {
    project: Project,
    outside: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let project = Project::with_partitions();
        project.edit("params.yaml", "widths: [32, 64, 128]", "widths: [4, 8, 8]");
        project.write("experiments.toml", b"[grid]\nrandom_seed = [1]\n");
        project.run(&["run"]).success();
        let outside = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(outside.path().join("file"), "precious").expect("a file");
        std::fs::create_dir(outside.path().join("folder")).expect("a folder");
        std::fs::write(outside.path().join("folder/file"), "precious").expect("a file");
        Self { project, outside }
    }

    /// With a link at `place` to `target` outside, `command` is refused and names both. Without the
    /// link it works as before.
    fn check(&self, place: &str, target: &str, command: &[&str]) {
        let (link, target) = (self.project.path(place), self.outside.path().join(target));
        let before = tree(self.outside.path());
        let aside = self.project.path("aside");
        let had = link.exists();
        if had {
            std::fs::rename(&link, &aside).expect("it can be moved");
        }
        std::fs::create_dir_all(link.parent().expect("a folder")).expect("a folder");
        symlink(&target, &link).expect("a link");
        let answer = self.project.run(command);
        let words = format!("{place}: is a link to {}; this program does not write through links", target.display());
        answer.failure(FAILURE, &[&words]);
        assert!(tree(self.outside.path()) == before, "{place}");
        assert!(link.is_symlink(), "{place}: the link is left in place");
        std::fs::remove_file(&link).expect("the link");
        if had {
            std::fs::rename(&aside, &link).expect("it can be moved back");
        }
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let scene = Scene::new();
    for (place, target, command) in [
        (".cifar/lock", "file", &["pull"][..]),
        (".cifar/lock", "nothing", &["clean"]),
        (".cifar", "folder", &["clean"]),
        (".cifar/checkpoints", "folder", &["clean"]),
        (".cifar/runs/pull.json", "file", &["pull"]),
        (".cifar/checkpoints/x/lock", "file", &["train"]),
        (".cifar/tune/x/journal.jsonl", "file", &["tune"]),
        ("data", "folder", &["clean"]),
        ("data/raw", "folder", &["pull"]),
        ("data/.partial-raw-evil", "folder", &["pull"]),
        ("models/final", "folder", &["train", "--fresh"]),
        ("models/final", "nothing", &["train", "--fresh"]),
        ("models/final/plots", "folder", &["train", "--fresh"]),
        ("evaluation/test", "folder", &["evaluate"]),
        ("dataset_partitions/v1", "folder", &["partition", "--source", "synthetic"]),
        ("bin", "folder", &["fingerprint"]),
        ("bin/.partial-cifar-cli", "file", &["fingerprint"]),
        ("experiments", "folder", &["report"]),
        ("experiments/runs", "folder", &["experiments", "run", "--engine", "local"]),
        ("experiments/runs/v1-seed1", "folder", &["experiments", "run", "--engine", "local"]),
        ("experiments/runs/v1-seed1/log.txt", "file", &["experiments", "run", "--engine", "local"]),
        ("experiments/runs/v1-seed1/models/final", "nothing", &["experiments", "run", "--engine", "local"]),
        ("curves", "folder", &["train", "--tensorboard", "curves"]),
        ("cifar10_dataset", "nothing", &["partition", "--source", "download", "--mirror", "http://127.0.0.1:9/x"]),
    ] {
        scene.check(place, target, command);
    }
}

#[test]
fn links_made_by_dvc_are_read_and_replaced() {
    let scene = Scene::new();
    let Scene { project, outside } = &scene;
    let before = tree(&project.path("models/final"));
    for (index, file) in
        ["data/raw/images.safetensors", "data/prepared/train/images.safetensors", "models/final/model.safetensors"]
            .into_iter()
            .enumerate()
    {
        let cached = outside.path().join(format!("cache{index}"));
        std::fs::rename(project.path(file), &cached).expect("a file of a stage");
        symlink(&cached, project.path(file)).expect("a link");
    }
    let cache = tree(outside.path());
    for command in [&["prepare"][..], &["train", "--fresh"], &["evaluate"], &["pull"]] {
        project.run(command).success();
    }
    assert!(tree(&project.path("models/final")) == before);
    assert!(tree(outside.path()) == cache);
}

#[test]
fn an_event_file_replaces_a_link() {
    let scene = Scene::new();
    let Scene { project, outside } = &scene;
    let train = ["train", "--fresh", "--tensorboard", "curves"];
    project.run(&train).success();
    let entry = std::fs::read_dir(project.path("curves")).expect("a folder").next().expect("a file").expect("a file");
    std::fs::remove_file(entry.path()).expect("a file");
    symlink(outside.path().join("file"), entry.path()).expect("a link");
    project.run(&train).success();
    assert!(!entry.path().is_symlink() && entry.path().is_file());
    assert_eq!(std::fs::read(outside.path().join("file")).expect("a file"), b"precious");
}

#[test]
fn check_executes_nothing_from_the_project() {
    let project = Project::new();
    for place in [".venv/bin/dvc", ".venv/bin/git", "tools/git", "tools/dvc"] {
        project.write(place, b"#!/bin/sh\ntouch started\necho 9.9\n");
        project.call("chmod".as_ref(), &["755", place]).success();
    }
    let path = std::env::var("PATH").expect("a path");
    let inside = project.path("tools").display().to_string();
    for first in ["tools", ".venv/bin", "", inside.as_str()] {
        let mut command = project.command(&cifar_e2e::binary(), &["check"]);
        let output = command.env("PATH", format!("{first}:{path}")).output().expect("the program starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!project.path("started").exists(), "{first}: {text}");
        assert!(text.contains(".venv/bin/dvc: inside the project, so it is not run"), "{text}");
    }
}
