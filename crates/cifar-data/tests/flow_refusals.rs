//! Partitions → pull → prepare: mistakes, damage and interruption are reported and change nothing.

use crate::common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cifar_data::partitions;
use cifar_data::prepare::{PreparedReport, TestSet, TrainingData};
use cifar_data::pull::{POOL, Raw, pull};
use cifar_data::splits::SplitParams;
use cifar_data::{DataError, ImageIndex, Progress, Result, Silent, Stage, store};
use common::flow::{Flow, list_again, version};
use common::{check_refused, edit, get, official, pooled, put, sample, set, shown, synthetic, synthetic_of_seed, tree};

#[test]
fn two_images_are_too_few_for_three_partitions() {
    let folder = common::temporary();
    let two = set(&["a"], vec![sample(0, 0), sample(1, 0)]);
    check_refused(partitions::write(&two, folder.path(), &Silent), &["2 images are too few"]);
    assert!(tree(folder.path()).is_empty());
}

#[test]
fn invalid_overrides_are_refused_and_nothing_is_written() {
    fn check(rows: &str, expected: &str) {
        let flow = Flow::new();
        flow.both("v1", &SplitParams::default());
        let before = tree(&flow.path("prepared"));
        put(&flow.path("overrides.csv"), rows.as_bytes());
        let refused = flow.prepare("v1", &SplitParams::default());
        check_refused(refused, &[&shown(&flow.path("overrides.csv")), expected]);
        assert_eq!(tree(&flow.path("prepared")), before);
    }
    check("id,label\n120,star\n", "line 2: there is no image 120");
    check("id,label\n1,moon\n", "line 2: unknown class \"moon\"");
    check("id,label\n1,star\n1,ring\n", "line 3: id 1 appears twice, first on line 2");
    check("id\n1\n", "expected id,label");
}

#[test]
fn missing_overrides_are_named() {
    let flow = Flow::new();
    flow.pull("v1", &SplitParams::default()).expect("partitions are there");
    fs::remove_file(flow.path("overrides.csv")).expect("it was there");
    check_refused(flow.prepare("v1", &SplitParams::default()), &[&shown(&flow.path("overrides.csv")), "cannot read"]);
}

#[test]
fn data_of_other_parameters_are_refused() {
    let flow = Flow::new();
    let split = SplitParams::default();
    let report = flow.both("v1", &split);
    let (raw, prepared) = (shown(&flow.path("raw/pull.json")), shown(&flow.path("prepared/report.json")));
    check_stale(flow.prepare("v2", &split), &[Stage::Pull], &[&raw, "dataset_version v1", "expected v2"]);
    check_stale(flow.prepare("v1", &pooled(9, 0.2, 0.125)), &[Stage::Pull], &[&raw, "`split` parameters"]);
    let checked = |v: &str, split: &SplitParams| report.check(&flow.path("prepared"), version(v), split);
    checked("v1", &split).expect("these are its parameters");
    let stages = [Stage::Pull, Stage::Prepare];
    check_stale(checked("v1+v2", &split), &stages, &[&prepared, "dataset_version v1", "expected v1+v2"]);
    check_stale(checked("v1", &official(0.125)), &stages, &[&prepared, "`split` parameters"]);
}

#[test]
fn stages_out_of_order_name_the_stage_to_run() {
    let flow = Flow::new();
    check_missing(flow.prepare("v1", &SplitParams::default()), Stage::Pull, &flow.path("raw"));
    check_missing(TrainingData::open(&flow.path("prepared")), Stage::Prepare, &flow.path("prepared"));
    fs::remove_dir_all(flow.path("partitions/v3")).expect("it was there");
    let partition = flow.path("partitions/v3");
    check_missing(flow.pull("v1", &SplitParams::default()), Stage::Partition, &partition);
    check_missing(ImageIndex::read(&flow.path("partitions")), Stage::Partition, &partition);
}

/// Checks that the error names the missing `path` and the stage that creates it.
#[track_caller]
fn check_missing<T>(result: Result<T>, stage: Stage, path: &Path) {
    let error = result.map(|_| ()).expect_err("something is missing");
    assert!(matches!(error, DataError::Missing { .. }) && error.made_by() == [stage], "{error:?}");
    check_refused(Err::<(), _>(error), &[&shown(path)]);
}

/// Checks that the result is an error with these words and with the stages to run again.
#[track_caller]
fn check_stale<T>(result: Result<T>, stages: &[Stage], parts: &[&str]) {
    let error = result.map(|_| ()).expect_err("something is stale");
    assert!(matches!(error, DataError::Stale { .. }) && error.made_by() == stages, "{error:?}");
    check_refused(Err::<(), _>(error), parts);
}

/// Flips a bit of the last pixel in `folder` of a prepared project, and checks that the stage `run`
/// refuses it.
fn check_changed<T>(folder: &str, run: impl Fn(&Flow) -> Result<T>) {
    let flow = Flow::new();
    flow.both("v1", &official(0.1));
    let path = flow.path(folder).join(store::IMAGES);
    let mut bytes = get(&path);
    *bytes.last_mut().expect("it has bytes") ^= 1;
    put(&path, &bytes);
    check_refused(run(&flow), &[&shown(&path), "hash"]);
}

#[test]
fn changed_pixels_are_refused_by_the_next_stage() {
    check_changed("partitions/v1", |flow| flow.pull("v1", &official(0.1)));
    check_changed("partitions/v3", |flow| flow.pull("v1", &official(0.1)));
    check_changed("raw", |flow| flow.prepare("v1", &official(0.1)));
    check_changed("raw/pool", |flow| flow.prepare("v1", &official(0.1)));
    check_changed("prepared/train", |flow| TrainingData::open(&flow.path("prepared")));
    check_changed("prepared/val", |flow| TrainingData::open(&flow.path("prepared")));
    check_changed("prepared/test", |flow| TestSet::open(&flow.path("prepared/test"), ""));
}

#[test]
fn a_replaced_set_is_refused() {
    let flow = Flow::new();
    let report = flow.both("v1", &SplitParams::default());
    store::write(&flow.read("prepared/test"), &flow.path("prepared/val")).expect("the folder exists");
    check_refused(TrainingData::open(&flow.path("prepared")), &[&shown(&flow.path("prepared/val")), "recorded"]);
    let test = flow.path("prepared/test");
    check_refused(TestSet::open(&test, &report.pool_fingerprint), &[&shown(&test), "recorded"]);
    store::write(&flow.read("prepared/test"), &flow.path("raw")).expect("the folder exists");
    check_refused(Raw::read(&flow.path("raw")), &[&shown(&flow.path("raw")), "recorded"]);
}

#[test]
fn records_of_another_version_are_refused() {
    let flow = Flow::new();
    flow.both("v1", &SplitParams::default());
    for (folder, file, made_by) in [("raw", "pull.json", "pull"), ("prepared", "report.json", "prepare")] {
        edit(&flow.path(folder).join(file), "\"schema\": 4", "\"schema\": 5");
        list_again(&flow.path(folder), made_by);
    }
    check_refused(Raw::read(&flow.path("raw")), &[&shown(&flow.path("raw/pull.json")), "schema 5", "schema 4"]);
    let report = PreparedReport::read(&flow.path("prepared"));
    check_refused(report, &[&shown(&flow.path("prepared/report.json")), "schema 5", "schema 4"]);
    put(&flow.path("raw/pull.json"), b"{}");
    list_again(&flow.path("raw"), "pull");
    check_stale(Raw::read(&flow.path("raw")), &[Stage::Pull], &[&shown(&flow.path("raw/pull.json"))]);
}

#[test]
fn a_membership_without_an_image_is_refused() {
    let flow = Flow::new();
    flow.pull("v1", &SplitParams::default()).expect("partitions are there");
    let path = flow.path("raw/membership.csv");
    edit(&path, "\n39,", "\n139,");
    check_stale(Raw::read(&flow.path("raw")), &[Stage::Pull], &[&shown(&path), "changed or damaged"]);
    list_again(&flow.path("raw"), "pull");
    check_refused(Raw::read(&flow.path("raw")), &[&shown(&path), "image 39"]);
    put(&path, b"id,partition,split,content\n0,w4,train,b3:0123456789abcdef\n");
    list_again(&flow.path("raw"), "pull");
    check_refused(Raw::read(&flow.path("raw")), &[&shown(&path), "line 2", "w4"]);
}

/// Only `official` reads the pool; a pool image that is missing from membership.csv is an error
/// there.
#[test]
fn a_membership_without_a_pool_image_is_refused() {
    let flow = Flow::new();
    flow.pull("v1", &official(0.1)).expect("partitions are there");
    let path = flow.path("raw/membership.csv");
    edit(&path, "\n119,", "\n139,");
    list_again(&flow.path("raw"), "pull");
    check_refused(flow.prepare("v1", &official(0.1)), &[&shown(&path), "image 119"]);
}

#[test]
fn partitions_of_different_sets_are_refused() {
    for (others, version) in
        [(synthetic(150), "v1+v2"), (synthetic_of_seed(120, 1), "v1"), (synthetic_of_seed(120, 1), "v3")]
    {
        let flow = Flow::new();
        partitions::write(&others, &flow.path("others"), &Silent).expect("the folder is free");
        fs::remove_dir_all(flow.path("partitions/v2")).expect("it was there");
        fs::rename(flow.path("others/v2"), flow.path("partitions/v2")).expect("it is free now");
        let refused = flow.pull(version, &SplitParams::default());
        let parts = [&*shown(&flow.path("partitions/v2")), "another set of images than v1"];
        check_stale(refused, &[Stage::Partition], &parts);
        assert!(!flow.path("raw").exists());
    }
}

#[test]
fn label_files_that_changed_after_prepare_are_refused() {
    let flow = Flow::new();
    let report = flow.both("v1", &SplitParams::default());
    let [prepared, overrides, review] = ["prepared", "overrides.csv", "review.csv"].map(|name| flow.path(name));
    report.check_labels(&prepared, &overrides, &review).expect("nothing has changed");
    put(&review, b"id,decision,label,note\n1,dismiss,,\n");
    let refused = report.check_labels(&prepared, &overrides, &review);
    check_stale(refused, &[Stage::Prepare], &[&shown(&review), "has changed since"]);
}

#[test]
fn a_swapped_partition_is_refused() {
    let flow = Flow::new();
    let swap = |from: &str, to: &str| fs::rename(flow.path(from), flow.path(to)).expect("the place is free");
    swap("partitions/v1", "aside");
    swap("partitions/v2", "partitions/v1");
    swap("aside", "partitions/v2");
    check_refused(flow.pull("v1", &SplitParams::default()), &["ids must ascend"]);
}

#[test]
fn no_training_images_is_an_error() {
    let flow = Flow::of(set(&["a"], (0..3).map(|id| sample(id, 0)).collect()));
    let split = pooled(0, 0.9, 0.0);
    flow.pull("v1", &split).expect("partitions are there");
    check_refused(flow.prepare("v1", &split), &["no training image", "v1"]);
}

/// Cancels a task at its `n`th check.
struct StopAt(std::sync::atomic::AtomicUsize);

impl Progress for StopAt {
    fn update(&self, _: &'static str, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1
    }
}

#[test]
fn a_stopped_stage_leaves_its_folder_unchanged() {
    let flow = Flow::new();
    flow.both("v1", &SplitParams::default());
    let before = tree(flow.root.path());
    let mut stops = 0;
    for n in 1.. {
        let progress = StopAt(n.into());
        let split = SplitParams::default();
        let pulled = pull(&flow.path("partitions"), version("v2"), &split, None, &flow.path("raw"), &progress);
        if pulled.is_ok() {
            break;
        }
        assert!(matches!(pulled, Err(DataError::Cancelled)), "{pulled:?}");
        assert_eq!(tree(flow.root.path()), before, "stopped at question {n}");
        stops += 1;
    }
    assert!(stops >= 3, "pull asked only {stops} times");
    assert_ne!(tree(&flow.path("raw").join(POOL)), BTreeMap::new());
}
