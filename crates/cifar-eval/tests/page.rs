//! Tests of the hard-images page as a file. The end-to-end tests open it in a browser.

#[path = "../examples/page/demo.rs"]
mod demo;

use cifar_data::labels::Entries;
use cifar_data::splits::Split;
use cifar_data::{Content, Header, ImageSize, SampleId, Source, SourceKind};
use cifar_eval::page::{
    ActivationMaps, Embed, Measures, PageData, PageError, PatternLine, Patterns, Row, hard_images_page,
};
use demo::Demo;

const EMBED: Embed = Embed { images: 40, neighbours_of: 5, pairs: 2, outliers: 3, of_map: 4 };

/// Returns the JSON data of the page.
fn data_of(page: &str) -> serde_json::Value {
    let data = page.split("<script id=\"data\" type=\"application/json\">").nth(1).expect("the data of the page");
    serde_json::from_str(data.split("</script>").next().expect("the data of the page")).expect("the data of the page")
}

#[test]
fn the_page_is_reproducible_and_has_all_rows() {
    let demo = Demo::new(300).unwrap();
    let page = demo.page(EMBED).unwrap();
    assert!(page == demo.page(EMBED).unwrap(), "two pages of the same data differ");
    let page = String::from_utf8(page).unwrap();
    let data = data_of(&page);
    let ids: Vec<u64> = data["rows"]["id"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    assert_eq!(ids, demo.ids().into_iter().map(u64::from).collect::<Vec<_>>());
    for column in data["rows"]["measures"].as_array().unwrap() {
        assert_eq!(column.as_array().unwrap().len(), 300);
    }
    assert_eq!(data["rows"]["position"].as_array().unwrap().len(), 300);
    assert!(page.contains("href=\"#map\""));
    let pictures = data["pictures"]["rows"].as_array().unwrap();
    assert!(pictures.len() > 43 && pictures.len() < 82, "{}", pictures.len());
    assert!(page.contains(&format!("This file contains pictures of {} of 300 images", pictures.len())));
}

#[test]
fn the_page_has_no_urls_and_may_ask_only_the_server_that_sent_it() {
    let page = String::from_utf8(Demo::new(60).unwrap().page(EMBED).unwrap()).unwrap();
    for word in ["http:", "https:", "//cdn", "src=\"", "@import", "XMLHttpRequest", "WebSocket"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'") && page.contains("connect-src 'self'"));
    // One file asks the review server, and not if the page was opened as a file.
    let served = include_str!("../src/page/assets/served.js");
    assert!(served.contains("if (location.protocol === \"file:\") return;"));
    assert_eq!(page.matches("fetch(").count(), served.matches("fetch(").count());
    // Every script and style element is closed.
    assert_eq!(page.matches("<style").count(), page.matches("</style").count());
    assert_eq!(page.matches("<script").count(), page.matches("</script").count());
}

const HOSTILE: &str = "</script><script>alert(1)</script><!--";

fn header() -> Header {
    Header {
        classes: vec!["<b>".into(), "a&b".into()],
        size: ImageSize { height: 2, width: 2 },
        source: Source::new(SourceKind::ClassFolders, HOSTILE),
    }
}

fn row(id: u32) -> Row<'static> {
    Row {
        id: SampleId(id),
        content: Content::of(&[7; 12]),
        split: Split::Train,
        file: HOSTILE,
        label: 0,
        original_label: 1,
        predicted: 1,
        suggested: Some(1),
        measures: Measures { loss: Some(0.5), ..Measures::default() },
        category: HOSTILE,
        reason: HOSTILE,
        neighbours: &[],
        position: None,
        pixels: &[7; 12],
    }
}

fn page(rows: &[Row], patterns: &Patterns) -> Result<String, PageError> {
    page_with(rows, patterns, None)
}

fn page_with(rows: &[Row], patterns: &Patterns, maps: Option<&ActivationMaps>) -> Result<String, PageError> {
    let bytes = hard_images_page(&PageData {
        header: &header(),
        dataset_version: "v1",
        model: HOSTILE,
        seeds: &[1],
        fingerprint: "abc",
        rows,
        pairs: &[],
        patterns,
        review: &Entries::new(),
        withheld: &[format!("Of the test images, {HOSTILE}")],
        embed: Embed::default(),
        activation_maps: maps,
    })?;
    Ok(String::from_utf8(bytes).expect("text"))
}

#[test]
fn hostile_names_are_escaped() {
    let page = page(&[row(0), row(1)], &Patterns::default()).unwrap();
    assert!(!page.contains(HOSTILE) && !page.contains("<p class=\"synthetic\""));
    let data = data_of(&page);
    assert_eq!(data["rows"]["file"][1], HOSTILE);
    assert!(page.contains("Images that the network cannot judge") && page.contains("Of the test images, "));
    assert_eq!(data["classes"][0], "<b>");
}

#[test]
fn an_empty_set_has_a_page_without_a_map() {
    let page = page(&[], &Patterns::default()).unwrap();
    assert!(page.contains("n = 0") && !page.contains("href=\"#map\""));
}

#[test]
fn activation_maps_are_bytes_relative_to_their_largest_value() {
    let maps = |of_second: Vec<f32>| {
        let maps = [(SampleId(0), vec![0.5, -1.0]), (SampleId(1), of_second)];
        ActivationMaps { size: [1, 2], maps: maps.into_iter().collect() }
    };
    let rows = [row(0), row(1)];
    let page = |maps: &ActivationMaps| page_with(&rows, &Patterns::default(), Some(maps));
    let data = data_of(&page(&maps(vec![0.0, 4.0])).unwrap());
    // 64, −127, 0 and 127.
    assert_eq!(data["activations"], serde_json::json!({ "rows": 1, "columns": 2, "values": "QIEAfw==" }));
    let message = page(&maps(vec![0.0])).unwrap_err().to_string();
    assert!(message.ends_with("image 1 has an activation map of 1 values; expected 2"), "{message}");
}

#[test]
fn invalid_data_is_refused_with_a_one_line_error() {
    let check = |rows: &[Row], expected: &str| {
        let message = page(rows, &Patterns::default()).unwrap_err().to_string();
        assert!(message.ends_with(expected) && message.lines().count() == 1, "{message}");
    };
    check(&[row(3), row(3)], "image 3 appears twice; each image needs exactly one row");
    check(&[Row { predicted: 2, ..row(3) }], "image 3 has label 2; with 2 classes it must be below 2");
    check(&[Row { pixels: &[7; 11], ..row(3) }], "image 3 has 11 bytes of pixels; expected 12 (height × width × 3)");
    let unknown = "image 9, neighbour of image 3, has no row; add one for every pair and neighbour";
    check(&[Row { neighbours: &[SampleId(9)], ..row(3) }], unknown);
    let off = Row { position: Some([0.0, f32::INFINITY]), ..row(3) };
    check(&[off], "position on the map of image 3 is NaN or infinite; it must be finite");
    let measures = Measures { loss: Some(f64::NAN), ..Measures::default() };
    check(&[Row { measures, ..row(3) }], "loss of image 3 is NaN or infinite; it must be finite");
}

#[test]
fn insignificant_patterns_are_refused() {
    let patterns = |q| Patterns {
        tested: 9,
        level: 0.05,
        significant: vec![PatternLine {
            sentence: "Dark images are misclassified.".into(),
            effect: "ratio 2".into(),
            n: 5,
            q,
        }],
    };
    assert!(page(&[row(0)], &patterns(0.04)).unwrap().contains("1 of 9 tested patterns are significant"));
    for q in [0.06, f64::NAN] {
        assert!(matches!(page(&[row(0)], &patterns(q)), Err(PageError::Insignificant { .. })));
    }
}
