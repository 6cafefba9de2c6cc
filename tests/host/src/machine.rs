//! One boot: qemu, its two serial ports, and the time it may take.
//!
//! The kernel and the first process have the first port, which goes to a file and is only shown when something failed;
//! what the guest reports comes through the second one, so that no word of the kernel's falls into it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Initramfs, Kernel};

/// How long a guest may take: some ten times what it needs on a slow machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many lines of the guest's report and of the console a failure shows.
const TAIL: usize = 80;
/// The guest's last word.
const END: &str = "all done";

/// A machine to boot.
#[derive(Debug)]
pub struct Machine {
    kernel: Kernel,
    guest: Initramfs,
    words: String,
}

/// What a guest said.
#[derive(Debug)]
pub struct Report {
    lines: Vec<String>,
    console: String,
    in_time: bool,
}

impl Machine {
    /// A machine whose first process runs `script`. Busybox and modules are in it; `programs` go to `/root`.
    pub fn new(busybox: &[u8], script: &str) -> Self {
        let (kernel, mut guest) = (Kernel::get(), Initramfs::new());
        for dir in ["bin", "sbin", "dev", "etc", "proc", "sys", "tmp", "run", "root", "new", "var/lib", "var/run", "var/tmp", "usr/bin", "lib64"] {
            guest.dir(dir);
        }
        guest.file("bin/busybox", 0o755, busybox);
        guest.file("init", 0o755, include_bytes!("../vm/init.sh"));
        guest.file("guest.sh", 0o755, script.as_bytes());
        guest.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
        guest.file("etc/group", 0o644, b"root:x:0:\n");
        guest.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n");
        guest.file("etc/resolv.conf", 0o644, b"nameserver 192.0.2.53\n");
        kernel.add_modules(&mut guest);
        Self { kernel, guest, words: String::new() }
    }

    /// With more words for its kernel.
    #[must_use]
    pub fn with(self, words: &str) -> Self {
        Self { words: words.to_owned(), ..self }
    }

    /// What it starts with, to add to.
    pub fn guest(&mut self) -> &mut Initramfs {
        &mut self.guest
    }

    /// Boots it and listens until it is off, or until the time is over.
    pub fn boot(self) -> Report {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder in /var/tmp");
        let initramfs = folder.path().join("initramfs");
        std::fs::write(&initramfs, self.guest.finish()).expect("room for the initramfs in /var/tmp");
        let mut qemu = start(&self.kernel, &self.words, &folder);
        let lines = lines_of(qemu.stdout.take().expect("qemu's output is a pipe"));
        let (lines, in_time) = listen(&lines);
        if !in_time {
            qemu.kill().expect("qemu can be ended");
        }
        let status = qemu.wait().expect("qemu was started");
        let mut console = String::from_utf8_lossy(&std::fs::read(folder.path().join("console")).unwrap_or_default()).into_owned();
        if in_time && !status.success() {
            let mut said = String::new();
            let _ = qemu.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
            let _ = write!(console, "\nqemu: {status}: {said}");
        }
        Report { lines, console, in_time }
    }
}

/// What differs between processors: the console is the first port, the report the second.
fn processor() -> (&'static str, Vec<&'static str>, &'static str) {
    let wanted = std::env::var("DROSTE_TEST_PROCESSOR");
    match wanted.as_deref().unwrap_or(std::env::consts::ARCH) {
        "x86_64" => ("qemu-system-x86_64", vec!["-cpu", "max", "-serial", "chardev:report"], "console=ttyS0 report=ttyS1"),
        "aarch64" => {
            let board = vec!["-M", "virt", "-cpu", "cortex-a72", "-device", "pci-serial,chardev=report"];
            ("qemu-system-aarch64", board, "console=ttyAMA0 report=ttyS0")
        }
        other => panic!("DROSTE_TEST_PROCESSOR={other}: there are machines of x86_64 and aarch64"),
    }
}

fn start(kernel: &Kernel, words: &str, folder: &TempDir) -> Child {
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (qemu, board, ports) = processor();
    Command::new(qemu)
        .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "2048"])
        .args(["-nodefaults", "-display", "none", "-no-reboot", "-nic", "none"])
        .args(["-serial", &format!("file:{}", path("console")), "-chardev", "stdio,id=report"])
        .args(board)
        .arg("-kernel")
        .arg(&kernel.image)
        .args(["-initrd", &path("initramfs")])
        .args(["-append", &format!("{ports} quiet panic=-1 cgroup_no_v1=all {words}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{qemu}: {error}: Debian's package qemu-system-x86 (or -arm) is missing (scripts/setup test)"))
}

fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn listen(lines: &Receiver<String>) -> (Vec<String>, bool) {
    let (mut heard, end) = (Vec::new(), Instant::now() + PATIENCE);
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => heard.push(line),
            Err(RecvTimeoutError::Disconnected) => return (heard, true),
            Err(RecvTimeoutError::Timeout) => return (heard, false),
        }
    }
}

impl Report {
    /// Fails unless every case that spoke was `ok`, each of `expected` did, and the guest came to its end.
    pub fn assert_all_ok<'a>(&self, expected: impl IntoIterator<Item = &'a str>) {
        let failed = self.failures();
        let is_ok = |name: &str| self.lines.iter().any(|line| line.strip_prefix("ok ") == Some(name));
        let missing: Vec<&str> = expected.into_iter().filter(|name| !is_ok(name)).collect();
        let ended = self.lines.last().is_some_and(|line| line == END);
        if failed.is_empty() && missing.is_empty() && ended && self.in_time {
            return;
        }
        let why = match (self.in_time, ended) {
            (false, _) => format!("the guest did not end within {} seconds", PATIENCE.as_secs()),
            (true, false) => "the guest did not come to its end".to_owned(),
            (true, true) => "cases failed".to_owned(),
        };
        let (report, console) = (tail(self.lines.iter().map(String::as_str)), tail(self.console.lines()));
        let failed = failed.join("\n");
        // What matters most comes last: a reader in a hurry, scripts/failures among them, sees only the end.
        panic!("the console's end:\n{console}\nthe report's end:\n{report}\n{why}\nnot ok: {missing:#?}\n{failed}");
    }

    /// Each `not ok` with the output below it.
    fn failures(&self) -> Vec<&str> {
        let mut shown = false;
        let lines = self.lines.iter().map(String::as_str);
        lines
            .filter(|line| {
                shown = line.starts_with("not ok") || shown && line.starts_with('#') && !line.starts_with("# begin");
                shown
            })
            .collect()
    }
}

fn tail<'a>(lines: impl DoubleEndedIterator<Item = &'a str>) -> String {
    let mut last: Vec<&str> = lines.rev().take(TAIL).collect();
    last.reverse();
    last.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str], in_time: bool) -> std::thread::Result<()> {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let report = Report { lines, console: "Kernel panic".to_owned(), in_time };
        std::panic::catch_unwind(|| report.assert_all_ok(["a", "b"]))
    }

    #[test]
    fn only_a_whole_report_is_good() {
        assert!(report(&["# begin a", "ok a", "ok b", "all done"], true).is_ok());
        for (lines, in_time, says) in [
            (&["ok a", "all done"][..], true, "cases failed"),
            (&["ok a", "ok b", "not ok c", "# why", "# begin d", "all done"], true, "not ok c\n# why"),
            (&["ok a", "ok b"], true, "did not come to its end"),
            (&["ok a", "ok b", "all done"], false, "did not end within"),
            (&[], true, "Kernel panic"),
        ] {
            let refused = report(lines, in_time).expect_err(says);
            let text = refused.downcast_ref::<String>().unwrap();
            assert!(text.contains(says), "{says}: {text}");
        }
    }
}
