//! Messages about YAML syntax errors: the line, the column, the cause and what is expected.
//!
//! A parser reports where it failed, often a line or two after the mistake, and in terms of tokens.
//! This module searches backwards from there for the common mistakes in a file of `key: value`
//! lines.

use std::borrow::Cow;

use serde_saphyr::Error;

const EXPECTED: &str = "expected a line such as `key: value`, indented with spaces like its neighbours";

/// Returns one line about why `document` cannot be read.
pub(super) fn in_plain_words(document: &str, error: &Error) -> String {
    let at = error.location();
    let (line, column) = at.map_or((1, 1), |at| (at.line() as usize, at.column() as usize));
    let lines: Vec<&str> = document.lines().collect();
    let line = line.clamp(1, lines.len().max(1));
    let text = lines.get(line - 1).copied().unwrap_or_default();
    let (line, column, cause) = match error.without_snippet() {
        Error::NonFiniteFloat { value, .. } => (line, column, format!("`{value}` is not a finite number")),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().or_else(|| key_of(text)).unwrap_or("a key");
            (line, column, format!("the key `{key}` appears twice in its block; keep one of them"))
        }
        Error::MultipleDocuments { .. } => {
            (line, column, "a second document begins after `---`; remove that line".to_string())
        }
        Error::UnknownAnchor { .. } => {
            (line, column, "`*` refers to an undefined name; put the text in quotation marks".to_string())
        }
        _ => match (1..=line).rev().find_map(|number| cause(&lines, number, line)) {
            Some(found) => found,
            None if document.trim().is_empty() => (1, 1, "the file is empty".to_string()),
            None => (line, column, EXPECTED.to_string()),
        },
    };
    let text = lines.get(line - 1).map(|text| without_comment(text).trim()).filter(|text| !text.is_empty());
    let text = text.map(|text| format!(", in `{}`", beginning(text))).unwrap_or_default();
    format!("line {line}, column {column}: not valid YAML: {cause}{text}")
}

/// The beginning of a line, to quote it.
fn beginning(text: &str) -> Cow<'_, str> {
    /// Characters.
    const MOST: usize = 100;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// Returns the line, the column and the cause of a common mistake in line `number`, if there is one
/// that can make the parser fail at line `place`.
fn cause(lines: &[&str], number: usize, place: usize) -> Option<(usize, usize, String)> {
    /// Maximum number of lines from a mistake that a parser notices at once to the line that it
    /// reports.
    const NEAR: usize = 2;
    let text = without_comment(lines.get(number - 1)?);
    let found = |column: usize, cause: &str| Some((number, column, cause.to_string()));
    let content = text.trim();
    if content.is_empty() {
        return None;
    }
    // A list may span several lines.
    let until_place =
        || lines[number - 1..place].iter().map(|line| without_comment(line)).collect::<Vec<_>>().join("\n");
    if let Some((column, open)) = unclosed(text)
        && unclosed(&until_place()).is_some()
    {
        let what = match open {
            '"' | '\'' => format!("the quotation mark {open} is not closed on its line"),
            _ => format!("`{open}` is not closed on its line"),
        };
        return found(column, &what);
    }
    // Comments say nothing about the distance.
    let between = lines.iter().take(place).skip(number);
    if between.filter(|line| !without_comment(line).trim().is_empty()).count() > NEAR {
        return None;
    }
    let indent = text.len() - text.trim_start().len();
    if let Some(tab) = text[..indent].find('\t') {
        return found(tab + 1, "a tab indents this line; use spaces");
    }
    let value_at = text.find(':').map(|colon| colon + 1);
    match value_at {
        None if !content.starts_with('-') && !content.starts_with(']') && !content.starts_with('}') => {
            found(indent + 1, "a colon is missing; expected `key: value`, or `key:` before a block")
        }
        Some(at) if at < text.len() && !text[at..].starts_with(' ') && !content.starts_with(['"', '\'', '-', '[']) => {
            found(at + 1, "a space is missing after the colon; expected `key: value`")
        }
        Some(at) if text[at..].trim_start().starts_with(['@', '`', '%', '&', '*', '!', '|', '>']) => {
            let column = at + 1 + (text[at..].len() - text[at..].trim_start().len());
            found(column, "a value cannot begin with this character; put it in quotation marks")
        }
        Some(at) if text[at..].contains(": ") && !text[at..].trim_start().starts_with(['{', '[', '"', '\'']) => {
            let second = at + text[at..].find(": ").unwrap_or_default();
            found(second + 1, "a second colon is in this line; put each `key: value` on a line of its own")
        }
        _ if number == place => strange_indent(lines, number, indent),
        _ => None,
    }
}

/// Returns the mistake of a line whose indentation differs from its block's.
fn strange_indent(lines: &[&str], number: usize, indent: usize) -> Option<(usize, usize, String)> {
    let before = lines[..number - 1].iter().rev().map(|line| without_comment(line)).find(|l| !l.trim().is_empty())?;
    let its_indent = before.len() - before.trim_start().len();
    let opens_block = before.trim_end().ends_with(':');
    let is_strange = if opens_block { false } else { indent > its_indent || (indent < its_indent && indent > 0) };
    let cause = format!(
        "this line is indented by {indent} spaces, the one before it by {its_indent}; lines of a block have the same"
    );
    is_strange.then_some((number, indent + 1, cause))
}

/// Returns the last bracket or quotation mark that a line opens and does not close, with its
/// column.
fn unclosed(text: &str) -> Option<(usize, char)> {
    let mut open: Vec<(usize, char)> = Vec::new();
    for (column, c) in (1..).zip(text.chars()) {
        let within = open.last().map(|(_, c)| *c).filter(|c| matches!(c, '"' | '\''));
        match (within, c) {
            (Some(quote), c) if c == quote => drop(open.pop()),
            (None, '[' | '{') => open.push((column, c)),
            (None, ']' | '}') => drop(open.pop()),
            // Inside a word it is an apostrophe.
            (None, '"' | '\'') if begins_value(text, column) => open.push((column, c)),
            _ => {}
        }
    }
    open.pop()
}

fn begins_value(text: &str, column: usize) -> bool {
    let before: String = text.chars().take(column - 1).collect();
    before.trim_end().is_empty() || before.trim_end().ends_with([':', '[', ',', '{', '-'])
}

fn key_of(text: &str) -> Option<&str> {
    text.split_once(':').map(|(key, _)| key.trim())
}

/// Returns a line without its comment.
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with('#') { "" } else { line.split(" #").next().unwrap_or(line) }
}
