//! One request: asks the server for the rest of a file, and appends what it sends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{BLOCK, Remote, Timeouts};
use crate::{DataError, Progress, Result};

/// Number of redirects that are followed.
const REDIRECTS: usize = 5;
/// Hosts that any other host may redirect to.
const KNOWN_HOSTS: [&str; 2] = ["www.cs.toronto.edu", "cs.toronto.edu"];
/// Time between two checks for cancellation.
const TICK: Duration = Duration::from_millis(100);

/// How a request ended.
pub(super) enum Ended {
    Complete,
    /// Before any useful bytes.
    Unavailable(String),
    /// In the middle; the received part is kept.
    CutOff(String),
    /// No more bytes, after this many.
    Stalled(u64),
    /// Too few bytes per second; the rate, and the bytes received.
    Slow(u64, u64),
}

pub(super) struct Request<'a> {
    pub(super) remote: &'a Remote,
    /// Bytes received earlier.
    pub(super) have: u64,
    pub(super) timeouts: Timeouts,
}

/// A message from the network thread.
enum News {
    /// The body begins at this byte.
    Body(u64),
    Bytes(Vec<u8>),
    End,
    Unavailable(String),
    Broken(String),
}

impl Request<'_> {
    /// Requests the rest of the file and appends it.
    pub(super) fn run(&self, part: &Path, progress: &dyn Progress) -> Result<Ended> {
        const WHAT: &str = "downloading";
        // The network thread waits on its own, so that neither a stall nor Ctrl-C has to wait for
        // it. It ends with its next block.
        let (sender, news) = sync_channel(4);
        let (url, have, bytes, connect) =
            (self.remote.url.clone(), self.have, self.remote.bytes, self.timeouts.connect);
        let spawned = thread::Builder::new().name("download".into()).spawn(move || {
            let _ = talk(&url, have, bytes, connect, &sender);
        });
        spawned.map_err(DataError::io("start a thread for", part))?;
        let begin = match wait(&news, 2 * self.timeouts.connect, progress)? {
            Some(News::Body(begin)) => begin,
            Some(News::Unavailable(problem) | News::Broken(problem)) => return Ok(Ended::Unavailable(problem)),
            Some(News::Bytes(_) | News::End) | None => {
                let seconds = 2.0 * self.timeouts.connect.as_secs_f64();
                return Ok(Ended::Unavailable(format!("no answer within {seconds} seconds")));
            }
        };
        let mut file = open(part, begin)?;
        let mut at = begin;
        let (mut since, mut from) = (Instant::now(), begin);
        loop {
            progress.update(WHAT, at, self.remote.bytes);
            match wait(&news, self.timeouts.stall, progress)? {
                Some(News::Bytes(mut block)) => {
                    // Bytes beyond the end are dropped; the MD5 shows whether this is the file.
                    block.truncate(usize::try_from(self.remote.bytes - at).unwrap_or(usize::MAX));
                    file.write_all(&block).map_err(DataError::io("write", part))?;
                    at += block.len() as u64;
                    if at == self.remote.bytes {
                        return Ok(Ended::Complete);
                    }
                    let elapsed = since.elapsed();
                    if elapsed >= self.timeouts.window {
                        let rate = ((at - from) as f64 / elapsed.as_secs_f64()) as u64;
                        if rate < self.timeouts.least_rate {
                            return Ok(Ended::Slow(rate, at));
                        }
                        (since, from) = (Instant::now(), at);
                    }
                }
                Some(News::Broken(problem) | News::Unavailable(problem)) => return Ok(Ended::CutOff(problem)),
                Some(News::End | News::Body(_)) => {
                    return Ok(Ended::CutOff(format!("ended after {at} of {} bytes", self.remote.bytes)));
                }
                None => return Ok(Ended::Stalled(at)),
            }
        }
    }
}

/// Opens the received part, cut to `begin` bytes, for appending.
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

/// Returns the next message, or none within `timeout`.
fn wait(news: &Receiver<News>, timeout: Duration, progress: &dyn Progress) -> Result<Option<News>> {
    let deadline = Instant::now() + timeout;
    loop {
        progress.check()?;
        match news.recv_timeout(TICK.min(deadline.saturating_duration_since(Instant::now()))) {
            Ok(news) => return Ok(Some(news)),
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => return Ok(Some(News::Broken("the connection was closed".into()))),
        }
    }
}

/// Talks to the server; ends early when nobody receives.
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
                return news
                    .send(News::Unavailable(format!("the file on the server has {length} bytes, expected {bytes}")));
            }
            _ => 0,
        },
        206 => match header("content-range") {
            Some(range) if range == format!("bytes {have}-{}/{bytes}", bytes - 1) => have,
            range => {
                let range = range.unwrap_or_else(|| "no range".into());
                return news.send(News::Unavailable(format!(
                    "the server answers with {range}, requested were bytes {have}- of {bytes}"
                )));
            }
        },
        status => return news.send(News::Unavailable(format!("the server answers with status {status}"))),
    };
    news.send(News::Body(begin))?;
    let mut body = response.into_body().into_reader();
    loop {
        // Blocks are sent as they arrive: a slow connection is not a stalled one.
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

/// Sends one request, without following redirects.
fn ask(url: &str, have: u64, connect: Duration) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
    let mut config = ureq::Agent::config_builder()
        .timeout_resolve(Some(connect))
        .timeout_connect(Some(connect))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("cifar-data/", env!("CARGO_PKG_VERSION")));
    if ["http://127.", "http://localhost", "http://[::1]"].iter().any(|here| url.starts_with(here)) {
        // A proxy cannot reach servers on this machine.
        config = config.proxy(None);
    }
    let mut request = config.build().new_agent().get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    request.call()
}

/// Returns where `location` leads, as the answer to a request for `url`.
///
/// # Errors
/// If it leads to another host that is not one of the archive's own, or from https to something
/// else.
fn redirection(url: &str, location: &str) -> Result<String, String> {
    let parse = |text: &str| text.parse::<ureq::http::Uri>().ok();
    let from = parse(url).ok_or_else(|| format!("{url} is not a valid address"))?;
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
    let to = parse(&next).ok_or_else(|| format!("redirects to {location:?}, which is not a valid address"))?;
    let is_secure = |uri: &ureq::http::Uri| uri.scheme_str() == Some("https");
    if is_secure(&from) && !is_secure(&to) {
        return Err(format!("redirects from https to {next}"));
    }
    let host = to.host().unwrap_or_default();
    if Some(host) != from.host() && !KNOWN_HOSTS.contains(&host) {
        return Err(format!("redirects to the host {host:?}; if that is right, fetch {next} instead"));
    }
    Ok(next)
}

/// Returns an error with all its causes, without repeating causes that an earlier message quotes.
fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if !line.contains(&text) {
            line = if line.is_empty() { text } else { format!("{line}: {text}") };
        }
        // Some errors of ureq and of the system hold a cause that `source` does not return.
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
    fn redirects_stay_on_https_and_on_known_hosts() {
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
        refuse("https://evil.org/z.gz", "the host \"evil.org\"; if that is right, fetch https://evil.org/z.gz instead");
        refuse("https://a.org@evil.org/z.gz", "the host \"evil.org\"");
        refuse("//evil.org/z.gz", "the host \"evil.org\"");
        refuse("file:///etc/passwd", "redirects to \"file:///etc/passwd\", which is not a valid address");
        refuse("https://a b/", "which is not a valid address");
    }

    #[test]
    fn every_cause_appears_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("the handshake\nfailed")]
        struct Handshake(#[source] io::Error);
        let cause = io::Error::other("certificate has expired");
        let error = ureq::Error::Io(io::Error::other(Handshake(cause)));
        let line = one_line(&error);
        assert_eq!(line, "io: the handshake failed: certificate has expired");
    }
}
