//! A container's streams on our own: input with detach keys, output taken apart, signals and window sizes passed on.
//! One poll loop serves a Unix socket, TCP and TLS alike; nothing in it waits for a peer that waits for us.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};

use crate::error::{CliError, Result};
use crate::net::stream::Stream;
use crate::output::demux::Demux;

/// Signals that come to us and are meant for the container or for its terminal.
pub(crate) struct Signals {
    fd: SignalFd,
}

const PROXIED: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGTSTP,
];

impl Signals {
    /// Takes over the signals of the terminal's size and, with `proxy`, those that a container should see.
    pub(crate) fn take(proxy: bool) -> Result<Self> {
        let proxied = if proxy { PROXIED } else { &[] };
        Self::of(proxied.iter().chain([&Signal::SIGWINCH]))
    }

    /// Takes over those signals, in this thread and the ones that it starts from here on.
    pub(crate) fn of<'a>(signals: impl IntoIterator<Item = &'a Signal>) -> Result<Self> {
        let set: SigSet = signals.into_iter().copied().collect();
        let fail = |e: nix::Error| CliError::io("taking over signals", e.into());
        set.thread_block().map_err(fail)?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(fail)?;
        Ok(Self { fd })
    }

    /// The next signal that has come, if any.
    pub(crate) fn next(&self) -> Option<Signal> {
        let info = self.fd.read_signal().ok().flatten()?;
        Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a signal is called in the API: `TERM`.
pub(crate) fn signal_name(signal: Signal) -> &'static str {
    signal.as_str().trim_start_matches("SIG")
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The daemon closed the stream.
    Closed,
    /// The user typed the detach keys.
    Detached,
}

/// What a session connects.
pub(crate) struct Session<'a> {
    pub(crate) stream: Stream,
    /// Bytes that arrived together with the daemon's answer.
    pub(crate) early: Vec<u8>,
    /// Raw bytes instead of frames.
    pub(crate) raw: bool,
    pub(crate) stdin: bool,
    /// The keys that end the session; none if empty.
    pub(crate) detach_keys: Vec<u8>,
    pub(crate) signals: Option<&'a Signals>,
}

struct Pump {
    stream: Stream,
    demux: Option<Demux>,
    out: Fd,
    err: Fd,
    waiting: Vec<u8>,
    sent: usize,
    input_open: bool,
    close_when_sent: bool,
    keys: DetachKeys,
}

impl Session<'_> {
    /// Carries bytes until one side ends.
    pub(crate) fn run(self, mut on_signal: impl FnMut(Signal)) -> Result<End> {
        let fail = |e| CliError::io("carrying the container's streams", e);
        let mut pump = Pump {
            stream: self.stream,
            demux: (!self.raw).then(Demux::default),
            out: Fd::Out,
            err: Fd::Err,
            waiting: Vec::new(),
            sent: 0,
            input_open: self.stdin,
            close_when_sent: !self.stdin,
            keys: DetachKeys::new(self.detach_keys),
        };
        pump.stream.set_nonblocking(true).map_err(fail)?;
        pump.output(&self.early).map_err(fail)?;
        pump.push().map_err(fail)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let ready = pump.wait(self.signals).map_err(fail)?;
            if let (true, Some(signals)) = (ready.signal, self.signals) {
                while let Some(signal) = signals.next() {
                    on_signal(signal);
                }
            }
            if ready.input && pump.input(&mut buffer).map_err(fail)? {
                return Ok(End::Detached);
            }
            pump.push().map_err(fail)?;
            if ready.stream && pump.receive(&mut buffer).map_err(fail)? {
                return Ok(End::Closed);
            }
        }
    }
}

struct Ready {
    stream: bool,
    input: bool,
    signal: bool,
}

impl Pump {
    fn wait(&self, signals: Option<&Signals>) -> io::Result<Ready> {
        let stdin = io::stdin();
        let blocked = self.sent < self.waiting.len() || self.stream.wants_write();
        let interest = if blocked { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = vec![PollFd::new(&self.stream, interest)];
        let input_at = (self.input_open && !blocked).then_some(fds.len());
        if input_at.is_some() {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        let signal_at = signals.map(|_| fds.len());
        if let Some(signals) = signals {
            fds.push(PollFd::from_borrowed_fd(signals.fd.as_fd(), PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => {}
            other => {
                other?;
            }
        }
        let happened = |at: Option<usize>| at.is_some_and(|at| !fds[at].revents().is_empty());
        let stream = fds[0].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        Ok(Ready { stream, input: happened(input_at), signal: happened(signal_at) })
    }

    /// Reads our input; true if the detach keys were typed.
    fn input(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let size = match rustix::io::read(io::stdin(), &mut *buffer) {
            Ok(size) => size,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(false),
            // A terminal that has gone away is an end of input.
            Err(rustix::io::Errno::IO) => 0,
            Err(error) => return Err(error.into()),
        };
        if size == 0 {
            self.input_open = false;
            self.close_when_sent = true;
            return Ok(false);
        }
        Ok(self.keys.filter(&buffer[..size], &mut self.waiting))
    }

    /// Sends what waits, as far as the daemon takes it.
    fn push(&mut self) -> io::Result<()> {
        while self.sent < self.waiting.len() {
            match self.stream.write(&self.waiting[self.sent..]) {
                Ok(size) => self.sent += size,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    io::ErrorKind::Interrupted => {}
                    // The container has stopped reading; its output still counts.
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                        self.input_open = false;
                        self.close_when_sent = false;
                        self.sent = self.waiting.len();
                    }
                    _ => return Err(error),
                },
            }
        }
        self.waiting.clear();
        self.sent = 0;
        if std::mem::take(&mut self.close_when_sent) {
            let _ = self.stream.close_write();
        }
        match self.stream.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads what the container wrote; true at its end.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(true),
                Ok(size) => {
                    self.output(&buffer[..size])?;
                    if size < buffer.len() && !self.stream.reads_ahead() {
                        return Ok(false);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(false),
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset => return Ok(true),
                    _ => return Err(error),
                },
            }
        }
    }

    fn output(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.demux {
            Some(demux) => demux.feed(bytes, &mut self.out, &mut self.err),
            None => self.out.write_all(bytes),
        }
    }
}

/// Waits until `fd` can be read, and passes signals on meanwhile.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, signals: &Signals, mut on_signal: impl FnMut(Signal)) -> Result<()> {
    loop {
        let mut fds =
            [PollFd::from_borrowed_fd(fd, PollFlags::IN), PollFd::from_borrowed_fd(signals.fd.as_fd(), PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(CliError::io("waiting for the container", error.into())),
        }
        while let Some(signal) = signals.next() {
            on_signal(signal);
        }
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
    }
}

/// Standard output and error without a buffer between.
pub(crate) enum Fd {
    Out,
    Err,
}

impl Write for Fd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = match self {
            Self::Out => rustix::io::write(io::stdout(), bytes),
            Self::Err => rustix::io::write(io::stderr(), bytes),
        };
        match outcome {
            Err(rustix::io::Errno::AGAIN) => {
                let (stdout, stderr) = (io::stdout(), io::stderr());
                let fd = if matches!(self, Self::Out) { stdout.as_fd() } else { stderr.as_fd() };
                poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None)?;
                Err(io::ErrorKind::Interrupted.into())
            }
            other => Ok(other?),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Looks for a sequence of keys in what is typed.
struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Passes input on; true when the whole sequence was typed. Keys that might begin it are held back.
    fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            out.extend_from_slice(input);
            return false;
        }
        for byte in input {
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(*byte == self.keys[0]);
            if self.matched == 0 {
                out.push(*byte);
            }
        }
        false
    }
}

/// Reads detach keys: `ctrl-p,ctrl-q`, `a`, `DEL`.
pub(crate) fn parse_detach_keys(text: &str) -> Result<Vec<u8>> {
    text.split(',')
        .map(|key| match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
            (_, Some([letter @ b'a'..=b'z'])) => Some(letter - b'a' + 1),
            (_, Some([b'@'])) => Some(0),
            (_, Some([mark @ b'['..=b'_'])) => Some(mark - b'@'),
            (b"DEL", _) => Some(127),
            ([one], _) => Some(*one),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| CliError::new(format!("invalid detach keys ({text}): Unknown character: '{text}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys() {
        assert_eq!(parse_detach_keys("ctrl-p,ctrl-q").unwrap(), [16, 17]);
        assert_eq!(parse_detach_keys("a,DEL,ctrl-@,ctrl-]").unwrap(), [b'a', 127, 0, 29]);
        assert!(parse_detach_keys("foo").is_err());
        assert!(parse_detach_keys("ctrl-é").is_err());
    }

    #[test]
    fn keys_are_held_back_until_they_are_something_else() {
        let mut keys = DetachKeys::new(vec![16, 17]);
        let mut out = Vec::new();
        assert!(!keys.filter(&[b'a', 16], &mut out));
        assert_eq!(out, b"a");
        assert!(!keys.filter(&[16, b'b'], &mut out));
        assert_eq!(out, [b'a', 16, 16, b'b']);
        assert!(keys.filter(&[b'c', 16, 17, b'd'], &mut out));
        assert_eq!(out, [b'a', 16, 16, b'b', b'c']);
    }

    #[test]
    fn signals_have_docker_s_names() {
        assert_eq!(signal_name(Signal::SIGTERM), "TERM");
    }
}
