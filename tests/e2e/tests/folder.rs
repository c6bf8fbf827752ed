//! A folder of image files of any size and format.

use std::path::Path;

use cifar_e2e::{Project, tree};
use image::{DynamicImage, Rgb, RgbImage};

/// Exit status of invalid parameters or usage.
const USAGE: i32 = 2;
/// Exit status of any other error.
const FAILURE: i32 = 1;

/// Draws a picture: stripes whose direction shows the class, in colours and of a width that depend
/// on `number`.
fn draw(class: usize, number: u32, width: u32, height: u32) -> RgbImage {
    let stripe = 4 + number % 5;
    RgbImage::from_fn(width, height, |x, y| {
        let along = if class == 0 { x } else { y };
        let bright = (along / stripe).is_multiple_of(2);
        let shade = (number * 37 + x * 3 + y) % 80;
        let values = [number * 29 % 90, number * 71 % 90, shade].map(|value| value as u8);
        Rgb(if bright { values.map(|value| value + 150) } else { values })
    })
}

/// Puts 45 images of each of two classes into `photos/`, in five formats and many sizes.
fn put_photos(project: &Project) {
    const FORMATS: [&str; 5] = ["jpg", "png", "webp", "bmp", "tif"];
    for (class, name) in ["across, \"wide\"", "caf\u{e9} 😀"].into_iter().enumerate() {
        let folder = project.path("photos").join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        for number in 0..45 {
            let image = draw(class, number, 20 + number * 7 % 90, 24 + number * 11 % 70);
            let path = folder.join(format!("{number}.{}", FORMATS[number as usize % 5]));
            DynamicImage::ImageRgb8(image).save(path).expect("an image");
        }
    }
    project.write("photos/.DS_Store", b"x");
}

/// The prediction for an image file, with all its digits.
fn prediction(project: &Project, file: &Path) -> serde_json::Value {
    let answer = project.run(&["predict", "--json", file.to_str().expect("a path in UTF-8")]).success();
    let line = answer.stdout.lines().next().expect("a prediction");
    let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(value["predictions"].as_array().expect("classes").len(), 2, "{value}");
    value["predictions"].clone()
}

#[test]
fn a_folder_of_mixed_images_is_partitioned_trained_on_and_predicted() {
    let project = Project::new();
    put_photos(&project);
    let advice = "`cifar-cli partition --size 32` resizes all images, to any size from 16 to 224";
    project
        .run(&["partition", "--source", "photos"])
        .failure(FAILURE, &["photos: has images of ", " sizes: ", " others (", advice]);
    let partition = ["partition", "--source", "photos", "--size", "32", "--fit", "pad"];
    let answer = project.run(&partition).success();
    assert!(answer.stderr.contains("ignored 1 file: hidden"), "{answer:?}");

    project.edit("params.yaml", "epochs: 2", "epochs: 1");
    project.edit("params.yaml", "dataset_version: v1", "dataset_version: v1+v2+v3");
    for command in ["pull", "prepare", "train"] {
        project.run(&[command]).success();
    }
    assert_eq!(project.json("data/raw/pull.json")["source"]["fit"], "pad");
    assert_eq!(project.json("data/prepared/report.json")["source"]["fit"], "pad");

    // The same class and probability for the file and for what is stored of it.
    let set = cifar_data::store::read(&project.path("data/raw")).unwrap();
    assert_eq!((set.len(), set.size().to_string()), (90, "32×32".into()));
    let stored = project.path("stored.png");
    for index in [0, 1, 30, 44, 89] {
        let sample = &set.samples()[index];
        image::save_buffer(&stored, set.image(index), 32, 32, image::ColorType::Rgb8).unwrap();
        let original = project.path("photos").join(&sample.file);
        assert_eq!(prediction(&project, &original), prediction(&project, &stored), "{}", sample.file);
    }
    check_growth(&project);
}

#[test]
fn run_resizes_the_images_that_it_partitions() {
    let project = Project::new();
    put_photos(&project);
    project.edit("params.yaml", "epochs: 2", "epochs: 1");
    project.edit("params.yaml", "dataset_version: v1", "dataset_version: v1+v2+v3");
    let run = ["run", "--source", "photos"];
    project.run(&run).failure(FAILURE, &["photos: has images of ", "`cifar-cli partition --size 32`"]);
    project.run(&[&run[..], &["--size", "32", "--fit", "stretch"]].concat()).success();
    assert_eq!(project.json("data/prepared/report.json")["source"]["fit"], "stretch");
    assert_eq!(project.json("evaluation/test/metrics.json")["dataset_version"], "v1+v2+v3");
}

/// Adds a partition to the photos, and checks that everything that was there stays as it is.
fn check_growth(project: &Project) {
    let results = || [tree(&project.path("data/prepared")), tree(&project.path("models/final"))];
    let before = results();
    let add = |name: &str, source: &str, more: &[&str]| {
        project.run(&[&["partition", "--add", name, "--source", source], more].concat())
    };
    add("v6", "photos", &[]).failure(USAGE, &["--add v6 is not allowed; the next partition is v4"]);
    add("v2", "photos", &[]).failure(USAGE, &["--add v2 is not allowed; v2 exists; the next partition is v4"]);
    add("v4", "auto", &[]).failure(USAGE, &["--add v4 needs the images to add: --source PATH"]);
    let other_rule = ["--size 32: new images would be cropped to 32×32", "were padded to 32×32"];
    add("v4", "photos", &["--size", "32"]).failure(USAGE, &other_rule);
    add("v4", "photos", &[]).failure(FAILURE, &["photos: all 90 images are exact copies", "nothing was added"]);
    assert!(!project.path("dataset_partitions/v4").exists());

    // 29 new images of one class, and a copy.
    let folder = project.path("more").join("caf\u{e9} 😀");
    std::fs::create_dir_all(&folder).expect("a folder");
    for number in 100..129 {
        draw(1, number, 50, 40).save(folder.join(format!("{number}.png"))).expect("an image");
    }
    std::fs::copy(project.path("photos").join("caf\u{e9} 😀/1.png"), folder.join("1.png")).expect("a photo");
    project.write("dvc.yaml", b"deps:\n  - dataset_partitions/v3\n");
    let answer = add("v4", "more", &[]).success();
    assert!(answer.stderr.contains("1 class has no new images: across, \"wide\""), "{answer:?}");
    for part in [
        "duplicates of earlier images: 1 exact, ",
        "30 images with the ids 90 to 119",
        "the partitions are v1, v2, v3, v4",
    ] {
        assert!(answer.stdout.contains(part), "{answer:?}");
    }
    assert_eq!(project.read("dvc.yaml"), b"deps:\n  - dataset_partitions/v3\n  - dataset_partitions/v4\n");
    for command in ["pull", "prepare", "train", "check"] {
        project.run(&[command]).success();
    }
    assert!(results() == before, "v1+v2+v3 has the same data and the same model");

    project.edit("params.yaml", "dataset_version: v1+v2+v3", "dataset_version: all");
    project.run(&["prepare"]).failure(FAILURE, &["was pulled for dataset_version v1+v2+v3, expected v1+v2+v3+v4"]);
    project.run(&["pull"]).success();
    project.run(&["prepare"]).success();
    let report = project.json("data/prepared/report.json");
    assert_eq!(report["dataset_version"], "v1+v2+v3+v4");
    assert_eq!(report["added"]["v4"]["counts"]["exact_copies"], 1);
}

#[test]
fn wrong_sizes_and_rules_are_refused() {
    let project = Project::new();
    for (arguments, problem) in [
        (&["--size", "0"][..], "0 is not in 16..=224"),
        (&["--size", "15"], "15 is not in 16..=224"),
        (&["--size", "225"], "225 is not in 16..=224"),
        (&["--size", "99999999999999999999"], "--size"),
        (&["--size", "-3"], "-3"),
        (&["--fit", "pad"], "--size"),
        (&["--size", "32", "--fit", "squeeze"], "squeeze"),
        (&["--size", "32", "--source", "synthetic"], "--size is for images; --source synthetic has none here"),
        (&["--size", "32"], "--size is for images; --source auto has none here"),
    ] {
        let answer = project.run(&[&["partition"], arguments].concat());
        assert_eq!(answer.code, Some(USAGE), "{answer:?}");
        assert!(answer.stderr.contains(problem), "{answer:?}");
        assert!(!project.path("dataset_partitions").exists());
    }
}
