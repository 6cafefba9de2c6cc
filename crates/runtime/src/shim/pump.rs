//! Moves the process's bytes: outputs to the log and to every attachment, input from attachments to the process.
//!
//! One chunk is under way at a time. A reader that does not keep up stops the outputs from being read, as in Docker;
//! so nothing is lost and nothing grows.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use droste_runtime::plan::{Streams, WindowSize};
use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, read, write};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};

use super::journal::{Journal, Source};

const CHUNK: usize = 32 * 1024;
const INPUT_CHUNK: usize = 16 * 1024;
/// What an attachment may still owe its reader when the process is dead.
const LAST_WORDS: usize = 1 << 20;

/// One reader (and writer) of the process's streams.
struct Attachment {
    socket: OwnedFd,
    streams: Streams,
    pending: Vec<u8>,
    reading: bool,
    hung_up: bool,
    gone: bool,
}

/// A terminal: both ends, so that it stays alive while no process has it open.
struct Terminal {
    master: OwnedFd,
    slave: Option<OwnedFd>,
}

/// Everything that moves bytes.
pub(crate) struct Pump {
    outputs: [Option<OwnedFd>; 2],
    input: Option<OwnedFd>,
    terminal: Option<Terminal>,
    stdin_once: bool,
    closing: bool,
    to_input: Vec<u8>,
    attachments: Vec<Attachment>,
    journal: Option<Journal>,
    buffer: Vec<u8>,
    draining: bool,
}

/// What a place in the poll list belongs to.
#[derive(Clone, Copy)]
pub(crate) enum Token {
    Output(usize),
    Input,
    Attachment(usize),
}

impl Pump {
    pub(crate) fn new(
        input: Option<OwnedFd>,
        outputs: [Option<OwnedFd>; 2],
        stdin_once: bool,
        journal: Option<Journal>,
    ) -> Self {
        Self {
            outputs,
            input,
            terminal: None,
            stdin_once,
            closing: false,
            to_input: Vec::new(),
            attachments: Vec::new(),
            journal,
            buffer: Vec::new(),
            draining: false,
        }
    }

    /// The process got a terminal.
    pub(crate) fn set_terminal(&mut self, master: OwnedFd, wants_input: bool) -> io::Result<()> {
        nonblocking(master.as_fd())?;
        let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = Some(ioctl_tiocgptpeer(&master, peer)?);
        self.outputs = [Some(master.try_clone()?), None];
        self.input = if wants_input { Some(master.try_clone()?) } else { None };
        self.terminal = Some(Terminal { master, slave });
        Ok(())
    }

    pub(crate) fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    pub(crate) fn resize(&self, size: WindowSize) -> io::Result<()> {
        let terminal = self.terminal.as_ref().ok_or(Errno::NOTTY)?;
        super::program::set_size(terminal.master.as_fd(), size)
    }

    pub(crate) fn attach(&mut self, socket: OwnedFd, streams: Streams) {
        let reading = streams.stdin;
        let new = Attachment { socket, streams, pending: Vec::new(), reading, hung_up: false, gone: false };
        self.attachments.push(new);
    }

    /// Closes the process's input when all that came for it has been written.
    pub(crate) fn close_input(&mut self) {
        self.closing = true;
        self.settle_input();
    }

    /// The process is dead: read what is left, however slow the readers are.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.input = None;
        if let Some(terminal) = &mut self.terminal {
            terminal.slave = None;
        }
    }

    /// Whether all outputs have ended.
    pub(crate) fn drained(&self) -> bool {
        self.outputs.iter().all(Option::is_none)
    }

    /// No more output will be read: end the log and the attachments that have got everything.
    pub(crate) fn finish(&mut self) {
        self.outputs = [None, None];
        if let Some(mut journal) = self.journal.take() {
            // A full disk must not keep the exit from being reported.
            let _ = journal.finish(Source::Stdout);
            let _ = journal.finish(Source::Stderr);
        }
        self.sweep();
    }

    /// Whether every attachment has got everything.
    pub(crate) fn delivered(&self) -> bool {
        self.attachments.iter().all(|attachment| attachment.pending.is_empty())
    }

    /// Adds what there is to wait for.
    pub(crate) fn interests<'a>(&'a self, list: &mut Vec<(PollFd<'a>, Token)>) {
        let held = !self.draining && !self.delivered();
        for (index, output) in self.outputs.iter().enumerate().filter(|_| !held) {
            if let Some(fd) = output {
                list.push((PollFd::new(fd, PollFlags::IN), Token::Output(index)));
            }
        }
        if let Some(input) = self.input.as_ref().filter(|_| !self.to_input.is_empty()) {
            list.push((PollFd::new(input, PollFlags::OUT), Token::Input));
        }
        let takes_input = self.input.is_some() && self.to_input.is_empty();
        for (index, attachment) in self.attachments.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, attachment.reading && takes_input);
            flags.set(PollFlags::OUT, !attachment.pending.is_empty());
            if !attachment.hung_up || !flags.is_empty() {
                list.push((PollFd::new(&attachment.socket, flags), Token::Attachment(index)));
            }
        }
    }

    /// Acts on what happened.
    pub(crate) fn ready(&mut self, token: Token, events: PollFlags) {
        match token {
            Token::Output(index) => self.read_output(index),
            Token::Input => self.write_input(),
            Token::Attachment(index) => self.serve(index, events),
        }
    }

    fn read_output(&mut self, index: usize) {
        self.buffer.resize(CHUNK, 0);
        let Some(output) = &self.outputs[index] else { return };
        let source = if index == 0 { Source::Stdout } else { Source::Stderr };
        match read(output, &mut self.buffer[..]) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal ends with an error.
            Ok(0) | Err(_) => self.outputs[index] = None,
            Ok(count) => {
                let bytes = &self.buffer[..count];
                if let Some(journal) = &mut self.journal {
                    // A full disk must not stop the container.
                    let _ = journal.append(source, bytes);
                }
                for attachment in &mut self.attachments {
                    attachment.offer(source, bytes);
                }
            }
        }
    }

    fn serve(&mut self, index: usize, events: PollFlags) {
        let attachment = &mut self.attachments[index];
        attachment.flush();
        attachment.hung_up |= events.intersects(PollFlags::HUP | PollFlags::ERR);
        if attachment.reading && self.to_input.is_empty() && self.input.is_some() {
            self.take_input(index);
        }
        let blocked = !self.to_input.is_empty() && self.input.is_some();
        let attachment = &mut self.attachments[index];
        if attachment.hung_up && !(attachment.reading && blocked) {
            attachment.gone = true;
        }
    }

    fn take_input(&mut self, index: usize) {
        let attachment = &mut self.attachments[index];
        let mut bytes = vec![0; INPUT_CHUNK];
        match recv(&attachment.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok((0, _)) | Err(_) => {
                attachment.reading = false;
                // A terminal's input is not closed by one client's end.
                self.closing |= self.stdin_once && self.terminal.is_none();
                self.settle_input();
            }
            Ok((count, _)) => {
                bytes.truncate(count);
                self.to_input = bytes;
                self.write_input();
                // What the peer said before it went is still to be read.
                self.attachments[index].hung_up = false;
            }
        }
    }

    fn write_input(&mut self) {
        let Some(input) = &self.input else { return };
        match write(input, &self.to_input) {
            Ok(count) => drop(self.to_input.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.to_input.clear();
                self.input = None;
            }
        }
        self.settle_input();
    }

    fn settle_input(&mut self) {
        if self.to_input.is_empty() {
            self.to_input = Vec::new();
            if self.closing {
                self.input = None;
            }
        }
    }

    /// Forgets attachments whose reader is gone.
    pub(crate) fn sweep(&mut self) {
        let draining = self.draining;
        self.attachments.retain(|attachment| !(attachment.gone || draining && attachment.pending.len() > LAST_WORDS));
    }
}

impl Attachment {
    /// Passes output on in Docker's framing; what does not go at once is kept.
    fn offer(&mut self, source: Source, bytes: &[u8]) {
        let (wanted, number) = match source {
            Source::Stdout => (self.streams.stdout, 1),
            Source::Stderr => (self.streams.stderr, 2),
        };
        if !wanted || self.gone {
            return;
        }
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        let header = [number, 0, 0, 0, length[0], length[1], length[2], length[3]];
        let sent = if self.pending.is_empty() { self.send(&[IoSlice::new(&header), IoSlice::new(bytes)]) } else { 0 };
        if sent < header.len() {
            self.pending.extend_from_slice(&header[sent..]);
        }
        let body = sent.saturating_sub(header.len());
        self.pending.extend_from_slice(&bytes[body..]);
    }

    fn flush(&mut self) {
        if !self.pending.is_empty() {
            let sent = self.send(&[IoSlice::new(&self.pending)]);
            self.pending.drain(..sent);
            if self.pending.is_empty() {
                self.pending = Vec::new();
            }
        }
    }

    fn send(&self, slices: &[IoSlice<'_>]) -> usize {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // A broken socket is noticed by poll.
        sendmsg(&self.socket, slices, &mut SendAncillaryBuffer::default(), flags).unwrap_or(0)
    }
}

/// Sets `O_NONBLOCK`.
pub(crate) fn nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}
