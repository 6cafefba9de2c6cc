//! Attaching by WebSocket: the handshake, bytes in both directions without Docker's frames, and the end.

use droste_test_support::{Container, Engine, Raw, json, t};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn attach(e: &Engine, c: &Container<'_>, query: &str) -> Raw {
    let request = e.request("GET", &format!("/containers/{c}/attach/ws?{query}"));
    let request = request.header("Upgrade", "websocket").header("Connection", "Upgrade").header("Origin", "http://localhost");
    let open = request.header("Sec-WebSocket-Version", "13").header("Sec-WebSocket-Key", KEY).open();
    assert_eq!(open.status, 101, "{:?}", open.headers);
    assert_eq!(open.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    open.hijack()
}

/// A client's frame, which is masked.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap()].into_iter().chain(mask).chain(masked).collect()
}

/// The kinds and payloads of a server's short frames.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let [kind, length, rest @ ..] = bytes {
        assert!(*length < 126, "a short frame");
        let (payload, after) = rest.split_at(usize::from(*length));
        all.push((*kind, payload.to_vec()));
        bytes = after;
    }
    all
}

#[test]
fn bytes_go_both_ways() {
    let e = Engine::shared();
    let c = e.create(json!({"Cmd": ["sh", "-c", "read x; echo out $x; read y; echo err $y >&2"], "OpenStdin": true, "StdinOnce": true,
        "AttachStdin": true, "AttachStdout": true, "AttachStderr": true}));
    let mut raw = attach(e, &c, "stream=1&stdin=1&stdout=1&stderr=1");
    c.start();
    raw.write(&frame(1, b"one\n"));
    let first = raw.until("out one\n");
    raw.write(&frame(2, b"two\n"));
    let rest = [first.into_bytes(), raw.rest()].concat();
    let text = String::from_utf8_lossy(&rest);
    assert!(text.contains("out one\n") && text.contains("err two\n"), "{text}");
    assert_eq!(c.wait(), 0);
}

#[test]
fn messages_are_binary() {
    let e = Engine::shared();
    let c = e.create(json!({"Cmd": ["echo", "hello"], "AttachStdout": true}));
    let mut raw = attach(e, &c, "stream=1&stdout=1");
    c.start();
    let got = frames(&raw.rest());
    assert_eq!(got[0], (0x82, b"hello\n".to_vec()));
    // What follows is at most the end.
    assert!(got[1..].iter().all(|(kind, _)| *kind == 0x88), "{got:?}");
}

#[test]
fn what_was_logged_comes_first() {
    let e = Engine::shared();
    let c = e.run(json!({"Cmd": ["echo", "before"]}));
    c.wait();
    let got = frames(&attach(e, &c, "logs=1&stdout=1").rest());
    assert_eq!(got[0], (0x82, b"before\n".to_vec()));
}

#[test]
fn a_request_that_is_no_handshake_is_refused() {
    let e = Engine::shared();
    let c = e.run(droste_test_support::container::idle());
    t!(e, GET "/containers/{c}/attach/ws?stream=1&stdout=1", 400);
    t!(e, GET "/containers/nope/attach/ws?stream=1&stdout=1", 400 | 404);
    t!(e, GET "/containers/{c}/json", 200, ".State.Running" == true);
}

#[test]
fn a_ping_is_answered_and_a_close_ends() {
    let e = Engine::shared();
    let c = e.run(json!({"Cmd": ["cat"], "OpenStdin": true}));
    let mut raw = attach(e, &c, "stream=1&stdin=1&stdout=1");
    raw.write(&frame(9, b"there?"));
    raw.write(&frame(1, b"still\n"));
    let mut got = raw.until("still\n").into_bytes();
    raw.write(&frame(8, &1000_u16.to_be_bytes()));
    got.extend(raw.rest());
    let text = String::from_utf8_lossy(&got);
    assert!(text.contains("there?") && text.contains("still\n"), "{text}");
    t!(e, GET "/containers/{c}/json", 200, ".State.Running" == true);
}
