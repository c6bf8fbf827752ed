//! CSV files that are safe to open in a spreadsheet: no cell is a formula.
//!
//! Anybody can choose the names of files and classes, and notes. A spreadsheet executes a cell that
//! begins with `=`, `+`, `-`, `@`, a tab or a carriage return. [`csv()`] writes an apostrophe
//! before such a cell, as a person would type it; [`plain`] removes it again. Numbers are
//! unchanged.

use std::borrow::Cow;

/// Returns a table as CSV. Every cell passes through [`neutral`].
///
/// ```
/// use cifar_data::spreadsheet::{csv, plain};
///
/// let table = csv(&["file", "loss"], [["=1+1.png", "0.5"]]);
/// assert_eq!(table, b"file,loss\n'=1+1.png,0.5\n");
/// assert_eq!(plain("'=1+1.png"), "=1+1.png");
/// ```
///
/// # Panics
/// If the number of cells of a row is not that of the columns.
pub fn csv<R>(columns: &[&str], rows: impl IntoIterator<Item = R>) -> Vec<u8>
where
    R: IntoIterator<Item: AsRef<str>>,
{
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(columns).expect("writing to memory does not fail");
    append(csv, rows)
}

/// Returns rows as [`csv()`], without the names of the columns, to continue a table that does not
/// fit into memory.
///
/// ```
/// assert_eq!(cifar_data::spreadsheet::csv_rows([["=1+1.png", "0.5"]]), b"'=1+1.png,0.5\n");
/// ```
///
/// # Panics
/// If the rows have different numbers of cells.
pub fn csv_rows<R>(rows: impl IntoIterator<Item = R>) -> Vec<u8>
where
    R: IntoIterator<Item: AsRef<str>>,
{
    append(csv::Writer::from_writer(Vec::new()), rows)
}

fn append<R>(mut csv: csv::Writer<Vec<u8>>, rows: impl IntoIterator<Item = R>) -> Vec<u8>
where
    R: IntoIterator<Item: AsRef<str>>,
{
    for row in rows {
        for cell in row {
            csv.write_field(&*guarded(cell.as_ref())).expect("writing to memory does not fail");
        }
        csv.write_record(None::<&[u8]>).expect("writing to memory does not fail, and rows fit the columns");
    }
    csv.into_inner().expect("writing to memory does not fail")
}

/// Returns the cell with an apostrophe before it if it looks like a formula.
pub fn neutral(cell: &str) -> String {
    guarded(cell).into_owned()
}

fn guarded(cell: &str) -> Cow<'_, str> {
    if is_formula(cell.trim_start_matches('\'')) { format!("'{cell}").into() } else { cell.into() }
}

/// Returns the text that [`neutral`] made a cell from. Other cells are unchanged.
pub fn plain(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if is_formula(rest.trim_start_matches('\'')) => rest,
        _ => cell,
    }
}

fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !text.parse::<f64>().is_ok_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_escaped_and_read_back() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("+cat", "'+cat"),
            ("-cat", "'-cat"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("'=1", "''=1"),
            ("cat", "cat"),
            ("a=b", "a=b"),
            ("'tis", "'tis"),
            ("", ""),
            ("-0.25", "-0.25"),
            ("+3", "+3"),
            ("-1e-7", "-1e-7"),
        ] {
            assert_eq!((neutral(text).as_str(), plain(cell)), (cell, text), "{text:?}");
        }
    }

    #[test]
    fn a_table_has_no_formula() {
        let rows = [["=cmd|' /C calc'!A0", "-0.5"], ["a,\"b\"", "@x"]];
        let expected = "file,loss\n'=cmd|' /C calc'!A0,-0.5\n\"a,\"\"b\"\"\",'@x\n";
        assert_eq!(String::from_utf8(csv(&["file", "loss"], rows)).unwrap(), expected);
    }
}
