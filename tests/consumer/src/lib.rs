//! The examples of the README and of docs/libraries.md, compiled and run as documentation tests.

#[doc = include_str!("../../../README.md")]
pub mod readme {}

#[doc = include_str!("../../../docs/libraries.md")]
pub mod libraries {}
