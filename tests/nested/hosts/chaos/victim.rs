//! A host that dies, with a host on it and a container on that, and what it left behind.

use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;

use droste_test_support::{Engine, json};
use fastrand::Rng;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::at_last;
use super::calls::Place;
use crate::{host_body, init_of, sleeper};

/// A host that dies.
pub(super) struct Victim {
    id: String,
    init: Process,
    inner_init: Process,
    places: [String; 2],
}

/// A process that is killed, and no other that gets its number.
pub(super) struct Process(OwnedFd);

impl Process {
    pub(super) fn new(pid: Pid) -> Self {
        Self(pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    /// Kills it, if it is still there.
    pub(super) fn kill(&self) {
        match pidfd_send_signal(&self.0, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => panic!("kill a host's first process: {error}"),
        }
    }
}

impl Victim {
    pub(super) fn new(e: &Engine, rng: &mut Rng) -> Self {
        let more = match rng.u8(..3) {
            0 => json!({"AutoRemove": true}),
            1 => json!({"RestartPolicy": {"Name": "always"}}),
            _ => json!({}),
        };
        let outer = ManuallyDrop::new(e.create(host_body(more)));
        outer.start();
        let host = e.host_of(&outer);
        let inner = ManuallyDrop::new(host.create_named("x0", host_body(json!({"RestartPolicy": {"Name": "always"}}))));
        inner.start();
        let deeper = host.host_of(&inner);
        let deepest = ManuallyDrop::new(deeper.create_named("x0", sleeper(json!({"RestartPolicy": {"Name": "always"}}))));
        deepest.start();
        Self { id: outer.id.clone(), init: Process::new(init_of(e, &outer)), inner_init: Process::new(init_of(&host, &inner)), places: [host.host(), deeper.host()] }
    }

    /// Where clients can speak to it and to the host on it.
    pub(super) fn places(&self) -> [Place; 2] {
        self.places.clone().map(|address| Place::at(address, "v"))
    }

    pub(super) fn kill(&self) {
        self.init.kill();
    }

    pub(super) fn kill_inner(&self) {
        self.inner_init.kill();
    }

    /// A call about it that may come too late.
    pub(super) fn ask(&self, e: &Engine, method: &str, rest: &str) {
        let reply = e.request(method, &format!("/containers/{}{rest}", self.id)).send();
        assert!(matches!(reply.status, 204 | 304 | 404 | 409), "{method} {rest}: {} {}", reply.status, reply.text());
    }

    /// Removes it, if it is still there.
    pub(super) fn remove(&self, e: &Engine) {
        at_last(|| {
            self.ask(e, "DELETE", "?force=1&v=1");
            let there = e.request("GET", &format!("/containers/{}/json", self.id)).send();
            if there.status == 404 { Ok(()) } else { Err(format!("the end of {}", there.text())) }
        });
    }
}
