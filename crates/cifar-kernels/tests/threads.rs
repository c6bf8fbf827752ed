//! The bits do not depend on the number of threads, since work is divided by shape.

use crate::common;

use cifar_kernels::{bias_gradient, with_isa};
use common::kernels::{Heap, every_kernel};
use common::{bits, on_every_isa, values};

fn on<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool starts").install(work)
}

fn check(work: impl Fn() -> Vec<(String, Vec<f32>)> + Sync) {
    on_every_isa(|isa| {
        // The ISA belongs to the thread that calls a kernel, so it is selected inside the pool.
        let work = || with_isa(isa, &work).expect("this processor has the ISA");
        let expected = on(1, work);
        for threads in [1, 2, 3, 4] {
            for ((name, got), (_, expected)) in on(threads, work).iter().zip(&expected) {
                assert!(bits(got) == bits(expected), "{name}: different bits on {threads} threads than on one, {isa}");
            }
        }
    });
}

#[test]
fn every_kernel_gives_the_same_bits_on_any_number_of_threads() {
    check(|| every_kernel(&Heap));
}

/// The order of sums in f64 rarely shows in f32. Here it does: large values cancel, and the
/// remaining small values are mostly rounding errors.
#[test]
fn sums_that_cancel_give_the_same_bits_on_any_number_of_threads() {
    let [rows, channels] = [5002, 64];
    let mut table = values(8, rows * channels);
    for v in table.chunks_exact_mut(channels).skip(1).step_by(2).flatten() {
        *v *= 1e-12;
    }
    let (first, second) = table.split_at_mut(rows / 2 * channels);
    for (row, opposite) in first.chunks_exact(channels).zip(second.chunks_exact_mut(channels).rev()) {
        for (v, opposite) in row.iter().zip(opposite) {
            *opposite = -v;
        }
    }
    check(|| {
        let mut sums = vec![0.0; channels];
        bias_gradient(rows, channels, &table, &mut sums).expect("the lengths are those of the shape");
        vec![("bias_gradient".into(), sums)]
    });
}
