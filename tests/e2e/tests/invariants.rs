//! Checks that what ARCHITECTURE.md rules out is absent from the sources.

use std::path::{Path, PathBuf};

use cifar_e2e::repository;

/// Returns the Rust sources under `folder` as (path from the root, text).
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
    files.sort();
    assert!(!files.is_empty(), "{folder} has sources");
    let name = |path: &Path| path.strip_prefix(&root).expect("a readable source folder").display().to_string();
    files.iter().map(|path| (name(path), std::fs::read_to_string(path).expect("a readable source folder"))).collect()
}

/// Returns the crate's direct dependencies, from `[dependencies]` in its manifest.
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
                assert!(!code.contains(word), "{file}, line {number}: `{word}` is not allowed here: {line}");
            }
        }
    }
}

#[test]
fn every_file_of_end_to_end_tests_is_compiled() {
    let program = std::fs::read_to_string(repository().join("tests/e2e/tests/all.rs")).expect("a source file");
    for (file, _) in sources("tests/e2e/tests").iter().filter(|(file, _)| !file.ends_with("/all.rs")) {
        let name = Path::new(file).file_stem().and_then(|stem| stem.to_str()).expect("a name of letters");
        assert!(program.contains(&format!("\nmod {name};\n")), "{file} is not in tests/e2e/tests/all.rs");
    }
}

#[test]
fn crates_depend_only_on_lower_layers() {
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
        // A page's content security policy contains the word too.
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

/// Errors name the stage that has to run. The pipeline adds the command.
#[test]
fn libraries_below_the_pipeline_do_not_know_the_program() {
    for name in ["cifar-kernels", "cifar-data", "cifar-model", "cifar-train"] {
        for (file, text) in sources(&format!("crates/{name}/src")) {
            for word in ["cifar-cli", "params.yaml", "dvc.yaml", "\".dvc", "`dvc", "`--", " --"] {
                assert!(!text.contains(word), "{file}: `{word}` is not allowed here");
            }
        }
    }
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
            // Tests may use any function for comparison.
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for (number, line) in (1..).zip(text.lines()) {
                let code = line.split("//").next().unwrap_or_default();
                let found = words.iter().find(|word| is_word(code, word));
                assert!(found.is_none(), "{file}, line {number}: {found:?} depends on the processor, use libm: {line}");
            }
        }
    }
}

/// Parses a path such as `a::b`, or a tree such as `a::{b, c::{d}}`, at the start of `text` and adds
/// its paths to `found`, each after `before`. Returns the rest of the text.
fn paths<'a>(text: &'a str, before: &[&'a str], found: &mut Vec<Vec<&'a str>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            // Each path may be followed by ` as NAME`.
            rest = paths(rest, before, found).trim_start_matches(|c| !matches!(c, ',' | '}'));
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let path = [before, &[&text[..end]]].concat();
    if let Some(rest) = text[end..].strip_prefix("::") {
        return paths(rest, &path, found);
    }
    found.push(path);
    &text[end..]
}

/// Returns the paths in `text`, outside of comments and unit tests, that start with `crate`, `super`
/// or `self`.
fn paths_of_crate(text: &str) -> Vec<Vec<String>> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: Vec<&str> = code.lines().filter_map(|line| line.split("//").next()).collect();
    let code = code.join("\n");
    let (mut rest, mut found) = (code.as_str(), Vec::new());
    while let Some(start) = ["crate::", "super::", "self::"].iter().filter_map(|first| rest.find(first)).min() {
        let is_word = !rest[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let known = found.len();
        rest = paths(&rest[start..], &[], &mut found);
        if !is_word {
            found.truncate(known);
        }
    }
    found.into_iter().map(|path| path.into_iter().map(String::from).collect()).collect()
}

/// Returns the files of a cycle in which each uses the next, if there is one. `files` are paths
/// relative to a crate's `src` folder, with their texts. A module and its submodules may use each
/// other. A re-exported name counts as a use of its file.
fn circle(files: &[(&str, &str)]) -> Option<Vec<String>> {
    let module = |file: &str| -> Vec<String> {
        let name = file.trim_end_matches(".rs").trim_end_matches("/mod");
        name.split('/').filter(|part| !matches!(*part, "lib" | "main")).map(String::from).collect()
    };
    let modules: Vec<Vec<String>> = files.iter().map(|(file, _)| module(file)).collect();
    let mut uses: Vec<Vec<usize>> = Vec::new();
    for (of, (_, text)) in modules.iter().zip(files) {
        let used = |path: Vec<String>| {
            let above = path.iter().take_while(|part| *part == "super").count();
            let start = if path[0] == "crate" { 0 } else { of.len().saturating_sub(above) };
            let names = path.iter().skip(above.max(usize::from(path[0] != "super")));
            let path: Vec<String> = of[..start].iter().chain(names).cloned().collect();
            let known = |length: usize| modules.iter().position(|module| *module == path[..length]);
            (0..=path.len()).rev().find_map(known)
        };
        let is_apart = |other: &usize| !modules[*other].starts_with(of) && !of.starts_with(&modules[*other]);
        uses.push(paths_of_crate(text).into_iter().filter_map(used).filter(is_apart).collect());
    }
    // Files that use no others are in no cycle, and neither are files that use only such files.
    let mut left: Vec<usize> = (0..files.len()).collect();
    loop {
        let before = left.len();
        let among = left.clone();
        left.retain(|file| uses[*file].iter().any(|used| among.contains(used)));
        if left.len() == before {
            break;
        }
    }
    let mut circle = vec![*left.first()?];
    loop {
        let next = uses[circle[circle.len() - 1]].iter().find(|used| left.contains(used))?;
        if let Some(start) = circle.iter().position(|file| file == next) {
            return Some(circle[start..].iter().map(|file| files[*file].0.to_string()).collect());
        }
        circle.push(*next);
    }
}

#[test]
fn no_files_use_each_other_in_a_cycle() {
    let mut circles = Vec::new();
    for entry in std::fs::read_dir(repository().join("crates")).expect("a folder of crates") {
        let name = entry.expect("a folder of crates").file_name().into_string().expect("a name of letters");
        let folder = format!("crates/{name}/src");
        let sources = sources(&folder);
        let files: Vec<(&str, &str)> =
            sources.iter().map(|(file, text)| (&file[folder.len() + 1..], text.as_str())).collect();
        circles.extend(circle(&files).map(|files| format!("{folder}: {}", files.join(", "))));
    }
    assert!(circles.is_empty(), "move what these files share into a file that all of them use: {circles:?}");
}

#[test]
fn cycles_are_found_through_every_form_of_use() {
    let check = |files: &[(&str, &str)], expected: &[&str]| {
        assert_eq!(circle(files).unwrap_or_default(), expected, "{files:?}");
    };
    let b = ("b.rs", "pub use super::a::{self};");
    for a in
        ["use crate::b;", "use crate::{c, d::{E, F as G}, b::B};", "fn f() -> super::b::B {}", "use super::b as x;"]
    {
        check(&[("lib.rs", "mod a;"), ("a.rs", a), b], &["a.rs", "b.rs"]);
    }
    for a in ["use crate::c;", "// use crate::b;", "#[cfg(test)]\nmod tests {\n use crate::b; }", "use other_crate::b;"]
    {
        check(&[("main.rs", "use crate::b;"), ("a.rs", a), b, ("c.rs", "use crate::C;")], &[]);
    }
    let above = ("a/mod.rs", "mod b;\nmod c;\nuse self::b::B;");
    check(&[above, ("a/b.rs", "use super::A;"), ("a/c.rs", "use super::b::B;")], &[]);
    check(&[above, ("a/b.rs", "use super::super::d;"), ("a/c.rs", ""), ("d.rs", "use crate::a::c;")], &[]);
    check(
        &[above, ("a/b.rs", "use super::super::d::D;"), ("a/c.rs", "use super::b;"), ("d.rs", "use crate::a::c;")],
        &["a/b.rs", "d.rs", "a/c.rs"],
    );
}
