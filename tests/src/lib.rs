//! What the data-plane tests and the lab are made with.

pub mod datapath;
