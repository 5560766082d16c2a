//! What a NAT gateway translates besides ports, and what it lowers.

use toml::Spanned;

use super::{
    super::{MssClamp, PortLess, scalar::Scalar},
    Lower,
};

impl Lower<'_> {
    pub(super) fn mss_clamp(&mut self, object: &str, value: &Option<Spanned<Scalar>>) -> MssClamp {
        let Some(value) = value else { return MssClamp::Off };
        value.get_ref().mss_clamp().unwrap_or_else(|(message, remedy)| {
            self.report.add(value.span(), object, message, remedy);
            MssClamp::Off
        })
    }

    /// Protocols without ports, each once.
    pub(super) fn port_less(&mut self, object: &str, names: &[Spanned<String>]) -> Vec<PortLess> {
        const REMEDY: &str = "write \"gre\" or \"esp\"";
        let mut protocols = Vec::with_capacity(names.len());
        for name in names {
            let protocol = match name.get_ref().as_str() {
                "gre" => PortLess::Gre,
                "esp" => PortLess::Esp,
                "ah" => {
                    let message = "port_less \"ah\" cannot be translated: its checksum covers the addresses";
                    self.report.add(
                        name.span(),
                        object,
                        message,
                        "write \"esp\", and have the hosts use that",
                    );
                    continue;
                }
                other => {
                    let message = format!("port_less \"{other}\" is no protocol without ports that is known");
                    self.report.add(name.span(), object, message, REMEDY);
                    continue;
                }
            };
            if protocols.contains(&protocol) {
                let message = format!("port_less \"{}\" stands there twice", name.get_ref());
                self.report.add(name.span(), object, message, "keep one of them");
            }
            protocols.push(protocol);
        }
        protocols
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Config, MssClamp, PortLess, SAMPLE};

    /// The sample with these fields of its NAT gateway.
    fn read(fields: &str) -> Result<Config, String> {
        let text = SAMPLE.replace("mss_clamp = \"off\"\n", "").replace("port_less = []\n", fields);
        Config::from_toml(&text, Path::new("gw.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_largest_mss_is_off_or_of_the_path_or_a_number() {
        let clamp = |value: &str| {
            read(&format!("mss_clamp = {value}\n")).map(|config| config.nat_gateways[0].mss_clamp)
        };
        assert_eq!(clamp("\"off\""), Ok(MssClamp::Off));
        assert_eq!(clamp("\"auto\""), Ok(MssClamp::Auto));
        assert_eq!((clamp("536"), clamp("65495")), (Ok(MssClamp::Bytes(536)), Ok(MssClamp::Bytes(65_495))));
        assert_eq!(read("").map(|config| config.nat_gateways[0].mss_clamp), Ok(MssClamp::Off));
        for wrong in ["535", "65496", "-1", "0"] {
            let error = clamp(wrong).unwrap_err();
            assert!(error.contains("is out of range; write \"off\", \"auto\", or 536 to 65495"), "{error}");
        }
        assert!(clamp("\"1360\"").unwrap_err().contains("is not understood"));
    }

    #[test]
    fn protocols_without_ports_are_read() {
        let config = read("port_less = [\"gre\", \"esp\"]\n").unwrap();
        assert_eq!(config.nat_gateways[0].port_less, [PortLess::Gre, PortLess::Esp]);
        assert_eq!(read("").unwrap().nat_gateways[0].port_less, []);
    }

    #[test]
    fn a_protocol_that_cannot_be_translated_is_refused_and_the_error_says_why() {
        let error = read("port_less = [\"ah\"]\n").unwrap_err();
        assert!(error.contains("cannot be translated: its checksum covers the addresses"), "{error}");
        let error = read("port_less = [\"sctp\"]\n").unwrap_err();
        assert!(error.contains("write \"gre\" or \"esp\""), "{error}");
        let error = read("port_less = [\"gre\", \"gre\"]\n").unwrap_err();
        assert!(error.contains("stands there twice"), "{error}");
    }
}
