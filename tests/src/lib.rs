//! What the tests are made with: single packets through the loaded data plane (`datapath`); and the lab, network
//! namespaces with a gateway, a router, private hosts and outside servers, with the demo that is told in it.

pub mod bench;
pub mod datapath;
pub mod demo;
pub mod lab;
