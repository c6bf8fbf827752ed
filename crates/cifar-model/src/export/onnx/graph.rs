//! The graph of an ONNX file: constants and layers.

use std::collections::BTreeSet;

use candle_core::Tensor;
use cifar_data::ImageSize;
use cifar_data::prepare::Normalisation;
use cifar_kernels::PixelView;

use super::{FLOAT, FLOAT_ATTRIBUTE, INPUT, INT64, OUTPUT, OnnxInput, int, ints, tensor};
use crate::export::protobuf::Message;
use crate::export::{Tensors, bytes};
use crate::layers::NormParams;
use crate::{Model, Result};

/// A graph under construction. A node and its output have the same name.
pub(super) struct Graph<'a> {
    pub(super) tensors: Tensors<'a>,
    nodes: Vec<Message>,
    initialisers: Vec<Message>,
    scalars: BTreeSet<&'static str>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        Self { tensors: Tensors::of(model), nodes: Vec::new(), initialisers: Vec::new(), scalars: BTreeSet::new() }
    }

    /// Returns the nodes, each after those whose outputs it uses, and the constants.
    pub(super) fn finish(self) -> (Vec<Message>, Vec<Message>) {
        (self.nodes, self.initialisers)
    }

    /// Adds a node and returns the name of its output.
    pub(super) fn node(&mut self, operator: &str, name: &str, inputs: &[&str], attributes: &[Message]) -> String {
        let node = inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
        self.nodes.push(node.text(2, name).text(3, name).text(4, operator).messages(5, attributes));
        name.into()
    }

    /// Adds a constant.
    fn constant(&mut self, name: &str, values: &Tensor) -> Result<()> {
        self.initialisers.push(tensor(name, FLOAT, values.dims(), &bytes(values)?));
        Ok(())
    }

    /// Adds a constant of the given shape.
    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initialisers.push(tensor(name, FLOAT, dims, &bytes));
    }

    /// Adds a list of integers as a constant.
    fn integers(&mut self, name: &str, values: &[i64]) {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initialisers.push(tensor(name, INT64, &[values.len()], &bytes));
    }

    /// Adds a constant number, unless there is one of this name.
    pub(super) fn scalar(&mut self, name: &'static str, value: f32) -> &'static str {
        if self.scalars.insert(name) {
            self.floats(name, &[], &[value]);
        }
        name
    }

    /// Adds the conversion of the input to normalised images `[N, 3, H, W]`.
    pub(super) fn normalised(&mut self, input: OnnxInput, normalisation: &Normalisation) -> String {
        let mut x = INPUT.to_string();
        if input == OnnxInput::Uint8 {
            x = self.node("Cast", "images.float", &[&x], &[int("to", FLOAT)]);
            x = self.node("Transpose", "images.nchw", &[&x], &[ints("perm", &[0, 3, 1, 2])]);
            let most = self.scalar("images.largest", 255.0);
            x = self.node("Div", "images.scaled", &[&x, most], &[]);
        }
        for (name, operator, values) in [("mean", "Sub", &normalisation.mean), ("std", "Div", &normalisation.std)] {
            let constant = format!("images.{name}");
            self.floats(&constant, &[1, values.len(), 1, 1], values);
            x = self.node(operator, &format!("images.{}", operator.to_lowercase()), &[&x, &constant], &[]);
        }
        x
    }

    /// Adds the augmented copies of images, one after another along the first dimension.
    pub(super) fn copies(&mut self, images: &str, copies: &[(PixelView, f32)], size: ImageSize) -> String {
        let mut names = Vec::new();
        for (index, (view, _)) in copies.iter().enumerate() {
            let [rows, columns] = ["rows", "columns"].map(|side| format!("copy{index}.{side}"));
            self.integers(&rows, &view.rows(size.height).map(|y| y as i64).collect::<Vec<_>>());
            self.integers(&columns, &view.columns(size.width).map(|x| x as i64).collect::<Vec<_>>());
            let moved = self.node("Gather", &format!("copy{index}.moved"), &[images, &rows], &[int("axis", 2)]);
            names.push(self.node("Gather", &format!("copy{index}"), &[&moved, &columns], &[int("axis", 3)]));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.node("Concat", "copies", &names, &[int("axis", 0)])
    }

    /// Adds the weighted mean over the copies, which is the output of the graph.
    pub(super) fn mean(&mut self, logits: &str, copies: &[(PixelView, f32)], classes: usize) {
        let weights: Vec<f32> = copies.iter().map(|(_, weight)| *weight).collect();
        self.floats("copies.weights", &[copies.len(), 1, 1], &weights);
        self.integers("copies.shape", &[copies.len() as i64, -1, classes as i64]);
        self.integers("copies.axis", &[0]);
        let x = self.node("Reshape", "copies.logits", &[logits, "copies.shape"], &[]);
        let x = self.node("Mul", "copies.weighted", &[&x, "copies.weights"], &[]);
        self.node("ReduceSum", OUTPUT, &[&x, "copies.axis"], &[int("keepdims", 0)]);
    }

    /// Adds a convolution, with the bias `{name}.bias` if there is one.
    pub(super) fn conv(&mut self, x: &str, name: &str, stride: usize, padding: usize) -> Result<String> {
        let [weight, bias] = ["weight", "bias"].map(|tensor| format!("{name}.{tensor}"));
        let filters = self.tensors.filters(&weight)?;
        let mut inputs = vec![x, &weight];
        self.constant(&weight, &filters)?;
        if self.tensors.contains(&bias) {
            self.constant(&bias, self.tensors.get(&bias)?)?;
            inputs.push(&bias);
        }
        let sizes = [ints("kernel_shape", &filters.dims()[2..]), ints("strides", &[stride; 2])];
        Ok(self.node("Conv", name, &inputs, &[sizes[0].clone(), sizes[1].clone(), ints("pads", &[padding; 4])]))
    }

    /// Adds the batch norm of layer `name`.
    pub(super) fn norm(&mut self, x: &str, name: &str, params: NormParams) -> Result<String> {
        let name = format!("{name}.norm");
        let of = |tensor: &str| format!("{name}.{tensor}");
        let names = [of("scale"), of("shift"), of("running_mean"), of("running_variance")];
        for tensor in &names[1..] {
            self.constant(tensor, self.tensors.get(tensor)?)?;
        }
        // A norm without a trained scale has a scale of 1.
        let scale = if params.scale {
            self.tensors.get(&names[0])?.clone()
        } else {
            self.tensors.get(&names[1])?.ones_like()?
        };
        self.constant(&names[0], &scale)?;
        let epsilon = Message::default().text(1, "epsilon").float(2, params.epsilon).int(20, FLOAT_ATTRIBUTE);
        let inputs: Vec<&str> = [x].into_iter().chain(names.iter().map(String::as_str)).collect();
        Ok(self.node("BatchNormalization", &name, &inputs, &[epsilon]))
    }

    /// Adds a matrix product, with the bias `{layer}.bias` if there is one.
    pub(super) fn linear(&mut self, x: &str, layer: &str, matrix: &Tensor, name: &str) -> Result<String> {
        let [weight, bias] = ["weight", "bias"].map(|tensor| format!("{layer}.{tensor}"));
        self.constant(&weight, matrix)?;
        let mut inputs = vec![x, &weight];
        if self.tensors.contains(&bias) {
            self.constant(&bias, self.tensors.get(&bias)?)?;
            inputs.push(&bias);
        }
        Ok(self.node("Gemm", name, &inputs, &[]))
    }

    pub(super) fn relu(&mut self, x: &str) -> String {
        self.node("Relu", &format!("{x}.relu"), &[x], &[])
    }

    /// Adds x · (1 + erf(x / √2)) / 2. The operator `Gelu` is of a later version; runtimes fuse
    /// these nodes.
    pub(super) fn gelu(&mut self, x: &str) -> String {
        let root = self.scalar("gelu.root", std::f32::consts::SQRT_2);
        let (one, half) = (self.scalar("gelu.one", 1.0), self.scalar("gelu.half", 0.5));
        let of = |step: &str| format!("{x}.gelu.{step}");
        let y = self.node("Div", &of("scaled"), &[x, root], &[]);
        let y = self.node("Erf", &of("erf"), &[&y], &[]);
        let y = self.node("Add", &of("plus_one"), &[&y, one], &[]);
        let y = self.node("Mul", &of("product"), &[x, &y], &[]);
        self.node("Mul", &format!("{x}.gelu"), &[&y, half], &[])
    }

    /// Adds max pooling over windows of 2×2.
    pub(super) fn max_pool(&mut self, x: &str) -> String {
        self.node("MaxPool", &format!("{x}.pool"), &[x], &[ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])])
    }

    /// Adds `operator`, which leaves one pixel, and removes the dimensions of pixels.
    pub(super) fn global_pool(&mut self, operator: &str, x: &str) -> String {
        let x = self.node(operator, "pool", &[x], &[]);
        self.node("Flatten", "features", &[&x], &[int("axis", 1)])
    }
}
