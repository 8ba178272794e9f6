//! The `metamcp` binary.
fn main() {}
