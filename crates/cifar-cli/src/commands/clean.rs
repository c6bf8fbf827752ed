//! `clean`: removes what the stages made, with checkpoints and searches.

use anyhow::Result;
use cifar_data::Monitor as _;
use cifar_data::output::remove;
use cifar_train::remove_checkpoints;
use cifar_train::tune::remove_searches;

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
        // A queued run in a copy of the project elsewhere may be at work in the state that lasts.
        let in_use = if folder == layout.checkpoints() {
            remove_checkpoints(&folder, false)
        } else if folder == layout.searches() {
            remove_searches(&folder)
        } else {
            Vec::new()
        };
        if !in_use.is_empty() {
            for folder in in_use {
                context.terminal.warn(&format!("{}: is kept, somebody is at work there", folder.display()));
            }
            continue;
        }
        if folder.exists() {
            remove(&folder)?;
            removed.push(folder.display().to_string());
        }
    }
    let words =
        || if removed.is_empty() { "nothing to remove".into() } else { format!("removed {}", removed.join(", ")) };
    context.terminal.result(&serde_json::json!({ "removed": removed }), words);
    Ok(())
}
