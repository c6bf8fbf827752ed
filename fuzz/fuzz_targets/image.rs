//! An image file, as part of a set and on its own.
#![no_main]

use cifar_data::image_file::read_resized;
use cifar_data::{Fit, ImageSize};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cifar_fuzz::with_file("cat/x.png", bytes, |folder| {
        cifar_fuzz::read_source(folder);
        let _ = read_resized(&folder.join("cat/x.png"), ImageSize { height: 32, width: 32 }, Fit::Crop);
    });
});
