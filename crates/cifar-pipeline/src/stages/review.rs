//! `review`: shows the page of hard images in a browser on this machine, and writes each decision
//! into `labels/review.csv` at once.
//!
//! The server is reachable from this machine alone, and only under an address with a secret token:
//! other users of the machine, and pages of other sites in the same browser, cannot use it.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cifar_data::labels::{parse_review, read_review};
use cifar_data::output::write_file;
use cifar_data::prepare::PreparedReport;
use cifar_data::{DataError, Stage};
use cifar_eval::hard_images::PAGE;
use serde::Serialize;

use crate::lock::ProjectLock;
use crate::{Context as _, Error, Project, Reporter, Result, bail};

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the server looks for connections and for a request to stop.
const PAUSE: Duration = Duration::from_millis(20);
/// Largest head of a request, bytes.
const MAX_HEAD: usize = 16 << 10;
/// Largest file of decisions, bytes: a million images with notes.
const MAX_BODY: usize = 64 << 20;
/// Connections at a time. A browser opens at most six.
const MAX_CONNECTIONS: usize = 32;
/// What a missing file of decisions has.
const EMPTY: &[u8] = b"id,content,file,decision,label,note\n";

/// How to review.
#[derive(Debug, Clone, Default)]
pub struct ReviewOptions {
    /// A folder with the page; that of `hard-images` if none.
    pub folder: Option<PathBuf>,
    /// The port; 0 for any free one.
    pub port: u16,
}

/// What a review left.
#[derive(Debug, Serialize)]
pub struct Reviewed {
    /// The file of decisions.
    pub file: PathBuf,
    /// The number of decisions in it.
    pub decisions: usize,
}

impl fmt::Display for Reviewed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} decisions in {}; `cifar-cli prepare` applies them", self.decisions, self.file.display())
    }
}

/// Serves the page until the user stops it. `started` receives the address.
///
/// # Errors
/// If there is no page, the port is taken, or another command uses the project.
pub fn run(
    project: &Project,
    options: &ReviewOptions,
    reporter: &dyn Reporter,
    started: impl FnOnce(&str),
) -> Result<Reviewed> {
    let layout = &project.layout;
    let _lock = ProjectLock::take(layout, "review")?;
    let page = options.folder.clone().unwrap_or_else(|| layout.hard_images()).join(PAGE);
    if !page.is_file() {
        let problem = "there is no such file".into();
        return Err(DataError::Missing { path: page, problem, made_by: Stage::HardImages.alone() }.into());
    }
    let page = std::fs::read(&page).with_context(|| format!("{}: cannot read", page.display()))?;
    let classes = PreparedReport::read(&layout.prepared())?.classes;
    let file = layout.review();
    if file.exists() {
        read_review(&file, &classes)?;
    }
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)) {
        Ok(listener) => listener,
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "port {} is used by another program; name another one with `--port`, or leave it out for any free one",
            options.port
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot listen on port {}", options.port)),
    };
    let server =
        Server { address: listener.local_addr()?, token: token()?, page, classes, file, write: Mutex::new(()) };
    started(&server.url());
    server.serve(&listener, reporter)?;
    let decisions = if server.file.exists() { read_review(&server.file, &server.classes)?.len() } else { 0 };
    Ok(Reviewed { file: server.file, decisions })
}

/// Returns 128 random bits as hexadecimal digits.
fn token() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| Error::failed(format!("cannot get random bytes: {e}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// What the connections share.
struct Server {
    address: SocketAddr,
    token: String,
    page: Vec<u8>,
    classes: Vec<String>,
    file: PathBuf,
    /// Held from comparing the file's version to replacing the file.
    write: Mutex<()>,
}

impl Server {
    fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.token)
    }

    /// Answers requests, each on its own thread, until the reporter asks to stop.
    fn serve(&self, listener: &TcpListener, reporter: &dyn Reporter) -> Result<()> {
        listener.set_nonblocking(true)?;
        let connections = AtomicUsize::new(0);
        thread::scope(|scope| {
            while reporter.check().is_ok() {
                match listener.accept() {
                    Ok((stream, _)) if connections.load(Ordering::Relaxed) < MAX_CONNECTIONS => {
                        connections.fetch_add(1, Ordering::Relaxed);
                        let connections = &connections;
                        scope.spawn(move || {
                            // A browser that goes away in the middle is no error.
                            let _ = self.answer(stream);
                            connections.fetch_sub(1, Ordering::Relaxed);
                        });
                    }
                    // Refused by closing it.
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
                    // A connection that ended before it was accepted.
                    Err(_) => thread::sleep(PAUSE),
                }
            }
        });
        Ok(())
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        // On some systems a connection inherits this from its listener.
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let answer = match Request::read(&mut stream) {
            Ok(request) => self.respond(&request),
            Err(refused) => refused,
        };
        answer.send(&mut stream)
    }

    fn respond(&self, request: &Request) -> Answer {
        // A page of another site can make a browser send requests here under another host name.
        let hosts = [self.address.to_string(), format!("localhost:{}", self.address.port())];
        if !request.header("host").is_some_and(|host| hosts.iter().any(|own| own == host)) {
            return Answer::text(403, "this server answers requests to 127.0.0.1 only");
        }
        let is_own = |origin: &str| hosts.iter().any(|own| origin == format!("http://{own}"));
        if request.header("origin").is_some_and(|origin| !is_own(origin)) {
            return Answer::text(403, "this server answers requests from its own page only");
        }
        let path = request.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        match (request.method.as_str(), parts.as_slice()) {
            (_, ["", token, ..]) if !same(token, &self.token) => {
                Answer::text(404, "open the address that `cifar-cli review` printed")
            }
            ("GET", ["", _, ""]) => Answer::new(200, "text/html; charset=utf-8", self.page.clone()),
            ("GET", ["", _, "review.csv"]) => self.decisions(),
            ("PUT", ["", _, "review.csv"]) => self.replace(request),
            (_, ["", _, "" | "review.csv"]) => Answer::text(405, "allowed are GET and, for review.csv, PUT"),
            _ => Answer::text(404, "there is no such page"),
        }
    }

    fn decisions(&self) -> Answer {
        match read(&self.file) {
            Ok(bytes) => {
                Answer { version: Some(version(&bytes)), ..Answer::new(200, "text/csv; charset=utf-8", bytes) }
            }
            Err(error) => Answer::text(500, &error.to_string()),
        }
    }

    /// Replaces the file if it is still the one that the page has read, and the new one is valid.
    fn replace(&self, request: &Request) -> Answer {
        let file = self.file.display();
        if let Err(error) = parse_review(&request.body, &self.file, &self.classes) {
            return Answer::text(400, &error.to_string());
        }
        let Some(expected) = request.header("if-match") else {
            return Answer::text(428, "the header If-Match is missing");
        };
        let _guard = self.write.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match read(&self.file) {
            Ok(bytes) if version(&bytes) == expected => {}
            Ok(_) => return Answer::text(412, &format!("{file} was changed by another program; load the page again")),
            Err(error) => return Answer::text(500, &error.to_string()),
        }
        match write_file(&self.file, &request.body) {
            Ok(()) => Answer { version: Some(version(&request.body)), ..Answer::text(200, "saved") },
            Err(error) => Answer::text(500, &error.to_string()),
        }
    }
}

/// Compares without telling by the time how much is equal.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Reads the decisions; a file that does not exist has none.
fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(EMPTY.to_vec()),
        Err(error) => Err(DataError::io("read", path)(error)),
    }
}

/// Returns the version of a file as an entity tag.
fn version(bytes: &[u8]) -> String {
    format!("\"{}\"", blake3::hash(bytes).to_hex())
}

/// A request of HTTP/1.1 (RFC 9112), as far as browsers send it here.
struct Request {
    method: String,
    path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &mut impl Read) -> Result<Self, Answer> {
        let wrong = |problem: &str| Answer::text(400, problem);
        let deadline = Instant::now() + 4 * PATIENCE;
        let mut bytes = Vec::new();
        let mut buffer = [0; 8 << 10];
        let mut receive = |bytes: &mut Vec<u8>| match stream.read(&mut buffer) {
            _ if Instant::now() > deadline => Err(Answer::text(408, "the request took too long")),
            Ok(0) | Err(_) => Err(Answer::text(408, "the request ended early")),
            Ok(count) => {
                bytes.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        };
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if bytes.len() > MAX_HEAD {
                return Err(Answer::text(431, "the head of the request is too long"));
            }
            receive(&mut bytes)?;
        };
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| wrong("the head of the request is not text"))?;
        let mut lines = head.split("\r\n");
        let parts: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [method, path, "HTTP/1.1" | "HTTP/1.0"] = parts.as_slice() else {
            return Err(wrong("the request has no valid first line"));
        };
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_string()))
        };
        let headers = lines.map(header).collect::<Option<Vec<_>>>().ok_or_else(|| wrong("a header has no colon"))?;
        let (method, path) = (method.to_string(), path.to_string());
        let mut request = Self { method, path, headers, body: bytes.split_off(end + 4) };
        if request.header("transfer-encoding").is_some() {
            return Err(Answer::text(411, "the header Content-Length is missing"));
        }
        let length = request.header("content-length").map_or(Ok(0), str::parse::<usize>);
        let length = length.map_err(|_| wrong("Content-Length is not a number"))?;
        if length > MAX_BODY {
            return Err(Answer::text(413, "the file of decisions is larger than 64 MiB"));
        }
        while request.body.len() < length {
            receive(&mut request.body)?;
        }
        request.body.truncate(length);
        Ok(request)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

struct Answer {
    status: u16,
    kind: &'static str,
    version: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, kind: &'static str, body: Vec<u8>) -> Self {
        Self { status, kind, version: None, body }
    }

    fn text(status: u16, text: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", text.into())
    }

    fn send(&self, stream: &mut impl Write) -> std::io::Result<()> {
        let reason = if self.status == 200 { "OK" } else { "Refused" };
        let version = self.version.as_ref().map(|version| format!("ETag: {version}\r\n")).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{version}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\nConnection: close\r\n\r\n",
            self.status,
            self.kind,
            self.body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&self.body)?;
        stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn server(folder: &Path) -> Server {
        Server {
            address: "127.0.0.1:4000".parse().unwrap(),
            token: TOKEN.into(),
            page: b"<!DOCTYPE html>".to_vec(),
            classes: vec!["cat".into(), "dog".into()],
            file: folder.join("review.csv"),
            write: Mutex::new(()),
        }
    }

    /// Sends `request`, with `{T}` for the token.
    fn ask(server: &Server, request: &str) -> Answer {
        let bytes = request.replace("{T}", TOKEN).replace('\n', "\r\n");
        match Request::read(&mut bytes.as_bytes()) {
            Ok(request) => server.respond(&request),
            Err(refused) => refused,
        }
    }

    #[test]
    fn the_page_and_the_decisions_are_served_under_the_token_alone() {
        let folder = tempfile::tempdir().unwrap();
        let server = server(folder.path());
        assert_eq!(server.url(), format!("http://127.0.0.1:4000/{TOKEN}/"));
        let page = ask(&server, "GET /{T}/ HTTP/1.1\nHost: 127.0.0.1:4000\n\n");
        assert_eq!((page.status, page.body.as_slice()), (200, &b"<!DOCTYPE html>"[..]));
        let decisions = ask(&server, "GET /{T}/review.csv HTTP/1.1\nHost: localhost:4000\n\n");
        assert_eq!((decisions.status, decisions.body.as_slice()), (200, EMPTY));
        for (request, status) in [
            ("GET / HTTP/1.1\nHost: 127.0.0.1:4000\n\n", 404),
            ("GET /0123456789abcdef0123456789abcdee/ HTTP/1.1\nHost: 127.0.0.1:4000\n\n", 404),
            ("GET /{T}/../etc/passwd HTTP/1.1\nHost: 127.0.0.1:4000\n\n", 404),
            ("GET /{T}/ HTTP/1.1\n\n", 403),
            ("GET /{T}/ HTTP/1.1\nHost: evil.example:4000\n\n", 403),
            ("GET /{T}/ HTTP/1.1\nHost: 127.0.0.1:4000\nOrigin: http://evil.example\n\n", 403),
            ("DELETE /{T}/review.csv HTTP/1.1\nHost: 127.0.0.1:4000\n\n", 405),
            ("GET /{T}/ HTTP/2\nHost: 127.0.0.1:4000\n\n", 400),
            ("GET\n\n", 400),
            ("GET /{T}/ HTTP/1.1\nno colon\n\n", 400),
            ("PUT /{T}/review.csv HTTP/1.1\nHost: 127.0.0.1:4000\nContent-Length: x\n\n", 400),
            ("PUT /{T}/review.csv HTTP/1.1\nHost: 127.0.0.1:4000\nContent-Length: 99999999999\n\n", 413),
            ("PUT /{T}/review.csv HTTP/1.1\nHost: 127.0.0.1:4000\nContent-Length: 7\n\nid", 408),
            ("PUT /{T}/review.csv HTTP/1.1\nHost: 127.0.0.1:4000\nTransfer-Encoding: chunked\n\n", 411),
        ] {
            assert_eq!(ask(&server, request).status, status, "{request}");
        }
        let long = format!("GET /{TOKEN}/ HTTP/1.1\nX: {}\n\n", "x".repeat(2 * MAX_HEAD));
        assert_eq!(ask(&server, &long).status, 431);
        assert!(!server.file.exists());
    }

    #[test]
    fn decisions_are_written_if_they_are_valid_and_nobody_else_changed_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let server = server(folder.path());
        let put = |text: &str, version: &str| {
            let request = format!(
                "PUT /{TOKEN}/review.csv HTTP/1.1\r\nHost: 127.0.0.1:4000\r\n{version}Content-Length: {}\r\n\r\n{text}",
                text.len()
            );
            server.respond(&Request::read(&mut request.as_bytes()).unwrap_or_else(|_| panic!("{request}")))
        };
        let first = format!("If-Match: {}\r\n", version(EMPTY));
        let text = "id,content,file,decision,label,note\n7,,,relabel,dog,\n";
        let saved = put(text, &first);
        assert_eq!((saved.status, saved.version), (200, Some(version(text.as_bytes()))));
        assert_eq!(std::fs::read_to_string(&server.file).unwrap(), text);

        let other = "id,content,file,decision,label,note\n7,,,drop,,\n";
        let refused = put(other, &first);
        assert_eq!(refused.status, 412, "the file is newer than the page's");
        assert!(String::from_utf8(refused.body).unwrap().contains("was changed by another program"));
        assert_eq!(put(other, "").status, 428);
        let second = format!("If-Match: {}\r\n", version(text.as_bytes()));
        let unknown = put("id,content,file,decision,label,note\n7,,,relabel,cow,\n", &second);
        assert_eq!(unknown.status, 400);
        assert!(String::from_utf8(unknown.body).unwrap().contains("line 2: unknown class \"cow\""));
        assert_eq!(std::fs::read_to_string(&server.file).unwrap(), text, "nothing was lost");
        assert_eq!(put(other, &second).status, 200);
    }
}
