//! What there is where an engine runs, counted: links, rules of the firewall, namespaces, mounts, processes, control
//! groups, the daemon's open files, and files in its folders. A test takes a census, does much, and finds the same
//! again, or says what is left.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::engine::Engine;

/// How long what ended may take to be gone before it counts as left behind. Not an expectation of speed.
const LEFT: Duration = Duration::from_secs(60);

/// Open files of the daemon that come and go: connections of clients end a moment after their last answer.
const IN_FLIGHT: usize = 4;

/// What there is where an engine runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    links: Vec<String>,
    rules: Vec<String>,
    namespaces: usize,
    mounts: usize,
    processes: Vec<String>,
    groups: Vec<String>,
    open_files: usize,
    files: Vec<String>,
}

impl Engine {
    /// Counts once, whatever is on its way.
    pub fn census(&self) -> Census {
        let pids = pids(self);
        let daemon = std::fs::read_to_string(self.dir().join("pid")).expect("the daemon's number");
        let daemon = self.root_path(&format!("/proc/{}", daemon.trim()));
        // The kernel's own numbers for rules differ each time.
        let rules = lines(self, "nft", &["list", "ruleset"]).into_iter().filter(|line| !line.contains("counter"));
        Census {
            links: sorted(lines(self, "ip", &["-o", "link"]).iter().map(|line| link_name(line))),
            rules: rules.collect(),
            namespaces: namespaces(self, &pids),
            mounts: std::fs::read_to_string(daemon.join("mountinfo")).unwrap_or_default().lines().count(),
            processes: process_names(self, &pids),
            groups: groups(self),
            open_files: std::fs::read_dir(daemon.join("fd")).map_or(0, Iterator::count),
            files: files(self),
        }
    }

    /// What there is once nothing is on its way any more: the same twice, a moment apart.
    pub fn at_rest(&self) -> Census {
        let mut before = self.census();
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = self.census();
            if now == before {
                return now;
            }
            before = now;
        }
    }

    /// What is there now and was not before, and the other way round, a line each.
    pub fn differences(&self, before: &Census) -> Vec<String> {
        self.census().differences(before)
    }

    /// Waits until it is as it was; what ends a container may take a moment after its answer.
    pub fn settles(&self, before: &Census) {
        let deadline = Instant::now() + LEFT;
        loop {
            let differences = self.differences(before);
            if differences.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "not as it was:\n{}", differences.join("\n"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Census {
    /// The same where so many more files may be open in the daemon: of a container that it started it holds more than of
    /// one that it found running.
    #[must_use]
    pub fn with_open_files(mut self, more: usize) -> Self {
        self.open_files += more;
        self
    }

    /// What is there now and was not before, and the other way round, a line each.
    fn differences(&self, before: &Self) -> Vec<String> {
        let lists = [
            ("link", &self.links, &before.links),
            ("rule", &self.rules, &before.rules),
            ("process", &self.processes, &before.processes),
            ("control group", &self.groups, &before.groups),
            ("file", &self.files, &before.files),
        ];
        let mut found: Vec<String> = lists.iter().flat_map(|(what, now, was)| compare(what, now, was)).collect();
        let numbers = [("namespaces", self.namespaces, before.namespaces), ("mounts", self.mounts, before.mounts)];
        let differ = numbers.iter().filter(|(_, now, was)| now != was);
        found.extend(differ.map(|(what, now, was)| format!("{what}: {now}, before {was}")));
        if self.open_files > before.open_files + IN_FLIGHT {
            found.push(format!("open files of the daemon: {}, before {}", self.open_files, before.open_files));
        }
        found
    }
}

/// Lines of two sorted lists that only one of them has, as often as it has them more.
fn compare(what: &str, now: &[String], was: &[String]) -> Vec<String> {
    let (mut now, mut was) = (now.iter().peekable(), was.iter().peekable());
    let mut found = Vec::new();
    loop {
        match (now.peek(), was.peek()) {
            (Some(a), Some(b)) if a == b => {
                now.next();
                was.next();
            }
            (Some(a), b) if b.is_none_or(|b| a < b) => {
                found.push(format!("{what} left: {a}"));
                now.next();
            }
            (_, Some(b)) => {
                found.push(format!("{what} missing: {b}"));
                was.next();
            }
            _ => return found,
        }
    }
}

fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

fn said(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    sorted(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned))
}

fn lines(e: &Engine, program: &str, words: &[&str]) -> Vec<String> {
    e.in_netns(|| said(Command::new(program).args(words)))
}

/// The name in a line of `ip -o link`. The machine's ends of containers' links have names by chance.
fn link_name(line: &str) -> String {
    let name = line.split(':').nth(1).unwrap_or(line).trim();
    if name.starts_with("drv") { "drv…".to_owned() } else { name.to_owned() }
}

/// Processes in the engine's PID namespace, as its own `/proc` shows them.
fn pids(e: &Engine) -> Vec<String> {
    let table = std::fs::read_dir(e.root_path("/proc")).expect("the engine's /proc");
    let names = table.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).collect()
}

fn process_names(e: &Engine, pids: &[String]) -> Vec<String> {
    let name = |pid: &String| {
        let read = |file: &str| std::fs::read_to_string(e.root_path(&format!("/proc/{pid}/{file}"))).ok();
        let words = read("cmdline")?.replace('\0', " ").trim_end().to_owned();
        // One that has ended and that nobody has waited for.
        let ended = || format!("ended: {}", read("stat").unwrap_or_default());
        Some(if words.is_empty() { ended() } else { words })
    };
    sorted(pids.iter().filter_map(name))
}

fn namespaces(e: &Engine, pids: &[String]) -> usize {
    let kinds = ["net", "mnt", "pid", "uts", "ipc", "cgroup"];
    let of = |pid: &String| kinds.map(|kind| std::fs::read_link(e.root_path(&format!("/proc/{pid}/ns/{kind}"))).ok());
    pids.iter().flat_map(of).flatten().collect::<BTreeSet<_>>().len()
}

/// Control groups below a parent of the engine's own; none where it shares the default one with other tests' engines.
fn groups(e: &Engine) -> Vec<String> {
    let Some(parent) = e.cgroup_parent() else { return Vec::new() };
    let roots = [PathBuf::from("/sys/fs/cgroup").join(&parent)].into_iter().chain(
        std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path().join(&parent)),
    );
    let roots: Vec<PathBuf> = roots.filter(|root| root.is_dir()).collect();
    if roots.is_empty() {
        return Vec::new();
    }
    said(Command::new("find").args(roots).args(["-type", "d"]))
}

/// Files in the engine's folders, without what is in layers.
fn files(e: &Engine) -> Vec<String> {
    let mut find = Command::new("find");
    find.arg(e.dir()).args(["-not", "-path", "*/log", "-not", "-path", "*/data/layers/*/*", "-printf", "%P\n"]);
    said(&mut find)
}
