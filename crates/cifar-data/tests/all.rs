//! All tests of the public interface but one, as one program, which takes a fraction of the time to compile.
//! `archive_memory` is alone: it measures its process.

mod archives;
mod batches;
mod class_folders;
mod common;
mod coverage;
mod download;
mod duplicates;
mod flow;
mod flow_refusals;
mod hostile;
mod image_files;
mod layouts;
mod parquet;
mod splits;
mod store;
