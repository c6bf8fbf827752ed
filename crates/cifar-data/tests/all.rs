//! All tests of the public interface in one program, which compiles in a fraction of the time. Only
//! `archive_memory` is separate, because it measures the memory of its process.

mod archives;
mod batches;
mod class_folders;
mod common;
mod coverage;
mod download;
mod duplicates;
mod flow;
mod flow_refusals;
mod growth;
mod hostile;
mod image_files;
mod image_formats;
mod label_table;
mod layouts;
mod parquet;
mod splits;
mod store;
