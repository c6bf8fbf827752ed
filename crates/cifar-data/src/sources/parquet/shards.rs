//! Lists the parquet files of a data set in order, and checks that none is missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::layout::{self, Part};
use super::is_parquet;
use crate::names::{is_ignored, shown};
use crate::{DataError, Progress, Published, Result};

/// Returns the files of a folder in the order of their ids: `train*` before `test*`, each by their
/// numbers; or those of its folders train/ and test/.
///
/// # Errors
/// If one of the parts, or a shard of a part, is missing.
pub(super) fn in_folder(folder: &Path, progress: &dyn Progress) -> Result<Vec<(PathBuf, Published)>> {
    let names = tables(folder)?;
    if names.is_empty()
        && let layout::Parts { train: Some(train), test: Some(test), val } = layout::parts(folder)?
    {
        let mut files = Vec::new();
        for (part, published) in [(&train, Published::Train), (&test, Published::Test)] {
            let part = folder.join(part);
            let names = in_order(&part, tables(&part)?)?;
            files.extend(names.into_iter().map(|name| (part.join(name), published)));
        }
        if !val.is_empty() {
            warn_of_validation(folder, &val, progress);
        }
        return Ok(files);
    }
    let mut parts: BTreeMap<Published, Vec<String>> = BTreeMap::new();
    let mut validation = Vec::new();
    for name in &names {
        let published = match part_of(name) {
            Some(Part::Train) => Published::Train,
            Some(Part::Test) => Published::Test,
            Some(Part::Val) => {
                validation.push(name.clone());
                continue;
            }
            None => Published::None,
        };
        parts.entry(published).or_default().push(name.clone());
    }
    let there = [Published::Train, Published::Test, Published::None].map(|part| parts.contains_key(&part));
    if !matches!(there, [true, true, false] | [false, false, true]) {
        let found = names.join(", ");
        return Err(DataError::malformed(
            folder,
            format!("holds {found}; expected train*.parquet and test*.parquet, or files that are called neither"),
        ));
    }
    if !validation.is_empty() {
        warn_of_validation(folder, &validation, progress);
    }
    let mut files = Vec::new();
    for (published, names) in parts {
        files.extend(in_order(folder, names)?.into_iter().map(|name| (folder.join(name), published)));
    }
    Ok(files)
}

fn warn_of_validation(folder: &Path, names: &[String], progress: &dyn Progress) {
    let (folder, names) = (shown(folder), names.join(", "));
    progress.warn(&format!("{folder}: left out {names}; validation images are drawn from the training images"));
}

fn part_of(name: &str) -> Option<Part> {
    let start = |(word, part)| name.to_lowercase().starts_with(word).then_some(part);
    Part::of_file(name).or_else(|| [("train", Part::Train), ("test", Part::Test)].into_iter().find_map(start))
}

/// Returns the names of the parquet files in a folder.
fn tables(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io("read the folder", folder))? {
        let name = entry.map_err(DataError::io("read the folder", folder))?.file_name();
        let name = name.to_string_lossy().into_owned();
        if is_parquet(&name) && !is_ignored(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Returns the files of one part in the order of their numbers. No number may be missing.
fn in_order(folder: &Path, mut names: Vec<String>) -> Result<Vec<String>> {
    let wrong = |problem: String| Err(DataError::malformed(folder, problem));
    names.sort_by_cached_key(|name| (pieces(name), name.clone()));
    let shards: Vec<Option<Shard>> = names.iter().map(|name| Shard::of(name)).collect();
    if let Some(first) = shards.iter().flatten().next() {
        // Files whose names have the number of shards.
        let mut there: BTreeMap<u64, &String> = BTreeMap::new();
        for (name, shard) in names.iter().zip(&shards) {
            let Some(shard) = shard else {
                return wrong(format!(
                    "holds {} and {name}, which belong to different sets of shards; keep one",
                    first.name
                ));
            };
            if (shard.front, shard.count) != (first.front, first.count) {
                return wrong(format!(
                    "holds {} and {name}, which belong to different sets of shards; keep one",
                    first.name
                ));
            }
            if let Some(other) = there.insert(shard.number, name) {
                return wrong(format!("holds {other} and {name}, which have the same number; keep one"));
            }
        }
        // Stops at the number of files, so a huge claimed count takes no time.
        let missing = (0..first.count).find(|number| !there.contains_key(number));
        if let Some(number) = missing {
            return wrong(format!("holds {}, but not {}", first.name, first.sibling(number)));
        }
        if let Some((_, name)) = there.last_key_value().filter(|(number, _)| **number >= first.count) {
            return wrong(format!("holds {name}, whose number is not below {}", first.count));
        }
        return Ok(there.into_values().cloned().collect());
    }
    if let Some((before, missing)) = gap(&names) {
        return wrong(format!("holds {before}, but not {missing}"));
    }
    Ok(names)
}

/// A file called like `train-00000-of-00002.parquet`, perhaps with a hash after the numbers.
struct Shard<'a> {
    name: &'a str,
    front: &'a str,
    digits: usize,
    number: u64,
    count: u64,
    /// `of` with its separators.
    between: &'a str,
    /// The count as written, and the end of the name if it is the same for all.
    back: &'a str,
}

impl<'a> Shard<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let (stem, _) = name.rsplit_once('.')?;
        ["-of-", "_of_", "of"].into_iter().find_map(|between| {
            let (front, back) = stem.split_once(between)?;
            let digits = front.len() - front.trim_end_matches(|c: char| c.is_ascii_digit()).len();
            let (front, number) = front.split_at(front.len() - digits);
            let end = back.find(|c: char| !c.is_ascii_digit()).unwrap_or(back.len());
            let count = back[..end].parse().ok()?;
            Some(Self { name, front, digits, number: number.parse().ok()?, count, between, back: &back[..end] })
        })
    }

    /// Returns the name of the shard with this number, as far as known: not its hash.
    fn sibling(&self, number: u64) -> String {
        let Self { name, front, digits, between, back, .. } = self;
        let known = front.len() + digits + between.len() + back.len();
        let end = match name[known..].rsplit_once('.') {
            Some(("", extension)) => format!(".{extension}"),
            _ => "-….parquet".into(),
        };
        format!("{front}{number:0digits$}{between}{back}{end}")
    }
}

/// Runs of digits, as numbers, and the text between them: `train-2` comes before `train-10`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    Number(u64),
    Text(String),
}

fn pieces(name: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for run in name.as_bytes().chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()) {
        let text = String::from_utf8_lossy(run).into_owned();
        pieces.push(match text.parse() {
            Ok(number) => Piece::Number(number),
            Err(_) => Piece::Text(text),
        });
    }
    pieces
}

/// Returns a file and the missing one after or before it, if the names differ in one counting
/// number alone.
fn gap(names: &[String]) -> Option<(&String, String)> {
    let all: Vec<Vec<Piece>> = names.iter().map(|name| pieces(name)).collect();
    let (first, second) = (all.first()?, all.get(1)?);
    let place = (0..first.len()).find(|at| first.get(*at) != second.get(*at))?;
    let mut numbers = Vec::new();
    for pieces in &all {
        let same = pieces.len() == first.len() && (0..first.len()).all(|at| at == place || pieces[at] == first[at]);
        match pieces.get(place) {
            Some(Piece::Number(number)) if same => numbers.push(*number),
            _ => return None,
        }
    }
    // Numbers start at 0 or 1.
    let called = |number: u64, like: &str| {
        let before: usize = like
            .as_bytes()
            .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
            .take(place)
            .map(<[u8]>::len)
            .sum();
        let digits = like[before..].find(|c: char| !c.is_ascii_digit()).unwrap_or(like.len() - before);
        let width = if like[before..].starts_with('0') { digits } else { 0 };
        format!("{}{number:0width$}{}", &like[..before], &like[before + digits..])
    };
    if numbers[0] > 1 {
        return Some((&names[0], called(numbers[0] - 1, &names[0])));
    }
    let at = numbers.windows(2).position(|pair| pair[1] != pair[0] + 1)?;
    Some((&names[at], called(numbers[at] + 1, &names[at])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(names: &[&str]) -> Result<Vec<String>, String> {
        let names = names.iter().map(ToString::to_string).collect();
        in_order(Path::new("x"), names).map_err(|e| e.to_string())
    }

    #[track_caller]
    fn check(names: &[&str]) {
        let mut mixed = names.to_vec();
        mixed.reverse();
        mixed.rotate_left(1);
        assert_eq!(order(&mixed), Ok(names.iter().map(ToString::to_string).collect()));
    }

    #[test]
    fn files_are_ordered_by_their_numbers() {
        check(&["train.parquet"]);
        check(&["0000.parquet", "0001.parquet", "0002.parquet"]);
        check(&["train-0-of-2.parquet", "train-1-of-2.parquet"]);
        check(&["train_00000_of_00002.parquet", "train_00001_of_00002.parquet"]);
        check(&["train-00000-of-00002-ffaa.parquet", "train-00001-of-00002-00bb.parquet"]);
        check(&["train00of02.parquet", "train01of02.parquet"]);
        let many: Vec<String> = (1..12).map(|n| format!("train-{n}.parquet")).collect();
        check(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let many: Vec<String> = (0..12).map(|n| format!("part-{n}-0ab1.c000.parquet")).collect();
        check(&many.iter().map(String::as_str).collect::<Vec<_>>());
        // Names without a counter.
        check(&["cifar10.parquet"]);
        check(&["train-a.parquet", "train-b.parquet"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let check = |names: &[&str], problem: &str| assert_eq!(order(names), Err(format!("x: {problem}")));
        check(
            &["train-00000-of-00002-5a9b.parquet"],
            "holds train-00000-of-00002-5a9b.parquet, but not train-00001-of-00002-….parquet",
        );
        check(
            &["train-00001-of-00002.parquet"],
            "holds train-00001-of-00002.parquet, but not train-00000-of-00002.parquet",
        );
        check(
            &["t-0-of-18446744073709551615.parquet"],
            "holds t-0-of-18446744073709551615.parquet, but not t-1-of-18446744073709551615.parquet",
        );
        check(&["train-0.parquet", "train-2.parquet"], "holds train-0.parquet, but not train-1.parquet");
        check(
            &["train-008.parquet", "train-009.parquet", "train-011.parquet"],
            "holds train-008.parquet, but not train-007.parquet",
        );
        check(&["0000.parquet", "0001.parquet", "0003.parquet"], "holds 0001.parquet, but not 0002.parquet");
        check(
            &["train-0-of-1.parquet", "train.parquet"],
            "holds train-0-of-1.parquet and train.parquet, which belong to different sets of shards; keep one",
        );
        check(
            &["t-0-of-1-aa.parquet", "t-0-of-1-bb.parquet"],
            "holds t-0-of-1-aa.parquet and t-0-of-1-bb.parquet, which have the same number; keep one",
        );
        check(
            &["t-0-of-1.parquet", "t-0-of-2.parquet", "t-1-of-2.parquet"],
            "holds t-0-of-1.parquet and t-0-of-2.parquet, which belong to different sets of shards; keep one",
        );
        check(&["t-0-of-1.parquet", "t-1-of-1.parquet"], "holds t-1-of-1.parquet, whose number is not below 1");
    }
}
