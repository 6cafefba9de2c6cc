//! The kernel takes our programs and does as they say.
//!
//! A filter is applied to a thread of its own, whose end is the filter's end. Needs no privilege, because
//! `no_new_privs` is set first.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::fs;
use std::thread;

use droste_confine::seccomp::{Context, Profile, Program};
use droste_confine::{Arch, Capabilities, KernelVersion};
use rustix::io::Errno;
use seccompiler::{BpfProgram, sock_filter};

fn compile(profile: &Profile) -> Program {
    let arch = Arch::native().expect("x86-64 or aarch64");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let kernel: KernelVersion = release.parse().unwrap();
    profile.compile(&Context { arch, kernel, capabilities: Capabilities::DOCKER_DEFAULT }).unwrap().unwrap()
}

fn under<T: Send + 'static>(programs: Vec<Program>, act: impl FnOnce() -> T + Send + 'static) -> T {
    let job = move || {
        for program in programs {
            let one = |one: &droste_confine::seccomp::Instruction| sock_filter {
                code: one.code,
                jt: one.jump_true,
                jf: one.jump_false,
                k: one.operand,
            };
            let filter: BpfProgram = program.instructions().iter().map(one).collect();
            seccompiler::apply_filter(&filter).expect("the kernel takes the program");
        }
        act()
    };
    thread::spawn(job).join().unwrap()
}

#[test]
fn default_profile_refuses_and_permits() {
    let program = compile(&Profile::docker_default());
    let (pid, domain) = under(vec![program], || (rustix::process::getpid(), rustix::system::setdomainname(b"x")));
    assert_eq!(pid, rustix::process::getpid());
    assert_eq!(domain, Err(Errno::PERM));
}

#[test]
fn joined_programs_refuse_what_either_refuses() {
    let json = |name: &str, errno: u32| {
        let rule = format!(r#"{{"names":["{name}"],"action":"SCMP_ACT_ERRNO","errnoRet":{errno}}}"#);
        format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#)
    };
    let outer = compile(&Profile::from_json(&json("getpriority", 5)).unwrap());
    let inner = compile(&Profile::from_json(&json("sync", 6)).unwrap());
    let stacked = Program::stacked(vec![outer.clone(), inner.clone(), outer.clone()]);
    assert_eq!(stacked.len(), 1);
    let ask = || (rustix::process::getpriority_process(None), rustix::process::getppid().is_some());
    assert_eq!(under(stacked, ask).0, Err(Errno::IO));
    assert!(under(vec![inner, outer], ask).0.is_err());
    assert!(under(vec![], ask).0.is_ok());
}

#[test]
fn the_default_program_is_short() {
    let length = compile(&Profile::docker_default()).instructions().len();
    assert!((100..1500).contains(&length), "{length} instructions");
}
