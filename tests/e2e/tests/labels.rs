//! Decisions about images stay with those images when files are added or removed.

use std::collections::BTreeMap;

use cifar_e2e::Project;

const FAILURE: i32 = 1;

/// Creates a folder with two classes; every image is different.
fn pictures(project: &Project, each: u8) {
    for (label, class) in [(0u8, "cat"), (1, "=dog")] {
        for number in 0..each {
            let pixel = |x: u32, y: u32| {
                let noise =
                    (x * 37 + y * 101 + u32::from(number) * 977 + u32::from(label) * 499).wrapping_mul(2_654_435);
                image::Rgb([(noise >> 8) as u8, (noise >> 13) as u8, number.wrapping_mul(7)])
            };
            let path = project.path(&format!("pictures/{class}/{number:03}.png"));
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            image::RgbImage::from_fn(32, 32, pixel).save(path).expect("a picture");
        }
    }
}

/// Reads the rows of a CSV by column name.
fn rows(project: &Project, file: &str) -> Vec<BTreeMap<String, String>> {
    let bytes = project.read(file);
    csv::Reader::from_reader(bytes.as_slice()).deserialize().map(|row| row.expect("a row")).collect()
}

/// Returns file and label of the images whose label differs from the original.
fn relabelled(project: &Project) -> Vec<(String, String)> {
    let sets = ["data/prepared/train/manifest.csv", "data/prepared/val/manifest.csv"];
    let all = sets.iter().flat_map(|file| rows(project, file));
    all.filter(|row| row["label"] != row["original_label"])
        .map(|row| (row["file"].clone(), row["label"].clone()))
        .collect()
}

/// Checks that the only decision is about this file: its id in review.csv is the file's, and no
/// other label has changed. Splits depend on ids, so the image may now be a test image, which is
/// never relabelled.
fn check_relabelled(project: &Project, file: &str) {
    let parts = ["v1", "v2", "v3"].iter().flat_map(|p| rows(project, &format!("dataset_partitions/{p}/manifest.csv")));
    let id = parts.into_iter().find(|row| row["file"] == file).expect("the image is there")["id"].clone();
    assert_eq!(rows(project, "labels/review.csv")[0]["id"], id);
    let test = rows(project, "data/prepared/test/manifest.csv");
    let is_for_test = test.iter().any(|row| row["file"] == file);
    let expected = if is_for_test { vec![] } else { vec![(file.to_string(), "'=dog".to_string())] };
    assert_eq!(relabelled(project), expected);
}

fn stages(project: &Project) {
    project.run(&["partition", "--source", "pictures"]).success();
    project.run(&["pull"]).success();
}

#[test]
fn a_decision_is_not_applied_to_another_image() {
    let project = Project::new();
    project.edit("params.yaml", "dataset_version: v1", "dataset_version: v1+v2+v3");
    pictures(&project, 30);
    stages(&project);
    project.run(&["prepare"]).success();
    let cats: Vec<_> =
        rows(&project, "data/prepared/train/manifest.csv").into_iter().filter(|row| row["label"] == "cat").collect();
    let (cat, last) = (&cats[5], &cats[cats.len() - 1]);

    // By id alone, as people write it: accepted with one warning that says what to do, then
    // completed with file and content.
    let review = format!("id,decision,label,note\n{},relabel,'=dog,\"a, b\"\n{},drop,,\n", cat["id"], last["id"]);
    project.write("labels/review.csv", review.as_bytes());
    let warned = project.run(&["prepare"]).success();
    let warnings: Vec<&str> = warned.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(warnings.len(), 1, "{warned:?}");
    assert!(warnings[0].contains("labels/review.csv: no `content` on 2 of 2 lines"), "{warned:?}");
    let expected = vec![(cat["file"].clone(), "'=dog".to_string())];
    assert_eq!(relabelled(&project), expected);
    let added = project.run(&["labels", "migrate"]).success();
    assert!(added.stdout.contains("labels/review.csv: 2 lines, 0 moved, 2 got their content"), "{added:?}");
    let quiet = project.run(&["prepare"]).success();
    assert!(!quiet.stderr.contains("warning: "), "{quiet:?}");
    assert_eq!(relabelled(&project), expected);

    // The first image is deleted, so every later one gets another id.
    std::fs::remove_file(project.path("pictures/cat/000.png")).unwrap();
    let hint = project.run(&["partition", "--source", "pictures"]).success();
    let hints = hint.stderr.lines().filter(|line| line.contains("cifar-cli labels migrate")).count();
    assert_eq!(hints, 1, "{hint:?}");
    project.run(&["pull"]).success();
    let before = project.read("data/prepared/split.csv");
    let refused = project.run(&["prepare"]);
    let parts = ["labels/review.csv, line 2: image ", "it was b3:", &cat["file"], "`cifar-cli labels migrate`"];
    refused.failure(FAILURE, &parts);
    assert!(project.read("data/prepared/split.csv") == before);
    let moved = project.run(&["--json", "labels", "migrate"]).success();
    let moved: serde_json::Value = serde_json::from_str(&moved.stdout).unwrap();
    assert_eq!(moved[1]["moved"].as_array().unwrap().len(), 2);
    assert_eq!(moved[1]["moved"][0]["file"], cat["file"]);
    project.run(&["prepare"]).success();
    check_relabelled(&project, &cat["file"]);
    let review = rows(&project, "labels/review.csv");
    assert_eq!((review[0]["note"].as_str(), review[0]["file"].as_str()), ("a, b", cat["file"].as_str()));

    // Now an image with a decision is deleted.
    std::fs::remove_file(project.path("pictures").join(&last["file"])).unwrap();
    stages(&project);
    let kept = project.read("labels/review.csv");
    let gone = project.run(&["labels", "migrate"]);
    gone.failure(FAILURE, &["the images of these lines are no longer there: line 3", &last["file"], "--drop-missing"]);
    assert!(project.read("labels/review.csv") == kept);
    project.run(&["labels", "migrate", "--drop-missing"]).success();
    assert_eq!(rows(&project, "labels/review.csv").len(), 1);
    project.run(&["prepare"]).success();
    check_relabelled(&project, &cat["file"]);
}

#[test]
fn a_truth_file_for_other_images_is_refused() {
    let project = Project::finished();
    let candidates = rows(&project, "evaluation/hard_images/hard_images.csv");
    let truth = |content: &dyn Fn(&BTreeMap<String, String>) -> String| {
        let line =
            |(at, row): (usize, &BTreeMap<String, String>)| format!("{},{},{}\n", row["id"], content(row), at % 2);
        let lines: String = candidates.iter().enumerate().map(line).collect();
        project.write("truth.csv", format!("id,content,wrong\n{lines}").as_bytes());
    };
    truth(&|row| row["content"].clone());
    let fine = project.run(&["hard-images", "--truth", "truth.csv"]).success();
    assert!(!fine.stderr.contains("warning: "), "{fine:?}");
    truth(&|_| String::new());
    let warned = project.run(&["hard-images", "--truth", "truth.csv"]).success();
    assert!(
        warned.stderr.contains("no `content` on ") && warned.stderr.contains("labels migrate truth.csv"),
        "{warned:?}"
    );
    project.run(&["labels", "migrate", "truth.csv"]).success();
    let fine = project.run(&["hard-images", "--truth", "truth.csv"]).success();
    assert!(!fine.stderr.contains("warning: "), "{fine:?}");
    truth(&|row| candidates[usize::from(row["id"] == candidates[0]["id"])]["content"].clone());
    let refused = project.run(&["hard-images", "--truth", "truth.csv"]);
    refused.failure(FAILURE, &["truth.csv, line ", " of the analysis is b3:", "labels migrate truth.csv"]);
    // Planted labels of the synthetic dataset are a truth file too.
    let planted = "dataset_partitions/synthetic_truth.csv";
    assert!(rows(&project, planted).iter().all(|row| row["content"].starts_with("b3:")));
}

#[test]
fn invalid_lines_are_reported_with_number_and_cause() {
    let project = Project::with_partitions();
    project.run(&["pull"]).success();
    let refused = |file: &str, text: &[u8], parts: &[&str]| {
        let good = project.read(file);
        project.write(file, text);
        project.run(&["prepare"]).failure(FAILURE, parts);
        project.write(file, &good);
    };
    let overrides = "labels/overrides.csv";
    refused(overrides, b"id,label\n\n\n0,ring\n1,cow\n", &["labels/overrides.csv, line 5: unknown class \"cow\""]);
    refused(overrides, b"id,label\n0,r\xefng\n", &["labels/overrides.csv, line 2: is not UTF-8"]);
    refused(overrides, b"id,label\n0,\"ring\n1,star\n", &["labels/overrides.csv, line 2: ", "never closed"]);
    let review = b"id,decision,label,note\n0,dismiss,,\"two\nlines\"\n2,keep,,\n";
    refused("labels/review.csv", review, &["labels/review.csv, line 4: unknown decision \"keep\""]);
    project.write(overrides, b"\xef\xbb\xbfid,label\r\n0,ring\r\n,\r\n,\r\n");
    project.run(&["prepare"]).success();
}
