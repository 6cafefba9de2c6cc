//! Our seccomp programs against what the real Docker's filters were seen to answer.
//!
//! `tests/data/docker-28.5.2.txt` was recorded with `tests/probe.c`, which asked the kernel under the filter of real
//! containers: every number from 0 to 599 on x86-64, x32 and 32-bit x86, and the calls whose arguments matter.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::fmt::Write;

use droste_confine::seccomp::{Context, Profile, Program, SyscallData};
use droste_confine::{Arch, Capabilities, Capability, KernelVersion};

const RECORD: &str = include_str!("data/docker-28.5.2.txt");

struct Line<'a> {
    arch: Arch,
    first: u32,
    last: u32,
    arguments: [u64; 2],
    answer: &'a str,
}

fn section(name: &str) -> Vec<Line<'static>> {
    let lines = RECORD.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
    lines.take_while(|line| !line.starts_with('[')).map(line).collect()
}

fn line(text: &'static str) -> Line<'static> {
    let words: Vec<&str> = text.split(' ').collect();
    let arch = match words[0] {
        "x86_64" => Arch::X86_64,
        "x32" => Arch::X32,
        "x86" => Arch::X86,
        other => panic!("unknown architecture {other}"),
    };
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let (first, last) = (number(1).try_into().unwrap(), number(2).try_into().unwrap());
    Line { arch, first, last, arguments: [number(3), number(4)], answer: words[5] }
}

fn answer(program: &Program, arch: Arch, number: u32, arguments: [u64; 2]) -> String {
    let [first, second] = arguments;
    let data = SyscallData { number, audit_arch: arch.audit(), arguments: [first, second, 0, 0, 0, 0x5ecc] };
    match program.answer(&data).expect("a sound program") {
        0x7fff_0000 | 0x7ffc_0000 => "ALLOW".to_owned(),
        errno if errno & 0xffff_0000 == 0x0005_0000 => (errno & 0xffff).to_string(),
        0 | 0x8000_0000 => "KILL".to_owned(),
        other => format!("{other:#x}"),
    }
}

fn compare(name: &str, profile: &Profile, capabilities: Capabilities) {
    let kernel = KernelVersion { major: 6, minor: 18 };
    let context = Context { arch: Arch::X86_64, kernel, capabilities };
    let program = profile.compile(&context).unwrap().expect("a filter");
    let mut different = String::new();
    let mut asked = 0;
    for line in section(name) {
        for number in line.first..=line.last {
            asked += 1;
            let ours = answer(&program, line.arch, number, line.arguments);
            if ours != line.answer {
                let (arch, arguments, theirs) = (line.arch, line.arguments, line.answer);
                writeln!(different, "{arch:?} {number} {arguments:x?}: Docker {theirs}, we {ours}").unwrap();
            }
        }
    }
    assert!(asked > 1900, "the record of {name} is cut short: {asked}");
    assert!(different.is_empty(), "{name}:\n{different}");
}

fn named(names: &str) -> Capabilities {
    names.split(' ').map(|name| Capability::parse(name).unwrap()).collect()
}

#[test]
fn default_profile_with_default_capabilities() {
    compare("default", &Profile::docker_default(), Capabilities::DOCKER_DEFAULT);
}

#[test]
fn default_profile_without_capabilities() {
    compare("dropall", &Profile::docker_default(), Capabilities::NONE);
}

#[test]
fn default_profile_with_sys_admin() {
    let capabilities = Capabilities::DOCKER_DEFAULT.with(Capability::SYS_ADMIN);
    compare("admin", &Profile::docker_default(), capabilities);
}

#[test]
fn default_profile_with_all_capabilities() {
    compare("all", &Profile::docker_default(), Capabilities::ALL);
}

#[test]
fn default_profile_with_other_capabilities() {
    let some = "SYS_PTRACE SYS_TIME SYSLOG BPF PERFMON SYS_NICE SYS_BOOT SYS_MODULE SYS_RAWIO";
    compare("mixed", &Profile::docker_default(), named(some));
}

#[test]
fn custom_profile_that_forbids() {
    let profile = Profile::from_json(include_str!("data/custom.json")).unwrap();
    compare("custom", &profile, Capabilities::DOCKER_DEFAULT);
}

#[test]
fn custom_profile_that_permits() {
    let profile = Profile::from_json(include_str!("data/strict.json")).unwrap();
    compare("strict", &profile, Capabilities::DOCKER_DEFAULT);
}
