//! Parameters of a run that starts from a trained network.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cifar_model::Model;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Result, TrainError};

/// The prefix of the hash of a model that was read.
const HASH: &str = "blake3:";

/// The initial weights of a run.
///
/// As text, it is `none`, the path of a file, or `blake3:` and the hash of a model that was read.
/// So hashes of parameters, such as [`run_key`](crate::run_key), depend on the content of the file,
/// not on its path.
#[derive(Debug, Clone, Default)]
pub enum Init {
    /// Random weights, drawn from the seed.
    #[default]
    Random,
    /// A model file that is not read yet; a run does not start from it. [`Init::read`] reads it.
    File(PathBuf),
    /// A trained network. The run takes its layers ([`cifar_model::Transfer`]) and its
    /// normalisation of pixels.
    Model(Arc<Model>),
}

impl Init {
    /// Returns whether the initial weights are random.
    pub fn is_random(&self) -> bool {
        matches!(self, Self::Random)
    }

    /// Reads the file if it is not read yet; `folder` is that of relative paths.
    ///
    /// # Errors
    /// If the file is neither a model of this program nor one that can be imported
    /// ([`Model::load_weights`]).
    pub fn read(&self, folder: &Path) -> Result<Self> {
        let Self::File(path) = self else { return Ok(self.clone()) };
        let path = folder.join(path);
        if !path.is_file() {
            let problem = "there is no such file; allowed are none and the path of a model file";
            return Err(TrainError::Init(format!("{}: {problem}", path.display())));
        }
        let model = Model::load_weights(&path).map_err(|e| TrainError::Init(e.to_string()))?;
        Ok(Self::Model(Arc::new(model)))
    }

    /// Returns the trained network; none for random weights.
    ///
    /// # Errors
    /// If its file is not read yet.
    pub fn model(&self) -> Result<Option<&Model>> {
        match self {
            Self::Random => Ok(None),
            Self::Model(model) => Ok(Some(model)),
            Self::File(path) => Err(TrainError::Init(format!("{}: was not read before the run", path.display()))),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Random => "none".into(),
            Self::File(path) => path.display().to_string(),
            Self::Model(model) => format!("{HASH}{}", model.seal()),
        }
    }
}

impl PartialEq for Init {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Serialize for Init {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for Init {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(if text == "none" { Self::Random } else { Self::File(text.into()) })
    }
}

/// Which layers keep their initial weights.
///
/// A frozen layer has no gradient and no weight decay. Its batch norm uses the running statistics
/// that it starts with, as in evaluation, and leaves them unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Freeze {
    /// None.
    #[default]
    None,
    /// All except the last layer.
    Backbone,
    /// The first layer ([`cifar_model::Architecture::stem`]).
    Stem,
}

impl Freeze {
    /// Returns whether no layer is frozen.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde expects")]
    pub(super) fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// Returns whether a learning rate is not scaled.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde expects")]
pub(super) fn is_one(scale: &f64) -> bool {
    scale.to_bits() == 1f64.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_models_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("text"), b"no model").unwrap();
        let check = |file: &str, expected: &str| {
            let error = Init::File(file.into()).read(folder.path()).unwrap_err().to_string();
            let path = folder.path().join(file);
            assert!(error.starts_with(&format!("train.init: {}: {expected}", path.display())), "{error}");
            assert_eq!(error.lines().count(), 1);
        };
        check("text", "is not a valid safetensors file");
        check("missing", "there is no such file; allowed are none and the path of a model file");
        assert!(Init::Random.read(folder.path()).unwrap().is_random());
        assert!(Init::File("text".into()).model().is_err());
    }
}
