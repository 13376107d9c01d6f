//! What a relay tells about itself.
//!
//! The core counts in plain integers. A worker copies them into its [`block::Block`] ten times
//! a second and when asked; the office reads the blocks, asks the workers for their allocations, and only
//! [`catalogue`], [`media`] and [`product`] know names and units, and [`exposition`] labels. What is spread
//! lies in [`distributions`]. [`log`] follows the changes of allocations.

pub(crate) mod block;
mod catalogue;
pub(crate) mod distributions;
pub(crate) mod exposition;
mod histogram;
pub(crate) mod latency;
pub(crate) mod log;
mod media;
mod offload;
pub(crate) mod process;
pub(crate) mod product;
mod records;
#[cfg(test)]
mod tests;
