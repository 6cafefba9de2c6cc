//! WebSocket's frames (RFC 6455) on a connection that was taken over. The handshake, and what frames carry, are its
//! users' business.

use std::io;

use bytes::{Bytes, BytesMut};

use super::takeover::Reader;

/// The longest frame of a client's, in bytes.
const LONGEST: usize = 1 << 20;

/// How much of what a client sends is read at a time.
const PIECE: usize = 32 << 10;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    /// More of the message before.
    Continuation,
    /// Text.
    Text,
    /// Bytes.
    Binary,
    /// The end of the conversation.
    Close,
    /// A question that is answered with [`Opcode::Pong`].
    Ping,
    /// The answer to a [`Opcode::Ping`].
    Pong,
}

impl Opcode {
    const fn number(self) -> u8 {
        match self {
            Opcode::Continuation => 0,
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        }
    }

    fn of(number: u8) -> Option<Self> {
        let all = [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong];
        all.into_iter().find(|opcode| opcode.number() == number)
    }
}

/// The head of a whole message in one frame; a server's frames are not masked.
pub(crate) fn head(opcode: Opcode, length: usize) -> Vec<u8> {
    let mut head = vec![0x80 | opcode.number()];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => head.push(short),
        (_, Ok(middle)) => {
            head.push(126);
            head.extend(middle.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend((length as u64).to_be_bytes());
        }
    }
    head
}

/// A client's frames.
pub(crate) struct Frames {
    reader: Reader,
    read: BytesMut,
}

impl Frames {
    /// The frames in what a client sends.
    pub(crate) fn new(reader: Reader) -> Self {
        Self { reader, read: BytesMut::new() }
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> io::Result<Option<(Opcode, Bytes)>> {
        loop {
            if let Some(frame) = take(&mut self.read)? {
                return Ok(Some(frame));
            }
            let more = self.reader.read(PIECE).await?;
            if more.is_empty() {
                return Ok(None);
            }
            self.read.extend_from_slice(&more);
        }
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Takes a whole frame off the front, if there is one.
fn take(read: &mut BytesMut) -> io::Result<Option<(Opcode, Bytes)>> {
    let [first, second, ..] = read[..] else { return Ok(None) };
    let opcode = Opcode::of(first & 0x0f).filter(|_| first & 0x70 == 0).ok_or_else(|| wrong("unknown frame"))?;
    if second & 0x80 == 0 {
        return Err(wrong("a client's frame is masked"));
    }
    let (length, start) = match second & 0x7f {
        126 => (read.get(2..4).map(number), 4),
        127 => (read.get(2..10).map(number), 10),
        short => (Some(u64::from(short)), 2),
    };
    let Some(length) = length else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST).ok_or_else(|| wrong("too long"))?;
    let data = start + 4;
    if read.len() < data + length {
        return Ok(None);
    }
    let mut frame = read.split_to(data + length);
    let mut payload = frame.split_off(data);
    let mask = &frame[start..];
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(Some((opcode, payload.freeze())))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_unmasked_whole() {
        // RFC 6455, 5.7: a masked "Hello".
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        for cut in 0..hello.len() {
            assert_eq!(take(&mut BytesMut::from(&hello[..cut])).unwrap(), None);
        }
        let mut read = BytesMut::from(&hello[..]);
        read.extend_from_slice(&[0x88, 0x80, 1, 2, 3, 4]);
        assert_eq!(take(&mut read).unwrap(), Some((Opcode::Text, Bytes::from_static(b"Hello"))));
        assert_eq!(take(&mut read).unwrap(), Some((Opcode::Close, Bytes::new())));
        assert!(read.is_empty());
    }

    #[test]
    fn what_no_client_may_send_is_refused() {
        for bytes in [&[0x81, 0x05][..], &[0x83, 0x80], &[0xf1, 0x80], &[0x81, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1]] {
            assert!(take(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn heads_tell_the_length() {
        assert_eq!(head(Opcode::Binary, 125), [0x82, 125]);
        assert_eq!(head(Opcode::Text, 126), [0x81, 126, 0, 126]);
        assert_eq!(head(Opcode::Pong, 65_536), [0x8a, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
