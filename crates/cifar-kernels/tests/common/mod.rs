//! Shared by the tests: values, difficult shapes, and a way to run every kernel on them.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod compare;
pub(crate) mod kernels;
pub(crate) mod refuse;

use cifar_kernels::{Activation, Conv2dDimensions, Conv2dShape, Isa, PoolDimensions, PoolShape, Result, with_isa};

pub(crate) const ACTIVATIONS: [Activation; 4] =
    [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::Silu];

/// Images, height, width, input channels, output channels, kernel, stride, padding. Channels are
/// next to vector widths; an image of 31 shrinks to 15, 7 and 3.
pub(crate) const CONVS: &[[usize; 8]] = &[
    [1, 1, 1, 1, 1, 1, 1, 0],
    [2, 31, 31, 3, 24, 2, 1, 0],
    [1, 31, 31, 24, 8, 3, 1, 1],
    [2, 15, 15, 8, 9, 3, 1, 1],
    [3, 7, 7, 33, 7, 3, 1, 1],
    [5, 3, 3, 9, 33, 3, 1, 1],
    [2, 5, 11, 7, 1, 3, 2, 1],
    [1, 13, 4, 1, 3, 5, 3, 2],
    [2, 3, 3, 2, 5, 3, 1, 0],   // a single window
    [2, 8, 8, 24, 5, 4, 1, 0],  // the largest windows that are read in place
    [2, 8, 8, 25, 5, 4, 1, 0],  // larger ones
    [1, 2, 2, 3, 4, 3, 1, 3],   // windows with only padding
    [2, 8, 8, 3, 5, 1, 2, 0],   // pixels in no window
    [2, 2, 300, 1, 2, 3, 1, 1], // a row of more windows than are laid out at once
    [19, 9, 8, 3, 5, 3, 1, 1],  // three partial sums of the weight gradient, the last one shorter
];

/// As [`CONVS`], but computed by Winograd's method: 3×3, stride 1 or 2, padding of at most 2, at
/// least 8 channels on both sides, at least two rows and columns of output. Channels are next to
/// the widths of vectors and panels, and maps have all remainders by 4 along both axes.
pub(crate) const WINOGRADS: &[[usize; 8]] = &[
    [1, 2, 2, 8, 8, 3, 1, 1],
    [3, 3, 3, 9, 8, 3, 1, 1],
    [2, 4, 5, 8, 9, 3, 1, 1],
    [5, 5, 6, 15, 16, 3, 1, 1],
    [2, 6, 7, 16, 15, 3, 1, 1],
    [3, 7, 4, 17, 24, 3, 1, 1],
    [1, 8, 8, 24, 17, 3, 1, 1],
    [2, 9, 11, 31, 33, 3, 1, 1],
    [1, 10, 13, 33, 31, 3, 1, 1],
    [2, 11, 2, 48, 9, 3, 1, 1],
    [1, 2, 12, 9, 48, 3, 1, 1],
    [1, 12, 3, 64, 15, 3, 1, 1],
    [2, 3, 14, 15, 64, 3, 1, 1],
    [1, 13, 9, 65, 16, 3, 1, 1],
    [1, 4, 10, 16, 65, 3, 1, 1],
    [3, 5, 8, 8, 33, 3, 1, 1],
    [1, 6, 6, 64, 65, 3, 1, 1],
    [1, 33, 31, 8, 24, 3, 1, 1],
    [2, 31, 33, 9, 8, 3, 1, 1],
    [2, 4, 4, 8, 9, 3, 1, 0], // the output has 2×2 pixels
    [3, 5, 6, 9, 8, 3, 1, 0],
    [1, 32, 17, 15, 9, 3, 1, 0],
    [2, 1, 1, 8, 8, 3, 1, 2], // an image of one pixel
    [1, 1, 5, 9, 16, 3, 1, 2],
    [2, 2, 3, 17, 9, 3, 1, 2],
    [1, 9, 6, 33, 8, 3, 1, 2],
    [17, 8, 8, 16, 8, 3, 1, 1],  // a task of images, and one image more
    [65, 2, 2, 8, 17, 3, 1, 1],  // as above
    [1030, 2, 3, 8, 9, 3, 1, 1], // two blocks of images, the last of them short
    [2, 8, 8, 9, 17, 3, 2, 1],
    [3, 7, 9, 16, 8, 3, 2, 1],
    [1, 31, 14, 8, 24, 3, 2, 0],
    [2, 6, 5, 33, 9, 3, 2, 2],
    [1, 3, 3, 8, 8, 3, 2, 1],    // the output has 2×2 pixels
    [18, 30, 30, 8, 9, 3, 1, 1], // as above, of maps that pooling cuts differently
];

/// As [`CONVS`], for the kernels in bf16. Images and channels are next to multiples of 32, with
/// several groups of images and bands of pixels.
pub(crate) const BF16_CONVS: &[[usize; 8]] = &[
    [1, 1, 1, 1, 1, 1, 1, 0],
    [33, 1, 1, 31, 10, 1, 1, 0],
    [2, 3, 3, 33, 3, 3, 1, 1],
    [97, 2, 2, 3, 24, 3, 1, 1], // four partial sums of the weight gradient
    [3, 5, 4, 3, 65, 3, 2, 1],
    [1, 17, 16, 3, 1, 2, 1, 0],
    [33, 7, 7, 3, 33, 2, 1, 0], // 36 pixels of two groups and two blocks of channels
    [1, 2, 3, 1, 2, 3, 1, 3],   // windows without a pixel
];

/// Images, height, width, channels: next to multiples of 32.
pub(crate) const BF16_NORMS: &[[usize; 4]] = &[[1, 1, 2, 1], [2, 3, 3, 33], [33, 2, 2, 3], [65, 1, 3, 31]];

/// As [`POOLS`], for the kernels in bf16.
pub(crate) const BF16_POOLS: &[[usize; 6]] = &[
    [1, 2, 2, 1, 2, 2],
    [33, 7, 7, 3, 2, 2],
    [1, 3, 3, 65, 3, 3],
    [2, 5, 4, 33, 3, 2], // windows that overlap
    [3, 9, 5, 2, 2, 3],  // pixels between windows
];

/// Images, height, width, channels, window, stride.
pub(crate) const POOLS: &[[usize; 6]] = &[
    [1, 1, 1, 1, 1, 1],
    [2, 31, 31, 24, 2, 2],
    [3, 15, 15, 9, 2, 2],
    [2, 7, 7, 33, 2, 2],
    [1, 3, 3, 8, 3, 3],
    [2, 64, 64, 8, 2, 2],
    [1, 95, 95, 9, 2, 2],
    [2, 7, 5, 3, 3, 2],    // windows that overlap
    [1, 5, 9, 1, 2, 3],    // pixels between windows
    [1, 16, 17, 1, 16, 1], // as many places as a byte can name
    [2, 7, 7, 7, 7, 1],
];

/// Rows, input features, output features.
pub(crate) const LINEARS: &[[usize; 3]] = &[
    [1, 1, 1],
    [7, 33, 9],
    [3, 24, 10],
    [13, 1, 8],
    [5, 8, 1],
    [33, 7, 3],
    [31, 33, 24],
    [67, 70, 10], // more than one task both ways
];

/// Rows, channels.
pub(crate) const TABLES: &[[usize; 2]] = &[
    [1, 1],
    [1, 7],
    [2, 3],
    [7, 1],
    [13, 8],
    [31, 9],
    [15, 24],
    [61, 33],
    [2100, 64], // three partial sums, the last of them short
    [20011, 3], // more pixels than one task takes
];

/// Returns the shape of a row of [`CONVS`].
pub(crate) fn conv2d(dimensions: [usize; 8]) -> Result<Conv2dShape> {
    let [images, height, width, in_channels, out_channels, kernel, stride, padding] = dimensions;
    Conv2dShape::new(Conv2dDimensions { images, height, width, in_channels, out_channels, kernel, stride, padding })
}

/// Returns the shape of a row of [`POOLS`].
pub(crate) fn pool_shape([images, height, width, channels, window, stride]: [usize; 6]) -> Result<PoolShape> {
    PoolShape::new(PoolDimensions { images, height, width, channels, window, stride })
}

/// Returns numbers in [−1, 1) (splitmix64).
pub(crate) fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0xD134_2543_DE82_EF95);
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // 24 bits, so that each value is exact in f32.
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

pub(crate) fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// Runs `test` once for every ISA that this processor supports. Kernels on this thread use that
/// ISA.
pub(crate) fn on_every_isa(mut test: impl FnMut(Isa)) {
    /// Prints the ISA with which a test failed.
    struct Blame(Isa);
    impl Drop for Blame {
        #[expect(clippy::print_stderr, reason = "part of a failed test's output")]
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the ISA was {}", self.0);
            }
        }
    }
    for isa in Isa::available() {
        let _blame = Blame(isa);
        with_isa(isa, || test(isa)).expect("this processor has the ISA");
    }
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}
