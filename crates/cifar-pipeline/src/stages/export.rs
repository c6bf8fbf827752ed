//! `export`: writes the trained model as a file of other programs, or a model card.

mod card;
mod known;

use std::fmt;
use std::path::{Path, PathBuf};

use cifar_data::output::{OutputFolder, write_file};
use cifar_model::export::onnx::{self, OnnxInput, OnnxParams};
use cifar_model::export::pytorch;
use cifar_model::{Model, Views};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::links::refuse_links_to;
use crate::{Error, Project, Reporter, Result};

/// What Python leaves in a folder from which it imports a module.
const CACHE_OF_PYTHON: &str = "__pycache__";

/// What [`run`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// An ONNX file.
    Onnx {
        /// The images that the graph takes.
        input: OnnxInput,
        /// Test-time augmentation inside the graph.
        views: Views,
    },
    /// A folder for `PyTorch`.
    Pytorch,
    /// A model card as a Markdown file.
    Card,
}

/// Options of [`run`].
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// What to write.
    pub format: ExportFormat,
    /// The model file; by default that of the project.
    pub model: Option<PathBuf>,
    /// The file or folder to write; by default one in the folder `export` of the project.
    pub output: Option<PathBuf>,
}

/// What [`run`] wrote.
#[derive(Debug, Serialize)]
pub struct Exported {
    /// `onnx`, `pytorch` or `card`.
    pub format: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// Version of ONNX's operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opset: Option<i64>,
    /// Name, type and shape of the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Name, type and shape of the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// Exports a trained model. No file of a stage changes.
///
/// # Errors
/// If the model is missing or damaged, or the output cannot be written. A model card also needs
/// the prepared images and an evaluation of this model, and params.yaml must describe its training.
pub fn run(project: &Project, options: &ExportOptions, reporter: &dyn Reporter) -> Result<Exported> {
    let file = options.model.clone().unwrap_or_else(|| project.layout.model_file());
    let destination = destination(project, options)?;
    let model = Model::load(&file)?;
    let size = model.spec().size;
    let exported = |format, opset, input, output| Exported { format, path: destination.clone(), opset, input, output };
    Ok(match options.format {
        ExportFormat::Onnx { input, views } => {
            let properties = properties(project, options, &model, reporter);
            write_file(&destination, &onnx::encode(&model, &OnnxParams { input, views, properties })?)?;
            let input = format!("{} {}", onnx::INPUT, input.in_words(size));
            let output = format!("{} float32 [{}, {}]", onnx::OUTPUT, onnx::BATCH, model.spec().classes.len());
            exported("onnx", Some(onnx::OPSET), Some(input), Some(output))
        }
        ExportFormat::Pytorch => {
            let folder = OutputFolder::create(&destination)?;
            for (name, contents) in pytorch::files(&model, &properties(project, options, &model, reporter))? {
                folder.write(name, &contents)?;
            }
            folder.commit()?;
            let input = format!("images {}", OnnxInput::Float.in_words(size));
            let output = format!("logits float32 [batch, {}]", model.spec().classes.len());
            exported("pytorch", None, Some(input), Some(output))
        }
        ExportFormat::Card => {
            let recipe = known::recipe(project, &model, &file, reporter)?;
            let text = card::write(project, &model, &file, &recipe)?;
            write_file(&destination, text.as_bytes())?;
            exported("card", None, None, None)
        }
    })
}

/// Returns what the model file does not know: the version of this program, and the recipe if
/// params.yaml describes it.
fn properties(
    project: &Project,
    options: &ExportOptions,
    model: &Model,
    reporter: &dyn Reporter,
) -> Map<String, Value> {
    let mut properties = Map::from_iter([("exported_by".into(), json!(known::PROGRAM))]);
    // Only the model of the project can be that of its params.yaml.
    if options.model.is_some() {
        return properties;
    }
    match known::recipe(project, model, &project.layout.model_file(), reporter) {
        Ok(recipe) => {
            properties.insert("recipe".into(), json!(recipe.name));
            properties.insert("train".into(), recipe.json["train"].clone());
        }
        Err(error) => reporter.note(&format!("the training parameters are left out: {}", error.one_line())),
    }
    properties
}

/// Returns where to write.
///
/// # Errors
/// If the path is a folder where a file is needed or the reverse, its folder is missing, or it is
/// in a folder of results, which stages replace.
fn destination(project: &Project, options: &ExportOptions) -> Result<PathBuf> {
    let layout = &project.layout;
    let Some(path) = &options.output else {
        let name = match options.format {
            ExportFormat::Onnx { .. } => "model.onnx",
            ExportFormat::Pytorch => "pytorch",
            ExportFormat::Card => "README.md",
        };
        let path = layout.export().join(name);
        refuse_links_to(layout, &path)?;
        return check_kind(path, options.format);
    };
    let refuse = |problem: &str| Err(Error::usage(format!("--output: {}: {problem}", path.display())));
    if path.file_name().is_none() {
        return refuse("is not a name that can be written; name a file or a new folder");
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(folder) = folder.canonicalize() else {
        return refuse("its folder does not exist; create it first");
    };
    let is_result = |results: &PathBuf| results.canonicalize().is_ok_and(|results| folder.starts_with(results));
    if layout.outputs().iter().any(is_result) {
        return refuse(
            "is in a folder that the stages replace; choose a path outside of data/, models/ and evaluation/",
        );
    }
    refuse_links_to(layout, path)?;
    check_kind(path.clone(), options.format)
}

/// Refuses to replace a folder by a file, and a folder that this command did not write.
fn check_kind(path: PathBuf, format: ExportFormat) -> Result<PathBuf> {
    let refuse = |problem: String| Err(Error::usage(format!("{}: {problem}", path.display())));
    if format != ExportFormat::Pytorch {
        if path.is_dir() {
            return refuse("is a folder; name a file".into());
        }
        return Ok(path);
    }
    if !path.exists() {
        return Ok(path);
    }
    if !path.is_dir() {
        return refuse("is a file; name a folder".into());
    }
    let ours = [pytorch::TENSORS, pytorch::CONFIG, pytorch::LOADER, CACHE_OF_PYTHON];
    for entry in std::fs::read_dir(&path)? {
        let name = entry?.file_name();
        if !ours.iter().any(|ours| name == *ours) {
            let name = name.display();
            return refuse(format!("has {name}, which `export` did not write; choose another folder"));
        }
    }
    Ok(path)
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let path = self.path.display();
        let what = match (self.format, self.opset) {
            (_, Some(opset)) => format!("ONNX, opset {opset}"),
            ("pytorch", _) => "PyTorch, load.py".into(),
            _ => "model card".into(),
        };
        write!(f, "{path}: {what}")?;
        if let (Some(input), Some(output)) = (&self.input, &self.output) {
            write!(f, ", input {input}, output {output}")?;
        }
        Ok(())
    }
}
