//! All end-to-end tests in one program. They share the projects that they start from and run in
//! parallel across files.

mod bad_input;
mod bench;
mod dvc;
mod experiments;
mod export;
mod folder;
mod init;
mod invariants;
mod journey;
mod labels;
mod links;
mod memory;
mod output;
mod page;
mod precision;
mod provenance;
mod resume;
mod slurm;
mod start;
mod synthetic_truth;
mod tuning;
mod watching;
