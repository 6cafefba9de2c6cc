//! The pages in docs/recipes: every command runs, in the order of its page, and what it prints is compared with what
//! the page shows. What other products read is written to a file, parsed, and played by the replay of that product.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use droste_test_clients::place::{PYTHONS_RYUK, asked_for, installed, ryuk};
use droste_test_clients::{clients, folder};
use droste_test_support::engine::droste_program;
use droste_test_support::image::BASE;
use droste_test_support::{Container, Engine, Value, json};

use crate::image::{self, TOOLS};
use crate::{builds, ci};

/// Names of images on the pages for which the one of the tests stands in.
const STAND_INS: [&str; 6] = ["docker:cli", "jenkins-with-docker:latest", "gitlab/gitlab-runner:latest", "actions-runner:latest", "nginx:alpine", "busybox:latest"];

/// A block of a page: its words after the fence, and its text.
struct Block {
    words: Vec<String>,
    text: String,
}

fn page(name: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let parts: Vec<&str> = text.split("```").collect();
    assert!(parts.len() > 2 && parts.len() % 2 == 1, "{name}: blocks begin and end");
    let block = |part: &&str| {
        let (words, text) = part.split_once('\n').unwrap();
        Block { words: words.split_whitespace().map(str::to_owned).collect(), text: text.to_owned() }
    };
    parts.iter().skip(1).step_by(2).map(block).collect()
}

/// Whether lines are those that a page shows: a line of `…` stands for any lines, `…` in a line for any text.
fn shows(shown: &[&str], printed: &[&str]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((&"…", rest)) => (0..=printed.len()).any(|skipped| shows(rest, &printed[skipped..])),
        Some((line, rest)) => printed.split_first().is_some_and(|(first, others)| alike(line, first) && shows(rest, others)),
    }
}

fn alike(shown: &str, printed: &str) -> bool {
    let (begin, end) = shown.split_once('…').unwrap_or((shown, ""));
    if !shown.contains('…') {
        return shown == printed;
    }
    printed.len() >= begin.len() + end.len() && printed.starts_with(begin) && printed.ends_with(end)
}

/// Commands of a block with the lines that are shown below each.
fn commands(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => found.push((command, Vec::new())),
            None => found.last_mut().expect("a block begins with a command").1.push(line),
        }
    }
    found
}

/// Where a page is followed: an engine with the images that it names, and a folder with its files.
struct Reader<'e> {
    engine: &'e Engine,
    home: tempfile::TempDir,
}

impl<'e> Reader<'e> {
    fn new(engine: &'e Engine) -> Self {
        image::make(engine);
        for name in STAND_INS {
            let (repo, tag) = name.split_once(':').unwrap();
            let source = if repo == "busybox" { BASE } else { TOOLS };
            engine.request("POST", &format!("/images/{source}/tag?repo={repo}&tag={tag}")).send().expect_status(201);
        }
        let home = engine.scratch();
        let bin = home.path().join("bin");
        std::fs::create_dir_all(home.path().join("app")).unwrap();
        std::fs::create_dir(&bin).unwrap();
        symlink(clients().join("bin/docker"), bin.join("docker")).unwrap();
        symlink(droste_program(), bin.join("droste")).unwrap();
        Self { engine, home }
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("app")
    }

    /// Runs a command as a reader would type it, in the engine's network. Gives its standard output: what goes to the
    /// other one comes before or after it, as it happens.
    fn types(&self, command: &str) -> String {
        let path = format!("{}:{}:{}", self.home.path().join("bin").display(), clients().join("py/bin").display(), std::env::var("PATH").unwrap());
        let output = Command::new("nsenter")
            .arg(format!("--net={}", self.engine.netns_path().display()))
            .args(["sh", "-c", command])
            .env_remove("DOCKER_CONTEXT")
            .envs([("DOCKER_HOST", self.engine.host().as_str()), ("PATH", &path)])
            .env("HOME", self.home.path())
            .current_dir(self.folder())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "$ {command}\n{printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    }

    fn compare(command: &str, shown: &[&str], printed: &str) {
        let lines: Vec<&str> = printed.lines().collect();
        assert!(shows(shown, &lines), "$ {command}\nshown:   {shown:?}\nprinted: {lines:?}");
    }

    /// Follows a page. `other` is given each block that is not a list of commands for the machine, once it is a file.
    fn follows(&self, name: &str, mut other: impl FnMut(&Block)) {
        for block in page(name) {
            match block.words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["console"] => {
                    for (command, shown) in commands(&block.text) {
                        Self::compare(command, &shown, &self.types(command));
                    }
                }
                ["console", _] => other(&block),
                [_, file] => {
                    let path = self.folder().join(file);
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, &block.text).unwrap();
                    other(&block);
                }
                _ => panic!("{name}: a block is `console`, or a file's kind and name: {:?}", block.words),
            }
        }
    }

    /// Plays a product's calls in a container that the page started, working in a folder of it, with the choices that
    /// the product's file makes.
    fn replays(&self, (container, work): (&str, &str), script: &str, mut choices: Vec<String>) {
        let id = self.engine.get(&format!("/containers/{container}/json"))["Id"].as_str().unwrap().to_owned();
        self.types(&format!("docker cp -q {} {container}:/ci", folder("ci").display()));
        self.types(&format!("docker exec {container} mkdir -p {work}"));
        choices.push(format!("WORK={work}"));
        let running = std::mem::ManuallyDrop::new(Container::adopt(self.engine, &id));
        ci::contained(&running, script, &choices);
    }
}

/// What stands between the first quotes after a word, for each line that begins with it.
fn quoted<'t>(text: &'t str, word: &str) -> Vec<&'t str> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix(word));
    lines.filter_map(|rest| rest.trim().strip_prefix('\'')?.strip_suffix('\'')).collect()
}

/// Values of a key in the simplest kind of YAML: one a line.
fn values<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("- "));
    lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).collect()
}

/// The entries of a list in the simplest kind of YAML.
fn list<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let begin = format!("{key}:");
    let below = text.lines().skip_while(|line| line.trim() != begin).skip(1);
    below.map_while(|line| line.trim().strip_prefix("- ")).collect()
}

fn droste() -> Option<Reader<'static>> {
    let e = Engine::shared();
    (!e.not_on_docker("the pages are about Droste")).then(|| Reader::new(e))
}

#[test]
fn jenkins() {
    let Some(reader) = droste() else { return };
    reader.follows("jenkins.md", |block| {
        let [image] = quoted(&block.text, "image")[..] else { panic!("one image") };
        let [args] = quoted(&block.text, "args")[..] else { panic!("one line of args") };
        let steps = quoted(&block.text, "sh").join("\n");
        assert!(steps.contains("docker run"), "{steps}");
        reader.replays(("jenkins", "/var/jenkins_home/work"), "jenkins.sh", vec![format!("AGENT_IMAGE={image}"), format!("AGENT_ARGS={args}"), format!("STEPS={steps}")]);
    });
}

#[test]
fn gitlab() {
    let Some(reader) = droste() else { return };
    reader.follows("gitlab.md", |block| match block.words[1].as_str() {
        "config.toml" => {
            let config: toml::Table = block.text.parse().unwrap();
            let docker = &config["runners"][0]["docker"];
            assert_eq!(docker["privileged"].as_bool(), Some(false));
            let volumes: Vec<&str> = docker["volumes"].as_array().unwrap().iter().filter_map(toml::Value::as_str).collect();
            assert_eq!(volumes, ["/cache", ci::SOCKET], "what the replay gives its jobs");
        }
        ".gitlab-ci.yml" => {
            let choices = [("JOB_IMAGE", values(&block.text, "image")[0].to_owned()), ("SERVICE_IMAGE", values(&block.text, "name")[0].to_owned())];
            let more = [("SERVICE_ALIAS", values(&block.text, "alias")[0].to_owned()), ("STEPS", list(&block.text, "script").join("\n"))];
            assert!(more[1].1.contains("docker run"), "{more:?}");
            reader.replays(("gitlab-runner", "/work"), "gitlab.sh", choices.iter().chain(&more).map(|(key, value)| format!("{key}={value}")).collect());
        }
        other => panic!("{other}"),
    });
}

#[test]
fn github_actions() {
    let Some(reader) = droste() else { return };
    reader.follows("github-actions.md", |block| {
        let [job, service] = values(&block.text, "image")[..] else { panic!("two images") };
        let steps = values(&block.text, "run").join("\n");
        assert!(steps.contains("docker run"), "{steps}");
        reader.replays(("runner", "/runner/work"), "github.sh", vec![format!("JOB_IMAGE={job}"), format!("SERVICE_IMAGE={service}"), format!("STEPS={steps}")]);
    });
}

#[test]
fn coding_agents() {
    let Some(reader) = droste() else { return };
    reader.follows("coding-agents.md", |block| panic!("{:?}", block.words));
}

/// Its readers have the plugin, and BuildKit's image is there.
#[test]
fn builds() {
    let Some(reader) = droste() else { return };
    builds::make_buildkit(reader.engine);
    let settings = reader.home.path().join(".docker");
    std::fs::create_dir(&settings).unwrap();
    symlink(clients().join("cli-plugins-buildx"), settings.join("cli-plugins")).unwrap();
    reader.follows("builds.md", |block| assert_eq!(block.words, ["dockerfile", "Dockerfile"]));
}

/// The pages' Python is the one that has Testcontainers, in its image and on the machine.
#[test]
fn testcontainers() {
    let Some(reader) = droste() else { return };
    let python = installed(reader.engine, "python", "testcontainers");
    reader.engine.request("POST", &format!("/images/{}/tag?repo=python-tests&tag=latest", python.name)).send().expect_status(201);
    ryuk(reader.engine, &python, &asked_for(PYTHONS_RYUK));
    reader.follows("testcontainers.md", |block| assert!(block.words[1].ends_with(".py"), "{:?}", block.words));
}

/// The options with which a dev container is started are made of its file, as the tool makes them.
#[test]
fn dev_containers() {
    let Some(reader) = droste() else { return };
    let mut container = String::new();
    let mut user = String::new();
    reader.follows("dev-containers.md", |block| match block.words[1].as_str() {
        "devcontainer.json" => {
            let config: Value = block.text.parse().unwrap();
            let text = |key: &str| config[key].as_str().unwrap().to_owned();
            let workspace = text("workspaceMount").replace("${localWorkspaceFolder}", &reader.folder().display().to_string());
            let mounts: String = config["mounts"].as_array().unwrap().iter().map(|mount| format!("--mount {} ", mount.as_str().unwrap())).collect();
            let command = "-c 'echo Container started; trap \"exit 0\" 15; exec \"$@\"; while sleep 1 & wait $!; do :; done' -";
            let label = format!("-l devcontainer.local_folder={}", reader.folder().display());
            let run = format!(
                "docker run -d --sig-proxy=false --mount {workspace} {mounts}{label} -w {} --entrypoint /bin/sh {} {command} sleep 100000",
                text("workspaceFolder"),
                text("image")
            );
            reader.types(&run).trim().clone_into(&mut container);
            user = text("remoteUser");
        }
        "compose.yaml" => {}
        "workspace" => {
            for (command, shown) in commands(&block.text) {
                let body = json!({"Cmd": ["sh", "-c", command], "User": user, "Env": ["DOCKER_CONFIG=/tmp/config"], "WorkingDir": "/workspaces/app"});
                let running = std::mem::ManuallyDrop::new(Container::adopt(reader.engine, &container));
                let outcome = running.exec_with(body);
                assert_eq!(outcome.code, 0, "$ {command}\n{}{}", outcome.out, outcome.err);
                Reader::compare(command, &shown, &outcome.out);
            }
        }
        other => panic!("{other}"),
    });
    reader.types(&format!("docker rm -f {container}"));
}

#[test]
fn what_a_page_shows_is_compared() {
    assert!(shows(&["a", "…", "z"], &["a", "b", "c", "z"]) && shows(&["…"], &[]) && shows(&["x … y"], &["x 1 y"]));
    assert!(!shows(&[], &["a"]) && !shows(&["a"], &[]) && !shows(&["a", "…"], &["b"]) && !shows(&["x … y"], &["x y"]));
    assert_eq!(commands("$ a\nb\n$ c\n"), [("a", vec!["b"]), ("c", vec![])]);
}
