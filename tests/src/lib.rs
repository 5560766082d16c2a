//! What the tests are made with: single packets through the loaded data plane (`datapath`); and the lab, network
//! namespaces with a gateway, a router, private hosts and outside servers, with the demo that is told in it; and a NAT in
//! plain Rust (`model`) that random packets compare the data plane with (`fuzz`).

pub mod bench;
pub mod datapath;
pub mod demo;
pub mod fuzz;
pub mod lab;
pub mod model;
