//! SCTP, which not every kernel has: the sockets of a container are made by a thread that enters its namespace, since
//! no small program speaks it.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

use droste_model::container::Resources;
use droste_model::network::NetworkMode;
use droste_model::port::{ContainerPort, PortBinding, Protocol};
use rustix::io::{read, write};
use rustix::net::{AddressFamily, SocketType, accept, bind, connect, ipproto, listen, socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::block_io::load;
use crate::engine::{Own, remove, sleeper, start};

const INSIDE: u16 = 5000;
const PUBLISHED: u16 = 15000;

fn sctp() -> OwnedFd {
    socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP)).unwrap()
}

/// Answers whoever connects to the container, from within its network namespace. Listens when this returns.
fn answer(pid: u32) {
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let namespace = File::open(format!("/proc/{pid}/ns/net")).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let server = sctp();
        bind(&server, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, INSIDE)).unwrap();
        listen(&server, 4).unwrap();
        ready.send(()).unwrap();
        while let Ok(client) = accept(&server) {
            write(&client, b"from inside").unwrap();
        }
    });
    is_ready.recv().unwrap();
}

/// What is said at an address.
fn ask(address: SocketAddrV4) -> String {
    let (client, mut said) = (sctp(), [0; 64]);
    connect(&client, &address).unwrap_or_else(|error| panic!("{address}: {error}"));
    let length = read(&client, &mut said).unwrap();
    String::from_utf8_lossy(&said[..length]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn sctp_reaches_a_published_port() {
    load("sctp");
    let own = Own::new().await;
    let mut server = sleeper("server", Resources::default());
    server.host.network_mode = NetworkMode::Default;
    let anywhere = PortBinding { host_ip: None, host_ports: Some((PUBLISHED, PUBLISHED)) };
    server.host.port_bindings = Some(BTreeMap::from([(ContainerPort { port: INSIDE, protocol: Protocol::Sctp }, Some(vec![anywhere]))]));
    start(&own, server).await;
    let view = own.container("server").unwrap();
    answer(view.state.running().unwrap().pid);
    let gateway = view.networks["bridge"].gateway4.unwrap();
    for address in [gateway, Ipv4Addr::LOCALHOST] {
        assert_eq!(ask(SocketAddrV4::new(address, PUBLISHED)), "from inside", "{address}");
    }
    remove(&own, "server").await;
}
