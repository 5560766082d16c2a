//! How a NAT gateway maps and filters.

use toml::Spanned;

use super::Lower;
use crate::config::{Behaviour, Filtering, Mapping, raw};

impl Lower<'_> {
    pub(super) fn behaviour(&mut self, object: &str, raw: &raw::NatGateway) -> Behaviour {
        let behaviour = Behaviour {
            mapping: raw.mapping.unwrap_or_default(),
            filtering: raw.filtering.as_ref().map(|filtering| *filtering.get_ref()).unwrap_or_default(),
            overload: is_set(raw.overload.as_ref()),
            port_parity: is_set(raw.port_parity.as_ref()),
        };
        if behaviour.mapping == Mapping::EndpointIndependent {
            return behaviour;
        }
        let without = "needs a mapping that does not depend on the remote";
        let remedy = "write mapping = \"endpoint-independent\" too";
        if let Some(filtering) =
            raw.filtering.as_ref().filter(|_| behaviour.filtering != Filtering::AddressAndPortDependent)
        {
            self.report.add(filtering.span(), object, format_args!("filtering {without}"), remedy);
        }
        for (name, value) in [("overload", &raw.overload), ("port_parity", &raw.port_parity)] {
            if let Some(value) = value.as_ref().filter(|value| *value.get_ref()) {
                self.report.add(value.span(), object, format_args!("{name} {without}"), remedy);
            }
        }
        behaviour
    }
}

fn is_set(value: Option<&Spanned<bool>>) -> bool {
    value.is_some_and(|value| *value.get_ref())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Behaviour, Config, Filtering, Mapping, SAMPLE};

    fn read(fields: &str) -> Result<Behaviour, String> {
        let text = SAMPLE.replace("mapping = \"address-and-port-dependent\"\n", "");
        let text = text.replace("filtering = \"address-and-port-dependent\"\n", "");
        let text = text.replace("overload = false\n", "").replace("port_parity = false\n", fields);
        let config = Config::from_toml(&text, Path::new("natgw.toml"));
        config.map(|config| config.nat_gateways[0].behaviour).map_err(|error| error.to_string())
    }

    #[test]
    fn by_default_everything_depends_on_the_remote() {
        assert_eq!(read("").unwrap(), Behaviour::default());
    }

    #[test]
    fn mapping_and_filtering_are_read() {
        let fields = "mapping = \"endpoint-independent\"\nfiltering = \"address-dependent\"\noverload = true\n\
                      port_parity = true\n";
        let expected = Behaviour {
            mapping: Mapping::EndpointIndependent,
            filtering: Filtering::AddressDependent,
            overload: true,
            port_parity: true,
        };
        assert_eq!(read(fields).unwrap(), expected);
    }

    #[test]
    fn what_needs_an_independent_mapping_is_refused_without_one() {
        for field in ["filtering = \"endpoint-independent\"", "overload = true", "port_parity = true"] {
            let error = read(&format!("{field}\n")).unwrap_err();
            assert!(error.contains("needs a mapping that does not depend on the remote"), "{error}");
            assert!(error.contains("write mapping = \"endpoint-independent\" too"), "{error}");
        }
    }

    #[test]
    fn an_unknown_mapping_is_refused_with_the_known_ones() {
        let error = read("mapping = \"symmetric\"\n").unwrap_err();
        assert!(error.contains("endpoint-independent"), "{error}");
    }
}
