//! Every kernel with its inputs, in memory that a test provides.

mod bf16;
mod conv;
mod layers;
mod norm;
mod table;

use std::ops::DerefMut;

use cifar_kernels::{Activation, Result};

use super::{ACTIVATIONS, BF16_CONVS, BF16_NORMS, BF16_POOLS, CONVS, LINEARS, POOLS, TABLES, WINOGRADS};
pub(crate) use bf16::{Bf16ActivatedConv, Bf16Conv, Bf16Norm, Bf16Pool, Bf16PooledConv};
pub(crate) use conv::{ActivatedConv, Conv, PooledConv};
pub(crate) use layers::{Linear, Loss, Pool};
pub(crate) use norm::{Norm, PooledNorm};
pub(crate) use table::Table;

const ACCEPTED: &str = "the lengths are those of the shape";

/// The outputs of kernels, with their names.
pub(crate) type Outputs = Vec<(&'static str, Vec<f32>)>;

/// Provides the memory of a kernel's slices.
pub(crate) trait Memory {
    type Slice<T: Copy>: DerefMut<Target = [T]>;

    fn place<T: Copy>(&self, values: &[T]) -> Self::Slice<T>;

    /// Returns what `write` writes to a slice of NaN. Values that it does not write, or reads
    /// first, are visible as NaN.
    fn made(&self, len: usize, write: impl FnOnce(&mut [f32]) -> Result<()>) -> Vec<f32> {
        let mut slice = self.place(&vec![f32::NAN; len]);
        write(&mut slice).expect(ACCEPTED);
        slice.to_vec()
    }
}

/// Memory from the heap.
pub(crate) struct Heap;

impl Memory for Heap {
    type Slice<T: Copy> = Vec<T>;

    fn place<T: Copy>(&self, values: &[T]) -> Vec<T> {
        values.to_vec()
    }
}

/// Runs every kernel on every shape. Returns names with dimensions, and the outputs.
pub(crate) fn every_kernel(memory: &impl Memory) -> Vec<(String, Vec<f32>)> {
    let mut all = Vec::new();
    let mut add = |dims: &[usize], outputs: Outputs| {
        all.extend(outputs.into_iter().map(|(name, values)| (format!("{name} {dims:?}"), values)));
    };
    for dims in CONVS.iter().chain(WINOGRADS) {
        add(dims, Conv::new(*dims, 1).expect(ACCEPTED).run(memory));
        if let Some(conv) = PooledConv::new(*dims, 1) {
            add(dims, conv.run(memory));
        }
    }
    for dims in CONVS {
        for activation in ACTIVATIONS {
            add(dims, ActivatedConv::new(*dims, activation, 8).run(memory));
        }
    }
    for dims in BF16_CONVS {
        add(dims, Bf16Conv::new(*dims, 9).expect(ACCEPTED).run(memory));
        if let Some(conv) = Bf16PooledConv::new(*dims, 9) {
            add(dims, conv.run(memory));
        }
    }
    for dims in BF16_CONVS.iter().chain(CONVS) {
        for activation in ACTIVATIONS {
            add(dims, Bf16ActivatedConv::new(*dims, activation, 13).run(memory));
        }
    }
    for dims in BF16_NORMS {
        for activation in ACTIVATIONS {
            add(dims, Bf16Norm::new(*dims, activation, false, 10).run(memory));
            add(dims, Bf16Norm::new(*dims, activation, true, 11).run(memory));
        }
    }
    for dims in BF16_POOLS {
        add(dims, Bf16Pool::new(*dims, 12).expect(ACCEPTED).run(memory));
    }
    for dims in POOLS {
        add(dims, Pool::new(*dims, 2).expect(ACCEPTED).run(memory));
        for (activation, residual) in [(Activation::Relu, false), (Activation::Gelu, true)] {
            if let Some(norm) = PooledNorm::new(*dims, activation, residual, 9) {
                add(dims, norm.run(memory, false));
            }
        }
    }
    for dims in LINEARS {
        add(dims, Linear::new(*dims, 3).run(memory));
    }
    for dims in TABLES {
        add(dims, Table::new(*dims, 4).run(memory));
        add(dims, Loss::new(*dims, 0.2, 5).run(memory));
        for activation in ACTIVATIONS {
            add(dims, Norm::new(*dims, activation, false, 6).run(memory));
            add(dims, Norm::new(*dims, activation, true, 7).run(memory));
        }
    }
    all
}
