//! Class names, from the metadata of the `datasets` library.

use serde_json::Value;

/// Returns the names of column `label`, from the JSON under the key `huggingface`; `None` if there
/// are none.
///
/// # Errors
/// If they exist and cannot be used.
pub(super) fn names(json: &str, label: &str) -> Result<Option<Vec<String>>, String> {
    let metadata: Value =
        serde_json::from_str(json).map_err(|e| format!("has metadata `huggingface` that is not JSON: {e}"))?;
    let Some(names) = metadata.pointer(&format!("/info/features/{label}/names")) else { return Ok(None) };
    let names: Option<Vec<String>> =
        names.as_array().map(|names| names.iter().filter_map(|name| name.as_str().map(String::from)).collect());
    let names = names.filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| format!("has metadata `huggingface` in which {label} has no list of names"))?;
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return Err(format!("names the class {name:?} twice"));
        }
    }
    Ok(Some(names))
}
