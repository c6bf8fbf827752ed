//! The list of pairs on disk: `id_a,id_b,similarity,kind`.

use std::path::Path;

use super::{Kind, Pair};
use crate::pull::table;
use crate::{DataError, Result, SampleId};

/// File name of the list.
pub const NEAR_DUPLICATES: &str = "near_duplicates.csv";

const COLUMNS: [&str; 4] = ["id_a", "id_b", "similarity", "kind"];

/// Returns the list as CSV.
pub(crate) fn to_csv(pairs: &[Pair]) -> Vec<u8> {
    table(&COLUMNS, pairs.iter().map(|p| (p.first, p.second, p.similarity, p.kind)))
}

/// Reads the output of [`to_csv`]; `path` is for messages.
pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Vec<Pair>> {
    let mut csv = csv::Reader::from_reader(text);
    let columns = csv.headers().map_err(|e| DataError::malformed(path, e.to_string()))?;
    if columns.iter().ne(COLUMNS) {
        let found = columns.iter().collect::<Vec<_>>().join(",");
        return Err(DataError::malformed(path, format!("has the columns {found:?}; expected {}", COLUMNS.join(","))));
    }
    let mut pairs = Vec::new();
    for (index, row) in csv.deserialize::<(SampleId, SampleId, f64, Kind)>().enumerate() {
        let (first, second, similarity, kind) =
            row.map_err(|e| DataError::line(path, index as u64 + 2, e.to_string()))?;
        pairs.push(Pair { first, second, similarity, kind });
    }
    Ok(pairs)
}
