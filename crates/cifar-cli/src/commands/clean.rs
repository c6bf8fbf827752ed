//! `clean`: removes what the stages made, with checkpoints and searches.

use std::fs;

use anyhow::{Context as _, Result};

use super::Context;

pub(super) fn run(context: &Context) -> Result<()> {
    let mut removed = Vec::new();
    let layout = &context.layout;
    for folder in layout.outputs().into_iter().chain([
        layout.checkpoints(),
        layout.searches(),
        layout.near_duplicates(),
        layout.study(),
        layout.study_state(),
    ]) {
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("{}: cannot remove", folder.display()))?;
            removed.push(folder.display().to_string());
        }
    }
    let words =
        || if removed.is_empty() { "nothing to remove".into() } else { format!("removed {}", removed.join(", ")) };
    context.terminal.result(&serde_json::json!({ "removed": removed }), words);
    Ok(())
}
