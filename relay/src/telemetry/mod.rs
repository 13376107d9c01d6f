//! What a relay tells about itself.
//!
//! The core counts in plain integers. A worker copies them into its [`block::Block`] ten times
//! a second and when asked; the office reads the blocks, asks the workers for their allocations, and only
//! [`exposition`] and [`product`] know names, units and labels. [`log`] follows the changes of allocations.

pub(crate) mod block;
pub(crate) mod exposition;
pub(crate) mod latency;
pub(crate) mod log;
mod offload;
pub(crate) mod process;
pub(crate) mod product;
