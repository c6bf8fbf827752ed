//! Downloads of the archive from local servers that behave well or badly.

use crate::common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cifar_data::sources::download::{Remote, Timeouts, fetch, partial};
use cifar_data::{DataError, Progress, Silent};
use common::{check_refused, get, noise, put, temporary};
use md5::{Digest, Md5};

const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    stall: Duration::from_millis(400),
    window: Duration::from_millis(500),
    least_rate: 1000,
};

/// How a server answers one request.
#[derive(Clone, Copy)]
enum Manner {
    /// Everything that is requested.
    Whole,
    /// Closes the connection after this many bytes of the body.
    CutOff(usize),
    /// Sends nothing more after this many bytes.
    Stall(usize),
    /// Ignores ranges.
    FromTheStart,
    /// A few bytes at a time.
    Slow,
    /// One byte at a time, often enough never to stall.
    Trickle,
    /// Redirects to itself or to this address.
    Redirect(&'static str),
    /// Without a length, and with this many extra bytes.
    TooMuch(usize),
    Status(u16),
    /// Announces this many bytes.
    OtherLength(usize),
    Mute,
    Nonsense,
}

struct Server {
    url: String,
    /// The `Range` of every request.
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

/// Answers one request per manner, in order, and then stops.
fn serve(contents: Vec<u8>, manners: &[Manner]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}/cifar.tar.gz", listener.local_addr().expect("it has one"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (log, manners) = (Arc::clone(&asked), manners.to_vec());
    std::thread::spawn(move || {
        for manner in manners {
            let Ok((stream, _)) = listener.accept() else { return };
            // The client may have closed the connection.
            let _ = answer(stream, &contents, manner, &log);
        }
    });
    Server { url, asked }
}

fn answer(
    mut stream: TcpStream,
    contents: &[u8],
    manner: Manner,
    asked: &Mutex<Vec<Option<String>>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let range = request.lines().find_map(|line| line.strip_prefix("range: ")).map(String::from);
    asked.lock().expect("nobody panicked").push(range.clone());
    let from = range.and_then(|r| r.trim_start_matches("bytes=").trim_end_matches('-').parse().ok()).unwrap_or(0);
    let total = contents.len();
    let head = |from: usize| match from {
        0 => format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n"),
        _ => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{total}\r\n\r\n",
            total - from,
            total - 1
        ),
    };
    let rest = &contents[from..];
    match manner {
        Manner::Whole => {
            stream.write_all(head(from).as_bytes())?;
            stream.write_all(rest)
        }
        Manner::FromTheStart => {
            stream.write_all(head(0).as_bytes())?;
            stream.write_all(contents)
        }
        Manner::CutOff(bytes) => {
            stream.write_all(head(from).as_bytes())?;
            stream.write_all(&rest[..bytes])
        }
        Manner::Stall(bytes) => {
            stream.write_all(head(from).as_bytes())?;
            stream.write_all(&rest[..bytes])?;
            std::thread::sleep(Duration::from_secs(3));
            Ok(())
        }
        Manner::Slow => {
            stream.write_all(head(from).as_bytes())?;
            for part in rest.chunks(rest.len().div_ceil(8)) {
                stream.write_all(part)?;
                stream.flush()?;
                std::thread::sleep(Duration::from_millis(150));
            }
            Ok(())
        }
        Manner::Trickle => {
            stream.write_all(head(from).as_bytes())?;
            for byte in rest.chunks(1) {
                stream.write_all(byte)?;
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        }
        Manner::Redirect(location) => {
            write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        }
        Manner::TooMuch(more) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            stream.write_all(contents)?;
            stream.write_all(&vec![0; more])
        }
        Manner::Status(status) => write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 2\r\n\r\nno"),
        Manner::OtherLength(length) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")?;
            stream.write_all(&vec![0; length])
        }
        Manner::Mute => {
            std::thread::sleep(Duration::from_secs(6));
            Ok(())
        }
        Manner::Nonsense => stream.write_all(b"SSH-2.0-x\r\n"),
    }
}

fn contents() -> Vec<u8> {
    noise(7, 300_000)
}

fn remote(server: &Server, contents: &[u8]) -> Remote {
    let md5: [u8; 16] = Md5::digest(contents).into();
    let md5 = format!("{:032x}", u128::from_be_bytes(md5));
    Remote { url: server.url.clone(), bytes: contents.len() as u64, md5 }
}

/// Downloads from a server with these manners; checks the result and the requested ranges.
#[track_caller]
fn check_fetched(manners: &[Manner], already: usize, ranges: &[Option<&str>]) {
    let (contents, root) = (contents(), temporary());
    let server = serve(contents.clone(), manners);
    let to = root.path().join("images/cifar.tar.gz");
    if already > 0 {
        put(&partial(&to), &contents[..already]);
    }
    fetch(&remote(&server, &contents), &to, TIMEOUTS, &Silent).expect("the server is good enough");
    assert!(get(&to) == contents);
    assert!(!partial(&to).exists());
    let asked = server.asked.lock().expect("nobody panicked");
    assert_eq!(asked.iter().map(Option::as_deref).collect::<Vec<_>>(), ranges);
}

#[test]
fn a_file_is_downloaded() {
    check_fetched(&[Manner::Whole], 0, &[None]);
    check_fetched(&[Manner::Slow], 0, &[None]);
    check_fetched(&[Manner::TooMuch(500_000)], 0, &[None]);
    check_fetched(&[Manner::Redirect("/elsewhere/x"), Manner::Whole], 0, &[None, None]);
}

#[test]
fn an_interrupted_download_resumes() {
    check_fetched(
        &[Manner::CutOff(100_000), Manner::CutOff(50_000), Manner::Whole],
        0,
        &[None, Some("bytes=100000-"), Some("bytes=150000-")],
    );
    check_fetched(&[Manner::Whole], 1234, &[Some("bytes=1234-")]);
    // A server that ignores ranges sends the whole file again.
    check_fetched(&[Manner::FromTheStart], 1234, &[Some("bytes=1234-")]);
    // Everything was received earlier.
    check_fetched(&[], 300_000, &[]);
    // A part longer than the file is discarded.
    let (contents, root) = (contents(), temporary());
    let server = serve(contents.clone(), &[Manner::Whole]);
    let to = root.path().join("x");
    put(&partial(&to), &[&contents[..], b"more"].concat());
    fetch(&remote(&server, &contents), &to, TIMEOUTS, &Silent).expect("the server is good");
    assert!(get(&to) == contents);
}

/// Checks that the download fails with these words, and that `kept` bytes stay for the next call.
#[track_caller]
fn check_failed(manners: &[Manner], kept: Option<usize>, parts: &[&str]) -> DataError {
    let (contents, root) = (contents(), temporary());
    let server = serve(contents.clone(), manners);
    let to = root.path().join("x");
    let error = fetch(&remote(&server, &contents), &to, TIMEOUTS, &Silent).expect_err("the server is bad");
    check_refused(Err::<(), _>(&error), &[&[server.url.as_str()], parts].concat());
    assert!(!to.exists());
    assert_eq!(std::fs::read(partial(&to)).ok().map(|bytes| bytes.len()), kept);
    error
}

#[test]
fn failures_of_the_server_are_described() {
    let kept = "the received part is kept";
    check_failed(&[Manner::CutOff(10); 3], Some(30), &["the connection was lost 3 times", kept]);
    check_failed(&[Manner::Stall(1000)], Some(1000), &["no data for 0.4 seconds, after 1000 of 300000 bytes", kept]);
    check_failed(&[Manner::CutOff(10), Manner::Status(503), Manner::Status(503)], Some(10), &["status 503", kept]);
}

#[test]
fn a_very_slow_download_fails() {
    let started = Instant::now();
    let (contents, root) = (contents(), temporary());
    let server = serve(contents.clone(), &[Manner::Trickle]);
    let to = root.path().join("x");
    let result = fetch(&remote(&server, &contents), &to, TIMEOUTS, &Silent);
    let parts =
        ["bytes per second over 0.5 seconds, but 1000 are needed", "of 300000 bytes", "the received part is kept"];
    check_refused(result, &[&[server.url.as_str()], &parts[..]].concat());
    // All of it would take four hours.
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
    let kept = get(&partial(&to));
    assert!(!kept.is_empty() && contents.starts_with(&kept));
}

#[cfg(unix)]
#[test]
fn nothing_is_written_through_a_link() {
    let (contents, root) = (contents(), temporary());
    let (to, victim) = (root.path().join("x"), root.path().join("victim"));
    put(&victim, b"precious");
    std::os::unix::fs::symlink(&victim, partial(&to)).expect("a link");
    let server = serve(contents.clone(), &[Manner::Whole]);
    let result = fetch(&remote(&server, &contents), &to, TIMEOUTS, &Silent);
    check_refused(result, &[".partial-x", "is a link"]);
    assert_eq!(get(&victim), b"precious");
}

#[test]
fn a_server_without_the_file_is_unavailable() {
    for (manner, problem) in [
        (Manner::Redirect("http://elsewhere.invalid/x"), "redirects to the host \"elsewhere.invalid\""),
        (Manner::Status(404), "the server answers with status 404"),
        (Manner::OtherLength(20), "the file on the server has 20 bytes, expected 300000"),
        (Manner::Nonsense, "cannot be fetched"),
        (Manner::Mute, "no answer within 4 seconds"),
    ] {
        let error = check_failed(&[manner], None, &["cannot be fetched: ", problem]);
        assert!(matches!(error, DataError::Unavailable { .. }), "{error}");
    }
    // An unused port, and a name that does not exist.
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port is free").local_addr().expect("it has one");
    for url in [format!("http://{closed}/x"), "http://no-such-name.invalid/x".into(), "no address".into()] {
        let started = Instant::now();
        let remote = Remote { url, bytes: 3, md5: String::new() };
        let root = temporary();
        let error = fetch(&remote, &root.path().join("x"), TIMEOUTS, &Silent).expect_err("nobody is there");
        assert!(matches!(error, DataError::Unavailable { .. }), "{error}");
        // The system itself gives up after two minutes.
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }
}

#[test]
fn a_wrong_file_is_removed() {
    let (contents, root) = (contents(), temporary());
    let mut other = contents.clone();
    other[77] ^= 1;
    let server = serve(other, &[Manner::Whole]);
    let to = root.path().join("x");
    let expected = remote(&server, &contents);
    let result = fetch(&expected, &to, TIMEOUTS, &Silent);
    check_refused(result, &[&server.url, "has the MD5", &format!("expected {}; it was removed", expected.md5)]);
    assert_eq!(std::fs::read_dir(root.path()).expect("a folder").count(), 0);
}

#[test]
fn a_download_can_be_stopped() {
    struct Stop(Instant);
    impl Progress for Stop {
        fn update(&self, _: &'static str, _: u64, _: u64) {}
        fn cancelled(&self) -> bool {
            self.0.elapsed() > Duration::from_millis(300)
        }
    }
    let (contents, root) = (contents(), temporary());
    let server = serve(contents.clone(), &[Manner::Stall(1000)]);
    let timeouts = Timeouts { stall: Duration::from_secs(30), ..TIMEOUTS };
    let started = Instant::now();
    let result = fetch(&remote(&server, &contents), &root.path().join("x"), timeouts, &Stop(Instant::now()));
    assert!(matches!(result, Err(DataError::Cancelled)));
    assert!(started.elapsed() < timeouts.stall, "{:?}", started.elapsed());
}
