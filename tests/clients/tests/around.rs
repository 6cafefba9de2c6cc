//! What stands around the client: shells that complete its words, plugins, `ssh://`, and the daemon that it starts
//! when there is none. Each shell is the real one on a pseudo-terminal.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use droste_test_support::Engine;
use droste_test_support::engine::droste_program;
use droste_test_support::image::BASE;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const PATIENCE: Duration = Duration::from_secs(60);

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)).trim().to_owned()
}

fn droste(args: &[&str]) -> String {
    let mut command = Command::new(droste_program());
    command.args(args).env("DOCKER_HOST", Engine::shared().host()).env_remove("DOCKER_CONTEXT").stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", text(&output));
    text(&output)
}

fn program(path: &Path, script: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A shell on a pseudo-terminal, with `droste` and its completions.
struct Shell {
    child: std::process::Child,
    terminal: File,
    seen: String,
    _home: tempfile::TempDir,
}

impl Shell {
    fn start(shell: &str, args: &[&str], setup: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(droste_program(), home.path().join("droste")).unwrap();
        let script = Command::new(droste_program()).args(["completion", shell]).output().unwrap();
        assert!(script.status.success(), "{}", text(&script));
        std::fs::write(home.path().join("completion"), script.stdout).unwrap();
        let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let side = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let side = || File::options().read(true).write(true).open(&side).unwrap();
        let child = Command::new("setsid")
            .args(["--ctty", shell])
            .args(args)
            .env_clear()
            .envs([("HOME", home.path().to_str().unwrap()), ("PATH", &path), ("TERM", "dumb"), ("LANG", "C.UTF-8")])
            .env("DOCKER_HOST", Engine::shared().host())
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .unwrap_or_else(|error| panic!("{shell}: {error}; run scripts/setup test"));
        let mut shell = Self { child, terminal: File::from(master), seen: String::new(), _home: home };
        shell.types(&format!("{setup}; echo READY$((40+2))\n").replace("$((40+2))", if args.contains(&"-N") { "(math 40+2)" } else { "$((40+2))" }));
        shell.until("READY42");
        shell
    }

    fn types(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until the text has come, and forgets what came before it.
    fn until(&mut self, wanted: &str) {
        let mut block = [0; 4096];
        while !self.seen.contains(wanted) {
            let mut fds = [PollFd::new(&self.terminal, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&PATIENCE.try_into().unwrap())).unwrap();
            assert!(ready > 0, "wanted {wanted:?}, the terminal shows {:?}", self.seen);
            let size = self.terminal.read(&mut block).unwrap_or(0);
            assert!(size > 0, "wanted {wanted:?}, the terminal ended after {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&block[..size]));
            // A terminal is asked what it is by some shells, and they wait for the answer.
            if self.seen.contains("\x1b[0c") || self.seen.contains("\x1b[c") {
                self.seen = self.seen.replace("\x1b[0c", "").replace("\x1b[c", "");
                self.types("\x1b[?62;c");
            }
        }
        let end = self.seen.find(wanted).unwrap() + wanted.len();
        self.seen.drain(..end);
    }

    /// Types the beginning of a line, asks for its completion, runs it once the rest of the word stands there, and
    /// waits for what it prints.
    fn completes(&mut self, beginning: &str, rest: &str, printed: &str) {
        self.types(beginning);
        self.until(beginning.rsplit(' ').next().unwrap());
        self.types("\t");
        self.until(rest);
        self.types("\n");
        self.until(printed);
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Something of each kind with a name that only it begins with, removed at the end.
struct Things {
    name: String,
}

impl Things {
    fn make(hint: &str) -> Self {
        let name = Engine::shared().name(hint);
        droste(&["create", "--name", &format!("c-{name}-end"), BASE, "true"]);
        droste(&["tag", BASE, &format!("i-{name}-end:tag")]);
        droste(&["volume", "create", &format!("v-{name}-end")]);
        Self { name }
    }
}

impl Drop for Things {
    fn drop(&mut self) {
        for words in [["rm", "c-"], ["rmi", "i-"]] {
            let tag = if words[0] == "rmi" { ":tag" } else { "" };
            droste(&[words[0], &format!("{}{}-end{tag}", words[1], self.name)]);
        }
        droste(&["volume", "rm", &format!("v-{}-end", self.name)]);
    }
}

fn live_names(mut shell: Shell, hint: &str) {
    let things = Things::make(hint);
    let name = things.name.as_str();
    shell.completes(&format!("droste inspect -f 'got={{{{.Name}}}}' c-{name}"), "-end", &format!("got=/c-{name}-end"));
    let tags = "droste image inspect -f 'got={{.Os}}'";
    // Without its tag there is no such image.
    shell.completes(&format!("{tags} i-{name}"), "-end", "got=linux");
    shell.completes(&format!("{tags} i-{name}-end:t"), "ag", "got=linux");
    let volume = format!("got=v-{name}-end");
    shell.completes(&format!("droste volume inspect -f 'got={{{{.Name}}}}' v-{name}"), "-end", &volume);
    shell.completes("droste network inspect -f 'got={{.Name}}' bri", "dge", "got=bridge");
    shell.completes("droste vol", "ume", "Manage volumes");
    shell.completes("droste ps --no-t", "runc", "CONTAINER ID");
}

#[test]
fn bash_completes_live_names() {
    live_names(Shell::start("bash", &["--norc", "--noprofile", "-i"], "bind 'set enable-bracketed-paste off'; . ~/completion"), "bash");
}

#[test]
fn zsh_completes_live_names() {
    live_names(Shell::start("zsh", &["-f", "-i"], "unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D; . ~/completion"), "zsh");
}

#[test]
fn fish_completes_live_names() {
    live_names(Shell::start("fish", &["-N", "-i"], "source ~/completion"), "fish");
}

#[test]
fn a_plugin_gets_its_words_and_the_same_engine() {
    let config = tempfile::tempdir().unwrap();
    let script = r#"#!/bin/sh
if [ "$1" = docker-cli-plugin-metadata ]; then
  echo '{"SchemaVersion":"0.1.0","Vendor":"Tests","Version":"v1","ShortDescription":"Says what it got"}'
  exit
fi
echo "words=$* host=$DOCKER_HOST original=${DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND##*/}"
exit 7
"#;
    program(&config.path().join("cli-plugins/docker-said"), script);
    program(&config.path().join("elsewhere/docker-other"), script);
    // No program, so no plugin.
    std::fs::write(config.path().join("cli-plugins/docker-not"), script).unwrap();
    let extra = format!("{{\"cliPluginsExtraDirs\": [\"{}/elsewhere\"]}}", config.path().display());
    std::fs::write(config.path().join("config.json"), extra).unwrap();
    let host = Engine::shared().host();
    let run = |args: &[&str]| {
        let mut command = Command::new(droste_program());
        command.args(args).env("DOCKER_CONFIG", config.path()).env("DOCKER_HOST", &host).env_remove("DOCKER_CONTEXT");
        command.output().unwrap()
    };
    let output = run(&["said", "up", "-d", "--x=y"]);
    assert_eq!(text(&output), format!("words=said up -d --x=y host={host} original=droste"));
    assert_eq!(output.status.code(), Some(7));
    // Options before the command are the plugin's to read, as with Docker's client.
    let output = run(&["-H", "unix:///elsewhere", "--debug", "other", "ps"]);
    assert!(text(&output).starts_with("words=-H unix:///elsewhere --debug other ps "), "{}", text(&output));
    assert_eq!(run(&["not"]).status.code(), Some(1));
    let help = text(&run(&["--help"]));
    assert!(help.contains("said*") && help.contains("Says what it got") && !help.contains("not*"), "{help}");
    let plugins = text(&run(&["info", "-f", "{{range .ClientInfo.Plugins}}{{.Name}}/{{.Version}} {{end}}"]));
    assert!(plugins.contains("said/v1") && plugins.contains("other/v1") && !plugins.contains("not/"), "{plugins}");
}

#[test]
fn ssh_reaches_the_daemon_through_dial_stdio() {
    let folder = tempfile::tempdir().unwrap();
    // In place of ssh: notes its words and runs the far side's command here.
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>{0}/words\nfor last; do :; done\nPATH={0}/far:$PATH DOCKER_HOST={1} exec sh -c \"$last\"\n",
        folder.path().display(),
        Engine::shared().host()
    );
    program(&folder.path().join("near/ssh"), &script);
    std::fs::create_dir(folder.path().join("far")).unwrap();
    std::os::unix::fs::symlink(droste_program(), folder.path().join("far/droste")).unwrap();
    let path = format!("{}/near:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let run = |args: &[&str]| {
        let mut command = Command::new(droste_program());
        command.args(["-H", "ssh://me@far:2222"]).args(args).env("PATH", &path);
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT").output().unwrap()
    };
    let output = run(&["run", "--rm", BASE, "sh", "-c", "echo through; exit 5"]);
    assert_eq!((text(&output), output.status.code()), ("through".to_owned(), Some(5)));
    let words = std::fs::read_to_string(folder.path().join("words")).unwrap();
    assert!(words.lines().next().unwrap().contains("-p 2222 -- me@far "), "{words}");
    std::fs::remove_file(folder.path().join("near/ssh")).unwrap();
    program(&folder.path().join("near/ssh"), "#!/bin/sh\necho far is not there >&2; exit 255\n");
    let output = run(&["ps"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("far is not there"), "{}", text(&output));
}

/// Runs lines of a shell where nothing of Droste's exists yet: mounts, processes and network of their own, which end
/// with the shell.
fn on_a_fresh_machine(script: &str) -> Output {
    let cgroup = Engine::shared().name("fresh");
    let setup = format!(
        "set -e; mount -t tmpfs none /run; mkdir -p /var/lib/droste /etc/droste
         mount -t tmpfs none /var/lib/droste; mount -t tmpfs none /etc/droste; ip link set lo up
         echo '{{\"cgroup-parent\": \"/{cgroup}\"}}' >/etc/droste/daemon.json
         export HOME=/run PATH=/run/bin:$PATH; mkdir /run/bin; ln -s {} /run/bin/droste\n",
        droste_program().display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-c", &format!("{setup}{script}")])
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT")
        .env_remove("DOCKER_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let _ = Command::new("sh").args(["-c", &format!("find /sys/fs/cgroup -depth -type d -path '*/{cgroup}*' -exec rmdir {{}} + 2>/dev/null")]).status();
    output
}

#[test]
fn the_first_command_starts_a_daemon_and_says_so() {
    let output = on_a_fresh_machine(
        "droste ps -q >/run/out 2>/run/err; test ! -s /run/out
         cat /run/err; test -S /run/droste/droste.sock; droste ps -q; droste version -f '{{.Server.Version}}' >/dev/null; echo fine",
    );
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let wanted = "droste: no daemon was listening; starting one (its log: /run/droste/daemon.log)\nfine";
    assert_eq!(text, wanted);
}

#[test]
fn clients_that_begin_at_once_start_one_daemon() {
    let output = on_a_fresh_machine(
        "for n in 1 2 3 4; do droste ps -q 2>/run/err-$n & pids=\"$pids $!\"; done; for pid in $pids; do wait $pid; done
         cat /run/err-*; pgrep -c -f '^/proc/self/exe __daemon-detached'",
    );
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(text, "droste: no daemon was listening; starting one (its log: /run/droste/daemon.log)\n1");
}

#[test]
fn a_daemon_that_can_not_start_is_told_with_its_last_words() {
    let output = on_a_fresh_machine("echo '{\"nonsense\": 1}' >/etc/droste/daemon.json; droste ps || echo code=$?");
    let text = text(&output);
    assert!(text.contains("`droste daemon` ended at once") && text.contains("nonsense"), "{text}");
    assert!(text.contains("code=1"), "{text}");
}

#[test]
fn a_named_daemon_is_never_started() {
    let output = on_a_fresh_machine(
        "DOCKER_HOST=unix:///run/droste/droste.sock droste ps || echo env=$?
         droste -H unix:///run/droste/droste.sock ps || echo flag=$?
         test ! -e /run/droste/droste.sock && echo none",
    );
    let text = text(&output);
    assert!(text.contains("env=1") && text.contains("flag=1") && text.contains("none"), "{text}");
    assert!(text.contains("Is the docker daemon running?"), "{text}");
}

#[test]
fn a_plugin_finds_the_daemon_that_was_started_for_it() {
    let output = on_a_fresh_machine(
        "mkdir -p /run/.docker/cli-plugins
         printf '#!/bin/sh\\necho $* $DOCKER_HOST; droste -H $DOCKER_HOST version -f {{.Server.ApiVersion}}\\n' >/run/.docker/cli-plugins/docker-compose
         chmod +x /run/.docker/cli-plugins/docker-compose
         droste compose version 2>&1 | head -n 1; test ! -e /run/droste/droste.sock; droste compose up",
    );
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("compose version unix:///run/droste/droste.sock\ncompose up unix:///run/droste/droste.sock\n1."), "{text}");
    assert!(text.contains("droste: no daemon was listening; starting one"), "{text}");
}
