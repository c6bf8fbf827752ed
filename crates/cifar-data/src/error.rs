//! The errors of this crate. Each message is one line and names the file, key or image.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::names::{printed, shown};
use crate::{SampleId, Stage};

/// The result of a function of this crate.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused an operation.
    #[error("{}: cannot {action}: {source}", shown(path))]
    Io {
        /// What was attempted, as in "cannot {action}".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file exists but has the wrong content.
    #[error("{}: {problem}", shown(path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what is allowed.
        problem: String,
    },
    /// The result of an earlier stage does not exist.
    #[error("{}: {problem}", shown(path))]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// What is missing.
        problem: String,
        /// The stages that make it, in the order in which they have to run.
        made_by: &'static [Stage],
    },
    /// The result of an earlier stage is damaged, of another version, or made from other inputs.
    #[error("{}: {problem}", shown(path))]
    Stale {
        /// The file or folder.
        path: PathBuf,
        /// What was found.
        problem: String,
        /// The stages that make it again, in the order in which they have to run.
        made_by: &'static [Stage],
    },
    /// A line of a CSV file is wrong.
    #[error("{}, line {line}: {problem}", shown(path))]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1 with the header.
        line: u64,
        /// What was found and what is allowed.
        problem: String,
    },
    /// A line of a label file is about another image than the one that has its id now.
    /// [`labels::migrate`](fn@crate::labels::migrate) updates the file.
    #[error("{}, line {line}: {problem}", shown(path))]
    Misplaced {
        /// The file.
        path: PathBuf,
        /// Counted from 1, the header included.
        line: u64,
        /// What the line says and what the image is.
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
    /// Several files of a source cannot be used as images; this is the first.
    /// [`ReadOptions::skip_broken`](crate::sources::ReadOptions::skip_broken) leaves them out.
    #[error("{}: {problem} (and {} unusable)", shown(path), other_images(*others))]
    Unusable {
        /// The first such file.
        path: PathBuf,
        /// What was found and what is allowed.
        problem: String,
        /// Number of the other files, at least 1.
        others: usize,
    },
    /// The images of a source have several sizes, or one that is too large.
    /// [`ReadOptions::resize`](crate::sources::ReadOptions::resize) gives them one size.
    #[error("{}: {}", shown(path), printed(problem))]
    Sizes {
        /// The source, or its first image of such a size.
        path: PathBuf,
        /// What was found and what is allowed.
        problem: String,
    },
    /// Lines of a label file are about images that no longer exist.
    /// [`labels::migrate`](fn@crate::labels::migrate) can leave them out.
    #[error("{}: the images of these lines are no longer there: {lines}", shown(path))]
    Gone {
        /// The file.
        path: PathBuf,
        /// The lines and their images.
        lines: String,
    },
    /// The pixels of a stored image do not match their hash in the manifest.
    #[error(
        "{}: image {id} does not match its hash in manifest.csv; the data was changed or damaged; write it again",
        shown(path)
    )]
    HashMismatch {
        /// The file of images.
        path: PathBuf,
        /// The image.
        id: SampleId,
    },
    /// A source has no images.
    #[error(
        "{}: no images found; expected class folders with image files, train/ and test/ with class folders, a CSV file with the columns file,label, parquet files, or an official archive of CIFAR-10 or CIFAR-100",
        shown(path)
    )]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be downloaded: there is no connection, or no such file on the server. Existing
    /// files are unharmed.
    #[error("{url}: cannot be fetched: {problem}")]
    Unavailable {
        /// The address of the file.
        url: String,
        /// What happened.
        problem: String,
    },
    /// A parameter is out of range.
    #[error("{key}: {value} is not allowed; {allowed}")]
    Parameter {
        /// The parameter's name.
        key: &'static str,
        /// The value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// An operation would take more memory than this process may use.
    #[error(
        "{what} takes about {:.1} GB of memory; {:.1} GB are left ({limit}); {remedy}",
        *needed as f64 / 1e9,
        *room as f64 / 1e9
    )]
    Memory {
        /// The operation.
        what: String,
        /// The estimated memory of the operation, bytes.
        needed: u64,
        /// The available memory, bytes.
        room: u64,
        /// The limit that is the lowest.
        limit: &'static str,
        /// How to use less.
        remedy: String,
    },
    /// The data does not suit the request.
    #[error("{0}")]
    Unsuitable(String),
    /// The user asked to stop.
    #[error("stopped by the user; nothing was written")]
    Cancelled,
}

impl DataError {
    /// Returns a function for `map_err` that adds to a system error what was attempted (`action`)
    /// on `path`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = crate::output::final_path(path);
        move |source| Self::Io { action, path, source }
    }

    /// Returns the stages that have to run before the operation can succeed, in their order; empty
    /// unless the error is [`DataError::Missing`] or [`DataError::Stale`].
    ///
    /// ```
    /// use cifar_data::Stage;
    /// use cifar_data::prepare::PreparedReport;
    ///
    /// let error = PreparedReport::read("no/such/folder".as_ref()).unwrap_err();
    /// assert_eq!(error.to_string(), "no/such/folder: there is no such folder");
    /// assert_eq!(error.made_by(), [Stage::Prepare]);
    /// ```
    pub fn made_by(&self) -> &'static [Stage] {
        match self {
            Self::Missing { made_by, .. } | Self::Stale { made_by, .. } => made_by,
            _ => &[],
        }
    }

    /// Returns the problem without the name of the file.
    pub(crate) fn problem(&self) -> String {
        match self {
            Self::Io { action, source, .. } => format!("cannot {action}: {source}"),
            Self::Malformed { problem, .. }
            | Self::Missing { problem, .. }
            | Self::Stale { problem, .. }
            | Self::Image { problem, .. } => problem.clone(),
            other => other.to_string(),
        }
    }

    pub(crate) fn malformed(path: &Path, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_path_buf(), problem: tidy(problem.into()) }
    }

    pub(crate) fn missing(path: &Path, problem: impl Into<String>, made_by: &'static [Stage]) -> Self {
        Self::Missing { path: path.to_path_buf(), problem: tidy(problem.into()), made_by }
    }

    pub(crate) fn stale(path: &Path, problem: impl Into<String>, made_by: &'static [Stage]) -> Self {
        Self::Stale { path: path.to_path_buf(), problem: tidy(problem.into()), made_by }
    }

    pub(crate) fn line(path: &Path, line: u64, problem: impl Into<String>) -> Self {
        Self::Line { path: path.to_path_buf(), line, problem: tidy(problem.into()) }
    }

    pub(crate) fn image(path: &Path, problem: impl Into<String>) -> Self {
        Self::Image { path: path.to_path_buf(), problem: tidy(problem.into()) }
    }

    pub(crate) fn gone(path: &Path, lines: String) -> Self {
        Self::Gone { path: path.to_path_buf(), lines: tidy(lines) }
    }

    /// Returns the error for the first of several unusable files, of which there are `others` more.
    pub(crate) fn unusable(path: &Path, problem: impl Into<String>, others: usize) -> Self {
        match others {
            0 => Self::image(path, problem),
            _ => Self::Unusable { path: path.to_path_buf(), problem: tidy(problem.into()), others },
        }
    }
}

/// Returns the subject and verb of what is wrong with the other images.
fn other_images(count: usize) -> String {
    if count == 1 { "1 other image is".into() } else { format!("{count} other images are") }
}

/// Makes one line of bounded length of a message, whatever a damaged file or another library put
/// into it.
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
    fn every_message_is_one_line() {
        assert_eq!(tidy("has  two blanks".into()), "has  two blanks");
        assert_eq!(
            tidy("unknown variant `rain\n44,v1\r\n\tx\u{1b}[2J\n".into()),
            "unknown variant `rain 44,v1 x\\u{1b}[2J"
        );
        let long = tidy("é".repeat(2000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (601, true));
    }
}
