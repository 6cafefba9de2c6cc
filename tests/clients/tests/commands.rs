//! Droste's own client, command by command, against Droste or the Docker that `DROSTE_TEST_DOCKER_HOST` names. Each test
//! makes what it needs under names of its own and removes it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

fn host() -> String {
    droste_test_support::Engine::shared().host()
}

fn client(args: &[&str]) -> Command {
    let mut command = Command::new(droste_test_support::engine::droste_program());
    command.args(args).env("DOCKER_HOST", host()).env("DOCKER_CONFIG", "/nonexistent/droste-cli-test");
    for name in ["DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_TLS", "DOCKER_API_VERSION", "DOCKER_BUILDKIT"] {
        command.env_remove(name);
    }
    command
}

fn droste(args: &[&str]) -> Output {
    client(args).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// Standard output of a command that must go well.
fn ok(args: &[&str]) -> String {
    let output = droste(args);
    assert!(output.status.success(), "{args:?}: {:?}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// Exit code and standard error of a command that must fail.
fn fails(args: &[&str]) -> (i32, String) {
    let output = droste(args);
    assert!(!output.status.success(), "{args:?} went well");
    (output.status.code().unwrap(), text(&output.stderr))
}

/// A folder of this test run's own.
fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("droste-cli-it-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn busybox() -> &'static Path {
    ["/bin/busybox", "/usr/bin/busybox", "/usr/lib/initramfs-tools/bin/busybox"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists())
        .expect("these tests make their image of a static busybox: install busybox-static")
}

/// An image with busybox in it, made once.
fn image() -> &'static str {
    static IMAGE: OnceLock<()> = OnceLock::new();
    const NAME: &str = "droste-cli-test:1";
    IMAGE.get_or_init(|| {
        let folder = scratch("image");
        let bin = folder.join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        for path in ["etc", "tmp"] {
            std::fs::create_dir_all(folder.join(path)).unwrap();
        }
        std::fs::copy(busybox(), bin.join("busybox")).unwrap();
        for tool in ["sh", "cat", "echo", "ls", "sleep", "true", "wc", "stty", "head"] {
            std::os::unix::fs::symlink("busybox", bin.join(tool)).unwrap();
        }
        std::fs::write(folder.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
        let archive = folder.with_extension("tar");
        let mut builder = tar::Builder::new(std::fs::File::create(&archive).unwrap());
        builder.follow_symlinks(false);
        builder.append_dir_all(".", &folder).unwrap();
        builder.finish().unwrap();
        ok(&["import", archive.to_str().unwrap(), NAME]);
        std::fs::remove_dir_all(folder).unwrap();
        std::fs::remove_file(archive).unwrap();
    });
    NAME
}

/// A container that is removed with this value.
struct Container(String);

impl Container {
    fn run(name: &str, options: &[&str], command: &[&str]) -> Self {
        let name = format!("droste-cli-test-{name}");
        let _ = droste(&["rm", "-fv", &name]);
        let mut args = vec!["run", "-d", "--name", &name];
        args.extend(options);
        args.push(image());
        args.extend(command);
        ok(&args);
        Self(name)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = droste(&["rm", "-fv", &self.0]);
    }
}

/// Asks until the answer is the wanted one.
fn until(wanted: &str, ask: impl Fn() -> String) {
    let begin = Instant::now();
    loop {
        let got = ask();
        if got == wanted {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "wanted {wanted:?}, got {got:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn run_passes_streams_and_exit_codes_on() {
    let output = droste(&["run", "--rm", image(), "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(7), "out".into(), "err".into()));
    let (code, error) = fails(&["run", "--rm", image(), "/nope"]);
    assert_eq!(code, 127, "{error}");
    assert!(error.starts_with("droste: Error response from daemon: "), "{error}");
    assert!(error.ends_with("Run 'droste run --help' for more information"), "{error}");
    assert_eq!(fails(&["run", "--rm", image(), "/tmp"]).0, 126);
    assert_eq!(fails(&["run", "--pull", "never", "droste-cli-test-none:1"]).0, 125);
    assert_eq!(fails(&["run", "--nonsense", image()]).0, 125);
}

#[test]
fn input_of_any_size_goes_through_and_ends() {
    let mut child = client(&["run", "--rm", "-i", image(), "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let data: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    let sent = data.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent).unwrap());
    let mut got = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(got == data, "{} bytes came back of {}", got.len(), data.len());
}

#[test]
fn a_container_s_life() {
    let container = Container::run("life", &["-l", "a=b"], &["sh", "-c", "echo one; echo two >&2; sleep 1000"]);
    let name = container.0.as_str();
    until("one", || text(&droste(&["logs", name]).stdout));
    assert_eq!(text(&droste(&["logs", name]).stderr), "two");
    let filter = format!("name={name}");
    assert_eq!(ok(&["ps", "-f", &filter, "--format", "{{.Names}} {{.State}} {{.Label \"a\"}}"]), format!("{name} running b"));
    let table = ok(&["ps", "-f", &filter]);
    assert!(table.starts_with("CONTAINER ID   IMAGE "), "{table}");
    assert_eq!(ok(&["inspect", "-f", "{{.State.Status}} {{json .Config.Labels}}", name]), "running {\"a\":\"b\"}");
    assert_eq!(ok(&["exec", name, "sh", "-c", "echo hi"]), "hi");
    assert_eq!(fails(&["exec", name, "sh", "-c", "exit 9"]).0, 9);
    assert!(ok(&["top", name]).contains("sleep 1000"));
    ok(&["pause", name]);
    assert_eq!(ok(&["inspect", "-f", "{{.State.Status}}", name]), "paused");
    ok(&["unpause", name]);
    assert!(fails(&["rm", name]).1.contains("container is running"));
    assert_eq!(ok(&["kill", name]), name);
    assert_eq!(ok(&["wait", name]), "137");
    let other = format!("{name}-2");
    ok(&["rename", name, &other]);
    ok(&["rename", &other, name]);
    assert_eq!(ok(&["rm", name]), name);
    assert_eq!(fails(&["rm", name]).1, format!("Error response from daemon: No such container: {name}"));
}

#[test]
fn files_both_ways() {
    let container = Container::run("cp", &[], &["sleep", "1000"]);
    let here = scratch("cp");
    std::fs::create_dir_all(here.join("src/sub")).unwrap();
    std::fs::write(here.join("src/sub/file"), "content").unwrap();
    let path = |name: &str| here.join(name).to_str().unwrap().to_owned();
    ok(&["cp", &path("src"), &format!("{}:/tmp", container.0)]);
    assert_eq!(ok(&["exec", &container.0, "cat", "/tmp/src/sub/file"]), "content");
    ok(&["cp", &path("src/sub/file"), &format!("{}:/tmp/renamed", container.0)]);
    assert_eq!(ok(&["exec", &container.0, "cat", "/tmp/renamed"]), "content");
    ok(&["cp", &format!("{}:/tmp/src", container.0), &path("back")]);
    assert_eq!(std::fs::read_to_string(here.join("back/sub/file")).unwrap(), "content");
    ok(&["cp", &format!("{}:/tmp/src/.", container.0), &path("back")]);
    assert_eq!(std::fs::read_to_string(here.join("back/sub/file")).unwrap(), "content");
    ok(&["cp", &format!("{}:/tmp/renamed", container.0), &path("back")]);
    assert_eq!(std::fs::read_to_string(here.join("back/renamed")).unwrap(), "content");
    assert!(fails(&["cp", &format!("{}:/nope", container.0), &path("x")]).1.contains("Could not find the file /nope"));
    std::fs::remove_dir_all(here).unwrap();
}

#[test]
fn images_by_name() {
    let source = image();
    ok(&["tag", source, "droste-cli-test-tag:2"]);
    let line = ok(&["images", "droste-cli-test-tag", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(line, "droste-cli-test-tag:2");
    let id = ok(&["image", "inspect", "-f", "{{.Id}}", source]);
    assert_eq!(ok(&["images", "-q", "--no-trunc", "droste-cli-test-tag"]), id);
    let here = scratch("save");
    let file = here.join("image.tar").to_str().unwrap().to_owned();
    ok(&["save", "-o", &file, "droste-cli-test-tag:2"]);
    assert_eq!(ok(&["rmi", "droste-cli-test-tag:2"]), "Untagged: droste-cli-test-tag:2");
    assert_eq!(ok(&["load", "-i", &file]), "Loaded image: droste-cli-test-tag:2");
    ok(&["rmi", "droste-cli-test-tag:2"]);
    let (code, error) = fails(&["rmi", "droste-cli-test-tag:2"]);
    assert_eq!((code, error.as_str()), (1, "Error response from daemon: No such image: droste-cli-test-tag:2"));
    std::fs::remove_dir_all(here).unwrap();
}

#[test]
fn inspect_says_what_is_missing() {
    let output = droste(&["inspect", "droste-cli-test-nope"]);
    assert_eq!(text(&output.stdout), "[]");
    assert_eq!(text(&output.stderr), "Error: No such object: droste-cli-test-nope");
    let (code, error) = fails(&["inspect", "-f", "{{.Foo}}", image()]);
    assert_eq!(code, 1);
    assert_eq!(error, "template parsing error: template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"");
}

#[test]
fn the_daemon_describes_itself() {
    assert!(ok(&["version", "-f", "{{.Server.ApiVersion}}"]).starts_with("1."));
    assert!(!ok(&["info", "-f", "{{.Name}}"]).is_empty());
    assert!(ok(&["network", "ls", "--format", "{{.Name}}"]).lines().any(|name| name == "bridge"));
    let names = ok(&["__complete", "network", "inspect", "br"]);
    assert!(names.lines().any(|name| name == "bridge"), "{names}");
}

#[test]
fn events_of_a_run() {
    let container = Container::run("events", &[], &["true"]);
    ok(&["wait", &container.0]);
    let filter = format!("container={}", container.0);
    let wanted = "create start die";
    until(wanted, || {
        let seen = ok(&["events", "--since", "60s", "--until", "0s", "-f", &filter, "--format", "{{.Action}}"]);
        seen.lines().filter(|action| wanted.contains(action)).collect::<Vec<_>>().join(" ")
    });
}

#[test]
fn detach_keys_leave_a_terminal_session() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let name = "droste-cli-test-detach";
    let _ = droste(&["rm", "-f", name]);
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let side = || std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut child = client(&["run", "-it", "--name", name, image(), "sh"]).stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
    let _container = Container(name.to_owned());
    let mut master = std::fs::File::from(master);
    until("running", || text(&droste(&["inspect", "-f", "{{.State.Status}}", name]).stdout));
    master.write_all(b"echo mark-$((40+2))\n").unwrap();
    let mut seen = Vec::new();
    let mut block = [0; 4096];
    while !text(&seen).contains("mark-42") {
        let size = master.read(&mut block).unwrap();
        seen.extend_from_slice(&block[..size]);
    }
    master.write_all(&[16, 17]).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(ok(&["inspect", "-f", "{{.State.Status}}", name]), "running");
}

#[test]
fn mistakes_before_the_daemon_is_asked_are_docker_s() {
    let unresolved = "Failed to initialize: unable to resolve docker endpoint: ";
    for (args, code, message) in [
        (&["-l", "nope", "ps"][..], 1, "Unable to parse logging level: nope".to_owned()),
        (&["-H", "unix:///a", "-H", "unix:///b", "ps"], 1, format!("{unresolved}Specify only one -H")),
        (&["--tlsverify", "ps"], 1, format!("{unresolved}open /nonexistent/droste-cli-test/ca.pem: no such file or directory")),
        (&["export", "-o", "/nope/x", "y"], 1, "failed to export container: invalid output path: stat /nope: no such file or directory".to_owned()),
        (&["save", "-o", "/nope/x", "y"], 1, "failed to save image: invalid output path: stat /nope: no such file or directory".to_owned()),
        (&["load", "--platform", "a/b/c/d"], 1, "invalid platform: \"a/b/c/d\": cannot parse platform specifier: invalid argument".to_owned()),
        (&["create", "-p", "99999:1", "x"], 125, "invalid hostPort: 99999".to_owned()),
    ] {
        let (found, error) = fails(args);
        assert_eq!(found, code, "{args:?}: {error}");
        assert!(error.contains(&message), "{args:?}: {error}");
    }
    let (code, error) = fails(&["container", "--nope"]);
    assert_eq!((code, error.lines().nth(2)), (125, Some("Usage:  droste container")));
    let (code, error) = fails(&["build", "-t", "Bad", "."]);
    assert!(code == 125 && error.starts_with("invalid argument \"Bad\" for \"-t, --tag\" flag: invalid reference format"), "{error}");
    let alone = droste(&[]);
    assert!(alone.status.success() && alone.stdout.is_empty() && text(&alone.stderr).starts_with("Usage:  droste"));
    assert_eq!(ok(&["logout", "127.0.0.1:1"]), "Removing login credentials for 127.0.0.1:1");
    assert_eq!(ok(&["builder", "prune", "-f"]), "Total reclaimed space: 0B");
}

#[test]
fn templates_of_events_know_all_fields() {
    let (code, error) = fails(&["events", "--format", "{{.Nope}}", "--since", "0s", "--until", "0s"]);
    assert!(code == 64 && error.starts_with("Error parsing format: "), "{code}: {error}");
    let container = Container::run("event-fields", &[], &["true"]);
    let filter = format!("container={}", container.0);
    let format = "{{.Type}} {{.From}} {{.Scope}} {{.Status}} {{.Actor.Attributes.image}}|{{.Time}}";
    let seen = ok(&["events", "--since", "60s", "--until", "0s", "-f", &filter, "-f", "event=create", "--format", format]);
    let image = image();
    assert!(seen.starts_with(&format!("container {image} local create {image}|")), "{seen}");
    let of_networks = ok(&["events", "--since", "60s", "--until", "0s", "-f", "type=network", "--format", "{{.From}}{{.Status}}"]);
    assert_eq!(of_networks.trim(), "", "fields that are left out are empty");
}
