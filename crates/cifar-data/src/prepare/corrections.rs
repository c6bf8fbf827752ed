//! Applies label overrides and review decisions to the training and validation images.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::labels::{Decision, Entries, Entry, Review};
use crate::{Dataset, Progress, Result, SampleId};

/// Numbers of label overrides by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideCounts {
    /// Training and validation images that have a new label.
    pub changed: usize,
    /// Test images in the file; their labels are never replaced.
    pub ignored_test: usize,
    /// Images of partitions that are not chosen.
    pub not_chosen: usize,
}

/// Numbers of review decisions by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewCounts {
    /// Training and validation images that have a new label.
    pub changed: usize,
    /// Training and validation images that are left out.
    pub dropped: usize,
    /// Images whose label is right.
    pub dismissed: usize,
    /// Test images to relabel or drop; this is never done.
    pub ignored_test: usize,
    /// Images of partitions that are not chosen.
    pub not_chosen: usize,
}

/// Applies the overrides. Test images keep their labels.
pub(super) fn override_labels(
    new_labels: &Entries<u16>,
    sets: [&mut Dataset; 2],
    test: &Dataset,
    path: &Path,
    progress: &dyn Progress,
) -> Result<OverrideCounts> {
    let mut counts = OverrideCounts::default();
    for id in new_labels.keys() {
        if sets.iter().all(|set| set.index_of(*id).is_none()) {
            if test.index_of(*id).is_some() { counts.ignored_test += 1 } else { counts.not_chosen += 1 }
        }
    }
    for set in sets {
        counts.changed += set.relabel(|s| new_labels.get(&s.id).map(|entry| entry.says))?;
    }
    if counts.ignored_test > 0 {
        progress.warn(&format!(
            "{}: {} of its images are test images, whose labels are never replaced",
            path.display(),
            counts.ignored_test
        ));
    }
    Ok(counts)
}

/// Applies the decisions: new labels, and images to leave out. Test images are unchanged.
pub(super) fn review_images(
    review: &Entries<Review>,
    sets: [&mut Dataset; 2],
    test: &Dataset,
    path: &Path,
    progress: &dyn Progress,
) -> Result<ReviewCounts> {
    let mut counts = ReviewCounts::default();
    let is_chosen = |id: SampleId| sets.iter().any(|set| set.index_of(id).is_some());
    for (id, Entry { says: Review { decision, .. }, .. }) in review {
        counts.dismissed += usize::from(*decision == Decision::Dismiss);
        if !is_chosen(*id) && *decision != Decision::Dismiss {
            if test.index_of(*id).is_some() { counts.ignored_test += 1 } else { counts.not_chosen += 1 }
        }
    }
    let decision = |id: &SampleId| review.get(id).map(|entry| entry.says.decision);
    for set in sets {
        counts.changed += set.relabel(|s| decision(&s.id).and_then(Decision::label))?;
        let is_dropped = |id: &SampleId| decision(id) == Some(Decision::Drop);
        let dropped = set.samples().iter().filter(|s| is_dropped(&s.id)).count();
        if dropped > 0 {
            *set = set.filter(|s| !is_dropped(&s.id));
        }
        counts.dropped += dropped;
    }
    if counts.ignored_test > 0 {
        progress.warn(&format!(
            "{}: {} of its images are test images, which are never relabelled or dropped",
            path.display(),
            counts.ignored_test
        ));
    }
    Ok(counts)
}
