//! The images of a prepared set.

use std::path::Path;

use super::{COMMAND, PreparedReport};
use crate::pull::check_fingerprint;
use crate::splits::Split;
use crate::{DataError, Dataset, Result, store};

/// The images that training may use. It gives no access to test images.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingData {
    /// Training images: weights are learnt from these.
    pub train: Dataset,
    /// Validation images: epochs and settings are chosen by these. May be empty.
    pub val: Dataset,
    /// The report of the prepared set.
    pub report: PreparedReport,
}

/// Test images. Opened by evaluation and later stages, never by training or tuning.
///
/// Only [`TestSet::open`] and [`split`](super::split()) make one. `cifar-train` never names the type;
/// a test of the workspace enforces this.
///
/// ```no_run
/// use cifar_data::prepare::{PreparedReport, TestSet};
///
/// let report = PreparedReport::read("data/prepared".as_ref())?;
/// let test = TestSet::open("data/prepared/test".as_ref(), report.test_fingerprint())?;
/// assert_eq!(test.dataset().classes(), report.classes);
/// # Ok::<(), cifar_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TestSet(pub(super) Dataset);

impl TestSet {
    /// Reads the test images in `folder`, which is `test/` of a prepared set or the evaluation
    /// pool.
    ///
    /// # Errors
    /// If they are not those of the prepared set's report: `fingerprint` is
    /// [`PreparedReport::test_fingerprint`] or [`PreparedReport::pool_fingerprint`].
    pub fn open(folder: &Path, fingerprint: &str) -> Result<Self> {
        let set = store::read(folder)?;
        check_fingerprint(folder, &set, fingerprint, COMMAND)?;
        Ok(Self(set))
    }

    /// Returns the images.
    pub fn dataset(&self) -> &Dataset {
        &self.0
    }
}

impl TrainingData {
    /// Reads the training and validation images of a prepared set.
    pub fn open(prepared: &Path) -> Result<Self> {
        let report = PreparedReport::read(prepared)?;
        let read = |split: Split| {
            let folder = prepared.join(split.name());
            let set = store::read(&folder)?;
            check_fingerprint(&folder, &set, report.fingerprint(split), COMMAND)?;
            Ok::<_, DataError>(set)
        };
        Ok(Self { train: read(Split::Train)?, val: read(Split::Val)?, report })
    }
}
