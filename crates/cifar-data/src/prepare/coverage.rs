//! Checks that every class has images in every split.

use crate::partitions::DatasetVersion;
use crate::splits::{Protocol, Split, SplitParams};
use crate::{DataError, Dataset, Progress, Result};

/// Number of classes that a warning lists.
const NAMED: usize = 5;

/// Warns about classes without images in a split that should have some, and about a prepared set
/// without test images.
///
/// # Errors
/// If test images are wanted and there are none: no later stage could measure anything.
pub(super) fn check(
    sets: [(Split, &Dataset); 3],
    version: DatasetVersion,
    params: &SplitParams,
    progress: &dyn Progress,
) -> Result<()> {
    let tests = params.protocol == Protocol::Official || params.test_fraction > 0.0;
    for (split, set) in sets {
        let (is_wanted, key, effect) = match split {
            Split::Train => (true, "", "no network can learn them"),
            Split::Val => {
                (params.val_fraction > 0.0, "split.val_fraction", "validation accuracy says nothing about them")
            }
            Split::Test => (tests, "split.test_fraction", "test accuracy says nothing about them"),
        };
        if split == Split::Test && set.is_empty() {
            if is_wanted {
                return Err(DataError::Unsuitable(format!(
                    "none of the images of dataset_version {version} is a test image (split.test_fraction: {}); raise \
                     split.test_fraction, add images, or set split.test_fraction to 0 to train without test images",
                    params.test_fraction
                )));
            }
            progress
                .warn("split.test_fraction is 0, so there are no test images; evaluation and the analysis of hard images need some");
        }
        if !is_wanted {
            continue;
        }
        let missing: Vec<&str> = (set.classes().iter().zip(set.counts_by_class()))
            .filter_map(|(class, count)| (count == 0).then_some(class.as_str()))
            .collect();
        if missing.is_empty() {
            continue;
        }
        let more = missing.len().saturating_sub(NAMED);
        let names = missing[..missing.len() - more].join(", ");
        let names = if more > 0 { format!("{names} and {more} more") } else { names };
        let advice = match (split, params.protocol) {
            (Split::Test, Protocol::Official) => {
                "merge these classes with others or use split.protocol pooled".to_string()
            }
            (Split::Train, _) => "add images of these classes".to_string(),
            _ => format!("add images of these classes or raise {key}"),
        };
        progress.warn(&format!(
            "{} of {} classes {} no {} image: {names}; {effect}; {advice}",
            missing.len(),
            set.classes().len(),
            if missing.len() == 1 { "has" } else { "have" },
            match split {
                Split::Train => "training",
                Split::Val => "validation",
                Split::Test => "test",
            },
        ));
    }
    Ok(())
}
