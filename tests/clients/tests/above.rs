//! Droste's client, from above: every command that talks to the engine acts on the host that `--at` names, on each of
//! its connections, hijacked ones included; and the views of all levels.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use droste_test_support::container::sh_with;
use droste_test_support::engine::droste_program;
use droste_test_support::image::BASE;
use droste_test_support::{Container, Engine, Value, json, t};

/// A socket before the engine's that keeps what clients send.
struct Recorder {
    path: PathBuf,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    fn start(dir: &Path, engine: &Path) -> Self {
        let path = dir.join("recorder.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let sent = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let (engine, kept) = (engine.to_owned(), Arc::clone(&sent));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let engine = UnixStream::connect(&engine).unwrap();
                let (mut back, mut to) = (engine.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut back, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
                let kept = Arc::clone(&kept);
                let at = {
                    let mut all = kept.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                std::thread::spawn(move || record(client, engine, |bytes| kept.lock().unwrap()[at].extend_from_slice(bytes)));
            }
        });
        Self { path, sent }
    }

    /// The heads of all requests since the last time, connection by connection.
    fn heads(&self) -> Vec<String> {
        let mut heads = Vec::new();
        for sent in self.sent.lock().unwrap().iter_mut() {
            let text = String::from_utf8_lossy(sent).into_owned();
            sent.clear();
            let starts = text.match_indices(" HTTP/1.1\r\n").map(|(end, _)| text[..end].rfind(['\n', '}', ']']).map_or(0, |line| line + 1));
            let found = starts.map(|start| text[start..].split("\r\n\r\n").next().unwrap().to_owned());
            // Archives hold programs with such words in them.
            heads.extend(found.filter(|head| head.contains("\r\nUser-Agent: Docker-Client/")));
        }
        heads
    }
}

fn record(mut from: UnixStream, mut to: UnixStream, mut keep: impl FnMut(&[u8])) {
    let mut block = [0; 64 * 1024];
    while let Ok(size @ 1..) = from.read(&mut block) {
        keep(&block[..size]);
        if to.write_all(&block[..size]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// A container that is a host and does nothing of itself.
fn host(e: &Engine) -> (Container<'_>, Engine) {
    let binds = json!({"Binds": ["/var/run/docker.sock:/var/run/docker.sock"]});
    let c = e.run(sh_with("trap 'exit 0' TERM; while :; do sleep 1000 & wait; done", binds));
    let host = e.host_of(&c);
    (c, host)
}

fn droste(socket: &Path) -> Command {
    let mut command = Command::new(droste_program());
    command.env("DOCKER_HOST", format!("unix://{}", socket.display())).env("DOCKER_CONFIG", "/nonexistent/above");
    for name in ["DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_TLS", "DOCKER_API_VERSION"] {
        command.env_remove(name);
    }
    command.env("DOCKER_BUILDKIT", "0");
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Commands that ask no engine, and those that hand on a connection as it is and refuse `--at`.
const WITHOUT: &[&str] = &["completion", "daemon", "help", "logout", "context ", "serve", "system dial-stdio"];
/// Commands of a swarm, of plugins and of other services: what they answer is not of this test.
const ANSWERED: &str = "\
    builder build D/context | build D/context | image build D/context | checkpoint create c1 cp | checkpoint ls c1 | checkpoint rm c1 cp | \
    host inspect x | host limits x | config inspect x | config ls | config rm x | manifest annotate l m | manifest create l m | manifest inspect \
    127.0.0.1:1/m | manifest push l | manifest rm l | node inspect x | node ls | node rm x | plugin create p . | \
    plugin disable p | plugin enable p | plugin inspect p | plugin install --grant-all-permissions p | plugin ls | \
    plugin push p | plugin rm p | plugin set p a=b | plugin upgrade p | secret inspect x | secret ls | secret rm x \
    | service create x | service inspect x | service ls | service rm x | stack ls | swarm ca | swarm init | swarm \
    join 127.0.0.1:1 | swarm join-token worker | swarm leave | swarm unlock | swarm unlock-key | swarm update | \
    trust inspect x | trust key | trust revoke x | trust sign x | trust signer | search x | login -u u -p p \
    127.0.0.1:1 | push 127.0.0.1:1/x | pull 127.0.0.1:1/x | volume update v | image pull 127.0.0.1:1/x | image \
    push 127.0.0.1:1/x";
/// A day's work on the host: each ends well. `I` is an image, `D` a folder.
const DAY: &str = "\
    version | info | system info | system df | events --until 0s | system events --until 0s | images | image ls | \
    tag I other | image tag I third | history I | image history I | image inspect I | image exists I | inspect I | save -o D/image \
    other | image save -o D/saved third | rmi other | image rm third | load -i D/image | image load -i D/saved | \
    create --name c1 I sh -c 'while :; do sleep 1000; done' | container create --name c2 I true | start c1 | \
    container start c2 | ps | container ls | inspect c1 | container inspect c1 | container exists c1 | exec c1 true | container exec c1 \
    true | logs c1 | container logs c1 | top c1 | container top c1 | stats --no-stream c1 | container stats \
    --no-stream c1 | port c1 | container port c1 | diff c1 | container diff c1 | pause c1 | unpause c1 | container \
    pause c1 | container unpause c1 | update --memory 64m --memory-swap 64m c1 | container update --memory 65m \
    --memory-swap 65m c1 | rename c2 c3 | container rename c3 c2 | cp D/image c1:/ | container cp c1:/etc/passwd \
    D/ | export -o D/c1 c1 | container export -o D/c1 c1 | commit c1 made | container commit c1 made:2 | import \
    D/c1 got | image import D/c1 got:2 | wait c2 | container wait c2 | restart -t 0 c1 | container restart -t 0 c1 \
    | network create n | network ls | network exists n | network inspect n | network connect n c1 | network disconnect n c1 | network \
    rm n | network prune -f | volume create v1 | volume ls | volume exists v1 | volume inspect v1 | volume rm v1 | volume prune -f | \
    run --rm I true | container run --rm -i I cat | host ls | tree | stop -t 0 c1 | start -a c2 | container start -i c2 | \
    kill c4 | container kill c5 | attach c6 | container attach c7 | container stop -t 0 c1 | rm c2 | container rm \
    c1 | container prune -f | image prune -f | builder prune -f | system prune -f";

/// Every command that a shell would be told of, and groups with a space behind.
fn known() -> BTreeSet<String> {
    let complete = |words: &[&str]| {
        let output = Command::new(droste_program()).arg("__complete").args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut all = BTreeSet::new();
    for word in complete(&[""]) {
        let inner = complete(&[&word, ""]);
        let help = Command::new(droste_program()).args(["help", &word]).output().unwrap().stdout;
        match String::from_utf8_lossy(&help).contains(" COMMAND\n") {
            true => all.extend(inner.iter().map(|name| format!("{word} {name}"))),
            false => drop(all.insert(word)),
        }
    }
    all
}

/// The words of a line, with quotes.
fn words(line: &str, dir: &Path) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    let place = |word: String| match word.as_str() {
        "I" => BASE.to_owned(),
        other => other.strip_prefix("D/").map_or(word.clone(), |rest| dir.join(rest).display().to_string()),
    };
    words.into_iter().map(place).collect()
}

#[test]
fn every_command_acts_where_at_says() {
    let e = Engine::shared();
    if e.not_on_docker("it has no hosts below it") {
        return;
    }
    let (outer, h) = host(e);
    let dir = e.scratch();
    let recorder = Recorder::start(dir.path(), e.socket());
    let run = |line: &str| {
        let mut command = droste(&recorder.path);
        command.args(["--at", &outer.name]).args(words(line, dir.path())).stdin(Stdio::null());
        command.output().unwrap()
    };
    let header = format!("\r\nDroste-At: {}", outer.name);
    let mut upgraded = 0;
    let mut heard = |line: &str, output: &Output| {
        let heads = recorder.heads();
        upgraded += heads.iter().filter(|head| head.contains("\r\nUpgrade: tcp")).count();
        assert!(!heads.is_empty() || !output.status.success(), "{line} asked nothing");
        let without: Vec<&String> = heads.iter().filter(|head| !head.contains(&header)).collect();
        assert!(without.is_empty(), "{line}: {without:?}");
        heads.len()
    };
    let asks = |name: &String| !WITHOUT.iter().any(|word| name == word || (word.ends_with(' ') && name.starts_with(word)));
    let mut left: BTreeSet<String> = known().into_iter().filter(asks).collect();
    let mut strike = |line: &str| left.retain(|name| !(line == name || line.starts_with(&format!("{name} "))));
    let cat = json!({"Image": BASE, "Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true});
    for (name, body) in [("c4", sleeps("100000")), ("c5", sleeps("100000")), ("c6", cat.clone()), ("c7", cat)] {
        h.request("POST", &format!("/containers/create?name={name}")).json(&body).send().expect_status(201);
        h.request("POST", &format!("/containers/{name}/start")).send().expect_status(204);
    }
    std::fs::create_dir(dir.path().join("context")).unwrap();
    std::fs::write(dir.path().join("context/Dockerfile"), format!("FROM {BASE}\n")).unwrap();
    let before = names(e);
    for line in ANSWERED.split(" | ") {
        strike(line);
        heard(line, &run(line));
    }
    for line in DAY.split(" | ") {
        strike(line);
        let output = run(line);
        assert!(output.status.success(), "{line}: {}: {}", output.status, text(&output));
        assert!(heard(line, &output) > 0, "{line}");
    }
    assert!(upgraded >= 6, "run, exec, start -a and attach take their connections over: {upgraded}");
    assert_eq!(left, BTreeSet::new(), "commands of which this test knows nothing");
    assert_eq!(names(e), before, "nothing was done on the machine");
    t!(e, GET "/images/made/json", 404);
    t!(h, GET "/images/made/json", 200);
}

fn sleeps(seconds: &str) -> Value {
    json!({"Image": BASE, "Cmd": ["sleep", seconds]})
}

fn names(e: &Engine) -> Vec<String> {
    let list = e.get("/containers/json?all=1");
    list.as_array().unwrap().iter().map(|c| c["Names"][0].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_connection_that_is_handed_on_has_no_at() {
    let e = Engine::shared();
    for command in [&["serve", "-H", "tcp://127.0.0.1:0"][..], &["system", "dial-stdio"]] {
        let output = droste(e.socket()).args(["--at", "x"]).args(command).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success() && text(&output).contains("--at x can't hold"), "{command:?}: {}", text(&output));
    }
}

/// What a command prints that ends well.
fn printed(e: &Engine, args: &[&str]) -> String {
    let output = droste(e.socket()).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Three levels: a host, a host on it, and a container there. The paths of the last two.
fn three_levels<'e>(e: &'e Engine, work: impl FnOnce(&Container<'e>, &str, &Engine)) {
    let (outer, h) = host(e);
    let (inner, deep) = host(&h);
    let _leaf = deep.run(sleeps("100000"));
    work(&outer, &format!("{}/{}", outer.name, inner.name), &deep);
}

#[test]
fn lists_of_all_levels() {
    let e = Engine::shared();
    if e.not_on_docker("it has no hosts below it") {
        return;
    }
    three_levels(e, |outer, path, deep| {
        let leaf = &names(deep)[0][1..];
        let rows = printed(e, &["ps", "--all-levels", "--format", "{{.Host}} {{.Names}}"]);
        for row in [format!("/ {}", outer.name), format!("{path} {leaf}")] {
            assert!(rows.lines().any(|line| line == row), "{row}: {rows}");
        }
        let table = printed(e, &["ps", "--all-levels"]);
        assert!(table.starts_with("HOST ") && table.lines().next().unwrap().contains("CONTAINER ID   IMAGE"), "{table}");
        let one: Value = serde_json_line(&printed(e, &["ps", "--all-levels", "--format", "json", "--filter", &format!("name={leaf}")]));
        assert_eq!((one["Host"].as_str(), one["Names"].as_str()), (Some(path), Some(leaf)));
        assert!(!printed(e, &["ps", "--format", "json"]).contains("\"Host\""), "without the option all is Docker's");
        let below = printed(e, &["--at", &outer.name, "ps", "--all-levels", "--format", "{{.Host}}"]);
        assert_eq!(below.lines().collect::<Vec<_>>(), ["/", path.split('/').next_back().unwrap()]);
        let used = printed(e, &["stats", "--all-levels", "--no-stream", "--format", "{{.Host}} {{.Name}} {{.PIDs}}"]);
        assert!(used.lines().any(|line| line == format!("{path} {leaf} 1")), "{used}");
        let used = printed(e, &["--at", &outer.name, "stats", "--all-levels", "--no-stream"]);
        assert!(used.starts_with("HOST ") && used.contains(leaf), "{used}");
        let refused = droste(deep.socket()).args(["ps", "--all-levels"]).output().unwrap();
        assert!(text(&refused).contains("only the machine's own socket looks at all levels"), "{}", text(&refused));
    });
}

fn serde_json_line(text: &str) -> Value {
    text.trim().parse().unwrap()
}

#[test]
fn trees_by_template() {
    let e = Engine::shared();
    if e.not_on_docker("it has no hosts below it") {
        return;
    }
    three_levels(e, |outer, path, deep| {
        let leaf = &names(deep)[0][1..];
        let rows = printed(e, &["tree", "--format", "{{.Level}} {{.Path}} {{.State}} {{.IsHost}} {{.Image}}"]);
        for row in [format!("1 {} running true {BASE}", outer.name), format!("3 {path}/{leaf} running false {BASE}")] {
            assert!(rows.lines().any(|line| line == row), "{row}: {rows}");
        }
        assert!(rows.lines().next().unwrap().starts_with("0 / running true"));
        let drawn = printed(e, &["--at", &outer.name, "tree"]);
        let inner = path.split('/').next_back().unwrap();
        for part in [format!("◆ {}", outer.name), format!("└─ ◆ {inner}"), format!("   └─ {leaf}"), "CPU TIME   MEMORY".to_owned()] {
            assert!(drawn.contains(&part), "{part}: {drawn}");
        }
        let tree: Value = serde_json_line(&printed(e, &["--at", &outer.name, "tree", "--format", "json"]));
        assert_eq!(tree["Children"][0]["Children"][0]["Name"], leaf);
        let wrong = droste(e.socket()).args(["tree", "--format", "{{.Nope}}"]).output().unwrap();
        assert!(text(&wrong).contains("Nope") && wrong.status.code() == Some(1), "{}", text(&wrong));
        let mut watching = droste(e.socket()).args(["tree", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
        let shares = lines.filter(|line| line.contains(leaf)).take(2).collect::<Vec<_>>();
        assert!(!shares[0].contains('%') && shares[1].contains('%'), "a share takes two looks: {shares:?}");
        watching.kill().unwrap();
        watching.wait().unwrap();
    });
}

#[test]
fn events_of_all_levels() {
    let e = Engine::shared();
    if e.not_on_docker("it has no hosts below it") {
        return;
    }
    let since = e.get("/info")["SystemTime"].as_str().unwrap().to_owned();
    let mut watching = droste(e.socket()).args(["events", "--all-levels", "--since", &since, "--filter", "event=start"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    three_levels(e, |outer, path, deep| {
        let id = deep.get("/containers/json")[0]["Id"].as_str().unwrap().to_owned();
        for wanted in [format!(" / container start {} (", outer.id), format!(" {path} container start {id} (")] {
            assert!(lines.any(|line| line.contains(&wanted)), "{wanted}");
        }
    });
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn hosts_are_listed_inspected_and_limited() {
    let e = Engine::shared();
    if e.not_on_docker("it has no hosts below it") {
        return;
    }
    let (outer, h) = host(e);
    let name = outer.name.as_str();
    let run = |socket: &Path, args: &[&str]| droste(socket).arg("host").args(args).output().unwrap();
    let ok = |args: &[&str]| {
        let output = run(e.socket(), args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = ok(&["ls", "--format", "{{.Path}} {{.Level}} {{.State}} {{.Running}}/{{.Containers}}"]);
    assert!(listed.lines().any(|line| line == format!("{name} 1 running 0/0")), "{listed}");
    assert!(ok(&["ls", "-q"]).lines().any(|line| line == name));
    assert_eq!(ok(&["inspect", "-f", "{{.Level}} {{.Grant}} {{.Bounds.NoNewPrivileges}}", name]), "1 own false\n");
    let format = ["--format", "{{.Name}} {{.Used}}/{{.Limit}} {{.Set}}"];
    let limits = |more: &[&str]| ok(&[&["limits"][..], &format, &[name], more].concat());
    assert!(limits(&[]).contains("containers 0/4096 false\n"));
    assert!(limits(&["containers=1", "config=1m"]).contains("containers 0/1 true\n"));
    let _only = h.run(sh_with("sleep 1000", json!({})));
    let set = limits(&[]);
    assert!(set.contains("containers 1/1 true\n") && set.contains("/1MiB true\n"), "{set}");
    assert!(ok(&["ls", "--format", "{{.Limits}}"]).contains("containers 1/1"));
    let refused = droste(h.socket()).args(["create", BASE, "true"]).output().unwrap();
    assert!(text(&refused).contains("this host's limit of containers is reached: 1 of 1 in use"), "{}", text(&refused));
    assert!(limits(&["containers=default"]).contains("containers 1/4096 false\n"));
    for (words, message) in [("cats=1", "unknown limit \"cats\""), ("tags", "give NAME=VALUE"), ("tags=much", "invalid value \"much\"")] {
        let output = run(e.socket(), &["limits", name, words]);
        assert!(!output.status.success() && text(&output).contains(message), "{words}: {}", text(&output));
    }
    assert!(text(&run(e.socket(), &["inspect", "no-such-host"])).contains("No such container: no-such-host"));
    let below = run(h.socket(), &["ls", "-q"]);
    assert!(below.status.success() && below.stdout.is_empty(), "{}", text(&below));
}
