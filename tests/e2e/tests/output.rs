//! Standard output that cannot be written, and file names with terminal control characters.

use std::fs::File;
use std::process::Stdio;

use cifar_e2e::{Answer, Project, binary};

const FAILURE: i32 = 1;

/// Runs the program with standard output on a full device.
#[cfg(target_os = "linux")]
fn full(project: &Project, arguments: &[&str]) -> Answer {
    let disk = File::options().write(true).open("/dev/full").expect("the device");
    Answer::of(project.command(&binary(), arguments).stdout(disk).output().expect("the program starts"))
}

#[cfg(target_os = "linux")]
#[test]
fn unwritable_standard_output_is_an_error() {
    let project = Project::with_partitions();
    let lost = "error: cannot write to standard output: No space left on device";
    for arguments in [
        &["--help"][..],
        &["train", "--help"],
        &["--version"],
        &["recipe"],
        &["--json", "recipe"],
        &["check"],
        &["experiments", "run", "--dry-run"],
        &["--json", "experiments", "run", "--dry-run"],
        &["pull"],
    ] {
        full(&project, arguments).failure(FAILURE, &[lost]);
    }
    // The command still does its work.
    assert!(project.path("data/raw/pull.json").is_file());
    project.run(&["run"]).success();
    let picture = project.path("evaluation/test/plots/reliability.png");
    full(&project, &["--json", "predict", picture.to_str().unwrap()]).failure(FAILURE, &[lost]);
    full(&project, &["--json", "evaluate"]).failure(FAILURE, &[lost]);
    full(&project, &["--json", "train", "--fresh"]).failure(FAILURE, &[lost]);
}

#[cfg(target_os = "linux")]
#[test]
fn unwritable_standard_error_is_no_error() {
    let project = Project::with_partitions();
    let disk = File::options().write(true).open("/dev/full").expect("the device");
    let answer = Answer::of(project.command(&binary(), &["pull"]).stderr(disk).output().unwrap());
    assert_eq!(answer.code, Some(0), "{answer:#?}");
    assert!(project.path("data/raw/pull.json").is_file());
}

#[test]
fn a_closed_pipe_is_no_error() {
    let project = Project::with_partitions();
    for arguments in [&["--help"][..], &["recipe"], &["--json", "recipe"], &["pull"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = project.command(&binary(), arguments);
        let answer = Answer::of(command.stdout(writer).stderr(Stdio::piped()).output().unwrap());
        assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:#?}");
        assert!(!answer.stderr.contains("error"), "{answer:#?}");
    }
}

#[test]
fn control_characters_in_names_are_escaped() {
    let project = Project::finished();
    let name = "a\u{1b}[2J\u{9b}31m\nerror: b.png";
    let check = |answer: &Answer| {
        for text in [&answer.stdout, &answer.stderr] {
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        }
    };
    let absent = project.run(&["predict", name]);
    check(&absent);
    assert!(absent.stderr.contains("a\\u{1b}[2J\\u{9b}31m\\nerror: b.png"), "{absent:#?}");
    check(&project.run(&[name]));
    check(&project.run(&["partition", "--source", name]));
    let picture = project.read("evaluation/test/plots/reliability.png");
    project.write(name, &picture);
    let words = project.run(&["predict", name]).success();
    check(&words);
    assert_eq!(words.stdout.lines().count(), 1, "{words:#?}");
    let json = project.run(&["--json", "predict", name]).success();
    check(&json);
    let answer: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(answer["file"], name);
}
