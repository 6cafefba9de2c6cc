//! A way into a process's network namespace: a closure runs on a thread that enters it and ends.

use std::fs::File;
use std::net::TcpStream;
use std::path::Path;

use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::container::Container;
use crate::engine::Engine;

impl Engine {
    /// Runs `work` in the engine's network namespace.
    pub fn in_netns<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns_of(&self.netns_path(), work)
    }

    /// Runs `work` in the network namespace of a running container.
    pub fn in_netns_of_container<T: Send>(&self, container: &Container<'_>, work: impl FnOnce() -> T + Send) -> T {
        let pid = container.inspect()["State"]["Pid"].clone();
        in_netns_of(&self.root_path(&format!("/proc/{pid}/ns/net")), work)
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

/// Runs `work` in the network namespace that `path` names.
pub fn in_netns_of<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    let shown = path.display();
    let namespace = File::open(path).unwrap_or_else(|e| panic!("{shown}: {e}"));
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|e| panic!("enter {shown}: {e}"));
            work()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
