//! The forward pass. Usually each task takes a group of images from the input to the (pooled)
//! output. If threads would have too few groups, each task takes some output channels of all images
//! instead. Both give the same bits.

use std::ops::Range;

use rayon::prelude::*;

use super::geometry::{Geometry, LINE, Planes};
use super::input_tiles::{image_len, transform_image};
use super::output_tiles::{Output, output_image};
use super::{weights, zeros};
use crate::generic::destination::Destination;
use crate::generic::matmul::{Rows, Target, multiply};
use crate::generic::scratch::with_scratch;
use crate::generic::shared::Shared;
use crate::isa::Simd;
use crate::{Buffer, Conv2dShape};

/// Tiles per task: enough to outweigh the cost of reading the filters, and few enough for their
/// planes to stay in the caches.
const TILES: usize = 64;

/// Output channels per task of a small batch: a cache line.
const CHANNELS: usize = LINE;

/// Writes the convolution to `out` or, with `places`, its 2×2 maxima and their positions.
pub(crate) fn forward<S: Simd>(
    s: S,
    shape: &Conv2dShape,
    images: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
    mut places: Option<&mut [u8]>,
) {
    let geometry = Geometry::new(shape, places.is_some());
    let tasks = Tasks::choose(shape, &geometry, rayon::current_num_threads());
    let group = match tasks {
        Tasks::Images(group) => group,
        Tasks::Channels => group(shape, &geometry),
    };
    let bias: Option<Vec<f32>> = bias.map(|bias| {
        let mut padded = bias.to_vec();
        padded.resize(bias.len().next_multiple_of(LINE), 0.0);
        padded
    });
    let pass = Pass {
        shape,
        images,
        left: Planes::new::<S>(group * geometry.tiles(), geometry.inputs),
        zeros: zeros::<S>(geometry.inputs),
        bias: bias.as_deref(),
        pooled: places.is_some(),
        out_image: out.len() / shape.batch,
        // With smaller vectors, a tile writes parts of more cache lines than the processor combines.
        destination: if S::LANES == LINE { Destination::of(out.len()) } else { Destination::Caches },
        out: Shared::new(out),
        places: places.as_mut().map(|places| Shared::new(places)),
        geometry,
        group,
    };
    match tasks {
        Tasks::Images(_) => pass.by_images(s, weight),
        Tasks::Channels => pass.by_channels(s, weight),
    }
}

/// How a forward pass is divided into tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tasks {
    /// This number of images each.
    Images(usize),
    /// [`CHANNELS`] output channels of all images each.
    Channels,
}

impl Tasks {
    /// Chooses groups of images as large as the caches like them, unless they are too few for the
    /// threads.
    fn choose(shape: &Conv2dShape, geometry: &Geometry, threads: usize) -> Self {
        // Two tasks per thread, so that threads of different speeds end together.
        let wanted = 2 * threads;
        let group = group(shape, geometry);
        if shape.batch.div_ceil(group) >= wanted {
            return Self::Images(group);
        }
        let smaller = (shape.batch / wanted).clamp(1, group);
        if geometry.outputs.div_ceil(CHANNELS) >= wanted.min(shape.batch.div_ceil(smaller)) {
            Self::Channels
        } else {
            Self::Images(smaller)
        }
    }
}

/// Returns the number of images per group.
fn group(shape: &Conv2dShape, geometry: &Geometry) -> usize {
    (TILES / geometry.tiles()).clamp(1, shape.batch)
}

/// What all tasks of a forward pass share.
struct Pass<'a> {
    shape: &'a Conv2dShape,
    geometry: Geometry,
    images: &'a [f32],
    /// Images per group.
    group: usize,
    /// The planes of a group's inputs.
    left: Planes,
    /// Pixels outside of an image.
    zeros: Vec<f32>,
    /// The bias, padded to whole vectors.
    bias: Option<&'a [f32]>,
    pooled: bool,
    /// Values of the output per image.
    out_image: usize,
    out: Shared<f32>,
    destination: Destination,
    places: Option<Shared<u8>>,
}

impl Pass<'_> {
    /// Each task computes a group of images. All tasks read the same transformed filters.
    fn by_images<S: Simd>(&self, s: S, weight: &[f32]) {
        let planes = self.geometry.planes();
        let filters = weights::transform(s, &self.geometry, weight, false);
        let product = Planes::new::<S>(self.rows(), self.geometry.outputs);
        let offsets = self.left.offsets(self.rows());
        (0..self.shape.batch.div_ceil(self.group)).into_par_iter().with_max_len(1).for_each(|task| {
            let group = self.images_of(task);
            with_scratch([self.left.len(planes), product.len(planes)], |[left, products]| {
                let (left, products) = (left.as_mut_ptr(), products.as_mut_ptr());
                // SAFETY: both have the planes of a group, and each task writes its own images.
                unsafe {
                    for image in group.clone() {
                        self.transform(s, &group, image, left);
                    }
                    self.multiply(
                        s,
                        group.len(),
                        left,
                        &offsets,
                        |plane| filters.plane(plane),
                        products,
                        &product,
                        self.geometry.outputs,
                    );
                    self.write(s, &group, products, &product, 0..self.geometry.outputs);
                }
            });
        });
    }

    /// Each task computes some output channels of all images. It transforms its filters itself, so
    /// they are read where they were written, in the cache of its core.
    fn by_channels<S: Simd>(&self, s: S, weight: &[f32]) {
        let (planes, outputs) = (self.geometry.planes(), self.geometry.outputs);
        let groups = self.shape.batch.div_ceil(self.group);
        let mut left = Buffer::new(groups * self.left.len(planes));
        let left = Shared::new(&mut left);
        let of_group = |group: usize| left.at(group * self.left.len(planes));
        (0..self.shape.batch).into_par_iter().for_each(|image| {
            let group = image / self.group;
            // SAFETY: each image has its own rows in the planes of its group.
            unsafe { self.transform(s, &self.images_of(group), image, of_group(group)) };
        });
        let product = Planes::new::<S>(self.rows(), CHANNELS);
        let offsets = self.left.offsets(self.rows());
        (0..outputs.div_ceil(CHANNELS)).into_par_iter().with_max_len(1).for_each(|task| {
            let channels = task * CHANNELS..outputs.min((task + 1) * CHANNELS);
            let filter = weights::plane_len::<S>(self.geometry.inputs, channels.len());
            with_scratch([planes * filter, product.len(planes)], |[filters, products]| {
                let (filters, products) = (filters.as_mut_ptr(), products.as_mut_ptr());
                // SAFETY: there is room for the planes of these channels, and each task writes its
                // own channels.
                unsafe {
                    weights::transform_columns(s, &self.geometry, weight, channels.clone(), filters, filter);
                    for group in 0..groups {
                        let images = self.images_of(group);
                        let plane = |plane: usize| filters.wrapping_add(plane * filter).cast_const();
                        self.multiply(
                            s,
                            images.len(),
                            of_group(group),
                            &offsets,
                            plane,
                            products,
                            &product,
                            channels.len(),
                        );
                        self.write(s, &images, products, &product, channels.clone());
                    }
                }
            });
        });
    }

    /// Returns the number of tiles of a full group.
    fn rows(&self) -> usize {
        self.group * self.geometry.tiles()
    }

    /// Returns the images of group `index`.
    fn images_of(&self, index: usize) -> Range<usize> {
        index * self.group..self.shape.batch.min((index + 1) * self.group)
    }

    /// Transforms the tiles of `image` to the points.
    ///
    /// # Safety
    /// `image` is in `group`, and `left` has the planes of a group.
    unsafe fn transform<S: Simd>(&self, s: S, group: &Range<usize>, image: usize, left: *mut f32) {
        let pixels = self.images[image * image_len(self.shape)..].as_ptr();
        let (shape, geometry, zeros) = (self.shape, &self.geometry, &self.zeros);
        // SAFETY: the entry point checked the length of `images`, which ends with a whole image.
        unsafe {
            transform_image(s, shape, geometry, pixels, zeros, left, &self.left, group.len(), image - group.start);
        };
    }

    /// Multiplies the planes of `images` images by the filters of `outputs` channels.
    ///
    /// # Safety
    /// The three operands have all planes.
    unsafe fn multiply<S: Simd>(
        &self,
        s: S,
        images: usize,
        left: *const f32,
        offsets: &[u32],
        filters: impl Fn(usize) -> *const f32,
        products: *mut f32,
        product: &Planes,
        outputs: usize,
    ) {
        for plane in 0..self.geometry.planes() {
            let used = self.geometry.rows(images, plane);
            let a = Rows {
                base: left.wrapping_add(plane * self.left.plane + used.start * self.left.row),
                offsets: &offsets[..used.len()],
            };
            let c = Target {
                base: products.wrapping_add(plane * product.plane + used.start * product.row),
                stride: product.row,
                padded: true,
                add: false,
            };
            // SAFETY: the rows are in both planes, which are padded to whole vectors.
            unsafe { multiply(s, a, self.geometry.inputs, filters(plane), outputs, c) };
        }
    }

    /// Transforms products to outputs and writes the channels `channels` of `images`.
    ///
    /// # Safety
    /// `products` has the planes of these channels, which no other task writes.
    unsafe fn write<S: Simd>(
        &self,
        s: S,
        images: &Range<usize>,
        products: *const f32,
        product: &Planes,
        channels: Range<usize>,
    ) {
        for image in images.clone() {
            let at = image * self.out_image;
            let to = Output {
                values: self.out.at(at),
                places: self.places.map(|places| places.at(at)),
                first: channels.start,
                end: channels.end,
                destination: self.destination,
            };
            let image = image - images.start;
            // SAFETY: as the caller guarantees; the output has room for every image.
            unsafe {
                output_image(s, &self.geometry, products, product, images.len(), image, self.bias, self.pooled, to);
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Conv2dDimensions;

    /// Returns the number of tasks of the products, and the multiply-adds of the largest task as a
    /// fraction of all.
    fn tasks(images: usize, size: usize, channels: [usize; 2], threads: usize) -> (usize, f64) {
        let [in_channels, out_channels] = channels;
        let (height, width) = (size, size);
        let (kernel, stride, padding) = (3, 1, 1);
        let shape = Conv2dShape::new(Conv2dDimensions {
            images,
            height,
            width,
            in_channels,
            out_channels,
            kernel,
            stride,
            padding,
        })
        .unwrap();
        let geometry = Geometry::new(&shape, false);
        match Tasks::choose(&shape, &geometry, threads) {
            Tasks::Images(group) => (images.div_ceil(group), group as f64 / images as f64),
            Tasks::Channels => (out_channels.div_ceil(CHANNELS), CHANNELS as f64 / out_channels as f64),
        }
    }

    #[test]
    fn every_layer_has_enough_tasks_for_its_threads() {
        // The maps of resnet18 and airbench94.
        let layers = [(32, [64, 64]), (16, [128, 128]), (8, [256, 256]), (4, [512, 512])];
        let airbench = [(31, [24, 64]), (15, [64, 64]), (15, [64, 256]), (7, [256, 256]), (3, [256, 256])];
        for (size, channels) in layers.into_iter().chain(airbench) {
            for threads in [1, 2, 4, 8] {
                for images in [1, 16, 128, 512] {
                    let (count, largest) = tasks(images, size, channels, threads);
                    // No thread waits for another for more than a quarter of the time, unless there
                    // are too few channels for one image.
                    let enough = if images == 1 { threads.min(channels[1] / CHANNELS) } else { threads };
                    assert!(
                        count >= enough,
                        "{images} images of {size}×{size}, {channels:?}, {threads} threads: {count}"
                    );
                    assert!(
                        largest <= 1.25 / enough as f64,
                        "{images} images of {size}×{size}, {channels:?}: {largest}"
                    );
                }
            }
        }
    }
}
