//! Where images come from: folders of image files, or the built-in synthetic set.

pub mod class_folders;
pub mod synthetic;

mod decode;
