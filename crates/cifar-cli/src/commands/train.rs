//! `train`: from prepared images to a model.

use anyhow::{Result, anyhow};
use cifar_data::DataError;
use cifar_data::prepare::TrainingData;
use cifar_train::{TrainError, artifacts, fit};

use super::Context;

pub(super) fn run(context: &Context) -> Result<()> {
    let (layout, params) = (&context.layout, context.params()?);
    let data = TrainingData::open(&layout.prepared())?;
    data.report.check(&layout.prepared(), params.dataset_version, &params.split)?;
    context.terminal.say(&format!(
        "{}, {}: {} training and {} validation images; seed {}\n",
        data.report.source.description,
        params.dataset_version,
        data.train.len(),
        data.val.len(),
        params.random_seed
    ));
    let fitted =
        fit(&params.train, &params.model, &data, params.random_seed, context.terminal).map_err(|e| match e {
            TrainError::Data(DataError::Cancelled) => anyhow!(e).context(format!(
                "{} keeps what it had; run `cifar-cli train` again to start over",
                layout.final_model().display()
            )),
            other => anyhow!(other),
        })?;
    artifacts::write(&fitted, &data, &layout.final_model())?;
    if !context.terminal.json() {
        let selected = fitted.history.iter().find(|r| r.epoch == fitted.selected_epoch);
        let accuracy =
            selected.and_then(|r| r.val_accuracy).map(|a| format!(", validation accuracy {:.2} %", a * 100.0));
        context.terminal.data(&format!(
            "{}: epoch {} of {}{}",
            layout.model_file().display(),
            fitted.selected_epoch,
            fitted.history.len(),
            accuracy.unwrap_or_default()
        ));
    }
    Ok(())
}
