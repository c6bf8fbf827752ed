//! A real headless Chromium, driven by `chromedriver` through the W3C's `WebDriver` protocol.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::note;

/// Longest time to wait for a page; test machines can be busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// The protocol's key for an element reference.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Special keys, as the protocol encodes them.
pub mod key {
    /// Return.
    pub const ENTER: &str = "\u{e007}";
    /// Escape.
    pub const ESCAPE: &str = "\u{e00c}";
    /// Arrow to the right.
    pub const RIGHT: &str = "\u{e014}";
}

/// A browser with its own profile and download folder. It is closed when the value is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    /// Kept open because the driver writes to it.
    _output: BufReader<ChildStdout>,
    agent: ureq::Agent,
    session: String,
    folder: tempfile::TempDir,
}

/// Finds a program by the environment variable, or else on the path.
fn program(name: &str, variable: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

impl Browser {
    /// Starts a browser. Prints the reason and returns `None` if it is missing; in CI this is a
    /// failure.
    pub fn start() -> Option<Self> {
        let programs = (program("chromium", "CIFAR_CHROMIUM"), program("chromedriver", "CIFAR_CHROMEDRIVER"));
        let (Some(chromium), Some(driver)) = programs else {
            let reason = "chromium or chromedriver is missing; scripts/browser.sh installs them";
            assert!(std::env::var_os("CI").is_none(), "{reason}");
            note(&format!("skipped: {reason}"));
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut driver = Command::new(driver)
            .args(["--port=0", "--log-level=SEVERE"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("ChromeDriver starts");
        let mut output = BufReader::new(driver.stdout.take().expect("a pipe"));
        let port = port_of(&mut output);
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(2 * PATIENCE));
        let agent: ureq::Agent = config.build().into();
        let mut browser =
            Self { driver, _output: output, agent, session: format!("http://127.0.0.1:{port}/session"), folder };
        let profile = format!("--user-data-dir={}", browser.folder.path().join("profile").display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,900",
            &profile,
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "goog:chromeOptions": {
                "binary": chromium,
                "args": arguments,
                "prefs": { "download.default_directory": browser.downloads(), "download.prompt_for_download": false },
            },
        } } });
        let session = browser.post("", &wanted);
        let id = session["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {session}"));
        browser.session = format!("{}/{id}", browser.session);
        Some(browser)
    }

    /// Returns the download folder.
    pub fn downloads(&self) -> PathBuf {
        self.folder.path().join("downloads")
    }

    /// Opens a file as a page.
    pub fn open(&self, file: &Path) {
        self.open_url(&format!("file://{}", file.display()));
    }

    /// Opens an address.
    pub fn open_url(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs a JavaScript function body and returns its result.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Returns the text of the first element that matches.
    pub fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({}).textContent", json!(selector));
        self.run(&script).as_str().unwrap_or_default().to_string()
    }

    /// Waits until a JavaScript expression is true.
    #[track_caller]
    pub fn wait(&self, expression: &str) {
        let start = Instant::now();
        while self.run(&format!("return Boolean({expression})")) != json!(true) {
            assert!(start.elapsed() < PATIENCE, "timed out waiting: {expression}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Clicks as a mouse does: it fails if another element covers this one.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    /// Types into an element. For a file input, the text is the file's path.
    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Presses keys in sequence, sent to the focused element.
    pub fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|c| [json!({ "type": "keyDown", "value": c }), json!({ "type": "keyUp", "value": c })])
            .collect();
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] }));
    }

    /// Resizes the window, in pixels.
    pub fn resize(&self, width: u32, height: u32) {
        self.post("/window/rect", &json!({ "width": width, "height": height }));
    }

    /// Returns the console messages since the last call: errors and blocked requests.
    pub fn console(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({ "type": "browser" }));
        entries.as_array().into_iter().flatten().map(|entry| entry["message"].to_string()).collect()
    }

    /// Returns the addresses that pages opened from disk requested since the last call. The
    /// browser's start page is ignored.
    pub fn requests(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({ "type": "performance" }));
        let address = |entry: &Value| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let (method, params) = (&message["message"]["method"], &message["message"]["params"]);
            let of_disk = params["documentURL"].as_str().is_some_and(|url| url.starts_with("file:"));
            let address = params["request"]["url"].as_str().unwrap_or_default();
            (method == "Network.requestWillBeSent" && of_disk).then(|| address.to_string())
        };
        entries.as_array().into_iter().flatten().filter_map(address).collect()
    }

    /// Returns the text of a completed download, which must not be empty. The file is removed so
    /// that the next download gets the same name.
    #[track_caller]
    pub fn downloaded(&self, name: &str) -> String {
        let (path, start) = (self.downloads().join(name), Instant::now());
        // The browser may reserve the name with an empty file. It downloads to another name and
        // renames.
        while !std::fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
            assert!(start.elapsed() < PATIENCE, "{name} was not downloaded");
            std::thread::sleep(Duration::from_millis(50));
        }
        let text = std::fs::read_to_string(&path).expect("a readable download");
        std::fs::remove_file(&path).expect("a download that can be removed");
        text
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("{selector}: {found}")).to_string()
    }

    /// Sends a request to the driver. An error fails the test.
    fn post(&self, path: &str, body: &Value) -> Value {
        let address = format!("{}{path}", self.session);
        let request = self.agent.post(&address).header("Content-Type", "application/json");
        let mut answer = request.send(body.to_string()).unwrap_or_else(|e| panic!("{address}: {e}"));
        let text = answer.body_mut().read_to_string().unwrap_or_else(|e| panic!("{address}: {e}"));
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{address}: {e}: {text}"));
        let value = answer["value"].take();
        assert!(value.get("error").is_none(), "{path} {body}: {value}");
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closing the session closes the browser; both processes are killed in any case.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Reads the port that the driver chose from its startup message.
fn port_of(output: &mut BufReader<ChildStdout>) -> u16 {
    let mut line = String::new();
    loop {
        line.clear();
        let read = output.read_line(&mut line).expect("ChromeDriver's output");
        assert!(read > 0, "ChromeDriver ended before it was ready");
        let port = line.split("on port ").nth(1).filter(|_| line.contains("started successfully"));
        if let Some(port) = port.and_then(|text| text.trim().trim_end_matches('.').parse().ok()) {
            return port;
        }
    }
}
