//! The convolutions of a network, with their dimensions, by its own summary and weights.

use anyhow::{Result, anyhow};
use cifar_kernels::Conv2dShape;
use cifar_model::{LayerSummary, Model};

/// One convolution of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConvLayer {
    pub(super) name: String,
    /// Rows and columns of its input.
    pub(super) size: [usize; 2],
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    /// Whether it reads the images themselves: nobody needs the gradient of these.
    pub(super) reads_images: bool,
    /// Whether the network takes the maximum of each 2×2 square of its output, before anything else.
    pub(super) pooled: bool,
}

impl ConvLayer {
    /// Its dimensions for `batch` images.
    pub(super) fn shape(&self, batch: usize) -> cifar_kernels::Result<Conv2dShape> {
        let [height, width] = self.size;
        Conv2dShape::new(
            batch,
            height,
            width,
            self.in_channels,
            self.out_channels,
            self.kernel,
            self.stride,
            self.padding,
        )
    }

    /// For people, such as `64→128 @32×32, 3×3/2`.
    pub(super) fn dimensions(&self) -> String {
        let ([height, width], kernel) = (self.size, self.kernel);
        let stride = if self.stride == 1 { String::new() } else { format!("/{}", self.stride) };
        format!("{}→{} @{height}×{width}, {kernel}×{kernel}{stride}", self.in_channels, self.out_channels)
    }
}

/// Some values of a network: rows, columns, channels.
type Place = [usize; 3];

/// All convolutions of `model`, from the input on.
///
/// A weight `NAME.weight` of four dimensions belongs to the line NAME of the summary. It reads the last output before it
/// with as many channels as its filters have (so a shortcut reads what its block reads), and stride and padding are those
/// that lead to the number of operations that the summary tells.
///
/// # Errors
/// If the summary of a layer and its weight contradict one another.
pub(super) fn convolutions(model: &Model) -> Result<Vec<ConvLayer>> {
    let size = model.spec().size;
    let mut places: Vec<Place> = vec![[size.height, size.width, 3]];
    let mut found = Vec::new();
    for line in model.summary() {
        let name = format!("{}.weight", line.name);
        let weight = model.parameters().all().find(|(known, _)| *known == name).map(|(_, var)| var.dims().to_vec());
        if let Some(&[kernel, _, in_channels, out_channels]) = weight.as_deref() {
            found.push(
                convolution(&line, kernel, in_channels, out_channels, &places)
                    .ok_or_else(|| anyhow!("{}: its weight does not fit its line of the summary", line.name))?,
            );
        }
        if let &[height, width, channels] = line.output.as_slice() {
            places.push([height, width, channels]);
        }
    }
    Ok(found)
}

fn convolution(
    line: &LayerSummary,
    kernel: usize,
    in_channels: usize,
    out_channels: usize,
    places: &[Place],
) -> Option<ConvLayer> {
    let read = places.iter().rposition(|[_, _, channels]| *channels == in_channels)?;
    let [height, width, _] = places[read];
    let candidates = (1..=4).flat_map(|stride| [kernel / 2, 0].map(|padding| (stride, padding)));
    candidates
        .map(|(stride, padding)| ConvLayer {
            name: line.name.clone(),
            size: [height, width],
            in_channels,
            out_channels,
            kernel,
            stride,
            padding,
            reads_images: read == 0,
            pooled: false,
        })
        .find_map(|layer| {
            let shape = layer.shape(1).ok().filter(|shape| shape.flops_forward() == line.flops)?;
            let pooled = line.output[..2] != [shape.out_height(), shape.out_width()];
            Some(ConvLayer { pooled, ..layer })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(output: Place, flops: u64) -> LayerSummary {
        LayerSummary { name: "x".into(), output: output.to_vec(), parameters: 0, flops }
    }

    #[test]
    fn stride_padding_and_pooling_follow_from_the_operations() {
        let check = |line: LayerSummary, [kernel, inputs, outputs]: [usize; 3], places: &[Place], expected: &str| {
            let layer = convolution(&line, kernel, inputs, outputs, places).unwrap();
            let found = format!("{}, padding {}, pooled {}", layer.dimensions(), layer.padding, layer.pooled);
            assert_eq!(found, expected);
        };
        let image = [32, 32, 3];
        check(
            line([31, 31, 24], 2 * 31 * 31 * 4 * 3 * 24),
            [2, 3, 24],
            &[image],
            "3→24 @32×32, 2×2, padding 0, pooled false",
        );
        check(
            line([15, 15, 64], 2 * 31 * 31 * 9 * 24 * 64),
            [3, 24, 64],
            &[image, [31, 31, 24]],
            "24→64 @31×31, 3×3, padding 1, pooled true",
        );
        check(
            line([16, 16, 128], 2 * 16 * 16 * 64 * 128),
            [1, 64, 128],
            &[image, [32, 32, 64], [16, 16, 128], [16, 16, 128]],
            "64→128 @32×32, 1×1/2, padding 0, pooled false",
        );
        assert_eq!(convolution(&line([16, 16, 8], 7), 3, 3, 8, &[image]), None);
    }
}
