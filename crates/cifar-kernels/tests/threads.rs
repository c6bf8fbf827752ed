//! The same bits at any number of threads: work is divided by shape alone.

mod common;

use common::kernels::{Heap, every_kernel};

type Bits = Vec<(String, Vec<u32>)>;

fn bits_on(threads: usize) -> Bits {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool starts");
    let outputs = pool.install(|| every_kernel(&Heap));
    outputs.into_iter().map(|(name, values)| (name, values.into_iter().map(f32::to_bits).collect())).collect()
}

fn check(threads: usize, expected: &Bits) {
    for ((name, bits), (_, expected)) in bits_on(threads).iter().zip(expected) {
        assert!(bits == expected, "{name}: other bits on {threads} threads than on one");
    }
}

#[test]
fn every_kernel_gives_the_same_bits_on_any_number_of_threads() {
    let expected = bits_on(1);
    for threads in [1, 2, 3, 4] {
        check(threads, &expected);
    }
}
