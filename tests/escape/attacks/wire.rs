//! What is sent and not what it means: bodies without end, requests within requests, keys twice, headers of others.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use droste_test_support::container::sh_with;
use droste_test_support::{Engine, json, t};

use crate::{host, inside, raw, sleeper};

/// How many replies there are in what came.
fn replies(text: &str) -> usize {
    text.matches("HTTP/1.").count()
}

#[test]
fn nobody_is_asked_for_by_a_header() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let (_s, _sibling) = host(e, json!({}));
    for at in ["", "/", &c.name, &c.id, "..", "self", "machine"] {
        let reply = h.request("GET", "/containers/json").header("Droste-At", at).send();
        assert_eq!(reply.status, 403, "{at}: {reply:?}");
        let reply = h.request("POST", &format!("/containers/{c}/stop")).header("dRoste-aT", at).send();
        assert_eq!(reply.status, 403, "{at}: {reply:?}");
    }
    assert_eq!(c.inspect()["State"]["Running"], true);
}

#[test]
fn keys_count_once() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    for body in [
        r#"{"Image":"droste-test-base","Cmd":["true"],"HostConfig":{"Privileged":false,"Privileged":true}}"#,
        r#"{"Image":"droste-test-base","Cmd":["true"],"HostConfig":{"Privileged":false,"privileged":true}}"#,
        r#"{"Image":"droste-test-base","Cmd":["true"],"HostConfig":{},"hostconfig":{"Privileged":true}}"#,
        r#"{"Image":"droste-test-base","Cmd":["true"],"Labels":{},"labels":{"droste.socket":"parent"}}"#,
        r#"{"Image":"droste-test-base","Cmd":["true"],"HostConfig":{"Bind\u0073":[],"BINDS":["/:/m"]}}"#,
    ] {
        let reply = h.request("POST", "/containers/create").bytes("application/json", body).send();
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
    }
    // A key in an odd case is the key, and is bounded as that.
    let odd = r#"{"iMaGe":"droste-test-base","cMD":["grep","CapEff","/proc/self/status"],"hOstCONFIG":{"pRIVILEGED":true,"cAPaDD":["ALL"]}}"#;
    let created = h.request("POST", "/containers/create").bytes("application/json", odd).send();
    created.expect_status(201);
    let nested = droste_test_support::Container::adopt(&h, created.json()["Id"].as_str().unwrap());
    nested.start();
    assert_eq!((nested.wait(), nested.logs().0.as_str()), (0, "CapEff:\t00000000a80425fb\n"));
}

#[test]
fn bodies_are_bounded() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    let memory = || {
        let pid = std::fs::read_to_string(e.dir().join("pid")).unwrap();
        let status = std::fs::read_to_string(e.root_path(&format!("/proc/{}/status", pid.trim()))).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = memory();
    let long = format!(r#"{{"Image":"droste-test-base","Cmd":["{}"]}}"#, "x".repeat(100 << 20));
    for target in ["/containers/create", "/networks/create", "/volumes/create", "/auth", "/exec/x/start", "/containers/x/update"] {
        let reply = h.request("POST", target).bytes("application/json", long.clone()).send();
        assert!((400..500).contains(&reply.status), "{target}: {}", reply.status);
    }
    assert!(memory() - before < 100 << 10, "the daemon kept {} kB of what it refused", memory() - before);
    let (many, deep) = ("[".repeat(100_000), r#"{"HostConfig":"#.repeat(20_000));
    for body in ["", "null", "[]", "0", "\"x\"", "{", &many, &deep, "{\"Image\":\u{0}}", "\u{feff}{}"] {
        let reply = h.request("POST", "/containers/create").bytes("application/json", body).send();
        assert!((400..500).contains(&reply.status), "{:.40}: {}", body, reply.status);
    }
    assert!((400..500).contains(&h.request("POST", "/containers/create").send().status));
    t!(h, GET "/_ping", 200);
}

/// Somebody who sends byte after byte, or nothing, keeps a connection and nothing else.
#[test]
fn slow_clients_keep_nobody_waiting() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    inside(&c, "dd if=/dev/zero of=/large bs=1M count=16 2>/dev/null");
    let mut held = Vec::new();
    let mut hold = |head: String| {
        let mut stream = UnixStream::connect(h.socket()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        held.push(stream);
    };
    for _ in 0..80 {
        hold(format!("GET /v1.51/containers/{c}/archive?path=/large HTTP/1.1\r\nHost: d\r\n\r\n"));
        hold(format!("PUT /v1.51/containers/{c}/archive?path=/tmp HTTP/1.1\r\nHost: d\r\nContent-Length: 999999\r\n\r\nx"));
        hold("POST /v1.51/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 999999\r\n\r\nx".to_owned());
        hold("GET /v1.51/images/get?names=droste-test-base HTTP/1.1\r\nHost: d\r\n\r\n".to_owned());
        hold("POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 9999\r\n\r\n{".to_owned());
        hold("POST /v1.51/images/create?fromSrc=- HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n".to_owned());
        hold("GET /v1.51/info HTTP/1.1\r\nHost: d\r\nX: ".to_owned());
    }
    // Nor do a plugin that accepts and says nothing, and registries that are nowhere.
    let plugin = std::os::unix::net::UnixListener::bind({
        std::fs::create_dir_all(h.root_path("/run/docker/plugins")).unwrap();
        h.root_path("/run/docker/plugins/mute.sock")
    });
    let plugin = plugin.unwrap();
    for _ in 0..80 {
        hold("GET /v1.51/volumes HTTP/1.1\r\nHost: d\r\n\r\n".to_owned());
        hold("POST /v1.51/images/create?fromImage=10.255.255.1:5000/x&tag=1 HTTP/1.1\r\nHost: d\r\n\r\n".to_owned());
    }
    plugin.accept().unwrap();
    // The machine and a host beside it start containers and copy files all the same.
    assert_eq!(e.output("echo fine", json!({})), "fine\n");
    let (_s, sibling) = host(e, json!({}));
    assert_eq!(sibling.output("echo fine", json!({})), "fine\n");
    for beside in [e, &sibling] {
        let other = beside.run(sleeper(json!({})));
        t!(beside, GET "/containers/{other}/archive?path=/etc/passwd", 200);
    }
    // And so does the host itself.
    assert_eq!(h.output("echo fine", json!({})), "fine\n");
    drop(held);
    let other = h.run(sleeper(json!({})));
    t!(h, GET "/containers/{other}/archive?path=/etc/passwd", 200);
}

#[test]
fn requests_hide_in_no_other() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    let victim = h.create(sh_with("sleep 1", json!({})));
    let inner = format!("DELETE /v1.51/containers/{victim}?force=1 HTTP/1.1\r\nHost: d\r\n\r\n");
    let length = inner.len();
    for head in [
        format!("POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n"),
        format!("POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: identity\r\nContent-Length: {length}\r\n\r\n"),
        format!("POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: {length}\r\nContent-Length: 0\r\n\r\n"),
        format!("POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 0, {length}\r\n\r\n"),
        "POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: xchunked\r\n\r\n".to_owned(),
        "POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked, identity\r\n\r\n".to_owned(),
        "POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n".to_owned(),
        "POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n".to_owned(),
        format!("POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: +{length}\r\n\r\n"),
        format!("POST /v1.51/containers/create HTTP/1.1\r\nHost: d\r\nContent-Length : {length}\r\n\r\n"),
        format!("GET /v1.51/_ping HTTP/1.1\r\nHost: d\r\nX: a\r\n Content-Length: {length}\r\n\r\n"),
    ] {
        let answer = raw(&h, &[head.as_bytes(), inner.as_bytes()].concat());
        // Either the second is the first's body, or both are whole requests of this client's own; never a mixture.
        assert!(replies(&answer) <= 2, "{head}: {answer}");
        t!(h, GET "/containers/{victim}/json", 200 | 404);
        if !answer.contains("204 No Content") {
            t!(h, GET "/containers/{victim}/json", 200);
        }
    }
    // A connection that was given away is no longer read for requests.
    let running = h.run(sleeper(json!({})));
    let other = h.create(sh_with("sleep 1", json!({})));
    let hijack = format!("POST /v1.51/containers/{running}/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    let second = format!("DELETE /v1.51/containers/{other}?force=1 HTTP/1.1\r\nHost: d\r\n\r\n");
    let mut stream = UnixStream::connect(h.socket()).unwrap();
    stream.write_all(&[hijack.as_bytes(), second.as_bytes()].concat()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 101");
    running.post("/kill", 204);
    let mut rest = String::new();
    let _ = stream.read_to_string(&mut rest);
    assert_eq!(replies(&rest), 0, "{rest}");
    t!(h, GET "/containers/{other}/json", 200);
}

/// Paths with dots, doubled slashes and escapes reach the route that they name and no other.
#[test]
fn odd_paths_go_nowhere_else() {
    let e = Engine::shared();
    let mut body = sleeper(json!({"Binds": [crate::SOCKET]}));
    body["Labels"] = json!({"droste.socket": "parent-ro"});
    let c = e.run(body);
    let h = e.host_of(&c);
    let victim = e.run(sleeper(json!({})));
    for path in [
        format!("/v1.51//containers/{victim}/kill"),
        format!("/v1.51/containers/x/../{victim}/kill"),
        format!("/v1.51/containers/{victim}%2Fkill"),
        format!("/v1.51/containers/{victim}/kill/"),
        format!("/v1.51/containers/{victim}/kill?x=/json"),
        format!("/v1.51/containers/{victim}/%6bill"),
        format!("/v1.51/images/../containers/{victim}/kill"),
        format!("/v9.99/containers/{victim}/kill"),
        format!("/containers/{victim}/kill"),
        format!("http://d/v1.51/containers/{victim}/kill"),
    ] {
        for method in ["POST", "GET", "post", "POST\t", "HEAD"] {
            let answer = raw(&h, format!("{method} {path} HTTP/1.1\r\nHost: d\r\nX-HTTP-Method-Override: POST\r\nContent-Length: 0\r\n\r\n").as_bytes());
            assert!(!answer.contains(" 204 ") && !answer.contains(" 200 "), "{method} {path}: {answer}");
        }
    }
    assert_eq!(victim.inspect()["State"]["Running"], true);
}
