//! The binary from outside: what it prints where, and how it exits. Needs no root.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn natgw(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_natgw")).args(args).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// A file that is removed again.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_sample_passes_the_check() {
    let sample = natgw(&["config", "sample"]);
    assert_eq!(sample.status.code(), Some(0));
    let file = File::new("sample.toml", stdout(&sample));
    let check = natgw(&["check", file.path()]);
    assert_eq!(check.status.code(), Some(0), "{}", stderr(&check));
    assert!(stdout(&check).contains("nat gateway nat-a"));
    assert_eq!(stderr(&check), "");
}

#[test]
fn every_problem_is_a_line_on_stderr_and_the_exit_code_is_2() {
    let file = File::new(
        "invalid.toml",
        "[gateway]\nmax_sessions = 1\n[[vpc]]\nname = \"v\"\ncidr = [\"10.0.0.1/8\"]\n",
    );
    let check = natgw(&["check", file.path()]);
    assert_eq!(check.status.code(), Some(2));
    assert_eq!(stdout(&check), "");
    let path = file.path();
    assert_eq!(
        stderr(&check),
        format!(
            "natgw: {path}:2: gateway: max_sessions 1 is out of range; write 1024 to 67108864\n\
             natgw: {path}:5: vpc v: cidr 10.0.0.1/8 has host bits set; write \"10.0.0.0/8\"\n"
        )
    );
}

#[test]
fn check_json_holds_the_configuration_or_the_problems() {
    let file = File::new("valid-json.toml", "[[vpc]]\nname = \"v\"\ncidr = [\"10.0.0.0/8\"]\n");
    let check = natgw(&["check", "--json", file.path()]);
    let verdict: Value = serde_json::from_str(stdout(&check)).unwrap();
    assert_eq!((check.status.code(), &verdict["valid"]), (Some(0), &Value::Bool(true)));
    assert_eq!(verdict["config"]["vpcs"][0]["cidr"][0], "10.0.0.0/8");
    assert_eq!(verdict["warnings"][0]["object"], "configuration");

    let file = File::new("invalid-json.toml", "\n[[vpc]]\nname = \"v\"\ncidr = []\n");
    let check = natgw(&["check", "--json", file.path()]);
    let verdict: Value = serde_json::from_str(stdout(&check)).unwrap();
    assert_eq!((check.status.code(), &verdict["valid"]), (Some(2), &Value::Bool(false)));
    let problem = &verdict["problems"][0];
    assert_eq!((&problem["line"], &problem["object"]), (&Value::from(4), &Value::from("vpc v")));
    assert_eq!((&problem["message"], verdict["config"].is_null()), (&Value::from("has no cidr"), true));
}

#[test]
fn a_file_that_is_not_there_is_bad_input() {
    for args in [&["check", "/nonexistent.toml"][..], &["check", "--json", "/nonexistent.toml"]] {
        let check = natgw(args);
        assert_eq!(check.status.code(), Some(2));
        assert!(
            stderr(&check).starts_with("natgw: /nonexistent.toml: cannot be read: "),
            "{}",
            stderr(&check)
        );
        assert_eq!(stderr(&check).lines().count(), 1);
    }
}

#[test]
fn bad_usage_ends_with_2_and_help_with_0() {
    for (args, code) in
        [(&["fly"][..], 2), (&["check"], 2), (&["run"], 2), (&["--help"], 0), (&["run", "--help"], 0)]
    {
        assert_eq!(natgw(args).status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn completions_and_the_man_page_go_to_stdout() {
    let completions = natgw(&["completions", "bash"]);
    assert!(completions.status.success() && stdout(&completions).contains("_natgw()"));
    let man = natgw(&["man"]);
    assert!(man.status.success() && stdout(&man).contains(".TH natgw 1"));
}

const LISTING_VERBS: [&[&str]; 6] =
    [&["status"], &["flows"], &["drops"], &["eip", "list"], &["nacl", "list"], &["route", "list"]];

#[test]
fn with_nothing_pinned_every_listing_verb_says_no_and_what_to_do() {
    let empty = Path::new(env!("CARGO_TARGET_TMPDIR")).join("empty-pin-dir");
    std::fs::create_dir_all(&empty).unwrap();
    let directory = empty.to_str().unwrap();
    for verb in LISTING_VERBS {
        for json in [&[][..], &["--json"]] {
            let args = [verb, json, &["--pin-dir", directory]].concat();
            let listing = natgw(&args);
            assert_eq!(listing.status.code(), Some(1), "{args:?}: {}", stderr(&listing));
            assert_eq!(stdout(&listing), "", "{args:?}");
            let message = format!(
                "natgw: no gateway is set up under {directory}; start one with `natgw run`, or name its --pin-dir\n"
            );
            assert_eq!(stderr(&listing), message, "{args:?}");
        }
    }
}

#[test]
fn watching_a_gateway_that_is_not_there_ends_at_once() {
    for verb in ["status", "flows", "drops"] {
        let watch = natgw(&[verb, "--watch", "--pin-dir", "/nonexistent"]);
        assert_eq!(watch.status.code(), Some(1), "{verb}: {}", stderr(&watch));
    }
}
