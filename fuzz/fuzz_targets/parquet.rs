//! A parquet file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cifar_fuzz::with_file("x.parquet", bytes, cifar_fuzz::read_source);
});
