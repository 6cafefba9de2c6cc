//! A container's standard output and error, framed in one stream: eight bytes of head, then the block.

use std::io::{self, Write};

const HEAD: usize = 8;
const MAX_BLOCK: usize = 64 << 20;

/// Takes the stream apart as it arrives.
#[derive(Default)]
pub(crate) struct Demux {
    head: Vec<u8>,
    left: usize,
    kind: u8,
    system: Vec<u8>,
}

impl Demux {
    /// Passes what is in `bytes` on. A block of the daemon's own is an error with its text.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let take = (HEAD - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..take]);
                bytes = &bytes[take..];
                if self.head.len() == HEAD {
                    self.begin()?;
                }
                continue;
            }
            let (block, rest) = bytes.split_at(self.left.min(bytes.len()));
            match self.kind {
                0 | 1 => out.write_all(block)?,
                2 => err.write_all(block)?,
                _ => self.system.extend_from_slice(block),
            }
            self.left -= block.len();
            bytes = rest;
            if self.left == 0 && self.kind == 3 {
                let text = String::from_utf8_lossy(&self.system).into_owned();
                return Err(io::Error::other(format!("error from daemon in stream: {text}")));
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        self.kind = self.head[0];
        self.left = u32::from_be_bytes([self.head[4], self.head[5], self.head[6], self.head[7]]) as usize;
        self.head.clear();
        if self.kind > 3 || (self.kind == 3 && self.left > MAX_BLOCK) {
            return Err(io::Error::other(format!("unrecognized stream: {}", self.kind)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_gives_the_same_streams() {
        let stream = b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x02er\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x01!";
        for step in 1..stream.len() {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut demux = Demux::default();
            for block in stream.chunks(step) {
                demux.feed(block, &mut out, &mut err).unwrap();
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"out!"[..], &b"er"[..]));
        }
    }

    #[test]
    fn the_daemon_s_own_words_are_an_error() {
        let mut demux = Demux::default();
        let error = demux.feed(b"\x03\0\0\0\0\0\0\x02no", &mut Vec::new(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "error from daemon in stream: no");
        assert!(Demux::default().feed(b"\x09\0\0\0\0\0\0\x02no", &mut Vec::new(), &mut Vec::new()).is_err());
    }
}
