//! `completions` and `man`: shell completions and manual pages.

use std::path::Path;

use cifar_data::output::write_file;
use cifar_pipeline::Result;
use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::args::Cli;
use crate::terminal::Terminal;

/// Prints the completion script of a shell.
pub(super) fn completions(shell: clap_complete::Shell, terminal: &Terminal) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cifar-cli", &mut script);
    terminal.data(String::from_utf8_lossy(&script).trim_end());
}

/// Writes `cifar-cli.1` and one page per command.
pub(super) fn man(folder: &Path, terminal: &Terminal) -> Result<()> {
    let mut program = Cli::command();
    // Gives subcommands their full names, such as cifar-cli-train.
    program.build();
    let is_shown = |command: &&clap::Command| !command.is_hide_set() && command.get_name() != "help";
    let pages: Vec<Man> =
        [&program].into_iter().chain(program.get_subcommands().filter(is_shown)).cloned().map(Man::new).collect();
    for page in &pages {
        let mut text = Vec::new();
        page.render(&mut text)?;
        write_file(&folder.join(page.get_filename()), &text)?;
    }
    terminal.data(&format!("{}: {} pages", folder.display(), pages.len()));
    Ok(())
}
