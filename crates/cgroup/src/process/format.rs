//! The options of `ps` that say what to print, and the table that comes of them.

use super::{Column, Process, Snapshot};

/// Options that are not understood. The texts are those that Docker passes on from `ps`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// An unknown column.
    #[error("ps: error: unknown user-defined format specifier {0:?}")]
    Specifier(String),
    /// An unknown long option.
    #[error("ps: error: unknown gnu long option")]
    LongOption,
    /// An option that Droste does not have, although a `ps` may.
    #[error("ps: error: option {0:?} is not supported: use -ef, aux, or -o with a list of columns")]
    Option(String),
    /// `-o` without a list.
    #[error("ps: error: format specification must follow -o")]
    MissingList,
    /// Two options that both say what to print.
    #[error("ps: error: conflicting format options")]
    Conflict,
    /// A list of columns without the process's id, without which Docker can't tell whose process it is.
    #[error("Couldn't find PID field in ps output")]
    NoPid,
}

/// Columns to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    columns: Vec<(String, Column)>,
}

/// What `docker top` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Headings.
    pub titles: Vec<String>,
    /// A row for each process.
    pub rows: Vec<Vec<String>>,
}

const FULL: &str = "user=UID,pid,ppid,c,stime,tname,time,cmd";
const FULL_THREADS: &str = "user=UID,pid,ppid,lwp,c,nlwp,stime,tname,time,cmd";
const USER: &str = "user,pid,pcpu,pmem,vsz,rss,tname,stat,bsdstart=START,bsdtime,args";
const BSD: &str = "pid,tname,stat,bsdtime,args";
const PLAIN: &str = "pid,tname,time,ucmd";
const JOBS: &str = "pid,pgid,sid,tname,time,ucmd";

/// What the options have said so far.
#[derive(Default)]
struct Options {
    list: Vec<(String, Column)>,
    full: bool,
    threads: bool,
    user: bool,
    jobs: bool,
    bsd: bool,
}

impl Format {
    /// From the words after `docker top CONTAINER`; none of them means `-ef`.
    pub fn parse(arguments: &[String]) -> Result<Format, FormatError> {
        if arguments.iter().all(|word| word.is_empty()) {
            return Format::parse(&["-ef".to_owned()]);
        }
        let mut options = Options::default();
        let mut rest = arguments.iter().filter(|word| !word.is_empty()).map(String::as_str);
        while let Some(word) = rest.next() {
            match (word.strip_prefix("--"), word.strip_prefix('-')) {
                (Some(long), _) => options.long(long, &mut rest)?,
                (None, Some(unix)) => options.letters(unix, true, &mut rest)?,
                (None, None) if options.list.last().is_some() && word.starts_with(',') => options.add(word)?,
                (None, None) => options.letters(word, false, &mut rest)?,
            }
        }
        let columns = options.columns()?;
        match columns.iter().any(|(title, _)| title == "PID") {
            true => Ok(Format { columns }),
            false => Err(FormatError::NoPid),
        }
    }

    /// The table of these processes.
    pub fn table(&self, processes: &[Process], snapshot: &Snapshot) -> Table {
        let row = |process| self.columns.iter().map(|(_, column)| column.print(process, snapshot)).collect();
        Table {
            titles: self.columns.iter().map(|(title, _)| title.clone()).collect(),
            rows: processes.iter().map(row).collect(),
        }
    }
}

impl Options {
    fn long<'a>(&mut self, word: &'a str, rest: &mut impl Iterator<Item = &'a str>) -> Result<(), FormatError> {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        match name {
            "format" => self.add(value.or_else(|| rest.next()).ok_or(FormatError::MissingList)?),
            "forest" | "no-headers" | "noheaders" | "cols" | "columns" | "width" | "rows" | "lines" => {
                Err(FormatError::Option(format!("--{name}")))
            }
            "headers" => Ok(()),
            _ => Err(FormatError::LongOption),
        }
    }

    /// Letters with a dash (Unix) or without (BSD), of which `o` takes a list.
    fn letters<'a>(
        &mut self,
        letters: &'a str,
        unix: bool,
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), FormatError> {
        for (at, letter) in letters.char_indices() {
            match (letter, unix) {
                ('o' | 'O', _) => {
                    let here = &letters[at + 1..];
                    let list = if here.is_empty() { rest.next() } else { Some(here) };
                    return self.add(list.ok_or(FormatError::MissingList)?);
                }
                // Which processes: the cgroup has chosen them. Wide output is what there is.
                ('e' | 'A' | 'a' | 'd' | 'w', true) | ('a' | 'x' | 'w' | 'g' | 'r' | 'T', false) => {}
                ('f' | 'F', true) => self.full = true,
                ('L' | 'T', true) => self.threads = true,
                ('u', _) => self.user = true,
                ('x', true) => self.bsd = true,
                ('j', true) => self.jobs = true,
                _ => return Err(FormatError::Option(format!("{}{letter}", if unix { "-" } else { "" }))),
            }
            self.bsd |= !unix;
        }
        Ok(())
    }

    fn add(&mut self, list: &str) -> Result<(), FormatError> {
        let mut rest = list.trim_start_matches(',');
        while !rest.is_empty() {
            let end = rest.find([',', ' ', '=']).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            let (column, usual) = Column::find(name).ok_or_else(|| FormatError::Specifier(name.to_owned()))?;
            // A heading of one's own reaches to the end of the list.
            let (title, after) = match after.strip_prefix('=') {
                Some(title) => (title, ""),
                None => (usual, after),
            };
            self.list.push((title.to_owned(), column));
            rest = after.trim_start_matches([',', ' ']);
        }
        Ok(())
    }

    fn columns(self) -> Result<Vec<(String, Column)>, FormatError> {
        let format = self.full || self.user || self.jobs;
        if !self.list.is_empty() {
            return if format { Err(FormatError::Conflict) } else { Ok(self.list) };
        }
        Ok(named(match self {
            Options { user: true, .. } => USER,
            Options { full: true, threads: true, .. } => FULL_THREADS,
            Options { full: true, .. } => FULL,
            Options { jobs: true, .. } => JOBS,
            Options { bsd: true, .. } => BSD,
            _ => PLAIN,
        }))
    }
}

/// Columns of a list of ours, in which a heading ends at the comma.
fn named(list: &str) -> Vec<(String, Column)> {
    let one = |word: &str| {
        let (name, title) = word.split_once('=').map_or((word, None), |(name, title)| (name, Some(title)));
        Column::find(name).map(|(column, usual)| (title.unwrap_or(usual).to_owned(), column))
    };
    list.split(',').filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(arguments: &str) -> Result<String, FormatError> {
        let words: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        Ok(Format::parse(&words)?.table(&[], &Snapshot::default()).titles.join(" "))
    }

    #[test]
    fn headings_are_those_of_ps() {
        for (arguments, expected) in [
            ("", "UID PID PPID C STIME TTY TIME CMD"),
            ("-ef", "UID PID PPID C STIME TTY TIME CMD"),
            ("aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("-u", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("-o pid,comm", "PID COMMAND"),
            ("-opid,comm", "PID COMMAND"),
            ("axo pid,cmd", "PID CMD"),
            ("-A -o pid,command", "PID COMMAND"),
            ("-o pid -o comm", "PID COMMAND"),
            ("-o comm,pid=PID", "COMMAND PID"),
            ("--format pid,args", "PID COMMAND"),
            (
                "-eo pid,ppid,user,stat,pcpu,pmem,vsz,rss,nlwp,ni,pri,group,tty,time,etime,start,stime,args",
                "PID PPID USER STAT %CPU %MEM VSZ RSS NLWP NI PRI GROUP TT TIME ELAPSED STARTED STIME COMMAND",
            ),
        ] {
            assert_eq!(titles(arguments).as_deref(), Ok(expected), "{arguments}");
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let error = |arguments: &str| titles(arguments).unwrap_err().to_string();
        assert_eq!(error("-o foo"), "ps: error: unknown user-defined format specifier \"foo\"");
        assert_eq!(error("-o comm"), "Couldn't find PID field in ps output");
        assert_eq!(error("--bogus"), "ps: error: unknown gnu long option");
        assert_eq!(error("-ef -o pid"), "ps: error: conflicting format options");
        assert!(error("-Z").contains("\"-Z\""));
        assert_eq!(titles("-o"), Err(FormatError::MissingList));
    }

    #[test]
    fn a_row() {
        let process =
            Process { pid: 5, parent: 1, comm: "sleep".to_owned(), args: "sleep 9".to_owned(), ..Process::default() };
        let snapshot = Snapshot { ticks_per_second: 100, uptime_hundredths: 500, memory: 1, ..Snapshot::default() };
        let table = Format::parse(&[]).unwrap().table(&[process], &snapshot);
        assert_eq!(table.rows, [["0", "5", "1", "0", "00:00", "?", "00:00:00", "sleep 9"]]);
    }
}
