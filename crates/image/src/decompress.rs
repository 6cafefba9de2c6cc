//! One reader over gzip, zstd, xz, bzip2 or plain bytes, told apart by their first bytes.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const BUFFER: usize = 128 << 10;
/// Longest magic number that is looked for.
const LONGEST_MAGIC: usize = 6;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, one or several members.
    Gzip,
    /// Zstandard, one or several frames.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
}

impl Compression {
    /// Judges by a stream's first bytes.
    pub fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            _ => Self::None,
        }
    }
}

/// Gives the plain bytes of a stream, however it is compressed.
pub fn decompress<'a, R: Read + Send + 'a>(inner: R) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let (start, inner) = peek(inner, LONGEST_MAGIC)?;
    let compression = Compression::sniff(&start);
    let inner = io::Cursor::new(start).chain(inner);
    let reader: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(inner),
        Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, inner))),
        Compression::Zstd => Box::new(ZstdReader::new(BufReader::with_capacity(BUFFER, inner))),
        Compression::Xz => Box::new(XzReader::new(BufReader::with_capacity(BUFFER, inner), true)),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(BufReader::with_capacity(BUFFER, inner))),
    };
    Ok((compression, reader))
}

/// Reads up to `count` first bytes and gives them with the rest of the stream.
pub(crate) fn peek<R: Read>(mut inner: R, count: usize) -> io::Result<(Vec<u8>, R)> {
    let mut start = vec![0; count];
    let mut filled = 0;
    while filled < count {
        match inner.read(&mut start[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    start.truncate(filled);
    Ok((start, inner))
}

/// Zstandard with several frames and skippable ones, which the decoder below knows one at a time.
struct ZstdReader<R> {
    inner: R,
    frame: FrameDecoder,
    active: bool,
}

impl<R: BufRead> ZstdReader<R> {
    fn new(inner: R) -> Self {
        Self { inner, frame: FrameDecoder::new(), active: false }
    }

    /// Begins the next frame; false at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.inner.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.frame.reset(&mut self.inner) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.inner).take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(invalid(&error)),
            }
        }
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.active = false;
        match self.frame.get_checksum_from_data() {
            Some(stored) if Some(stored) != self.frame.get_calculated_checksum() => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "zstd: wrong checksum"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.active {
                if buffer.is_empty() || !self.next_frame()? {
                    return Ok(0);
                }
                self.active = true;
            }
            let count = self.frame.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            if self.frame.is_finished() {
                self.end_frame()?;
                continue;
            }
            let strategy = BlockDecodingStrategy::UptoBytes(BUFFER);
            if let Err(error) = self.frame.decode_blocks(&mut self.inner, strategy) {
                // The decoder does not tell a cut stream from a broken one; an empty source does.
                let cut = self.inner.fill_buf().is_ok_and(<[u8]>::is_empty);
                return Err(if cut { io::ErrorKind::UnexpectedEof.into() } else { invalid(&error) });
            }
        }
    }
}

fn invalid(error: &FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn plain(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(bytes)?.1.read_to_end(&mut out)?;
        Ok(out)
    }

    fn samples() -> Vec<(Compression, Vec<u8>)> {
        let text = "Droste ".repeat(40_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(text.as_bytes()).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest);
        vec![
            (Compression::None, text.clone().into_bytes()),
            (Compression::Gzip, gzip.finish().unwrap()),
            (Compression::Bzip2, bzip2.finish().unwrap()),
            (Compression::Zstd, zstd),
        ]
    }

    #[test]
    fn every_format_is_recognised_and_read() {
        let expected = "Droste ".repeat(40_000);
        for (compression, bytes) in samples() {
            assert_eq!(decompress(bytes.as_slice()).unwrap().0, compression);
            assert!(plain(&bytes).unwrap() == expected.as_bytes(), "{compression:?}");
        }
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        for (compression, bytes) in samples() {
            let twice = plain(&[bytes.clone(), bytes].concat()).unwrap();
            assert_eq!(twice.len(), 2 * 7 * 40_000, "{compression:?}");
        }
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        for (compression, bytes) in samples().into_iter().skip(1) {
            for end in [bytes.len() / 2, bytes.len() - 1] {
                assert!(plain(&bytes[..end]).is_err(), "{compression:?} cut at {end}");
            }
        }
    }

    #[test]
    fn short_and_empty_streams_are_plain() {
        assert_eq!(plain(b"").unwrap(), b"");
        assert_eq!(plain(b"BZ").unwrap(), b"BZ");
    }
}
