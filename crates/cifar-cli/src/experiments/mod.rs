//! Grids of runs: which there are, who works on them, and what is seen of it meanwhile.

pub(crate) mod board;
pub(crate) mod cluster;
pub(crate) mod grid;
pub(crate) mod schedule;
