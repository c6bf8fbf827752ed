//! A stored set: the pixels, or the manifest beside good ones.
#![no_main]

use cifar_data::sources::synthetic::{SyntheticParams, generate};
use cifar_data::store;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let set =
        generate(&SyntheticParams { count: 30, ..SyntheticParams::default() }).expect("an allowed number").dataset;
    for file in [store::IMAGES, store::MANIFEST] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        store::write(&set, folder.path()).expect("room for a set");
        std::fs::write(folder.path().join(file), bytes).expect("room for a file");
        let _ = store::read(folder.path());
    }
});
