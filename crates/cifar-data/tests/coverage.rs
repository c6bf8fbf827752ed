//! Warnings about classes that lack images in some split.

mod common;

use cifar_data::Result;
use cifar_data::prepare::{PreparedReport, prepare};
use cifar_data::splits::SplitParams;
use common::flow::{Flow, version};
use common::{Warned, check_refused, pooled, sample, set};

/// Prepares all partitions of a set with this many images per class, and returns the warnings.
fn prepared(classes: &[&str], images: &[usize], split: &SplitParams) -> (Result<PreparedReport>, Vec<String>) {
    let labels = (0u16..).zip(images).flat_map(|(class, count)| vec![class; *count]);
    let flow = Flow::of(set(classes, (0..).zip(labels).map(|(id, label)| sample(id, label)).collect()));
    flow.pull("v1+v2+v3", split).expect("partitions are there");
    let warned = Warned::default();
    let [raw, overrides, review, out] = ["raw", "overrides.csv", "review.csv", "prepared"].map(|name| flow.path(name));
    let report = prepare(&raw, &overrides, &review, version("v1+v2+v3"), split, &out, &warned);
    (report, warned.0.into_inner().expect("nobody panicked"))
}

#[test]
fn small_classes_have_test_and_validation_images() {
    let (report, warned) = prepared(&["cat", "dog", "owl"], &[40, 5, 8], &SplitParams::default());
    let report = report.expect("three classes");
    let counts = |class: &str| report.images_by_class.values().map(|of| of[class]).collect::<Vec<_>>();
    assert_eq!((counts("dog"), counts("owl"), warned), (vec![3, 1, 1], vec![5, 1, 2], Vec::new()));
}

#[test]
fn classes_without_images_in_a_split_are_named() {
    let (_, warned) = prepared(&["cat", "dog", "owl"], &[40, 2, 1], &SplitParams::default());
    assert_eq!(
        warned,
        [
            "2 of 3 classes have no validation image: dog, owl; validation accuracy says nothing about them; add images of these \
             classes or raise split.val_fraction",
            "2 of 3 classes have no test image: dog, owl; test accuracy says nothing about them; add images of these classes \
             or raise split.test_fraction"
        ]
    );
    let names: Vec<String> = (0..9).map(|class| format!("c{class}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (_, warned) = prepared(&names, &[60, 1, 1, 1, 1, 1, 1, 1, 60], &pooled(0, 0.2, 0.0));
    let expected = "7 of 9 classes have no test image: c1, c2, c3, c4, c5 and 2 more; ";
    assert!(matches!(&warned[..], [only] if only.starts_with(expected)), "{warned:?}");
}

#[test]
fn a_set_without_test_images_is_refused_or_gives_a_warning() {
    let (refused, _) = prepared(&["cat"], &[40], &pooled(0, 0.01, 0.125));
    check_refused(
        refused,
        &["none of the images of dataset_version v1+v2+v3 is a test image", "raise split.test_fraction"],
    );
    let (report, warned) = prepared(&["cat"], &[40], &pooled(0, 0.0, 0.125));
    report.expect("no test images are wanted");
    assert!(matches!(&warned[..], [only] if only.starts_with("split.test_fraction is 0")), "{warned:?}");
}
