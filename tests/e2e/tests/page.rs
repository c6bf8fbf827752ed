//! The page of hard images in a real Chromium, opened from disk: loading, filtering, reviewing and
//! saving.

#[path = "../../../crates/cifar-eval/examples/page/demo.rs"]
mod demo;

use std::path::PathBuf;

use cifar_data::Content;
use cifar_e2e::browser::{Browser, key};
use cifar_eval::page::Embed;
use demo::Demo;
use serde_json::json;

const IMAGES: usize = 900;
const EMBED: Embed = Embed { images: 300, neighbours_of: 50, pairs: 10 };

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
    check_quiet(&browser);
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
