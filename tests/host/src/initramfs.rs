//! An initramfs in the kernel's own format (cpio, "newc"), made in memory.

use std::collections::BTreeSet;
use std::path::Path;

/// An archive being made.
#[derive(Debug)]
pub struct Initramfs {
    bytes: Vec<u8>,
    next: u32,
    dirs: BTreeSet<String>,
}

impl Default for Initramfs {
    fn default() -> Self {
        Self::new()
    }
}

impl Initramfs {
    /// An empty one.
    pub fn new() -> Self {
        Self { bytes: Vec::new(), next: 1, dirs: BTreeSet::new() }
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8]) {
        let name_size = path.len() + 1;
        let header = format!("070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{name_size:08x}{:08x}", self.next, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, 0);
        self.next += 1;
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    /// Adds a folder, and those above it.
    pub fn dir(&mut self, path: &str) {
        if path.is_empty() || !self.dirs.insert(path.to_owned()) {
            return;
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.dir(above);
        }
        self.entry(path, 0o040_755, &[]);
    }

    /// Adds a file, and the folders above it.
    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.dir(above);
        }
        self.entry(path, 0o100_000 | mode, data);
    }

    /// Adds a symbolic link, and the folders above it.
    pub fn link(&mut self, path: &str, to: &str) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.dir(above);
        }
        self.entry(path, 0o120_777, to.as_bytes());
    }

    /// Adds a file or a whole folder of this machine's.
    pub fn tree(&mut self, from: &Path, path: &str) {
        if from.is_dir() {
            self.dir(path);
            let listed = std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            let mut entries: Vec<_> = listed.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
            entries.sort();
            for name in entries {
                self.tree(&from.join(&name), &format!("{path}/{}", name.to_string_lossy()));
            }
        } else if let Ok(data) = std::fs::read(from) {
            self.file(path, 0o644, &data);
        }
    }

    /// The archive's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
