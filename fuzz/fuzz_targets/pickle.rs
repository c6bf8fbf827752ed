//! A batch of the python version, and its class names.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for file in ["data_batch_1", "batches.meta", "train", "meta"] {
        cifar_fuzz::with_file(file, bytes, cifar_fuzz::read_source);
    }
});
