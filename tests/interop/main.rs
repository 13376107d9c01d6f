//! Real clients against the release binary, in network namespaces.
//!
//! Each case builds its own [`site::Site`] (client, DMZ host, peer), starts `av-edge` there as an operator would,
//! with a file and a key on disk, and lets programs speak to it that never heard of our code: coturn's tools,
//! Chromium, Prometheus, openssl. Cases need root and run one at a time: `./test` does both.

#[path = "../abuse/mod.rs"]
mod abuse;
mod access;
mod bad_input;
mod browser;
mod call;
mod conformance;
mod coturn;
mod demo;
mod discovery;
mod drain;
mod dtls;
mod edge;
mod headers;
mod lanes;
mod libnice;
mod line;
mod matrix;
mod monitoring;
mod mras;
mod nat;
mod netns;
mod offload;
mod page;
mod payload;
mod pool;
mod process;
mod prometheus;
mod records;
mod rings;
mod site;
mod statistics;
mod streams;
mod tls;
mod web;
mod wire;
