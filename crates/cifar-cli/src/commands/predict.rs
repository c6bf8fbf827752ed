//! `predict`: predicts the classes of image files.

use cifar_data::Progress as _;
use cifar_data::image_file::read_resized;
use cifar_data::names::shown;
use cifar_model::{Model, classify};
use cifar_pipeline::{Error, Result};
use serde_json::json;

use super::Context;
use crate::args::PredictArgs;

pub(super) fn run(context: &Context, args: &PredictArgs) -> Result<()> {
    let path = args.model.clone().unwrap_or_else(|| context.project.layout.model_file());
    let model = Model::load(&path)?;
    let spec = model.spec();
    if model.origin.as_ref().is_some_and(|o| o.source.is_synthetic()) {
        context.terminal.warn("this model was trained on the SYNTHETIC set: it knows drawn figures, not photographs");
    }
    // A broken file does not stop the predictions for the others.
    let mut failed = 0;
    for file in &args.images {
        let image = match read_resized(file, spec.size, model.fit()) {
            Ok(image) => image,
            Err(e) => {
                context.terminal.error(&e.to_string());
                failed += 1;
                continue;
            }
        };
        let mut ranked: Vec<(f32, &String)> = classify(&model, &image.pixels)?.into_iter().zip(&spec.classes).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        ranked.truncate(usize::from(args.top));
        let resized =
            (image.original != spec.size).then(|| format!("resized from {} to {}", image.original, spec.size));
        if let (Some(note), false) = (&resized, context.terminal.json()) {
            context.terminal.say(&format!("{}: {note}", shown(file)));
        }
        let json = json!({
            "file": file.display().to_string(),
            "resized": resized,
            "predictions": ranked.iter().map(|(p, class)| json!({ "class": class, "probability": p })).collect::<Vec<_>>(),
        });
        context.terminal.result(&json, || {
            let classes: Vec<String> = ranked.iter().map(|(p, class)| format!("{class} {:.1} %", p * 100.0)).collect();
            format!("{}: {}", shown(file), classes.join(", "))
        });
    }
    if failed > 0 {
        return Err(Error::failed(format!("{failed} of {} images could not be read", args.images.len())));
    }
    Ok(())
}
