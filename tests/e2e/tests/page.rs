//! The page of hard images in a real Chromium: loading, filtering, reviewing and saving, from disk
//! and with the review server.

#[path = "../../../crates/cifar-eval/examples/page/demo.rs"]
mod demo;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use cifar_data::Content;
use cifar_e2e::browser::{Browser, key};
use cifar_e2e::{Project, binary};
use cifar_eval::page::Embed;
use demo::Demo;
use serde_json::json;

const IMAGES: usize = 900;
const EMBED: Embed = Embed { images: 300, neighbours_of: 50, pairs: 10, outliers: 20, of_map: 20 };

/// A browser with the page open, the ids of its images, hardest first, and the page's folder.
fn opened() -> Option<(Browser, Vec<u32>, tempfile::TempDir)> {
    let browser = Browser::start()?;
    let demo = Demo::new(IMAGES).expect("drawn images");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("index.html");
    std::fs::write(&file, demo.page(EMBED).expect("a page")).expect("a file");
    browser.open(&file);
    ready(&browser);
    Some((browser, demo.ids(), folder))
}

fn ready(browser: &Browser) {
    browser.wait("document.documentElement.dataset.ready");
}

/// Fails the test if the page logged an error or requested anything outside its file.
fn check_quiet(browser: &Browser) {
    assert_eq!(browser.console(), Vec::<String>::new());
    let requests = browser.requests();
    assert!(requests.iter().any(|url| url.starts_with("file:")), "{requests:?}");
    let local = |url: &&String| ["file:", "data:", "blob:"].iter().any(|scheme| url.starts_with(scheme));
    assert_eq!(requests.iter().filter(|url| !local(url)).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Saves `review.csv` and returns id, decision, label and note of each line. Checks that each id
/// comes with the image's content hash and file.
fn saved(browser: &Browser) -> Vec<[String; 4]> {
    let known = browser.run(
        "const { id, content, file } = JSON.parse(document.getElementById('data').textContent).rows;
         return Object.fromEntries(id.map((one, at) => [one, [content[at], file[at]]]))",
    );
    let row = |[id, content, file, decision, label, note]: [String; 6]| {
        assert!(content.starts_with("b3:") && content.len() == 19, "{content}");
        let image =
            known.get(&id).cloned().unwrap_or_else(|| json!([Content::of(b"gone.png").to_string(), "gone.png"]));
        assert_eq!(json!([content, file]), image, "{id}");
        [id, decision, label, note]
    };
    saved_rows(browser).into_iter().map(row).collect()
}

/// Saves and reads `review.csv`.
fn saved_rows(browser: &Browser) -> Vec<[String; 6]> {
    browser.click("#save");
    let text = browser.downloaded("review.csv");
    assert!(text.starts_with("id,content,file,decision,label,note\n"), "{text}");
    csv::Reader::from_reader(text.as_bytes()).deserialize().map(|row| row.expect("six columns")).collect()
}

fn row(id: u32, decision: &str, label: &str, note: &str) -> [String; 4] {
    [id.to_string(), decision.into(), label.into(), note.into()]
}

#[test]
fn a_confusion_matrix_cell_opens_its_images() {
    let Some((browser, ..)) = opened() else { return };
    assert!(browser.text(".synthetic").contains("SYNTHETIC"));
    assert_eq!(browser.text("#gallery-count"), "900");

    browser.click("#confusion-split option[value='']");
    let cell = browser.run(
        "const cell = document.querySelector('.confusion .wrong');
         return [cell.textContent, ...cell.title.split(':')[0].split(' → ')]",
    );
    browser.click(".confusion .wrong");
    browser.wait("!document.getElementById('view-gallery').hidden && document.querySelector('.tile')");
    assert_eq!(json!(browser.text("#gallery-count")), cell[0]);
    let labels = browser.run("return [...document.querySelectorAll('.tile')].map((tile) => tile.ariaLabel)");
    let labels = labels.as_array().unwrap();
    assert_eq!(json!(labels.len().to_string()), cell[0]);
    let words = format!(", labelled {}, predicted as {}", cell[1].as_str().unwrap(), cell[2].as_str().unwrap());
    assert!(labels.iter().all(|label| label.as_str().unwrap().contains(&words)), "{words}: {labels:?}");

    browser.click(".tile");
    browser.wait("document.getElementById('detail').open");
    // The image was drawn: its pixels are not all the same.
    browser.wait(
        "(() => { const canvas = document.querySelector('#detail canvas');
           return new Set(canvas.getContext('2d').getImageData(0, 0, 32, 32).data).size > 8; })()",
    );
    assert!(browser.text("#detail").contains("Label issue"));
    activation_map(&browser);
    feature_map(&browser, cell[0].as_str().unwrap(), cell[1].as_str().unwrap());
    check_quiet(&browser);
}

/// The activation map tints the open picture in orange and blue.
fn activation_map(browser: &Browser) {
    const TINTED: &str = "(() => {
        const canvas = document.querySelector('#detail canvas[role=img]');
        if (!canvas?.ariaLabel.startsWith('activation map for ')) return false;
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const is = (from, to) => data.some((_, at) => at % 4 === 0 && data[at + from] > data[at + to] + 60);
        return is(0, 2) && is(2, 0); })()";
    browser.press("m");
    browser.wait(TINTED);
    browser.press("m");
    browser.wait("!document.querySelector('#detail canvas[role=img]')");
    browser.press(key::ESCAPE);
    browser.wait("!document.getElementById('detail').open");
}

/// The map shows the images that pass the filters, which are `count` images with one label. Keys
/// select and open them.
fn feature_map(browser: &Browser, count: &str, label: &str) {
    browser.click("nav a[href='#map']");
    browser.wait("!document.getElementById('view-map').hidden");
    assert_eq!(browser.text("#feature-count"), format!("{count} of {IMAGES} images"));
    let drawn = "(() => { const canvas = document.getElementById('feature-map');
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return data.some((value, at) => at % 4 === 3 && value > 150); })()";
    browser.wait(drawn);
    browser.run("document.getElementById('feature-map').focus()");
    browser.press(key::RIGHT);
    browser.wait("!document.getElementById('feature-card').hidden");
    let facts = browser.text("#feature-hint");
    let id = facts.split(['#', ' ']).find(|part| part.parse::<u32>().is_ok()).expect("an id").to_string();
    browser.press(key::ENTER);
    browser.wait(&format!("document.getElementById('detail').textContent.includes('image {id} ')"));
    browser.press(key::ESCAPE);
    browser.wait("!document.getElementById('detail').open");
    // All images of the cell have one label, so another group has none of them.
    browser.run(&format!(
        "[...document.querySelectorAll('#feature-legend button')].find((one) => !one.textContent.startsWith({})).click()",
        json!(label)
    ));
    assert_eq!(browser.text("#feature-count"), format!("0 of {IMAGES} images"));
}

#[test]
fn keyboard_review_is_saved_loaded_and_remembered() {
    let Some((browser, ids, folder)) = opened() else { return };
    let first = ids[0];
    let old = row(first, "dismiss", "", "a note with \"quotes\", and a comma");
    let absent = row(4_000_000_000, "drop", "", "not in this data set");
    assert_eq!(saved(&browser), [old.clone(), absent.clone()]);

    browser.click("nav a[href='#gallery']");
    browser.wait("document.querySelector('.tile')");
    // The second image is opened and closed, the third accepted, the fourth relabelled, the fifth
    // dropped.
    browser.press(&format!("j{}", key::ENTER));
    browser.wait(&format!("document.getElementById('detail').textContent.includes('image {} ')", ids[1]));
    // A key pressed right after an image's detail view is closed applies to the gallery.
    let reopened = browser.run(
        "const detail = document.getElementById('detail');
         detail.close();
         document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'k', bubbles: true }));
         return detail.open",
    );
    assert_eq!(reopened, json!(false));
    browser.press(&format!("jj{}", key::ENTER));
    browser.wait(&format!("document.getElementById('detail').textContent.includes('image {} ')", ids[2]));
    browser.press(key::ESCAPE);
    browser.wait("!document.getElementById('detail').open");
    browser.press(&format!("a{}3{}{}", key::RIGHT, key::RIGHT, key::ENTER));
    browser.wait(&format!("document.getElementById('detail').textContent.includes('image {} ')", ids[4]));
    browser.press("dn");
    browser.press(&format!("too dark{}", key::ENTER));
    browser.press(&format!("kx{}", key::ESCAPE));

    let classes = browser.run("return [...document.querySelectorAll('#by-label option')].map((o) => o.textContent)");
    let class = |at: usize| classes[at + 1].as_str().unwrap();
    let suggested = browser.run(&format!(
        "const data = JSON.parse(document.getElementById('data').textContent);
         return data.classes[data.rows.suggested[data.rows.id.indexOf({})]]",
        ids[2]
    ));
    let accepted = row(ids[2], "accept", suggested.as_str().unwrap(), "");
    let dropped = row(ids[4], "drop", "", "too dark");
    let ascending = |mut rows: Vec<[String; 4]>| {
        rows.sort_by_key(|row| row[0].parse::<u32>().unwrap());
        rows
    };
    let all = [old, accepted, row(ids[3], "dismiss", "", ""), dropped, absent];
    assert_eq!(saved(&browser), ascending(all.to_vec()));

    browser.press("u");
    let mut undone = all.to_vec();
    undone[2] = row(ids[3], "relabel", class(3), "");
    assert_eq!(saved(&browser), ascending(undone.clone()));

    browser.open(&folder.path().join("index.html"));
    ready(&browser);
    assert_eq!(saved(&browser), ascending(undone.clone()), "after the page is reopened");

    load(&browser, &folder, &format!("id,decision,label,note\n{},dismiss,,\"two\nlines\"\n", ids[3]));
    browser.wait("document.getElementById('message').textContent.startsWith('Loaded 1')");
    undone[2] = row(ids[3], "dismiss", "", "two\nlines");
    assert_eq!(saved(&browser), ascending(undone.clone()));

    // A formula in a note is quoted for spreadsheets. The page and the program read the original
    // note.
    load(&browser, &folder, &format!("note,id,decision,label\n'=1+1,{},dismiss,\n,,,\n-1,{},,\n", ids[3], ids[6]));
    browser.wait("document.getElementById('message').textContent.startsWith('Loaded 1')");
    undone[2] = row(ids[3], "dismiss", "", "'=1+1");
    assert_eq!(saved(&browser), ascending(undone.clone()));

    let another = format!("id,content,file,decision,label,note\n\n{},{},x.png,drop,,\n", ids[3], Content::of(b"x"));
    let is_another =
        format!("line 3: image {} is a different image than when this line was written: it was b3:", ids[3]);
    for (text, complaint) in [
        (another.as_str(), is_another.as_str()),
        ("id,content,decision,label\n1,12,drop,\n", "line 2: content \"12\" is not the hash of an image; expected b3:"),
        ("id,decision,label\n1,drop,\"\"x\n", "line 2: text after the closing quotation mark of a field"),
        ("id,label\n", "line 1: found \"id,label\", expected id,content,file,decision,label,note"),
        ("id,decision,label,note\n1,drop,,\n1,drop,,\n", "line 3: image 1 appears twice"),
        ("id,decision,label,note\n1,delete,,\n", "line 2: \"delete\" is not a decision; allowed: accept"),
        ("id,decision,label,note\n1,relabel,unicorn,\n", "line 2: \"unicorn\" is not a class; allowed: "),
        ("id,decision,label,note\n1,drop,,\"open\n", "line 2: a quotation mark is not closed"),
        ("id,decision,label,note\n-1,drop,,\n", "line 2: \"-1\" is not an id; expected a whole number"),
    ] {
        load(&browser, &folder, text);
        browser.wait(&format!("document.getElementById('message').textContent.includes({})", json!(complaint)));
        assert_eq!(saved(&browser), ascending(undone.clone()), "{complaint}");
    }
    check_quiet(&browser);
}

fn load(browser: &Browser, folder: &tempfile::TempDir, text: &str) {
    let file: PathBuf = folder.path().join("loaded.csv");
    std::fs::write(&file, text).expect("a file");
    browser.type_into("#load", file.to_str().expect("a path of text"));
}

#[test]
fn filters_narrow_the_gallery_and_only_visible_tiles_exist() {
    let Some((browser, ids, _folder)) = opened() else { return };
    browser.click("nav a[href='#gallery']");
    browser.wait("document.querySelector('.tile')");
    let tiles = || browser.run("return document.querySelectorAll('.tile').length").as_u64().unwrap();
    assert!((20..300).contains(&tiles()), "{}", tiles());
    assert!(browser.text("#gallery-summary").contains("without a picture in this file"));

    let count = || browser.text("#gallery-count").parse::<usize>().unwrap();
    browser.click("#by-split option:nth-child(3)");
    // Every tenth image is a validation image.
    assert_eq!(count(), IMAGES / 10);
    browser.click("#only-pictures");
    assert!((1..90).contains(&count()), "{}", count());
    browser.click("#clear");
    assert_eq!(count(), IMAGES);

    browser.click("#add-range");
    browser.type_into(".range input[aria-label=min]", "0.8");
    let scores = browser.run(
        "const data = JSON.parse(document.getElementById('data').textContent);
         return data.rows.measures[0].filter((value) => value >= 0.8).length",
    );
    assert_eq!(json!(count()), scores);
    browser.click("#clear");

    browser.type_into("#search", &ids[7].to_string());
    browser.wait(&format!("document.querySelector('.tile').ariaLabel.startsWith('image {}')", ids[7]));
    browser.press(key::ESCAPE);
    browser.click("#clear");

    browser.resize(420, 800);
    browser.wait("document.documentElement.scrollWidth <= innerWidth");
    browser.run("scrollTo(0, document.documentElement.scrollHeight)");
    browser.wait("document.querySelector('.tile[data-at=\"899\"]')");
    assert!(tiles() < 300, "{}", tiles());

    browser.click("nav a[href='#pairs']");
    browser.wait("document.querySelectorAll('.pair').length > 5 && document.querySelector('.pair canvas[role=img]')");
    check_quiet(&browser);
}

/// A running `cifar-cli review`, which is killed when dropped.
struct ReviewServer {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
    address: String,
}

impl ReviewServer {
    fn start(project: &Project) -> Self {
        let mut command = project.command(&binary(), &["review", "page"]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program starts");
        let mut output = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        let address = line.split_whitespace().nth(1).unwrap_or_else(|| panic!("an address: {line:?}")).to_string();
        Self { process, output, address }
    }

    /// Stops the server as Ctrl-C does, and returns what it printed last.
    fn stop(mut self) -> String {
        let process = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &process]).status().expect("kill starts").success());
        assert!(self.process.wait().expect("an end").success());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("text");
        rest
    }
}

impl Drop for ReviewServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_review_queue_writes_each_decision_into_the_project() {
    let Some(browser) = Browser::start() else { return };
    let project = Project::finished();
    let demo = Demo::new(IMAGES).expect("drawn images");
    project.write("page/index.html", &demo.page(EMBED).expect("a page"));
    let server = ReviewServer::start(&project);
    project.run(&["prepare"]).failure(1, &["`cifar-cli review (process ", "is running in this folder"]);

    let open = || {
        browser.open_url(&server.address);
        ready(&browser);
        browser.wait("document.getElementById('served').textContent.includes('labels/review.csv')");
        browser.click("nav a[href='#review']");
        browser.wait("document.getElementById('queue-title')");
    };
    open();
    let queue = browser.run(
        "const { rows, categories, splits, classes } = JSON.parse(document.getElementById('data').textContent);
         const category = categories.indexOf('likely mislabelled');
         return rows.id.map((id, row) => row)
           .filter((row) => rows.category[row] === category && splits[rows.split[row]] !== 'test')
           .map((row) => [rows.id[row], classes[rows.suggested[row]], classes[3]])",
    );
    let queue: Vec<(u32, String, String)> = serde_json::from_value(queue).expect("ids and classes");
    assert!(queue.len() > 4, "{queue:?}");
    let shows =
        |id: u32| browser.wait(&format!("document.getElementById('queue').textContent.includes('image {id} ')"));
    let progress =
        |done: usize| assert_eq!(browser.text("#queue-progress"), format!("{done} of {} reviewed", queue.len()));
    shows(queue[0].0);
    progress(0);
    browser.press("x");
    shows(queue[1].0);
    browser.press("a");
    shows(queue[2].0);
    browser.press("3");
    shows(queue[3].0);
    browser.press("u");
    shows(queue[2].0);
    progress(2);
    browser.press("d");
    shows(queue[3].0);
    // The image that was decided last, for a note.
    browser.press("kn");
    browser.press(&format!("too dark{}", key::ENTER));
    shows(queue[2].0);
    browser.wait("document.getElementById('served').textContent === '3 saved in labels/review.csv'");
    let saved = || {
        let bytes = project.read("labels/review.csv");
        let mut rows: Vec<[String; 6]> =
            csv::Reader::from_reader(bytes.as_slice()).deserialize().map(|row| row.expect("six columns")).collect();
        rows.sort_by_key(|row| queue.iter().position(|(id, ..)| id.to_string() == row[0]));
        rows.into_iter().map(|[id, _, _, decision, label, note]| [id, decision, label, note]).collect::<Vec<_>>()
    };
    let expected = [
        row(queue[0].0, "dismiss", "", ""),
        row(queue[1].0, "accept", &queue[1].1, ""),
        row(queue[2].0, "drop", "", "too dark"),
    ];
    assert_eq!(saved(), expected);

    // A page that is opened again continues at the first image without a decision.
    open();
    shows(queue[3].0);
    progress(3);
    // A file that another program changed is not overwritten.
    project.write("labels/review.csv", b"id,decision,label,note\n");
    browser.press("x");
    browser.wait("document.getElementById('message').textContent.includes('was changed by another program')");
    assert_eq!(saved(), Vec::<[String; 4]>::new());
    // The browser kept the decision, and a page that has read the file saves it.
    open();
    progress(1);
    browser.wait("document.getElementById('served').textContent === '1 saved in labels/review.csv'");
    assert_eq!(saved(), [row(queue[3].0, "dismiss", "", "")]);
    let all = queue.len();
    for (at, (id, ..)) in queue.iter().enumerate().filter(|(at, _)| *at != 3) {
        shows(*id);
        browser.press(if at % 4 == 0 { "x" } else { "a" });
    }
    browser.wait("document.getElementById('queue-done')");
    browser.wait(&format!("document.getElementById('served').textContent === '{all} saved in labels/review.csv'"));
    assert_eq!(saved().len(), all);

    let words = server.stop();
    assert!(words.starts_with(&format!("{all} decisions in ")) && words.contains("labels/review.csv"), "{words:?}");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    project.run(&["review", "page", "--port", &port]).failure(1, &[&format!("port {port} is used by another program")]);
    project.run(&["review", "nowhere"]).failure(1, &["nowhere/index.html: there is no such file"]);
}
