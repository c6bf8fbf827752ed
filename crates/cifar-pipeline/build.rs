//! Records what the program was compiled by and for: the stage fingerprints and `--version` tell it.

use std::process::Command;

fn main() {
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let compiler = Command::new(env("RUSTC")).arg("-V").output();
    let compiler = compiler.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string()).unwrap_or_default();
    println!("cargo::rustc-env=CIFAR_COMPILER={compiler}");
    println!("cargo::rustc-env=CIFAR_TARGET={}", env("TARGET"));
    println!("cargo::rustc-env=CIFAR_OPT_LEVEL={}", env("OPT_LEVEL"));
    println!("cargo::rerun-if-changed=build.rs");
}
