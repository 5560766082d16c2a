//! The third sieve: the relations between objects. References exist, addresses do not clash, limits are kept.

mod blocks;
mod complete;
mod gateway;
mod limits;
mod network;
mod route;

use std::collections::HashSet;

use toml::Spanned;

pub(super) use gateway::internal_place;

use super::error::Problem;
use super::raw::Document;
use super::source::{Report, Source};
use super::{Config, DEFAULT_NACL, lower};

/// Turns `document` into a configuration with everything implicit written out.
pub(super) fn check(document: &Document, source: &Source<'_>) -> Result<Config, Vec<Problem>> {
    let config = lower::lower(document, source)?;
    let mut check = Check { document, config: &config, report: Report::new(source) };
    check.names();
    check.gateways();
    check.networks();
    check.routes();
    check.blocks();
    check.report.finish(())?;

    let config = complete::complete(config);
    limits::check(document, &config, source)?;
    Ok(config)
}

/// The objects as they are written, for their places, beside what they mean; both in the same order.
struct Check<'a> {
    document: &'a Document,
    config: &'a Config,
    report: Report<'a>,
}

impl Check<'_> {
    fn names(&mut self) {
        let document = self.document;
        self.unique("vpc", document.vpcs.iter().map(|vpc| &vpc.get_ref().name));
        self.unique("subnet", document.subnets.iter().map(|subnet| &subnet.get_ref().name));
        self.unique("nat gateway", document.nat_gateways.iter().map(|gateway| &gateway.get_ref().name));
        self.unique("route table", document.route_tables.iter().map(|table| &table.get_ref().name));
        self.unique("nacl", document.nacls.iter().map(|nacl| &nacl.get_ref().name));
    }

    fn unique<'n>(&mut self, kind: &str, names: impl Iterator<Item = &'n Spanned<String>>) {
        let mut seen = HashSet::new();
        for name in names {
            if !seen.insert(name.get_ref()) {
                let object = format!("{kind} {}", name.get_ref());
                self.report.add(
                    name.span(),
                    object,
                    "name is used twice",
                    format_args!("give each {kind} its own"),
                );
            }
        }
    }

    /// Reports that `object` refers to a `kind` that does not exist, and names those that do.
    fn missing<'n>(
        &mut self,
        object: &str,
        kind: &str,
        reference: &Spanned<String>,
        known: impl Iterator<Item = &'n str>,
    ) {
        let known: Vec<_> = known.collect();
        let remedy = match known.as_slice() {
            [] => format!("add [[{}]]", kind.replace(' ', "_")),
            names => format!("define it or write one of: {}", names.join(", ")),
        };
        let message = format!("{kind} {} is not defined", reference.get_ref());
        self.report.add(reference.span(), object, message, remedy);
    }

    fn nacl_exists(&self, name: &str) -> bool {
        name == DEFAULT_NACL || self.config.nacl(name).is_some()
    }
}

#[cfg(test)]
mod tests;
