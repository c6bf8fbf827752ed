//! Parameters whose names have changed, so that files with the earlier names can still be read.

use serde_json::{Map, Value};

/// The earlier and the current key of every parameter that was renamed.
///
/// [`TrainParams`](crate::TrainParams) accepts the earlier names when it is deserialised, and
/// always writes the current ones.
pub const RENAMED_KEYS: &[(&str, &str)] = &[
    ("train.head_rate", "train.head_lr_scale"),
    ("train.bias_rate", "train.bias_lr_scale"),
    ("train.dynamics_share", "train.dynamics_fraction"),
    ("evaluate.tta_share", "evaluate.tta_fraction"),
];

/// Returns the current name of a key: of a renamed parameter its new name, otherwise `key` itself.
pub fn current_key(key: &str) -> &str {
    RENAMED_KEYS.iter().find(|(old, _)| *old == key).map_or(key, |(_, new)| new)
}

/// Renames the earlier keys in a tree of parameters, and returns the pairs of [`RENAMED_KEYS`] that
/// it found, in their order.
///
/// `params` has blocks of parameters, such as `{"train": {"head_rate": 1.0}}`. The keys of
/// `tune.space`, which name parameters of other blocks, are renamed too. An earlier name beside its
/// current one stays as it is: only one of them can be meant.
///
/// ```
/// use serde_json::json;
///
/// let mut params = json!({"train": {"epochs": 3, "head_rate": 2.0}});
/// let renamed = cifar_train::rename_keys(&mut params);
/// assert_eq!(renamed, [("train.head_rate", "train.head_lr_scale")]);
/// assert_eq!(params, json!({"train": {"epochs": 3, "head_lr_scale": 2.0}}));
/// ```
pub fn rename_keys(params: &mut Value) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    for (old, new) in RENAMED_KEYS {
        let (Some((block, old_name)), Some((_, new_name))) = (old.split_once('.'), new.split_once('.')) else {
            continue;
        };
        let in_block = params.get_mut(block).is_some_and(|block| rename(block, old_name, new_name));
        let space = params.get_mut("tune").and_then(|tune| tune.get_mut("space"));
        let in_space = space.is_some_and(|space| rename(space, old, new));
        if in_block || in_space {
            found.push((*old, *new));
        }
    }
    found
}

/// Renames a key of an object in its place. Returns whether it did.
fn rename(object: &mut Value, old: &str, new: &str) -> bool {
    let Some(map) = object.as_object_mut().filter(|map| map.contains_key(old) && !map.contains_key(new)) else {
        return false;
    };
    let renamed = std::mem::take(map).into_iter();
    *map = renamed.map(|(key, value)| (if key == old { new.to_string() } else { key }, value)).collect::<Map<_, _>>();
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_renamed_key_is_found_in_its_block_and_in_a_space() {
        for (old, new) in RENAMED_KEYS {
            let (block, name) = old.split_once('.').unwrap();
            let (_, new_name) = new.split_once('.').unwrap();
            let mut params = json!({block: {"a": 1, name: 2, "z": 3}});
            assert_eq!(rename_keys(&mut params), [(*old, *new)]);
            assert_eq!(params.to_string(), json!({block: {"a": 1, new_name: 2, "z": 3}}).to_string());
            assert_eq!(rename_keys(&mut params), []);
            let mut params = json!({"tune": {"space": {*old: {"uniform": [0, 1]}}}});
            assert_eq!(rename_keys(&mut params), [(*old, *new)]);
            assert_eq!(params, json!({"tune": {"space": {*new: {"uniform": [0, 1]}}}}));
            assert_eq!((current_key(old), current_key(new)), (*new, *new));
        }
        assert_eq!(current_key("train.epochs"), "train.epochs");
        let mut both = json!({"train": {"head_rate": 1, "head_lr_scale": 2}});
        assert_eq!(rename_keys(&mut both), []);
    }
}
