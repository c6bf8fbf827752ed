//! Parses experiments.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cifar_data::partitions::Partition;
use cifar_model::Precision;
use cifar_pipeline::params::wording::in_plain_words;
use cifar_pipeline::params::{Params, Setting, VERSION, choose_partitions, text_of};
use cifar_pipeline::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use super::{CONSTANT_STEPS, ConstantSteps, EPOCHS, Grid, Run, SlurmParams};

/// The grid without a file: that of the original project.
pub const USUAL: &str = include_str!("usual_grid.toml");
const SEED: &str = "random_seed";
/// Keys that decide which images are for testing. Runs that differ in them have no common test
/// images.
const FIXED: [&str; 3] = ["split.protocol", "split.split_seed", "split.test_fraction"];
const MOST_RUNS: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    constant_steps: Option<toml::Value>,
    grid: toml::Table,
    #[serde(default)]
    slurm: SlurmParams,
    #[serde(default)]
    include: Vec<toml::Table>,
    #[serde(default)]
    exclude: Vec<toml::Table>,
}

/// The values of each key.
type Lists = BTreeMap<String, Vec<Value>>;

/// Returns the error for a mistake in experiments.toml at `path`.
pub(crate) fn wrong(path: &Path, problem: &str) -> Error {
    Error::usage(format!("{}: {problem}", path.display()))
}

/// Reads the file, or the default grid if there is none, with `base` as parameters. The values of
/// `dataset_version` may name the partitions in `known`, and `all` means these.
///
/// # Errors
/// The line or key, what is wrong with it and what is allowed.
pub fn read(path: &Path, base: &Params, known: &[Partition]) -> Result<Grid> {
    let wrong = |problem: String| wrong(path, &problem);
    match std::fs::read(path) {
        Ok(bytes) => parse_for(&text_of(bytes).map_err(wrong)?, base, known).map_err(wrong),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => parse_for(USUAL, base, known).map_err(wrong),
        Err(e) => Err(wrong(format!("cannot read the grid: {e}"))),
    }
}

#[cfg(test)]
pub(super) fn parse(text: &str, base: &Params) -> Result<Grid, String> {
    parse_for(text, base, &Partition::FIRST)
}

fn parse_for(text: &str, base: &Params, known: &[Partition]) -> Result<Grid, String> {
    let file: File = toml::from_str(text).map_err(|e| {
        let before = e.span().map_or("", |span| text.get(..span.start).unwrap_or(text));
        let (line, last) = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default());
        let cause = toml_in_plain_words(e.message());
        let quoted = text.lines().nth(line - 1).map(|line| line.split(" #").next().unwrap_or(line).trim());
        let quoted = quoted.filter(|line| !line.is_empty()).map(|line| format!(", in `{line}`")).unwrap_or_default();
        format!("line {line}, column {}: {cause}{quoted}", last.chars().count() + 1)
    })?;
    file.slurm.check()?;
    let constant_steps = constant_steps(file.constant_steps.as_ref())?;
    let lists = |place: &str, table: &toml::Table| {
        let mut lists = lists(place, table)?;
        for version in lists.get_mut(VERSION).into_iter().flatten() {
            choose_partitions(version, known)?;
        }
        Ok::<_, String>(lists)
    };
    let grid = lists("[grid]", &file.grid)?;
    let refuse_epochs = |place: &str, lists: &Lists| match constant_steps {
        Some(_) if lists.contains_key(EPOCHS) => {
            Err(format!("{place}: {EPOCHS} is not allowed with {CONSTANT_STEPS}, which sets it; leave out one of them"))
        }
        _ => Ok(()),
    };
    refuse_epochs("[grid]", &grid)?;
    let mut settings = combinations(&grid)?;
    for (index, table) in (1..).zip(&file.include) {
        let place = format!("[[include]] number {index}");
        let mut wanted = lists(&place, table)?;
        refuse_epochs(&place, &wanted)?;
        if let (None, Some(seeds)) = (wanted.get(SEED), grid.get(SEED)) {
            wanted.insert(SEED.into(), seeds.clone());
        }
        settings.extend(combinations(&wanted)?);
    }
    let mut runs: Vec<(Setting, Params)> = Vec::new();
    for mut setting in settings {
        let params = base.with(&setting)?;
        if params.train.precision == Precision::Auto {
            return Err("train.precision: auto is not allowed in a grid, since runs on other processors would differ; name f32 or bf16".into());
        }
        setting.insert(VERSION.into(), params.dataset_version.to_string().into());
        setting.insert(SEED.into(), params.random_seed.into());
        if !runs.iter().any(|(_, other)| *other == params) {
            runs.push((setting, params));
        }
    }
    for (index, table) in (1..).zip(&file.exclude) {
        let place = format!("[[exclude]] number {index}");
        let without = lists(&place, table)?;
        let before = runs.len();
        let mut kept = Vec::new();
        for (setting, params) in runs {
            if !matches(&params, &without)? {
                kept.push((setting, params));
            }
        }
        runs = kept;
        if runs.len() == before {
            return Err(format!("{place} excludes no run; a run is excluded if it has one of the values of every key"));
        }
    }
    if runs.is_empty() {
        return Err("the grid has no runs".into());
    }
    Ok(Grid { runs: named(&runs)?, slurm: file.slurm, constant_steps })
}

fn constant_steps(value: Option<&toml::Value>) -> Result<Option<ConstantSteps>, String> {
    match value {
        None | Some(toml::Value::Boolean(false)) => Ok(None),
        Some(toml::Value::Boolean(true)) => Ok(Some(ConstantSteps::Most)),
        Some(toml::Value::Integer(steps)) if *steps >= 1 => {
            Ok(Some(ConstantSteps::Number(usize::try_from(*steps).unwrap_or(usize::MAX))))
        }
        Some(other) => Err(format!(
            "{CONSTANT_STEPS}: {other} is not allowed; allowed are true, false and a whole number of steps, 1 or more"
        )),
    }
}

/// Rewrites a message of the TOML parser as the cause and what is expected.
fn toml_in_plain_words(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let says = |part: &str| first.contains(part);
    let cause = if says("must be quoted") || says("literal string") {
        "text must be in quotation marks"
    } else if says("unclosed table") || says("invalid table header") {
        "a block's name must be in brackets, such as `[grid]`"
    } else if says("array") && !says("duplicate") {
        "a list must be closed, and have commas between its values, such as `[1, 2]`"
    } else if says("duplicate key") {
        "this key appears twice; keep one of them"
    } else if says("missing value") || says("key with no value") || says("expected `=`") {
        "expected `key = value`"
    } else if says("invalid basic string") || says("invalid literal string") || says("unclosed string") {
        "a quotation mark is not closed on its line"
    } else if first.starts_with("invalid type") || first.starts_with("unknown ") || first.starts_with("missing field") {
        return in_plain_words(first);
    } else {
        "not valid TOML; expected `key = value`, or a block's name such as `[grid]`"
    };
    cause.to_string()
}

/// Returns a table's keys with their lists. `a.b = [1]` and `"a.b" = [1]` are equivalent, and a
/// single value is a list of one.
fn lists(place: &str, table: &toml::Table) -> Result<Lists, String> {
    fn walk(place: &str, prefix: &str, table: &toml::Table, found: &mut Lists) -> Result<(), String> {
        for (key, value) in table {
            let key = format!("{prefix}{key}");
            match value {
                toml::Value::Table(inner) => walk(place, &format!("{key}."), inner, found)?,
                other => {
                    let value = serde_json::to_value(other).map_err(|e| format!("{place}: {key}: {e}"))?;
                    let values = if let Value::Array(values) = value { values } else { vec![value] };
                    if values.is_empty() {
                        return Err(format!("{place}: {key}: an empty list is not allowed; leave the key out"));
                    }
                    if key == CONSTANT_STEPS {
                        return Err(format!("{place}: {CONSTANT_STEPS} is not a parameter; write it above [grid]"));
                    }
                    if FIXED.contains(&key.as_str()) {
                        return Err(format!(
                            "{place}: {key} is not allowed; it decides which images are for testing, and runs are compared on the same images"
                        ));
                    }
                    found.insert(key, values);
                }
            }
        }
        Ok(())
    }
    let mut found = Lists::new();
    walk(place, "", table, &mut found)?;
    if found.is_empty() {
        return Err(format!("{place}: at least one key with values is needed"));
    }
    Ok(found)
}

/// Returns every combination of values; partitions vary slowest, seeds fastest.
fn combinations(lists: &Lists) -> Result<Vec<Setting>, String> {
    let count = lists.values().try_fold(1usize, |n, values| n.checked_mul(values.len()));
    if count.is_none_or(|n| n > MOST_RUNS) {
        return Err(format!("more than {MOST_RUNS} runs are not allowed"));
    }
    let mut keys: Vec<&String> = lists.keys().collect();
    keys.sort_by_key(|key| (*key == SEED, *key != VERSION, *key));
    let extend = |settings: Vec<Setting>, key: &&String| {
        let with = |setting: &Setting, value: &Value| {
            let mut setting = setting.clone();
            setting.insert((*key).clone(), value.clone());
            setting
        };
        settings.iter().flat_map(|s| lists[*key].iter().map(|value| with(s, value)).collect::<Vec<_>>()).collect()
    };
    Ok(keys.iter().fold(vec![Setting::new()], extend))
}

/// Returns whether `params` has one of the values of every key.
fn matches(params: &Params, lists: &Lists) -> Result<bool, String> {
    for (key, values) in lists {
        let mut found = false;
        for value in values {
            found |= params.with(&Setting::from([(key.clone(), value.clone())]))? == *params;
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

fn named(runs: &[(Setting, Params)]) -> Result<Vec<Run>, String> {
    let keys: BTreeSet<&String> = runs.iter().flat_map(|(setting, _)| setting.keys()).collect();
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_string();
    let short = |key: &str| {
        let unique = keys.iter().filter(|other| last(other) == last(key)).count() == 1;
        if unique { last(key) } else { key.to_string() }
    };
    let mut taken = BTreeSet::new();
    let mut named = Vec::new();
    for (setting, params) in runs {
        let others = setting.iter().filter(|(key, _)| *key != VERSION && *key != SEED);
        let parts: Vec<String> = others.map(|(key, value)| format!("-{}{}", short(key), in_name(value))).collect();
        let combination = format!("{}{}", params.dataset_version, parts.concat());
        let name = format!("{combination}-seed{}", params.random_seed);
        if !taken.insert(name.clone()) {
            return Err(format!("two different runs would be called {name}; leave one of them out"));
        }
        named.push(Run { name, combination, setting: setting.clone(), params: params.clone() });
    }
    Ok(named)
}

/// Returns a value as part of a name that is valid for files and git.
fn in_name(value: &Value) -> String {
    match value {
        Value::Array(items) => items.iter().map(in_name).collect::<Vec<_>>().join("x"),
        Value::String(text) => text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '+', "_"),
        other => other.to_string().replace(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c), "_"),
    }
}

#[cfg(test)]
pub(super) fn base() -> Params {
    let shipped = include_str!("../../../../params.yaml");
    Params::parse(&cifar_pipeline::stages::recipe::with_recipe(shipped, "simple_cnn").unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        parse(text, &base()).unwrap().runs.into_iter().map(|run| run.name).collect()
    }

    #[test]
    fn the_default_grid_is_the_file_of_the_project() {
        assert_eq!(USUAL, include_str!("../../../../experiments.toml"));
    }

    #[test]
    fn the_shipped_grid_has_the_fifteen_runs_of_the_original_project() {
        let Grid { runs, slurm, constant_steps } = parse(USUAL, &base()).unwrap();
        assert_eq!((runs.len(), slurm, constant_steps), (15, SlurmParams::default(), None));
        assert_eq!((runs[0].name.as_str(), runs[14].name.as_str()), ("v1-seed42", "v1+v2+v3-seed456"));
        assert_eq!(runs[10].combination, "v1+v2");
        let changed = base().with(&runs[10].setting).unwrap();
        assert_eq!((&changed, changed.random_seed), (&runs[10].params, 123));
    }

    #[test]
    fn grid_multiplies_include_adds_and_exclude_removes() {
        assert_eq!(
            names("[grid]\nrandom_seed = [1, 2]\ntrain.epochs = [3, 4]\n"),
            ["v1-epochs3-seed1", "v1-epochs3-seed2", "v1-epochs4-seed1", "v1-epochs4-seed2"]
        );
        let grid = "[grid]\nrandom_seed = [1, 2]\n";
        assert_eq!(
            names(&format!("{grid}[[include]]\n\"split.train_images\" = 50\n[[include]]\nrandom_seed = [2]\n")),
            ["v1-seed1", "v1-seed2", "v1-train_images50-seed1", "v1-train_images50-seed2"]
        );
        assert_eq!(
            names(&format!("{grid}train.epochs = [3, 4]\n[[exclude]]\ntrain.epochs = [4, 5]\nrandom_seed = 1\n")),
            ["v1-epochs3-seed1", "v1-epochs3-seed2", "v1-epochs4-seed2"]
        );
        assert_eq!(
            names("[grid]\nmodel.widths = [[8, 16, 32]]\ntrain.reduction = ['sum']\ntune.reduction = [3]\n"),
            ["v1-widths8x16x32-train.reductionsum-tune.reduction3-seed42"]
        );
    }

    #[test]
    fn a_grid_may_name_any_partitions() {
        let known: Vec<Partition> = (1..=4).filter_map(Partition::new).collect();
        let grid =
            "[grid]\ndataset_version = ['v4+v1', 'all', 'v1+v4', 'v2+v3']\n[[exclude]]\ndataset_version = 'v3+v2'\n";
        let Grid { runs, .. } = parse_for(grid, &base(), &known).unwrap();
        let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(names, ["v1+v4-seed42", "v1+v2+v3+v4-seed42"]);
        assert_eq!(runs[1].setting[VERSION], "v1+v2+v3+v4");
    }

    #[test]
    fn errors_name_the_allowed_values() {
        let check = |text: &str, expected: &str| {
            let found = parse(text, &base()).unwrap_err();
            assert!(found.starts_with(expected), "{found}");
            assert_eq!(found.lines().count(), 1);
        };
        check("[grid]\ntrain.precision = ['f32', 'auto']\n", "train.precision: auto is not allowed in a grid, ");
        let block = "a block's name must be in brackets, such as `[grid]`, in `[grid`";
        check("[grid\n", &format!("line 1, column 6: {block}"));
        check("[grid]\nrandom_seed = [1, 2\n", "line 2, column ");
        check("[grid]\nrandom_seed [1]\n", "line 2, column ");
        check(
            "[grid]\ntrain.select = [best]\n",
            "line 2, column 17: text must be in quotation marks, in `train.select = [best]`",
        );
        check(
            "[grid]\nrandom_seed = 1\nrandom_seed = 2\n",
            "line 3, column 1: this key appears twice; keep one of them, in ",
        );
        check(
            "[gird]\n",
            "line 1, column 2: unknown key `gird`; allowed are constant_steps, grid, slurm, include, exclude",
        );
        check("[grid]\n", "[grid]: at least one key with values is needed");
        check("[grid]\nrandom_seed = []\n", "[grid]: random_seed: an empty list is not allowed; leave the key out");
        check("[grid]\ntrain.epoch = [1]\n", "there is no parameter `train.epoch`; did you mean `train.epochs`?");
        check("[grid]\ntrain = 1\n", "there is no parameter `train`; did you mean `train.");
        check("[grid]\ntrain.epochs = [0]\n", "train.epochs: 0 is not allowed; allowed is 1 to 100000");
        check("[grid]\nrandom_seed = ['x']\n", "random_seed: \"x\" is not allowed; expected a whole number");
        check("[grid]\ndataset_version = ['v4']\n", "dataset_version: \"v4\" is not allowed; there is no v4; the ");
        check("[grid]\ndataset_version = ['v1-v3']\n", "dataset_version: \"v1-v3\" is not allowed; allowed are ");
        check("[grid]\nsplit.split_seed = [1]\n", "[grid]: split.split_seed is not allowed; it decides");
        check("[grid]\nrandom_seed = 1\n[[exclude]]\nrandom_seed = 2\n", "[[exclude]] number 1 excludes no run");
        check("[grid]\nrandom_seed = 1\n[[exclude]]\nrandom_seed = 1\n", "the grid has no runs");
        check("constant_steps = 0\n[grid]\nrandom_seed = 1\n", "constant_steps: 0 is not allowed; allowed are true, ");
        check("constant_steps = 'x'\n[grid]\nrandom_seed = 1\n", "constant_steps: \"x\" is not allowed; allowed are");
        check("[grid]\nconstant_steps = true\n", "[grid]: constant_steps is not a parameter; write it above [grid]");
        let both = "is not allowed with constant_steps, which sets it";
        check("constant_steps = true\n[grid]\ntrain.epochs = 3\n", &format!("[grid]: train.epochs {both}"));
        check(
            "constant_steps = 9\n[grid]\nrandom_seed = 1\n[[include]]\ntrain.epochs = 3\n",
            &format!("[[include]] number 1: train.epochs {both}"),
        );
        let slurm =
            |line: &str, expected: &str| check(&format!("[grid]\nrandom_seed = 1\n[slurm]\n{line}\n"), expected);
        slurm("cpus = 1", "line 4, column 1: unknown key `cpus`; allowed are partition, cpus_per_task, ");
        slurm("memory = 4", "line 4, column 10: 4 is not allowed; expected text");
        slurm("cpus_per_task = 0", "[slurm]: cpus_per_task: 0 is not allowed; allowed is 1 to 1024");
        slurm("poll_seconds = 0", "[slurm]: poll_seconds: 0 is not allowed; allowed is 1 to 3600");
        slurm("memory = '4 GB'", "[slurm]: memory: \"4 GB\" is not allowed; allowed is a number with K, M, G or T");
        slurm("time_limit = '2h'", "[slurm]: time_limit: \"2h\" is not allowed; allowed is a time as Slurm writes it");
        slurm("start_timeout = '0'", "[slurm]: start_timeout: \"0\" is not allowed; ");
        slurm("partition = 'a b'", "[slurm]: partition: \"a b\" is not allowed; ");
        slurm(
            "options = ['-p main']",
            "[slurm]: options: \"-p main\" is not allowed; allowed are sbatch's long options",
        );
        slurm("options = ['--array=1']", "[slurm]: options: --array is not allowed; allowed are account, ");
        let many: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        let many = many.join(",");
        check(
            &format!("[grid]\nrandom_seed = [{many}]\nsplit.train_images = [{many}]\n"),
            "more than 10000 runs are not allowed",
        );
    }
}
