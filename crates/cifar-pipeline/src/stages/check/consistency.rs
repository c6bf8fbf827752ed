//! Checks whether the results of the stages belong together: each pair of results that a stage
//! reads.
//!
//! The stages refuse mismatches with the same functions; this checks all pairs and changes nothing.

use std::path::Path;

use cifar_data::Source;
use cifar_data::partitions::{self, Partition};
use cifar_data::prepare::{PreparedReport, TrainingData};
use cifar_data::provenance::Provenance;
use cifar_data::pull::Raw;
use cifar_data::splits::Split;
use cifar_eval::{hard_images, predictions};
use cifar_model::Model;
use cifar_train::Dynamics;
use cifar_train::Recipe;
use cifar_train::artifacts;
use cifar_train::tune::artifacts::Tuned;

use super::{Line, missing};
use crate::params::{Params, shown_settings};
use crate::stages::partition::add;
use crate::{Project, Result, ensure};

/// Returns a line for each result, existing or missing, in the order of the stages.
pub(super) fn lines(project: &Project, params: &Params) -> Vec<Line> {
    let layout = &project.layout;
    let (raw, prepared, model) = (layout.raw(), layout.prepared(), layout.model_file());
    let line = |what, path: &Path, command, found: &dyn Fn() -> Result<String>| {
        if !path.exists() {
            return missing(what, path, command);
        }
        match found() {
            Ok(detail) => Line { what, state: "ok", detail },
            Err(e) => Line { what, state: "wrong", detail: e.one_line() },
        }
    };
    vec![
        line("partitions", &layout.partitions().join("v1"), "partition", &|| {
            let read = partitions::read(&layout.partitions(), &cifar_data::Silent)?;
            for partition in project.known_partitions()? {
                existing(project, partition)?;
            }
            let counts: Vec<String> = read.sets.iter().map(|set| set.len().to_string()).collect();
            let names: Vec<String> = read.each().map(|(partition, _)| partition.to_string()).collect();
            let source = Source::joined(read.sets.iter().map(|set| &set.header().source));
            let source = source.map(|source| source.description).unwrap_or_default();
            Ok(format!("{} images in {}, hashes match; {source}", counts.join(" + "), names.join(", ")))
        }),
        line("pulled", &raw, "pull", &|| {
            let pulled = Raw::read(&raw)?;
            pulled.check(params.dataset_version, &params.split)?;
            let read = partitions::read(&layout.partitions(), &cifar_data::Silent)?;
            let identity = read.identity_up_to(params.dataset_version.depends_on());
            Provenance::read(&raw, "pull")?.expect("partitions", &identity, "these partitions")?;
            Ok(format!("{} images of {}, from these partitions", pulled.record.images, pulled.record.dataset_version))
        }),
        line("prepared", &prepared, "pull` and `cifar-cli prepare", &|| {
            let report = report(project, params)?;
            report.check_labels(&prepared, &layout.overrides(), &layout.review())?;
            if raw.exists() {
                let fingerprint = Raw::read(&raw)?.record.fingerprint;
                Provenance::read(&prepared, "prepare")?.expect("raw", &fingerprint, "the pulled images")?;
            }
            let [train, val, test] = Split::ALL.map(|s| report.images.get(&s).copied().unwrap_or(0));
            Ok(format!(
                "{train} train, {val} val, {test} test images of {}; {}",
                report.dataset_version, report.source.description
            ))
        }),
        line("tuning", &layout.tuned(), "tune", &|| {
            let tuned = Tuned::read(&layout.tuned())?;
            let recipe = Recipe { model: params.model.clone(), train: params.train.clone() };
            tuned.apply(&recipe, &report(project, params)?, &layout.tuned())?;
            Ok(if tuned.context.is_none() { "no search".into() } else { format!("{} trials", tuned.trials) })
        }),
        line("model", &model, "train", &|| {
            let found = Model::load(&model)?;
            found.expect_trained_on(&report(project, params)?, &model)?;
            let origin = found.origin.as_ref();
            let init = params.train.init.read(&layout.join(""))?;
            let init = init.model()?.map(Model::seal);
            ensure!(
                origin.and_then(|origin| origin.init.as_deref()) == init,
                "{}: started from other weights than those of train.init; run `cifar-cli train` again",
                model.display()
            );
            let origin = origin.map(|o| {
                let settings = shown_settings(&o.settings);
                let settings = if settings.is_empty() { settings } else { format!(", with {settings}") };
                let continued = o.continues.last();
                let continued =
                    continued.map_or(String::new(), |run| format!(", continued after epoch {}", run.epochs));
                let source = &o.source.description;
                format!(", trained on {} ({source}), seed {}{continued}{settings}", o.dataset_version, o.seed)
            });
            Ok(format!("{}{}", found.spec().params.architecture.name(), origin.unwrap_or_default()))
        }),
        line("dynamics", &layout.dynamics(), "train", &|| {
            let data = TrainingData::open(&prepared)?;
            let dynamics = Dynamics::read(&layout.dynamics(), &model, &data.train, &data.val)?;
            let first = artifacts::read_first_epoch(&layout.final_model(), &Model::load(&model)?)?;
            let first = if first.is_some() { "" } else { ", without the weights of the first epoch" };
            Ok(format!("logits of {} epochs, from the training of this model{first}", dynamics.epochs()))
        }),
        line("evaluation", &layout.evaluation(), "evaluate", &|| {
            let report = report(project, params)?;
            let provenance = Provenance::read(&layout.evaluation(), predictions::COMMAND)?;
            provenance.expect("model", Model::load(&model)?.seal(), "this model")?;
            provenance.expect("test", report.test_fingerprint(), "the test images of the prepared set")?;
            provenance.expect("pool", &report.pool_fingerprint, "the shared test images")?;
            let scores = scores(&layout.evaluation().join(predictions::METRICS)).unwrap_or_default();
            Ok(format!("of this model, on these test images{scores}"))
        }),
        line("hard images", &layout.hard_images(), "hard-images", &|| ranking(project, params)),
    ]
}

/// Checks that the hard images are of this model and of the prepared images.
fn ranking(project: &Project, params: &Params) -> Result<String> {
    let layout = &project.layout;
    let provenance = Provenance::read(&layout.hard_images(), hard_images::COMMAND)?;
    let model = Model::load(&layout.model_file())?;
    provenance.expect("model", model.seal(), "this model")?;
    let found = artifacts::read_first_epoch(&layout.final_model(), &model)?;
    let first = found.as_ref().map_or("", Model::seal);
    provenance.expect(hard_images::FIRST_EPOCH_INPUT, first, "this model's weights of the first epoch")?;
    let report = report(project, params)?;
    for split in Split::ALL {
        provenance.expect(split.name(), report.fingerprint(split), "the images of the prepared set")?;
    }
    Ok("of this model and these images".into())
}

/// Refuses an added partition that DVC tracks and that is not here, or one that is here and that
/// the pipeline does not follow.
fn existing(project: &Project, partition: Partition) -> Result<()> {
    if !partition.is_added() {
        return Ok(());
    }
    let folder = project.layout.partitions().join(partition.name());
    ensure!(folder.is_dir(), "{}: this partition is missing; run `dvc pull`", folder.display());
    let path = project.layout.pipeline();
    let follows = std::fs::read_to_string(&path).map_or(true, |pipeline| add::depends_on(&pipeline, partition));
    ensure!(follows, "{}", add::missing_dependency(&path, partition));
    Ok(())
}

fn report(project: &Project, params: &Params) -> Result<PreparedReport> {
    let prepared = project.layout.prepared();
    let report = PreparedReport::read(&prepared)?;
    report.check(&prepared, params.dataset_version, &params.split)?;
    Ok(report)
}

/// Returns the accuracies in the metrics file, in words.
fn scores(metrics: &Path) -> Option<String> {
    let metrics: serde_json::Value = serde_json::from_slice(&std::fs::read(metrics).ok()?).ok()?;
    let score = |set: &str| {
        let (accuracy, images) = (metrics[set]["accuracy"].as_f64()?, metrics[set]["images"].as_u64()?);
        Some(format!("{:.2} % of {images}", accuracy * 100.0))
    };
    Some(format!("; accuracy {} test images, {} shared test images", score("test")?, score("pool")?))
}
