//! Parameters that are set for one command, without a change of params.yaml.

use serde_json::Value;

use super::{Params, Setting, VERSION, choose_partitions, syntax};
use crate::{Error, Result};
use cifar_data::partitions::Partition;
use cifar_train::current_key;

/// The option that sets a parameter.
const OPTION: &str = "--set";

/// Reads arguments such as `train.epochs=5` and `model.widths=[8, 8, 8]`. Values are YAML.
///
/// ```
/// use cifar_pipeline::params::{parse_settings, shown_settings};
///
/// let settings = parse_settings(&["train.epochs=5", "model.widths=[8, 8, 8]"])?;
/// assert_eq!(settings["train.epochs"], 5);
/// assert_eq!(shown_settings(&settings), "--set model.widths=[8,8,8] --set train.epochs=5");
/// assert!(parse_settings(&["train.epochs"]).is_err());
/// # Ok::<(), cifar_pipeline::Error>(())
/// ```
///
/// # Errors
/// If an argument has no `=`, a value is not YAML, or a key is given twice. Whether there is such a
/// parameter, and whether it may have this value, is checked with the file
/// ([`crate::Project::params`]).
pub fn parse_settings<S: AsRef<str>>(arguments: &[S]) -> Result<Setting> {
    let mut settings = Setting::new();
    for argument in arguments.iter().map(AsRef::as_ref) {
        let wrong = |problem: &str| Error::usage(format!("{OPTION} {argument}: {problem}"));
        let expected = "expected KEY=VALUE, such as train.epochs=5";
        let (key, value) = argument.split_once('=').ok_or_else(|| wrong(expected))?;
        let (key, text) = (current_key(key.trim()), value.trim());
        if key.is_empty() || text.is_empty() {
            return Err(wrong(expected));
        }
        let value: Value = serde_saphyr::from_str(text).map_err(|e| {
            let problem = syntax::in_plain_words(text, &e);
            // There is only one line.
            wrong(problem.split_once(": ").map_or(problem.as_str(), |(_, problem)| problem))
        })?;
        if settings.insert(key.to_string(), value).is_some() {
            return Err(wrong(&format!("{key} is set twice")));
        }
    }
    Ok(settings)
}

/// Returns settings as they are typed; empty for none.
pub fn shown_settings(settings: &Setting) -> String {
    settings.iter().map(|(key, value)| shown(key, value)).collect::<Vec<_>>().join(" ")
}

fn shown(key: &str, value: &Value) -> String {
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    format!("{OPTION} {key}={value}")
}

/// Returns `params` with other values for some keys, checked like the file. `known` are the
/// partitions that `dataset_version` may name.
///
/// # Errors
/// [`Error::Usage`] that names the option and the key.
pub(crate) fn with_settings(params: Params, settings: &Setting, known: &[Partition]) -> Result<Params> {
    if settings.is_empty() {
        return Ok(params);
    }
    let mut settings = settings.clone();
    let chosen = settings.get_mut(VERSION).map_or(Ok(()), |version| choose_partitions(version, known));
    chosen.and_then(|()| params.with(&settings)).map_err(|problem| {
        // The key with the wrong value may be one of the file that does not suit a key that was set.
        let own = settings.keys().find(|key| {
            problem.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with([':', '[', '.']))
                || problem.contains(&format!("`{key}`"))
        });
        Error::usage(match own {
            Some(key) => {
                let problem = problem.strip_prefix(&format!("{key}: ")).unwrap_or(&problem);
                format!("{OPTION} {key}: {problem}")
            }
            None => format!("{}: {problem}", shown_settings(&settings)),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::recipe::SIMPLE_CNN;

    fn set(arguments: &[&str]) -> Result<Params> {
        with_settings(Params::parse(&SIMPLE_CNN).unwrap(), &parse_settings(arguments)?, &Partition::FIRST)
    }

    #[test]
    fn values_are_those_of_an_edited_file() {
        let edited = (SIMPLE_CNN.replace("epochs: 15", "epochs: 5"))
            .replace("widths: [32, 64, 128]", "widths: [8, 8, 8]")
            .replace("dataset_version: v1", "dataset_version: v1+v2")
            .replace("use_tuned: false", "use_tuned: true")
            .replace("learning_rate: 0.1", "learning_rate: 5e-2");
        let arguments = [
            "train.epochs=5",
            "model.widths=[8, 8, 8]",
            "dataset_version=v1+v2",
            "train.use_tuned=true",
            "train.learning_rate=5e-2",
        ];
        assert_eq!(set(&arguments).unwrap(), Params::parse(&edited).unwrap());
        // The former name of a key.
        assert!((set(&["train.head_rate=2"]).unwrap().train.head_lr_scale - 2.0).abs() < f64::EPSILON);
        assert_eq!(set(&[]).unwrap(), Params::parse(&SIMPLE_CNN).unwrap());
    }

    #[test]
    fn errors_name_the_option_and_the_key() {
        let check = |arguments: &[&str], expected: &str| {
            let error = set(arguments).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage);
            assert_eq!(error.to_string(), expected);
        };
        check(&["train.epochs=0"], "--set train.epochs: 0 is not allowed; allowed is 1 to 100000");
        check(
            &["train.epochs=many"],
            "--set train.epochs: \"many\" is not allowed; expected a whole number, 0 or more",
        );
        check(
            &["train.epoch=5"],
            "--set train.epoch: there is no parameter `train.epoch`; did you mean `train.epochs`?",
        );
        check(&["epochs=5"], "--set epochs: there is no parameter `epochs`; did you mean `train.epochs`?");
        check(&["train.epochs"], "--set train.epochs: expected KEY=VALUE, such as train.epochs=5");
        check(&["train.epochs="], "--set train.epochs=: expected KEY=VALUE, such as train.epochs=5");
        check(&["train.epochs=5", "train.epochs=6"], "--set train.epochs=6: train.epochs is set twice");
        check(
            &["model.widths=[8, 8"],
            "--set model.widths=[8, 8: not valid YAML: `[` is not closed on its line, in `[8, 8`",
        );
        check(
            &["train.momentum=.nan"],
            "--set train.momentum=.nan: not valid YAML: `.nan` is not a finite number, in `.nan`",
        );
        // The value of the file does not suit the one that is set.
        check(
            &["model.architecture=airbench94", "train.epochs=5"],
            "--set model.architecture=airbench94 --set train.epochs=5: model.dropout: 0.3 is not allowed; \
             airbench94 has no dropout; set it to 0",
        );
    }
}
