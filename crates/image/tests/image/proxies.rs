//! Registries that are reached through a proxy only: `CONNECT` for TLS, whole addresses without.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use droste_image::registry::{Auth, Proxies, Registry, RegistrySettings};
use droste_model::reference::Reference;

use crate::registry::{Server, Wanted, me, quick, round_trip, trust};

/// `me:secret` as a proxy is told it.
const AUTHORIZATION: &str = "Proxy-Authorization: Basic bWU6c2VjcmV0";

/// A proxy that wants a password, and finds every name on this machine's loopback address.
struct Proxy {
    port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, lines) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
        let told = Arc::clone(&lines);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let told = Arc::clone(&told);
                std::thread::spawn(move || drop(pass_on(stream, &told)));
            }
        });
        Self { port, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

fn pass_on(mut client: TcpStream, told: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head: Vec<String> = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    told.lock().unwrap().push(head[0].clone());
    if !head.iter().any(|line| line.eq_ignore_ascii_case(AUTHORIZATION)) {
        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(());
    }
    let words: Vec<&str> = head[0].split(' ').collect();
    let (authority, path) = match words[1].strip_prefix("http://") {
        Some(rest) => rest.split_at(rest.find('/').unwrap()),
        None => (words[1], ""),
    };
    let port: u16 = authority.rsplit(':').next().unwrap().parse().unwrap();
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    if words[0] == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        // One request for each connection, so that each is seen.
        write!(server, "{} {path} HTTP/1.1\r\nConnection: close\r\n", words[0])?;
        for line in head[1..].iter().filter(|line| !line.eq_ignore_ascii_case(AUTHORIZATION)) {
            write!(server, "{line}\r\n")?;
        }
        server.write_all(b"\r\n")?;
    }
    let mut to_server = server.try_clone()?;
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut reader, &mut to_server);
        to_server.shutdown(Shutdown::Write)
    });
    std::io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Both)
}

/// A client that can reach nothing but the proxy.
fn behind(proxy: &Proxy, user: &str, settings: RegistrySettings) -> Registry {
    let address = format!("http://{user}proxy.test:{}", proxy.port);
    let proxies = Proxies { http: address.clone(), https: address, no: "near.test".to_owned() };
    let connect = |host: &str, port| {
        let known = host == "proxy.test";
        Box::pin(async move {
            match known {
                true => tokio::net::TcpStream::connect(("127.0.0.1", port)).await,
                false => Err(std::io::ErrorKind::HostUnreachable.into()),
            }
        }) as droste_image::registry::Connecting
    };
    Registry::with_connect(RegistrySettings { proxies, ..settings }, Arc::new(connect))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_through_a_tunnel() {
    let (server, proxy) = (Server::start(Wanted { tls: true, passwords: true }), Proxy::start());
    let reference: Reference = format!("registry.test:{}/app:1", server.port).parse().unwrap();
    let certs = server.directory.path().join("certs.d");
    trust(&certs, reference.domain(), &server.directory.path().join("cert.pem"));
    let settings = RegistrySettings { certs_dirs: vec![certs], ..quick() };
    round_trip(&behind(&proxy, "me:secret@", settings.clone()), &reference, &me()).await;
    let expected = format!("CONNECT {} HTTP/1.1", reference.domain());
    assert!(!proxy.lines().is_empty() && proxy.lines().iter().all(|line| *line == expected), "{:?}", proxy.lines());
    let error = behind(&proxy, "", settings).inspect(&reference, &me()).await.unwrap_err();
    assert!(error.to_string().ends_with("Proxy Authentication Required"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_asked_of_the_proxy() {
    let (server, proxy) = (Server::start(Wanted::default()), Proxy::start());
    let reference: Reference = format!("registry.test:{}/app:1", server.port).parse().unwrap();
    let settings = RegistrySettings { insecure: vec![reference.domain().to_owned()], ..quick() };
    round_trip(&behind(&proxy, "me:secret@", settings), &reference, &Auth::default()).await;
    let plain = format!("GET http://{}/v2/app/manifests/1 HTTP/1.1", reference.domain());
    assert!(proxy.lines().contains(&plain), "{:?}", proxy.lines());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_excluded_is_reached_directly() {
    let proxy = Proxy::start();
    let near: Reference = "near.test:5000/app:1".parse().unwrap();
    let error = behind(&proxy, "me:secret@", quick()).inspect(&near, &Auth::default()).await.unwrap_err();
    assert!(error.to_string().contains("dial tcp near.test:5000"), "{error}");
    assert!(proxy.lines().is_empty());
    // A proxy that is not there is named.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gone = Proxy { port, lines: Arc::default() };
    let far: Reference = "far.test/app:1".parse().unwrap();
    let error = behind(&gone, "me:secret@", quick()).inspect(&far, &Auth::default()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("proxyconnect tcp: dial tcp proxy.test:{port}")), "{error}");
    assert!(!error.contains("secret"), "{error}");
}
