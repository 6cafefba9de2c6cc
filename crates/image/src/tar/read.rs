//! Reads a tar stream entry by entry with bounded memory.
//!
//! The stream may come from anyone: every length is checked before it is believed, and a stream that ends inside an
//! entry is an error. What an entry's name may be is for the extractor to judge.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{BLOCK, Entry, Kind, Sparse, XATTR_PREFIX};

/// Extension headers longer than this are refused, as Go's reader does.
const LONGEST_EXTENSION: u64 = 1 << 20;
/// More runs of data than this in one sparse file are refused.
const MOST_RUNS: usize = 1 << 16;

/// Why a stream is no tar archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error("reading the archive: {0}")]
    Read(#[source] io::Error),
    #[error("the archive is cut short")]
    CutShort,
    #[error("invalid tar header: {0}")]
    Header(&'static str),
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::CutShort } else { Self::Read(error) }
    }
}

/// A stream that learns which of its bytes are structure and which are the content of a file that will be kept.
pub(crate) trait Source {
    /// Reads headers, padding, and content that no file keeps.
    fn structure(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Reads content that goes to a file.
    fn content(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

/// A source for which all bytes are alike.
pub(crate) struct Plain<R>(pub(crate) R);

impl<R: Read> Source for Plain<R> {
    fn structure(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// Reads entries from a source.
pub(crate) struct TarReader<S> {
    source: S,
    remaining: u64,
    padding: u64,
    global: BTreeMap<Vec<u8>, Vec<u8>>,
    ended: bool,
}

/// What extension headers say about the entry that follows them.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: BTreeMap<Vec<u8>, Vec<u8>>,
    /// `GNU.sparse.offset` and `.numbytes` pairs of format 0.0, whose keys repeat.
    sparse_runs: Vec<u64>,
}

impl<S: Source> TarReader<S> {
    pub(crate) fn new(source: S) -> Self {
        Self { source, remaining: 0, padding: 0, global: BTreeMap::new(), ended: false }
    }

    pub(crate) fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// The next entry; what was not read of the last one is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip()?;
        let mut extensions = Extensions { pax: self.global.clone(), ..Extensions::default() };
        let mut block = [0u8; BLOCK];
        loop {
            if self.ended || !self.read_header(&mut block)? {
                self.ended = true;
                return Ok(None);
            }
            match block[156] {
                b'x' | b'X' => self.read_pax(&block, &mut extensions)?,
                b'g' => self.read_global(&block, &mut extensions)?,
                b'L' => extensions.name = Some(self.read_long(&block)?),
                b'K' => extensions.link = Some(self.read_long(&block)?),
                flag => return self.entry(&block, flag, extensions).map(Some),
            }
        }
    }

    /// Reads content of the current entry that goes to a file; 0 at its end.
    pub(crate) fn content(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        self.part(buffer, S::content)
    }

    /// Reads content of the current entry that no file keeps; 0 at its end.
    pub(crate) fn inline(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        self.part(buffer, S::structure)
    }

    /// All of the current entry's content, which must not be longer than `limit`.
    pub(crate) fn small(&mut self, limit: u64) -> Result<Vec<u8>, TarError> {
        if self.remaining > limit {
            return Err(TarError::Header("an entry is longer than it may be"));
        }
        let mut bytes = vec![0; usize::try_from(self.remaining).unwrap_or(0)];
        self.fill(&mut bytes)?;
        self.remaining = 0;
        Ok(bytes)
    }

    /// Reads to the end of the stream what follows the archive's end.
    pub(crate) fn finish(mut self) -> Result<S, TarError> {
        self.skip()?;
        let mut buffer = [0u8; 8192];
        while self.source.structure(&mut buffer)? > 0 {}
        Ok(self.source)
    }

    fn part(
        &mut self,
        buffer: &mut [u8],
        read: impl Fn(&mut S, &mut [u8]) -> io::Result<usize>,
    ) -> Result<usize, TarError> {
        let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = read(&mut self.source, &mut buffer[..wanted])?;
        if count == 0 {
            return Err(TarError::CutShort);
        }
        self.remaining -= count as u64;
        Ok(count)
    }

    fn skip(&mut self) -> Result<(), TarError> {
        let mut buffer = [0u8; 4096];
        while self.inline(&mut buffer)? > 0 {}
        let mut padding = [0u8; BLOCK];
        let count = std::mem::take(&mut self.padding) as usize;
        self.fill(&mut padding[..count])
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        if self.fill_or_end(buffer)? { Ok(()) } else { Err(TarError::CutShort) }
    }

    /// Fills the buffer; false if the stream ended before its first byte.
    fn fill_or_end(&mut self, buffer: &mut [u8]) -> Result<bool, TarError> {
        let mut done = 0;
        while done < buffer.len() {
            match self.source.structure(&mut buffer[done..])? {
                0 if done == 0 => return Ok(false),
                0 => return Err(TarError::CutShort),
                count => done += count,
            }
        }
        Ok(true)
    }

    /// Reads a header block; false at the end of the archive.
    fn read_header(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        if !self.fill_or_end(block)? {
            return Ok(false);
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(false);
        }
        let stored = number(&block[148..156])?;
        let sum = |signed: bool| {
            block.iter().enumerate().fold(0i64, |sum, (at, byte)| {
                let byte = if (148..156).contains(&at) { b' ' } else { *byte };
                sum + if signed { i64::from(byte.cast_signed()) } else { i64::from(byte) }
            })
        };
        if stored != sum(false) && stored != sum(true) {
            return Err(TarError::Header("wrong checksum"));
        }
        Ok(true)
    }

    fn begin(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn extension(&mut self, block: &[u8; BLOCK]) -> Result<Vec<u8>, TarError> {
        let size = length(&block[124..136])?;
        if size > LONGEST_EXTENSION {
            return Err(TarError::Header("extension header longer than 1 MiB"));
        }
        self.begin(size);
        let bytes = self.small(LONGEST_EXTENSION)?;
        self.skip()?;
        Ok(bytes)
    }

    fn read_long(&mut self, block: &[u8; BLOCK]) -> Result<Vec<u8>, TarError> {
        let mut bytes = self.extension(block)?;
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            bytes.truncate(end);
        }
        Ok(bytes)
    }

    fn read_pax(&mut self, block: &[u8; BLOCK], extensions: &mut Extensions) -> Result<(), TarError> {
        let bytes = self.extension(block)?;
        for record in PaxRecords(&bytes) {
            let (key, value) = record?;
            if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                extensions.sparse_runs.push(decimal(value)?);
            }
            extensions.pax.insert(key.to_vec(), value.to_vec());
        }
        Ok(())
    }

    fn read_global(&mut self, block: &[u8; BLOCK], extensions: &mut Extensions) -> Result<(), TarError> {
        let bytes = self.extension(block)?;
        for record in PaxRecords(&bytes) {
            let (key, value) = record?;
            self.global.insert(key.to_vec(), value.to_vec());
            extensions.pax.insert(key.to_vec(), value.to_vec());
        }
        let held: usize = self.global.iter().map(|(key, value)| key.len() + value.len()).sum();
        if held as u64 > LONGEST_EXTENSION {
            return Err(TarError::Header("global extension headers longer than 1 MiB"));
        }
        Ok(())
    }

    fn entry(&mut self, block: &[u8; BLOCK], flag: u8, extensions: Extensions) -> Result<Entry, TarError> {
        let mut entry = parse_header(block, flag)?;
        if let Some(name) = extensions.name {
            entry.name = name;
        }
        if let Some(link) = extensions.link {
            entry.link = link;
        }
        let mut pax = extensions.pax;
        apply_pax(&mut entry, &mut pax)?;
        if flag == 0 && entry.name.ends_with(b"/") {
            entry.kind = Kind::Directory;
        }
        if entry.kind != Kind::File {
            // Only files have content; a link may repeat its target's size without storing any.
            entry.size = if flag == b'1' || flag == b'2' || entry.kind == Kind::Directory { 0 } else { entry.size };
        }
        self.begin(entry.size);
        if entry.kind == Kind::File {
            self.read_sparse(block, flag, &mut entry, &pax, extensions.sparse_runs)?;
        }
        check_text(&entry)?;
        Ok(entry)
    }

    fn read_sparse(
        &mut self,
        block: &[u8; BLOCK],
        flag: u8,
        entry: &mut Entry,
        pax: &BTreeMap<Vec<u8>, Vec<u8>>,
        mut numbers: Vec<u64>,
    ) -> Result<(), TarError> {
        let text = |key: &[u8]| pax.get(key).map(Vec::as_slice);
        let size = text(b"GNU.sparse.realsize").or_else(|| text(b"GNU.sparse.size")).map(decimal).transpose()?;
        let real_name = text(b"GNU.sparse.name").map(<[u8]>::to_vec);
        let (numbers, size) = if flag == b'S' {
            self.old_gnu_map(block)?
        } else if text(b"GNU.sparse.major") == Some(b"1") {
            (self.stored_map()?, size.ok_or(TarError::Header("sparse file without a size"))?)
        } else if let Some(map) = text(b"GNU.sparse.map") {
            let numbers = map.split(|byte| *byte == b',').map(decimal).collect::<Result<Vec<_>, _>>()?;
            (numbers, size.ok_or(TarError::Header("sparse file without a size"))?)
        } else if let Some(size) = size {
            (std::mem::take(&mut numbers), size)
        } else {
            return Ok(());
        };
        if let Some(name) = real_name {
            entry.name = name;
        }
        entry.sparse = Some(sparse(&numbers, size, self.remaining)?);
        entry.size = self.remaining;
        Ok(())
    }

    /// The map of the old GNU format: four runs in the header, 21 in each extension block.
    fn old_gnu_map(&mut self, block: &[u8; BLOCK]) -> Result<(Vec<u64>, u64), TarError> {
        let mut numbers = Vec::new();
        let mut add = |part: &[u8]| -> Result<(), TarError> {
            for run in part.chunks_exact(24).take_while(|run| run[0] != 0) {
                numbers.push(length(&run[..12])?);
                numbers.push(length(&run[12..])?);
            }
            if numbers.len() > 2 * MOST_RUNS { Err(TarError::Header("too many runs in a sparse file")) } else { Ok(()) }
        };
        add(&block[386..482])?;
        let mut more = block[482] != 0;
        let mut extension = [0u8; BLOCK];
        while more {
            self.fill(&mut extension)?;
            add(&extension[..504])?;
            more = extension[504] != 0;
        }
        Ok((numbers, length(&block[483..495])?))
    }

    /// The map of PAX format 1.0: decimal lines at the beginning of the content, padded to a block.
    fn stored_map(&mut self) -> Result<Vec<u64>, TarError> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut count: Option<usize> = None;
        let mut digits = Vec::new();
        loop {
            let mut block = [0u8; BLOCK];
            if self.remaining < BLOCK as u64 {
                return Err(TarError::Header("sparse map cut short"));
            }
            self.fill(&mut block)?;
            self.remaining -= BLOCK as u64;
            for byte in block {
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                let value = decimal(&digits)?;
                digits.clear();
                match count {
                    None if value > MOST_RUNS as u64 => {
                        return Err(TarError::Header("too many runs in a sparse file"));
                    }
                    None => count = usize::try_from(value).ok(),
                    Some(_) => numbers.push(value),
                }
                if count.is_some_and(|count| numbers.len() == 2 * count) {
                    return Ok(numbers);
                }
            }
            if digits.len() > 32 {
                return Err(TarError::Header("invalid sparse map"));
            }
        }
    }
}

fn sparse(numbers: &[u64], size: u64, stored: u64) -> Result<Sparse, TarError> {
    let runs: Vec<(u64, u64)> = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, length) in &runs {
        let next = offset.checked_add(*length).ok_or(TarError::Header("invalid sparse map"))?;
        if *offset < end || next > size {
            return Err(TarError::Header("invalid sparse map"));
        }
        (end, sum) = (next, sum + length);
    }
    if !numbers.len().is_multiple_of(2) || sum != stored {
        return Err(TarError::Header("sparse map does not match the stored data"));
    }
    Ok(Sparse { runs, size })
}

fn parse_header(block: &[u8; BLOCK], flag: u8) -> Result<Entry, TarError> {
    let kind = match flag {
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'0' | 0 | b'7' | b'S' => Kind::File,
        _ => return Err(TarError::Header("unknown entry type")),
    };
    let mut entry = Entry::new(text(&block[..100]), kind, (number(&block[100..108])? & 0o7777) as u32);
    entry.uid = id(number(&block[108..116])?)?;
    entry.gid = id(number(&block[116..124])?)?;
    entry.size = length(&block[124..136])?;
    entry.mtime = (number(&block[136..148])?, 0);
    entry.link = text(&block[157..257]);
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        entry.device = (id(number(&block[329..337])?)?, id(number(&block[337..345])?)?);
    }
    let is_posix = &block[257..263] == b"ustar\0";
    if is_posix && block[345] != 0 {
        let mut name = text(&block[345..500]);
        name.push(b'/');
        name.extend_from_slice(&entry.name);
        entry.name = name;
    }
    Ok(entry)
}

fn apply_pax(entry: &mut Entry, pax: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), TarError> {
    if let Some(name) = pax.remove(b"path".as_slice()) {
        entry.name = name;
    }
    if let Some(link) = pax.remove(b"linkpath".as_slice()) {
        entry.link = link;
    }
    for (key, value) in pax {
        // An empty value takes an earlier (global) record back.
        if value.is_empty() && !key.starts_with(XATTR_PREFIX.as_bytes()) {
            continue;
        }
        match key.as_slice() {
            b"size" => entry.size = decimal(value)?,
            b"uid" => entry.uid = id(decimal(value)?.cast_signed())?,
            b"gid" => entry.gid = id(decimal(value)?.cast_signed())?,
            b"mtime" => entry.mtime = moment(value)?,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR_PREFIX.as_bytes()) {
                    entry.xattrs.push((name.to_vec(), value.clone()));
                }
            }
        }
    }
    Ok(())
}

fn check_text(entry: &Entry) -> Result<(), TarError> {
    let has_nul = |bytes: &[u8]| bytes.contains(&0);
    if entry.name.is_empty() || has_nul(&entry.name) || has_nul(&entry.link) {
        return Err(TarError::Header("invalid name"));
    }
    if entry.size > i64::MAX.cast_unsigned() {
        return Err(TarError::Header("invalid size"));
    }
    Ok(())
}

struct PaxRecords<'a>(&'a [u8]);

impl<'a> Iterator for PaxRecords<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), TarError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() || bytes.iter().all(|byte| *byte == 0) {
            return None;
        }
        Some(self.split(bytes).ok_or(TarError::Header("invalid PAX record")))
    }
}

impl<'a> PaxRecords<'a> {
    fn split(&mut self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
        let total = usize::try_from(decimal(&bytes[..space]).ok()?).ok()?;
        let record = bytes.get(space + 1..total)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        self.0 = &bytes[total..];
        (equals > 0).then(|| (&record[..equals], &record[equals + 1..]))
    }
}

fn text(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// A header's number: octal text, or base 256 where the top bit is set.
fn number(field: &[u8]) -> Result<i64, TarError> {
    if field[0] & 0x80 == 0 {
        let digits = field.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
        return digits.iter().try_fold(0i64, |value, digit| match digit {
            b'0'..=b'7' => Ok(value << 3 | i64::from(digit - b'0')),
            _ => Err(TarError::Header("invalid number")),
        });
    }
    let negative = field[0] & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (at, byte) in field.iter().enumerate() {
        let byte = if at == 0 { if negative { *byte | 0x80 } else { *byte & 0x7f } } else { *byte };
        value = value << 8 | i128::from(byte);
        if i64::try_from(value).is_err() {
            return Err(TarError::Header("number out of range"));
        }
    }
    i64::try_from(value).map_err(|_| TarError::Header("number out of range"))
}

fn length(field: &[u8]) -> Result<u64, TarError> {
    u64::try_from(number(field)?).map_err(|_| TarError::Header("negative size"))
}

fn id(value: i64) -> Result<u32, TarError> {
    u32::try_from(value).map_err(|_| TarError::Header("owner or device out of range"))
}

fn decimal(digits: &[u8]) -> Result<u64, TarError> {
    let text = std::str::from_utf8(digits).map_err(|_| TarError::Header("invalid decimal number"))?;
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(TarError::Header("invalid decimal number"));
    }
    text.parse().map_err(|_| TarError::Header("invalid decimal number"))
}

/// PAX time: seconds with an optional fraction, possibly negative.
fn moment(text: &[u8]) -> Result<(i64, u32), TarError> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds =
        i64::try_from(decimal(parts.next().unwrap_or_default())?).map_err(|_| TarError::Header("time out of range"))?;
    let mut nanos = 0u32;
    let fraction = parts.next().unwrap_or_default();
    for at in 0..9 {
        let digit = match fraction.get(at) {
            Some(digit) if digit.is_ascii_digit() => u32::from(digit - b'0'),
            Some(_) => return Err(TarError::Header("invalid time")),
            None => 0,
        };
        nanos = nanos * 10 + digit;
    }
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}
