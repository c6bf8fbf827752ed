//! The tests of the public interface in one program, which links once.

mod data_quality;
mod examples;
mod hard_images;
mod learnt_labels;
mod page;
mod study;
