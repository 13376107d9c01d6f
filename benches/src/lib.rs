//! What the benchmarks share: see `benches/` beside this folder.
