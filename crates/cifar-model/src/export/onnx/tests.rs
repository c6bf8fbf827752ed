use std::collections::{BTreeMap, BTreeSet};

use cifar_data::prepare::Normalisation;
use serde_json::json;

use super::*;
use crate::{Architecture, ModelParams, ModelSpec};

/// Returns the fields of a message: their numbers, and their bytes. An integer has eight bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let len = bytes.iter().position(|b| b & 0x80 == 0).unwrap() + 1;
        let (number, rest) = bytes.split_at(len);
        *bytes = rest;
        number.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => varint(&mut bytes).to_le_bytes().to_vec(),
            kind => {
                let len = if kind == 5 { 4 } else { varint(&mut bytes) as usize };
                let (value, rest) = bytes.split_at(len);
                bytes = rest;
                value.to_vec()
            }
        };
        found.push((key >> 3, value));
    }
    found
}

fn all(bytes: &[u8], number: u64) -> Vec<Vec<u8>> {
    fields(bytes).into_iter().filter(|(found, _)| *found == number).map(|(_, value)| value).collect()
}

fn texts(bytes: &[u8], number: u64) -> Vec<String> {
    all(bytes, number).into_iter().map(|text| String::from_utf8(text).unwrap()).collect()
}

fn numbers(bytes: &[u8], number: u64) -> Vec<i64> {
    all(bytes, number).into_iter().map(|value| i64::from_le_bytes(value.try_into().unwrap())).collect()
}

fn model(architecture: Architecture) -> Model {
    let widths = if architecture == Architecture::ResNet18 { vec![2, 3, 4, 5] } else { vec![2, 3, 4] };
    let spec = ModelSpec {
        params: ModelParams { widths, ..ModelParams::of(architecture) },
        classes: ["a", "b, c", "\u{1f600}"].map(String::from).to_vec(),
        size: ImageSize { height: 17, width: 24 },
        normalisation: Normalisation { mean: vec![0.5, 0.1, 0.2], std: vec![0.25; 3] },
    };
    Model::new(spec, 7).unwrap()
}

const ARCHITECTURES: [Architecture; 4] =
    [Architecture::SimpleCnn, Architecture::Airbench94, Architecture::Airbench96, Architecture::ResNet18];

fn graph(bytes: &[u8]) -> Vec<u8> {
    all(bytes, 7).remove(0)
}

/// Returns the constants by name: shape and bytes.
fn constants(graph: &[u8]) -> BTreeMap<String, (Vec<i64>, Vec<u8>)> {
    let constant = |c: Vec<u8>| (texts(&c, 8).remove(0), (numbers(&c, 1), all(&c, 9).remove(0)));
    all(graph, 5).into_iter().map(constant).collect()
}

#[test]
fn every_graph_is_complete() {
    for architecture in ARCHITECTURES {
        for (input, views) in [(OnnxInput::Uint8, Views::None), (OnnxInput::Float, Views::MirrorShift)] {
            let params = OnnxParams { input, views, ..Default::default() };
            let bytes = encode(&model(architecture), &params).unwrap();
            assert_eq!(bytes, encode(&model(architecture), &params).unwrap());
            let graph = graph(&bytes);
            let mut known: BTreeSet<String> = constants(&graph).into_keys().collect();
            assert_eq!(known.len(), all(&graph, 5).len(), "each constant has a name of its own");
            known.insert(INPUT.into());
            let mut used = BTreeSet::new();
            for node in all(&graph, 1) {
                for name in texts(&node, 1) {
                    assert!(known.contains(&name), "{architecture:?}: {name} is used before it is computed");
                    used.insert(name);
                }
                for name in texts(&node, 2) {
                    assert!(known.insert(name.clone()), "{architecture:?}: {name} is computed twice");
                }
            }
            let unused: Vec<_> = known.difference(&used).collect();
            assert_eq!(unused, [OUTPUT], "{architecture:?}");
            for (name, (shape, bytes)) in constants(&graph) {
                let is_integer = [".rows", ".columns", ".shape", ".axis"].iter().any(|end| name.ends_with(end));
                let size = if is_integer { 8 } else { 4 };
                assert_eq!(shape.iter().product::<i64>() * size, bytes.len() as i64, "{name} {shape:?}");
            }
        }
    }
}

fn operators(architecture: Architecture, views: Views) -> Vec<(String, usize)> {
    let bytes = encode(&model(architecture), &OnnxParams { views, ..Default::default() }).unwrap();
    let mut counts = BTreeMap::new();
    for node in all(&graph(&bytes), 1) {
        *counts.entry(texts(&node, 4).remove(0)).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

#[test]
fn graphs_have_the_layers_of_the_networks() {
    let check = |architecture, views, expected: &[(&str, usize)]| {
        let found = operators(architecture, views);
        let of = |operator: &str| found.iter().find(|(name, _)| name == operator).map_or(0, |(_, count)| *count);
        for (operator, count) in expected {
            assert_eq!(of(operator), *count, "{architecture:?} {operator} in {found:?}");
        }
    };
    let [cnn, air94, air96, resnet] = ARCHITECTURES;
    check(cnn, Views::None, &[("Conv", 6), ("BatchNormalization", 7), ("Relu", 7), ("MaxPool", 3), ("Gemm", 2)]);
    check(
        air94,
        Views::None,
        &[("Conv", 7), ("BatchNormalization", 6), ("Erf", 7), ("MaxPool", 3), ("GlobalMaxPool", 1)],
    );
    // Once for each GELU, and once for each group's residual.
    check(air96, Views::None, &[("Conv", 10), ("BatchNormalization", 9), ("Erf", 10), ("Add", 10 + 3)]);
    check(resnet, Views::None, &[("Conv", 20), ("BatchNormalization", 20), ("Relu", 17), ("Add", 8), ("Gather", 0)]);
    check(resnet, Views::MirrorShift, &[("Conv", 20), ("Gather", 12), ("ReduceSum", 1)]);
    check(resnet, Views::Mirror, &[("Gather", 4), ("Concat", 1)]);
}

#[test]
fn tensors_have_the_layout_of_onnx() {
    let model = model(Architecture::SimpleCnn);
    let constants = constants(&graph(&encode(&model, &OnnxParams::default()).unwrap()));
    let values = |name: &str| -> Vec<f32> {
        constants[name].1.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let ours = |name: &str| -> Vec<f32> {
        let (_, var) = model.parameters().all().find(|(found, _)| *found == name).unwrap();
        var.flatten_all().unwrap().to_vec1().unwrap()
    };
    // From [rows, columns, inputs, outputs] to [outputs, inputs, rows, columns].
    assert_eq!(constants["block2.conv1.weight"].0, [3, 2, 3, 3]);
    let (theirs, filters) = (values("block2.conv1.weight"), ours("block2.conv1.weight"));
    for (output, input, row, column) in [(0, 0, 0, 1), (2, 1, 0, 2), (1, 0, 2, 1)] {
        let (at, from) = (((output * 2 + input) * 3 + row) * 3 + column, ((row * 3 + column) * 2 + input) * 3 + output);
        assert_eq!(theirs[at].to_bits(), filters[from].to_bits());
    }
    // 17×24 pixels become 2×3 of 4 channels; rows of the matrix go from [2, 3, 4] to [4, 2, 3].
    assert_eq!(constants["dense.weight"].0, [24, 128]);
    let (theirs, matrix) = (values("dense.weight"), ours("dense.weight"));
    for (channel, row, column, output) in [(3, 1, 2, 5), (1, 0, 2, 0), (0, 1, 0, 127)] {
        let (at, from) = ((channel * 2 + row) * 3 + column, (row * 3 + column) * 4 + channel);
        assert_eq!(theirs[at * 128 + output].to_bits(), matrix[from * 128 + output].to_bits());
    }
    assert_eq!(values("images.mean"), [0.5, 0.1, 0.2]);
}

#[test]
fn impossible_models_are_refused() {
    let mut spec = model(Architecture::ResNet18).spec().clone();
    spec.size = ImageSize { height: 1, width: 5 };
    let tiny = Model::new(spec.clone(), 7).unwrap();
    let params = |views| OnnxParams { views, ..Default::default() };
    encode(&tiny, &params(Views::Mirror)).unwrap();
    let error = encode(&tiny, &params(Views::MirrorShift)).unwrap_err().to_string();
    assert_eq!(error, format!("images of {} pixels cannot be shifted", spec.size));
    for (mean, std) in [(vec![0.5; 2], vec![0.25; 3]), (vec![0.5; 3], vec![0.25, 0.0, 0.25])] {
        spec.normalisation = Normalisation { mean, std };
        let error = encode(&Model::new(spec.clone(), 7).unwrap(), &params(Views::None)).unwrap_err().to_string();
        assert!(error.starts_with("the normalisation has mean [0.5, 0.5"), "{error}");
    }
}

#[test]
fn the_file_describes_the_model() {
    let properties =
        Map::from_iter([("recipe".to_string(), json!("quick")), ("train".to_string(), json!({"epochs": 3}))]);
    let params = OnnxParams { properties, views: Views::Mirror, ..Default::default() };
    let bytes = encode(&model(Architecture::Airbench94), &params).unwrap();
    assert_eq!((numbers(&bytes, 1), numbers(&all(&bytes, 8)[0], 2)), (vec![8], vec![17]));
    let found: BTreeMap<String, String> =
        all(&bytes, 14).iter().map(|p| (texts(p, 1).remove(0), texts(p, 2).remove(0))).collect();
    assert_eq!(found["classes"], r#"["a","b, c","😀"]"#);
    assert_eq!(found["normalisation"], r#"{"mean":[0.5,0.1,0.2],"std":[0.25,0.25,0.25]}"#);
    let of = |key: &str| found[key].as_str();
    assert_eq!(
        [of("architecture"), of("recipe"), of("tta"), of("train")],
        ["airbench94", "quick", "mirror", r#"{"epochs":3}"#]
    );
    assert!(!found.contains_key("seed"), "the model was not trained");
    // The first dimension of the input is `batch`, the others are numbers.
    let input = all(&graph(&bytes), 11).remove(0);
    let tensor = all(&all(&input, 2)[0], 1).remove(0);
    let dims = all(&all(&tensor, 2)[0], 1);
    assert_eq!((texts(&input, 1), numbers(&tensor, 1)), (vec![INPUT.to_string()], vec![UINT8]));
    assert_eq!(texts(&dims[0], 2), [BATCH]);
    assert_eq!(dims[1..].iter().flat_map(|d| numbers(d, 1)).collect::<Vec<_>>(), [17, 24, 3]);
}
