//! The size of images.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Colour channels of every image: red, green, blue.
pub(crate) const CHANNELS: usize = 3;

/// Height and width of every image of a set, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageSize {
    /// Bytes of one image: height × width × 3.
    pub fn bytes(self) -> usize {
        self.height * self.width * CHANNELS
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.width, self.height)
    }
}
