//! Folders of images.

mod images;
mod listing;

use std::path::PathBuf;

use cifar_data::sources::class_folders::{ClassFolders, read};
use cifar_data::sources::{Labels, ReadOptions};
use cifar_data::{Dataset, Result, Silent};

use crate::common::{self, SIZE, noisy_png, put, shown, temporary};

pub(crate) const STOP: ReadOptions = ReadOptions { skip_broken: false, labels: Labels::Fine, resize: None };
pub(crate) const SKIP: ReadOptions = ReadOptions { skip_broken: true, labels: Labels::Fine, resize: None };

/// A folder with a PNG file of noise at each path; the noise depends on its position in the list.
pub(crate) struct Images(pub(crate) tempfile::TempDir);

impl Images {
    pub(crate) fn new(files: &[&str]) -> Self {
        let images = Self(temporary());
        for (seed, file) in files.iter().enumerate() {
            put(&images.path(file), &noisy_png(seed as u64, SIZE));
        }
        images
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub(crate) fn put(&self, file: &str, contents: impl AsRef<[u8]>) -> &Self {
        put(&self.path(file), contents.as_ref());
        self
    }

    pub(crate) fn read(&self, options: ReadOptions) -> Result<ClassFolders> {
        read(self.0.path(), &options, &Silent)
    }

    pub(crate) fn dataset(&self) -> Dataset {
        let read = self.read(STOP).expect("these images are fine");
        assert_eq!(read.skipped, []);
        read.dataset
    }

    /// Checks that the source is refused with and without `skip_broken`, with a message that names
    /// `file` and has `problem`.
    pub(crate) fn check_refused(&self, file: &str, problem: &str) {
        common::check_refused(self.read(STOP), &[&shown(&self.path(file)), problem]);
    }
}

pub(crate) const TWO_PARTS: [&str; 6] =
    ["train/cat/a.png", "train/cat/b.png", "train/dog/a.png", "test/cat/a.png", "test/cat/b.png", "test/dog/z.png"];
pub(crate) const ONE_LEVEL: [&str; 5] = ["dog/2.png", "dog/10.png", "cat/x.png", "cat/y.png", "cat/z.png"];
