//! Reads CSV files that people write by hand or save from a spreadsheet.
//!
//! Every error names the line of the file and the cause, and no line is dropped without an error:
//!
//! - the text is UTF-8, with or without a byte order mark;
//! - fields are separated by commas and may be in double quotes (RFC 4180). A quote that is never
//!   closed, or that is closed in the middle of a field, is an error: it would swallow the lines in
//!   between;
//! - spaces around fields are dropped;
//! - rows without text, which spreadsheets leave, are skipped;
//! - all other rows have one field per column.
//!
//! The `csv` crate reads an unclosed quote to the end of the file and miscounts lines after blank
//! ones.

use std::path::{Path, PathBuf};

use crate::{DataError, Result, input};

/// Largest file that is read. A table of a million images with long names is smaller.
const MAX_BYTES: u64 = 512 << 20;

/// A CSV file in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvTable {
    path: PathBuf,
    columns: Vec<String>,
    rows: Vec<CsvRow>,
}

/// A row of a [`CsvTable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvRow {
    /// The line of the file on which the row starts, counted from 1 with the header.
    pub line: u64,
    /// One field per column, without spaces around it.
    pub fields: Vec<String>,
}

impl CsvTable {
    /// Reads the file at `path`. Its first row with text has the names of the columns.
    ///
    /// ```
    /// use cifar_data::csv_table::CsvTable;
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("notes.csv");
    /// std::fs::write(&path, "id,note\n7,\"blurred, dark\"\n").unwrap();
    /// let table = CsvTable::read(&path)?;
    /// table.expect_columns(&["id", "note"])?;
    /// assert_eq!((table.rows()[0].line, &*table.rows()[0].fields[1]), (2, "blurred, dark"));
    /// # Ok::<(), cifar_data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// If the file cannot be read, is empty, not UTF-8 or larger than 512 MiB, has unmatched quotes, a
    /// repeated column, or a row whose number of fields is not that of the columns.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with(path, |_| ',')
    }

    /// As [`CsvTable::read`], but fields are separated by semicolons if the first row with text has
    /// semicolons and no commas, as spreadsheets write them where the comma is the decimal point.
    ///
    /// # Errors
    /// As [`CsvTable::read`].
    pub fn read_separated(path: &Path) -> Result<Self> {
        Self::read_with(path, |text| {
            let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            if first.contains(';') && !first.contains(',') { ';' } else { ',' }
        })
    }

    fn read_with(path: &Path, separator: impl Fn(&str) -> char) -> Result<Self> {
        let mut bytes = Vec::new();
        input::read_into(path, MAX_BYTES, &mut bytes)?;
        Self::parse_with(&bytes, path, separator)
    }

    /// Reads a file that is in memory; `path` is for messages.
    ///
    /// # Errors
    /// As [`CsvTable::read`].
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        Self::parse_with(bytes, path, |_| ',')
    }

    fn parse_with(bytes: &[u8], path: &Path, separator: impl Fn(&str) -> char) -> Result<Self> {
        let wrong = |(line, problem): (u64, String)| DataError::line(path, line, problem);
        let text = text_of(bytes).map_err(|problem| match problem {
            NoText::Utf16 => DataError::malformed(path, "is UTF-16; save it as UTF-8"),
            NoText::Byte { line, byte } => wrong((line, format!("is not UTF-8 (byte 0x{byte:02x}); save it as UTF-8"))),
        })?;
        let mut rows = rows_of(text, separator(text)).map_err(wrong)?.into_iter();
        let Some(CsvRow { fields: columns, .. }) = rows.next() else {
            return Err(DataError::malformed(path, "is empty; its first line must have the names of the columns"));
        };
        if let Some(twice) = (1..columns.len()).find(|at| columns[..*at].contains(&columns[*at])) {
            return Err(DataError::malformed(path, format!("has the column {:?} twice", columns[twice])));
        }
        let rows = rows.map(|row| fitted(row, columns.len()).map_err(wrong)).collect::<Result<_>>()?;
        Ok(Self { path: path.to_path_buf(), columns, rows })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the names of the columns, at least one.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Returns the index of the column `name` in [`CsvRow::fields`].
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// Returns the rows in the order of the file, without the header and without empty rows.
    pub fn rows(&self) -> &[CsvRow] {
        &self.rows
    }

    /// Checks that the columns are exactly `expected`, in this order.
    ///
    /// # Errors
    /// If not: the error has the columns found and expected.
    pub fn expect_columns(&self, expected: &[&str]) -> Result<()> {
        if self.columns == expected { Ok(()) } else { Err(self.wrong_columns(&expected.join(","))) }
    }

    /// Returns an error that says that the columns are not `expected`.
    pub fn wrong_columns(&self, expected: &str) -> DataError {
        let found = self.columns.join(",");
        let hint = if found.contains(';') { "; separate the fields by commas" } else { "" };
        DataError::malformed(&self.path, format!("has the columns {found:?}; expected {expected}{hint}"))
    }

    /// Returns an error about `row`.
    pub fn wrong(&self, row: &CsvRow, problem: impl Into<String>) -> DataError {
        DataError::line(&self.path, row.line, problem)
    }
}

/// Why bytes are not UTF-8 text.
enum NoText {
    Utf16,
    Byte { line: u64, byte: u8 },
}

/// Returns the text of a file without its byte order mark.
fn text_of(bytes: &[u8]) -> Result<&str, NoText> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(NoText::Utf16);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|e| {
        let (good, bad) = bytes.split_at(e.valid_up_to());
        // A character that is cut off at the end has a byte, too.
        NoText::Byte { line: 1 + line_ends(&String::from_utf8_lossy(good)), byte: bad.first().copied().unwrap_or(0) }
    })
}

/// Counts line ends of Unix, of Windows and of old Macs.
fn line_ends(text: &str) -> u64 {
    let ends = |at: usize, c: u8| c == b'\n' || c == b'\r' && text.as_bytes().get(at + 1) != Some(&b'\n');
    text.bytes().enumerate().filter(|(at, c)| ends(*at, *c)).count() as u64
}

/// Returns all rows with text.
fn rows_of(text: &str, separator: char) -> Result<Vec<CsvRow>, (u64, String)> {
    let (mut rows, mut line, mut rest) = (Vec::new(), 1, text);
    while !rest.is_empty() {
        let mut row = CsvRow { line, fields: Vec::new() };
        loop {
            let (field, after) = field(rest, separator, &mut line)?;
            row.fields.push(field);
            rest = after;
            let Some(next) = rest.strip_prefix(separator) else { break };
            rest = next;
        }
        if let Some(next) = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix(['\n', '\r'])) {
            line += 1;
            rest = next;
        }
        if row.fields.iter().any(|field| !field.is_empty()) {
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Parses the first field of `text`. Returns the field and the rest, which starts with a separator
/// or a line end, or is empty. `line` counts the line ends inside quotes.
fn field<'a>(text: &'a str, separator: char, line: &mut u64) -> Result<(String, &'a str), (u64, String)> {
    let Some(quoted) = text.trim_start_matches([' ', '\t']).strip_prefix('"') else {
        let end = text.find([separator, '\n', '\r']).unwrap_or(text.len());
        return Ok((text[..end].trim().to_string(), &text[end..]));
    };
    let opened = *line;
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let Some(end) = rest.find('"') else {
            return Err((opened, "has a double quote that is never closed".into()));
        };
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        // Two quotes mean one.
        let Some(more) = rest.strip_prefix('"') else { break };
        field.push('"');
        rest = more;
    }
    *line += line_ends(&field);
    let rest = rest.trim_start_matches([' ', '\t']);
    if !rest.is_empty() && !rest.starts_with([separator, '\n', '\r']) {
        let closed = if *line == opened { String::new() } else { format!(" on line {line}") };
        let problem = format!("has a double quote that is closed in the middle of a field{closed}");
        return Err((opened, format!("{problem}; write two for one that is part of the text")));
    }
    Ok((field.trim().to_string(), rest))
}

/// Returns a row with one field per column. Drops empty fields after the last column, which
/// spreadsheets leave.
fn fitted(mut row: CsvRow, columns: usize) -> Result<CsvRow, (u64, String)> {
    while row.fields.len() > columns && row.fields.last().is_some_and(String::is_empty) {
        row.fields.pop();
    }
    let fields = row.fields.len();
    if fields == columns {
        return Ok(row);
    }
    let plural = if fields == 1 { "" } else { "s" };
    Err((row.line, format!("has {fields} field{plural}, but the header has {columns}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` as the file `x.csv`: line and fields of each row, the header first with line
    /// 0.
    fn read(bytes: &[u8]) -> std::result::Result<Vec<(u64, Vec<String>)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        std::fs::write(&path, bytes).unwrap();
        let table = CsvTable::read(&path).map_err(|e| e.to_string().replace(&path.display().to_string(), "x.csv"))?;
        let rows = table.rows().iter().map(|row| (row.line, row.fields.clone()));
        Ok(std::iter::once((0, table.columns().to_vec())).chain(rows).collect())
    }

    #[track_caller]
    fn check(text: &str, rows: &[(u64, &[&str])]) {
        let owned = |fields: &[&str]| fields.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected: Vec<_> = rows.iter().map(|(line, fields)| (*line, owned(fields))).collect();
        assert_eq!(read(text.as_bytes()), Ok(expected), "{text:?}");
    }

    #[track_caller]
    fn check_wrong(bytes: &[u8], problem: &str) {
        assert_eq!(read(bytes), Err(format!("x.csv{problem}")), "{:?}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn rows_have_the_line_that_they_start_on() {
        check("id,file\n0,a\n1,b", &[(0, &["id", "file"]), (2, &["0", "a"]), (3, &["1", "b"])]);
        // Blank lines, and rows that a spreadsheet leaves.
        check("\nid,file\n\n\n0,a\n,\n ,\t\n,,,\n1,b\n\n", &[(0, &["id", "file"]), (5, &["0", "a"]), (9, &["1", "b"])]);
        // A note of three lines.
        check("id,n\n0,\"a\n\nb\"\n1,c\n", &[(0, &["id", "n"]), (2, &["0", "a\n\nb"]), (5, &["1", "c"])]);
        for end in ["\r\n", "\r"] {
            let text = ["id,n", "", "0,\"a", "b\"", "1,c", ""].join(end);
            let note = format!("a{end}b");
            check(&text, &[(0, &["id", "n"]), (3, &["0", &note]), (5, &["1", "c"])]);
        }
    }

    #[test]
    fn fields_are_trimmed_and_unquoted() {
        check("\u{feff}id , n\n 0,\t\"a, \"\"b\"\" \" \n", &[(0, &["id", "n"]), (2, &["0", "a, \"b\""])]);
        check("id,n\n0,5\" wide\n1,\"\"\n", &[(0, &["id", "n"]), (2, &["0", "5\" wide"]), (3, &["1", ""])]);
        check("id,n\n0,a,,\n", &[(0, &["id", "n"]), (2, &["0", "a"])]);
    }

    #[test]
    fn errors_name_the_line_and_the_cause() {
        check_wrong(b"id,label\n\n0,d\xf6g\n", ", line 3: is not UTF-8 (byte 0xf6); save it as UTF-8");
        check_wrong(b"id,label\r\n0,dog\r\n1,\xc3", ", line 3: is not UTF-8 (byte 0xc3); save it as UTF-8");
        check_wrong(b"\xff\xfei\0d\0", ": is UTF-16; save it as UTF-8");
        check_wrong(b"id,n\n\n0,\"a\n1,b\n2,c\n", ", line 3: has a double quote that is never closed");
        check_wrong(
            b"id,n\n0,\"a\n1,\"b\"\n2,c\n",
            ", line 2: has a double quote that is closed in the middle of a field on line 3; write two for one that is part of the text",
        );
        check_wrong(
            b"id,n\n0,\"a\" b\n",
            ", line 2: has a double quote that is closed in the middle of a field; write two for one that is part of the text",
        );
        check_wrong(b"id,n\n\n\n0\n", ", line 4: has 1 field, but the header has 2");
        check_wrong(b"id,n\n0,a,b\n", ", line 2: has 3 fields, but the header has 2");
        check_wrong(b"id,n,id\n", ": has the column \"id\" twice");
        for empty in [&b""[..], b"\xef\xbb\xbf", b"\n , \n"] {
            check_wrong(empty, ": is empty; its first line must have the names of the columns");
        }
    }

    #[test]
    fn columns_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let check = |text: &str, problem: &str| {
            std::fs::write(&path, text).unwrap();
            let error = CsvTable::read(&path).unwrap().expect_columns(&["id", "file"]).unwrap_err().to_string();
            assert_eq!(error, format!("{}: {problem}", path.display()));
        };
        check("file,id\n", "has the columns \"file,id\"; expected id,file");
        check("id;file\n", "has the columns \"id;file\"; expected id,file; separate the fields by commas");
        std::fs::write(&path, "id,file\n").unwrap();
        let table = CsvTable::read(&path).unwrap();
        assert!(table.expect_columns(&["id", "file"]).is_ok());
        assert_eq!((table.column("file"), table.column("label")), (Some(1), None));
    }

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let absent = CsvTable::read(&folder.path().join("absent.csv")).unwrap_err();
        assert!(absent.to_string().contains("cannot read"), "{absent}");
        let error = CsvTable::read(folder.path()).unwrap_err().to_string();
        assert_eq!(error, format!("{}: is a folder; expected a regular file", folder.path().display()));
    }
}
