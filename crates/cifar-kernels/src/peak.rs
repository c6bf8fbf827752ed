//! What the machine could do at best.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::arms::Simd;
use crate::error::Result;
use crate::generic::on_arm;

/// Sums that run side by side: enough to keep two units busy whose results come four cycles later.
const CHAINS: usize = 12;
/// Multiply-adds of each sum between two looks at the clock.
const ROUNDS: usize = 20_000;
const DURATION: Duration = Duration::from_millis(60);

/// The most multiply-adds that this machine does now, on `threads` threads at once, with the instructions of the arm in
/// use: 10⁹ floating-point operations a second, a multiply-add counting as two. Takes about 0.1 s.
pub fn peak_gflops(threads: usize) -> Result<f64> {
    Ok(on_arm!(measure, threads))
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
