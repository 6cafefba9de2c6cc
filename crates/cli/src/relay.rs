//! Two streams made one: what comes in at one end goes out at the other, in both directions and byte by byte, with
//! half-close kept. It knows nothing of what it carries.

use std::io::{self, ErrorKind, Read, Write};

use rustix::event::{PollFd, PollFlags, poll};

use crate::net::stream::Stream;

/// How much of one direction is held at a time.
const HELD: usize = 64 * 1024;

/// Carries bytes between the two until both directions have ended, or one of the two is gone.
pub(crate) fn join(mut left: Stream, mut right: Stream) -> io::Result<()> {
    left.set_nonblocking(true)?;
    right.set_nonblocking(true)?;
    let (mut there, mut back) = (Flow::new(), Flow::new());
    while !(there.closed && back.closed) {
        let moved = there.advance(&mut left, &mut right)?;
        let returned = back.advance(&mut right, &mut left)?;
        if !(moved || returned) {
            wait(&left, &right, &mut there, &mut back)?;
        }
    }
    Ok(())
}

/// One direction.
struct Flow {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    /// Nothing more comes in.
    ended: bool,
    /// Nothing more goes out.
    closed: bool,
}

impl Flow {
    fn new() -> Self {
        Self { buffer: vec![0; HELD], begin: 0, end: 0, ended: false, closed: false }
    }

    fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    fn wants_input(&self) -> bool {
        self.is_empty() && !self.ended && !self.closed
    }

    /// Moves what can be moved without waiting; tells whether that was anything.
    fn advance(&mut self, from: &mut Stream, to: &mut Stream) -> io::Result<bool> {
        let mut moved = false;
        if self.wants_input() {
            moved |= self.fill(from)?;
        }
        if !self.is_empty() {
            moved |= self.drain(to)?;
        }
        if self.is_empty() && self.ended && !self.closed {
            self.closed = true;
            moved = true;
            // A peer that has gone meanwhile needs no farewell.
            let _ = to.close_write();
        }
        Ok(moved)
    }

    fn fill(&mut self, from: &mut Stream) -> io::Result<bool> {
        match from.read(&mut self.buffer) {
            Ok(size) => {
                (self.begin, self.end) = (0, size);
                self.ended = size == 0;
                Ok(true)
            }
            Err(error) => later(error),
        }
    }

    fn drain(&mut self, to: &mut Stream) -> io::Result<bool> {
        match to.write(&self.buffer[self.begin..self.end]) {
            Ok(size) => {
                self.begin += size;
                flush(to)?;
                Ok(true)
            }
            // It has stopped reading; what it has still to say counts.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                self.give_up();
                Ok(true)
            }
            Err(error) => later(error),
        }
    }

    /// Whoever should get this is gone.
    fn give_up(&mut self) {
        self.begin = self.end;
        self.closed = true;
    }
}

fn flush(to: &mut Stream) -> io::Result<()> {
    match to.flush() {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// Nothing moved, unless a signal came between.
fn later(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        ErrorKind::WouldBlock => Ok(false),
        ErrorKind::Interrupted => Ok(true),
        _ => Err(error),
    }
}

fn wait(left: &Stream, right: &Stream, there: &mut Flow, back: &mut Flow) -> io::Result<()> {
    let mut fds = Vec::with_capacity(2);
    let of_left = interest(left, there, back);
    let of_right = interest(right, back, there);
    for (stream, interest) in [(left, of_left), (right, of_right)] {
        fds.extend(interest.map(|flags| PollFd::new(stream, flags)));
    }
    match poll(&mut fds, None) {
        Err(rustix::io::Errno::INTR) => return Ok(()),
        other => other?,
    };
    let gone = |fd: &PollFd<'_>| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR);
    let mut seen = fds.iter();
    if of_left.is_some() && seen.next().is_some_and(gone) {
        back.give_up();
    }
    if of_right.is_some() && seen.next().is_some_and(gone) {
        there.give_up();
    }
    Ok(())
}

/// What to wait for at a stream, if anything can still happen there: the kernel tells of its end unasked.
fn interest(stream: &Stream, from_it: &Flow, to_it: &Flow) -> Option<PollFlags> {
    let mut flags = PollFlags::empty();
    if from_it.wants_input() {
        flags |= PollFlags::IN;
    }
    if !to_it.is_empty() || stream.wants_write() {
        flags |= PollFlags::OUT;
    }
    (!flags.is_empty() || !to_it.closed).then_some(flags)
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::thread::{JoinHandle, spawn};

    use super::*;

    /// A client's end, a server's end, and the relay between them.
    fn relay() -> (UnixStream, UnixStream, JoinHandle<io::Result<()>>) {
        let (client, left) = UnixStream::pair().unwrap();
        let (right, server) = UnixStream::pair().unwrap();
        (client, server, spawn(move || join(Stream::Unix(left), Stream::Unix(right))))
    }

    fn rest(stream: &mut UnixStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn either_half_closes_alone() {
        for client_first in [true, false] {
            let (client, server, relay) = relay();
            let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
            first.write_all(b"asked").unwrap();
            first.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rest(&mut second), b"asked");
            second.write_all(b"answered afterwards").unwrap();
            drop(second);
            assert_eq!(rest(&mut first), b"answered afterwards");
            relay.join().unwrap().unwrap();
        }
    }

    #[test]
    fn a_peer_that_goes_takes_the_other_with_it() {
        let (client, mut server, relay) = relay();
        drop(client);
        assert_eq!(rest(&mut server), b"");
        relay.join().unwrap().unwrap();
        assert!(server.write_all(b"x").is_err());
    }

    #[test]
    fn an_early_refusal_arrives() {
        let (mut client, mut server, relay) = relay();
        server.write_all(b"no").unwrap();
        drop(server);
        // Writing may fail or not, as without a relay.
        let _ = client.write_all(&[0; 10]);
        assert_eq!(rest(&mut client), b"no");
        drop(client);
        relay.join().unwrap().unwrap();
    }

    #[test]
    fn much_goes_both_ways_at_once() {
        let (mut client, mut server, relay) = relay();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let send = |stream: &UnixStream| {
            let (mut stream, bytes) = (stream.try_clone().unwrap(), bytes.clone());
            spawn(move || {
                stream.write_all(&bytes).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            })
        };
        let senders = [send(&client), send(&server)];
        let reader = spawn(move || rest(&mut server));
        assert!(rest(&mut client) == bytes && reader.join().unwrap() == bytes);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        relay.join().unwrap().unwrap();
    }
}
