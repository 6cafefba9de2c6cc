//! A registry's replies, raw: each request gets the next piece of the input, whatever it asked for.
#![no_main]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use droste_image::registry::{Auth, PullOptions, Registry, RegistrySettings};
use droste_image::{Limits, Store};
use droste_model::reference::Reference;
use libfuzzer_sys::fuzz_target;

static REPLIES: Mutex<VecDeque<Vec<u8>>> = Mutex::new(VecDeque::new());

/// A server for the whole run.
fn port() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || drop(serve(stream)));
            }
        });
        port
    })
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; 4096];
    loop {
        let count = stream.read(&mut request)?;
        // TLS is tried first.
        if count == 0 || !request[0].is_ascii_alphabetic() {
            return Ok(());
        }
        let Some(reply) = REPLIES.lock().expect("no panic here").pop_front() else { return Ok(()) };
        stream.write_all(&reply)?;
    }
}

thread_local! {
    static RUNTIME: RefCell<tokio::runtime::Runtime> =
        RefCell::new(tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));
}

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let work = tempfile::tempdir().expect("a directory");
    let store = Store::open(work.path()).expect("a store");
    *REPLIES.lock().expect("no panic here") = pieces.into();
    let stall = Duration::from_millis(30);
    let registry = Registry::new(RegistrySettings { stall, attempts: 1, ..RegistrySettings::default() });
    let name: Reference = format!("127.0.0.1:{}/app:1", port()).parse().expect("a name");
    let options = PullOptions { limits: Limits { bytes: 1 << 20, entries: 100 }, ..PullOptions::default() };
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            let _ = registry.pull(&store, &name, &options, Arc::new(|_| {})).await;
            let _ = registry.tags(&name, &Auth::default()).await;
        });
    });
});
