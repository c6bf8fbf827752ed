//! `train --epochs-more`: continues a finished run for more epochs.

use std::path::PathBuf;

use cifar_data::prepare::PreparedReport;
use cifar_model::{Model, ModelParams};
use cifar_train::{FinishedRun, MAX_EPOCHS, Recipe, artifacts};
use serde_json::Value;

use crate::params::{Setting, shown_settings};
use crate::{Error, Project, Reporter, Result, ensure};

/// The key that continuing sets.
const EPOCHS: &str = "train.epochs";

/// How a run continues a finished one.
#[derive(Debug, Clone)]
pub struct Longer {
    /// The folder of the finished run; none for that of the project.
    pub folder: Option<PathBuf>,
    /// Epochs to add.
    pub epochs_more: usize,
}

impl Longer {
    /// Reads the finished run, and returns it with the project as the longer run has it:
    /// `train.epochs` is that of all epochs.
    pub(super) fn open(&self, project: &Project) -> Result<(FinishedRun, Project)> {
        let mut settings = project.settings.clone();
        if settings.contains_key(EPOCHS) {
            return Err(Error::usage(format!("--epochs-more sets {EPOCHS}; leave out --set {EPOCHS}")));
        }
        let folder = self.folder.clone().unwrap_or_else(|| project.layout.final_model());
        // Not as errors of a stale stage: this run needs exactly that folder, not any new model.
        let finished = FinishedRun::read(&folder)
            .map_err(|e| Error::failed(format!("{e}; only an unchanged folder that `train` wrote can be continued")))?;
        let (done, more) = (finished.history().len(), self.epochs_more);
        let most = MAX_EPOCHS.saturating_sub(done);
        if !(1..=most).contains(&more) {
            let has = format!("{} ends with epoch {done}", folder.display());
            return Err(Error::usage(format!("--epochs-more: {more} is not allowed; {has}; allowed is 1 to {most}")));
        }
        settings.insert(EPOCHS.into(), (done + more).into());
        Ok((finished, project.clone().with_settings(settings)))
    }
}

/// Checks that the finished run had the images, network and parameters of this one, as far as its
/// files tell, and reports what is continued.
pub(super) fn check(
    finished: &FinishedRun,
    recipe: &Recipe,
    seed: u64,
    data: &PreparedReport,
    reporter: &dyn Reporter,
) -> Result<()> {
    let (model, epochs) = (finished.model(), finished.history().len());
    let file = finished.folder().join(artifacts::MODEL);
    let same = "a run continues only with the parameters that it had";
    model.expect_trained_on(data, &file).map_err(|e| Error::failed(format!("{e}; {same}")))?;
    let origin = model.origin.as_ref();
    let name = file.display();
    if let Some(found) = origin.map(|origin| origin.seed)
        && found != seed
    {
        return Err(Error::failed(format!("{name}: was trained with random_seed: {found}, not {seed}; {same}")));
    }
    // Through text, so that an `f32` keeps the digits that were typed.
    let json = |params: &ModelParams| -> Result<Value> { Ok(serde_json::from_str(&serde_json::to_string(params)?)?) };
    let [then, now] = [json(&model.spec().params)?, json(&recipe.model)?];
    for (key, found) in then.as_object().into_iter().flatten() {
        ensure!(now[key] == *found, "{name}: was trained with model.{key}: {found}, not {}; {same}", now[key]);
    }
    let init = recipe.train.init.model()?.map(Model::seal);
    ensure!(
        origin.and_then(|origin| origin.init.as_deref()) == init,
        "{name}: started from other weights than those of train.init; {same}"
    );
    finished.check(&recipe.train)?;
    let folder = finished.folder().display();
    reporter.note(&format!("continues {folder} after epoch {epochs}, to epoch {}", recipe.train.epochs));
    if !finished.is_exact(&recipe.train) {
        reporter.warn(&format!(
            "train.averaging: the average depends on where the finished run ended, so the weights are not exactly those of {} epochs at once",
            recipe.train.epochs
        ));
    }
    Ok(())
}

/// Adds to an error about the finished run's last checkpoint what may be the reason and what to do.
pub(super) fn explain(problem: &str, finished: &FinishedRun, project: &Project) -> Error {
    let without_epochs = |settings: &Setting| -> Setting {
        settings.iter().filter(|(key, _)| *key != EPOCHS).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let origin = finished.model().origin.as_ref();
    let [then, now] = [origin.map(|origin| &origin.settings), Some(&project.settings)]
        .map(|settings| settings.map(without_epochs).unwrap_or_default());
    let had = match shown_settings(&then) {
        _ if then == now => String::new(),
        none if none.is_empty() => "; it had no --set".into(),
        shown => format!("; it had {shown}"),
    };
    let lengthened = match project.params() {
        Ok(params) if params.train.min_steps > 0 => " (a run that train.min_steps lengthened is not continued)",
        _ => "",
    };
    Error::failed(format!(
        "{}: cannot be continued{had}: {problem}{lengthened}; or train all epochs at once with train.epochs",
        finished.folder().display()
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cifar_data::Silent;
    use cifar_data::provenance::Provenance;

    use super::*;
    use crate::params::parse_settings;
    use crate::stages::{check, recipe};
    use crate::{ErrorKind, PartitionOptions, TrainOptions};

    const SMALL: [&str; 4] =
        ["model.widths=[4, 4, 4]", "train.batch_size=32", "train.schedule=constant", "train.learning_rate=0.02"];

    fn longer(folder: Option<&str>, epochs_more: usize) -> TrainOptions {
        let folder = folder.map(PathBuf::from);
        TrainOptions { longer: Some(Longer { folder, epochs_more }), ..TrainOptions::default() }
    }

    #[test]
    fn a_finished_run_continues_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        crate::init::init(folder.path(), &[]).unwrap();
        let file = Project::open(folder.path()).unwrap();
        recipe::run(&file, "simple_cnn").unwrap();
        let with = |settings: &[&str]| {
            let settings = [&SMALL[..], settings].concat();
            file.clone().with_settings(parse_settings(&settings).unwrap())
        };
        let images = PartitionOptions { synthetic_images: 300, ..PartitionOptions::of("synthetic") };
        file.partition(&images, &Silent).unwrap();
        file.pull(&Silent).unwrap();
        file.prepare(&Silent).unwrap();
        let history = || fs::read(file.layout.final_model().join(artifacts::HISTORY)).unwrap();
        with(&["train.epochs=2"]).train(&TrainOptions::default(), &Silent).unwrap();
        let at_once = history();
        with(&["train.epochs=1"]).train(&TrainOptions::default(), &Silent).unwrap();
        let first = Model::load(&file.layout.model_file()).unwrap();

        let refusal = |project: &Project, options: &TrainOptions, kind: ErrorKind| {
            let error = project.train(options, &Silent).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            error.one_line().replace(&format!("{}/", folder.path().display()), "")
        };
        let small = with(&[]);
        let allowed = "models/final ends with epoch 1; allowed is 1 to 99999";
        for wrong in [0, 1_000_000] {
            assert_eq!(
                refusal(&small, &longer(None, wrong), ErrorKind::Usage),
                format!("--epochs-more: {wrong} is not allowed; {allowed}")
            );
        }
        assert_eq!(
            refusal(&with(&["train.epochs=2"]), &longer(None, 1), ErrorKind::Usage),
            "--epochs-more sets train.epochs; leave out --set train.epochs"
        );
        assert_eq!(
            refusal(&small, &longer(Some("no/such/run"), 1), ErrorKind::Failure),
            "no/such/run: there is no such folder; only an unchanged folder that `train` wrote can be continued"
        );
        let same = "a run continues only with the parameters that it had";
        for (setting, expected) in [
            ("random_seed=7", "was trained with random_seed: 42, not 7"),
            ("model.dropout=0.1", "was trained with model.dropout: 0.3, not 0.1"),
        ] {
            assert_eq!(
                refusal(&with(&[setting]), &longer(None, 1), ErrorKind::Failure),
                format!("models/final/model.safetensors: {expected}; {same}")
            );
        }
        let found = refusal(&with(&["train.momentum=0.8"]), &longer(None, 1), ErrorKind::Failure);
        let had = "it had --set model.widths=[4,4,4] --set train.batch_size=32 --set train.learning_rate=0.02 --set \
                   train.schedule=constant: .cifar/checkpoints/";
        assert!(found.starts_with(&format!("models/final: cannot be continued; {had}")), "{found}");
        assert!(found.ends_with("has changed; or train all epochs at once with train.epochs"), "{found}");
        let mut linear = small.clone();
        linear.settings.insert("train.schedule".into(), "linear".into());
        assert!(
            refusal(&linear, &longer(None, 1), ErrorKind::Usage).starts_with("train.schedule: linear is not allowed")
        );

        small.train(&longer(None, 1), &Silent).unwrap();
        assert_eq!(history(), at_once);
        let model = Model::load(&file.layout.model_file()).unwrap();
        let origin = model.origin.as_ref().unwrap();
        assert_eq!(origin.continues[..], [cifar_model::Continued { model: first.seal().into(), epochs: 1 }]);
        assert_eq!(origin.settings[EPOCHS], 2);
        let provenance = Provenance::read(&file.layout.final_model(), artifacts::COMMAND).unwrap();
        assert_eq!(provenance.input(artifacts::CONTINUED_INPUT), first.seal());
        let lines = check::run(&file).unwrap().lines;
        let line = lines.iter().find(|line| line.what == "model").unwrap();
        assert!(line.state == "ok" && line.detail.contains("seed 42, continued after epoch 1, with"), "{line:?}");
        file.evaluate(&Silent).unwrap();
    }
}
