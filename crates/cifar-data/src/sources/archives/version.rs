//! The official versions: what they are called and which files they consist of.

use crate::{ImageSize, Published};

/// Size of every image of CIFAR-10 and CIFAR-100; the files do not say it.
pub(super) const SIZE: ImageSize = ImageSize { height: 32, width: 32 };

/// How a version keeps its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Records of one length: labels, then pixels.
    Binary,
    /// A pickled dictionary a file.
    Python,
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
    /// The file with the class names.
    pub(super) meta: &'static str,
    /// Binary: bytes before the pixels of a record. The last of them is the label.
    pub(super) labels_a_record: usize,
    /// Python: the keys of labels and class names.
    pub(super) labels_key: &'static str,
    pub(super) names_key: &'static str,
    /// Images in the largest official file.
    most_images: u64,
}

/// All versions that can be read. No two of them share a file name.
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
        meta: "batches.meta.txt",
        labels_a_record: 1,
        labels_key: "labels",
        names_key: "label_names",
        most_images: 10_000,
    },
    Version {
        set: "CIFAR-10",
        form: Form::Python,
        folder: "cifar-10-batches-py",
        archive: "cifar-10-python.tar.gz",
        batches: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"],
        meta: "batches.meta",
        labels_a_record: 1,
        labels_key: "labels",
        names_key: "label_names",
        most_images: 10_000,
    },
    Version {
        set: "CIFAR-100",
        form: Form::Binary,
        folder: "cifar-100-binary",
        archive: "cifar-100-binary.tar.gz",
        batches: &["train.bin", "test.bin"],
        meta: "fine_label_names.txt",
        labels_a_record: 2,
        labels_key: "fine_labels",
        names_key: "fine_label_names",
        most_images: 50_000,
    },
    Version {
        set: "CIFAR-100",
        form: Form::Python,
        folder: "cifar-100-python",
        archive: "cifar-100-python.tar.gz",
        batches: &["train", "test"],
        meta: "meta",
        labels_a_record: 2,
        labels_key: "fine_labels",
        names_key: "fine_label_names",
        most_images: 50_000,
    },
];

/// What a file is to its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The images of this place in [`Version::batches`].
    Batch(usize),
    /// The class names.
    Meta,
}

/// Which version a file belongs to, by its name alone.
pub(super) fn recognise(file: &str) -> Option<(&'static Version, Part)> {
    VERSIONS.iter().find_map(|version| {
        let batch = version.batches.iter().position(|batch| *batch == file).map(Part::Batch);
        let part = batch.or_else(|| (version.meta == file).then_some(Part::Meta))?;
        Some((version, part))
    })
}

/// True for a file that wants to be a batch of CIFAR-10 and is none of the official ones.
pub(super) fn is_extra(file: &str) -> bool {
    file.starts_with("data_batch") && recognise(file).is_none()
}

impl Version {
    /// Most bytes that one of its files may have. An image takes twice its pixels where Python 3 saved it again with an
    /// old protocol, which writes bytes as text; labels and file names come on top.
    pub(super) fn most_bytes(&self, part: Part) -> u64 {
        match part {
            Part::Batch(_) => self.most_images * (2 * SIZE.bytes() as u64 + 2048),
            Part::Meta => 1024 * 1024,
        }
    }

    pub(super) fn file(&self, part: Part) -> &'static str {
        match part {
            Part::Batch(place) => self.batches[place],
            Part::Meta => self.meta,
        }
    }

    /// A batch's name, the same in both forms.
    pub(super) fn batch_name(&self, place: usize) -> &'static str {
        self.batches[place].trim_end_matches(".bin")
    }

    pub(super) fn published(&self, place: usize) -> Published {
        if self.batches[place].starts_with("test") { Published::Test } else { Published::Train }
    }

    /// As in "the binary version of CIFAR-10".
    pub(super) fn name(&self) -> String {
        let form = match self.form {
            Form::Binary => "binary",
            Form::Python => "python",
        };
        format!("the {form} version of {}", self.set)
    }

    /// All its files, for messages.
    pub(super) fn files(&self) -> String {
        format!("{} and {}", self.batches.join(", "), self.meta)
    }
}
