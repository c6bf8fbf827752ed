//! Partitions → pull → prepare: mistakes, damage and interruption, each told and none doing harm.

use crate::common;

use std::collections::BTreeMap;
use std::fs;

use cifar_data::partitions;
use cifar_data::prepare::{PreparedReport, TestSet, TrainingData};
use cifar_data::pull::{POOL, Raw, pull};
use cifar_data::splits::SplitParams;
use cifar_data::{DataError, Monitor, Result, Silent, store};
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
fn wrong_overrides_are_refused_and_nothing_is_written() {
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
fn data_for_other_parameters_are_refused() {
    let flow = Flow::new();
    let split = SplitParams::default();
    let report = flow.both("v1", &split);
    let (raw, prepared) = (shown(&flow.path("raw/pull.json")), shown(&flow.path("prepared/report.json")));
    check_refused(flow.prepare("v2", &split), &[&raw, "dataset_version v1", "says v2", "`cifar-cli pull`"]);
    check_refused(flow.prepare("v1", &pooled(9, 0.2, 0.125)), &[&raw, "`split` parameters", "`cifar-cli pull`"]);
    let checked = |v: &str, split: &SplitParams| report.check(&flow.path("prepared"), version(v), split);
    checked("v1", &split).expect("these are its parameters");
    check_refused(checked("v1+v2", &split), &[&prepared, "dataset_version v1", "says v1+v2"]);
    check_refused(checked("v1", &official(0.125)), &[&prepared, "`split` parameters"]);
}

#[test]
fn stages_out_of_order_say_what_to_run() {
    let flow = Flow::new();
    check_refused(flow.prepare("v1", &SplitParams::default()), &[&shown(&flow.path("raw")), "`cifar-cli pull` first"]);
    check_refused(TrainingData::open(&flow.path("prepared")), &[&shown(&flow.path("prepared")), "`cifar-cli prepare`"]);
    fs::remove_dir_all(flow.path("partitions/v3")).expect("it was there");
    let refused = flow.pull("v1", &SplitParams::default());
    check_refused(refused, &[&shown(&flow.path("partitions/v3")), "`cifar-cli partition`"]);
}

/// Flips a bit of the last pixel in `folder` of a prepared project and expects the stage `run` to refuse it.
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
fn a_set_in_the_place_of_another_is_refused() {
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
    check_refused(Raw::read(&flow.path("raw")), &[&shown(&flow.path("raw/pull.json")), "`cifar-cli pull`"]);
}

#[test]
fn a_membership_that_leaves_an_image_out_is_refused() {
    let flow = Flow::new();
    flow.pull("v1", &SplitParams::default()).expect("partitions are there");
    let path = flow.path("raw/membership.csv");
    edit(&path, "\n39,", "\n139,");
    check_refused(Raw::read(&flow.path("raw")), &[&shown(&path), "changed or damaged", "`cifar-cli pull` again"]);
    list_again(&flow.path("raw"), "pull");
    check_refused(Raw::read(&flow.path("raw")), &[&shown(&path), "image 39"]);
    put(&path, b"id,partition,split\n0,v4,train\n");
    list_again(&flow.path("raw"), "pull");
    check_refused(Raw::read(&flow.path("raw")), &[&shown(&path), "line 2", "v4"]);
}

/// A pool image that the list of members lacks ends in an error under `official`, which reads the pool.
#[test]
fn a_membership_that_leaves_a_test_image_of_another_partition_out_is_refused() {
    let flow = Flow::new();
    flow.pull("v1", &official(0.1)).expect("partitions are there");
    let path = flow.path("raw/membership.csv");
    edit(&path, "\n119,", "\n139,");
    list_again(&flow.path("raw"), "pull");
    check_refused(flow.prepare("v1", &official(0.1)), &[&shown(&path), "image 119"]);
}

#[test]
fn partitions_of_different_sets_do_not_join() {
    let again = "`cifar-cli partition` again";
    for (others, version) in
        [(synthetic(150), "v1+v2"), (synthetic_of_seed(120, 1), "v1"), (synthetic_of_seed(120, 1), "v3")]
    {
        let flow = Flow::new();
        partitions::write(&others, &flow.path("others"), &Silent).expect("the folder is free");
        fs::remove_dir_all(flow.path("partitions/v2")).expect("it was there");
        fs::rename(flow.path("others/v2"), flow.path("partitions/v2")).expect("it is free now");
        let refused = flow.pull(version, &SplitParams::default());
        check_refused(refused, &[&shown(&flow.path("partitions/v2")), "another set of images than v1", again]);
        assert!(!flow.path("raw").exists());
    }
}

#[test]
fn labels_that_changed_after_prepare_are_noticed() {
    let flow = Flow::new();
    let report = flow.both("v1", &SplitParams::default());
    let [prepared, overrides, review] = ["prepared", "overrides.csv", "review.csv"].map(|name| flow.path(name));
    report.check_labels(&prepared, &overrides, &review).expect("nothing has changed");
    put(&review, b"id,decision,label,note\n1,dismiss,,\n");
    let refused = report.check_labels(&prepared, &overrides, &review);
    check_refused(refused, &[&shown(&review), "has changed since", "`cifar-cli prepare` again"]);
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

/// Stops a task at its `n`th question whether it should.
struct StopAt(std::sync::atomic::AtomicUsize);

impl Monitor for StopAt {
    fn progress(&self, _: &'static str, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1
    }
}

#[test]
fn a_stopped_stage_leaves_what_was_there() {
    let flow = Flow::new();
    flow.both("v1", &SplitParams::default());
    let before = tree(flow.root.path());
    let mut stops = 0;
    for n in 1.. {
        let monitor = StopAt(n.into());
        let split = SplitParams::default();
        let pulled = pull(&flow.path("partitions"), version("v2"), &split, None, &flow.path("raw"), &monitor);
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
