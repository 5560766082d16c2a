//! The lab: network namespaces with a gateway, a router, private hosts and outside servers, the scenarios' tools, and
//! the demo that is told in it.

pub mod bench;
pub mod demo;
pub mod lab;
