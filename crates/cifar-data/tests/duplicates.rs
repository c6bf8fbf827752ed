//! Exact copies, near-duplicates and look-alikes: what is found, what is not, and where groups go.

#[path = "../examples/near_duplicates/changes.rs"]
mod changes;

use crate::common;

use std::collections::{BTreeMap, BTreeSet};

use cifar_data::duplicates::{
    Kind, NEAR_DUPLICATES, Pair, PairCounts, difference, find, find_once, find_slowly, groups,
};
use cifar_data::pull::Raw;
use cifar_data::random::{Purpose, stream};
use cifar_data::sources::synthetic::{Planted, Synthetic, SyntheticParams, generate};
use cifar_data::splits::{Split, SplitParams};
use cifar_data::{DataError, Dataset, ImageSize, Progress, SampleId, Silent};
use common::flow::{Flow, list_again, rows};
use common::{Warned, check_refused, edit, header, official, on_threads, pooled, put, sample, shown};
use image::{RgbImage, imageops};

const SIDE: ImageSize = changes::SIZE;

fn drawn(count: usize, seed: u64, near_duplicates: f64) -> Synthetic {
    let params = SyntheticParams { count, seed, near_duplicates, ..SyntheticParams::default() };
    generate(&params).expect("allowed parameters")
}

fn found(set: &Dataset) -> Vec<Pair> {
    find(&[set], &Silent).expect("nobody stops it")
}

/// Ids from 0 on.
fn set_of(images: &[Vec<u8>]) -> Dataset {
    let samples = (0..images.len() as u32).map(|id| sample(id, 0)).collect();
    Dataset::new(header(&["a"], SIDE), samples, images.concat()).expect("a valid set")
}

fn ids(pairs: &[Pair], kinds: &[Kind]) -> Vec<(u32, u32)> {
    pairs.iter().filter(|p| kinds.contains(&p.kind)).map(|p| (p.first.0, p.second.0)).collect()
}

/// The group of every planted copy: all copies of one image belong together.
fn true_groups(truth: &[(SampleId, Planted)]) -> BTreeMap<SampleId, SampleId> {
    let copy = |(id, planted): &(SampleId, Planted)| match planted {
        Planted::NearDuplicate { of } => Some([(*id, *of), (*of, *of)]),
        _ => None,
    };
    truth.iter().filter_map(copy).flatten().collect()
}

/// Recall over planted copies, and precision of the exact and near pairs.
fn check_planted(seed: u64, count: usize, share: f64) {
    let Synthetic { dataset, truth } = drawn(count, seed, share);
    let truth = true_groups(&truth);
    let pairs = found(&dataset);
    let found_groups = groups(&pairs);
    let planted: Vec<_> = truth.iter().filter(|(id, of)| id != of).collect();
    let hit = planted.iter().filter(|(id, of)| found_groups.get(id).is_some_and(|g| found_groups.get(of) == Some(g)));
    let recall = hit.count() as f64 / planted.len() as f64;
    let near = ids(&pairs, &[Kind::Exact, Kind::Near]);
    let group = |id: u32| truth.get(&SampleId(id));
    let right = near.iter().filter(|(a, b)| group(*a).is_some() && group(*a) == group(*b)).count();
    let precision = right as f64 / near.len() as f64;
    assert!(
        recall >= 0.95 && precision >= 0.95,
        "seed {seed}: recall {recall:.3} of {}, precision {precision:.3} of {}",
        planted.len(),
        near.len()
    );
}

#[test]
fn planted_near_duplicates_are_found_and_little_else() {
    check_planted(0, 6000, 0.02);
    for seed in 1..4 {
        check_planted(seed, 1500, 0.1);
    }
}

/// The picture with each point taken from elsewhere, edges repeated.
fn moved(image: &[u8], from: impl Fn(i64, i64) -> (i64, i64)) -> Vec<u8> {
    let place = |at: usize| {
        let (y, x) = from(at as i64 / 32, at as i64 % 32);
        (y.clamp(0, 31) * 32 + x.clamp(0, 31)) as usize * 3
    };
    (0..32 * 32).flat_map(|at| image[place(at)..place(at) + 3].to_vec()).collect()
}

fn lit(image: &[u8], contrast: f64, brightness: f64) -> Vec<u8> {
    image.iter().map(|v| ((f64::from(*v) - 128.0) * contrast + 128.0 + brightness).clamp(0.0, 255.0) as u8).collect()
}

fn noised(image: &[u8], deviation: f64) -> Vec<u8> {
    let mut random = stream(5, Purpose::Synthetic, u64::MAX, 1);
    image.iter().map(|v| (f64::from(*v) + deviation * random.normal()).clamp(0.0, 255.0) as u8).collect()
}

fn compressed(image: &[u8], quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(image, 32, 32, image::ExtendedColorType::Rgb8)
        .expect("pixels fit");
    image::load_from_memory(&bytes).expect("just written").into_rgb8().into_raw()
}

/// A crop of `side` pixels, enlarged to the whole.
fn cropped(image: &[u8], top: u32, left: u32, side: u32) -> Vec<u8> {
    let image = RgbImage::from_raw(32, 32, image.to_vec()).expect("pixels fit");
    let crop = imageops::crop_imm(&image, left, top, side, side).to_image();
    imageops::resize(&crop, 32, 32, imageops::FilterType::Triangle).into_raw()
}

/// Whether an image shows enough that noise and compression leave something of it: a deviation of
/// 30 levels.
fn is_strong(image: &[u8]) -> bool {
    let n = image.len() as f64;
    let mean = image.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    image.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n > 900.0
}

/// Changes forty strong drawn images, and expects `least` of them to be near their originals, and
/// near nothing else.
fn check_change(name: &str, least: usize, change: impl Fn(&[u8]) -> Vec<u8>) {
    let drawn = drawn(200, 11, 0.0).dataset;
    let originals = (0..200).map(|index| drawn.image(index).to_vec()).filter(|image| is_strong(image));
    let mut images: Vec<Vec<u8>> = originals.take(40).collect();
    assert_eq!(images.len(), 40);
    let changed: Vec<Vec<u8>> = images.iter().map(|image| change(image)).collect();
    images.extend(changed);
    let pairs = found(&set_of(&images));
    let near = ids(&pairs, &[Kind::Exact, Kind::Near]);
    assert!(near.iter().all(|(a, b)| a + 40 == *b), "{name}: {near:?}");
    assert!(near.len() >= least, "{name}: {} of 40", near.len());
}

#[test]
fn each_change_that_keeps_the_picture_is_seen_through() {
    for (down, right) in [(0, 1), (-1, 2), (2, 0), (-2, -2), (2, 2), (1, -2)] {
        check_change(&format!("shift {down} {right}"), 36, |image| moved(image, |y, x| (y + down, x + right)));
    }
    check_change("mirror", 37, |image| moved(image, |y, x| (y, 31 - x)));
    check_change("mirror and shift", 37, |image| moved(image, |y, x| (y + 2, 30 - x)));
    check_change("darker", 37, |image| lit(image, 1.0, -30.0));
    check_change("less contrast", 37, |image| lit(image, 0.7, 10.0));
    check_change("more contrast", 37, |image| lit(image, 1.2, 0.0));
    check_change("noise", 37, |image| noised(image, 6.0));
    check_change("JPEG 75", 37, |image| compressed(image, 75));
    check_change("JPEG 50", 35, |image| compressed(image, 50));
    // Scaling blurs the noise of drawn images, which is part of their details: many are called
    // similar only.
    check_change("crop", 24, |image| cropped(image, 1, 1, 30));
    check_change("crop of a corner", 24, |image| cropped(image, 2, 0, 30));
    check_change("everything", 36, |image| {
        compressed(&noised(&lit(&moved(image, |y, x| (y - 1, 32 - x)), 0.9, 8.0), 3.0), 80)
    });
}

/// As smooth as photographs of this size are: drawn images have noise in every pixel, which scaling
/// takes away.
fn smooth(image: &[u8]) -> Vec<u8> {
    let image = RgbImage::from_raw(32, 32, image.to_vec()).expect("pixels fit");
    imageops::blur(&image, 0.8).into_raw()
}

type Change<'a> = &'a dyn Fn(&[u8], usize) -> Vec<u8>;

/// What people do to a picture: each kind to forty images, by another amount each time.
#[test]
fn planted_changes_of_every_kind_are_found_and_nothing_else() {
    let drawn = drawn(600, 21, 0.0).dataset;
    let originals: Vec<Vec<u8>> =
        (0..600).map(|index| drawn.image(index)).filter(|image| is_strong(image)).map(smooth).collect();
    assert!(originals.len() >= 240, "{}", originals.len());
    let of = |range: [i64; 2], step: usize| range[0] + step as i64 % (range[1] - range[0] + 1);
    let kinds: [(&str, Change); 5] = [
        ("shift", &|image, n| {
            let (down, right) = (of([-2, 2], n), of([-2, 2], n / 5));
            moved(image, move |y, x| (y + down, x + right))
        }),
        ("crop", &|image, n| {
            let side = 32 - of([1, 3], n) as u32;
            cropped(image, (n as u32 / 3) % (33 - side), (n as u32 / 7) % (33 - side), side)
        }),
        ("mirror", &|image, n| moved(image, move |y, x| (y, 31 - x + of([-1, 1], n)))),
        ("brightness", &|image, n| lit(image, 0.8 + 0.1 * (n % 5) as f64, of([-25, 25], n * 7) as f64)),
        ("JPEG", &|image, n| compressed(image, of([50, 90], n * 3) as u8)),
    ];
    let mut images = originals.clone();
    let mut planted = BTreeMap::new();
    for (kind, (name, change)) in kinds.iter().enumerate() {
        for n in 0..40 {
            let original = kind * 40 + n;
            planted.insert((original as u32, images.len() as u32), *name);
            images.push(change(&originals[original], n));
        }
    }
    let pairs = found(&set_of(&images));
    let near: BTreeSet<(u32, u32)> = ids(&pairs, &[Kind::Exact, Kind::Near]).into_iter().collect();
    let hits = |name: &str| planted.iter().filter(|(pair, kind)| **kind == name && near.contains(*pair)).count();
    let by_kind = kinds.map(|(name, _)| (name, hits(name)));
    let all: usize = by_kind.iter().map(|(_, hits)| hits).sum();
    let (recall, precision) = (all as f64 / planted.len() as f64, all as f64 / near.len() as f64);
    assert!(recall >= 0.95 && precision >= 0.95, "recall {recall:.3}, precision {precision:.3}, of 40: {by_kind:?}");
    assert!(by_kind.iter().all(|(_, hits)| *hits >= 34), "{by_kind:?}");
}

/// Changes a hundred smooth drawn images by the kind with this name, as `examples/near_duplicates`
/// changes real ones. Expects at least `least` copies to be near their originals, and no other near
/// pairs.
fn check_kind(name: &str, least: usize) {
    let (_, change) = changes::KINDS.into_iter().find(|(kind, _)| *kind == name).expect("a kind");
    let drawn = drawn(900, 33, 0.0).dataset;
    let (mut originals, mut copies) = (Vec::new(), Vec::new());
    for index in (0..drawn.len()).filter(|index| is_strong(drawn.image(*index))).take(100) {
        let original = smooth(drawn.image(index));
        let mut random = stream(6, Purpose::Synthetic, u64::MAX, index as u64);
        let changed = change(&original, &mut random).expect("every image can be changed");
        copies.push(changes::recorded_again(&changed, &mut random));
        originals.push(original);
    }
    assert_eq!(originals.len(), 100);
    let near = ids(&found(&set_of(&[originals, copies].concat())), &[Kind::Exact, Kind::Near]);
    let (planted, others): (Vec<_>, Vec<_>) = near.into_iter().partition(|(one, other)| one + 100 == *other);
    assert!(planted.len() >= least && others.is_empty(), "{name}: {} of 100; {others:?}", planted.len());
}

#[test]
fn copies_that_were_cut_on_one_side_are_found() {
    check_kind("aspect 0.75-1.33, cut", 92);
}

#[test]
fn copies_with_bars_are_found() {
    check_kind("aspect 0.75-1.33, bars", 64);
}

#[test]
fn crops_are_found() {
    check_kind("crop, 70-100 % of the area", 92);
}

#[test]
fn copies_with_a_caption_are_found() {
    // Drawn images show little beside their figure, and most captions cover a part of it: of real
    // images 91 in 100 are found.
    check_kind("caption", 38);
}

#[test]
fn the_difference_of_a_cut_copy_is_small() {
    let images: Vec<Vec<u8>> = {
        let drawn = drawn(60, 33, 0.0).dataset;
        (0..60).map(|index| drawn.image(index)).filter(|image| is_strong(image)).map(smooth).take(10).collect()
    };
    let image = |pixels: &[u8]| RgbImage::from_raw(32, 32, pixels.to_vec()).expect("pixels fit");
    let mut sum = 0;
    for original in &images {
        let cut = imageops::crop_imm(&image(original), 0, 2, 32, 25).to_image();
        let copy = imageops::resize(&cut, 32, 32, imageops::FilterType::Triangle).into_raw();
        for (one, other) in [(original, &copy), (&copy, original)] {
            let found = difference(one, other, SIDE);
            assert_ne!(found.zoom, [0, 0]);
            sum += found.pixels.iter().map(|v| u64::from(*v)).sum::<u64>() / SIDE.bytes() as u64;
        }
    }
    assert!(images.len() == 10 && sum <= 20 * 8, "{} in the mean", sum / 20);
}

#[test]
fn flat_images_are_alike_only_if_they_are_the_same() {
    let mut images: Vec<Vec<u8>> = (0..30).map(|shade| vec![100 + shade; SIDE.bytes()]).collect();
    // Skies: a slow change from top to bottom and the camera's noise.
    images.extend((0..30u64).map(|seed| {
        let mut random = stream(seed, Purpose::Synthetic, u64::MAX, 2);
        (0..SIDE.bytes()).map(|at| (150.0 + (at / 96) as f64 + random.normal()) as u8).collect()
    }));
    images.push(images[3].clone());
    assert_eq!(
        found(&set_of(&images)),
        [Pair { first: SampleId(3), second: SampleId(60), similarity: 1.0, kind: Kind::Exact }]
    );
}

#[test]
fn copies_of_copies_are_one_group() {
    let original = drawn(30, 2, 0.0).dataset.image(4).to_vec();
    let moved = moved(&original, |y, x| (y + 1, x - 1));
    let images = [moved.clone(), original.clone(), noised(&moved, 3.0), original, moved];
    let pairs = found(&set_of(&images));
    assert_eq!(ids(&pairs, &[Kind::Exact]), [(0, 4), (1, 3)]);
    assert_eq!(ids(&pairs, &[Kind::Near]), [(0, 1), (0, 2), (0, 3), (1, 2), (1, 4), (2, 3), (2, 4), (3, 4)]);
    assert!(groups(&pairs).values().all(|leader| leader.0 == 0));
    assert_eq!(PairCounts::of(&pairs), PairCounts { exact: 2, near: 8, similar: 0 });
}

#[test]
fn a_set_of_copies_has_a_short_list_and_one_group() {
    let original = drawn(30, 2, 0.0).dataset.image(4).to_vec();
    let pairs = found(&set_of(&vec![original.clone(); 300]));
    assert!(pairs.len() < 400 && groups(&pairs).len() == 300, "{}", pairs.len());
    let noisy: Vec<Vec<u8>> = (0..300).map(|n| noised(&original, 1.0 + f64::from(n) / 300.0)).collect();
    let pairs = found(&set_of(&noisy));
    assert!(pairs.len() <= 300 * 64, "{}", pairs.len());
    assert_eq!(groups(&pairs).values().filter(|leader| leader.0 == 0).count(), 300);
}

#[test]
fn images_of_any_size_are_compared() {
    for size in
        [ImageSize { height: 1, width: 1 }, ImageSize { height: 3, width: 5 }, ImageSize { height: 96, width: 64 }]
    {
        let mut pixels = common::noise(1, 4 * size.bytes());
        pixels.extend_from_within(..size.bytes());
        let samples = (0..5).map(|id| sample(id, 0)).collect();
        let set = Dataset::new(header(&["a"], size), samples, pixels).expect("a valid set");
        assert!(ids(&found(&set), &[Kind::Exact]).contains(&(0, 4)), "{size}");
    }
    let empty = Dataset::new(header(&["a"], SIDE), Vec::new(), Vec::new()).expect("a valid set");
    assert_eq!(found(&empty), []);
}

#[test]
fn the_search_finds_what_a_close_look_at_every_pair_finds() {
    let (mut hits, mut all) = (0, 0);
    for seed in [0, 1] {
        let set = drawn(400, seed, 0.3).dataset;
        let (fast, slow) = (found(&set), find_slowly(&[&set]));
        let near = |pairs: &[Pair]| ids(pairs, &[Kind::Exact, Kind::Near]).into_iter().collect::<BTreeSet<_>>();
        assert!(near(&fast).is_subset(&near(&slow)));
        hits += near(&fast).len();
        all += near(&slow).len();
    }
    // A glance costs few pairs, and those are shifted by two pixels both ways.
    assert!(all > 200 && hits as f64 >= 0.97 * all as f64, "{hits} of {all}");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let set = drawn(900, 3, 0.2).dataset;
    let one = on_threads(1, || found(&set));
    assert!(one.len() > 100);
    assert_eq!(on_threads(3, || found(&set)), one);
}

/// Stops as soon as a tenth of the pairs was compared.
struct StopEarly(std::sync::atomic::AtomicBool);

impl Progress for StopEarly {
    fn update(&self, _: &'static str, done: u64, total: u64) {
        if done * 10 > total {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn cancelled(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn the_search_can_be_stopped() {
    let set = drawn(600, 3, 0.2).dataset;
    assert!(matches!(find(&[&set], &StopEarly(false.into())), Err(DataError::Cancelled)));
}

/// Pulls and prepares a set with many near-duplicates, and returns its flow.
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
            // The same pairs and places whichever partitions are chosen.
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
fn the_prepared_list_holds_the_pairs_of_which_both_images_are_there() {
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
fn official_keeps_the_published_test_set_and_counts_what_it_shares() {
    let split = official(0.2);
    let flow = prepared("v1+v2+v3", &split);
    assert_eq!(
        flow.places().iter().filter(|(_, s)| *s == "test").map(|(id, _)| *id).collect::<Vec<_>>(),
        (300..360).collect::<Vec<_>>()
    );
    let expected: Vec<Pair> = found(&flow.all).into_iter().filter(|p| p.first.0 < 300 && p.second.0 >= 300).collect();
    let warned = Warned::default();
    let version = common::flow::version("v1+v2+v3");
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
fn a_group_goes_where_its_smallest_id_goes() {
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
    // What the hash does not catch, since somebody listed it again, is read with care.
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
fn what_was_found_is_found_again_without_a_search() {
    let (set, folder) = (drawn(300, 5, 0.2).dataset, common::temporary());
    let expected = found(&set);
    assert_eq!(find_once(&[&set], folder.path(), &Silent).expect("the folder is free"), expected);
    let files = common::tree(folder.path());
    assert_eq!(files.len(), 1);
    // A search would be stopped at once; however the images are cut, the result is there.
    let stopped = StopEarly(true.into());
    let parts = [set.filter(|s| s.id.0 < 100), set.filter(|s| s.id.0 >= 100)];
    assert_eq!(find_once(&[&parts[0], &parts[1]], folder.path(), &stopped).expect("no search"), expected);
    // Other images know nothing of it.
    assert!(matches!(find_once(&[&parts[0]], folder.path(), &stopped), Err(DataError::Cancelled)));

    // Damage of any kind is told of and mended.
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
    // A folder that takes no file costs time alone.
    put(&folder.path().join("file"), b"");
    let warned = Warned::default();
    assert_eq!(find_once(&[&set], &folder.path().join("file"), &warned).expect("it can be searched"), expected);
    assert!(!warned.0.into_inner().expect("nobody panicked").is_empty());
}

#[test]
fn pulling_gives_the_same_bytes_with_and_without_a_known_list() {
    let flow = Flow::of(drawn(360, 4, 0.3).dataset);
    let split = SplitParams::default();
    flow.pull("v1", &split).expect("partitions are there");
    let without = common::tree(&flow.path("raw"));
    let known = flow.path("known");
    for _ in 0..2 {
        let version = common::flow::version("v1");
        cifar_data::pull::pull(&flow.path("partitions"), version, &split, Some(&known), &flow.path("raw"), &Silent)
            .expect("partitions are there");
        assert!(common::tree(&flow.path("raw")) == without);
    }
    assert_eq!(common::tree(&known).len(), 1);
}
