//! Random packets through the [model](crate::model) and the data plane: whatever they do not agree on is a mistake of one
//! of them.
//!
//! A sequence of [`Step`]s comes from a seed. A session's external port is the data plane's choice, so steps name it by the
//! session it belongs to; a sequence means the same whatever was chosen, and what is left of it when steps are taken out
//! still does.

mod build;
mod configuration;
mod generate;
mod machine;
mod random;
mod run;
mod shrink;
mod step;
mod text;

pub use configuration::Configuration;
pub use generate::sequence;
pub use machine::{Disagreement, Machine};
pub use run::{Failure, Options, Report, fuzz, main, on_hook};
pub use shrink::shrink;
pub use step::{Body, Damage, End, Spec, Step};
pub use text::{parse, print};
