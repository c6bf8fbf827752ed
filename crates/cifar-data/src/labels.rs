//! What people say of labels, kept in git, header-only to begin with: `labels/overrides.csv` with the columns `id,label`, and
//! `labels/review.csv` with the columns `id,decision,label,note`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{DataError, Result, SampleId};

/// Reads the overrides: the new label (an index into `classes`) of each image that has one.
///
/// # Errors
/// If the file is missing, has other columns, an id that is no number or stands twice, or an unknown class.
pub fn read_overrides(path: &Path, classes: &[String]) -> Result<BTreeMap<SampleId, u16>> {
    let text = std::fs::read(path).map_err(DataError::io("read", path))?;
    let mut csv = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_slice());
    let columns = csv.headers().map_err(|e| DataError::malformed(path, e.to_string()))?;
    if columns.iter().ne(["id", "label"]) {
        let found = columns.iter().collect::<Vec<_>>().join(",");
        return Err(DataError::malformed(path, format!("has the columns {found:?}; expected id,label")));
    }
    let mut overrides = BTreeMap::new();
    for (index, record) in csv.records().enumerate() {
        let line = index as u64 + 2;
        let record = record.map_err(|_| DataError::line(path, line, "expected two fields, id and label"))?;
        let id = record[0]
            .parse()
            .map(SampleId)
            .map_err(|_| DataError::line(path, line, format!("id {:?} is no number", &record[0])))?;
        let label = classes.iter().position(|c| *c == record[1]).ok_or_else(|| {
            DataError::line(
                path,
                line,
                format!("unknown class {:?}; the classes are {}", &record[1], classes.join(", ")),
            )
        })?;
        if overrides.insert(id, label as u16).is_some() {
            return Err(DataError::line(path, line, format!("id {id} stands twice")));
        }
    }
    Ok(overrides)
}

/// What a person decided about an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// `accept`: it gets the label that was suggested, which stands in the column `label`.
    Accept(u16),
    /// `relabel`: it gets another label, which stands there too.
    Relabel(u16),
    /// `drop`: nothing is learnt from it or chosen by it.
    Drop,
    /// `dismiss`: its label is right, and it is not to be flagged again.
    Dismiss,
}

impl Decision {
    /// The name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept(_) => "accept",
            Self::Relabel(_) => "relabel",
            Self::Drop => "drop",
            Self::Dismiss => "dismiss",
        }
    }

    /// The label that the image is to have.
    pub fn label(self) -> Option<u16> {
        match self {
            Self::Accept(label) | Self::Relabel(label) => Some(label),
            Self::Drop | Self::Dismiss => None,
        }
    }
}

/// What a person said of an image: a line of `labels/review.csv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// What to do with it.
    pub decision: Decision,
    /// A remark for people; may be empty.
    pub note: String,
}

/// Reads the decisions, by image. Further columns, and lines without a decision, are passed over: a table of candidates may be filled in.
///
/// # Errors
/// If the file is missing, lacks a column, has an id that is no number or stands twice, or an unknown decision or class.
pub fn read_review(path: &Path, classes: &[String]) -> Result<BTreeMap<SampleId, Review>> {
    let text = std::fs::read(path).map_err(DataError::io("read", path))?;
    let mut csv = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_slice());
    let columns = csv.headers().map_err(|e| DataError::malformed(path, e.to_string()))?.clone();
    let column = |name: &str| {
        let found = columns.iter().collect::<Vec<_>>().join(",");
        let problem = format!("has the columns {found:?}; expected id,decision,label,note");
        columns.iter().position(|c| c == name).ok_or_else(|| DataError::malformed(path, problem))
    };
    let (id, decision, label) = (column("id")?, column("decision")?, column("label")?);
    let note = column("note").ok();
    let mut review = BTreeMap::new();
    for (index, record) in csv.records().enumerate() {
        let wrong = |problem: String| DataError::line(path, index as u64 + 2, problem);
        let record = record.map_err(|e| wrong(e.to_string()))?;
        let class = || {
            classes.iter().position(|c| *c == record[label]).map(|k| k as u16).ok_or_else(|| {
                wrong(format!("unknown class {:?}; the classes are {}", &record[label], classes.join(", ")))
            })
        };
        let decision = match &record[decision] {
            "" => continue,
            "accept" => Decision::Accept(class()?),
            "relabel" => Decision::Relabel(class()?),
            "drop" => Decision::Drop,
            "dismiss" => Decision::Dismiss,
            other => {
                return Err(wrong(format!(
                    "unknown decision {other:?}; allowed are accept, relabel, drop, dismiss, or nothing"
                )));
            }
        };
        let id = record[id].parse().map(SampleId).map_err(|_| wrong(format!("id {:?} is no number", &record[id])))?;
        let note = note.map(|note| record[note].to_string()).unwrap_or_default();
        if review.insert(id, Review { decision, note }).is_some() {
            return Err(wrong(format!("id {id} stands twice")));
        }
    }
    Ok(review)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: std::result::Result<&[(u32, u16)], &str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("overrides.csv");
        std::fs::write(&path, text).unwrap();
        let classes = ["cat".to_string(), "dog".to_string()];
        let found = read_overrides(&path, &classes).map_err(|e| e.to_string());
        let expected = expected
            .map(|rows| rows.iter().map(|(id, label)| (SampleId(*id), *label)).collect())
            .map_err(|message| format!("{}{message}", path.display()));
        assert_eq!(found, expected);
    }

    #[test]
    fn reviews_are_read_or_refused_with_the_line() {
        let check = |text: &str, expected: std::result::Result<&[(u32, Decision, &str)], &str>| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("review.csv");
            std::fs::write(&path, text).unwrap();
            let found = read_review(&path, &["cat".to_string(), "dog".to_string()]).map_err(|e| e.to_string());
            let expected = expected
                .map(|rows| {
                    let review =
                        |decision: &Decision, note: &&str| Review { decision: *decision, note: (*note).to_string() };
                    rows.iter().map(|(id, decision, note)| (SampleId(*id), review(decision, note))).collect()
                })
                .map_err(|message| format!("{}{message}", path.display()));
            assert_eq!(found, expected);
        };
        check("id,decision,label,note\n", Ok(&[]));
        check(
            "id,decision,label,note,split\n7,accept,dog,,train\n3, relabel, cat,x,val\n4,drop,,,\n5,dismiss,,,\n6,,dog,,\n",
            Ok(&[
                (3, Decision::Relabel(0), "x"),
                (4, Decision::Drop, ""),
                (5, Decision::Dismiss, ""),
                (7, Decision::Accept(1), ""),
            ]),
        );
        check("id,label\n", Err(": has the columns \"id,label\"; expected id,decision,label,note"));
        let head = "id,decision,label,note\n";
        let check_line = |line: &str, expected| check(&format!("{head}1,drop,,\n{line}\n"), Err(expected));
        check_line("2,relabel,cow,", ", line 3: unknown class \"cow\"; the classes are cat, dog");
        check_line("2,accept,,", ", line 3: unknown class \"\"; the classes are cat, dog");
        check_line("x,drop,,", ", line 3: id \"x\" is no number");
        check_line("1,dismiss,,", ", line 3: id 1 stands twice");
        let allowed = ", line 3: unknown decision \"keep\"; allowed are accept, relabel, drop, dismiss, or nothing";
        check_line("2,keep,,", allowed);
    }

    #[test]
    fn overrides_are_read_or_refused_with_the_line() {
        check("id,label\n", Ok(&[]));
        check("id,label\n7,dog\n3, cat\n", Ok(&[(3, 0), (7, 1)]));
        check("id;label\n", Err(": has the columns \"id;label\"; expected id,label"));
        check("id,label\n1,cow\n", Err(", line 2: unknown class \"cow\"; the classes are cat, dog"));
        check("id,label\n1,cat\nx,cat\n", Err(", line 3: id \"x\" is no number"));
        check("id,label\n1,cat\n1,dog\n", Err(", line 3: id 1 stands twice"));
        check("id,label\n1\n", Err(", line 2: expected two fields, id and label"));
    }
}
