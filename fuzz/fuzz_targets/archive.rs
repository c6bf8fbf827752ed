//! A `.tar.gz` file: the bytes as they are, and as what it unpacks to.
#![no_main]

use std::io::Write;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cifar_fuzz::with_file("x.tar.gz", bytes, |folder| cifar_fuzz::read_source(&folder.join("x.tar.gz")));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("memory takes it");
    let packed = packed.finish().expect("memory takes it");
    cifar_fuzz::with_file("x.tar.gz", &packed, |folder| cifar_fuzz::read_source(&folder.join("x.tar.gz")));
});
