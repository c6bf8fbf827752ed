//! Files are classified like the images of a set.

use std::collections::BTreeMap;

use cifar_data::image_file::find;
use cifar_data::prepare::normalisation;
use cifar_data::sources::synthetic::{SyntheticParams, generate};
use cifar_data::{Dataset, Silent};
use cifar_model::{Architecture, ModelOrigin, ModelParams, ModelSpec, predict};

use super::*;

/// Returns images, and a folder with each of them as PNG.
fn images() -> (Dataset, tempfile::TempDir) {
    let set = generate(&SyntheticParams { count: 300, ..Default::default() }).unwrap().dataset;
    let folder = tempfile::tempdir().unwrap();
    for (index, sample) in set.samples().iter().enumerate() {
        let class = folder.path().join("images").join(&set.classes()[usize::from(sample.label)]);
        std::fs::create_dir_all(&class).unwrap();
        let file = class.join(format!("{index:03}.png"));
        image::save_buffer(file, set.image(index), 32, 32, image::ColorType::Rgb8).unwrap();
    }
    (set, folder)
}

fn model(set: &Dataset, architecture: Architecture) -> Model {
    let params = ModelParams { widths: vec![4, 5, 6], ..ModelParams::of(architecture) };
    let (classes, size) = (set.classes().to_vec(), set.size());
    let mut model = Model::new(ModelSpec { params, classes, size, normalisation: normalisation(set) }, 3).unwrap();
    model.origin = Some(ModelOrigin {
        source: set.header().source.clone(),
        dataset_version: "v1".into(),
        training_fingerprint: String::new(),
        validation_fingerprint: String::new(),
        seed: 3,
        epoch: 1,
        init: None,
        continues: Vec::new(),
        arithmetic: String::new(),
        settings: BTreeMap::new(),
    });
    model
}

#[test]
fn files_have_the_predictions_of_their_images() {
    let (set, folder) = images();
    let model = model(&set, Architecture::SimpleCnn);
    let expected = predict(&model, &set, WHAT, &Silent).unwrap().probabilities().unwrap();
    for broken in ["images/broken.png", "images/zebra/other.txt"] {
        std::fs::create_dir_all(folder.path().join("images/zebra")).unwrap();
        std::fs::write(folder.path().join(broken), b"no image").unwrap();
    }
    let files = find(&[folder.path().join("images")]).files;
    let (mut names, mut problems) = (Vec::new(), 0);
    predict_files(&model, files.into_iter().map(|file| file.path), Views::None, &Silent, |found| {
        match found {
            Ok(prediction) => {
                let index: usize = prediction.file.file_stem().unwrap().to_str().unwrap().parse().unwrap();
                assert_eq!(prediction.probabilities, expected[index * 10..][..10], "{index}");
                names.push(prediction.file);
            }
            Err(problem) => {
                assert!(
                    problem.to_string().contains(": is not an image (JPEG, PNG, WebP, BMP, GIF or TIFF)"),
                    "{problem}"
                );
                problems += 1;
            }
        }
        Ok(())
    })
    .unwrap();
    // More than one batch, in the order of the paths.
    assert!((names.len(), problems) == (300, 2) && names.is_sorted());
}

#[test]
fn a_table_and_pictures_are_written() {
    let (set, folder) = images();
    let (root, path) = (folder.path(), |name: &str| folder.path().join(name));
    let model = model(&set, Architecture::Airbench94);
    model.save(&path("model.safetensors")).unwrap();
    let large = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, 90]));
    for name in ["=a.png", "x/=a.png", "Thumbs.db", "b.gif"] {
        std::fs::create_dir_all(path("few/x")).unwrap();
        large.save_with_format(path("few").join(name), image::ImageFormat::Png).unwrap();
    }
    std::fs::write(path("few/b.gif"), b"GIF89a").unwrap();
    let options = PredictOptions {
        model: Some(path("model.safetensors")),
        top: 2,
        csv: Some(path("out/table.csv")),
        explain: Some(path("maps")),
        ..PredictOptions::default()
    };
    let project = Project::open(root).unwrap();
    let (found, mut rows) = (find(&[path("few"), path("few/x/=a.png"), path("absent.png")]), Vec::new());
    let done = run(&project, &options, found, &Silent, &mut |classes, found| {
        rows.push(found.map(|prediction| classes[prediction.ranked()[0].0].clone()).map_err(ToString::to_string));
    })
    .unwrap();
    let counts = (done.images, done.unreadable, done.skipped, done.resized);
    assert_eq!((counts, rows.len()), ((3, 2, 1, 3), 5));
    assert_eq!(done.result().unwrap_err().to_string(), "2 of 5 images could not be read");
    let table = String::from_utf8(std::fs::read(path("out/table.csv")).unwrap()).unwrap();
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(
        table.lines().next().unwrap(),
        "file,predicted,probability,class_2,probability_2,margin,entropy,trained_on"
    );
    assert_eq!(lines.len(), 4);
    let [one, two, margin]: [f64; 3] = [2, 4, 5].map(|column| lines[1][column].parse().unwrap());
    assert!((one - two - margin).abs() < 1e-6 && one >= two, "{table}");
    assert_eq!(lines[1][1], rows[0].as_ref().unwrap());
    assert!(table.ends_with(&format!("\"{}\"\n", set.header().source.description)), "{table}");
    let mut maps: Vec<PathBuf> = find(&[path("maps")]).files.into_iter().map(|file| file.relative).collect();
    maps.sort();
    assert_eq!(maps, ["=a.png-2.png", "=a.png.png", "x/=a.png.png"].map(PathBuf::from));

    // A network without such maps is refused before anything is written.
    self::model(&set, Architecture::SimpleCnn).save(&path("model.safetensors")).unwrap();
    let options = PredictOptions { csv: Some(path("other.csv")), ..options };
    let error = run(&project, &options, find(&[path("few")]), &Silent, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.starts_with("--explain: simple_cnn has more than one layer after"), "{error}");
    assert!(!path("other.csv").exists());
}

#[test]
fn spreadsheets_get_no_formula_and_top_no_more_than_all_classes() {
    let (set, folder) = images();
    let model = model(&set, Architecture::SimpleCnn);
    let path = folder.path().join("table.csv");
    let mut table = Table::create(&path, &model, 99).unwrap();
    let probabilities = (0..10).map(|class| if class == 4 { 0.55 } else { 0.05 }).collect();
    let size = set.size();
    table.add(&Prediction { file: "=1+1.png".into(), original: size, size, probabilities }).unwrap();
    assert!(!path.exists());
    table.finish().unwrap();
    let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
    let [header, row] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(header.contains(",class_10,probability_10,margin,entropy,"), "{header}");
    // 0.5; −0.55 ln 0.55 − 9 · 0.05 ln 0.05 = 1.676890.
    let class = &set.classes()[4];
    assert!(row.starts_with(&format!("'=1+1.png,{class},0.55,")) && row.contains(",0.500000,1.676890,"), "{row}");
}
