//! Docker's multiplexed stream: frames of eight bytes of head (stream, three zeros, length) and their payload.

/// How many bytes a frame's head has.
pub const HEAD: usize = 8;

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Standard input.
    Stdin = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// A failure of the engine in the midst of a stream.
    SystemError = 3,
}

/// The head of a frame with so many bytes of payload.
pub fn head(stream: Stream, length: u32) -> [u8; HEAD] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// Appends payload as frames; more than 4 GiB become several.
pub fn encode(stream: Stream, payload: &[u8], out: &mut Vec<u8>) {
    for part in payload.chunks(u32::MAX as usize) {
        // A chunk is no longer than u32::MAX.
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&head(stream, length));
        out.extend_from_slice(part);
    }
}

/// A frame's head that names no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized input header: {0}")]
pub struct UnknownStream(pub u8);

/// A frame: its stream, its payload, and what follows it.
pub type Frame<'a> = (Stream, &'a [u8], &'a [u8]);

/// Takes the first frame off `bytes`, if all of it is there.
pub fn decode(bytes: &[u8]) -> Result<Option<Frame<'_>>, UnknownStream> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
    let stream = match head[0] {
        0 => Stream::Stdin,
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        3 => Stream::SystemError,
        other => return Err(UnknownStream(other)),
    };
    let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
    Ok(rest.split_at_checked(length).map(|(payload, rest)| (stream, payload, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back() {
        let mut bytes = Vec::new();
        encode(Stream::Stdout, b"hello", &mut bytes);
        encode(Stream::Stderr, b"x", &mut bytes);
        assert_eq!(bytes[..13], *b"\x01\0\0\0\0\0\0\x05hello");
        let (stream, payload, rest) = decode(&bytes).unwrap().unwrap();
        assert_eq!((stream, payload), (Stream::Stdout, &b"hello"[..]));
        assert_eq!(decode(rest).unwrap().unwrap(), (Stream::Stderr, &b"x"[..], &b""[..]));
        for cut in 0..13 {
            assert_eq!(decode(&bytes[..cut]), Ok(None));
        }
        assert_eq!(decode(b"abcdefgh"), Err(UnknownStream(b'a')));
    }
}
