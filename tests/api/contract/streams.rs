//! Attach, exec and logs: hijack, framing, half-close, terminals, and the json-file log.

use droste_test_support::container::{exec_start, idle, sh, sh_with};
use droste_test_support::{Engine, Frame, demultiplex, json, t};

const RAW: &str = "application/vnd.docker.raw-stream";
const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

fn out(data: &str) -> Frame {
    Frame { stream: 1, data: data.as_bytes().to_vec() }
}

fn err(data: &str) -> Frame {
    Frame { stream: 2, data: data.as_bytes().to_vec() }
}

#[test]
fn attach_with_an_upgrade() {
    let e = Engine::shared();
    let c = e.create(sh("echo out; sleep 0.2; echo err >&2"));
    let open = e.request("POST", &format!("/containers/{c}/attach?stream=1&stdout=1&stderr=1")).upgrade().open();
    assert_eq!((open.status, open.reason.as_str()), (101, "UPGRADED"));
    assert_eq!(open.header("Content-Type"), Some(MULTIPLEXED));
    assert_eq!(open.header("Connection"), Some("Upgrade"));
    assert_eq!(open.header("Upgrade"), Some("tcp"));
    let mut raw = open.hijack();
    c.start();
    assert_eq!(raw.frame(), Some(out("out\n")));
    assert_eq!(raw.frame(), Some(err("err\n")));
    assert_eq!(raw.frame(), None);
}

#[test]
fn attach_without_an_upgrade() {
    let e = Engine::shared();
    let c = e.create(sh("echo out"));
    let open = e.request("POST", &format!("/containers/{c}/attach?stream=1&stdout=1&stderr=1")).open();
    assert_eq!(open.status, 200);
    assert_eq!(open.header("Content-Type"), Some(RAW));
    assert_eq!((open.header("Content-Length"), open.header("Transfer-Encoding")), (None, None));
    let mut raw = open.hijack();
    c.start();
    assert_eq!(raw.frame(), Some(out("out\n")));
    assert_eq!(raw.frame(), None);
}

#[test]
fn attach_before_v1_42_says_raw() {
    let e = Engine::shared();
    let c = e.create(sh("echo out"));
    let open = e.request("POST", &format!("/v1.41/containers/{c}/attach?stream=1&stdout=1")).upgrade().open();
    assert_eq!((open.status, open.header("Content-Type")), (101, Some(RAW)));
}

#[test]
fn attach_chooses_streams() {
    let e = Engine::shared();
    let c = e.create(sh("echo out; echo err >&2"));
    let mut only_err = c.attach("stream=1&stderr=1");
    c.start();
    assert_eq!(only_err.frame(), Some(err("err\n")));
    assert_eq!(only_err.frame(), None);
    t!(e, POST "/containers/{c}/attach?stream=1&detachKeys=nope", 400, "text" has "Invalid detach keys (nope) provided");
}

#[test]
fn half_close_leaves_the_output_open() {
    let e = Engine::shared();
    let c = e.create(sh("read x < /tmp/fifo; echo late"));
    let mut raw = c.attach("stream=1&stdout=1&stderr=1");
    raw.close_write();
    let mut body = sh("echo early; sleep 0.3; echo late");
    body["AttachStdout"] = json!(true);
    let c = e.create(body);
    let mut raw = c.attach("stream=1&stdout=1&stderr=1");
    raw.close_write();
    c.start();
    assert_eq!(demultiplex(&raw.rest()).0, "early\nlate\n");
}

#[test]
fn stdin_reaches_the_process_and_ends() {
    let e = Engine::shared();
    let mut body = json!({"Cmd": ["sh", "-c", "cat; echo eof"], "OpenStdin": true, "StdinOnce": true, "AttachStdin": true});
    let c = e.create(body.clone());
    let mut raw = c.attach("stream=1&stdin=1&stdout=1&stderr=1");
    c.start();
    raw.write(b"one\n");
    assert_eq!(raw.frame(), Some(out("one\n")));
    raw.write(b"two\n");
    raw.close_write();
    assert_eq!(demultiplex(&raw.rest()).0, "two\neof\n");
    assert_eq!(c.wait(), 0);
    // Without StdinOnce the input stays open for whoever attaches next.
    body["StdinOnce"] = json!(false);
    let c = e.create(body);
    let mut raw = c.attach("stream=1&stdin=1&stdout=1");
    c.start();
    raw.write(b"one\n");
    assert_eq!(raw.frame(), Some(out("one\n")));
    drop(raw);
    let mut raw = c.attach("stream=1&stdin=1&stdout=1");
    raw.write(b"two\n");
    assert_eq!(raw.frame(), Some(out("two\n")));
}

#[test]
fn attach_with_logs_replays() {
    let e = Engine::shared();
    let c = e.run(sh("echo first; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo second"));
    c.await_log("first");
    let mut raw = c.attach("logs=1&stream=1&stdout=1&stderr=1");
    assert_eq!(raw.frame(), Some(out("first\n")));
    assert_eq!(c.exec(&["touch", "/tmp/go"]).code, 0);
    assert_eq!(raw.frame(), Some(out("second\n")));
    assert_eq!(raw.frame(), None);
    let mut raw = c.attach("logs=1&stdout=1");
    assert_eq!(demultiplex(&raw.rest()).0, "first\nsecond\n");
}

#[test]
fn several_attached_see_the_same() {
    let e = Engine::shared();
    let c = e.create(sh("for i in 1 2 3 4 5; do echo $i; done"));
    let mut all: Vec<_> = (0..4).map(|_| c.attach("stream=1&stdout=1&stderr=1")).collect();
    c.start();
    for raw in &mut all {
        assert_eq!(demultiplex(&raw.rest()).0, "1\n2\n3\n4\n5\n");
    }
}

#[test]
fn much_output_arrives_whole() {
    let e = Engine::shared();
    let c = e.create(sh("head -c 3000000 /dev/zero | tr '\\0' x"));
    let mut raw = c.attach("stream=1&stdout=1&stderr=1");
    c.start();
    assert_eq!(demultiplex(&raw.rest()).0.len(), 3_000_000);
    assert_eq!(c.wait(), 0);
    assert_eq!(c.logs().0.len(), 3_000_000);
}

#[test]
fn a_terminal_is_raw() {
    let e = Engine::shared();
    let mut body = sh("test -t 0 && test -t 1 && test -t 2 && echo tty; read x; echo got:$x; stty size");
    body["Tty"] = json!(true);
    body["OpenStdin"] = json!(true);
    body["Env"] = json!(["A=b"]);
    body["HostConfig"] = json!({"ConsoleSize": [30, 90]});
    let c = e.create(body);
    let open = e.request("POST", &format!("/containers/{c}/attach?stream=1&stdin=1&stdout=1&stderr=1")).upgrade().open();
    assert_eq!((open.status, open.header("Content-Type")), (101, Some(RAW)));
    let mut raw = open.hijack();
    c.start();
    assert_eq!(raw.until("tty\r\n"), "tty\r\n");
    t!(e, POST "/containers/{c}/resize?h=40&w=100", 200, "text" == "");
    raw.write(b"in\n");
    assert_eq!(String::from_utf8_lossy(&raw.rest()), "in\r\ngot:in\r\n40 100\r\n");
    let log = t!(e, GET "/containers/{c}/logs?stdout=1", 200, "@Content-Type" == RAW);
    assert_eq!(log.text(), "tty\r\nin\r\ngot:in\r\n40 100\r\n");
    t!(e, POST "/containers/{c}/resize?h=x&w=1", 400, ".message" has "invalid resize height");
}

#[test]
fn a_terminal_has_its_first_size() {
    let e = Engine::shared();
    let mut body = sh("stty size; echo $TERM");
    body["Tty"] = json!(true);
    body["HostConfig"] = json!({"ConsoleSize": [30, 90]});
    let c = e.run(body);
    assert_eq!(c.wait(), 0);
    t!(e, GET "/containers/{c}/logs?stdout=1", 200, "text" == "30 90\r\nxterm\r\n");
}

#[test]
fn detach_keys_end_the_connection_only() {
    let e = Engine::shared();
    let mut body = sh("while :; do sleep 1000; done");
    body["Tty"] = json!(true);
    body["OpenStdin"] = json!(true);
    let c = e.run(body);
    let mut raw = c.attach("stream=1&stdin=1&stdout=1&stderr=1");
    raw.write(b"\x10\x11");
    let rest = raw.rest();
    assert!(!rest.contains(&0x11), "{rest:?}");
    t!(e, GET "/containers/{c}/json", 200, ".State.Running" == true);
    let mut raw = c.attach("stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x");
    raw.write(b"\x01x");
    raw.rest();
    t!(e, GET "/containers/{c}/json", 200, ".State.Running" == true);
}

#[test]
fn exec_create_and_inspect() {
    let e = Engine::shared();
    let c = e.run(idle());
    let id = c.exec_create(&json!({"Cmd": ["sh", "-c", "exit 6"], "AttachStdout": true, "User": "app", "Tty": false, "Privileged": false}));
    let reply = t!(e, GET "/exec/{id}/json", 200, ".ID" == id, ".Running" == false, ".ExitCode" == null, ".ProcessConfig.entrypoint" == "sh",
        ".ProcessConfig.arguments" == ["-c", "exit 6"], ".ProcessConfig.tty" == false, ".ProcessConfig.privileged" == false,
        ".ProcessConfig.user" == "app", ".OpenStdin" == false, ".OpenStderr" == false, ".OpenStdout" == true, ".CanRemove" == false,
        ".ContainerID" == (c.id), ".DetachKeys" == "", ".Pid" == 0);
    crate::typed::<bollard_stubs::models::ExecInspectResponse>(&reply);
    t!(e, GET "/containers/{c}/json", 200, ".ExecIDs" == [id]);
    exec_start(e, &id, false).rest();
    t!(e, GET "/exec/{id}/json", 200, ".Running" == false, ".ExitCode" == 6);
    t!(e, POST "/exec/{id}/start" {"Detach": true}, 409, ".message" has "has already run");
}

#[test]
fn exec_errors() {
    let e = Engine::shared();
    let c = e.run(idle());
    t!(e, POST "/containers/{c}/exec" {}, 400, ".message" == "No exec command specified");
    t!(e, POST "/containers/{c}/exec" {"Cmd": []}, 400, ".message" == "No exec command specified");
    t!(e, GET "/exec/nope/json", 404, ".message" == "No such exec instance: nope");
    t!(e, POST "/exec/nope/start" {"Detach": true}, 404, ".message" == "No such exec instance: nope");
    t!(e, POST "/exec/nope/resize?h=1&w=1", 404, ".message" == "No such exec instance: nope");
    let id = c.exec_create(&json!({"Cmd": ["/no/such"], "AttachStdout": true, "AttachStderr": true}));
    let text = String::from_utf8_lossy(&exec_start(e, &id, false).rest()).into_owned();
    assert!(text.contains("exec: \"/no/such\": stat /no/such: no such file or directory"), "{text}");
    t!(e, GET "/exec/{id}/json", 200, ".ExitCode" == 127, ".Running" == false);
    t!(e, POST "/containers/{c}/exec" {"Cmd": ["true"], "User": "nobody-here"}, 400,
        ".message" == "unable to find user nobody-here: no matching entries in passwd file");
}

#[test]
fn exec_streams() {
    let e = Engine::shared();
    let c = e.run(idle());
    let id =
        c.exec_create(&json!({"Cmd": ["sh", "-c", "echo out; sleep 0.2; echo err >&2; sleep 0.1; cat; exit 3"], "AttachStdin": true, "AttachStdout": true, "AttachStderr": true}));
    let open = e.request("POST", &format!("/exec/{id}/start")).json(&json!({"Detach": false, "Tty": false})).upgrade().open();
    assert_eq!((open.status, open.reason.as_str()), (101, "UPGRADED"));
    assert_eq!(open.header("Content-Type"), Some(MULTIPLEXED));
    let mut raw = open.hijack();
    assert_eq!(raw.frame(), Some(out("out\n")));
    assert_eq!(raw.frame(), Some(err("err\n")));
    t!(e, GET "/exec/{id}/json", 200, ".Running" == true, ".ExitCode" == null, ".Pid" is positive);
    raw.write(b"in\n");
    assert_eq!(raw.frame(), Some(out("in\n")));
    raw.close_write();
    assert_eq!(raw.frame(), None);
    t!(e, GET "/exec/{id}/json", 200, ".Running" == false, ".ExitCode" == 3);
}

#[test]
fn exec_without_an_upgrade() {
    let e = Engine::shared();
    let c = e.run(idle());
    let id = c.exec_create(&json!({"Cmd": ["echo", "hi"], "AttachStdout": true}));
    let open = e.request("POST", &format!("/exec/{id}/start")).json(&json!({"Detach": false})).open();
    assert_eq!((open.status, open.header("Content-Type")), (200, Some(RAW)));
    let mut raw = open.hijack();
    assert_eq!(raw.frame(), Some(out("hi\n")));
    assert_eq!(raw.frame(), None);
}

#[test]
fn exec_detached() {
    let e = Engine::shared();
    let c = e.run(idle());
    let id = c.exec_create(&json!({"Cmd": ["sh", "-c", "echo x > /tmp/done"]}));
    t!(e, POST "/exec/{id}/start" {"Detach": true}, 200, "text" == "");
    while c.exec(&["test", "-s", "/tmp/done"]).code != 0 {}
}

#[test]
fn exec_options() {
    let e = Engine::shared();
    let c = e.run(json!({"Cmd": ["sleep", "1000"], "Env": ["FROM=container"], "WorkingDir": "/home"}));
    assert_eq!(c.exec(&["pwd"]).out, "/home\n");
    assert_eq!(c.exec(&["sh", "-c", "echo $FROM"]).out, "container\n");
    assert_eq!(c.exec_with(json!({"Cmd": ["sh", "-c", "echo $FROM $MORE"], "Env": ["MORE=exec", "FROM=exec"]})).out, "exec exec\n");
    assert_eq!(c.exec_with(json!({"Cmd": ["pwd"], "WorkingDir": "/etc"})).out, "/etc\n");
    assert_eq!(c.exec_with(json!({"Cmd": ["id"], "User": "app"})).out, "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)\n");
    assert_eq!(c.exec_with(json!({"Cmd": ["id"], "User": "7:8"})).out, "uid=7 gid=8 groups=8\n");
    let caps = |privileged: bool| c.exec_with(json!({"Cmd": ["grep", "CapEff", "/proc/self/status"], "Privileged": privileged})).out;
    assert_eq!(caps(false), "CapEff:\t00000000a80425fb\n");
    assert!(caps(true) > caps(false), "{}", caps(true));
}

#[test]
fn exec_with_a_terminal() {
    let e = Engine::shared();
    let c = e.run(idle());
    let id = c.exec_create(&json!({"Cmd": ["sh", "-c", "stty size; read x; stty size"], "Tty": true, "AttachStdin": true, "AttachStdout": true, "ConsoleSize": [20, 70]}));
    let open = e.request("POST", &format!("/exec/{id}/start")).json(&json!({"Tty": true, "ConsoleSize": [20, 70]})).upgrade().open();
    assert_eq!((open.status, open.header("Content-Type")), (101, Some(RAW)));
    let mut raw = open.hijack();
    assert_eq!(raw.until("\r\n"), "20 70\r\n");
    t!(e, POST "/exec/{id}/resize?h=33&w=77", 200);
    raw.write(b"\n");
    assert_eq!(String::from_utf8_lossy(&raw.rest()), "\r\n33 77\r\n");
}

#[test]
fn logs_are_framed() {
    let e = Engine::shared();
    let c = e.run(sh("echo out; sleep 0.05; echo err >&2; sleep 0.05; printf tail"));
    c.wait();
    let reply = t!(e, GET "/containers/{c}/logs?stdout=1&stderr=1", 200, "@Content-Type" == MULTIPLEXED);
    assert_eq!(reply.body, b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n\x01\0\0\0\0\0\0\x04tail");
    assert_eq!(t!(e, GET "/containers/{c}/logs?stderr=1", 200).body, b"\x02\0\0\0\0\0\0\x04err\n");
    assert_eq!(t!(e, GET "/v1.41/containers/{c}/logs?stderr=1", 200, "@Content-Type" == RAW).body, b"\x02\0\0\0\0\0\0\x04err\n");
    t!(e, GET "/containers/{c}/logs", 400, ".message" == "Bad parameters: you must choose at least one stream");
    t!(e, GET "/containers/{c}/logs?stdout=0&stderr=false", 400, ".message" == "Bad parameters: you must choose at least one stream");
}

#[test]
fn logs_tail() {
    let e = Engine::shared();
    let c = e.run(sh("for i in 1 2 3 4 5; do echo $i; done"));
    c.wait();
    let tail = |n: &str| demultiplex(&e.request("GET", &format!("/containers/{c}/logs?stdout=1&tail={n}")).send().body).0;
    assert_eq!(tail("2"), "4\n5\n");
    assert_eq!(tail("0"), "");
    assert_eq!(tail("all"), "1\n2\n3\n4\n5\n");
    assert_eq!(tail("-1"), "1\n2\n3\n4\n5\n");
    assert_eq!(tail("99"), "1\n2\n3\n4\n5\n");
    assert_eq!(tail("x"), "1\n2\n3\n4\n5\n");
}

#[test]
fn logs_timestamps_since_until() {
    let e = Engine::shared();
    let c = e.run(sh("echo one; sleep 1.2; echo two"));
    c.wait();
    let logs = |query: &str| demultiplex(&e.request("GET", &format!("/containers/{c}/logs?stdout=1&{query}")).send().body).0;
    let stamped = logs("timestamps=1");
    let lines: Vec<(&str, &str)> = stamped.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(lines.iter().map(|l| l.1).collect::<Vec<_>>(), ["one", "two"]);
    for (stamp, _) in &lines {
        assert_eq!((stamp.len(), stamp.as_bytes()[19], stamp.ends_with('Z')), (30, b'.', true), "{stamp}");
    }
    let seconds = epoch(lines[1].0);
    assert_eq!(logs(&format!("since={seconds}")), "two\n");
    assert_eq!(logs(&format!("until={seconds}")), "one\n");
    assert_eq!(logs(&format!("since={}.000000000", seconds + 1000)), "");
    t!(e, GET "/containers/{c}/logs?stdout=1&since=x", 400 | 500);
}

#[test]
fn logs_follow_ends_with_the_container() {
    let e = Engine::shared();
    let c = e.run(sh("echo one; while [ ! -e /tmp/go ]; do sleep 0.02; done; i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); done; echo last"));
    let mut open = e.request("GET", &format!("/containers/{c}/logs?stdout=1&follow=1")).open();
    assert_eq!((open.status, open.is_chunked()), (200, true));
    assert_eq!(open.piece().unwrap(), b"\x01\0\0\0\0\0\0\x04one\n");
    assert_eq!(c.exec(&["touch", "/tmp/go"]).code, 0);
    let rest = demultiplex(&open.finish().body).0;
    assert!(rest.ends_with("199\nlast\n"), "{rest}");
    assert_eq!(rest.lines().count(), 201);
}

#[test]
fn long_lines_are_joined_again() {
    let e = Engine::shared();
    let c = e.run(sh("head -c 40000 /dev/zero | tr '\\0' y; echo; echo end"));
    c.wait();
    let (text, _) = c.logs();
    assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [40000, 3]);
    let one = demultiplex(&t!(e, GET "/containers/{c}/logs?stdout=1&tail=1", 200).body).0;
    assert_eq!(one, "end\n");
    let stamped = demultiplex(&t!(e, GET "/containers/{c}/logs?stdout=1&timestamps=1", 200).body).0;
    assert_eq!(stamped.lines().count(), 2);
}

#[test]
fn logs_details() {
    let e = Engine::shared();
    let mut body = sh_with("echo hi", json!({"LogConfig": {"Type": "json-file", "Config": {"labels": "colour", "env": "SHAPE"}}}));
    body["Labels"] = json!({"colour": "red"});
    body["Env"] = json!(["SHAPE=round"]);
    let c = e.run(body);
    c.wait();
    let text = demultiplex(&t!(e, GET "/containers/{c}/logs?stdout=1&details=1", 200).body).0;
    assert_eq!(text, "SHAPE=round,colour=red hi\n");
}

#[test]
fn log_drivers() {
    let e = Engine::shared();
    let c = e.run(sh_with("echo hi", json!({"LogConfig": {"Type": "none"}})));
    c.wait();
    t!(e, GET "/containers/{c}/logs?stdout=1", 500 | 501, ".message" has "configured logging driver does not support reading");
    let c = e.run(sh_with("echo hi; echo ho >&2", json!({"LogConfig": {"Type": "local"}})));
    c.wait();
    assert_eq!(c.logs(), ("hi\n".to_owned(), "ho\n".to_owned()));
    let c = e
        .run(sh_with("i=0; while [ $i -lt 3000 ]; do echo line-$i; i=$((i+1)); done", json!({"LogConfig": {"Type": "json-file", "Config": {"max-size": "20k", "max-file": "2"}}})));
    c.wait();
    let (text, _) = c.logs();
    assert!(text.ends_with("line-2998\nline-2999\n"), "{text}");
    assert!(!text.contains("line-0\n") && text.lines().count() > 100, "{}", text.lines().count());
}

/// Whole seconds since 1970 of a timestamp in UTC.
fn epoch(stamp: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| stamp[range].parse::<i64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let shifted = if month > 2 { year } else { year - 1 };
    let era_day = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + (153 * ((month + 9) % 12) + 2) / 5 + day - 719_469;
    era_day * 86400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19)
}
