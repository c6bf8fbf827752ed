//! Reads the files of a version from a folder or a `.tar.gz`, and checks each before it is parsed.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::version::{Part, VERSIONS, Version, is_extra, recognise};
use super::{Assembly, Labels};
use crate::{DataError, Progress, Result, input};

/// Most members of an archive; the official ones have nine.
const MAX_MEMBERS: usize = 100;
/// Most bytes of an unneeded member, such as the readme: it must be decompressed to get past it.
const MAX_UNNEEDED: u64 = 16 * 1024 * 1024;
/// Most bytes of an extended header.
const MAX_EXTENSION: u64 = 64 * 1024;
/// Most bytes that one compressed byte can decode to. It bounds what is allocated in advance.
const MAX_PACKED: u64 = 1032;
/// Most bytes of padding after the last member.
const MAX_PADDING: u64 = 1024 * 1024;

/// The location of a file, for messages.
pub(super) struct Place {
    path: PathBuf,
    member: Option<String>,
}

impl Place {
    pub(super) fn wrong(&self, problem: impl Into<String>) -> DataError {
        let problem = problem.into();
        match &self.member {
            None => DataError::malformed(&self.path, problem),
            Some(member) => DataError::malformed(&self.path, format!("{}: {problem}", member.escape_debug())),
        }
    }
}

/// Reads the files in `folder`.
pub(super) fn read_folder(folder: &Path, assembly: &mut Assembly) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(DataError::io("read the folder", folder))? {
        let name = entry.map_err(DataError::io("read the folder", folder))?.file_name();
        if is_extra(&name.to_string_lossy()) {
            return Err(extra(folder, &name.to_string_lossy()));
        }
    }
    // Class names alone are not enough: only batches identify the version.
    // Anything with this name that is not a folder, even if it cannot be read.
    let is_called = |name: &str| fs::symlink_metadata(folder.join(name)).is_ok_and(|found| !found.is_dir());
    let is_there = |version: &&Version| version.batches.iter().any(|batch| is_called(batch));
    for version in VERSIONS.iter().filter(is_there) {
        for part in (0..version.batches.len()).map(Part::Batch).chain([Part::Meta]) {
            let path = folder.join(version.file(part, assembly.labels));
            if !is_called(version.file(part, assembly.labels)) {
                continue;
            }
            let place = Place { path, member: None };
            assembly.expect(version, part, &place)?;
            let read = |e| DataError::io("read", &place.path)(e);
            let file = input::open(&place.path)?;
            let size = file.metadata().map_err(read)?.len();
            check_size(version, part, assembly.labels, size, &place)?;
            let bytes = read_all(file, size, version.most_bytes(part), assembly.progress)?.map_err(read)?;
            // The file may have grown since its size was read.
            check_size(version, part, assembly.labels, bytes.len() as u64, &place)?;
            assembly.add(version, part, place, bytes)?;
        }
    }
    Ok(())
}

/// Reads the members of a `.tar.gz` file, in order, into memory.
///
/// Reads raw headers: the `tar` crate would keep a long name of any length in memory.
pub(super) fn read_archive(path: &Path, assembly: &mut Assembly) -> Result<()> {
    let head = input::head(path)?;
    if !input::is_gzip(&head) && !input::is_tar(&head) {
        let kind = input::kind(&head).map(|kind| format!("; this is {kind}")).unwrap_or_default();
        let allowed = "allowed are a folder, or CIFAR-10 or CIFAR-100 as .tar.gz in the binary or python version";
        return Err(DataError::malformed(path, format!("is not a .tar.gz file; {allowed}{kind}")));
    }
    let file = input::open(path)?;
    let packed = file.metadata().map_err(DataError::io("read", path))?.len();
    let damaged = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => DataError::malformed(path, "is cut short; copy or download it again"),
        _ => DataError::malformed(path, format!("is damaged, or not a .tar.gz file: {}", one_line(&e))),
    };
    let file = BufReader::new(file);
    // Some browsers decompress a download and keep its name.
    let unpacked: Box<dyn Read> =
        if input::is_gzip(&head) { Box::new(Members(Some(GzDecoder::new(file)))) } else { Box::new(file) };
    let mut archive = Archive::new(unpacked);
    for (number, entry) in archive.entries().map_err(damaged)?.raw(true).enumerate() {
        let mut entry = entry.map_err(damaged)?;
        assembly.progress.check()?;
        if number >= MAX_MEMBERS {
            return Err(DataError::malformed(
                path,
                format!("has more than {MAX_MEMBERS} members; the official ones have nine"),
            ));
        }
        let member = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let place = Place { path: path.to_path_buf(), member: Some(member.clone()) };
        let kind = entry.header().entry_type();
        if kind.is_pax_local_extensions() || kind.is_pax_global_extensions() {
            check_extension(&mut entry, &place, damaged)?;
            continue;
        }
        check_member(&member, kind).map_err(|problem| place.wrong(problem))?;
        if kind.is_dir() {
            continue;
        }
        let name = member.rsplit('/').next().unwrap_or_default();
        if is_extra(name) {
            return Err(extra(path, name));
        }
        let Some((version, part)) = recognise(name, assembly.labels) else {
            check_unneeded(entry.size(), MAX_UNNEEDED, &place)?;
            continue;
        };
        assembly.expect(version, part, &place)?;
        let size = entry.size();
        check_size(version, part, assembly.labels, size, &place)?;
        let likely = size.min(packed.saturating_mul(MAX_PACKED));
        let bytes = read_all(&mut entry, likely, size, assembly.progress)?.map_err(damaged)?;
        if bytes.len() as u64 != size {
            return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
        }
        assembly.add(version, part, place, bytes)?;
    }
    // The checksum is at the end.
    let padding = io::copy(&mut archive.into_inner().take(MAX_PADDING + 1), &mut io::sink()).map_err(damaged)?;
    if padding > MAX_PADDING {
        return Err(DataError::malformed(path, format!("has more than {MAX_PADDING} bytes after its end")));
    }
    Ok(())
}

/// Decompresses a gzip file of one or more members. Ignores trailing bytes that are not a member,
/// as `gzip` does.
struct Members<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.0 {
            let read = member.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            let mut rest = self.0.take().map(GzDecoder::into_inner);
            let next = rest.as_mut().map(BufRead::fill_buf).transpose()?;
            if matches!(next, Some([0x1f, 0x8b, ..] | [0x1f])) {
                self.0 = rest.map(GzDecoder::new);
            }
        }
        Ok(0)
    }
}

fn extra(whole: &Path, name: &str) -> DataError {
    DataError::malformed(
        whole,
        format!(
            "holds {}, which CIFAR-10 does not have; allowed are data_batch_1 to 5 and test_batch",
            name.escape_debug()
        ),
    )
}

/// Allows files and folders under plain names only. Nothing is unpacked, but the authors' archives
/// have nothing else.
fn check_member(member: &str, kind: EntryType) -> Result<(), String> {
    if member.starts_with(['/', '\\']) || member.split(['/', '\\']).any(|part| part == "..") {
        return Err("is a name that leads out of the archive; allowed are names below it".into());
    }
    match kind {
        EntryType::Regular | EntryType::Directory => Ok(()),
        EntryType::GNULongName | EntryType::GNULongLink => Err("is a name of more than 100 characters".into()),
        EntryType::Symlink | EntryType::Link => Err("is a link; allowed are files and folders".into()),
        _ => Err("is neither a file nor a folder; nothing else is allowed".into()),
    }
}

/// Extended headers may have times and owners, but no other name or size than the header.
fn check_extension(
    entry: &mut Entry<impl Read>,
    place: &Place,
    damaged: impl FnOnce(io::Error) -> DataError,
) -> Result<()> {
    check_unneeded(entry.size(), MAX_EXTENSION, place)?;
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(damaged)?;
    for extension in PaxExtensions::new(&bytes).filter_map(io::Result::ok) {
        let key = extension.key().unwrap_or_default();
        if key == "path" || key == "size" || key.starts_with("GNU.sparse") {
            return Err(place.wrong(format!("has an extended header `{key}`; allowed are plain names and files")));
        }
    }
    Ok(())
}

fn check_unneeded(size: u64, most: u64, place: &Place) -> Result<()> {
    if size <= most {
        return Ok(());
    }
    Err(place.wrong(format!("has {size} bytes; allowed are {most} for files that belong to no version of CIFAR")))
}

fn check_size(version: &Version, part: Part, labels: Labels, size: u64, place: &Place) -> Result<()> {
    let most = version.most_bytes(part);
    if size <= most {
        return Ok(());
    }
    Err(place.wrong(format!(
        "has {size} bytes; {} of {} has at most {most}",
        version.file(part, labels),
        version.name()
    )))
}

/// Reads up to `most` bytes and a little more. Allocates for `likely` bytes, and grows only as
/// bytes arrive.
fn read_all(mut reader: impl Read, likely: u64, most: u64, progress: &dyn Progress) -> Result<io::Result<Vec<u8>>> {
    const STEP: u64 = 4 * 1024 * 1024;
    let mut bytes = Vec::new();
    bytes.reserve_exact(usize::try_from(likely).unwrap_or(0));
    while bytes.len() as u64 <= most {
        progress.check()?;
        match reader.by_ref().take(STEP).read_to_end(&mut bytes) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) => return Ok(Err(e)),
        }
    }
    bytes.shrink_to_fit();
    Ok(Ok(bytes))
}

fn one_line(error: &io::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
