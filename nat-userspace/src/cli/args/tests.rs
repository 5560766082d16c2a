use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;
use crate::config::{Arp, Mode};
use crate::report::FlowState;

fn parse(line: &str) -> Verb {
    Cli::try_parse_from(line.split_whitespace()).unwrap().verb
}

fn refusal(line: &str) -> ErrorKind {
    Cli::try_parse_from(line.split_whitespace()).unwrap_err().kind()
}

const COMMON_CASE: &str =
    "natgw run --internal eth1 --external eth0 --elastic-ip 203.0.113.10 --private-cidr 10.0.0.0/16";

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_example_of_the_help_parses() {
    let mut commands = vec![Cli::command()];
    let mut examples = 0;
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().cloned());
        let helps = [command.get_after_help(), command.get_after_long_help()].into_iter().flatten();
        for line in helps.flat_map(|help| help.to_string().lines().map(str::to_owned).collect::<Vec<_>>()) {
            let line = line.trim().trim_start_matches("sudo ");
            if line.starts_with("natgw ") {
                let end = line.find(['|', '>', '&', '(']).unwrap_or(line.len());
                Cli::try_parse_from(line[..end].split_whitespace())
                    .unwrap_or_else(|error| panic!("{line}: {error}"));
                examples += 1;
            }
        }
    }
    assert!(examples > 20, "only {examples} examples found");
}

#[test]
fn run_without_a_file_needs_all_four_flags() {
    let Verb::Run(run) = parse(COMMON_CASE) else { panic!("not run") };
    let config = run.configuration().unwrap();
    assert_eq!((config.mode, config.elastic_ips[0].arp), (Mode::Auto, Arp::Announce));
    for flag in
        ["--internal eth1", "--external eth0", "--elastic-ip 203.0.113.10", "--private-cidr 10.0.0.0/16"]
    {
        assert_eq!(refusal(&COMMON_CASE.replace(flag, "")), ErrorKind::MissingRequiredArgument, "{flag}");
    }
}

#[test]
fn run_takes_a_file_or_flags_but_not_both() {
    assert!(matches!(parse("natgw run --config gw.toml --mode xdp"), Verb::Run(_)));
    assert_eq!(refusal("natgw run --config gw.toml --internal eth1"), ErrorKind::ArgumentConflict);
    assert_eq!(refusal("natgw run --config gw.toml --arp routed"), ErrorKind::ArgumentConflict);
}

#[test]
fn runs_same_queue_switches_on_what_the_file_leaves_off() {
    let of = |line: &str| {
        let Verb::Run(run) = parse(line) else { panic!("not run") };
        run.configuration().unwrap().same_queue
    };
    assert_eq!([of(COMMON_CASE), of(&format!("{COMMON_CASE} --same-queue"))], [false, true]);
}

#[test]
fn runs_mode_and_max_sessions_override_the_files() {
    let file = std::env::temp_dir().join(format!("natgw-args-{}.toml", std::process::id()));
    std::fs::write(&file, "[gateway]\nmode = \"xdp\"\nmax_sessions = 2048\n").unwrap();
    let configuration = |flags: &str| {
        let Verb::Run(run) = parse(&format!("natgw run --config {} {flags}", file.display())) else {
            panic!("not run")
        };
        let config = run.configuration().unwrap();
        (config.mode, config.max_sessions)
    };
    let (as_written, overridden) =
        (configuration(""), configuration("--mode xdp-generic --max-sessions 4096"));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(as_written, (Mode::Xdp, 2048));
    assert_eq!(overridden, (Mode::XdpGeneric, 4096));
}

#[test]
fn run_refuses_a_flow_table_it_could_not_make() {
    assert_eq!(refusal(&format!("{COMMON_CASE} --max-sessions 1023")), ErrorKind::ValueValidation);
    assert_eq!(refusal(&format!("{COMMON_CASE} --max-sessions 67108865")), ErrorKind::ValueValidation);
}

#[test]
fn the_pin_directory_stands_before_or_after_the_verb() {
    for line in ["natgw --pin-dir /sys/fs/bpf/b status", "natgw status --pin-dir /sys/fs/bpf/b"] {
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        assert_eq!(cli.pin_dir, PathBuf::from("/sys/fs/bpf/b"));
    }
}

#[test]
fn flows_takes_addresses_and_cidrs() {
    let line =
        "natgw flows --source 10.0.1.5 --source 10.0.2.9/24 --destination 192.0.2.0/24 --state half_closed";
    let Verb::Flows(flows) = parse(line) else { panic!("not flows") };
    let sources: Vec<_> = flows.filter.source.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["10.0.1.5/32", "10.0.2.0/24"]);
    assert_eq!(flows.filter.destination[0].to_string(), "192.0.2.0/24");
    assert_eq!(flows.filter.state, [FlowState::HalfClosed]);
    assert_eq!(refusal("natgw flows --source 10.0.1"), ErrorKind::ValueValidation);
    assert_eq!(refusal("natgw flows --port 65536"), ErrorKind::ValueValidation);
}

#[test]
fn watch_is_every_second_unless_told() {
    let watch = |line: &str| {
        let Verb::Status(status) = parse(line) else { panic!("not status") };
        status.watch
    };
    assert_eq!(watch("natgw status"), None);
    assert_eq!(watch("natgw status --watch"), Some(1));
    assert_eq!(watch("natgw status --watch 5"), Some(5));
    assert_eq!(refusal("natgw status --watch 0"), ErrorKind::ValueValidation);
    assert_eq!(refusal("natgw status --watch --json"), ErrorKind::ArgumentConflict);
}

#[test]
fn bench_measures_at_three_sizes_unless_told() {
    let sessions = |line: &str| {
        let Verb::Bench(bench) = parse(line) else { panic!("not bench") };
        bench.sessions
    };
    assert_eq!(sessions("natgw bench"), [1, 1_000, 100_000]);
    assert_eq!(sessions("natgw bench --sessions 7,9"), [7, 9]);
    assert_eq!(refusal("natgw bench --sessions 0"), ErrorKind::ValueValidation);
}

#[test]
fn every_listing_verb_prints_json() {
    for verb in [
        "status",
        "flows",
        "drops",
        "eip list",
        "eip add 203.0.113.10",
        "eip remove 203.0.113.10",
        "nacl list",
        "route list",
        "bench",
        "check gw.toml",
    ] {
        parse(&format!("natgw {verb} --json"));
    }
}

#[test]
fn bad_usage_ends_with_exit_code_2_and_help_with_0() {
    let code = |line: &str| Cli::try_parse_from(line.split_whitespace()).unwrap_err().exit_code();
    assert_eq!(code("natgw"), 2);
    assert_eq!(code("natgw fly"), 2);
    assert_eq!(code("natgw check"), 2);
    assert_eq!(code("natgw --help"), 0);
    assert_eq!(code("natgw flows --help"), 0);
}

#[test]
fn eip_remove_drains_for_a_time_or_not_at_all() {
    let drain = |line: &str| {
        let Verb::Eip(EipVerb::Remove(remove)) = parse(line) else { panic!("not eip remove") };
        (remove.drain.map(|time| time.seconds), remove.now)
    };
    assert_eq!(drain("natgw eip remove 203.0.113.10"), (None, false));
    assert_eq!(drain("natgw eip remove 203.0.113.10 --drain 5m50s"), (Some(350), false));
    assert_eq!(drain("natgw eip remove 203.0.113.10 --now"), (None, true));
    assert_eq!(refusal("natgw eip remove 203.0.113.10 --now --drain 3s"), ErrorKind::ArgumentConflict);
    assert_eq!(refusal("natgw eip remove 203.0.113.10 --drain soon"), ErrorKind::ValueValidation);
    assert_eq!(refusal("natgw eip add 203.0.113"), ErrorKind::ValueValidation);
}
