//! Bodies compared with those that Docker's client 28.5.2 sent for the same words. `fixtures/bodies.txt` has pairs of
//! lines: the words, and how the body differs from `fixtures/base.json`.

use serde_json::Value;

use super::*;
use crate::app::Command;
use crate::{cmd, flags};

/// Splits a line as a shell does, as far as the fixtures need it.
fn words(line: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let (mut quoted, mut fresh) = (false, true);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' if !quoted => {
                fresh = true;
                continue;
            }
            _ if fresh => out.push(String::new()),
            _ => {}
        }
        fresh = false;
        match c {
            '"' => quoted = !quoted,
            '\\' => out.last_mut().unwrap().extend(chars.next()),
            other => out.last_mut().unwrap().push(other),
        }
    }
    out
}

fn merged(base: &Value, change: &Value) -> Value {
    let mut out = base.clone();
    for (key, value) in change.as_object().unwrap() {
        match (key.as_str(), value) {
            ("HostConfig", Value::Object(_)) => out[key] = merged(&base[key], value),
            _ => out[key] = value.clone(),
        }
    }
    out
}

/// The request that a command line makes, as `run` and `create` make it.
fn body(line: &str) -> Result<Value> {
    let words = words(line);
    let command: &Command = cmd::all().find(|c| c.top == words[0]).unwrap();
    let parsed = flags::parse(&flags::table(command.flags), &words[1..], false).map_err(CliError::Message)?;
    request(&parsed, &[], [0, 0]).map(|r| r.body)
}

fn sorted(list: &Value) -> Vec<String> {
    let mut all: Vec<String> = list.as_array().into_iter().flatten().map(Value::to_string).collect();
    all.sort();
    all
}

fn files() {
    let folder = "/tmp/droste-cli-test";
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(format!("{folder}/ef"), "a=b\n# c\nX\n\nY=z \nHOME\n").unwrap();
    std::fs::write(format!("{folder}/lf"), "la=lb\nlc\n").unwrap();
}

#[test]
fn bodies_are_those_of_docker_s_client() {
    files();
    let base: Value = serde_json::from_str(include_str!("fixtures/base.json")).unwrap();
    let mut lines = include_str!("fixtures/bodies.txt").lines();
    let here = std::env::current_dir().unwrap().to_string_lossy().into_owned();
    let home = std::env::var("HOME").unwrap();
    let mut count = 0;
    while let (Some(line), Some(change)) = (lines.next(), lines.next()) {
        let change = change
            .replace("/tmp/droste-cli-test/rel", &format!("{here}/rel"))
            .replace("HOME=/root", &format!("HOME={home}"));
        let expected = merged(&base, &serde_json::from_str(&change).unwrap());
        let ours = body(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        for (key, value) in expected.as_object().unwrap() {
            if key == "HostConfig" {
                for (key, value) in value.as_object().unwrap() {
                    if key == "Binds" {
                        // Sorted by path, and the working folder is another one here.
                        assert_eq!(sorted(&ours["HostConfig"][key]), sorted(value), "{line}: HostConfig.{key}");
                        continue;
                    }
                    assert_eq!(&ours["HostConfig"][key], value, "{line}: HostConfig.{key}");
                }
            } else {
                assert_eq!(&ours[key], value, "{line}: {key}");
            }
        }
        for key in ours["HostConfig"].as_object().unwrap().keys() {
            assert!(expected["HostConfig"].get(key).is_some(), "{line}: HostConfig.{key} is ours alone");
        }
        count += 1;
    }
    assert!(count > 30, "only {count} bodies");
}

#[test]
fn complaints_are_those_of_docker_s_client() {
    for (line, message) in [
        ("run -p foo img", "invalid containerPort: foo"),
        (
            "run --mount foo img",
            "invalid argument \"foo\" for \"--mount\" flag: invalid field 'foo' must be a key=value pair",
        ),
        ("run --rm --restart always img", "conflicting options: cannot specify both --restart and --rm"),
        (
            "run --network host --network-alias x img",
            "network-scoped aliases are only supported for user-defined networks",
        ),
        ("run --health-cmd x --no-healthcheck img", "--no-healthcheck conflicts with --health-* options"),
        ("run --ulimit foo img", "invalid argument \"foo\" for \"--ulimit\" flag: invalid ulimit argument: foo"),
        (
            "run --add-host foo img",
            "invalid argument \"foo\" for \"--add-host\" flag: bad format for add-host: \"foo\"",
        ),
        ("run --device foo:bar:baz img", "bad mode specified: baz"),
        (
            "run --expose foo img",
            "invalid range format for --expose: foo, error: strconv.ParseUint: parsing \"foo\": invalid syntax",
        ),
        (
            "run --dns foo img",
            "invalid argument \"foo\" for \"--dns\" flag: IP address is not correctly formatted: foo",
        ),
        ("run --sysctl foo img", "invalid argument \"foo\" for \"--sysctl\" flag: sysctl 'foo' is not allowed"),
        ("run --log-driver none --log-opt a=b img", "invalid logging opts for driver none"),
        ("run --mac-address x img", "x is not a valid mac address"),
        (
            "run --security-opt seccomp=/nope img",
            "opening seccomp profile (/nope) failed: open /nope: no such file or directory",
        ),
        ("run --env-file /nope img", "open /nope: no such file or directory"),
    ] {
        assert_eq!(body(line).unwrap_err().to_string(), message, "{line}");
    }
}
