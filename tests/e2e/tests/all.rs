//! All end-to-end tests, as one program: they share the projects that they start from, and no processor waits for the last
//! test of a file.

mod bad_input;
mod bench;
mod dvc;
mod experiments;
mod init;
mod invariants;
mod journey;
mod labels;
mod links;
mod memory;
mod output;
mod page;
mod provenance;
mod resume;
mod slurm;
mod synthetic_truth;
mod tuning;
mod watching;
