//! A way into a process's network namespace: a closure runs on a thread that enters it and ends.

use std::fs::File;
use std::net::TcpStream;

use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::engine::Engine;

impl Engine {
    /// Runs `work` in the engine's network namespace.
    pub fn in_netns<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns_of(self.pid(), work)
    }

    /// Connects to a TCP port where published ports are, and reads all that is sent.
    pub fn read_port(&self, address: &str, port: u16) -> std::io::Result<String> {
        self.in_netns(|| {
            let mut stream = TcpStream::connect((address, port))?;
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stream, &mut text)?;
            Ok(text)
        })
    }
}

/// Runs `work` in the network namespace of the process `pid`.
pub fn in_netns_of<T: Send>(pid: i32, work: impl FnOnce() -> T + Send) -> T {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|e| panic!("enter {path}: {e}"));
            work()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
