//! Reading a container's log while the shim writes, rotates and compresses it.
//!
//! Files are opened from the newest to the oldest, so that a rotation meanwhile shows a file twice rather than never,
//! and read from the oldest. Following watches the log's directory. However large a log is, however long its reader has
//! been away, and whatever its reader wants of it, no more than some lines of it are in memory.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::future::Future;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::read::GzDecoder;
use rustix::fs::inotify;
use serde::Deserialize;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use super::Stream;

const AHEAD: usize = 16;
const BLOCK: usize = 64 * 1024;

/// What is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The last so many entries only.
    pub tail: Option<usize>,
    /// Entries from this time on.
    pub since: Option<SystemTime>,
    /// Entries up to this time.
    pub until: Option<SystemTime>,
    /// Go on with what is written later, until the container has stopped.
    pub follow: bool,
}

/// A line of the log, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which output it came from.
    pub stream: Stream,
    /// When it was written.
    pub time: SystemTime,
    /// Its bytes, with the line's end unless it is a part.
    pub bytes: Vec<u8>,
    /// Whether the line goes on in the next entry of this stream.
    pub partial: bool,
    /// Labels and such.
    pub attrs: BTreeMap<String, String>,
}

/// The entries of a log. Dropping it ends the reading.
#[derive(Debug)]
pub struct Entries(mpsc::Receiver<io::Result<Entry>>);

impl Entries {
    /// The next entry; `None` at the end. Safe to cancel.
    ///
    /// # Errors
    /// When the log can't be read.
    pub async fn next(&mut self) -> io::Result<Option<Entry>> {
        self.0.recv().await.transpose()
    }
}

/// Reads a log. `stopped` tells a follower that nothing more will be written; it matters only then.
pub fn read(path: impl Into<PathBuf>, options: Options, stopped: impl Future<Output = ()> + Send + 'static) -> Entries {
    let (sender, entries) = mpsc::channel(AHEAD);
    let path = path.into();
    tokio::spawn(async move {
        let reader = Reader { path, options, sender, last: None };
        if let Err((sender, error)) = reader.run(stopped).await {
            // A reader that went away does not care.
            let _ = sender.send(Err(error)).await;
        }
    });
    Entries(entries)
}

struct Reader {
    path: PathBuf,
    options: Options,
    sender: mpsc::Sender<io::Result<Entry>>,
    last: Option<SystemTime>,
}

/// The file that the shim writes to now.
struct Live {
    file: File,
    inode: u64,
    position: u64,
    rest: Vec<u8>,
}

/// Whether reading goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    More,
    End,
}

type Failed = (mpsc::Sender<io::Result<Entry>>, io::Error);

impl Reader {
    async fn run(mut self, stopped: impl Future<Output = ()> + Send) -> Result<(), Failed> {
        let failed = self.sender.clone();
        let watch = if self.options.follow { Some(watch(&self.path)) } else { None };
        let watch = watch.transpose().map_err(|error| (failed.clone(), error))?;
        // At the client's pace, and so on no thread of the runtime's, which others wait for.
        let (done, started) = oneshot::channel();
        let work = move || {
            let result = self.read_existing();
            let _ = done.send((self, result));
        };
        std::thread::Builder::new().name("logs".to_owned()).spawn(work).map_err(|error| (failed.clone(), error))?;
        let (mut reader, result) = started.await.map_err(|error| (failed.clone(), io::Error::other(error)))?;
        let live = result.map_err(|error| (failed.clone(), error))?;
        match (live, watch) {
            (Some(live), Some(watch)) => reader.follow(live, watch, stopped).await.map_err(|error| (failed, error)),
            _ => Ok(()),
        }
    }

    /// Reads what is there. Gives the live file, if there may be more.
    fn read_existing(&mut self) -> io::Result<Option<Live>> {
        let mut files = open_files(&self.path)?;
        if let Some(count) = self.options.tail {
            leave_tail(&mut files, count)?;
        }
        let Some(newest) = files.pop_front() else { return Ok(None) };
        for file in files.into_iter().rev() {
            if self.read_whole(file)? == Flow::End {
                return Ok(None);
            }
        }
        let Opened { source, inode, .. } = newest;
        let Source::Plain(file) = source else { return Ok(None) };
        let position = (&file).stream_position()?;
        let mut live = Live { file, inode, position, rest: Vec::new() };
        while let Some(lines) = live.lines()? {
            for line in lines {
                if self.pass(&line) == Flow::End {
                    return Ok(None);
                }
            }
        }
        Ok(Some(live))
    }

    fn read_whole(&mut self, file: Opened) -> io::Result<Flow> {
        let mut lines = file.lines()?;
        let mut line = Vec::new();
        while next_line(&mut lines, &mut line)? {
            if self.pass(&line) == Flow::End {
                return Ok(Flow::End);
            }
        }
        Ok(Flow::More)
    }

    /// Decodes and filters a line, on a thread that may block.
    fn pass(&mut self, line: &[u8]) -> Flow {
        match self.filter(line) {
            Filtered::Skip => Flow::More,
            Filtered::End => Flow::End,
            Filtered::Pass(entry) => {
                if self.sender.blocking_send(Ok(entry)).is_ok() {
                    Flow::More
                } else {
                    Flow::End
                }
            }
        }
    }

    fn filter(&mut self, line: &[u8]) -> Filtered {
        // A line that was cut by a power failure is no reason to stop.
        let Some(entry) = decode(line) else { return Filtered::Skip };
        self.last = Some(entry.time);
        if self.options.until.is_some_and(|until| entry.time > until) {
            Filtered::End
        } else if self.options.since.is_some_and(|since| entry.time < since) {
            Filtered::Skip
        } else {
            Filtered::Pass(entry)
        }
    }

    async fn follow(
        &mut self,
        mut live: Live,
        watch: AsyncFd<rustix::fd::OwnedFd>,
        stopped: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let mut stopped = std::pin::pin!(stopped);
        let mut over = false;
        let until = self.options.until;
        loop {
            if self.catch_up(&mut live).await? == Flow::End || over {
                return Ok(());
            }
            let late = async {
                match until.and_then(|until| until.duration_since(SystemTime::now()).ok()) {
                    Some(left) => tokio::time::sleep(left).await,
                    None if until.is_some() => {}
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What was written before the end is read once more.
                () = &mut stopped => over = true,
                () = late => over = true,
                () = self.sender.closed() => return Ok(()),
                changed = changed(&watch) => changed?,
            }
        }
    }

    async fn catch_up(&mut self, live: &mut Live) -> io::Result<Flow> {
        loop {
            if self.deliver_new(live).await? == Flow::End {
                return Ok(Flow::End);
            }
            let inode = std::fs::metadata(&self.path).map(|metadata| metadata.ino());
            if inode.is_err() || inode.is_ok_and(|inode| inode == live.inode) {
                return Ok(Flow::More);
            }
            // The shim renames only what it has finished writing, so this is all of the old file.
            if self.deliver_new(live).await? == Flow::End {
                return Ok(Flow::End);
            }
            match self.next_files(live.inode).await? {
                Some(new) => *live = new,
                None => return Ok(Flow::End),
            }
        }
    }

    async fn deliver_new(&mut self, live: &mut Live) -> io::Result<Flow> {
        while let Some(lines) = live.lines()? {
            for line in lines {
                if self.deliver(&line).await == Flow::End {
                    return Ok(Flow::End);
                }
            }
        }
        Ok(Flow::More)
    }

    /// Goes on behind the file with `inode`, which is not the newest any more.
    async fn next_files(&mut self, inode: u64) -> io::Result<Option<Live>> {
        let mut files = open_files(&self.path)?;
        let after = self.last;
        let known = files.iter().position(|file| file.inode == inode);
        files.truncate(known.unwrap_or(files.len()));
        let Some(newest) = files.pop_front() else { return Ok(None) };
        for file in files.into_iter().rev() {
            let (mut lines, mut line) = (file.lines()?, Vec::new());
            while next_line(&mut lines, &mut line)? {
                // Compressed meanwhile, the old file has another inode: its entries were delivered.
                let seen = known.is_none() && decode(&line).is_some_and(|entry| Some(entry.time) <= after);
                if !seen && self.deliver(&line).await == Flow::End {
                    return Ok(None);
                }
            }
        }
        match newest.source {
            Source::Plain(file) => Ok(Some(Live { file, inode: newest.inode, position: 0, rest: Vec::new() })),
            Source::Compressed(_) => Ok(None),
        }
    }

    async fn deliver(&mut self, line: &[u8]) -> Flow {
        match self.filter(line) {
            Filtered::Skip => Flow::More,
            Filtered::End => Flow::End,
            Filtered::Pass(entry) => {
                if self.sender.send(Ok(entry)).await.is_ok() {
                    Flow::More
                } else {
                    Flow::End
                }
            }
        }
    }
}

enum Filtered {
    Pass(Entry),
    Skip,
    End,
}

impl Live {
    /// Some of the whole lines that were written since the last call, perhaps none yet; `None` if nothing was.
    fn lines(&mut self) -> io::Result<Option<Vec<Vec<u8>>>> {
        let length = self.file.metadata()?.len();
        if length < self.position {
            // It was truncated.
            self.position = 0;
            self.rest.clear();
        }
        self.file.seek(SeekFrom::Start(self.position))?;
        let had = self.rest.len();
        (&self.file).take(BLOCK as u64).read_to_end(&mut self.rest)?;
        self.position += (self.rest.len() - had) as u64;
        if self.rest.len() == had {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.rest);
        let mut lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        if lines.last().is_some_and(|line| !line.ends_with(b"\n")) {
            self.rest = lines.pop().unwrap_or_default();
        }
        Ok(Some(lines))
    }
}

/// A file of the log.
struct Opened {
    source: Source,
    inode: u64,
    /// How many lines at its beginning nobody wants.
    unwanted: usize,
}

impl Opened {
    /// Its wanted lines.
    fn lines(self) -> io::Result<BufReader<Source>> {
        let mut lines = BufReader::new(self.source);
        for _ in 0..self.unwanted {
            lines.skip_until(b'\n')?;
        }
        Ok(lines)
    }
}

/// Reads a line; false at the end.
fn next_line(lines: &mut BufReader<Source>, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    Ok(lines.read_until(b'\n', line)? > 0)
}

enum Source {
    Plain(File),
    Compressed(Box<GzDecoder<File>>),
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Compressed(decoder) => decoder.read(buffer),
        }
    }
}

/// The log's files, newest first.
fn open_files(path: &Path) -> io::Result<VecDeque<Opened>> {
    let mut files: VecDeque<Opened> = VecDeque::new();
    for number in 0.. {
        let name = if number == 0 { path.to_owned() } else { numbered(path, number) };
        let opened = match open(&name)? {
            Some(file) => Some((Source::Plain as fn(File) -> Source, file)),
            None if number > 0 => {
                open(&with_suffix(&name, ".gz"))?.map(|file| (compressed as fn(File) -> Source, file))
            }
            None => None,
        };
        match opened {
            Some((wrap, file)) => {
                let inode = file.metadata()?.ino();
                if files.iter().all(|known| known.inode != inode) {
                    files.push_back(Opened { source: wrap(file), inode, unwanted: 0 });
                }
            }
            // Between two steps of a rotation the live file is missing for a moment.
            None if number == 0 => {}
            None => break,
        }
    }
    Ok(files)
}

fn compressed(file: File) -> Source {
    Source::Compressed(Box::new(GzDecoder::new(file)))
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    with_suffix(path, &format!(".{number}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Leaves the last `count` lines of all files.
fn leave_tail(files: &mut VecDeque<Opened>, count: usize) -> io::Result<()> {
    let mut wanted = count;
    for age in 0..files.len() {
        wanted -= files[age].leave_last(wanted)?;
        if wanted == 0 {
            files.truncate(age + 1);
            break;
        }
    }
    Ok(())
}

impl Opened {
    /// Leaves the last `wanted` lines, or as many as there are, which it tells.
    fn leave_last(&mut self, wanted: usize) -> io::Result<usize> {
        match &mut self.source {
            Source::Plain(file) => seek_last(file, wanted),
            Source::Compressed(decoder) => {
                let lines = count_lines(decoder)?;
                let mut file = decoder.get_ref().try_clone()?;
                file.rewind()?;
                self.source = compressed(file);
                let found = lines.min(wanted);
                self.unwanted = lines - found;
                Ok(found)
            }
        }
    }
}

fn count_lines(source: &mut impl Read) -> io::Result<usize> {
    let (mut block, mut lines) = (vec![0; BLOCK], 0);
    loop {
        match source.read(&mut block)? {
            0 => return Ok(lines),
            count => lines += block[..count].iter().filter(|byte| **byte == b'\n').count(),
        }
    }
}

/// Puts a file before its last `wanted` whole lines, or before all that it has, and tells how many these are. What
/// follows the last of them is a line that is still being written.
fn seek_last(file: &mut File, wanted: usize) -> io::Result<usize> {
    let mut start = file.seek(SeekFrom::End(0))?;
    let (mut block, mut found) = (vec![0; BLOCK], 0);
    while start > 0 {
        let size = BLOCK.min(usize::try_from(start).unwrap_or(BLOCK));
        start -= size as u64;
        file.read_exact_at(&mut block[..size], start)?;
        for (at, _) in block[..size].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // The end of the line before the first that is wanted.
            if found == wanted {
                file.seek(SeekFrom::Start(start + at as u64 + 1))?;
                return Ok(found);
            }
            found += 1;
        }
    }
    file.rewind()?;
    Ok(found)
}

fn watch(path: &Path) -> io::Result<AsyncFd<rustix::fd::OwnedFd>> {
    let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&inotify, directory, events)?;
    crate::sys::readiness::readable(inotify)
}

async fn changed(watch: &AsyncFd<rustix::fd::OwnedFd>) -> io::Result<()> {
    let mut guard = watch.readable().await?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch.get_ref(), &mut buffer);
    while events.next().is_ok() {}
    guard.clear_ready();
    Ok(())
}

#[derive(Deserialize)]
struct Line {
    log: String,
    stream: String,
    time: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

fn decode(line: &[u8]) -> Option<Entry> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let stream = if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    let bytes = line.log.into_bytes();
    let partial = !bytes.ends_with(b"\n");
    Some(Entry { stream, time: parse_time(&line.time)?, bytes, partial, attrs: line.attrs })
}

/// Reads the times that the shim (and Docker) writes: RFC 3339 in UTC.
fn parse_time(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let nanos: u64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    UNIX_EPOCH.checked_add(Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?))
}

/// Days from 1970-01-01, with years counted from March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let time = |seconds, nanos| Some(UNIX_EPOCH + Duration::new(seconds, nanos));
        assert_eq!(parse_time("1970-01-01T00:00:00Z"), time(0, 0));
        assert_eq!(parse_time("2024-02-29T00:00:00.12Z"), time(1_709_164_800, 120_000_000));
        assert_eq!(parse_time("2025-12-31T23:59:59.000000001Z"), time(1_767_225_599, 1));
        assert_eq!(parse_time("yesterday"), None);
    }
}
