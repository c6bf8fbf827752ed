//! The peak speed of the machine.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::generic::on_isa;
use crate::isa::Simd;

/// Independent sums: enough to keep two units busy with a latency of four cycles each.
const CHAINS: usize = 12;
/// Multiply-adds of each sum between two readings of the clock.
const ROUNDS: usize = 20_000;
const DURATION: Duration = Duration::from_millis(60);

/// Measures the peak speed of multiply-adds on `threads` threads at once, with the instructions of
/// the current ISA.
///
/// Returns GFLOP/s: 10⁹ floating-point operations per second. A multiply-add counts as two. The
/// measurement takes about 0.1 s and depends on the machine's current load.
///
/// # Errors
/// As [`isa`](crate::isa()).
///
/// ```
/// assert!(cifar_kernels::peak_gflops(1)? > 0.0);
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn peak_gflops(threads: usize) -> Result<f64> {
    Ok(on_isa!(measure, threads))
}

fn measure<S: Simd>(s: S, threads: usize) -> f64 {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(move || on_this_thread(s))).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).sum()
    })
}

fn on_this_thread<S: Simd>(s: S) -> f64 {
    s.vectorize(
        #[inline(always)]
        || {
            let (factor, term) = (s.splat(black_box(0.999)), s.splat(black_box(1e-3)));
            let mut sums = [s.splat(0.5); CHAINS];
            let (start, mut blocks) = (Instant::now(), 0usize);
            while start.elapsed() < DURATION {
                for _ in 0..ROUNDS {
                    for sum in &mut sums {
                        *sum = s.mul_add(*sum, factor, term);
                    }
                }
                blocks += 1;
            }
            let seconds = start.elapsed().as_secs_f64();
            black_box(sums);
            (blocks * ROUNDS * CHAINS * S::LANES * 2) as f64 / seconds / 1e9
        },
    )
}
