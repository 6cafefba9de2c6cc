//! Writes a tar stream: plain ustar where it suffices, PAX records for the rest.
//!
//! The same entries always give the same bytes, so that a layer packed twice has one digest.

use std::io::{self, Write};

use super::{BLOCK, Entry, Kind, XATTR_PREFIX};

/// Largest number that eleven octal digits hold.
const OCTAL_11: u64 = 0o77_777_777_777;
/// Largest number that seven octal digits hold.
const OCTAL_7: u64 = 0o7_777_777;

/// Writes entries to a stream.
pub(crate) struct TarWriter<W> {
    out: W,
    remaining: u64,
    padding: usize,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, remaining: 0, padding: 0 }
    }

    /// Begins an entry; exactly `entry.size` bytes of content must follow.
    pub(crate) fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        self.pad()?;
        let records = pax_records(entry);
        if !records.is_empty() {
            self.write_pax(entry, &records)?;
        }
        self.out.write_all(&header(entry, type_flag(entry.kind)))?;
        self.remaining = entry.size;
        self.padding = padding(entry.size);
        Ok(())
    }

    /// Writes content of the current entry.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = self.remaining.checked_sub(bytes.len() as u64);
        self.remaining = left.ok_or_else(|| io::Error::other("more content than the entry announced"))?;
        self.out.write_all(bytes)
    }

    /// An entry with its content.
    pub(crate) fn file(&mut self, entry: &Entry, content: &[u8]) -> io::Result<()> {
        let entry = Entry { size: content.len() as u64, ..entry.clone() };
        self.begin(&entry)?;
        self.write(content)
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.pad()?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Content still owed by the current entry.
    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    fn pad(&mut self) -> io::Result<()> {
        if self.remaining > 0 {
            return Err(io::Error::other("less content than the entry announced"));
        }
        self.out.write_all(&[0; BLOCK][..std::mem::take(&mut self.padding)])
    }

    fn write_pax(&mut self, entry: &Entry, records: &[u8]) -> io::Result<()> {
        let (directory, base) = split_name(&entry.name);
        let mut name = directory.to_vec();
        name.extend_from_slice(b"PaxHeaders.0/");
        name.extend_from_slice(base);
        name.truncate(100);
        let mut extension = Entry::new(name, Kind::File, 0o644);
        extension.size = records.len() as u64;
        self.out.write_all(&header(&extension, b'x'))?;
        self.out.write_all(records)?;
        self.out.write_all(&[0; BLOCK][..padding(extension.size)])
    }
}

fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

fn type_flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

fn split_name(name: &[u8]) -> (&[u8], &[u8]) {
    let end = name.strip_suffix(b"/").unwrap_or(name);
    match end.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&name[..=slash], &end[slash + 1..]),
        None => (b"", end),
    }
}

fn pax_records(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    if ustar_name(&entry.name).is_none() || !entry.name.is_ascii() {
        record(&mut records, b"path", &entry.name);
    }
    if entry.link.len() > 100 || !entry.link.is_ascii() {
        record(&mut records, b"linkpath", &entry.link);
    }
    let (seconds, nanos) = entry.mtime;
    if nanos != 0 || seconds < 0 || seconds.cast_unsigned() > OCTAL_11 {
        record(&mut records, b"mtime", moment(seconds, nanos).as_bytes());
    }
    for (key, value) in [(b"uid".as_slice(), u64::from(entry.uid)), (b"gid", u64::from(entry.gid))] {
        if value > OCTAL_7 {
            record(&mut records, key, value.to_string().as_bytes());
        }
    }
    if entry.size > OCTAL_11 {
        record(&mut records, b"size", entry.size.to_string().as_bytes());
    }
    for (name, value) in &entry.xattrs {
        let key = [XATTR_PREFIX.as_bytes(), name].concat();
        record(&mut records, &key, value);
    }
    records
}

fn moment(seconds: i64, nanos: u32) -> String {
    let (sign, seconds, nanos) = match (seconds < 0, nanos) {
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (true, _) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
        (false, _) => ("", seconds.unsigned_abs(), nanos),
    };
    let text = format!("{sign}{seconds}.{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Appends `LEN KEY=VALUE\n`, where LEN counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut total = rest + rest.to_string().len();
    if rest + total.to_string().len() != total {
        total = rest + total.to_string().len();
    }
    records.extend_from_slice(total.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Prefix and name fields, if the name fits them.
fn ustar_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((b"", name));
    }
    let last = name.len().min(156) - 1;
    (name.len() - 101..=last)
        .rev()
        .find(|at| name[*at] == b'/' && *at <= 155 && *at + 1 < name.len() && *at > 0)
        .filter(|at| name.len() - at - 1 <= 100)
        .map(|at| (&name[..at], &name[at + 1..]))
}

fn header(entry: &Entry, flag: u8) -> [u8; BLOCK] {
    let mut block = [0u8; BLOCK];
    let (prefix, name) = ustar_name(&entry.name).unwrap_or_else(|| (b"", &entry.name[..100]));
    block[..name.len()].copy_from_slice(name);
    octal(&mut block[100..108], u64::from(entry.mode & 0o7777), OCTAL_7);
    octal(&mut block[108..116], u64::from(entry.uid), OCTAL_7);
    octal(&mut block[116..124], u64::from(entry.gid), OCTAL_7);
    octal(&mut block[124..136], entry.size, OCTAL_11);
    octal(&mut block[136..148], u64::try_from(entry.mtime.0).unwrap_or(0), OCTAL_11);
    block[156] = flag;
    let link = &entry.link[..entry.link.len().min(100)];
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
        octal(&mut block[329..337], u64::from(entry.device.0), OCTAL_7);
        octal(&mut block[337..345], u64::from(entry.device.1), OCTAL_7);
    }
    block[345..345 + prefix.len()].copy_from_slice(prefix);
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let text = format!("{sum:06o}\0 ");
    block[148..156].copy_from_slice(text.as_bytes());
    block
}

/// Writes an octal field; a value that does not fit is written as 0 and stands in a PAX record.
fn octal(field: &mut [u8], value: u64, most: u64) {
    let value = if value > most { 0 } else { value };
    let text = format!("{value:0width$o}\0", width = field.len() - 1);
    field.copy_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::read::{Plain, TarError, TarReader};
    use super::*;

    fn round_trip(entry: &Entry, content: &[u8]) -> (Entry, Vec<u8>) {
        let mut writer = TarWriter::new(Vec::new());
        writer.file(entry, content).unwrap();
        let bytes = writer.finish().unwrap();
        let mut reader = TarReader::new(Plain(bytes.as_slice()));
        let entry = reader.next().unwrap().unwrap();
        let content = reader.small(1 << 20).unwrap();
        assert!(reader.next().unwrap().is_none());
        (entry, content)
    }

    #[test]
    fn entries_survive_a_round_trip() {
        for length in [1, 99, 100, 101, 155, 156, 200, 255, 256, 300, 1000] {
            let mut name = "d/".repeat(length / 2);
            name.push_str(&"x".repeat(length - name.len() + 1));
            let mut entry = Entry::new(name.into_bytes(), Kind::File, 0o4755);
            entry.uid = 3_000_000;
            entry.gid = 7;
            entry.mtime = (1_700_000_000, 123_456_789);
            entry.xattrs = vec![(b"security.capability".to_vec(), vec![1, 0, b'\n', b'=', 255])];
            let (read, content) = round_trip(&entry, b"hello");
            entry.size = 5;
            assert_eq!((read, content.as_slice()), (entry, b"hello".as_slice()));
        }
    }

    #[test]
    fn times_before_the_epoch_survive() {
        for mtime in [(-1, 0), (-2, 500_000_000), (-1, 999_999_999), (0, 1), (1 << 40, 0)] {
            let mut entry = Entry::new(b"a".to_vec(), Kind::File, 0o644);
            entry.mtime = mtime;
            assert_eq!(round_trip(&entry, b"").0.mtime, mtime);
        }
    }

    #[test]
    fn links_and_devices_survive() {
        let mut link = Entry::new("ü/link".into(), Kind::Symlink, 0o777);
        link.link = "ä".repeat(120).into_bytes();
        assert_eq!(round_trip(&link, b"").0, link);
        let mut device = Entry::new(b"null".to_vec(), Kind::CharDevice, 0o666);
        device.device = (1, 3);
        assert_eq!(round_trip(&device, b"").0, device);
    }

    #[test]
    fn a_cut_anywhere_is_noticed() {
        let mut writer = TarWriter::new(Vec::new());
        writer.file(&Entry::new(vec![b'n'; 300], Kind::File, 0o644), &[7; 700]).unwrap();
        let bytes = writer.finish().unwrap();
        for end in [1, 511, 513, 1023, 1025, 2047, 2100, 2500] {
            let mut reader = TarReader::new(Plain(bytes.as_slice().take(end)));
            let result = reader.next().and_then(|_| reader.next());
            assert!(matches!(result, Err(TarError::CutShort)), "cut at {end}: {result:?}");
        }
    }

    #[test]
    fn pax_lengths_count_themselves() {
        for length in [1, 5, 6, 7, 88, 89, 90, 91, 92, 988, 989, 990] {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'x'; length]);
            let digits = records.iter().position(|byte| *byte == b' ').unwrap();
            let stated: usize = std::str::from_utf8(&records[..digits]).unwrap().parse().unwrap();
            assert_eq!(stated, records.len());
        }
    }
}
