//! ONNX: a graph of standard operators, for ONNX Runtime and other programs.
//!
//! ```
//! use cifar_model::export::onnx::{OnnxParams, encode};
//! # use cifar_data::prepare::normalisation;
//! # use cifar_data::sources::synthetic::{SyntheticParams, generate};
//! # use cifar_model::{Architecture, Model, ModelParams, ModelSpec};
//! # let images = generate(&SyntheticParams { count: 30, ..Default::default() })?.dataset;
//! # let (classes, size) = (images.classes().to_vec(), images.size());
//! # let params = ModelParams { widths: vec![4, 4, 4], ..ModelParams::of(Architecture::SimpleCnn) };
//! # let spec = ModelSpec { params, classes, size, normalisation: normalisation(&images) };
//! # let model = Model::new(spec, 7)?;
//! let bytes = encode(&model, &OnnxParams::default())?; // the content of a file `model.onnx`
//! assert!(bytes.len() > 4 * model.parameters().count());
//! # Ok::<(), cifar_model::ModelError>(())
//! ```
//!
//! Equal models give identical bytes. Field numbers are those of `onnx.proto3` of ONNX 1.12
//! (<https://github.com/onnx/onnx/blob/v1.12.0/onnx/onnx.proto3>).

mod graph;
mod networks;

use cifar_data::ImageSize;
use serde_json::{Map, Value};

use self::graph::Graph;
use super::protobuf::Message;
use super::{check, description};
use crate::{Model, ModelError, Result, Views};

/// Version of the standard operators. ONNX Runtime has it since 1.12 (2022).
pub const OPSET: i64 = 17;
/// Version of the file format that came with this version of the operators.
const IR_VERSION: i64 = 8;
/// Name of the graph's input.
pub const INPUT: &str = "images";
/// Name of the graph's output, `[batch, classes]`.
pub const OUTPUT: &str = "logits";
/// Name of the logits of all augmented copies.
const COPIES: &str = "logits_of_copies";
/// Name of the dimension that counts images. It may have any size.
pub const BATCH: &str = "batch";
/// A file is one message of Protocol Buffers, which must be smaller than 2 GiB.
const LARGEST: usize = i32::MAX as usize;

// Types of tensors and attributes: TensorProto.DataType and AttributeProto.AttributeType.
const FLOAT: i64 = 1;
const UINT8: i64 = 2;
const INT64: i64 = 7;
const FLOAT_ATTRIBUTE: i64 = 1;
const INT_ATTRIBUTE: i64 = 2;
const INTS_ATTRIBUTE: i64 = 7;

/// The images that the graph takes. They are RGB and not normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnnxInput {
    /// Bytes, `[batch, height, width, 3]`.
    #[default]
    Uint8,
    /// Floats in 0..1, `[batch, 3, height, width]`.
    Float,
}

/// Options of [`encode`].
#[derive(Debug, Clone, Default)]
pub struct OnnxParams {
    /// The images that the graph takes.
    pub input: OnnxInput,
    /// Test-time augmentation inside the graph: the copies of each image over which logits are
    /// averaged. Every image is augmented.
    pub views: Views,
    /// Further properties of the file.
    pub properties: Map<String, Value>,
}

impl OnnxInput {
    /// Returns type and shape of the input in words.
    ///
    /// ```
    /// use cifar_data::ImageSize;
    /// use cifar_model::export::onnx::OnnxInput;
    ///
    /// let size = ImageSize { height: 32, width: 24 };
    /// assert_eq!(OnnxInput::Float.in_words(size), "float32 [batch, 3, 32, 24] in 0..1");
    /// ```
    pub fn in_words(self, size: ImageSize) -> String {
        let ImageSize { height, width } = size;
        match self {
            Self::Uint8 => format!("uint8 [batch, {height}, {width}, 3]"),
            Self::Float => format!("float32 [batch, 3, {height}, {width}] in 0..1"),
        }
    }
}

/// Encodes a model as an ONNX file: pixels to logits, with running statistics in batch norms and
/// without dropout.
///
/// # Errors
/// If the file would have 2 GiB or more, the normalisation of the model is impossible, the images
/// have too few pixels to be shifted, or there is not enough memory.
pub fn encode(model: &Model, params: &OnnxParams) -> Result<Vec<u8>> {
    check(model)?;
    let spec = model.spec();
    // A shift by one pixel reflects the second row and column.
    if params.views == Views::MirrorShift && spec.size.height.min(spec.size.width) < 2 {
        return Err(ModelError::Unsuitable(format!("images of {} pixels cannot be shifted", spec.size)));
    }
    let mut graph = Graph::new(model);
    let images = graph.normalised(params.input, &spec.normalisation);
    let copies = params.views.copies();
    if copies.len() == 1 {
        networks::add(&mut graph, model, &images, OUTPUT)?;
    } else {
        let images = graph.copies(&images, &copies, spec.size);
        networks::add(&mut graph, model, &images, COPIES)?;
        graph.mean(COPIES, &copies, spec.classes.len());
    }
    let (nodes, initialisers) = graph.finish();

    let ImageSize { height, width } = spec.size;
    let input = match params.input {
        OnnxInput::Uint8 => value_info(INPUT, UINT8, &[height, width, 3], "RGB, 0 to 255"),
        OnnxInput::Float => value_info(INPUT, FLOAT, &[3, height, width], "RGB, 0 to 1"),
    };
    let output = value_info(OUTPUT, FLOAT, &[spec.classes.len()], "class k has logit k; not softmax");
    let size: usize = initialisers.iter().map(Message::len).sum();
    if size > LARGEST - (1 << 20) {
        return Err(ModelError::Unsuitable(format!(
            "the network has {size} bytes of weights; an ONNX file holds less than 2 GiB"
        )));
    }
    let name = spec.params.architecture.name();
    // GraphProto.
    let graph = Message::default()
        .messages(1, &nodes)
        .text(2, name)
        .messages(5, &initialisers)
        .message(11, &input)
        .message(12, &output);
    let operators = Message::default().text(1, "").int(2, OPSET);
    let mut properties = description(model, &params.properties)?;
    properties.insert("tta".into(), params.views.name().into());
    let properties: Vec<Message> = properties.iter().map(|(key, value)| property(key, value)).collect();
    // ModelProto.
    let file = Message::default()
        .int(1, IR_VERSION)
        .text(2, env!("CARGO_PKG_NAME"))
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(7, &graph)
        .message(8, &operators)
        .messages(14, &properties);
    Ok(file.into_bytes())
}

/// Encodes a `StringStringEntryProto`: text as it is, other values as JSON.
fn property(key: &str, value: &Value) -> Message {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    Message::default().text(1, key).text(2, &text)
}

/// Encodes the `ValueInfoProto` of a tensor `[batch, …dims]`.
fn value_info(name: &str, kind: i64, dims: &[usize], description: &str) -> Message {
    let batch = Message::default().text(2, BATCH);
    let dims = dims.iter().map(|dim| Message::default().int(1, *dim as i64));
    let shape = Message::default().messages(1, &[batch].into_iter().chain(dims).collect::<Vec<_>>());
    let tensor = Message::default().int(1, kind).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor)).text(3, description)
}

/// Encodes a `TensorProto`.
fn tensor(name: &str, kind: i64, dims: &[usize], bytes: &[u8]) -> Message {
    let message = dims.iter().fold(Message::default(), |message, dim| message.int(1, *dim as i64));
    message.int(2, kind).text(8, name).bytes(9, bytes)
}

/// Encodes an `AttributeProto` with an integer.
fn int(name: &str, value: i64) -> Message {
    Message::default().text(1, name).int(3, value).int(20, INT_ATTRIBUTE)
}

/// Encodes an `AttributeProto` with a list of integers.
fn ints(name: &str, values: &[usize]) -> Message {
    let message = Message::default().text(1, name);
    values.iter().fold(message, |message, value| message.int(8, *value as i64)).int(20, INTS_ATTRIBUTE)
}

#[cfg(test)]
mod tests;
