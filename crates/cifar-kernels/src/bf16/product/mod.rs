//! Products of blocks: C `[32, 32]` += A `[32, 32]` · B `[32, 32]`, with A and B in bf16 and C in
//! `f32`.
//!
//! A block is two tiles of A, `[16 rows, 32]`, or of B, `[16 pairs, 16 columns, 2]`. Each
//! implementation computes what the instruction `tdpbf16ps` of AMX computes for a tile of C:
//!
//! ```text
//! even = odd = 0
//! for k in 0..16:
//!     even = fma(A[row, 2k], B[k, column, 0], even)
//!     odd = fma(A[row, 2k + 1], B[k, column, 1], odd)
//! C[row, column] += even + odd
//! ```
//!
//! Every operation rounds to nearest even, and takes and returns 0 for subnormal numbers. All
//! implementations return the same bits, except those of NaN.
//!
//! Order and flushing follow from Intel's description of the instruction, and were measured on two
//! processors with AMX (family 6, models 167 and 207 as their hypervisors say). Whether a result is
//! subnormal is decided after rounding, as AVX2 and AVX-512 do.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(any(test, target_arch = "x86_64"))]
mod check;
#[cfg(target_arch = "x86_64")]
mod emulation;
mod portable;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
pub(super) mod trap;

#[cfg(target_arch = "x86_64")]
pub(super) use amx::Amx;
#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2Unit;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512Unit;
pub(super) use portable::PortableUnit;

use super::Bf16;
use super::blocked::BLOCK;
use super::steps::{Steps, TapSteps};
use crate::Isa;

/// Pairs of a tile, and its rows and columns.
const TILE: usize = 16;

/// An implementation of the products.
pub(super) trait Unit: Copy + Send + Sync {
    /// What a thread needs for products. The value stays on its thread.
    type Tiles: Tiles;

    /// Prepares this thread. A thread has at most one value of [`Self::Tiles`] at a time.
    fn begin(self) -> Self::Tiles;

    /// Returns the ISA for the loops around the products.
    fn isa(self) -> Isa;
}

/// A thread that is ready for products.
pub(super) trait Tiles {
    /// Adds all products of `sum` to `c`, which is 0 before if `fresh`.
    fn add(&self, sum: &BlockSum, fresh: bool, c: &mut [f32]);

    /// Adds the products of all taps to `c` `[taps, 32, 32]`, which is 0 before if `fresh`. The
    /// sum of each tap has the order of [`BlockSum`], one band after the other.
    fn add_taps(&self, sums: &TapSums, fresh: bool, c: &mut [f32]) {
        for band in 0..sums.steps.bands() {
            for (row, c) in c.chunks_exact_mut(sums.steps.kernel() * BLOCK).enumerate() {
                self.add_row(sums, row, band, fresh && band == 0, c);
            }
        }
    }

    /// Adds the products of a row of taps in a band to `c` `[columns, 32, 32]`.
    fn add_row(&self, sums: &TapSums, row: usize, band: usize, fresh: bool, c: &mut [f32]) {
        sums.add_each(self, row, band, fresh, c);
    }
}

/// A sum of products of blocks: Σ A[r · `a_stride` + step.a] · B[r · `b_stride` + step.b] over r
/// below `repeats` and all steps, in this order. Positions and strides count blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockSum<'a> {
    pub(super) a: &'a [Bf16],
    pub(super) a_stride: usize,
    pub(super) b: &'a [Bf16],
    pub(super) b_stride: usize,
    pub(super) repeats: usize,
    pub(super) steps: Steps<'a>,
}

/// Sums of products of blocks for all taps of a kernel, with the positions of [`BlockSum`].
#[derive(Debug, Clone, Copy)]
pub(super) struct TapSums<'a> {
    pub(super) a: &'a [Bf16],
    pub(super) a_stride: usize,
    pub(super) b: &'a [Bf16],
    pub(super) b_stride: usize,
    pub(super) repeats: usize,
    pub(super) steps: &'a TapSteps,
}

impl TapSums<'_> {
    /// Checks the lengths for a row of taps, whose sums are `c`.
    ///
    /// # Panics
    /// If A, B or C is too short, which callers rule out.
    #[cfg(target_arch = "x86_64")]
    fn check(&self, c: &[f32]) {
        let [a, b] = self.steps.by_tap.below();
        assert_eq!(c.len(), self.steps.kernel() * BLOCK, "a block of sums per tap");
        assert!((self.repeats - 1) * self.a_stride + a <= self.a.len() / BLOCK, "all blocks of A");
        assert!((self.repeats - 1) * self.b_stride + b <= self.b.len() / BLOCK, "all blocks of B");
    }

    /// Adds the products of a row of taps in a band, one tap after the other.
    fn add_each(&self, tiles: &(impl Tiles + ?Sized), row: usize, band: usize, fresh: bool, c: &mut [f32]) {
        let Self { a, a_stride, b, b_stride, repeats, steps } = *self;
        for (column, c) in c.chunks_exact_mut(BLOCK).enumerate() {
            let steps = steps.by_tap.get(row * steps.kernel() + column).with_b(steps.band(band));
            tiles.add(&BlockSum { a, a_stride, b, b_stride, repeats, steps }, fresh, c);
        }
    }
}

impl BlockSum<'_> {
    /// Returns whether there is a product to add; if there is none, sets a fresh sum to 0.
    ///
    /// # Panics
    /// If A, B or C is too short, which callers rule out.
    fn start(&self, fresh: bool, c: &mut [f32]) -> bool {
        assert_eq!(c.len(), BLOCK, "a block of sums");
        if self.repeats == 0 || self.steps.list().is_empty() {
            if fresh {
                c.fill(0.0);
            }
            return false;
        }
        let [a, b] = self.steps.below();
        assert!((self.repeats - 1) * self.a_stride + a <= self.a.len() / BLOCK, "all blocks of A");
        assert!((self.repeats - 1) * self.b_stride + b <= self.b.len() / BLOCK, "all blocks of B");
        true
    }

    /// Calls `visit` with A and B of every product, in order.
    #[inline(always)]
    fn for_each(&self, mut visit: impl FnMut(&[Bf16], &[Bf16])) {
        for repeat in 0..self.repeats {
            for step in self.steps.list() {
                let a = (repeat * self.a_stride + step.a as usize) * BLOCK;
                let b = (repeat * self.b_stride + step.b as usize) * BLOCK;
                visit(&self.a[a..a + BLOCK], &self.b[b..b + BLOCK]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check::has_the_arithmetic;
    use super::*;

    /// Returns pseudorandom bits (splitmix64).
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a block whose numbers have exponents from `smallest`, `exponents` of them.
    fn block(seed: u64, smallest: u64, exponents: u64) -> Vec<Bf16> {
        let mut state = seed;
        let mut number = || {
            let bits = random(&mut state);
            Bf16::from_bits((bits & 0x807f | (smallest + (bits >> 32) % exponents) << 7) as u16)
        };
        (0..BLOCK).map(|_| number()).collect()
    }

    fn sum(unit: impl Unit, a: &[Bf16], b: &[Bf16], c: &[f32]) -> Vec<f32> {
        let mut sums = c.to_vec();
        unit.begin().add(&BlockSum { a, a_stride: 0, b, b_stride: 0, repeats: 1, steps: Steps::ONE }, false, &mut sums);
        sums
    }

    /// NaN are equal whatever their bits.
    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| if v.is_nan() { f32::NAN } else { *v }.to_bits()).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn compare(name: &str, a: &[Bf16], b: &[Bf16], c: &[f32]) {
        let expected = bits(&sum(PortableUnit, a, b, c));
        if let Some(unit) = Avx2Unit::new() {
            assert!(bits(&sum(unit, a, b, c)) == expected, "{name}: AVX2");
        }
        if let Some(unit) = Avx512Unit::new() {
            assert!(bits(&sum(unit, a, b, c)) == expected, "{name}: AVX-512");
        }
        #[cfg(target_os = "linux")]
        assert!(bits(&sum(trap::amx(), a, b, c)) == expected, "{name}: AMX");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_implementation_returns_the_same_bits() {
        for seed in 0..40 {
            // The last range has infinities and NaN, the one before only subnormal numbers and 0.
            for (smallest, exponents) in [(127, 1), (120, 10), (87, 80), (60, 8), (0, 128), (0, 1), (0, 256)] {
                let [a, b, c] = [3, 4, 5].map(|part| block(7 * seed + part, smallest, exponents));
                let c: Vec<f32> = c.into_iter().map(Bf16::to_f32).collect();
                compare(&format!("seed {seed}, exponents from {smallest}"), &a, &b, &c);
            }
        }
    }

    /// 2⁻¹²⁶ − 2⁻¹⁵¹ is the smallest number that rounds to a normal one, and is not flushed.
    #[test]
    fn results_are_flushed_if_they_are_subnormal_after_rounding() {
        fn power(exponent: i32) -> Bf16 {
            Bf16::from_bits(((127 + exponent) << 7) as u16)
        }
        // The first two products of the even chain: 2⁻¹²⁶ and `second` · 2⁻⁷⁵.
        fn check(second: Bf16, expected: f32) {
            let [mut a, mut b] = [vec![Bf16::ZERO; BLOCK], vec![Bf16::ZERO; BLOCK]];
            (a[0], b[0]) = (power(-100), power(-26));
            (a[2], b[32]) = (second, power(-75));
            let c = vec![0.0; BLOCK];
            #[cfg(target_arch = "x86_64")]
            compare(&format!("{second:?}"), &a, &b, &c);
            assert_eq!(sum(PortableUnit, &a, &b, &c)[0].to_bits(), expected.to_bits(), "{second:?}");
        }
        let negative = |x: Bf16| Bf16::from_f32(-x.to_f32());
        check(negative(power(-75)), 0.0); // the largest subnormal number with 24 significant bits
        check(negative(Bf16::from_bits(power(-76).to_bits() + 1)), 0.0); // rounds to it
        check(negative(power(-76)), f32::MIN_POSITIVE); // halfway to it, up to even
        check(power(-76), f32::MIN_POSITIVE);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn each_isa_has_its_implementation() {
        use crate::bf16::unit::{Selected, selected};
        for isa in Isa::available() {
            let unit = crate::with_isa(isa, selected).expect("it is available");
            assert!(match isa {
                Isa::Avx512 => matches!(unit, Ok(Selected::Avx512(_) | Selected::Amx(_)) | Err(_)),
                Isa::Avx2 => matches!(unit, Ok(Selected::Avx2(_))),
                Isa::Portable => matches!(unit, Ok(Selected::Portable(_))),
            });
        }
    }

    #[test]
    fn the_first_use_accepts_every_implementation() {
        assert!(has_the_arithmetic(PortableUnit));
        #[cfg(target_arch = "x86_64")]
        assert!(Avx2Unit::new().is_none_or(has_the_arithmetic));
        #[cfg(target_arch = "x86_64")]
        assert!(Avx512Unit::new().is_none_or(has_the_arithmetic));
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        assert!(has_the_arithmetic(trap::amx()));
    }

    /// The numbers are such that every other order of the additions gives other bits.
    #[test]
    fn the_order_of_the_sums_is_that_of_the_instruction() {
        let one = Bf16::from_f32(1.0);
        let big = Bf16::from_f32(16_777_216.0); // 2²⁴: adding 1 changes nothing
        let (mut a, b) = (vec![Bf16::ZERO; BLOCK], vec![one; BLOCK]);
        // The even chain loses its 1, the odd chain keeps its own.
        (a[0], a[2], a[4]) = (big, one, Bf16::from_f32(-16_777_216.0));
        (a[1], a[3], a[5]) = (big, Bf16::from_f32(-16_777_216.0), one);
        let mut c = vec![0.0; BLOCK];
        c[0] = 16_777_216.0; // adding 1 to C changes nothing
        #[cfg(target_arch = "x86_64")]
        compare("order", &a, &b, &c);
        let sums = sum(PortableUnit, &a, &b, &c);
        assert_eq!(sums[..2], [16_777_216.0, 1.0]);
    }

    #[test]
    fn sums_without_products_are_0_if_fresh_and_unchanged_otherwise() {
        fn check(unit: impl Unit) {
            let blocks = block(1, 127, 1);
            for (repeats, steps) in [(0, Steps::ONE), (1, Steps::NONE)] {
                let none = BlockSum { a: &blocks, a_stride: 1, b: &blocks, b_stride: 1, repeats, steps };
                let mut c = vec![2.0; BLOCK];
                unit.begin().add(&none, false, &mut c);
                assert_eq!(c, vec![2.0; BLOCK]);
                unit.begin().add(&none, true, &mut c);
                assert_eq!(c, vec![0.0; BLOCK]);
            }
        }
        check(PortableUnit);
        #[cfg(target_arch = "x86_64")]
        if let Some(unit) = Avx2Unit::new() {
            check(unit);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(unit) = Avx512Unit::new() {
            check(unit);
        }
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        check(trap::amx());
    }

    /// Runs `work` with a copy of `values` that starts or ends next to a protected page.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    fn guarded<T: Copy>(values: &[T], at_end: bool, work: impl FnOnce(&mut [T])) {
        const PAGE: usize = 4096;
        let bytes = size_of_val(values);
        let inner = bytes.next_multiple_of(PAGE);
        // SAFETY: the mapping is new and ours alone. Its inner pages are opened before they are
        // used, and hold `bytes` bytes from either start on, which is aligned for `T`.
        unsafe {
            let (closed, flags) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANON);
            let map = libc::mmap(std::ptr::null_mut(), inner + 2 * PAGE, closed, flags, -1, 0);
            assert_ne!(map, libc::MAP_FAILED, "pages can be mapped");
            let opened = libc::mprotect(map.byte_add(PAGE), inner, libc::PROT_READ | libc::PROT_WRITE);
            assert_eq!(opened, 0, "pages can be opened");
            let start = map.byte_add(PAGE + if at_end { inner - bytes } else { 0 }).cast::<T>();
            std::ptr::copy_nonoverlapping(values.as_ptr(), start, values.len());
            work(std::slice::from_raw_parts_mut(start, values.len()));
            libc::munmap(map, inner + 2 * PAGE);
        }
    }

    /// Computes the products of nine taps of images of 2×3 pixels, next to protected pages.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    fn check_taps(unit: impl Unit) {
        let dims = crate::Conv2dDimensions {
            images: 64,
            height: 2,
            width: 3,
            in_channels: 32,
            out_channels: 32,
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        let steps = TapSteps::new(&crate::Conv2dShape::new(dims).expect("a valid shape"));
        let [a, b] = [3, 4].map(|seed| block(seed, 120, 9).repeat(12));
        for at_end in [false, true] {
            guarded(&a, at_end, |a| {
                guarded(&b, at_end, |b| {
                    guarded(&vec![0.0; 9 * BLOCK], at_end, |c| {
                        let sums = TapSums { a, a_stride: 6, b, b_stride: 6, repeats: 2, steps: &steps };
                        unit.begin().add_taps(&sums, true, c);
                        let mut expected = vec![0.0; 9 * BLOCK];
                        PortableUnit.add_taps(&sums, true, &mut expected);
                        assert_eq!(bits(c), bits(&expected));
                    });
                });
            });
        }
    }

    /// An access outside of a slice ends this process (SIGSEGV).
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    #[test]
    fn the_assembly_stays_within_its_slices() {
        fn check(unit: impl Unit) {
            check_taps(unit);
            let (a, b, c) = (block(1, 120, 9).repeat(3), block(2, 120, 9).repeat(3), vec![0.0; BLOCK]);
            for at_end in [false, true] {
                guarded(&a, at_end, |a| {
                    guarded(&b, at_end, |b| {
                        guarded(&c, at_end, |c| {
                            let (a_stride, b_stride) = (1, 1);
                            let sum = BlockSum { a, a_stride, b, b_stride, repeats: 2, steps: Steps::TWO };
                            unit.begin().add(&sum, true, c);
                            let mut expected = vec![0.0; BLOCK];
                            PortableUnit.add(&sum, true, &mut expected);
                            assert_eq!(bits(c), bits(&expected));
                        });
                    });
                });
            }
        }
        check(trap::amx());
        if let Some(unit) = Avx2Unit::new() {
            check(unit);
        }
        if let Some(unit) = Avx512Unit::new() {
            check(unit);
        }
    }

    /// The assembly configures the tiles of its thread and releases them.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    #[test]
    fn tiles_are_configured_only_during_a_task() {
        let amx = trap::amx();
        if Amx::new() != Ok(None) {
            return; // the processor executes the instructions
        }
        assert_eq!(trap::emulated(), (0, false));
        let blocks = block(2, 127, 1);
        let tiles = amx.begin();
        assert_eq!(trap::emulated(), (1, true));
        let sum = BlockSum { a: &blocks, a_stride: 0, b: &blocks, b_stride: 0, repeats: 2, steps: Steps::ONE };
        tiles.add(&sum, true, &mut vec![0.0; BLOCK]);
        drop(tiles);
        // The configuration, four tiles set to 0, four loads and products twice, four stores, and
        // the release.
        assert_eq!(trap::emulated(), (1 + 4 + 2 * 8 + 4 + 1, false));
    }
}
