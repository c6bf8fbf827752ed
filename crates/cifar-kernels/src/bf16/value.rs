//! The number format bf16: the upper half of an `f32`.

/// A bf16 number: a sign, 8 bits of exponent and 7 bits of fraction.
///
/// Two numbers are equal if their bits are equal.
///
/// ```
/// use cifar_kernels::bf16::Bf16;
///
/// // The spacing of bf16 numbers is 1/128 from 1 to 2.
/// assert_eq!(Bf16::from_f32(1.005).to_f32(), 1.007_812_5);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

impl Bf16 {
    /// 0.
    pub const ZERO: Self = Self(0);
    /// NaN. Every conversion of a NaN returns these bits.
    pub const NAN: Self = Self(0x7fc0);

    /// Returns the number nearest to `value`, the even one of two. Numbers beyond the largest
    /// become infinite.
    #[inline(always)]
    pub fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let half = 0x7fff + ((bits >> 16) & 1);
        let rounded = Self((bits.wrapping_add(half) >> 16) as u16);
        if value.is_nan() { Self::NAN } else { rounded }
    }

    /// Returns the same number as an `f32`.
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    /// Returns the number with the given bits.
    pub fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Returns the bits of the number.
    pub fn to_bits(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: f32, expected: u16) {
        assert_eq!(Bf16::from_f32(value).to_bits(), expected, "{value:e} ({:#x})", value.to_bits());
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        check(1.0, 0x3f80);
        check(1.0 + 1.0 / 256.0, 0x3f80); // halfway, down to even
        check(1.0 + 3.0 / 256.0, 0x3f82); // halfway, up to even
        check(f32::from_bits(0x3f80_8001), 0x3f81);
        check(-f32::from_bits(0x3f80_8001), 0xbf81);
        check(f32::MAX, 0x7f80);
        check(f32::from_bits(0x7f7f_7fff), 0x7f7f); // rounds to the largest number
        check(f32::NEG_INFINITY, 0xff80);
        check(-0.0, 0x8000);
        check(f32::from_bits(1), 0);
        check(f32::from_bits(0x0001_8000), 2); // subnormal numbers round in the same way
    }

    #[test]
    fn every_nan_is_the_same() {
        for bits in [0x7f80_0001, 0x7fc0_0000, 0xffff_ffff, 0xff80_0001, 0x7fbf_ffff] {
            check(f32::from_bits(bits), 0x7fc0);
        }
    }

    #[test]
    fn every_number_survives_the_way_to_f32_and_back() {
        for bits in 0..=u16::MAX {
            let value = Bf16::from_bits(bits);
            let expected = if value.to_f32().is_nan() { Bf16::NAN } else { value };
            assert_eq!(Bf16::from_f32(value.to_f32()), expected);
        }
    }
}
