//! gzip of a stream by several threads.
//!
//! The stream is cut into blocks, and each is compressed by itself, as pigz does; what comes out is one gzip member, the
//! same bytes whatever the number of threads. Blocks that a sample shows to be random or compressed already are stored:
//! trying harder costs much time and gains nothing.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use flate2::{Compress, Compression, Crc, FlushCompress};

use crate::error::{Error, Result};

/// Bytes of a block; what a block can refer back to begins with it, so that small ones compress worse.
const BLOCK: usize = 1 << 20;
const SAMPLE: usize = 16 << 10;
/// Threads beyond these bring little and hold two blocks each.
const MOST_THREADS: usize = 4;

/// No name, no time, the system unknown: the same input gives the same digest everywhere.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// An empty last block.
const END: [u8; 2] = [3, 0];

struct Piece {
    deflated: Vec<u8>,
    crc: Crc,
}

struct Work {
    block: Vec<u8>,
    answer: SyncSender<io::Result<Piece>>,
}

/// Writes to `out` the gzip form of what `fill` writes; gives what `fill` gives. Blocking.
///
/// If both sides fail, the error is that of `out`: the other one fails for want of a reader. What was written before an
/// error of `fill` looks whole and must not be used.
pub(crate) fn gzip<T>(mut out: impl Write + Send, fill: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let (work, todo) = sync_channel::<Work>(threads);
    let (order, ordered) = sync_channel::<Receiver<io::Result<Piece>>>(threads);
    let todo = Mutex::new(todo);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| compress_all(&todo));
        }
        let writing = scope.spawn(move || write_all(&mut out, &ordered));
        let mut blocks = Blocks { work, order, block: Vec::with_capacity(BLOCK) };
        let filled = fill(&mut blocks).and_then(|value| blocks.send().map(|()| value).map_err(Error::WriteStream));
        drop(blocks);
        let written = writing.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread died")));
        written.map_err(Error::WriteStream).and(filled)
    })
}

/// Cuts what is written into blocks.
struct Blocks {
    work: SyncSender<Work>,
    order: SyncSender<Receiver<io::Result<Piece>>>,
    block: Vec<u8>,
}

impl Blocks {
    fn send(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let (answer, piece) = sync_channel(1);
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.order.send(piece).map_err(gone)?;
        self.work.send(Work { block, answer }).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == BLOCK {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn compress_all(todo: &Mutex<Receiver<Work>>) {
    loop {
        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        // Nobody waits for it if the writing has failed.
        let _ = work.answer.send(compress(&work.block));
    }
}

fn write_all(out: &mut impl Write, ordered: &Receiver<Receiver<io::Result<Piece>>>) -> io::Result<()> {
    let mut crc = Crc::new();
    out.write_all(&HEADER)?;
    for piece in ordered {
        let piece = piece.recv().map_err(|_| io::Error::other("a compressing thread died"))??;
        out.write_all(&piece.deflated)?;
        crc.combine(&piece.crc);
    }
    out.write_all(&END)?;
    out.write_all(&crc.sum().to_le_bytes())?;
    out.write_all(&crc.amount().to_le_bytes())?;
    out.flush()
}

fn compress(block: &[u8]) -> io::Result<Piece> {
    let mut crc = Crc::new();
    crc.update(block);
    let level = if is_random(block)? { Compression::none() } else { Compression::default() };
    Ok(Piece { deflated: deflate(block, level)?, crc })
}

/// Deflates a block so that others may follow it.
fn deflate(block: &[u8], level: Compression) -> io::Result<Vec<u8>> {
    let mut compress = Compress::new(level, false);
    let mut out = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let done = usize::try_from(compress.total_in()).unwrap_or(block.len());
        compress.compress_vec(&block[done..], &mut out, FlushCompress::Sync).map_err(io::Error::other)?;
        // Room that is left says that all of the flush is out.
        if compress.total_in() == block.len() as u64 && out.len() < out.capacity() {
            return Ok(out);
        }
        out.reserve(64 << 10);
    }
}

/// Whether samples of a block get no smaller.
fn is_random(block: &[u8]) -> io::Result<bool> {
    for at in [0, block.len() / 2] {
        let sample = &block[at..block.len().min(at + SAMPLE)];
        if deflate(sample, Compression::fast())?.len() < sample.len() - sample.len() / 50 {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn zipped(plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        gzip(&mut out, |to| to.write_all(plain).map_err(Error::WriteStream)).unwrap();
        out
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn it_is_one_member_that_unpacks_to_what_went_in() {
        let text = b"the same again and again, ".repeat(200_000);
        let mixed = [text.clone(), noise(3 * BLOCK + 5), vec![0; BLOCK]].concat();
        for plain in [Vec::new(), b"x".to_vec(), text[..BLOCK].to_vec(), text, noise(BLOCK * 2), mixed] {
            let zipped = zipped(&plain);
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(zipped.as_slice()).read_to_end(&mut back).unwrap();
            assert!(back == plain, "{} bytes", plain.len());
        }
    }

    #[test]
    fn what_does_not_shrink_hardly_grows_and_the_rest_shrinks() {
        let random = noise(4 * BLOCK);
        assert!(zipped(&random).len() < random.len() + random.len() / 1000);
        let text = b"the same again and again, ".repeat(200_000);
        assert!(zipped(&text).len() < text.len() / 100);
        assert_eq!(zipped(&text), zipped(&text));
    }

    #[test]
    fn failures_on_either_side_end_it() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let fill = |to: &mut dyn Write| to.write_all(&noise(20 * BLOCK)).map_err(Error::WriteStream);
        let full = gzip(Full, fill).unwrap_err();
        assert!(matches!(&full, Error::WriteStream(error) if error.kind() == io::ErrorKind::StorageFull), "{full}");
        let mut out = Vec::new();
        let filling = gzip::<()>(&mut out, |_| Err(Error::CutShort)).unwrap_err();
        assert!(matches!(filling, Error::CutShort), "{filling}");
    }
}
