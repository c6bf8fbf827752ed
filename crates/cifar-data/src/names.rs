//! Names of classes and files: which are valid, which are equal, and how they are printed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use unicode_normalization::{UnicodeNormalization as _, is_nfc};

/// Returns `text` with every character escaped that would end a line, move the cursor or change the
/// direction of writing.
///
/// ```
/// assert_eq!(cifar_data::names::printed("two\nlines"), "two\\nlines");
/// ```
pub fn printed(text: &str) -> Cow<'_, str> {
    let odd = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(odd) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if odd(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// Returns a path for messages, on one line.
pub fn shown(path: &Path) -> String {
    printed(&path.to_string_lossy()).into_owned()
}

/// Returns the NFC form of a name: Unicode can write "é" as one character or two.
pub(crate) fn normal(name: &str) -> Cow<'_, str> {
    if is_nfc(name) { Cow::Borrowed(name) } else { Cow::Owned(name.nfc().collect()) }
}

/// Returns what is wrong with the name of a class or an image file, worded to follow the name.
pub(crate) fn problem(name: &str) -> Option<&'static str> {
    if name.contains(|c: char| c.is_control()) {
        Some("has a control character, such as a line break, in its name; rename it")
    } else if name.trim() != name {
        Some("has a space at the start or end of its name; rename it")
    } else {
        None
    }
}

/// Returns whether an entry is hidden, or left by an operating system or an archive program.
pub(crate) fn is_ignored(name: &str) -> bool {
    name.starts_with('.') || matches!(name, "__MACOSX" | "@eaDir" | "Icon\r")
}

/// Returns whether Windows created the file.
pub(crate) fn is_left_by_windows(name: &str) -> bool {
    matches!(name.to_lowercase().as_str(), "thumbs.db" | "ehthumbs.db" | "ehthumbs_vista.db" | "desktop.ini")
}

/// Returns the first names, and how many more there are.
pub(crate) fn listed(names: &[String]) -> String {
    /// Number of names that a message has room for.
    const NAMED: usize = 10;
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(NAMED);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// Checks the names of all classes of a set. Results are stored under them.
///
/// # Errors
/// If one cannot be a file name, or two differ only in case or Unicode form.
pub(crate) fn check_classes(names: &[String]) -> Result<(), String> {
    let is_file_name = |name: &str| {
        !matches!(name, "" | "." | "..") && name.len() <= 200 && !name.contains(['/', '\\']) && problem(name).is_none()
    };
    if let Some(name) = names.iter().find(|name| !is_file_name(name)) {
        let reason = match problem(name) {
            Some(_) => "names have no control characters and no spaces at their ends",
            None => "results are stored under it",
        };
        return Err(format!("{name:?} cannot be the name of a class: {reason}"));
    }
    let mut seen = BTreeMap::new();
    for name in names {
        if let Some(other) = seen.insert(normal(name).to_lowercase(), name) {
            let same = if other == name { "the same" } else { "the same except for case or the form of their letters" };
            let reason = "results are stored under these names, and many file systems treat them as equal";
            return Err(format!("the class names {other:?} and {name:?} are {same}; {reason}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_names_have_one_line() {
        assert_eq!(printed("dog, wet/é\u{301} 日本.jpg"), "dog, wet/é\u{301} 日本.jpg");
        assert_eq!(printed("a\nb\r\u{1b}[2J\u{202e}gpj"), "a\\nb\\r\\u{1b}[2J\\u{202e}gpj");
        assert_eq!(shown(Path::new("x/a\tb.png")), "x/a\\tb.png");
    }

    #[test]
    fn names_that_look_the_same_are_refused() {
        let check = |names: [&str; 2]| check_classes(&names.map(String::from));
        assert!(check(["cat", "cats"]).is_ok());
        assert!(check(["é", "e"]).is_ok());
        for names in [["Cat", "cat"], ["caf\u{e9}", "cafe\u{301}"], ["CAF\u{c9}", "cafe\u{301}"]] {
            let problem = check(names).unwrap_err();
            assert!(problem.contains("are the same except for case or the form of their letters"), "{problem}");
        }
        assert!(check(["cat", "cat"]).unwrap_err().contains("are the same; "));
        assert_eq!(normal("cafe\u{301}"), "caf\u{e9}");
    }
}
