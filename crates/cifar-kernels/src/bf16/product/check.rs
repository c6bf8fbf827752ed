//! Compares the arithmetic of an implementation with that of the plain code.

use super::{BlockSum, PortableUnit, Tiles, Unit};
use crate::bf16::Bf16;
use crate::bf16::blocked::BLOCK;
use crate::bf16::steps::Steps;

/// Returns whether `unit` returns the bits of the plain code for sums of four products of blocks:
/// of ordinary numbers, of numbers of very different sizes, of numbers with subnormal products, and
/// with subnormal operands.
pub(super) fn has_the_arithmetic(unit: impl Unit) -> bool {
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    let [tiles, plain] = [&unit.begin() as &dyn Tiles, &PortableUnit];
    // The exponent of the smallest numbers, and how many exponents there are.
    [(126, 2), (87, 80), (62, 6), (0, 128)].into_iter().all(|(smallest, exponents)| {
        let mut block = |blocks: usize| -> Vec<Bf16> {
            (0..blocks * BLOCK).map(|_| Bf16::from_bits(numbers.next(smallest, exponents))).collect()
        };
        let (a, b) = (block(3), block(3));
        let c: Vec<f32> = block(1).into_iter().map(Bf16::to_f32).collect();
        let sum = BlockSum { a: &a, a_stride: 1, b: &b, b_stride: 1, repeats: 2, steps: Steps::TWO };
        [false, true].into_iter().all(|fresh| {
            let [mut got, mut expected] = [c.clone(), c.clone()];
            tiles.add(&sum, fresh, &mut got);
            plain.add(&sum, fresh, &mut expected);
            got.iter().zip(&expected).all(|(got, expected)| got.to_bits() == expected.to_bits())
        })
    })
}

/// Pseudorandom numbers (xorshift).
struct Numbers(u64);

impl Numbers {
    /// Returns the bits of a bf16 number.
    fn next(&mut self, smallest: u64, exponents: u64) -> u16 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let exponent = smallest + (self.0 >> 32) % exponents;
        let sign_and_fraction = (self.0 >> 16) & 0x807f;
        (sign_and_fraction | exponent << 7) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// The plain code, except for one bit.
    #[derive(Clone, Copy)]
    struct Broken;

    impl Unit for Broken {
        type Tiles = Self;

        fn begin(self) -> Self {
            self
        }

        fn isa(self) -> Isa {
            Isa::Portable
        }
    }

    impl Tiles for Broken {
        fn add(&self, sum: &BlockSum, fresh: bool, c: &mut [f32]) {
            PortableUnit.add(sum, fresh, c);
            c[1000] = f32::from_bits(c[1000].to_bits() ^ 1);
        }
    }

    #[test]
    fn one_wrong_bit_is_found() {
        assert!(has_the_arithmetic(PortableUnit));
        assert!(!has_the_arithmetic(Broken));
    }
}
