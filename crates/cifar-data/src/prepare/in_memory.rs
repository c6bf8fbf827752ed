//! The division of images in memory.

use std::collections::BTreeMap;

use super::division::{Basis, Sets};
use super::{OverrideCounts, ReviewCounts, TestSet, TrainingData};
use crate::duplicates::{self, Pair};
use crate::pull::membership;
use crate::splits::SplitParams;
use crate::{Dataset, Progress, Result, store};

/// Images divided by [`split`].
#[derive(Debug, Clone, PartialEq)]
pub struct SplitImages {
    /// Training and validation images.
    pub data: TrainingData,
    /// Test images.
    pub test: TestSet,
    /// Pairs of images that show the same picture. Exact and near pairs are in one split.
    pub pairs: Vec<Pair>,
}

/// Divides `images` into training, validation and test images, without files.
///
/// The division is that of [`prepare`](super::prepare()) over v1, v2 and v3:
/// stratified by class, with near-duplicates in one split.
///
/// ```
/// use cifar_data::Silent;
/// use cifar_data::prepare::split;
/// use cifar_data::sources::synthetic::{self, SyntheticParams};
/// use cifar_data::splits::SplitParams;
///
/// let params = SyntheticParams { count: 300, ..Default::default() };
/// let images = synthetic::generate(&params)?.dataset;
/// let found = split(&images, &SplitParams::default(), &Silent)?;
/// let (data, test) = (found.data, found.test);
/// assert_eq!(data.train.len() + data.val.len() + test.dataset().len(), 300);
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// If a fraction is out of range, a split that should have images has none, there are fewer than
/// `train_images` training images, or the caller cancels.
pub fn split(images: &Dataset, params: &SplitParams, progress: &dyn Progress) -> Result<SplitImages> {
    let pairs = duplicates::find(&[images], progress)?;
    let membership = membership(images, &pairs, params)?;
    let mut basis = Basis {
        version: "v1+v2+v3".parse()?,
        split: params,
        membership: &membership,
        pairs: &pairs,
        set: store::identity(images),
        added: BTreeMap::new(),
        pool_fingerprint: String::new(),
    };
    let sets = Sets::divide(images, None, &basis)?;
    basis.pool_fingerprint = store::fingerprint(&sets.test);
    let (report, _) = sets.report(basis, (OverrideCounts::default(), ReviewCounts::default()), progress)?;
    let Sets { train, val, test } = sets;
    Ok(SplitImages { data: TrainingData { train, val, report }, test: TestSet(test), pairs })
}
