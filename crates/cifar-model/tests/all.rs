//! The tests of the public interface in one program, which links once.

mod common;
mod goldens;
mod networks;
mod precision;
mod test_time;
