//! The architecture, as things that certain files may not say.

use regex_lite::Regex;

use crate::sources::Source;

/// Something that some files may not say.
pub struct Rule {
    directory: &'static str,
    modules: Modules,
    forbidden: &'static str,
    why: &'static str,
}

/// Modules of a directory: `parse` is `parse.rs` or everything in `parse/`.
enum Modules {
    All,
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

use Modules::{All, AllBut, Only};

/// The rules. ARCHITECTURE.md gives their reasons at length.
pub const RULES: &[Rule] = &[
    Rule {
        directory: "nat-common/src",
        modules: AllBut(&["pod"]),
        forbidden: r"\b(?:aya|std)::",
        why: "the contract knows neither aya nor an operating system",
    },
    Rule {
        directory: "nat-ebpf/src",
        modules: Only(&[
            "admit",
            "allocate",
            "connection",
            "datagram",
            "fib",
            "flow",
            "interface",
            "nacl",
            "options",
            "parse",
            "route",
            "rss",
            "slow",
        ]),
        forbidden: r"\bcrate::(?:\{[^}]*)?\b(?:forward|icmp|reply|reset|translate)\b",
        why: "modules that look never use modules that write",
    },
    Rule {
        directory: "nat-ebpf/src",
        modules: Only(&["forward", "translate"]),
        forbidden: r"\bcrate::(?:\{[^}]*)?\bmaps\b",
        why: "modules that write never consult a map, so that nothing can fail after the first byte has changed",
    },
    Rule {
        directory: "nat-ebpf/src",
        modules: AllBut(&["bench", "rig", "xdp", "tc"]),
        forbidden: r"\bxdp_md\b|\b__sk_buff\b|\bbpf_(?:xdp|skb|l4_csum)_\w+|\bdata_end\b|\bas \*(?:const|mut) [^c]",
        why: "only the hook's own module touches packet memory, so that the path stays one for every hook",
    },
    Rule {
        directory: "nat-ebpf/src",
        modules: AllBut(&["bench", "main", "rig"]),
        forbidden: r"\bxdp_action\b|\bTC_ACT_\w+",
        why: "verdicts are given in one place, `main`",
    },
    Rule {
        directory: "nat-userspace/src",
        modules: AllBut(&["datapath"]),
        forbidden: r"\baya(?:_log|_obj)?::",
        why: "only `datapath` speaks to the kernel's BPF through aya",
    },
    Rule {
        directory: "nat-userspace/src",
        modules: AllBut(&["cli", "main", "controller", "bench"]),
        forbidden: r"\banyhow\b",
        why: "library modules have error types of their own; only what runs a whole verb joins them",
    },
    Rule {
        directory: "nat-userspace/src",
        modules: Only(&["config"]),
        forbidden: r"\b(?:aya|libc|nix|rtnetlink|tokio)::",
        why: "the configuration is pure: it is checked without root and without a kernel",
    },
    Rule {
        directory: "tests",
        modules: All,
        forbidden: r"\bnat_common::(?:\{[^}]*)?\b(?:checksum|rss|tcp)\b",
        why: "tests share no code with what they test, only its types",
    },
    Rule {
        directory: "tests/src/model",
        modules: All,
        forbidden: r"\b(?:nat_common|nat_userspace)\b",
        why: "the model shares nothing with what it checks",
    },
];

/// Every place where `sources` break `rule`, and every module the rule names that is not there.
pub fn check(rule: &Rule, sources: &[Source]) -> Vec<String> {
    let forbidden = Regex::new(rule.forbidden).expect("the pattern is a constant, and a test compiles it");
    let mut findings = rule.absent(sources);
    for source in sources.iter().filter(|source| rule.applies_to(source)) {
        let code = Source { path: source.path.clone(), text: without_comments(&source.text) };
        findings.extend(forbidden.find_iter(&code.text).map(|found| {
            let line = code.line_at(found.end());
            format!("{}:{line}: {}", source.path, rule.why)
        }));
    }
    findings.dedup();
    findings
}

impl Rule {
    fn applies_to(&self, source: &Source) -> bool {
        let Some(module) = self.module(source) else { return false };
        match self.modules {
            All => true,
            Only(modules) => modules.contains(&module),
            AllBut(modules) => !modules.contains(&module),
        }
    }

    /// The module of the rule's directory that `source` belongs to.
    fn module<'a>(&self, source: &'a Source) -> Option<&'a str> {
        let file = source.below(self.directory)?.strip_suffix(".rs")?;
        file.split('/').next()
    }

    /// A rule about a module that was renamed protects nothing.
    fn absent(&self, sources: &[Source]) -> Vec<String> {
        let named = match self.modules {
            All => &[],
            Only(modules) | AllBut(modules) => modules,
        };
        let exists = |module: &&str| sources.iter().any(|source| self.module(source) == Some(*module));
        let complain =
            |module| format!("{}: no module `{module}`; correct xtask/src/rules.rs", self.directory);
        named.iter().filter(|module| !exists(module)).map(complain).collect()
    }
}

/// `text` with its comment lines emptied; docs may speak of what code may not use.
fn without_comments(text: &str) -> String {
    let keep = |line: &str| if line.trim_start().starts_with("//") { String::new() } else { line.to_owned() };
    text.lines().map(keep).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        directory: "nat-ebpf/src",
        modules: Only(&["nacl", "parse"]),
        forbidden: r"\bcrate::(?:\{[^}]*)?\b(?:forward|icmp)\b",
        why: "lookers do not write",
    };

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    fn findings(rule: &Rule, path: &str, text: &str) -> Vec<String> {
        let present = ["nacl", "parse"].map(|module| source(&format!("nat-ebpf/src/{module}.rs"), ""));
        let sources: Vec<_> = present.into_iter().chain([source(path, text)]).collect();
        check(rule, &sources)
    }

    #[test]
    fn every_pattern_of_the_table_compiles() {
        for rule in RULES {
            check(rule, &[]);
        }
    }

    #[test]
    fn a_forbidden_import_is_reported_with_file_line_and_reason() {
        let text = "//! Rules.\n\nuse crate::{\n    flow,\n    forward,\n};\n";
        assert_eq!(
            findings(&RULE, "nat-ebpf/src/nacl.rs", text),
            ["nat-ebpf/src/nacl.rs:5: lookers do not write"]
        );
    }

    #[test]
    fn the_files_of_a_module_directory_obey_its_rule() {
        assert_eq!(findings(&RULE, "nat-ebpf/src/parse/udp.rs", "crate::icmp::answer();").len(), 1);
    }

    #[test]
    fn other_modules_other_names_and_comments_are_free() {
        assert!(findings(&RULE, "nat-ebpf/src/pipeline.rs", "use crate::forward;").is_empty());
        assert!(findings(&RULE, "nat-ebpf/src/nacl.rs", "use nat_common::protocol::icmp;").is_empty());
        assert!(findings(&RULE, "nat-ebpf/src/nacl.rs", "use crate::{flow};\nlet forward = 1;").is_empty());
        assert!(findings(&RULE, "nat-ebpf/src/nacl.rs", "/// Unlike [`crate::forward`].").is_empty());
    }

    #[test]
    fn a_rule_for_all_but_some_spares_only_those() {
        let rule = Rule { modules: AllBut(&["nacl", "parse"]), ..RULE };
        assert!(findings(&rule, "nat-ebpf/src/parse.rs", "use crate::icmp;").is_empty());
        assert_eq!(findings(&rule, "nat-ebpf/src/hop.rs", "use crate::icmp;").len(), 1);
    }

    #[test]
    fn a_module_that_is_no_longer_there_is_reported() {
        let rule = Rule { modules: Only(&["gone"]), ..RULE };
        assert!(findings(&rule, "nat-ebpf/src/hop.rs", "")[0].contains("no module `gone`"));
    }
}
