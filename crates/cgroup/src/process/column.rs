//! Columns of `ps`: their names, headings, and how each prints a process.

use super::{Process, Snapshot};

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// `pid`
    Pid,
    /// `ppid`
    Parent,
    /// `pgid`
    Group,
    /// `sid`
    Session,
    /// `lwp`
    Thread,
    /// `user`: effective user by name.
    User,
    /// `uid`
    Uid,
    /// `ruser`
    RealUser,
    /// `ruid`
    RealUid,
    /// `group`: effective group by name.
    GroupName,
    /// `gid`
    Gid,
    /// `rgroup`
    RealGroupName,
    /// `rgid`
    RealGid,
    /// `comm`
    Comm,
    /// `args`
    Args,
    /// `time`: CPU time as `hh:mm:ss`.
    Time,
    /// `bsdtime`: CPU time as `m:ss`.
    BsdTime,
    /// `cputimes`: CPU time in seconds.
    CpuSeconds,
    /// `etime`
    Elapsed,
    /// `etimes`
    ElapsedSeconds,
    /// `stime`: when it started, short.
    StartTime,
    /// `start`: when it started, with seconds.
    Started,
    /// `bsdstart`
    BsdStart,
    /// `lstart`
    FullStart,
    /// `tty`
    Tty,
    /// `s`: state, one letter.
    State,
    /// `stat`: state with details.
    Stat,
    /// `pcpu`
    CpuPercent,
    /// `c`: CPU use as a whole number.
    CpuShare,
    /// `pmem`
    MemoryPercent,
    /// `vsz` in KiB.
    VirtualSize,
    /// `rss` in KiB.
    Resident,
    /// `sz` in pages.
    Pages,
    /// `nlwp`
    Threads,
    /// `ni`
    Nice,
    /// `pri`
    Priority,
}

/// What a column's specifier is, what it prints as heading unless told otherwise, and the column.
const SPECIFIERS: [(&str, &str, Column); 63] = [
    ("pid", "PID", Column::Pid),
    ("tgid", "TGID", Column::Pid),
    ("ppid", "PPID", Column::Parent),
    ("pgid", "PGID", Column::Group),
    ("pgrp", "PGRP", Column::Group),
    ("sid", "SID", Column::Session),
    ("sess", "SESS", Column::Session),
    ("session", "SESS", Column::Session),
    ("lwp", "LWP", Column::Thread),
    ("tid", "TID", Column::Thread),
    ("spid", "SPID", Column::Thread),
    ("user", "USER", Column::User),
    ("euser", "EUSER", Column::User),
    ("uname", "USER", Column::User),
    ("uid", "UID", Column::Uid),
    ("euid", "EUID", Column::Uid),
    ("ruser", "RUSER", Column::RealUser),
    ("ruid", "RUID", Column::RealUid),
    ("group", "GROUP", Column::GroupName),
    ("egroup", "EGROUP", Column::GroupName),
    ("gid", "GID", Column::Gid),
    ("egid", "EGID", Column::Gid),
    ("rgroup", "RGROUP", Column::RealGroupName),
    ("rgid", "RGID", Column::RealGid),
    ("comm", "COMMAND", Column::Comm),
    ("ucmd", "CMD", Column::Comm),
    ("ucomm", "COMMAND", Column::Comm),
    ("fname", "COMMAND", Column::Comm),
    ("exe", "EXE", Column::Comm),
    ("args", "COMMAND", Column::Args),
    ("cmd", "CMD", Column::Args),
    ("command", "COMMAND", Column::Args),
    ("time", "TIME", Column::Time),
    ("cputime", "TIME", Column::Time),
    ("bsdtime", "TIME", Column::BsdTime),
    ("cputimes", "TIME", Column::CpuSeconds),
    ("times", "TIME", Column::CpuSeconds),
    ("etime", "ELAPSED", Column::Elapsed),
    ("etimes", "ELAPSED", Column::ElapsedSeconds),
    ("stime", "STIME", Column::StartTime),
    ("start_time", "START", Column::StartTime),
    ("start", "STARTED", Column::Started),
    ("bsdstart", "START", Column::BsdStart),
    ("lstart", "STARTED", Column::FullStart),
    ("tty", "TT", Column::Tty),
    ("tt", "TT", Column::Tty),
    ("tname", "TTY", Column::Tty),
    ("s", "S", Column::State),
    ("state", "S", Column::State),
    ("stat", "STAT", Column::Stat),
    ("pcpu", "%CPU", Column::CpuPercent),
    ("%cpu", "%CPU", Column::CpuPercent),
    ("c", "C", Column::CpuShare),
    ("pmem", "%MEM", Column::MemoryPercent),
    ("%mem", "%MEM", Column::MemoryPercent),
    ("vsz", "VSZ", Column::VirtualSize),
    ("vsize", "VSZ", Column::VirtualSize),
    ("rss", "RSS", Column::Resident),
    ("rssize", "RSS", Column::Resident),
    ("sz", "SZ", Column::Pages),
    ("nlwp", "NLWP", Column::Threads),
    ("ni", "NI", Column::Nice),
    ("pri", "PRI", Column::Priority),
];

impl Column {
    /// By its specifier, with its usual heading.
    pub(super) fn find(specifier: &str) -> Option<(Column, &'static str)> {
        let aliases = match specifier {
            "rsz" => "rss",
            "nice" => "ni",
            "thcount" => "nlwp",
            "sess_id" => "sid",
            other => other,
        };
        SPECIFIERS.iter().find(|(known, _, _)| *known == aliases).map(|(_, heading, column)| (*column, *heading))
    }

    /// What it prints.
    pub fn print(self, process: &Process, snapshot: &Snapshot) -> String {
        let user = |id: u32| snapshot.users.get(&id).cloned().unwrap_or_else(|| id.to_string());
        let group = |id: u32| snapshot.groups.get(&id).cloned().unwrap_or_else(|| id.to_string());
        match self {
            Column::Pid | Column::Thread => process.pid.to_string(),
            Column::Parent => process.parent.to_string(),
            Column::Group => process.group_leader.to_string(),
            Column::Session => process.session.to_string(),
            Column::User => user(process.uid),
            Column::Uid => process.uid.to_string(),
            Column::RealUser => user(process.real_uid),
            Column::RealUid => process.real_uid.to_string(),
            Column::GroupName => group(process.gid),
            Column::Gid => process.gid.to_string(),
            Column::RealGroupName => group(process.real_gid),
            Column::RealGid => process.real_gid.to_string(),
            Column::Comm => command_name(process),
            Column::Args => command(process),
            Column::Tty => terminal(process.tty),
            Column::State => process.state.to_string(),
            Column::Stat => stat(process),
            Column::CpuPercent => percent(snapshot.cpu_per_mille(process)),
            Column::CpuShare => (snapshot.cpu_per_mille(process) / 10).min(99).to_string(),
            Column::MemoryPercent => percent(process.resident_bytes.saturating_mul(1000) / snapshot.memory.max(1)),
            Column::VirtualSize => (process.virtual_bytes / 1024).to_string(),
            Column::Resident => (process.resident_bytes / 1024).to_string(),
            Column::Pages => (process.virtual_bytes / page_bytes()).to_string(),
            Column::Threads => process.threads.to_string(),
            Column::Nice => process.nice.to_string(),
            Column::Priority => (39 - process.priority).to_string(),
            times => times.print_time(process, snapshot),
        }
    }

    fn print_time(self, process: &Process, snapshot: &Snapshot) -> String {
        let cpu = snapshot.cpu_seconds(process);
        let started = snapshot.started(process);
        match self {
            Column::Time => clock(cpu, true),
            Column::BsdTime => format!("{}:{:02}", cpu / 60, cpu % 60),
            Column::CpuSeconds => cpu.to_string(),
            Column::Elapsed => clock(snapshot.elapsed(process), false),
            Column::ElapsedSeconds => snapshot.elapsed(process).to_string(),
            Column::StartTime | Column::BsdStart => Date::of(started).short(snapshot.elapsed(process), self),
            Column::Started => Date::of(started).with_seconds(snapshot.elapsed(process)),
            _ => Date::of(started).full(),
        }
    }
}

fn page_bytes() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(4096).max(1)
}

fn command_name(process: &Process) -> String {
    match process.state {
        'Z' => format!("{} <defunct>", process.comm),
        _ => process.comm.clone(),
    }
}

fn command(process: &Process) -> String {
    match (process.args.is_empty(), process.state) {
        (true, 'Z') => format!("[{}] <defunct>", process.comm),
        (true, _) => format!("[{}]", process.comm),
        (false, _) => process.args.clone(),
    }
}

fn percent(per_mille: u64) -> String {
    // Three digits fit, as in ps.
    if per_mille > 999 { (per_mille / 10).to_string() } else { format!("{}.{}", per_mille / 10, per_mille % 10) }
}

/// `[dd-]hh:mm:ss`; elapsed time leaves out hours that are none.
fn clock(seconds: u64, hours: bool) -> String {
    let (days, hour) = (seconds / 86_400, seconds / 3600 % 24);
    let rest = format!("{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match (days, hour) {
        (0, 0) if !hours => rest,
        (0, _) => format!("{hour:02}:{rest}"),
        _ => format!("{days}-{hour:02}:{rest}"),
    }
}

/// The terminal's name below `/dev`, or a question mark.
fn terminal(device: u32) -> String {
    let major = device >> 8 & 0xfff;
    let minor = (device & 0xff) | (device >> 12 & 0xf_ff00);
    match major {
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        5 if minor == 1 => "console".to_owned(),
        _ => "?".to_owned(),
    }
}

fn stat(process: &Process) -> String {
    let marks = [
        (process.nice < 0, '<'),
        (process.nice > 0, 'N'),
        (process.locked, 'L'),
        (process.session == process.pid, 's'),
        (process.threads > 1, 'l'),
        (process.foreground == i64::from(process.group_leader), '+'),
    ];
    let shown = marks.iter().filter(|(holds, _)| *holds).map(|(_, mark)| *mark);
    std::iter::once(process.state).chain(shown).collect()
}

/// A date of UTC's: a daemon has no time zone of its clients'.
struct Date {
    year: i64,
    month: usize,
    day: i64,
    weekday: usize,
    second_of_day: i64,
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

impl Date {
    fn of(seconds: i64) -> Date {
        let days = seconds.div_euclid(86_400);
        // Counted in eras of 400 years that begin on the first of March.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = (from_march + 2) % 12;
        Date {
            year: year_of_era + era * 400 + i64::from(month < 2),
            month: usize::try_from(month).unwrap_or(0),
            day: of_year - (153 * from_march + 2) / 5 + 1,
            weekday: usize::try_from(days.rem_euclid(7)).unwrap_or(0),
            second_of_day: seconds.rem_euclid(86_400),
        }
    }

    fn time(&self) -> String {
        format!("{:02}:{:02}", self.second_of_day / 3600, self.second_of_day / 60 % 60)
    }

    fn month_and_day(&self) -> String {
        format!("{}{:02}", MONTHS[self.month], self.day)
    }

    /// `hh:mm` today, `MonDD` later.
    fn short(&self, age: u64, column: Column) -> String {
        let today = Date::of_now(self, age);
        let same_year = today.year == self.year;
        let same_day = same_year && (today.month, today.day) == (self.month, self.day);
        match column {
            Column::BsdStart if age < 86_400 => self.time(),
            Column::BsdStart => format!("{} {:2}", MONTHS[self.month], self.day),
            _ if same_day => self.time(),
            _ if same_year => self.month_and_day(),
            _ => self.year.to_string(),
        }
    }

    /// `hh:mm:ss` within a day, `Mon DD` later.
    fn with_seconds(&self, age: u64) -> String {
        match age < 86_400 {
            true => format!("{}:{:02}", self.time(), self.second_of_day % 60),
            false => format!("{} {:2}", MONTHS[self.month], self.day),
        }
    }

    fn full(&self) -> String {
        let clock = format!("{}:{:02}", self.time(), self.second_of_day % 60);
        format!("{} {} {:2} {clock} {}", WEEKDAYS[self.weekday], MONTHS[self.month], self.day, self.year)
    }

    /// The date that is `age` seconds later.
    fn of_now(started: &Date, age: u64) -> Date {
        let shift = |date: &Date| {
            let month = i64::try_from(date.month).unwrap_or(0);
            let year = date.year - i64::from(month < 2);
            let from_march = (month + 10) % 12;
            let of_year = (153 * from_march + 2) / 5 + date.day - 1;
            year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
        };
        Date::of(shift(started) * 86_400 + started.second_of_day + i64::try_from(age).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let date = Date::of(1_795_462_680);
        assert_eq!(date.full(), "Mon Nov 23 19:38:00 2026");
        assert_eq!(date.short(60, Column::StartTime), "19:38");
        assert_eq!(date.short(86_400, Column::StartTime), "Nov23");
        assert_eq!(date.short(86_400 * 60, Column::StartTime), "2026");
        assert_eq!(Date::of(951_782_400).full(), "Tue Feb 29 00:00:00 2000");
        assert_eq!(Date::of(0).full(), "Thu Jan  1 00:00:00 1970");
    }

    #[test]
    fn times() {
        assert_eq!([clock(0, true), clock(3_725, true), clock(90_061, true)], ["00:00:00", "01:02:05", "1-01:01:01"]);
        assert_eq!([clock(2, false), clock(3_725, false)], ["00:02", "01:02:05"]);
        assert_eq!([percent(9), percent(999), percent(1234)], ["0.9", "99.9", "123"]);
    }

    #[test]
    fn terminals() {
        assert_eq!([terminal(0), terminal(34_816), terminal(1025), terminal(1088)], ["?", "pts/0", "tty1", "ttyS0"]);
    }

    #[test]
    fn states() {
        let process =
            Process { state: 'S', nice: 5, session: 9, pid: 9, threads: 2, foreground: -1, ..Process::default() };
        assert_eq!(stat(&process), "SNsl");
        assert_eq!(command(&Process { comm: "x".to_owned(), state: 'Z', ..Process::default() }), "[x] <defunct>");
    }
}
