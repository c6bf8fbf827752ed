//! Label overrides: `labels/overrides.csv` with the columns `id,label`, kept in git, header-only to begin with.

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
