//! `route list`: the routes of every route table.

use ipnet::Ipv4Net;
use serde::Serialize;

use crate::config::{Config, Target};

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteReport<'a> {
    /// The route table.
    pub route_table: &'a str,
    /// The destinations it is for.
    pub destination: Ipv4Net,
    /// Where they lead: a NAT gateway's name, `local` or `blackhole`.
    pub target: &'a Target,
    /// Whether packets that follow it get anywhere.
    pub state: RouteState,
}

/// Whether packets that follow a route get anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteState {
    /// They do.
    Active,
    /// They are dropped.
    Blackhole,
}

impl RouteState {
    /// The written form, the same in JSON and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Blackhole => "blackhole",
        }
    }

    const fn of(target: &Target) -> Self {
        match target {
            Target::NatGateway(_) | Target::Local => Self::Active,
            Target::Blackhole => Self::Blackhole,
        }
    }
}

/// Reports on every route of `config`, the implicit `local` ones included, sorted by destination within each table.
#[must_use]
pub fn routes(config: &Config) -> Vec<RouteReport<'_>> {
    let tables = config.route_tables.iter();
    let routes = tables.flat_map(|table| table.routes.iter().map(move |route| (&table.name, route)));
    routes
        .map(|(route_table, route)| RouteReport {
            route_table,
            destination: route.destination,
            target: &route.target,
            state: RouteState::of(&route.target),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Route;
    use crate::report::sample::applied;

    #[test]
    fn routes_are_reported_with_the_documented_fields_and_the_implicit_ones() {
        let mut config = applied().config;
        let destination = "192.0.2.0/24".parse().unwrap();
        config.route_tables[0].routes.push(Route { destination, target: Target::Blackhole });
        assert_eq!(
            serde_json::to_value(routes(&config)).unwrap(),
            json!([
                { "route_table": "private", "destination": "0.0.0.0/0", "target": "nat-a", "state": "active" },
                { "route_table": "private", "destination": "10.0.0.0/16", "target": "local", "state": "active" },
                { "route_table": "private", "destination": "192.0.2.0/24", "target": "blackhole",
                  "state": "blackhole" },
            ])
        );
    }
}
