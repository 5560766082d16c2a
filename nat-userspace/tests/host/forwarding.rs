//! The kernel's forwarding switches.

use std::fs;

use nat_userspace::host::{enable_fib_lookup, forwarding_interfaces};

use crate::{
    Test,
    lab::{self, EXTERNAL},
    tests,
};

pub fn trials() -> Vec<Test> {
    tests![
        fib_lookup_is_enabled_on_loopback_alone,
        a_reset_of_ip_forward_is_repaired_by_enabling_again,
        interfaces_the_kernel_forwards_from_are_told,
    ]
}

fn fib_lookup_is_enabled_on_loopback_alone() {
    lab::run(|_| async {
        set("ip_forward", "0");
        let others =
            ["ip_forward", "conf/all/forwarding", "conf/default/forwarding", "conf/external/forwarding"];
        assert_eq!(others.map(get), ["0"; 4]);
        assert!(enable_fib_lookup().unwrap());
        assert_eq!(get("conf/lo/forwarding"), "1");
        assert_eq!(others.map(get), ["0"; 4]);
        assert!(!enable_fib_lookup().unwrap());
    });
}

fn a_reset_of_ip_forward_is_repaired_by_enabling_again() {
    lab::run(|_| async {
        enable_fib_lookup().unwrap();
        set("ip_forward", "1");
        set("ip_forward", "0");
        assert_eq!(get("conf/lo/forwarding"), "0");
        assert!(enable_fib_lookup().unwrap());
        assert_eq!(get("conf/lo/forwarding"), "1");
    });
}

fn interfaces_the_kernel_forwards_from_are_told() {
    lab::run(|lab| async move {
        set("ip_forward", "0");
        enable_fib_lookup().unwrap();
        let asked = [lab.external, 4711];
        assert_eq!(forwarding_interfaces(&asked).unwrap(), Vec::<u32>::new());
        set(&format!("conf/{EXTERNAL}/forwarding"), "1");
        assert_eq!(forwarding_interfaces(&asked).unwrap(), [lab.external]);
    });
}

fn get(setting: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/ipv4/{setting}")).unwrap().trim().to_owned()
}

fn set(setting: &str, value: &str) {
    fs::write(format!("/proc/sys/net/ipv4/{setting}"), value).unwrap();
}
