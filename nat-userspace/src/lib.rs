//! natgw: a NAT gateway in XDP and TC, with the behaviour of AWS's.

pub mod api;
pub mod bench;
pub mod cli;
pub mod config;
pub mod controller;
pub mod datapath;
pub mod host;
pub mod plan;
pub mod ports;
pub mod report;
pub mod slow;
