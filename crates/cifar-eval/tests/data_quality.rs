//! Tests of the inspection of prepared images: counts, lists and contact sheets.

use std::collections::BTreeSet;
use std::path::Path;

use cifar_data::partitions::{self, DatasetVersion};
use cifar_data::prepare::prepare;
use cifar_data::pull::pull;
use cifar_data::sources::synthetic::{self, SyntheticParams};
use cifar_data::splits::{Protocol, Split, SplitParams};
use cifar_data::{Dataset, Silent};
use cifar_eval::data_quality::{DataQualityReport, Issue, PAGE, REPORT, inspect};

/// The index of four images of [`images`] which each fail one test, and the test.
const PLANTED: [(usize, Issue); 4] =
    [(10, Issue::Dark), (20, Issue::Bright), (30, Issue::LowInformation), (40, Issue::Blurred)];

/// Synthetic images with strong contrast, apart from the planted ones. Images 50 and 51 are identical
/// and have different labels.
fn images() -> Dataset {
    let generated = synthetic::generate(&SyntheticParams { count: 240, near_duplicates: 0.2, ..Default::default() });
    let generated = generated.expect("valid parameters").dataset;
    let mut pixels = generated.pixels().to_vec();
    let bytes = generated.size().bytes();
    for (index, issue) in PLANTED {
        for (at, pixel) in pixels[index * bytes..][..bytes].chunks_exact_mut(3).enumerate() {
            let (y, x) = (at / 32, at % 32);
            let scattered = ((y * 37 + x * 101 + y * x * 7) % 256) as u8;
            pixel.fill(match issue {
                Issue::Dark => scattered / 3,
                Issue::Bright => 255 - scattered / 4,
                Issue::LowInformation => [40, 200][(y + x) % 2],
                Issue::Blurred => (128.0 + 100.0 * (y as f64 / 9.0).sin() * (x as f64 / 11.0).cos()) as u8,
            });
        }
    }
    pixels.copy_within(50 * bytes..51 * bytes, 51 * bytes);
    let mut samples = generated.samples().to_vec();
    samples[51].label = (samples[50].label + 1) % 10;
    samples[51].original_label = samples[51].label;
    Dataset::new(generated.header().clone(), samples, pixels).expect("a valid set")
}

/// Prepares the images and inspects them.
fn inspected(root: &Path, split: &SplitParams) -> DataQualityReport {
    let version: DatasetVersion = "v1+v2+v3".parse().expect("a valid version");
    let at = |name: &str| root.join(name);
    partitions::write(&images(), &at("partitions"), &Silent).expect("partitions are written");
    std::fs::write(at("overrides.csv"), "id,label\n").expect("overrides are written");
    pull(&at("partitions"), version, split, None, &at("raw"), &Silent).expect("images are pulled");
    std::fs::write(at("review.csv"), "id,decision,label,note\n").expect("a review is written");
    prepare(&at("raw"), &at("overrides.csv"), &at("review.csv"), version, split, &at("prepared"), &Silent)
        .expect("images are prepared");
    inspect(&at("prepared"), &at("out"), &Silent).expect("images are inspected")
}

fn rows(path: &Path) -> Vec<Vec<String>> {
    let mut csv = csv::Reader::from_path(path).expect("a table");
    csv.records().map(|row| row.expect("a row").iter().map(String::from).collect()).collect()
}

#[test]
fn all_images_are_counted_and_planted_issues_are_found() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let report = inspected(root.path(), &SplitParams::default());
    let all = images();
    assert_eq!((report.images, report.synthetic), (240, true));
    let counted: usize = report.counts.values().flat_map(|c| c.values()).flat_map(|p| p.values()).sum();
    assert_eq!(counted, 240);
    for (class, expected) in all.classes().iter().zip(all.counts_by_class()) {
        let found: usize = report.counts.values().filter_map(|c| c.get(class)).flat_map(|p| p.values()).sum();
        assert_eq!(found, expected, "{class}");
    }
    for partition in ["v1", "v2", "v3"] {
        let found: usize = report.counts.values().flat_map(|c| c.values()).filter_map(|p| p.get(partition)).sum();
        assert_eq!(found, 80);
    }
    assert_eq!(report.statistics.values().map(|s| s.images).sum::<usize>(), 240);

    let listed = rows(&root.path().join("out/issues.csv"));
    for (id, issue) in PLANTED {
        assert!(listed.iter().any(|r| r[0] == id.to_string() && r[4] == issue.name()), "{id} {issue:?}: {listed:?}");
    }
    for issue in Issue::ALL {
        assert_eq!(listed.iter().filter(|r| r[4] == issue.name()).count(), report.failing(issue));
        assert!(root.path().join(format!("out/{}.png", issue.name())).is_file());
    }
}

#[test]
fn label_conflicts_are_the_duplicates_with_different_labels() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let report = inspected(root.path(), &SplitParams::default());
    let all = images();
    let pairs = rows(&root.path().join("prepared/near_duplicates.csv"));
    let label = |id: &str| all.samples()[id.parse::<usize>().expect("an id")].label;
    let expected: BTreeSet<[String; 2]> = pairs
        .iter()
        .filter(|r| r[5] != "similar" && label(&r[0]) != label(&r[1]))
        .map(|r| [r[0].clone(), r[1].clone()])
        .collect();
    let listed = rows(&root.path().join("out/label_conflicts.csv"));
    let found: BTreeSet<[String; 2]> = listed.iter().map(|r| [r[0].clone(), r[1].clone()]).collect();
    assert!(expected.contains(&["50".into(), "51".into()]));
    assert_eq!((found, listed.len()), (expected, report.label_conflicts));
    assert!(root.path().join("out/label_conflicts.png").is_file());
    assert_eq!(report.straddling_pairs.exact + report.straddling_pairs.near, 0);
    assert!(!root.path().join("out/straddling.png").exists());
}

#[test]
fn duplicates_across_the_official_test_split_are_shown() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let report = inspected(root.path(), &SplitParams { protocol: Protocol::Official, ..SplitParams::default() });
    assert!(report.straddling_pairs.near > 0, "{report:?}");
    assert!(root.path().join("out/straddling.png").is_file());
    assert_eq!(report.counts[&Split::Test].values().flat_map(|p| p.values()).sum::<usize>(), 40);
}

#[test]
fn the_page_shows_every_contact_sheet_and_has_no_urls() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let report = inspected(root.path(), &SplitParams::default());
    let page = std::fs::read_to_string(root.path().join("out").join(PAGE)).expect("a page");
    let mut pictures = 0;
    for entry in std::fs::read_dir(root.path().join("out")).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        if Path::new(&name).extension().is_some_and(|extension| extension == "png") {
            assert!(page.contains(&format!("src=\"{name}\"")), "{name}");
            pictures += 1;
        }
    }
    assert_eq!(page.matches("<img").count(), pictures);
    assert!(page.contains("SYNTHETIC") && !page.contains("http"), "the page is marked and self-contained");
    let json = std::fs::read(root.path().join("out").join(REPORT)).expect("a report");
    assert_eq!(serde_json::from_slice::<DataQualityReport>(&json).expect("a report"), report);
    // A second inspection writes identical files.
    let read = |name: &str| std::fs::read(root.path().join("out").join(name)).expect("a file");
    let before = [read(PAGE), read("near_duplicates.png"), read("issues.csv")];
    inspect(&root.path().join("prepared"), &root.path().join("out"), &Silent).expect("images are inspected");
    assert!([read(PAGE), read("near_duplicates.png"), read("issues.csv")] == before);
}
