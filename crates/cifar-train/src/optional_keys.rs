//! The keys of params.yaml that were added later and may be left out.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::TrainParams;
use crate::tune::TuneParams;

/// Returns the keys of the blocks `train` and `tune` that a file may leave out, by block, with the
/// values that this means.
///
/// Such values are not written either, so that files and hashes of parameters without these keys
/// stay as they were before the keys existed.
pub fn optional_keys() -> BTreeMap<&'static str, Map<String, Value>> {
    let params = TrainParams::default();
    let train = json!({
        "min_steps": params.min_steps,
        "class_weights": params.class_weights,
        "sampling": params.sampling,
        "averaging_power": params.averaging_power,
        "cutout_inside": params.cutout_inside,
        "init": params.init,
        "freeze": params.freeze,
        "backbone_lr_scale": params.backbone_lr_scale,
    });
    let tune = json!({ "equal_cost": TuneParams::default().equal_cost });
    [("train", train), ("tune", tune)]
        .into_iter()
        .filter_map(|(block, keys)| if let Value::Object(keys) = keys { Some((block, keys)) } else { None })
        .collect()
}

/// Adds the keys that `blocks`, a JSON object with the block `train`, `tune` or both, leaves out.
pub fn add_optional_keys(blocks: &mut Value) {
    for (block, keys) in optional_keys() {
        if let Some(block) = blocks.get_mut(block).and_then(Value::as_object_mut) {
            for (key, value) in keys {
                block.entry(key).or_insert(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClassWeights, Freeze, Init, Sampling};

    #[test]
    fn optional_keys_have_their_defaults_and_are_not_written() {
        let plain = json!({ "train": TrainParams::default(), "tune": TuneParams::default() });
        let mut all = plain.clone();
        add_optional_keys(&mut all);
        for (block, keys) in optional_keys() {
            assert!(keys.keys().all(|key| plain[block].get(key).is_none()), "written: {block}");
            let count = |blocks: &Value| blocks[block].as_object().map_or(0, Map::len);
            assert_eq!(count(&all), count(&plain) + keys.len(), "{block}");
        }
        assert_eq!(serde_json::from_value::<TrainParams>(all["train"].clone()).unwrap(), TrainParams::default());
        assert_eq!(serde_json::from_value::<TuneParams>(all["tune"].clone()).unwrap(), TuneParams::default());
    }

    #[test]
    fn other_values_of_optional_keys_are_written() {
        let train = TrainParams {
            min_steps: 7,
            class_weights: ClassWeights::PerClass(vec![0.5, 2.0]),
            sampling: Sampling::Balanced,
            init: Init::File("a.safetensors".into()),
            freeze: Freeze::Stem,
            backbone_lr_scale: 0.5,
            averaging_power: 3.0,
            cutout_inside: true,
            ..TrainParams::default()
        };
        let json = serde_json::to_string(&train).unwrap();
        assert!(json.contains("\"class_weights\":[0.5,2.0]") && json.contains("\"sampling\":\"balanced\""));
        assert_eq!(serde_json::from_str::<TrainParams>(&json).unwrap(), train);
        let tune = TuneParams { equal_cost: true, ..TuneParams::default() };
        let json = serde_json::to_string(&tune).unwrap();
        assert!(json.contains("\"equal_cost\":true"));
        assert_eq!(serde_json::from_str::<TuneParams>(&json).unwrap(), tune);
    }
}
