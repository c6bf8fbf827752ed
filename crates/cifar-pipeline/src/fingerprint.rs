//! One hash per stage over everything in the program that can change the stage's results: the
//! sources of the crates and commands that it uses, without comments and tests; their locked
//! dependencies; compiler, target and optimisation.
//!
//! DVC's stages depend on these files rather than on the binary: a change to a report retrains
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use serde::Deserialize;

use crate::contract::{STAGES, Stage};
use crate::{Context as _, Error, Project, Result, bail};

/// Files of this crate that every stage uses.
const COMMON: [&str; 4] = ["layout.rs", "params.rs", "program.rs", "project.rs"];
/// The parser of params.yaml, which can change what a stage reads.
const PARSER: &str = "serde-saphyr";

/// Writes the running program and one fingerprint per stage into `bin/`.
///
/// # Errors
/// If the sources of the program are not in the project's folder, or a file cannot be written.
pub fn write(project: &Project) -> Result<PathBuf> {
    let bin = project.layout.bin();
    let program = std::env::current_exe().context("cannot find the running program")?;
    let destination = bin.join("cifar-cli");
    fs::create_dir_all(&bin).with_context(|| format!("{}: cannot create the folder", bin.display()))?;
    // Renamed into place, since the old program may be running or be a link into DVC's cache.
    let aside = bin.join(".partial-cifar-cli");
    fs::copy(&program, &aside)
        .and_then(|_| fs::rename(&aside, &destination))
        .with_context(|| format!("{}: cannot write the program", destination.display()))?;
    for stage in &STAGES {
        let fingerprint = of_stage(&project.layout.join(""), stage)?;
        cifar_data::output::write_file(
            &bin.join(format!("{}.fingerprint", stage.name)),
            format!("{fingerprint}\n").as_bytes(),
        )?;
    }
    Ok(bin)
}

/// Returns the fingerprint of `stage` for the sources in `workspace`.
pub fn of_stage(workspace: &Path, stage: &Stage) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut add = |name: &str, bytes: &[u8]| {
        hasher.update(name.as_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    for fact in [env!("CIFAR_COMPILER"), env!("CIFAR_TARGET"), env!("CIFAR_OPT_LEVEL")] {
        add("build", fact.as_bytes());
    }
    for file in sources(workspace, stage)? {
        let path = workspace.join(&file);
        let text = fs::read_to_string(&path).with_context(|| format!("{}: cannot read the source", path.display()))?;
        let code = if path.extension().is_some_and(|e| e == "rs") {
            code_of(&text).with_context(|| format!("{}: not Rust", path.display()))?
        } else {
            text
        };
        add(&file, code.as_bytes());
    }
    let lock = workspace.join("Cargo.lock");
    let text = fs::read_to_string(&lock)
        .with_context(|| format!("{}: cannot read the locked dependencies", lock.display()))?;
    for package in locked(&text, stage.crates.iter().copied().chain([PARSER]))? {
        add("dependency", package.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Returns the source files that count, relative to the workspace, with `/` as separator, sorted.
fn sources(workspace: &Path, stage: &Stage) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for name in stage.crates {
        let folder = PathBuf::from("crates").join(name);
        files.insert(format!("crates/{name}/Cargo.toml"));
        walk(workspace, &folder.join("src"), &mut files)?;
    }
    let commands = [stage.command].into_iter().chain(stage.calls.iter().copied());
    let commands = commands.map(|command| format!("stages/{}.rs", command.replace('-', "_")));
    for file in COMMON.into_iter().map(str::to_string).chain(commands) {
        files.insert(format!("crates/cifar-pipeline/src/{file}"));
    }
    Ok(files)
}

/// Code that writes trained models for other programs. No stage calls it.
const EXPORT: &str = "crates/cifar-model/src/export";
/// Name of a file that holds the tests of a module, and nothing else.
const TESTS: &str = "tests.rs";

fn walk(workspace: &Path, folder: &Path, files: &mut BTreeSet<String>) -> Result<()> {
    let path = workspace.join(folder);
    for entry in fs::read_dir(&path).with_context(|| format!("{}: cannot read the sources", path.display()))? {
        let entry = entry?;
        let relative = folder.join(entry.file_name());
        if relative == Path::new(EXPORT) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(workspace, &relative, files)?;
        } else if entry.file_name() != TESTS {
            files.insert(relative.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/"));
        }
    }
    Ok(())
}

/// Returns a source file's tokens, without comments, documentation and `#[cfg(test)]` items.
fn code_of(text: &str) -> Result<String> {
    let tokens: TokenStream = text.parse().map_err(|e: proc_macro2::LexError| Error::failed(e.to_string()))?;
    Ok(strip(tokens).to_string())
}

fn strip(tokens: TokenStream) -> TokenStream {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_hash = matches!(&token, TokenTree::Punct(p) if p.as_char() == '#');
        if is_hash {
            // `#![…]` has a `!` between.
            let inner = tokens.next_if(|t| matches!(t, TokenTree::Punct(p) if p.as_char() == '!'));
            if let Some(TokenTree::Group(group)) =
                tokens.next_if(|t| matches!(t, TokenTree::Group(g) if g.delimiter() == Delimiter::Bracket))
            {
                let attribute = group.stream().to_string().replace(' ', "");
                if attribute.starts_with("doc=") {
                    continue;
                }
                if attribute == "cfg(test)" && inner.is_none() {
                    skip_item(&mut tokens);
                    continue;
                }
                kept.push(token);
                kept.extend(inner);
                kept.push(TokenTree::Group(group));
                continue;
            }
            kept.push(token);
            kept.extend(inner);
        } else if let TokenTree::Group(group) = token {
            kept.push(TokenTree::Group(proc_macro2::Group::new(group.delimiter(), strip(group.stream()))));
        } else {
            kept.push(token);
        }
    }
    kept.into_iter().collect()
}

/// Skips to the end of an item: its braces or its semicolon.
fn skip_item(tokens: &mut impl Iterator<Item = TokenTree>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return,
            TokenTree::Punct(p) if p.as_char() == ';' => return,
            _ => {}
        }
    }
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// Returns name, version and checksum of all packages in Cargo.lock that `roots` need, sorted.
fn locked<'a>(text: &str, roots: impl Iterator<Item = &'a str>) -> Result<BTreeSet<String>> {
    let lock: Lock = toml::from_str(text).context("Cargo.lock: not readable")?;
    let mut by_name: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    for package in &lock.package {
        by_name.entry(&package.name).or_default().push(package);
    }
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = roots.map(str::to_string).collect();
    while let Some(wanted) = open.pop() {
        // "name", or "name version" where several versions are locked.
        let mut words = wanted.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let Some(packages) = by_name.get(name) else { bail!("Cargo.lock: {name} is not locked") };
        for package in packages.iter().filter(|p| version.is_none_or(|v| v == p.version)) {
            let line = format!("{} {} {}", package.name, package.version, package.checksum.as_deref().unwrap_or("-"));
            if found.insert(line) {
                open.extend(package.dependencies.iter().cloned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_documentation_and_tests_do_not_count() {
        let bare = "fn f(x: u32) -> u32 { x + 1 } #[inline] fn g() {}";
        let dressed = "//! Crate.\n/// Doc.\nfn f(x: u32) -> u32 {\n  // why\n  x + 1 /* one */ }\n#[inline]\n/** g */ fn g() {}\n#[cfg(test)]\nmod tests { fn t() {} }\n#[cfg(test)] use a::b;";
        assert_eq!(code_of(dressed).unwrap(), code_of(bare).unwrap());
    }

    #[test]
    fn code_and_strings_count() {
        let a = code_of("fn f() -> &'static str { \"a // b\" }").unwrap();
        assert_ne!(a, code_of("fn f() -> &'static str { \"a\" }").unwrap());
        assert_ne!(a, code_of("#[cold] fn f() -> &'static str { \"a // b\" }").unwrap());
    }

    #[test]
    fn commands_that_a_command_calls_count() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let file = |command: &str| format!("crates/cifar-pipeline/src/stages/{}.rs", command.replace('-', "_"));
        for stage in &STAGES {
            let files = sources(&workspace, stage).unwrap();
            assert!(files.iter().all(|file| !file.ends_with("/tests.rs") && !file.starts_with(EXPORT)), "{files:?}");
            let own = fs::read_to_string(workspace.join(file(stage.command))).unwrap();
            let siblings: BTreeSet<&str> = (own.lines().filter_map(|line| line.strip_prefix("use super::")))
                .flat_map(|names| names.split(|c: char| !(c.is_alphanumeric() || c == '_')))
                .collect();
            for other in &STAGES {
                let counts =
                    other.command == stage.command || siblings.contains(other.command.replace('-', "_").as_str());
                assert_eq!(files.contains(&file(other.command)), counts, "{} in {}", other.command, stage.name);
            }
        }
    }

    /// Otherwise a change of it could change results.
    #[test]
    fn only_the_command_export_uses_the_code_that_does_not_count() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert!(workspace.join(EXPORT).is_dir());
        let is_rust = |file: &str| Path::new(file).extension().is_some_and(|e| e == "rs");
        for stage in &STAGES {
            for file in sources(&workspace, stage).unwrap().iter().filter(|file| is_rust(file)) {
                let code = code_of(&fs::read_to_string(workspace.join(file)).unwrap()).unwrap();
                let uses = code.replace("pub mod export ;", "").replace(' ', "").contains("export::");
                assert!(!uses, "{file}");
            }
        }
    }

    #[test]
    fn only_locked_packages_that_a_crate_needs_count() {
        let lock = r#"
            package = [
              { name = "a", version = "1.0.0", dependencies = ["b 2.0.0"] },
              { name = "b", version = "1.0.0", checksum = "x" },
              { name = "b", version = "2.0.0", checksum = "y" },
              { name = "c", version = "1.0.0" },
            ]"#;
        let found: Vec<String> = locked(lock, ["a"].into_iter()).unwrap().into_iter().collect();
        assert_eq!(found, ["a 1.0.0 -", "b 2.0.0 y"]);
        assert!(locked(lock, ["z"].into_iter()).is_err());
    }
}
