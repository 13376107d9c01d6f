//! The `av-edge` binary.

fn main() {}
