//! The unmodified `docker compose`: a project's life, on the machine and, the same files, in containers that are
//! hosts, two of them side by side.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use droste_test_clients::{clients, copy, folder, portable};
use droste_test_support::image::BASE;
use droste_test_support::network::subnet;
use droste_test_support::{Container, Engine, json};

/// `docker compose` on the engine, in a copy of a folder with projects.
fn compose(e: &Engine, scratch: &Path, files: &Path) -> Command {
    let config = scratch.join("config");
    if !config.exists() {
        std::fs::create_dir(&config).unwrap();
        std::os::unix::fs::symlink(clients().join("cli-plugins"), config.join("cli-plugins")).unwrap();
    }
    let mut command = Command::new(clients().join("bin/docker"));
    command.arg("compose").env("DOCKER_HOST", e.host()).env("DOCKER_CONFIG", config).env_remove("DOCKER_CONTEXT").current_dir(files);
    command.env("IMAGE", BASE.trim_end_matches(":latest")).env("TOKEN", "token").env("PORT", "18080").env("SUBNET", subnet()).env("PROJECT", e.name("compose"));
    command
}

/// What brings the clients and a copy of a folder with projects into a container.
fn binds(e: &Engine, scratch: &Path, name: &str) -> Vec<String> {
    let files = scratch.join(format!("files-{}", e.name("h")));
    copy(&folder(name), &files);
    let mut binds = portable(scratch);
    binds.push(format!("{}:/files", files.display()));
    binds
}

/// A container that is a host, with binds.
fn host_of<'e>(e: &'e Engine, binds: &[String]) -> Container<'e> {
    let binds: Vec<_> = binds.iter().map(String::as_str).chain(["/var/run/docker.sock:/var/run/docker.sock"]).collect();
    let image = format!("IMAGE={}", BASE.trim_end_matches(":latest"));
    let env = ["DOCKER=/client/docker", "DOCKER_CONFIG=/client", "FILES=/files", "INSIDE=", "PROJECT=project", "PORT=18080", "SUBNET=10.99.7", "PATH=/bin", &image];
    e.run(json!({"Cmd": ["sh", "-c", "while :; do sleep 1000; done"], "Env": env, "HostConfig": {"Binds": binds}}))
}

/// A container that is a host, with the clients and a copy of a folder with projects in it.
fn host_with<'e>(e: &'e Engine, scratch: &Path, name: &str) -> Container<'e> {
    host_of(e, &binds(e, scratch, name))
}

/// Runs a folder's script on the machine; what it prints is shown when it fails.
fn on_machine(e: &Engine, scratch: &Path, folder_name: &str, script: &str) {
    let files = scratch.join("files");
    copy(&folder(folder_name), &files);
    let settings = compose(e, scratch, &files);
    let port = e.in_netns(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let output = Command::new("busybox")
        .args(["sh", script])
        .envs(settings.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .env("DOCKER", clients().join("bin/docker"))
        .env("FILES", &files)
        .env("PORT", port.to_string())
        .env("INSIDE", format!("nsenter --net={}", e.netns_path().display()))
        .current_dir(&files)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// Images of Debian's programs: what `scripts/programs` unpacked, with busybox and a few users over it.
struct Programs<'e>(&'e Engine);

fn programs(e: &Engine) -> Programs<'_> {
    let scratch = e.scratch();
    for program in ["nginx", "postgres", "redis"] {
        let root = scratch.path().join(program);
        let done = Command::new("cp").args(["-a", "--reflink=auto"]).arg(clients().join("programs").join(program)).arg(&root).status().unwrap();
        assert!(done.success());
        furnish(&root);
        let tar = Command::new("tar").args(["--exclude", "./.whole", "-cC"]).arg(&root).arg(".").output().unwrap();
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        droste_test_support::image::import(e, &format!("droste-test-{program}:latest"), &["ENV PATH=/bin:/usr/bin:/usr/sbin"], tar.stdout);
    }
    Programs(e)
}

/// Busybox, a few users and folders.
fn furnish(root: &Path) {
    for place in ["bin", "etc", "tmp", "data", "run", "var/log/nginx", "var/lib/nginx"] {
        std::fs::create_dir_all(root.join(place)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\npostgres:x:100:100::/data:/bin/sh\n")
        .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\npostgres:x:100:\n").unwrap();
    std::os::unix::fs::chown(root.join("data"), Some(100), Some(100)).unwrap();
    std::fs::write(root.join("bin/busybox"), droste_test_support::image::busybox()).unwrap();
    let script =
        "cd \"$1\"; chmod 755 . bin/busybox; chmod 1777 tmp; chmod 700 data; for a in $(busybox --list); do [ -e usr/bin/$a ] || [ -e bin/$a ] || ln -s busybox bin/$a; done";
    assert!(Command::new("sh").args(["-ec", script, "sh"]).arg(root).status().unwrap().success());
}

impl Drop for Programs<'_> {
    fn drop(&mut self) {
        for program in ["nginx", "postgres", "redis"] {
            self.0.request("DELETE", &format!("/images/droste-test-{program}:latest?force=1")).send();
        }
    }
}

#[test]
fn a_projects_life_on_the_machine() {
    let e = Engine::shared();
    on_machine(e, e.scratch().path(), "compose", "project.sh");
}

#[test]
fn two_hosts_run_the_same_project_side_by_side() {
    let e = Engine::shared();
    if e.not_on_docker("a container's socket is the machine's there") {
        return;
    }
    let scratch = e.scratch();
    let hosts = [host_with(e, scratch.path(), "compose"), host_with(e, scratch.path(), "compose")];
    std::thread::scope(|scope| {
        for host in &hosts {
            scope.spawn(move || {
                let outcome = host.exec(&["sh", "/files/project.sh"]);
                assert_eq!(outcome.code, 0, "{}\n{}", outcome.out, outcome.err);
            });
        }
    });
    // Nothing of it was on the machine.
    assert_eq!(e.get("/containers/json?all=1&filters=%7B%22label%22%3A%5B%22com.docker.compose.project%22%5D%7D"), json!([]));
}

#[test]
fn a_projects_life_three_levels_down() {
    let e = Engine::shared();
    if e.not_on_docker("a container's socket is the machine's there") {
        return;
    }
    let scratch = e.scratch();
    let binds = binds(e, scratch.path(), "compose");
    let handed_on = binds.iter().map(|bind| bind.split(':').next_back().unwrap()).map(|path| format!("{path}:{path}"));
    let handed_on: Vec<_> = handed_on.collect();
    let first = host_of(e, &binds);
    let first_host = e.host_of(&first);
    let second = host_of(&first_host, &handed_on);
    let second_host = first_host.host_of(&second);
    let third = host_of(&second_host, &handed_on);
    let outcome = third.exec(&["sh", "/files/project.sh"]);
    assert_eq!(outcome.code, 0, "{}\n{}", outcome.out, outcome.err);
}

#[test]
fn real_programs_on_the_machine() {
    let e = Engine::shared();
    let scratch = e.scratch();
    let _images = programs(e);
    on_machine(e, scratch.path(), "programs", "programs.sh");
}

#[test]
fn real_programs_in_a_container_that_is_a_host() {
    let e = Engine::shared();
    if e.not_on_docker("a container's socket is the machine's there") {
        return;
    }
    let scratch = e.scratch();
    let _images = programs(e);
    let host = host_with(e, scratch.path(), "programs");
    let outcome = host.exec(&["sh", "/files/programs.sh"]);
    assert_eq!(outcome.code, 0, "{}\n{}", outcome.out, outcome.err);
}

/// The processes that a process has started and that are still there.
fn children(process: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let lists = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>()).collect()
}

#[test]
fn watch_brings_changed_files_into_the_container() {
    let e = Engine::shared();
    let scratch = e.scratch();
    let files = scratch.path().join("files");
    copy(&folder("compose"), &files);
    let project = e.name("watch");
    let run = |words: &[&str]| {
        let output = compose(e, scratch.path(), &files).args(["-p", &project, "-f", "watch.yaml"]).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["up", "-d", "watched"]);
    let mut watch = compose(e, scratch.path(), &files);
    watch.args(["-p", &project, "-f", "watch.yaml", "watch", "--no-up"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut watch = watch.spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("Watch enabled"))), "watch begins");
    let seen = || run(&["exec", "-T", "watched", "sh", "-c", "cat /app/file 2>/dev/null; true"]) == "two\n";
    // Written again now and then, for what was written before the watch began; not so often that it waits for quiet.
    let came = (0..10).any(|_| {
        std::fs::write(files.join("src/file"), "two\n").unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(6);
        std::iter::repeat_with(seen).take_while(|_| std::time::Instant::now() < until).any(|seen| seen)
    });
    assert!(came, "the change never came");
    // The client and its plugin, which is a process of a group of its own.
    for process in children(watch.id()).into_iter().chain([watch.id()]) {
        let process = rustix::process::Pid::from_raw(process.cast_signed()).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    }
    watch.wait().unwrap();
    run(&["down", "-v", "-t", "20"]);
}

#[test]
fn use_api_socket_makes_a_service_a_host() {
    let e = Engine::shared();
    if e.not_on_docker("its socket makes no container a host") {
        return;
    }
    let scratch = e.scratch();
    let files = scratch.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let binds = portable(scratch.path());
    let mounts: String = binds.iter().map(|bind| format!("      - {bind}\n")).collect();
    let yaml = format!("services:\n  agent:\n    image: {BASE}\n    use_api_socket: true\n    command: sleep 1000\n    volumes:\n{mounts}");
    std::fs::write(files.join("compose.yaml"), yaml).unwrap();
    let project = e.name("agent");
    let run = |words: &[&str]| {
        let output = compose(e, scratch.path(), &files).args(["-p", &project]).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["up", "-d"]);
    assert_eq!(run(&["exec", "-T", "agent", "/client/docker", "ps", "-q"]), "", "it is a host of its own, with nothing on it");
    assert_eq!(run(&["exec", "-T", "agent", "/client/docker", "run", "--rm", BASE, "echo", "from within"]), "from within\n");
    run(&["down", "-t", "0"]);
}
