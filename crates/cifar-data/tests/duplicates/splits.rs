//! Splits of duplicate groups, the lists of pairs, and cached searches.

use std::collections::BTreeSet;

use cifar_data::duplicates::{NEAR_DUPLICATES, Pair, PairCounts, find_once, groups};
use cifar_data::pull::Raw;
use cifar_data::splits::{Split, SplitParams};
use cifar_data::{DataError, Silent};

use super::{StopEarly, drawn, found};
use crate::common::flow::{self, Flow, list_again, rows};
use crate::common::{self, Warned, check_refused, edit, official, pooled, put, shown};

/// Pulls and prepares a dataset with many near-duplicates, and returns its flow.
fn prepared(version: &str, split: &SplitParams) -> Flow {
    let flow = Flow::of(drawn(360, 4, 0.3).dataset);
    flow.both(version, split);
    flow
}

#[test]
fn groups_never_straddle_splits() {
    for split in [SplitParams::default(), pooled(5, 0.4, 0.4)] {
        for version in ["v1", "v1+v2", "v1+v2+v3"] {
            let flow = prepared(version, &split);
            let raw = Raw::read(&flow.path("raw")).expect("just pulled");
            // The pairs and splits are the same for every choice of partitions.
            assert_eq!(raw.pairs, found(&flow.all));
            assert!(raw.record.duplicate_groups > 50, "{}", raw.record.duplicate_groups);
            for (id, leader) in groups(&raw.pairs) {
                assert_eq!(raw.membership[&id].split, raw.membership[&leader].split, "{id} and {leader}");
            }
            let report = flow.prepare(version, &split).expect("it was pulled");
            assert_eq!((report.straddling_pairs.exact, report.straddling_pairs.near), (0, 0));
        }
    }
}

#[test]
fn the_prepared_list_has_the_pairs_with_both_images_present() {
    for (version, split) in [("v1", SplitParams::default()), ("v1+v2", pooled(1, 0.3, 0.2)), ("v1", official(0.2))] {
        let flow = prepared(version, &split);
        let places = flow.places();
        let expected: Vec<Vec<String>> = found(&flow.all)
            .iter()
            .filter_map(|p| Some((p, places.get(&p.first.0)?, places.get(&p.second.0)?)))
            .map(|(p, one, other)| {
                let kind = format!("{:?}", p.kind).to_lowercase();
                [p.first.to_string(), p.second.to_string(), one.clone(), other.clone(), p.similarity.to_string(), kind]
                    .to_vec()
            })
            .collect();
        let mut listed = rows(&flow.path("prepared").join(NEAR_DUPLICATES));
        for row in &mut listed {
            row[4] = row[4].parse::<f64>().expect("a number").to_string();
        }
        assert_eq!(listed, expected, "{version}");
        assert!(!listed.is_empty());
    }
}

#[test]
fn official_keeps_the_published_test_set_and_counts_duplicates_with_it() {
    let split = official(0.2);
    let flow = prepared("v1+v2+v3", &split);
    assert_eq!(
        flow.places().iter().filter(|(_, s)| *s == "test").map(|(id, _)| *id).collect::<Vec<_>>(),
        (300..360).collect::<Vec<_>>()
    );
    let expected: Vec<Pair> = found(&flow.all).into_iter().filter(|p| p.first.0 < 300 && p.second.0 >= 300).collect();
    let warned = Warned::default();
    let version = flow::version("v1+v2+v3");
    let [raw, overrides, review] = ["raw", "overrides.csv", "review.csv"].map(|name| flow.path(name));
    let report = cifar_data::prepare::prepare(&raw, &overrides, &review, version, &split, &flow.path("again"), &warned)
        .expect("it was pulled");
    assert_eq!(report.straddling_pairs, PairCounts::of(&expected));
    let leaks = report.straddling_pairs.exact + report.straddling_pairs.near;
    assert!(leaks > 10);
    let warnings = warned.0.into_inner().expect("nobody panicked");
    assert!(warnings.len() == 1 && warnings[0].starts_with(&format!("{leaks} pairs")), "{warnings:?}");
}

#[test]
fn a_group_is_in_the_split_of_its_smallest_id() {
    let flow = prepared("v1", &SplitParams::default());
    let raw = Raw::read(&flow.path("raw")).expect("just pulled");
    let splits: BTreeSet<Split> = groups(&raw.pairs).values().map(|leader| raw.membership[leader].split).collect();
    assert_eq!(splits.len(), 3, "groups go to every split");
}

fn check_damaged(damage: impl Fn(&Flow), parts: &[&str]) {
    let flow = prepared("v1", &SplitParams::default());
    damage(&flow);
    let list = flow.path("raw").join(NEAR_DUPLICATES);
    let again = ["changed or damaged", "after the stage pull wrote it"];
    check_refused(Raw::read(&flow.path("raw")), &[&[shown(&list).as_str()], &again[..]].concat());
    // If the hash matches because the file was listed again, the content is still checked.
    list_again(&flow.path("raw"), "pull");
    check_refused(Raw::read(&flow.path("raw")), &[&[shown(&list).as_str()], parts].concat());
}

#[test]
fn a_damaged_list_is_refused() {
    let list = |flow: &Flow| flow.path("raw").join(NEAR_DUPLICATES);
    check_damaged(|flow| put(&list(flow), b"id_a,id_b,similarity,kind\n1,2,0.9,twin\n"), &["line 2", "twin"]);
    check_damaged(|flow| edit(&list(flow), "id_a", "a"), &["columns", "id_a,id_b,similarity,kind"]);
}

#[test]
fn results_are_cached_and_damaged_caches_are_rebuilt() {
    let (set, folder) = (drawn(300, 5, 0.2).dataset, common::temporary());
    let expected = found(&set);
    assert_eq!(find_once(&[&set], folder.path(), &Silent).expect("the folder is free"), expected);
    let files = common::tree(folder.path());
    assert_eq!(files.len(), 1);
    // A search would be stopped at once. The cached result is found for any division of the images.
    let stopped = StopEarly(true.into());
    let parts = [set.filter(|s| s.id.0 < 100), set.filter(|s| s.id.0 >= 100)];
    assert_eq!(find_once(&[&parts[0], &parts[1]], folder.path(), &stopped).expect("no search"), expected);
    // A different set of images has no cached result.
    assert!(matches!(find_once(&[&parts[0]], folder.path(), &stopped), Err(DataError::Cancelled)));

    // Any damage is reported and repaired.
    let name = files.keys().next().expect("one file");
    for change in [0, 40, 70, files[name].len() - 2] {
        let mut damaged = files[name].clone();
        damaged[change] ^= 1;
        put(&folder.path().join(name), &damaged);
        let warned = Warned::default();
        assert_eq!(find_once(&[&set], folder.path(), &warned).expect("it can be searched"), expected);
        let warnings = warned.0.into_inner().expect("nobody panicked");
        assert!(warnings.len() == 1 && warnings[0].contains("is damaged; the search is made again"), "{warnings:?}");
        assert_eq!(common::tree(folder.path()), files);
    }
    // If the folder cannot be written, the search still runs.
    put(&folder.path().join("file"), b"");
    let warned = Warned::default();
    assert_eq!(find_once(&[&set], &folder.path().join("file"), &warned).expect("it can be searched"), expected);
    assert!(!warned.0.into_inner().expect("nobody panicked").is_empty());
}

#[test]
fn pull_writes_the_same_files_with_and_without_a_cached_list() {
    let flow = Flow::of(drawn(360, 4, 0.3).dataset);
    let split = SplitParams::default();
    flow.pull("v1", &split).expect("partitions are there");
    let without = common::tree(&flow.path("raw"));
    let known = flow.path("known");
    for _ in 0..2 {
        let version = flow::version("v1");
        cifar_data::pull::pull(&flow.path("partitions"), version, &split, Some(&known), &flow.path("raw"), &Silent)
            .expect("partitions are there");
        assert!(common::tree(&flow.path("raw")) == without);
    }
    assert_eq!(common::tree(&known).len(), 1);
}
