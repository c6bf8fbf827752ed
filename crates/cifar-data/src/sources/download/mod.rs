//! Downloads the official archive of CIFAR-10. Resumes partial downloads, and checks size and MD5.
//!
//! The received part is in a hidden file beside the destination until it is complete and verified.
//! A server that cannot be reached or has another file is [`DataError::Unavailable`]: nothing is
//! lost, and the caller may continue without. Later failures keep the received part for the next
//! call.

mod request;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::{Digest, Md5};

use self::request::{Ended, Request};
use crate::{DataError, Progress, Result};

/// A file on a server, with what identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The address, `http://` or `https://`.
    pub url: String,
    /// The length in bytes.
    pub bytes: u64,
    /// The MD5 of the content, in hexadecimal.
    pub md5: String,
}

impl Remote {
    /// Returns the binary version of CIFAR-10 on its authors' page.
    pub fn official() -> Self {
        Self {
            url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz".into(),
            bytes: 170_052_171,
            md5: "c32a1d4ab5d03f1284b67883e8d87530".into(),
        }
    }
}

/// File name of [`Remote::official`].
pub const OFFICIAL: &str = "cifar-10-binary.tar.gz";

/// Time limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For name resolution, and again for the connection; twice as long for the first response.
    pub connect: Duration,
    /// For the next bytes.
    pub stall: Duration,
    /// How long the average rate may stay below `least_rate`.
    pub window: Duration,
    /// The lowest average rate, in bytes per second.
    pub least_rate: u64,
}

impl Default for Timeouts {
    /// Returns 5 and 30 seconds, and 10 kB per second over a minute.
    fn default() -> Self {
        let [connect, stall, window] = [5, 30, 60].map(Duration::from_secs);
        Self { connect, stall, window, least_rate: 10_000 }
    }
}

/// Number of lost connections that end the download.
const ATTEMPTS: usize = 3;
/// Size of the blocks that the network thread hands to the writing thread.
const BLOCK: usize = 256 * 1024;

/// Returns the path of the received part of `destination`.
pub fn partial(destination: &Path) -> PathBuf {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    destination.with_file_name(format!(".partial-{name}"))
}

/// Downloads `remote` to `destination`, and creates its folder if it is missing.
///
/// ```no_run
/// use cifar_data::Silent;
/// use cifar_data::sources::download::{OFFICIAL, Remote, Timeouts, fetch};
///
/// fetch(&Remote::official(), OFFICIAL.as_ref(), Timeouts::default(), &Silent)?;
/// # Ok::<(), cifar_data::DataError>(())
/// ```
///
/// # Errors
/// [`DataError::Unavailable`] if there is no connection or no such file, or the server redirects to
/// an unknown host or away from https. Other errors if the connection is lost three times, the
/// server stalls or is too slow, or the download is not the right file; that is then removed.
pub fn fetch(remote: &Remote, destination: &Path, timeouts: Timeouts, progress: &dyn Progress) -> Result<()> {
    let part = partial(destination);
    if part.is_symlink() {
        return Err(DataError::malformed(&part, "is a link, and downloads are not written through links; remove it"));
    }
    let mut answered = false;
    for attempt in 1.. {
        let have = fs::metadata(&part).map_or(0, |found| found.len());
        if have == remote.bytes {
            break;
        }
        let request = Request { remote, have: if have < remote.bytes { have } else { 0 }, timeouts };
        let ended = request.run(&part, progress)?;
        let (url, kept) = (&remote.url, "the received part is kept, and the next run resumes from it");
        match ended {
            Ended::Complete => break,
            Ended::Unavailable(problem) if !answered => {
                return Err(DataError::Unavailable { url: url.clone(), problem });
            }
            Ended::Stalled(bytes) => {
                let seconds = timeouts.stall.as_secs_f64();
                let problem = format!("no data for {seconds} seconds, after {bytes} of {} bytes", remote.bytes);
                return Err(DataError::Unsuitable(format!("{url}: {problem}; {kept}")));
            }
            Ended::Slow(rate, bytes) => {
                let (seconds, least) = (timeouts.window.as_secs_f64(), timeouts.least_rate);
                let problem = format!(
                    "only {rate} bytes per second over {seconds} seconds, but {least} are needed; after {bytes} of {} bytes",
                    remote.bytes
                );
                return Err(DataError::Unsuitable(format!("{url}: {problem}; {kept}")));
            }
            Ended::CutOff(problem) | Ended::Unavailable(problem) if attempt == ATTEMPTS => {
                return Err(DataError::Unsuitable(format!(
                    "{url}: the connection was lost {ATTEMPTS} times: {problem}; {kept}"
                )));
            }
            Ended::CutOff(_) | Ended::Unavailable(_) => answered = true,
        }
    }
    let found = md5_of(&part, progress)?;
    if found != remote.md5 {
        fs::remove_file(&part).map_err(DataError::io("remove", &part))?;
        return Err(DataError::Unsuitable(format!(
            "{}: the download has the MD5 {found}, expected {}; it was removed",
            remote.url, remote.md5
        )));
    }
    File::open(&part).and_then(|file| file.sync_all()).map_err(DataError::io("write", &part))?;
    fs::rename(&part, destination).map_err(DataError::io("create", destination))
}

fn md5_of(path: &Path, progress: &dyn Progress) -> Result<String> {
    let mut file = File::open(path).map_err(DataError::io("read", path))?;
    let mut hasher = Md5::new();
    let mut block = vec![0; BLOCK];
    loop {
        progress.check()?;
        match file.read(&mut block).map_err(DataError::io("read", path))? {
            0 => break,
            read => hasher.update(&block[..read]),
        }
    }
    let digest: [u8; 16] = hasher.finalize().into();
    Ok(format!("{:032x}", u128::from_be_bytes(digest)))
}
