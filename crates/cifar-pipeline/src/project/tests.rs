//! Parameters that are set for one command, through all stages.

use cifar_data::Silent;
use cifar_model::Model;

use super::*;
use crate::params::parse_settings;
use crate::stages::{check, recipe};

/// Values that train in a moment.
const SMALL: [&str; 3] = ["model.widths=[4, 4, 4]", "train.epochs=1", "train.batch_size=32"];

#[test]
fn results_of_other_settings_are_named_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    crate::init::init(folder.path(), &[]).unwrap();
    let file = Project::open(folder.path()).unwrap();
    recipe::run(&file, "simple_cnn").unwrap();
    let with = |settings: &[&str]| file.clone().with_settings(parse_settings(settings).unwrap());
    let line = |error: Error| error.one_line().replace(&format!("{}/", folder.path().display()), "");
    file.partition(&PartitionOptions { synthetic_images: 300, ..PartitionOptions::of("synthetic") }, &Silent).unwrap();

    // Data of other partitions than those of the file.
    with(&["dataset_version=v1+v2"]).pull(&Silent).unwrap();
    assert_eq!(
        line(file.prepare(&Silent).unwrap_err()),
        "the last `cifar-cli pull` had --set dataset_version=v1+v2, unlike this command: data/raw/pull.json: was pulled \
         for dataset_version v1+v2, expected v1; run `cifar-cli pull` again"
    );
    file.pull(&Silent).unwrap();
    file.prepare(&Silent).unwrap();

    // A model file says what was set for it alone.
    with(&SMALL).train(&TrainOptions::default(), &Silent).unwrap();
    let settings = Model::load(&file.layout.model_file()).unwrap().origin.unwrap().settings;
    assert_eq!(settings, parse_settings(&SMALL).unwrap());
    let record = std::fs::read(file.layout.state().join("runs/train.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["settings"]["train.epochs"], 1);
    let lines = check::run(&file).unwrap().lines;
    let model = lines.iter().find(|line| line.what == "model").unwrap();
    let shown = ", with --set model.widths=[4,4,4] --set train.batch_size=32 --set train.epochs=1";
    assert!(model.state == "ok" && model.detail.ends_with(shown), "{model:?}");

    // Evaluation needs the model file alone; folds need the recipe of the model.
    file.evaluate(&Silent).unwrap();
    assert_eq!(
        line(with(&["hard_images.folds=2"]).hard_images(&Silent).unwrap_err()),
        "models/final/model.safetensors: was trained with model.widths: [4,4,4], its folds would be with model.widths: \
         [32,64,128]; run `cifar-cli train` again, or give both commands the same --set"
    );
    let longer = with(&[&SMALL[..], &["train.momentum=0.8", "hard_images.folds=2"]].concat());
    let found = line(longer.hard_images(&Silent).unwrap_err());
    assert!(
        found.contains("was trained with train.momentum: 0.9, its folds would be with train.momentum: 0.8"),
        "{found}"
    );
    with(&[&SMALL[..], &["hard_images.folds=2"]].concat()).hard_images(&Silent).unwrap();
    file.hard_images(&Silent).unwrap();
}
