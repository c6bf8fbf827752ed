//! The official versions: their names and files.

use super::Labels;
use crate::{ImageSize, Published};

/// Size of every image of CIFAR-10 and CIFAR-100. The files do not contain it.
pub(super) const SIZE: ImageSize = ImageSize { height: 32, width: 32 };

/// The format of a version's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Records of fixed length: labels, then pixels.
    Binary,
    /// One pickled dictionary per file.
    Python,
}

/// Where labels and class names are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// The file with the class names.
    pub(super) meta: &'static str,
    /// Python: the keys of both in their dictionaries.
    pub(super) labels: &'static str,
    pub(super) names: &'static str,
}

/// One official version of a data set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// The data set's name.
    pub(super) set: &'static str,
    pub(super) form: Form,
    /// Name of the unpacked folder.
    pub(crate) folder: &'static str,
    /// Name of the archive.
    pub(crate) archive: &'static str,
    /// The files with images, in the order of the ids.
    pub(super) batches: &'static [&'static str],
    /// Binary: bytes before the pixels of a record. The last is the label; the coarse label, if
    /// any, is before it.
    pub(super) labels_a_record: usize,
    fine: Keys,
    /// The coarse labels, if there are any.
    pub(super) coarse: Option<Keys>,
    /// Number of images in the largest official file.
    most_images: u64,
}

/// All supported versions. No two of them share a file name.
pub(crate) static VERSIONS: [Version; 4] = [
    Version {
        set: "CIFAR-10",
        form: Form::Binary,
        folder: "cifar-10-batches-bin",
        archive: "cifar-10-binary.tar.gz",
        batches: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
            "test_batch.bin",
        ],
        labels_a_record: 1,
        fine: Keys { meta: "batches.meta.txt", labels: "labels", names: "label_names" },
        coarse: None,
        most_images: 10_000,
    },
    Version {
        set: "CIFAR-10",
        form: Form::Python,
        folder: "cifar-10-batches-py",
        archive: "cifar-10-python.tar.gz",
        batches: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"],
        labels_a_record: 1,
        fine: Keys { meta: "batches.meta", labels: "labels", names: "label_names" },
        coarse: None,
        most_images: 10_000,
    },
    Version {
        set: "CIFAR-100",
        form: Form::Binary,
        folder: "cifar-100-binary",
        archive: "cifar-100-binary.tar.gz",
        batches: &["train.bin", "test.bin"],
        labels_a_record: 2,
        fine: Keys { meta: "fine_label_names.txt", labels: "fine_labels", names: "fine_label_names" },
        coarse: Some(Keys { meta: "coarse_label_names.txt", labels: "coarse_labels", names: "coarse_label_names" }),
        most_images: 50_000,
    },
    Version {
        set: "CIFAR-100",
        form: Form::Python,
        folder: "cifar-100-python",
        archive: "cifar-100-python.tar.gz",
        batches: &["train", "test"],
        labels_a_record: 2,
        fine: Keys { meta: "meta", labels: "fine_labels", names: "fine_label_names" },
        coarse: Some(Keys { meta: "meta", labels: "coarse_labels", names: "coarse_label_names" }),
        most_images: 50_000,
    },
];

/// The role of a file in its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The images at this index of [`Version::batches`].
    Batch(usize),
    /// The class names.
    Meta,
}

/// Returns the version and role of a file, by its name alone.
pub(super) fn recognise(file: &str, labels: Labels) -> Option<(&'static Version, Part)> {
    VERSIONS.iter().find_map(|version| {
        let batch = version.batches.iter().position(|batch| *batch == file).map(Part::Batch);
        let part = batch.or_else(|| (version.meta(labels) == file).then_some(Part::Meta))?;
        Some((version, part))
    })
}

/// Returns whether a file is named like a batch of CIFAR-10 but is not an official one.
pub(super) fn is_extra(file: &str) -> bool {
    file.starts_with("data_batch") && recognise(file, Labels::Fine).is_none()
}

impl Version {
    /// Returns the largest size of one of its files. An image takes twice its pixels if Python 3
    /// re-saved it with an old protocol, which writes bytes as text; labels and file names come on
    /// top.
    pub(super) fn most_bytes(&self, part: Part) -> u64 {
        match part {
            Part::Batch(_) => self.most_images * (2 * SIZE.bytes() as u64 + 2048),
            Part::Meta => 1024 * 1024,
        }
    }

    pub(super) fn file(&self, part: Part, labels: Labels) -> &'static str {
        match part {
            Part::Batch(place) => self.batches[place],
            Part::Meta => self.meta(labels),
        }
    }

    /// Returns where these labels are; the only ones if there are no others.
    pub(super) fn keys(&self, labels: Labels) -> &Keys {
        match (labels, &self.coarse) {
            (Labels::Coarse, Some(coarse)) => coarse,
            _ => &self.fine,
        }
    }

    /// Returns the file with the class names.
    pub(super) fn meta(&self, labels: Labels) -> &'static str {
        self.keys(labels).meta
    }

    /// Returns a batch's name, which is the same in both forms.
    pub(super) fn batch_name(&self, place: usize) -> &'static str {
        self.batches[place].trim_end_matches(".bin")
    }

    pub(super) fn published(&self, place: usize) -> Published {
        if self.batches[place].starts_with("test") { Published::Test } else { Published::Train }
    }

    /// Returns the name, as in "the binary version of CIFAR-10".
    pub(super) fn name(&self) -> String {
        let form = match self.form {
            Form::Binary => "binary",
            Form::Python => "python",
        };
        format!("the {form} version of {}", self.set)
    }

    /// Returns all its files, for messages.
    pub(super) fn files(&self, labels: Labels) -> String {
        format!("{} and {}", self.batches.join(", "), self.meta(labels))
    }
}
