//! `recipe`: lists the recipes, or writes one into params.yaml value by value, so that comments and
//! everything else stay.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cifar_model::{Architecture, Views};
use cifar_train::recipes::{FRONTIER_SIZES, NamedRecipe, TimedRecipe, recipe, recipe_within, recipes};
use cifar_train::{Recipe, TrainError, TrainParams, add_optional_keys, optional_keys};
use serde::Serialize;
use serde_json::{Value, json};

use super::precision::note_precision;
use super::training_speed::Subject;
use crate::params::Params;
use crate::{Context as _, Error, Project, Reporter, Result, bail, ensure};

/// The times that [`run_within`] takes, in minutes: six seconds to a day.
pub const MINUTES: std::ops::RangeInclusive<f64> = 0.1..=1440.0;

/// The label of the progress of [`run_within`].
const TIMED: &str = "networks timed";

/// The outcome of writing a recipe.
#[derive(Debug, Serialize)]
pub struct RecipeWritten {
    /// The recipe's name; none for a recipe within a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// What was chosen for a time.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub within: Option<Within>,
    /// The changes, as `block.key: old → new`.
    pub changed: Vec<String>,
    /// The file.
    #[serde(skip)]
    pub file: PathBuf,
}

/// A recipe within a time.
#[derive(Debug, Serialize)]
pub struct Within {
    /// The architecture.
    pub architecture: Architecture,
    /// Channels per block.
    pub widths: Vec<usize>,
    /// The epochs that fit.
    pub epochs: usize,
    /// Training images per second, as measured.
    pub images_per_second: f64,
    /// The time that training takes, as estimated.
    pub minutes: f64,
    /// Whether more epochs would fit, but were not measured to help.
    pub is_longest: bool,
    /// What the training images are, with their number.
    #[serde(skip)]
    images: String,
}

/// Writes the recipe `name` into params.yaml; comments stay.
///
/// # Errors
/// If there is no such recipe, or the file is invalid or has several values on a line.
pub fn run(project: &Project, name: &str) -> Result<RecipeWritten> {
    let NamedRecipe { recipe, views, .. } = named(name)?;
    // The precision belongs to the machine, not to the recipe.
    let precision = project.params()?.train.precision;
    let recipe = Recipe { train: TrainParams { precision, ..recipe.train }, model: recipe.model };
    Ok(RecipeWritten { recipe: Some(name.into()), ..write(project, &recipe, views)? })
}

/// Measures how fast networks train here, for some seconds, and writes the best known recipe for
/// `minutes` of training into params.yaml. Comments and `train.precision` stay.
///
/// The epochs suit the images of the prepared set, or else of the partitions, or else of CIFAR-10.
/// Networks that do not suit these images, or the memory, are left out.
///
/// # Errors
/// If `minutes` is not in [`MINUTES`] or too short for one epoch, no network suits, or the user
/// asks to stop. If the file is invalid or has several values on a line.
pub fn run_within(project: &Project, minutes: f64, reporter: &dyn Reporter) -> Result<RecipeWritten> {
    if !MINUTES.contains(&minutes) {
        let allowed = format!("allowed is {} to {}", MINUTES.start(), MINUTES.end());
        return Err(Error::usage(format!("minutes: {minutes} is not allowed; {allowed}")));
    }
    let params = project.params()?;
    let precision = params.train.precision;
    note_precision(precision, reporter)?;
    let subject = Subject::of(project, &params)?;
    let (mut timed, mut unsuitable) = (0, None);
    reporter.update(TIMED, timed, FRONTIER_SIZES as u64);
    let limit = Duration::from_secs_f64(60.0 * minutes);
    let found = recipe_within(limit, subject.counts, precision, |recipe| {
        let rate = subject.rate(recipe, reporter);
        timed += 1;
        reporter.update(TIMED, timed, FRONTIER_SIZES as u64);
        match rate {
            Err(problem) if !problem.is_cancelled() => {
                unsuitable = Some(problem);
                Ok(None)
            }
            other => other.map(Some),
        }
    });
    let found = found.map_err(|e: Error| match e {
        Error::Train(TrainError::TooShort { .. }) => {
            Error::usage(format!("{}; allow more time, or use fewer images (split.train_images)", e.one_line()))
        }
        other => other,
    })?;
    reporter.check()?;
    let Some(TimedRecipe { recipe, views, rate, duration, is_longest }) = found else {
        return Err(unsuitable.unwrap_or_else(|| Error::usage("no network suits these images")));
    };
    let within = Within {
        architecture: recipe.model.architecture,
        widths: recipe.model.widths.clone(),
        epochs: recipe.train.epochs,
        images_per_second: rate,
        minutes: duration.as_secs_f64() / 60.0,
        is_longest,
        images: subject.in_words,
    };
    let written = write(project, &recipe, views)?;
    Ok(RecipeWritten { within: Some(within), ..written })
}

/// Writes `recipe` into params.yaml.
fn write(project: &Project, recipe: &Recipe, views: Views) -> Result<RecipeWritten> {
    let path = &project.params_file;
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
    // The file must be valid before, or the rest of it would stay invalid.
    let known = project.known_partitions()?;
    let before = serde_json::to_string(&Params::read(path, &known)?)?;
    let (new_text, changed) = rewrite(&text, recipe, views, &before)?;
    let expected = {
        let mut params: Params = Params::read(path, &known)?;
        (params.model, params.train, params.evaluate.tta) = (recipe.model.clone(), recipe.train.clone(), views);
        params
    };
    let parsed = Params::parse_for(&new_text, &known).ok();
    ensure!(
        parsed.as_ref() == Some(&expected),
        "{}: cannot be changed line by line; write `key: value` on lines of their own, as in the file that came with the program",
        path.display()
    );
    cifar_data::output::write_file(path, new_text.as_bytes())?;
    Ok(RecipeWritten { recipe: None, within: None, changed, file: path.clone() })
}

/// Returns the text of a params.yaml with the values of the recipe `name`; comments stay.
///
/// # Errors
/// If there is no such recipe, or the text is no valid parameter file or has several values on a
/// line.
pub fn with_recipe(text: &str, name: &str) -> Result<String> {
    let before = serde_json::to_string(&Params::parse(text).map_err(Error::usage)?)?;
    let NamedRecipe { recipe, views, .. } = named(name)?;
    Ok(rewrite(text, &recipe, views, &before)?.0)
}

/// The params.yaml of the repository with the recipe `simple_cnn`. Tests name its values.
#[cfg(test)]
pub(crate) static SIMPLE_CNN: std::sync::LazyLock<String> =
    std::sync::LazyLock::new(|| with_recipe(include_str!("../../../../params.yaml"), "simple_cnn").unwrap());

fn named(name: &str) -> Result<NamedRecipe> {
    recipe(name).ok_or_else(|| {
        let names = recipes().map(|r| r.name).join(", ");
        Error::usage(format!("there is no recipe `{name}`; there are {names}"))
    })
}

impl fmt::Display for RecipeWritten {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some(name) = &self.recipe {
            write!(f, "{name}")?;
        }
        if let Some(within) = &self.within {
            write!(f, "{within}")?;
        }
        if self.changed.is_empty() {
            return write!(f, "\nnothing to change");
        }
        self.changed.iter().try_for_each(|change| write!(f, "\n  {change}"))
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { architecture, widths, epochs, images_per_second, minutes, is_longest, images } = self;
        write!(
            f,
            "{} with widths {widths:?}, {epochs} epochs over {images} at {images_per_second:.0} images/s: about \
             {minutes:.1} minutes{}",
            architecture.name(),
            if *is_longest { "; more epochs were not measured to help" } else { "" }
        )
    }
}

/// Returns the file with its values replaced by the recipe's, and the changes as
/// `block.key: old → new`. `before` has the values of the file as JSON.
fn rewrite(text: &str, recipe: &Recipe, views: Views, before: &str) -> Result<(String, Vec<String>)> {
    // Converted through text: an f32 converted to a JSON value directly would show digits that it
    // does not have.
    let block = |text: String| -> Result<Value> { Ok(serde_json::from_str(&text)?) };
    let mut new = block(serde_json::to_string(recipe)?)?;
    new["evaluate"] = json!({ "tta": views });
    add_optional_keys(&mut new);
    let mut before: Value = serde_json::from_str(before)?;
    add_optional_keys(&mut before);
    let (mut text, mut changed) = (text.to_string(), Vec::new());
    for block in ["model", "train", "evaluate"] {
        for (key, value) in new[block].as_object().into_iter().flatten() {
            let old = &before[block][key];
            if old != value {
                let is_optional = optional_keys().get(block).is_some_and(|keys| keys.contains_key(key));
                let changed_text = match set(&text, block, key, &shown(value)) {
                    // A file of an earlier version has no line of it.
                    Err(_) if is_optional => add(&text, block, key, &shown(value)),
                    result => result,
                };
                text = changed_text.with_context(|| format!("cannot find the line of `{block}.{key}`"))?;
                changed.push(format!("{block}.{key}: {} → {}", shown(old), shown(value)));
            }
        }
    }
    Ok((text, changed))
}

/// Returns a value as YAML.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Replaces the value on the line of `key` in the top-level `block`. A comment after it stays, in
/// its column if possible.
fn set(text: &str, block: &str, key: &str, value: &str) -> Result<String> {
    let mut within = false;
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    for line in &mut lines {
        if !line.starts_with([' ', '#']) && !line.is_empty() {
            within = line.trim_end().starts_with(&format!("{block}:"));
        }
        let Some(rest) = line.trim_start().strip_prefix(key).and_then(|rest| rest.strip_prefix(':')) else { continue };
        if within && line.starts_with(' ') {
            let indent = line.len() - line.trim_start().len();
            let start = format!("{}{key}: {value}", " ".repeat(indent));
            let comment = rest.find(" #").map(|at| (line.len() - rest.len() + at + 1, rest[at + 1..].to_string()));
            *line = match comment {
                // At least two spaces precede a comment.
                Some((column, comment)) => format!("{start:<width$}{comment}", width = column.max(start.len() + 2)),
                None => start,
            };
            return Ok(lines.join("\n") + "\n");
        }
    }
    bail!("it must be on a line of its own in the block `{block}`")
}

/// Adds a line for `key` after the first line of the top-level `block`, with the indent of the line
/// after it.
fn add(text: &str, block: &str, key: &str, value: &str) -> Result<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    let is_key = |line: &String| line.starts_with(' ') && !line.trim_start().starts_with('#');
    let start = lines
        .iter()
        .position(|line| line.trim_end() == format!("{block}:") || line.starts_with(&format!("{block}: #")));
    let Some((start, next)) =
        start.and_then(|start| Some((start, lines[start + 1..].iter().find(|line| is_key(line))?)))
    else {
        bail!("the block `{block}` must start with `{block}:` on a line of its own");
    };
    let indent = " ".repeat(next.len() - next.trim_start().len());
    lines.insert(start + 1, format!("{indent}{key}: {value}"));
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../../params.yaml");

    #[test]
    fn every_recipe_can_be_applied_and_reverted() {
        for recipe in recipes() {
            let before = serde_json::to_string(&Params::parse(SHIPPED).unwrap()).unwrap();
            let (text, _) = rewrite(SHIPPED, &recipe.recipe, recipe.views, &before).unwrap();
            let found = Params::parse(&text).unwrap();
            assert_eq!((&found.model, &found.train), (&recipe.recipe.model, &recipe.recipe.train), "{}", recipe.name);
            assert_eq!(text.matches('#').count(), SHIPPED.matches('#').count(), "comments stay");
            // A recipe decides the whole block `train`.
            let text = text.replace("class_weights: none", "class_weights: balanced");
            let before = serde_json::to_string(&Params::parse(&text).unwrap()).unwrap();
            let first = &recipes()[0];
            let (back, _) = rewrite(&text, &first.recipe, first.views, &before).unwrap();
            assert_eq!(Params::parse(&back).unwrap(), Params::parse(SHIPPED).unwrap());
        }
    }

    #[test]
    fn the_shipped_file_is_the_first_recipe() {
        let before = serde_json::to_string(&Params::parse(SHIPPED).unwrap()).unwrap();
        let first = &recipes()[0];
        let found = rewrite(SHIPPED, &first.recipe, first.views, &before).unwrap();
        assert_eq!(found, (SHIPPED.to_string(), Vec::new()));
    }

    #[test]
    fn a_line_keeps_its_comment_and_its_block() {
        let check = |text: &str, expected: &str| assert_eq!(set(text, "b", "k", "[1, 2]").unwrap(), expected);
        check("a:\n  k: 1\nb:\n  k: 2   # why\n", "a:\n  k: 1\nb:\n  k: [1, 2]  # why\n");
        check("b:\n  k: 2\n  kk: 3\n", "b:\n  k: [1, 2]\n  kk: 3\n");
        check("b:  # block\n# k: 7\n\n  k: 2          # why", "b:  # block\n# k: 7\n\n  k: [1, 2]     # why\n");
        assert!(set("b: {k: 2}\n", "b", "k", "1").is_err());
        let added = |text: &str| add(text, "b", "k", "3").ok();
        assert_eq!(
            added("a:\n  k: 1\nb:\n\n    # x\n    l: 2\n").as_deref(),
            Some("a:\n  k: 1\nb:\n    k: 3\n\n    # x\n    l: 2\n")
        );
        assert_eq!(added("b: {l: 2}\n"), None);
    }
}
