//! The networks as graphs. Names of nodes and constants are those of the layers and tensors.

use super::graph::Graph;
use super::int;
use crate::export::pooled;
use crate::layers::NormParams;
use crate::networks::{AIRBENCH_NORM, AirbenchParams, Architecture, ResNet18Params};
use crate::{Model, Result};

/// Adds the network of `model`, from normalised images to an output named `logits`.
pub(super) fn add(graph: &mut Graph, model: &Model, images: &str, logits: &str) -> Result<()> {
    match model.spec().params.architecture {
        Architecture::SimpleCnn => simple_cnn(graph, images, pooled(model), logits),
        Architecture::Airbench94 => airbench(graph, images, &AirbenchParams::AIRBENCH94, logits),
        Architecture::Airbench96 => airbench(graph, images, &AirbenchParams::AIRBENCH96, logits),
        Architecture::ResNet18 => resnet18(graph, images, logits),
    }
}

/// Adds the network of [`crate::networks::SimpleCnn`].
fn simple_cnn(graph: &mut Graph, images: &str, pooled: [usize; 3], logits: &str) -> Result<()> {
    let mut x = images.to_string();
    for block in 1..=3 {
        for conv in 1..=2 {
            let name = format!("block{block}.conv{conv}");
            x = graph.conv(&x, &name, 1, 1)?;
            x = graph.norm(&x, &name, NormParams::STANDARD)?;
            x = graph.relu(&x);
        }
        x = graph.max_pool(&x);
    }
    x = graph.node("Flatten", "flattened", &[&x], &[int("axis", 1)]);
    let dense = graph.tensors.matrix_over_pixels("dense.weight", pooled)?;
    x = graph.linear(&x, "dense", &dense, "dense")?;
    x = graph.norm(&x, "dense", NormParams::STANDARD)?;
    x = graph.relu(&x);
    graph.linear(&x, "head", graph.tensors.get("head.weight")?, logits)?;
    Ok(())
}

/// Adds the network of [`crate::networks::Airbench`].
fn airbench(graph: &mut Graph, images: &str, params: &AirbenchParams, logits: &str) -> Result<()> {
    let mut x = graph.conv(images, "whitening", 1, 0)?;
    x = graph.gelu(&x);
    for group in 1..=params.widths.len() {
        let mut first = String::new();
        for conv in 1..=params.convolutions {
            let name = format!("group{group}.conv{conv}");
            x = graph.conv(&x, &name, 1, 1)?;
            if conv == 1 {
                x = graph.max_pool(&x);
            }
            x = graph.norm(&x, &name, AIRBENCH_NORM)?;
            if params.residual && conv == params.convolutions {
                x = graph.node("Add", &format!("{name}.sum"), &[&x, &first], &[]);
            }
            x = graph.gelu(&x);
            if conv == 1 {
                first.clone_from(&x);
            }
        }
    }
    x = graph.global_pool("GlobalMaxPool", &x);
    let head = graph.tensors.get("head.weight")?;
    x = graph.linear(&x, "head", head, "head")?;
    let features = graph.scalar("head.features", head.dim(0)? as f32);
    graph.node("Div", logits, &[&x, features], &[]);
    Ok(())
}

/// Adds the network of [`crate::networks::ResNet18`].
fn resnet18(graph: &mut Graph, images: &str, logits: &str) -> Result<()> {
    let standard = NormParams::STANDARD;
    let mut x = graph.conv(images, "stem", 1, 1)?;
    x = graph.norm(&x, "stem", standard)?;
    x = graph.relu(&x);
    for (stage, stride) in (1..).zip(ResNet18Params::default().strides) {
        for (block, stride) in [(1, stride), (2, 1)] {
            let [first, second, skip] = ["conv1", "conv2", "skip"].map(|part| format!("stage{stage}.{block}.{part}"));
            let mut shortcut = x.clone();
            if graph.tensors.contains(&format!("{skip}.weight")) {
                shortcut = graph.conv(&x, &skip, stride, 0)?;
                shortcut = graph.norm(&shortcut, &skip, standard)?;
            }
            x = graph.conv(&x, &first, stride, 1)?;
            x = graph.norm(&x, &first, standard)?;
            x = graph.relu(&x);
            x = graph.conv(&x, &second, 1, 1)?;
            x = graph.norm(&x, &second, standard)?;
            x = graph.node("Add", &format!("{second}.sum"), &[&x, &shortcut], &[]);
            x = graph.relu(&x);
        }
    }
    x = graph.global_pool("GlobalAveragePool", &x);
    graph.linear(&x, "head", graph.tensors.get("head.weight")?, logits)?;
    Ok(())
}
