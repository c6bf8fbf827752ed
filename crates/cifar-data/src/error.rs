//! Everything that can go wrong with data. Each message is one line and names the file, key or image.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::SampleId;
use crate::names::{printed, shown};

/// The result of a function of this crate.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused something.
    #[error("{}: cannot {action}: {source}", shown(path))]
    Io {
        /// What was attempted, as in "cannot {action}".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file exists but is not what it should be.
    #[error("{}: {problem}", shown(path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what is allowed.
        problem: String,
    },
    /// A line of a CSV file is wrong.
    #[error("{}, line {line}: {problem}", shown(path))]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1, the header included.
        line: u64,
        /// What was found and what is allowed.
        problem: String,
    },
    /// An image cannot be used.
    #[error("{}: {problem}", shown(path))]
    Image {
        /// The image file.
        path: PathBuf,
        /// What was found and what is allowed.
        problem: String,
    },
    /// The pixels of a stored image do not have the hash that the manifest gives.
    #[error(
        "{}: image {id} does not match its hash in manifest.csv; the data was changed or damaged, make it anew",
        shown(path)
    )]
    HashMismatch {
        /// The images file.
        path: PathBuf,
        /// The image.
        id: SampleId,
    },
    /// A source has no images at all.
    #[error(
        "{}: no images found; expected class folders with JPEG or PNG files, train/ and test/ with class folders, parquet files, or an official archive of CIFAR-10 or CIFAR-100",
        shown(path)
    )]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be fetched: no connection, or no such file there. Nothing that was there is harmed.
    #[error("{url}: cannot be fetched: {problem}")]
    Unavailable {
        /// Where it should be.
        url: String,
        /// What happened.
        problem: String,
    },
    /// A parameter lies outside of its range.
    #[error("{key}: {value} is not allowed; {allowed}")]
    Parameter {
        /// The parameter's name.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Something would take more memory than this process may take.
    #[error(
        "{what} takes about {:.1} GB of memory; {:.1} GB are left ({limit}); {remedy}",
        *needed as f64 / 1e9,
        *room as f64 / 1e9
    )]
    Memory {
        /// What is to be done.
        what: String,
        /// Bytes that it takes, estimated.
        needed: u64,
        /// Bytes that are left.
        room: u64,
        /// What leaves no more.
        limit: &'static str,
        /// What to do.
        remedy: String,
    },
    /// The data cannot serve the request.
    #[error("{0}")]
    Unsuitable(String),
    /// The user asked to stop.
    #[error("stopped by the user; nothing was written")]
    Cancelled,
}

impl DataError {
    /// What `map_err` makes of an error of the system: `action` was to be done to `path`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = crate::output::final_path(path);
        move |source| Self::Io { action, path, source }
    }

    /// What is wrong, without the name of the file.
    pub(crate) fn problem(&self) -> String {
        match self {
            Self::Io { action, source, .. } => format!("cannot {action}: {source}"),
            Self::Malformed { problem, .. } | Self::Image { problem, .. } => problem.clone(),
            other => other.to_string(),
        }
    }

    pub(crate) fn malformed(path: &Path, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_path_buf(), problem: tidy(problem.into()) }
    }

    pub(crate) fn line(path: &Path, line: u64, problem: impl Into<String>) -> Self {
        Self::Line { path: path.to_path_buf(), line, problem: tidy(problem.into()) }
    }

    pub(crate) fn image(path: &Path, problem: impl Into<String>) -> Self {
        Self::Image { path: path.to_path_buf(), problem: tidy(problem.into()) }
    }
}

/// One line of bounded length, whatever a damaged file or another library's message brings into it.
fn tidy(problem: String) -> String {
    const MOST: usize = 600;
    if problem.len() <= MOST && matches!(printed(&problem), Cow::Borrowed(_)) {
        return problem;
    }
    let line = problem.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut start: String = line.chars().take(MOST).collect();
    if line.chars().nth(MOST).is_some() {
        start.push('…');
    }
    printed(&start).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        assert_eq!(tidy("has  two blanks".into()), "has  two blanks");
        assert_eq!(
            tidy("unknown variant `rain\n44,v1\r\n\tx\u{1b}[2J\n".into()),
            "unknown variant `rain 44,v1 x\\u{1b}[2J"
        );
        let long = tidy("é".repeat(2000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (601, true));
    }
}
