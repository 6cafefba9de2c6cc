//! Reading `/proc`: one process at a time, and what of the machine is needed to make sense of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::CgroupError;
use crate::file;

/// Whose numbers of processes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pids {
    /// The daemon's own.
    OfMachine,
    /// Those of the PID namespace of the process with this id: a host's init.
    OfHost(u32),
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id, in the namespace asked for.
    pub pid: u32,
    /// Its parent's id there; 0 if the parent is outside.
    pub parent: u32,
    /// The name of its program file, at most 15 bytes.
    pub comm: String,
    /// Its arguments, joined with blanks; empty for a thread of the kernel's.
    pub args: String,
    /// `R`, `S`, `D`, `Z`, `T`, …
    pub state: char,
    /// Process group.
    pub group_leader: u32,
    /// Session.
    pub session: u32,
    /// Terminal's device number; 0 for none.
    pub tty: u32,
    /// Foreground process group of its terminal.
    pub foreground: i64,
    /// Ticks in programs.
    pub user_ticks: u64,
    /// Ticks in the kernel.
    pub system_ticks: u64,
    /// Priority.
    pub priority: i64,
    /// Nice value.
    pub nice: i64,
    /// Threads.
    pub threads: u64,
    /// Ticks from the machine's start to its own.
    pub start_ticks: u64,
    /// Virtual memory in bytes.
    pub virtual_bytes: u64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Whether pages are locked in memory.
    pub locked: bool,
    /// Effective user.
    pub uid: u32,
    /// Real user.
    pub real_uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Real group.
    pub real_gid: u32,
}

/// What is the same for all processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Seconds since the machine's start, in hundredths.
    pub uptime_hundredths: u64,
    /// When the machine started, in seconds since 1970.
    pub boot_seconds: i64,
    /// Memory of the machine in bytes.
    pub memory: u64,
    /// Clock ticks a second.
    pub ticks_per_second: u64,
    /// Names of users.
    pub users: BTreeMap<u32, String>,
    /// Names of groups.
    pub groups: BTreeMap<u32, String>,
}

impl Snapshot {
    /// Reads it, with the names of users and groups from `/etc` below `root`: the host's root folder.
    pub fn read(root: &Path) -> Result<Snapshot, CgroupError> {
        let uptime = file::read(Path::new("/proc/uptime"))?;
        let stat = file::read(Path::new("/proc/stat"))?;
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime "));
        Ok(Snapshot {
            uptime_hundredths: uptime.split_whitespace().next().and_then(hundredths).unwrap_or(0),
            boot_seconds: boot.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
            memory: crate::system::memory()?,
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
            users: names(&root.join("etc/passwd")),
            groups: names(&root.join("etc/group")),
        })
    }

    /// When a process started, in seconds since 1970.
    pub(super) fn started(&self, process: &Process) -> i64 {
        self.boot_seconds + i64::try_from(process.start_ticks / self.ticks_per_second).unwrap_or(0)
    }

    /// How long it has been there, in seconds.
    pub(super) fn elapsed(&self, process: &Process) -> u64 {
        (self.uptime_hundredths / 100).saturating_sub(process.start_ticks / self.ticks_per_second)
    }

    /// CPU time in seconds.
    pub(super) fn cpu_seconds(&self, process: &Process) -> u64 {
        (process.user_ticks + process.system_ticks) / self.ticks_per_second
    }

    /// CPU time in thousandths of the time since its start.
    pub(super) fn cpu_per_mille(&self, process: &Process) -> u64 {
        let lived = (self.uptime_hundredths * self.ticks_per_second / 100).saturating_sub(process.start_ticks);
        let used = process.user_ticks + process.system_ticks;
        (used * 1000).checked_div(lived).unwrap_or(0)
    }
}

fn hundredths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.')?;
    Some(whole.parse::<u64>().ok()? * 100 + part.get(..2)?.parse::<u64>().ok()?)
}

/// Names by number from a file such as `/etc/passwd`; none if it can't be read.
fn names(path: &Path) -> BTreeMap<u32, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
    };
    // The first of several names of one number counts.
    text.lines().rev().filter_map(entry).collect()
}

impl Process {
    /// Reads the processes with these ids (the daemon's numbers). Those that are gone are passed over.
    pub fn read_all(ids: &[u32], shown: Pids) -> Result<Vec<Process>, CgroupError> {
        let level = match shown {
            Pids::OfMachine => 0,
            Pids::OfHost(init) => level_of(init)?,
        };
        Ok(ids.iter().filter_map(|pid| read(*pid, level)).collect())
    }

    fn parse(stat: &str, status: &str, cmdline: &[u8], level: usize) -> Option<Process> {
        let (_, rest) = stat.split_once('(')?;
        let (comm, rest) = rest.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at - 3).and_then(|word| word.parse::<i64>().ok());
        let positive = |at: usize| number(at).and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
        let id = |at: usize| u32::try_from(positive(at)).unwrap_or(0);
        let (real_uid, uid) = ids(status, "Uid:")?;
        let (real_gid, gid) = ids(status, "Gid:")?;
        let page = u64::try_from(rustix::param::page_size()).ok()?;
        Some(Process {
            pid: namespaced(status, "NSpid:", level)?,
            parent: id(4),
            comm: comm.to_owned(),
            args: arguments(cmdline),
            state: fields.first()?.chars().next()?,
            group_leader: namespaced(status, "NSpgid:", level).unwrap_or(0),
            session: namespaced(status, "NSsid:", level).unwrap_or(0),
            tty: id(7),
            foreground: number(8).unwrap_or(-1),
            user_ticks: positive(14),
            system_ticks: positive(15),
            priority: number(18).unwrap_or(0),
            nice: number(19).unwrap_or(0),
            threads: positive(20),
            start_ticks: positive(22),
            virtual_bytes: positive(23),
            resident_bytes: positive(24) * page,
            locked: field(status, "VmLck:").is_some_and(|text| !text.trim_start().starts_with('0')),
            uid,
            real_uid,
            gid,
            real_gid,
        })
    }
}

fn read(pid: u32, level: usize) -> Option<Process> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let stat = read_lossy(&dir.join("stat"))?;
    let status = read_lossy(&dir.join("status"))?;
    let cmdline = fs::read(dir.join("cmdline")).unwrap_or_default();
    let mut process = Process::parse(&stat, &status, &cmdline, level)?;
    if level > 0 {
        process.parent = namespaced_of(process.parent, level).unwrap_or(0);
        process.foreground = -1;
    }
    Some(process)
}

/// A process's name need not be UTF-8.
fn read_lossy(path: &Path) -> Option<String> {
    Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
}

/// How many PID namespaces lie between ours and that of a process.
fn level_of(pid: u32) -> Result<usize, CgroupError> {
    let status = file::read(Path::new(&format!("/proc/{pid}/status")))?;
    Ok(field(&status, "NSpid:").map_or(0, |ids| ids.split_whitespace().count().saturating_sub(1)))
}

fn namespaced_of(pid: u32, level: usize) -> Option<u32> {
    namespaced(&read_lossy(Path::new(&format!("/proc/{pid}/status")))?, "NSpid:", level)
}

/// A process that is not in the namespace at that level has no number there, and is not shown there.
fn namespaced(status: &str, key: &str, level: usize) -> Option<u32> {
    field(status, key)?.split_whitespace().nth(level)?.parse().ok()
}

fn ids(status: &str, key: &str) -> Option<(u32, u32)> {
    let mut words = field(status, key)?.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key))
}

fn arguments(cmdline: &[u8]) -> String {
    let text = String::from_utf8_lossy(cmdline);
    let joined = text.trim_end_matches('\0').replace('\0', " ");
    joined.chars().map(|one| if one.is_control() { '?' } else { one }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a) b) S 7 42 42 34816 50 4194304 100 0 0 0 250 150 0 0 20 0 3 0 1000 4096000 250 1 0";
    const STATUS: &str = "Name:\ta) b\nNSpid:\t42\t5\t1\nNSpgid:\t42\t5\t1\nNSsid:\t42\t5\t1\nUid:\t1000\t0\t0\t0\n\
                          Gid:\t100\t0\t0\t0\nVmLck:\t       0 kB\n";

    #[test]
    fn a_name_may_hold_brackets() {
        let process = Process::parse(STAT, STATUS, b"sleep\x001\x002\x00", 0).unwrap();
        assert_eq!((process.comm.as_str(), process.args.as_str(), process.state), ("a) b", "sleep 1 2", 'S'));
        assert_eq!((process.pid, process.parent, process.threads, process.start_ticks), (42, 7, 3, 1000));
        assert_eq!((process.uid, process.real_uid, process.real_gid), (0, 1000, 100));
    }

    #[test]
    fn numbers_are_those_of_the_namespace() {
        assert_eq!(Process::parse(STAT, STATUS, b"", 1).unwrap().pid, 5);
        assert_eq!(Process::parse(STAT, STATUS, b"", 2).unwrap().session, 1);
        assert_eq!(Process::parse(STAT, STATUS, b"", 3), None);
    }
}
