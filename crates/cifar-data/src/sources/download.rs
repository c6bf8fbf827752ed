//! The official archive of CIFAR-10, fetched from its page: taken up where it was cut off, and checked by size and MD5.
//!
//! What has come lies in a hidden file beside the destination until all of it is there and right. A server that cannot be
//! reached, or that has something else, is [`DataError::Unavailable`]: nothing was lost, and the caller may go on without.
//! What goes wrong later keeps what has come, for the next time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use md5::{Digest, Md5};

use crate::{DataError, Monitor, Result};

/// A file somewhere else, and how to tell that it is the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// `http://` or `https://`.
    pub url: String,
    /// Its length.
    pub bytes: u64,
    /// The MD5 of its contents, in hexadecimal.
    pub md5: String,
}

impl Remote {
    /// The binary version of CIFAR-10 at its authors' page.
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

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For an address, and again for a connection; twice as long for the first answer.
    pub connect: Duration,
    /// For the next bytes.
    pub stall: Duration,
    /// How long the connection may be slower than `least_rate` on average.
    pub window: Duration,
    /// Bytes a second.
    pub least_rate: u64,
}

impl Default for Patience {
    /// 5 and 30 seconds; 10 kB a second over a minute.
    fn default() -> Self {
        let [connect, stall, window] = [5, 30, 60].map(Duration::from_secs);
        Self { connect, stall, window, least_rate: 10_000 }
    }
}

/// Times that a connection which breaks off is taken up again before that is an error.
const ATTEMPTS: usize = 3;
/// Redirections that are followed.
const REDIRECTS: usize = 5;
/// Hosts to which any other may redirect.
const KNOWN_HOSTS: [&str; 2] = ["www.cs.toronto.edu", "cs.toronto.edu"];
/// Bytes that travel at a time between the thread that waits for the network and the one that writes.
const BLOCK: usize = 256 * 1024;
/// How often the user's wish to stop is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Where the part of `destination` lies that has come so far.
pub fn partial(destination: &Path) -> PathBuf {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    destination.with_file_name(format!(".partial-{name}"))
}

/// Fetches `remote` to `destination`, whose folder is made if it is missing.
///
/// # Errors
/// [`DataError::Unavailable`] if there is no connection or no such file, or the server redirects to an unknown host or away from
/// https; others if the connection breaks off three times, nothing or too little comes for too long, or what came is not the right
/// file, which is removed then.
pub fn fetch(remote: &Remote, destination: &Path, patience: Patience, monitor: &dyn Monitor) -> Result<()> {
    let part = partial(destination);
    if part.is_symlink() {
        return Err(DataError::malformed(&part, "is a link, and this program writes through no links; remove it"));
    }
    let mut answered = false;
    for attempt in 1.. {
        let have = fs::metadata(&part).map_or(0, |found| found.len());
        if have == remote.bytes {
            break;
        }
        let request = Request { remote, have: if have < remote.bytes { have } else { 0 }, patience };
        let ended = request.run(&part, monitor)?;
        let (url, kept) = (&remote.url, "what has come is kept, and the next run goes on there");
        match ended {
            Ended::Complete => break,
            Ended::Unavailable(problem) if !answered => {
                return Err(DataError::Unavailable { url: url.clone(), problem });
            }
            Ended::Stalled(bytes) => {
                let seconds = patience.stall.as_secs_f64();
                let problem = format!("nothing came for {seconds} seconds, behind {bytes} of {} bytes", remote.bytes);
                return Err(DataError::Unsuitable(format!("{url}: {problem}; {kept}")));
            }
            Ended::Slow(rate, bytes) => {
                let (seconds, least) = (patience.window.as_secs_f64(), patience.least_rate);
                let problem = format!(
                    "only {rate} bytes a second came for {seconds} seconds, {least} are needed; after {bytes} of {} bytes",
                    remote.bytes
                );
                return Err(DataError::Unsuitable(format!("{url}: {problem}; {kept}")));
            }
            Ended::CutOff(problem) | Ended::Unavailable(problem) if attempt == ATTEMPTS => {
                return Err(DataError::Unsuitable(format!("{url}: broke off {ATTEMPTS} times: {problem}; {kept}")));
            }
            Ended::CutOff(_) | Ended::Unavailable(_) => answered = true,
        }
    }
    let found = md5_of(&part, monitor)?;
    if found != remote.md5 {
        fs::remove_file(&part).map_err(DataError::io("remove", &part))?;
        return Err(DataError::Unsuitable(format!(
            "{}: what came has the MD5 {found}, expected {}; it was removed",
            remote.url, remote.md5
        )));
    }
    File::open(&part).and_then(|file| file.sync_all()).map_err(DataError::io("write", &part))?;
    fs::rename(&part, destination).map_err(DataError::io("create", destination))
}

/// How a request ended.
enum Ended {
    Complete,
    /// Before anything came that is of use.
    Unavailable(String),
    /// In the middle, with what is there kept.
    CutOff(String),
    /// Nothing came any more, behind so many bytes.
    Stalled(u64),
    /// So few bytes came a second, behind so many bytes.
    Slow(u64, u64),
}

struct Request<'a> {
    remote: &'a Remote,
    /// Bytes that are there already.
    have: u64,
    patience: Patience,
}

/// What the thread at the network tells.
enum News {
    /// The body begins at this byte.
    Body(u64),
    Bytes(Vec<u8>),
    End,
    Unavailable(String),
    Broken(String),
}

impl Request<'_> {
    /// Asks for the rest and writes it behind what is there.
    fn run(&self, part: &Path, monitor: &dyn Monitor) -> Result<Ended> {
        const WHAT: &str = "downloading";
        // It waits on its own, so that neither a stall nor Ctrl-C must wait for it; it ends with its next block.
        let (sender, news) = sync_channel(4);
        let (url, have, bytes, connect) =
            (self.remote.url.clone(), self.have, self.remote.bytes, self.patience.connect);
        let spawned = thread::Builder::new().name("download".into()).spawn(move || {
            let _ = talk(&url, have, bytes, connect, &sender);
        });
        spawned.map_err(DataError::io("start a thread for", part))?;
        let begin = match wait(&news, 2 * self.patience.connect, monitor)? {
            Some(News::Body(begin)) => begin,
            Some(News::Unavailable(problem) | News::Broken(problem)) => return Ok(Ended::Unavailable(problem)),
            Some(News::Bytes(_) | News::End) | None => {
                let seconds = 2.0 * self.patience.connect.as_secs_f64();
                return Ok(Ended::Unavailable(format!("no answer within {seconds} seconds")));
            }
        };
        let mut file = open(part, begin)?;
        let mut at = begin;
        let (mut since, mut from) = (Instant::now(), begin);
        loop {
            monitor.progress(WHAT, at, self.remote.bytes);
            match wait(&news, self.patience.stall, monitor)? {
                Some(News::Bytes(mut block)) => {
                    // What goes on behind the end is not wanted, and the MD5 tells whether this is the file.
                    block.truncate(usize::try_from(self.remote.bytes - at).unwrap_or(usize::MAX));
                    file.write_all(&block).map_err(DataError::io("write", part))?;
                    at += block.len() as u64;
                    if at == self.remote.bytes {
                        return Ok(Ended::Complete);
                    }
                    let elapsed = since.elapsed();
                    if elapsed >= self.patience.window {
                        let rate = ((at - from) as f64 / elapsed.as_secs_f64()) as u64;
                        if rate < self.patience.least_rate {
                            return Ok(Ended::Slow(rate, at));
                        }
                        (since, from) = (Instant::now(), at);
                    }
                }
                Some(News::Broken(problem) | News::Unavailable(problem)) => return Ok(Ended::CutOff(problem)),
                Some(News::End | News::Body(_)) => {
                    return Ok(Ended::CutOff(format!("ended behind {at} of {} bytes", self.remote.bytes)));
                }
                None => return Ok(Ended::Stalled(at)),
            }
        }
    }
}

/// The file of what has come, cut to `begin` bytes, and ready for more.
fn open(part: &Path, begin: u64) -> Result<File> {
    if let Some(parent) = part.parent() {
        fs::create_dir_all(parent).map_err(DataError::io("create the folder", parent))?;
    }
    let open = || -> io::Result<File> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(part)?;
        file.set_len(begin)?;
        file.seek(io::SeekFrom::End(0))?;
        Ok(file)
    };
    open().map_err(DataError::io("write", part))
}

/// The next news, or none within `patience`.
fn wait(news: &Receiver<News>, patience: Duration, monitor: &dyn Monitor) -> Result<Option<News>> {
    let deadline = Instant::now() + patience;
    loop {
        monitor.check()?;
        match news.recv_timeout(TICK.min(deadline.saturating_duration_since(Instant::now()))) {
            Ok(news) => return Ok(Some(news)),
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => return Ok(Some(News::Broken("the connection is gone".into()))),
        }
    }
}

/// Talks to the server; ends early once nobody listens.
fn talk(
    url: &str,
    have: u64,
    bytes: u64,
    connect: Duration,
    news: &SyncSender<News>,
) -> std::result::Result<(), std::sync::mpsc::SendError<News>> {
    let mut url = url.to_string();
    let mut redirected = 0;
    let response = loop {
        let response = match ask(&url, have, connect) {
            Ok(response) => response,
            Err(e) => return news.send(News::Unavailable(one_line(&e))),
        };
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        match location.filter(|_| response.status().is_redirection()) {
            Some(_) if redirected == REDIRECTS => {
                return news.send(News::Unavailable(format!("redirects more than {REDIRECTS} times")));
            }
            Some(location) => match redirection(&url, location) {
                Ok(next) => (url, redirected) = (next, redirected + 1),
                Err(problem) => return news.send(News::Unavailable(problem)),
            },
            None => break response,
        }
    };
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(String::from);
    let begin = match response.status().as_u16() {
        200 => match header("content-length") {
            Some(length) if length.parse() != Ok(bytes) => {
                return news.send(News::Unavailable(format!("has {length} bytes there, expected {bytes}")));
            }
            _ => 0,
        },
        206 => match header("content-range") {
            Some(range) if range == format!("bytes {have}-{}/{bytes}", bytes - 1) => have,
            range => {
                let range = range.unwrap_or_else(|| "no range".into());
                return news
                    .send(News::Unavailable(format!("answers with {range}, asked was {have}- of {bytes} bytes")));
            }
        },
        status => return news.send(News::Unavailable(format!("the server answers with status {status}"))),
    };
    news.send(News::Body(begin))?;
    let mut body = response.into_body().into_reader();
    loop {
        // As it comes: a slow connection is none that stalls.
        let mut block = vec![0; BLOCK];
        match body.read(&mut block) {
            Err(e) => return news.send(News::Broken(one_line(&e))),
            Ok(0) => return news.send(News::End),
            Ok(read) => {
                block.truncate(read);
                news.send(News::Bytes(block))?;
            }
        }
    }
}

/// One request, without following redirections.
fn ask(url: &str, have: u64, connect: Duration) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
    let mut config = ureq::Agent::config_builder()
        .timeout_resolve(Some(connect))
        .timeout_connect(Some(connect))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("cifar-cli/", env!("CARGO_PKG_VERSION")));
    if ["http://127.", "http://localhost", "http://[::1]"].iter().any(|here| url.starts_with(here)) {
        // No proxy knows what runs on this machine.
        config = config.proxy(None);
    }
    let mut request = config.build().new_agent().get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    request.call()
}

/// Where `location` leads, as the answer to a request for `url`.
///
/// # Errors
/// If that is another host, unless it is the archive's own, or no https where `url` is.
fn redirection(url: &str, location: &str) -> Result<String, String> {
    let parse = |text: &str| text.parse::<ureq::http::Uri>().ok();
    let from = parse(url).ok_or_else(|| format!("{url} is no address"))?;
    let (scheme, authority) = (from.scheme_str().unwrap_or("https"), from.authority().map_or("", |a| a.as_str()));
    let next = if location.contains("://") {
        location.to_string()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let to = parse(&next).ok_or_else(|| format!("redirects to {location:?}, which is no address"))?;
    let is_secure = |uri: &ureq::http::Uri| uri.scheme_str() == Some("https");
    if is_secure(&from) && !is_secure(&to) {
        return Err(format!("redirects from https to {next}"));
    }
    let host = to.host().unwrap_or_default();
    if Some(host) != from.host() && !KNOWN_HOSTS.contains(&host) {
        return Err(format!("redirects to the host {host:?}; if that is right, give --mirror {next}"));
    }
    Ok(next)
}

fn md5_of(path: &Path, monitor: &dyn Monitor) -> Result<String> {
    let mut file = File::open(path).map_err(DataError::io("read", path))?;
    let mut hasher = Md5::new();
    let mut block = vec![0; BLOCK];
    loop {
        monitor.check()?;
        match file.read(&mut block).map_err(DataError::io("read", path))? {
            0 => break,
            read => hasher.update(&block[..read]),
        }
    }
    let digest: [u8; 16] = hasher.finalize().into();
    Ok(format!("{:032x}", u128::from_be_bytes(digest)))
}

/// An error and all its causes, those left out that a message before quotes.
fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if !line.contains(&text) {
            line = if line.is_empty() { text } else { format!("{line}: {text}") };
        }
        // ureq and errors of the system hold their causes without telling them as such.
        next = match error.downcast_ref::<ureq::Error>() {
            Some(ureq::Error::Io(inner)) => Some(inner),
            _ => match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            },
        };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_stay_on_https_and_on_known_hosts() {
        let check =
            |url: &str, location: &str, expected: &str| assert_eq!(redirection(url, location).unwrap(), expected);
        let own = "https://a.org/x/y.gz";
        check(own, "https://a.org/z.gz", "https://a.org/z.gz");
        check(own, "/z.gz", "https://a.org/z.gz");
        check(own, "z.gz", "https://a.org/x/z.gz");
        check(own, "//a.org/z.gz", "https://a.org/z.gz");
        check(own, "https://www.cs.toronto.edu/z", "https://www.cs.toronto.edu/z");
        check("http://a.org:8080/x", "https://a.org/z", "https://a.org/z");
        check("http://a.org:8080/x", "/z", "http://a.org:8080/z");
        let refuse = |location: &str, words: &str| {
            let problem = redirection(own, location).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        };
        refuse("http://a.org/z.gz", "redirects from https to http://a.org/z.gz");
        refuse("http://www.cs.toronto.edu/z.gz", "redirects from https");
        refuse("https://evil.org/z.gz", "the host \"evil.org\"; if that is right, give --mirror https://evil.org/z.gz");
        refuse("https://a.org@evil.org/z.gz", "the host \"evil.org\"");
        refuse("//evil.org/z.gz", "the host \"evil.org\"");
        refuse("file:///etc/passwd", "redirects to \"file:///etc/passwd\", which is no address");
        refuse("https://a b/", "which is no address");
    }

    #[test]
    fn every_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("the handshake\nfailed")]
        struct Handshake(#[source] io::Error);
        let cause = io::Error::other("certificate has expired");
        let error = ureq::Error::Io(io::Error::other(Handshake(cause)));
        let line = one_line(&error);
        assert_eq!(line, "io: the handshake failed: certificate has expired");
    }
}
