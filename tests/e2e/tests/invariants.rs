//! What ARCHITECTURE.md says is absent, is absent.

use std::path::{Path, PathBuf};

use cifar_e2e::repository;

/// Rust sources below `folder`, as (path from the root, text).
fn sources(folder: &str) -> Vec<(String, String)> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a readable source folder") {
            let path = entry.expect("a readable source folder").path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    let root = repository();
    let mut files = Vec::new();
    collect(&root.join(folder), &mut files);
    assert!(!files.is_empty(), "{folder} has sources");
    let name = |path: &Path| path.strip_prefix(&root).expect("a readable source folder").display().to_string();
    files.iter().map(|path| (name(path), std::fs::read_to_string(path).expect("a readable source folder"))).collect()
}

/// The crate's own dependencies, as its manifest lists them under `[dependencies]`.
fn dependencies(name: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(repository().join(format!("crates/{name}/Cargo.toml"))).expect("a manifest");
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|n| !n.is_empty()).map(String::from).collect()
}

fn check_absent(folders: &[&str], words: &[&str]) {
    for (file, text) in folders.iter().flat_map(|folder| sources(folder)) {
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.split("//").next().unwrap_or_default();
            for word in words {
                assert!(!code.contains(word), "{file}, line {number}: `{word}` does not belong here: {line}");
            }
        }
    }
}

#[test]
fn crates_use_only_those_before_them() {
    let order = [
        "cifar-kernels",
        "cifar-data",
        "cifar-model",
        "cifar-train",
        "cifar-eval",
        "cifar-pipeline",
        "cifar-experiments",
        "cifar-cli",
    ];
    for (place, name) in order.iter().enumerate() {
        let found = dependencies(name);
        assert!(!found.is_empty(), "{name}");
        for later in &order[place..] {
            assert!(!found.contains(&(*later).to_string()), "{name} uses {later}");
        }
    }
    for name in ["cifar-kernels", "cifar-data"] {
        assert!(dependencies(name).iter().all(|d| !d.starts_with("cifar-") && !d.starts_with("candle")), "{name}");
    }
    for name in &order[..7] {
        let found = dependencies(name);
        assert!(found.iter().all(|d| !["anyhow", "clap", "indicatif"].contains(&d.as_str())), "{name}");
        let knows_yaml = found.contains(&"serde-saphyr".to_string());
        assert_eq!(knows_yaml, *name == "cifar-pipeline", "{name}: only the pipeline reads YAML");
    }
}

#[test]
fn only_the_kernels_are_unsafe() {
    check_absent(
        &[
            "crates/cifar-data/src",
            "crates/cifar-model/src",
            "crates/cifar-train/src",
            "crates/cifar-eval/src",
            "crates/cifar-pipeline/src",
            "crates/cifar-experiments/src",
            "crates/cifar-cli/src",
        ],
        // A page's content security policy has the word, too.
        &["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern", "unsafe_code"],
    );
    let (unsafe_blocks, safety): (usize, usize) = sources("crates/cifar-kernels/src")
        .iter()
        .map(|(_, text)| {
            (text.matches("unsafe {").count() + text.matches("unsafe impl").count(), text.matches("// SAFETY:").count())
        })
        .fold((0, 0), |sum, file| (sum.0 + file.0, sum.1 + file.1));
    assert!(unsafe_blocks > 0 && unsafe_blocks <= safety, "{unsafe_blocks} unsafe blocks, {safety} SAFETY comments");
}

#[test]
fn training_never_opens_test_images() {
    check_absent(&["crates/cifar-train/src"], &["TestSet", "Split::Test", "POOL", "store::read"]);
}

#[test]
fn libraries_print_nothing() {
    check_absent(
        &[
            "crates/cifar-kernels/src",
            "crates/cifar-data/src",
            "crates/cifar-model/src",
            "crates/cifar-train/src",
            "crates/cifar-eval/src",
            "crates/cifar-pipeline/src",
            "crates/cifar-experiments/src",
        ],
        &["println!", "print!(", "dbg!", "std::io::stdout", "std::io::stderr"],
    );
}

/// The system's functions and those of `std`, which calls them, may differ from one processor to the
/// next in the last bit. `libm` is the same code everywhere; square roots and whole powers are exact
/// operations or made of them.
#[test]
fn results_use_no_functions_of_the_system() {
    const FUNCTIONS: [&str; 27] = [
        "exp", "exp2", "exp_m1", "ln", "ln_1p", "log", "log2", "log10", "powf", "sin", "cos", "tan", "sin_cos", "asin",
        "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "cbrt", "hypot", "gamma",
        "ln_gamma",
    ];
    let words: Vec<String> = (FUNCTIONS.iter())
        .flat_map(|name| [format!(".{name}("), format!("f32::{name}"), format!("f64::{name}")])
        .collect();
    let is_word = |line: &str, word: &str| {
        line.match_indices(word).any(|(at, _)| {
            let next = line[at + word.len()..].chars().next();
            word.ends_with('(') || !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
        })
    };
    for name in ["cifar-kernels", "cifar-data", "cifar-model", "cifar-train", "cifar-eval", "cifar-experiments"] {
        for (file, text) in sources(&format!("crates/{name}/src")) {
            // Tests may compare with what they like.
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for (number, line) in (1..).zip(text.lines()) {
                let code = line.split("//").next().unwrap_or_default();
                let found = words.iter().find(|word| is_word(code, word));
                assert!(found.is_none(), "{file}, line {number}: {found:?} depends on the processor, use libm: {line}");
            }
        }
    }
}
