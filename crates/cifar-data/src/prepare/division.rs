//! The three sets of a division, and their report.

use std::collections::BTreeMap;

use super::pairs::{PlacedPair, placed, straddling};
use super::report::{PreparedReport, SCHEMA};
use super::{OverrideCounts, ReviewCounts, coverage, normalisation};
use crate::duplicates::{Pair, PairCounts};
use crate::partitions::{DatasetVersion, Partition};
use crate::pull::{AddedPartition, Membership};
use crate::splits::{Split, SplitParams, training_subset};
use crate::{DataError, Dataset, Progress, Result, SampleId, store};

/// Training, validation and test images.
pub(super) struct Sets {
    pub(super) train: Dataset,
    pub(super) val: Dataset,
    pub(super) test: Dataset,
}

/// What a division was made from.
pub(super) struct Basis<'a> {
    pub(super) version: DatasetVersion,
    pub(super) split: &'a SplitParams,
    /// The partition and split of every image.
    pub(super) membership: &'a BTreeMap<SampleId, Membership>,
    /// Pairs of images that show the same picture.
    pub(super) pairs: &'a [Pair],
    /// Identity of the set of v1, v2 and v3.
    pub(super) set: String,
    /// The added partitions on which the division depends.
    pub(super) added: BTreeMap<Partition, AddedPartition>,
    /// Fingerprint of the test images of v1, v2 and v3.
    pub(super) pool_fingerprint: String,
}

impl Sets {
    /// Divides `images`. `test`, if there is any, replaces the test images among them.
    ///
    /// # Errors
    /// If no training image is left, or there are fewer than `split.train_images`.
    pub(super) fn divide(images: &Dataset, test: Option<Dataset>, basis: &Basis) -> Result<Self> {
        let Basis { version, split, membership, .. } = *basis;
        let part = |wanted| images.filter(|s| membership[&s.id].split == wanted);
        let mut train = part(Split::Train);
        if split.train_images > 0 {
            let stratum = |s: &crate::Sample| (s.id, (membership[&s.id].partition, s.original_label));
            let used = training_subset(train.samples().iter().map(stratum).collect(), split)?;
            train = train.filter(|s| used.contains(&s.id));
        }
        if train.is_empty() {
            return Err(DataError::Unsuitable(format!(
                "no training image is left of dataset_version {version} with protocol {:?}; choose other partitions or fractions",
                split.protocol
            )));
        }
        Ok(Self { train, val: part(Split::Val), test: test.unwrap_or_else(|| part(Split::Test)) })
    }

    /// Returns the sets with their splits.
    pub(super) fn each(&self) -> [(Split, &Dataset); 3] {
        [(Split::Train, &self.train), (Split::Val, &self.val), (Split::Test, &self.test)]
    }

    /// Returns the report of the sets, and the pairs with both images in them. Warns about missing
    /// classes, and about duplicates in different splits.
    ///
    /// # Errors
    /// If test images are wanted and there are none.
    pub(super) fn report(
        &self,
        basis: Basis,
        (overrides, review): (OverrideCounts, ReviewCounts),
        progress: &dyn Progress,
    ) -> Result<(PreparedReport, Vec<PlacedPair>)> {
        let sets = self.each();
        coverage::check(sets, basis.version, basis.split, progress)?;
        let placed = placed(basis.pairs, &sets);
        let straddling = straddling(&placed, progress);
        let by_split = |of: &dyn Fn(&Dataset) -> BTreeMap<String, usize>| {
            sets.iter().map(|(split, set)| (*split, of(set))).collect()
        };
        let report = PreparedReport {
            schema: SCHEMA,
            dataset_version: basis.version,
            split: basis.split.clone(),
            source: self.train.header().source.clone(),
            set: basis.set,
            added: basis.added,
            classes: self.train.classes().to_vec(),
            size: self.train.size(),
            images: sets.iter().map(|(split, set)| (*split, set.len())).collect(),
            images_by_class: by_split(&|set| set.classes().iter().cloned().zip(set.counts_by_class()).collect()),
            images_by_partition: by_split(&|set| {
                let mut counts = BTreeMap::new();
                for sample in set.samples() {
                    *counts.entry(basis.membership[&sample.id].partition.to_string()).or_insert(0) += 1;
                }
                counts
            }),
            overrides,
            review,
            normalisation: normalisation(&self.train),
            fingerprints: sets.iter().map(|(split, set)| (*split, store::fingerprint(set))).collect(),
            pool_fingerprint: basis.pool_fingerprint,
            duplicate_pairs: PairCounts::of(placed.iter().map(|placed| &placed.pair)),
            straddling_pairs: PairCounts::of(&straddling),
        };
        Ok((report, placed))
    }
}
