//! The stages of the pipeline. Errors name the stages that have to run.

/// A stage of the pipeline, which writes a folder that later stages read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Cuts a data set into partitions ([`crate::partitions`]).
    Partition,
    /// Joins the chosen partitions ([`crate::pull`]).
    Pull,
    /// Divides the images into splits ([`crate::prepare`]).
    Prepare,
    /// Inspects the prepared images.
    Inspect,
    /// Searches for better parameters.
    Tune,
    /// Trains the model.
    Train,
    /// Scores the model on the test images.
    Evaluate,
    /// Ranks images by how hard they are.
    HardImages,
}

impl Stage {
    /// All stages, in the order of the pipeline.
    pub const ALL: &'static [Self] = &[
        Self::Partition,
        Self::Pull,
        Self::Prepare,
        Self::Inspect,
        Self::Tune,
        Self::Train,
        Self::Evaluate,
        Self::HardImages,
    ];

    /// Returns its name, such as `hard-images`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Pull => "pull",
            Self::Prepare => "prepare",
            Self::Inspect => "inspect",
            Self::Tune => "tune",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::HardImages => "hard-images",
        }
    }

    /// Returns this stage as a list, for [`DataError::Missing`](crate::DataError::Missing) and
    /// [`DataError::Stale`](crate::DataError::Stale).
    ///
    /// ```
    /// use cifar_data::Stage;
    ///
    /// assert_eq!(Stage::Pull.alone(), [Stage::Pull]);
    /// ```
    pub fn alone(self) -> &'static [Self] {
        // The order of the variants is that of the list.
        let place = self as usize;
        Self::ALL.get(place..=place).unwrap_or_default()
    }

    /// Returns the stage with this name as a list; empty if there is none.
    pub(crate) fn named(name: &str) -> &'static [Self] {
        Self::ALL.iter().find(|stage| stage.name() == name).map_or(&[], |stage| stage.alone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_found_by_its_name() {
        for stage in Stage::ALL {
            assert_eq!(stage.alone(), [*stage]);
            assert_eq!(Stage::named(stage.name()), [*stage]);
        }
        assert_eq!(Stage::named("score"), []);
    }
}
