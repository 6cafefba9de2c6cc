//! What is kept of a layer's tar besides its files, so that the tar can be given back byte for byte.
//!
//! A skeleton is a deflated list of runs: bytes that were structure, and references to files whose content stood
//! there. A file that a later entry of the same layer replaced is kept in the layer's `displaced` directory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use droste_model::digest::Digest;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, renameat};

use crate::error::{Context as _, Error, Result};
use crate::extract::{Observer, open_in};
use crate::hash::{HashWriter, Hasher};
use crate::tar::read::Source;

const RAW: u8 = 0;
const FILE: u8 = 1;
const DISPLACED: u8 = 2;
const END: u8 = 3;
const FLUSH: usize = 32 << 10;
/// Longest raw run and longest path that a skeleton of ours can have.
const LONGEST: u64 = 1 << 20;

/// Name of the skeleton's file in a layer's directory.
pub(crate) const FILE_NAME: &str = "skeleton";
/// Name of the directory with files that were replaced within their own layer.
const DISPLACED_DIR: &str = "displaced";
/// Name of the directory with the layer's files.
pub(crate) const ROOT_DIR: &str = "fs";

/// A layer's plain tar stream: hashes everything and records the skeleton.
pub(crate) struct LayerSource<R> {
    inner: R,
    hasher: Hasher,
    limit: u64,
    raw: Vec<u8>,
    out: DeflateEncoder<BufWriter<File>>,
}

impl<R: Read> LayerSource<R> {
    /// Records to `out`; the plain stream may be `limit` bytes long.
    pub(crate) fn new(inner: R, out: File, limit: u64) -> Self {
        let out = DeflateEncoder::new(BufWriter::with_capacity(FLUSH, out), Compression::new(1));
        Self { inner, hasher: Hasher::new(), limit, raw: Vec::with_capacity(FLUSH), out }
    }

    /// The digest of the plain tar and its length, with the skeleton written out.
    pub(crate) fn finish(mut self) -> io::Result<(Digest, u64)> {
        self.flush_raw()?;
        self.out.write_all(&[END])?;
        self.out.finish()?.flush()?;
        let length = self.hasher.length();
        Ok((self.hasher.finish(), length))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.hasher.update(&buffer[..count]);
        if self.hasher.length() > self.limit {
            return Err(io::Error::other(Error::TooLarge { limit: self.limit, unit: "bytes" }));
        }
        Ok(count)
    }

    fn flush_raw(&mut self) -> io::Result<()> {
        if !self.raw.is_empty() {
            self.out.write_all(&[RAW])?;
            write_number(&mut self.out, self.raw.len() as u64)?;
            self.out.write_all(&self.raw)?;
            self.raw.clear();
        }
        Ok(())
    }

    fn write_path(&mut self, tag: u8, path: &[u8], number: u64) -> io::Result<()> {
        self.flush_raw()?;
        self.out.write_all(&[tag])?;
        write_number(&mut self.out, path.len() as u64)?;
        self.out.write_all(path)?;
        write_number(&mut self.out, number)
    }
}

impl<R: Read> Source for LayerSource<R> {
    fn structure(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.read(buffer)?;
        if self.raw.len() + count > FLUSH {
            self.flush_raw()?;
        }
        self.raw.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }
}

/// Writes to the skeleton which files hold which content.
pub(crate) struct Recorder {
    layer: OwnedFd,
    displaced: Option<OwnedFd>,
    count: u64,
}

impl Recorder {
    /// Records for the layer in this directory.
    pub(crate) fn new(layer: OwnedFd) -> Self {
        Self { layer, displaced: None, count: 0 }
    }

    fn displaced_dir(&mut self) -> io::Result<&OwnedFd> {
        if self.displaced.is_none() {
            mkdirat(&self.layer, DISPLACED_DIR, Mode::from_raw_mode(0o700))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.displaced = Some(openat(&self.layer, DISPLACED_DIR, flags, Mode::empty())?);
        }
        self.displaced.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl<R: Read> Observer<LayerSource<R>> for Recorder {
    fn kept(&mut self, source: &mut LayerSource<R>, path: &[u8], size: u64) -> io::Result<()> {
        if size == 0 { Ok(()) } else { source.write_path(FILE, path, size) }
    }

    fn displace(
        &mut self,
        source: &mut LayerSource<R>,
        path: &[u8],
        parent: BorrowedFd<'_>,
        name: &[u8],
    ) -> io::Result<bool> {
        let number = self.count;
        renameat(parent, name, self.displaced_dir()?, number.to_string())?;
        self.count += 1;
        source.write_path(DISPLACED, path, number)?;
        Ok(true)
    }
}

fn write_number(out: &mut impl Write, mut number: u64) -> io::Result<()> {
    while number >= 0x80 {
        out.write_all(&[(number & 0x7f) as u8 | 0x80])?;
        number >>= 7;
    }
    out.write_all(&[number as u8])
}

fn read_byte(input: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    input.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn read_number(input: &mut impl Read) -> io::Result<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = read_byte(input)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn read_bytes(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = read_number(input)?;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Writes a stored layer's tar exactly as it was unpacked; an error if the files no longer give its digest.
pub(crate) fn write_layer(layer: &Path, diff_id: Digest, out: impl Write) -> Result<u64> {
    let mut writer = Assembler {
        layer: open_directory(layer)?,
        path: layer.to_owned(),
        displaced: displaced_paths(&layer.join(FILE_NAME))?,
        seen: HashMap::new(),
        out: HashWriter::new(out),
        buffer: vec![0; 256 << 10],
    };
    writer.run(&layer.join(FILE_NAME), diff_id)?;
    let length = writer.out.hasher.length();
    let actual = writer.out.hasher.finish();
    if actual == diff_id { Ok(length) } else { Err(Error::ChangedLayer(diff_id)) }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).at("open", path)
}

fn open_skeleton(path: &Path) -> Result<BufReader<DeflateDecoder<File>>> {
    Ok(BufReader::new(DeflateDecoder::new(File::open(path).at("open", path)?)))
}

/// The paths that were replaced within the layer, in order. Usually none, which costs one look at the directory.
fn displaced_paths(skeleton: &Path) -> Result<Vec<(Vec<u8>, u64)>> {
    let mut paths = Vec::new();
    if !skeleton.with_file_name(DISPLACED_DIR).exists() {
        return Ok(paths);
    }
    let mut input = open_skeleton(skeleton)?;
    loop {
        let tag = read_byte(&mut input).at("read", skeleton)?;
        match tag {
            RAW => drop(read_bytes(&mut input).at("read", skeleton)?),
            FILE | DISPLACED => {
                let path = read_bytes(&mut input).at("read", skeleton)?;
                let number = read_number(&mut input).at("read", skeleton)?;
                if tag == DISPLACED {
                    paths.push((path, number));
                }
            }
            _ => return Ok(paths),
        }
    }
}

struct Assembler<W> {
    layer: OwnedFd,
    path: PathBuf,
    displaced: Vec<(Vec<u8>, u64)>,
    /// How often each path that has several contents came up so far.
    seen: HashMap<Vec<u8>, usize>,
    out: HashWriter<W>,
    buffer: Vec<u8>,
}

impl<W: Write> Assembler<W> {
    fn run(&mut self, skeleton: &Path, diff_id: Digest) -> Result<()> {
        let mut input = open_skeleton(skeleton)?;
        loop {
            match read_byte(&mut input).at("read", skeleton)? {
                RAW => {
                    let bytes = read_bytes(&mut input).at("read", skeleton)?;
                    self.out.write_all(&bytes).map_err(Error::WriteStream)?;
                }
                FILE => {
                    let path = read_bytes(&mut input).at("read", skeleton)?;
                    let size = read_number(&mut input).at("read", skeleton)?;
                    self.file(&path, size, diff_id)?;
                }
                DISPLACED => {
                    read_bytes(&mut input).at("read", skeleton)?;
                    read_number(&mut input).at("read", skeleton)?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn file(&mut self, path: &[u8], size: u64, diff_id: Digest) -> Result<()> {
        let mut file = self.open(path).ok_or(Error::ChangedLayer(diff_id))?;
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = file.read(&mut self.buffer[..most]).at("read", &self.path)?;
            if count == 0 {
                return Err(Error::ChangedLayer(diff_id));
            }
            self.out.write_all(&self.buffer[..count]).map_err(Error::WriteStream)?;
            left -= count as u64;
        }
        Ok(())
    }

    /// The n-th content of a path is in the n-th place where a file of that name is.
    fn open(&mut self, path: &[u8]) -> Option<File> {
        let places: Vec<Vec<u8>> =
            self.displaced.iter().filter_map(|(from, number)| moved(path, from, *number)).collect();
        let last = [ROOT_DIR.as_bytes(), b"/", path].concat();
        if places.is_empty() {
            return self.open_file(&last);
        }
        let seen = self.seen.entry(path.to_vec()).or_default();
        let skip = std::mem::replace(seen, *seen + 1);
        places.into_iter().chain([last]).filter_map(|place| self.open_file(&place)).nth(skip)
    }

    fn open_file(&self, place: &[u8]) -> Option<File> {
        // Beneath the layer's own root, as when it was unpacked: links there were followed as if it were `/`.
        let (top, below) = place.split_at(place.iter().position(|byte| *byte == b'/').unwrap_or(place.len()));
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let file = if top == ROOT_DIR.as_bytes() {
            let root = open_in(self.layer.as_fd(), top, OFlags::PATH | OFlags::DIRECTORY).ok()?;
            open_in(root.as_fd(), below, flags).ok()?
        } else {
            open_in(self.layer.as_fd(), place, flags).ok()?
        };
        let found = fstat(&file).ok()?;
        (FileType::from_raw_mode(found.st_mode) == FileType::RegularFile).then(|| File::from(file))
    }
}

/// Where `path` went when `from` was moved to place `number`.
fn moved(path: &[u8], from: &[u8], number: u64) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(from)?;
    let inside = rest.is_empty() || rest.starts_with(b"/");
    inside.then(|| [format!("{DISPLACED_DIR}/{number}").as_bytes(), rest].concat())
}
