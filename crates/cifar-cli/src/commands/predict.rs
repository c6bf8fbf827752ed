//! `predict`: predicts the classes of image files.

use cifar_data::image_file::find;
use cifar_data::names::shown;
use cifar_model::Views;
use cifar_pipeline::Result;
use cifar_pipeline::stages::predict::{PredictOptions, Prediction, run as predict};
use serde::Serialize;

use super::Context;
use crate::args::{PredictArgs, ViewsName};
use crate::terminal::Terminal;

/// The widest column of file names, in characters. Longer names move the rest of their line.
const WIDEST: usize = 60;

/// A prediction as JSON.
#[derive(Serialize)]
struct Row<'a> {
    file: String,
    resized: Option<String>,
    predictions: Vec<Class<'a>>,
    margin: f64,
    entropy: f64,
}

#[derive(Serialize)]
struct Class<'a> {
    class: &'a str,
    probability: f32,
}

pub(super) fn run(context: &Context, args: &PredictArgs) -> Result<()> {
    let terminal = context.terminal;
    let options = PredictOptions {
        model: args.model.clone(),
        views: match args.tta {
            None => Views::None,
            Some(ViewsName::Mirror) => Views::Mirror,
            Some(ViewsName::MirrorShift) => Views::MirrorShift,
        },
        precision: args.precision,
        top: usize::from(args.top),
        csv: args.csv.clone(),
        explain: args.explain.clone(),
    };
    let found = find(&args.images);
    let width = found.files.iter().map(|file| shown(&file.path).chars().count()).max().unwrap_or(0).min(WIDEST);
    let mut is_first = true;
    let mut each = |classes: &[String], found: Result<&Prediction, &cifar_data::DataError>| match found {
        Err(problem) => terminal.error(&problem.to_string()),
        // The table has it.
        Ok(_) if args.csv.is_some() => {}
        Ok(prediction) => {
            let columns = [width, classes.iter().map(|class| class.chars().count()).max().unwrap_or(0).max(5)];
            if std::mem::take(&mut is_first) && !terminal.json() {
                let next = if args.top > 1 { "  next" } else { "" };
                terminal.say(&format!("{:<1$}  {2:<3$}  probability{next}", "file", columns[0], "class", columns[1]));
            }
            print(prediction, classes, columns, &options, terminal);
        }
    };
    let done = predict(&context.project, &options, found, terminal, &mut each)?;
    if args.csv.is_some() || args.explain.is_some() {
        terminal.outcome(&done);
    }
    done.result()
}

/// Prints a prediction as one line. `columns` are the widths of files and classes.
fn print(
    prediction: &Prediction,
    classes: &[String],
    columns: [usize; 2],
    options: &PredictOptions,
    terminal: &Terminal,
) {
    let ranked: Vec<(usize, f32)> = prediction.ranked().into_iter().take(options.top).collect();
    let row = Row {
        file: prediction.file.display().to_string(),
        resized: (prediction.original != prediction.size)
            .then(|| format!("resized from {} to {}", prediction.original, prediction.size)),
        predictions: ranked.iter().map(|(class, p)| Class { class: &classes[*class], probability: *p }).collect(),
        margin: prediction.margin(),
        entropy: prediction.entropy(),
    };
    terminal.result(&row, || {
        let [files, names] = columns;
        let mut words = ranked.iter().map(|(class, p)| (&classes[*class], p * 100.0));
        let (class, p) = words.next().map_or(("", 0.0), |(class, p)| (class.as_str(), p));
        let next: Vec<String> = words.map(|(class, p)| format!("{class} {p:.1} %")).collect();
        let line = format!("{:<files$}  {class:<names$}  {p:>9.1} %  {}", shown(&prediction.file), next.join(", "));
        line.trim_end().to_string()
    });
}
