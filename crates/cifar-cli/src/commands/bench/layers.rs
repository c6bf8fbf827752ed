//! Finds the convolutions of a network and their dimensions from its summary and weights.

use cifar_kernels::{Conv2dDimensions, Conv2dShape};
use cifar_model::{Architecture, LayerSummary, Model};
use cifar_pipeline::{Error, Result};

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
    /// Whether its input is the images, whose gradient is not needed.
    pub(super) reads_images: bool,
    /// Whether its filters are trained.
    pub(super) trained: bool,
    /// Whether the network fuses it with the 2×2 maximum of its output in one kernel.
    pub(super) pooled: bool,
}

impl ConvLayer {
    /// Returns its dimensions for `batch` images.
    pub(super) fn shape(&self, batch: usize) -> cifar_kernels::Result<Conv2dShape> {
        let [height, width] = self.size;
        Conv2dShape::new(Conv2dDimensions {
            images: batch,
            height,
            width,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
        })
    }

    /// Returns its dimensions in words, such as `64→128 @32×32, 3×3/2`.
    pub(super) fn dimensions(&self) -> String {
        let ([height, width], kernel) = (self.size, self.kernel);
        let stride = if self.stride == 1 { String::new() } else { format!("/{}", self.stride) };
        format!("{}→{} @{height}×{width}, {kernel}×{kernel}{stride}", self.in_channels, self.out_channels)
    }
}

/// Dimensions of an activation: rows, columns, channels.
type Place = [usize; 3];

/// Returns all convolutions of `model`, from input to output.
///
/// A weight `NAME.weight` of four dimensions belongs to the line NAME of the summary. Its input is
/// the last output before it with as many channels as its filters have, so a shortcut has the input
/// of its block. Stride and padding are those that give the number of operations in the summary.
///
/// # Errors
/// If the summary of a layer and its weight contradict each other.
pub(super) fn convolutions(model: &Model) -> Result<Vec<ConvLayer>> {
    let size = model.spec().size;
    let mut places: Vec<Place> = vec![[size.height, size.width, 3]];
    let mut found: Vec<ConvLayer> = Vec::new();
    for line in model.summary() {
        let name = format!("{}.weight", line.name);
        let weight = model.parameters().all().find(|(known, _)| *known == name).map(|(_, var)| var.dims().to_vec());
        if let Some(&[kernel, _, in_channels, out_channels]) = weight.as_deref() {
            let mut layer = convolution(&line, kernel, in_channels, out_channels, &places).ok_or_else(|| {
                Error::failed(format!("{}: its weight does not fit its line of the summary", line.name))
            })?;
            layer.trained = model.parameters().trained().iter().any(|parameter| parameter.name == name);
            found.push(layer);
        } else if line.parameters == 0
            && pools_first(model.spec().params.architecture)
            && let (Some(layer), &[_, _, channels]) = (found.last_mut(), line.output.as_slice())
        {
            layer.pooled = channels == layer.out_channels;
        }
        if let &[height, width, channels] = line.output.as_slice() {
            places.push([height, width, channels]);
        }
    }
    Ok(found)
}

/// Returns whether a pooling is between a convolution and its norm, and not after both. The summary
/// does not show this, since it has no line for a norm.
fn pools_first(architecture: Architecture) -> bool {
    matches!(architecture, Architecture::Airbench94 | Architecture::Airbench96)
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
    let mut layers = candidates.map(|(stride, padding)| ConvLayer {
        name: line.name.clone(),
        size: [height, width],
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
        reads_images: read == 0,
        trained: true,
        pooled: false,
    });
    layers.find(|layer| layer.shape(1).is_ok_and(|shape| shape.flops_forward() == line.flops))
}

#[cfg(test)]
mod tests {
    use cifar_model::ModelParams;

    use super::*;
    use crate::args::NetworkArgs;
    use crate::commands::bench::subject;

    fn line(output: Place, flops: u64) -> LayerSummary {
        LayerSummary { name: "x".into(), output: output.to_vec(), parameters: 0, flops }
    }

    #[test]
    fn stride_and_padding_are_derived_from_the_operations() {
        let check = |line: LayerSummary, [kernel, inputs, outputs]: [usize; 3], places: &[Place], expected: &str| {
            let layer = convolution(&line, kernel, inputs, outputs, places).unwrap();
            assert_eq!(format!("{}, padding {}", layer.dimensions(), layer.padding), expected);
        };
        let image = [32, 32, 3];
        check(line([31, 31, 24], 2 * 31 * 31 * 4 * 3 * 24), [2, 3, 24], &[image], "3→24 @32×32, 2×2, padding 0");
        check(
            line([31, 31, 64], 2 * 31 * 31 * 9 * 24 * 64),
            [3, 24, 64],
            &[image, [31, 31, 24]],
            "24→64 @31×31, 3×3, padding 1",
        );
        check(
            line([16, 16, 128], 2 * 16 * 16 * 64 * 128),
            [1, 64, 128],
            &[image, [32, 32, 64], [16, 16, 128], [16, 16, 128]],
            "64→128 @32×32, 1×1/2, padding 0",
        );
        assert_eq!(convolution(&line([16, 16, 8], 7), 3, 3, 8, &[image]), None);
    }

    #[test]
    fn the_convolutions_of_every_network_are_found() {
        let check = |architecture: Architecture, count: usize, pooled: &[&str], untrained: &[&str]| {
            let args = NetworkArgs { architecture, batch: 1, isa: None };
            let model = subject::network(&args).unwrap();
            let layers = convolutions(&model).unwrap();
            let names = |keep: fn(&ConvLayer) -> bool| {
                layers.iter().filter(|layer| keep(layer)).map(|layer| layer.name.clone()).collect::<Vec<_>>()
            };
            assert_eq!(layers.len(), count, "{layers:?}");
            assert_eq!(names(|layer| layer.pooled), pooled);
            assert_eq!(names(|layer| !layer.trained), untrained);
            assert_eq!(names(|layer| layer.reads_images).len(), 1);
            let flops: u64 = layers.iter().map(|layer| layer.shape(1).unwrap().flops_forward()).sum();
            let of_summary: u64 = model.summary().iter().filter(|l| l.output.len() == 3).map(|l| l.flops).sum();
            assert_eq!(flops, of_summary);
        };
        let pooled = ["group1.conv1", "group2.conv1", "group3.conv1"];
        check(ModelParams::default().architecture, 6, &[], &[]);
        check(Architecture::Airbench94, 7, &pooled, &["whitening"]);
        check(Architecture::Airbench96, 10, &pooled, &["whitening"]);
        check(Architecture::ResNet18, 20, &[], &[]);
    }
}
