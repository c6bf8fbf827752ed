//! Archives of a few images, in memory.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::noise;

/// Bytes of an image and of one of its colour planes.
pub(crate) const IMAGE: usize = 3072;
pub(crate) const PLANE: usize = 1024;
pub(crate) const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
pub(crate) const BATCHES: [&str; 6] =
    ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];

/// A file's name and content.
pub(crate) type File = (String, Vec<u8>);

/// Labels and pixels of one batch; pixels are in planes.
#[derive(Clone)]
pub(crate) struct Batch {
    pub(crate) labels: Vec<u8>,
    pub(crate) planes: Vec<u8>,
}

/// Returns six batches with these numbers of noise images; labels cycle through the classes.
pub(crate) fn batches(sizes: [usize; 6]) -> Vec<Batch> {
    let mut next = 0;
    let batch = |(number, size): (usize, usize)| {
        let labels = (0..size).map(|place| ((next + place) % 10) as u8).collect();
        next += size;
        Batch { labels, planes: noise(number as u64, size * IMAGE) }
    };
    sizes.into_iter().enumerate().map(batch).collect()
}

/// Returns the files of the binary version of CIFAR-10.
pub(crate) fn binary(batches: &[Batch]) -> Vec<File> {
    let mut files = vec![("batches.meta.txt".to_string(), format!("{}\n\n", CLASSES.join("\n")).into_bytes())];
    for (name, batch) in BATCHES.iter().zip(batches) {
        let mut bytes = Vec::new();
        for (label, planes) in batch.labels.iter().zip(batch.planes.chunks(IMAGE)) {
            bytes.push(*label);
            bytes.extend(planes);
        }
        files.push((format!("{name}.bin"), bytes));
    }
    files
}

/// Returns the files of the Python version of CIFAR-10.
pub(crate) fn python(batches: &[Batch]) -> Vec<File> {
    let names = CLASSES.map(|class| [b"U", &[class.len() as u8][..], class.as_bytes()].concat()).concat();
    let meta = [b"\x80\x02}U\x0blabel_names](".as_slice(), &names, b"es."].concat();
    let mut files = vec![("batches.meta".to_string(), meta)];
    for (name, batch) in BATCHES.iter().zip(batches) {
        files.push(((*name).to_string(), pickled(batch)));
    }
    files
}

/// Returns a batch as Python 2 pickles it, without the memo. `tests/fixtures` has real ones.
pub(crate) fn pickled(batch: &Batch) -> Vec<u8> {
    let integer = |n: usize| [b"J".as_slice(), &(n as i32).to_le_bytes()].concat();
    let labels: Vec<u8> = batch.labels.iter().flat_map(|label| [b'K', *label]).collect();
    [
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
            .as_slice(),
        &integer(batch.labels.len()),
        &integer(IMAGE),
        b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T",
        &(batch.planes.len() as i32).to_le_bytes(),
        &batch.planes,
        b"tbU\x06labels](",
        &labels,
        b"eu.",
    ]
    .concat()
}

/// Returns a tar file with these members, of any name and kind.
pub(crate) fn tar(members: &[(tar::EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for (kind, name, contents) in members {
        let mut header = tar::Header::new_ustar();
        // Written into the raw header: the builder would refuse the names that a reader must
        // refuse.
        header.as_ustar_mut().expect("it is new").name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(contents.len() as u64);
        header.set_cksum();
        out.append(&header, *contents).expect("memory takes it");
    }
    out.into_inner().expect("memory takes it")
}

pub(crate) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).expect("memory takes it");
    out.finish().expect("memory takes it")
}

/// Returns the files in a folder, as .tar.gz.
pub(crate) fn packed(folder: &str, files: &[File]) -> Vec<u8> {
    let names: Vec<String> = files.iter().map(|(name, _)| format!("{folder}/{name}")).collect();
    let mut members = vec![(tar::EntryType::Directory, folder, &[][..])];
    members
        .extend(names.iter().zip(files).map(|(name, (_, bytes))| (tar::EntryType::Regular, name.as_str(), &bytes[..])));
    gz(&tar(&members))
}

/// Writes the files into `folder`.
pub(crate) fn unpack(folder: &Path, files: &[File]) -> PathBuf {
    fs::create_dir_all(folder).expect("folders can be made");
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("the file can be written");
    }
    folder.to_path_buf()
}
