//! The source of a set's images, in words and as a kind.

use serde::{Deserialize, Serialize};

use crate::{Fit, Resize};

/// The kind of source that images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Folders of image files, one per class.
    ClassFolders,
    /// An official archive of CIFAR-10 or CIFAR-100.
    Archive,
    /// Parquet files in the layout of Hugging Face.
    Parquet,
    /// Image files that a table lists.
    Table,
    /// Arrays of the calling program.
    Arrays,
    /// Drawn by this crate.
    Synthetic,
}

/// The source of a set's images, for manifests, metrics and reports. It has no path: results must
/// not depend on one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The kind of source.
    pub kind: SourceKind,
    /// A short description for people, such as `class folders, 60000 images` or `SYNTHETIC, seed
    /// 0`.
    pub description: String,
    /// How the images were fitted to their size; `None` if their files have this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
}

impl Source {
    /// Creates the source of images that have their size in their files.
    pub fn new(kind: SourceKind, description: impl Into<String>) -> Self {
        Self { kind, description: description.into(), fit: None }
    }

    /// Returns the same source of images that were resized.
    #[must_use]
    pub fn resized(self, resize: Option<Resize>) -> Self {
        match resize {
            None => self,
            Some(resize) => {
                Self { description: format!("{}, {resize}", self.description), fit: Some(resize.fit), ..self }
            }
        }
    }

    /// Returns the source of images that come from several sources: the first one, with the
    /// descriptions of all. None if there are no sources.
    pub fn joined<'a>(sources: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut sources = sources.into_iter();
        let mut joined = sources.next()?.clone();
        let mut known = vec![joined.description.clone()];
        for Self { description, .. } in sources {
            if !known.contains(description) {
                known.push(description.clone());
            }
        }
        joined.description = known.join(" + ");
        Some(joined)
    }

    /// Returns whether this is the built-in synthetic set. Everything made from it must say so.
    pub fn is_synthetic(&self) -> bool {
        self.kind == SourceKind::Synthetic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_sources_are_described_once_each() {
        let source = |description: &str| Source::new(SourceKind::ClassFolders, description);
        let joined = |descriptions: &[&str]| {
            let sources: Vec<Source> = descriptions.iter().map(|description| source(description)).collect();
            Source::joined(&sources)
        };
        assert_eq!(joined(&[]), None);
        assert_eq!(joined(&["a", "a", "a"]), Some(source("a")));
        assert_eq!(joined(&["a", "b", "a", "c"]), Some(source("a + b + c")));
    }
}
