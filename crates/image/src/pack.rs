//! Writes a file or a directory tree as a tar stream: for commits, exports and copies out of a container.
//!
//! The tree is walked by descriptors from a given root, so that nobody who changes it meanwhile can lead the walk
//! elsewhere. Names come in order, links to a file that was written before become hard links, sockets are left out.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, major, minor, openat, readlinkat, statat,
};

use crate::error::{Error, MOST_LEVELS, Result};
use crate::extract::{open_in, split_path};
use crate::tar::write::TarWriter;
use crate::tar::{Entry, Kind};

const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
const BUFFER: usize = 256 << 10;
const LONGEST_XATTR: usize = 64 << 10;

/// What a tree is packed as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackOptions {
    /// What the packed file or directory is called in the archive; its children come below. Empty: a directory's
    /// children come at the top and the directory itself is left out, as for an export.
    pub name: Vec<u8>,
    /// Turn overlayfs whiteouts and opaque directories back into `.wh.` entries, as for a commit.
    pub whiteouts: bool,
}

/// The name that Docker gives to the copy of a path: its last component, `.` for a path that ends in `/.`, `/` for the
/// root.
pub fn archive_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return if path.is_empty() { "." } else { "/" };
    }
    trimmed.rsplit('/').next().unwrap_or(trimmed)
}

/// Packs what is at `path` beneath `root`; links on the way are followed as if `root` were `/`, a link at the end is
/// packed as a link. Blocking.
pub fn pack(root: BorrowedFd<'_>, path: &[u8], options: &PackOptions, out: impl Write) -> Result<()> {
    let mut packer = Packer {
        tar: TarWriter::new(out),
        whiteouts: options.whiteouts,
        links: HashMap::new(),
        level: 0,
        buffer: vec![0; BUFFER],
    };
    let trimmed = path.strip_suffix(b"/.").unwrap_or(path);
    let trimmed = &trimmed[..trimmed.len() - trimmed.iter().rev().take_while(|byte| **byte == b'/').count()];
    let (directory, last) = split_path(trimmed);
    if last.is_empty() || last == b"." || last == b".." {
        let top = open_in(root, path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|error| failed(path, error))?;
        let found = rustix::fs::fstat(&top).map_err(|error| failed(path, error))?;
        packer.directory(&top, &found, options.name.clone())?;
    } else {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let parent = open_in(root, directory, flags).map_err(|error| failed(path, error))?;
        packer.item(parent.as_fd(), last, options.name.clone())?;
    }
    packer.tar.finish().map_err(Error::WriteStream)?;
    Ok(())
}

fn failed(path: &[u8], source: impl Into<std::io::Error>) -> Error {
    use std::os::unix::ffi::OsStrExt;
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
    Error::Io { operation: "pack", path, source: source.into() }
}

struct Packer<W> {
    tar: TarWriter<W>,
    whiteouts: bool,
    /// Files with several names: where each was written first.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// How many directories the one that is being packed lies in.
    level: usize,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<W> {
    fn item(&mut self, parent: BorrowedFd<'_>, name: &[u8], shown: Vec<u8>) -> Result<()> {
        let found = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            // Removed since it was listed.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed(&shown, error)),
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match openat(parent, name, flags, Mode::empty()) {
                    Ok(directory) => self.directory(&directory, &found, shown),
                    Err(rustix::io::Errno::NOENT) => Ok(()),
                    Err(error) => Err(failed(&shown, error)),
                }
            }
            FileType::RegularFile => self.file(parent, name, &found, shown),
            FileType::Symlink => self.symlink(parent, name, &found, shown),
            FileType::CharacterDevice if self.whiteouts && found.st_rdev == 0 => self.whiteout(&shown, &found),
            FileType::CharacterDevice => self.node(Kind::CharDevice, &found, shown),
            FileType::BlockDevice => self.node(Kind::BlockDevice, &found, shown),
            FileType::Fifo => self.node(Kind::Fifo, &found, shown),
            // Sockets mean nothing without their process.
            _ => Ok(()),
        }
    }

    fn directory(&mut self, directory: &OwnedFd, found: &Stat, shown: Vec<u8>) -> Result<()> {
        if self.level > MOST_LEVELS {
            return Err(Error::TooDeep);
        }
        if !shown.is_empty() {
            let slash: &[u8] = if shown.ends_with(b"/") { b"" } else { b"/" };
            let mut entry = entry_of(Kind::Directory, found, [shown.as_slice(), slash].concat());
            entry.xattrs = xattrs(directory.as_fd());
            self.tar.begin(&entry).map_err(Error::WriteStream)?;
        }
        if self.whiteouts && is_opaque(directory.as_fd()) {
            let entry = entry_of(Kind::File, found, child(&shown, b".wh..wh..opq"));
            self.tar.file(&entry, b"").map_err(Error::WriteStream)?;
        }
        for name in sorted_names(directory.as_fd()).map_err(|error| failed(&shown, error))? {
            self.level += 1;
            self.item(directory.as_fd(), &name, child(&shown, &name))?;
            self.level -= 1;
        }
        Ok(())
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &[u8], found: &Stat, shown: Vec<u8>) -> Result<()> {
        let mut entry = entry_of(Kind::File, found, shown);
        if self.link_to_first(&mut entry, found) {
            return self.tar.begin(&entry).map_err(Error::WriteStream);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(parent, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed(&entry.name, error)),
        };
        entry.xattrs = xattrs(file.as_fd());
        entry.size = found.st_size.unsigned_abs();
        self.tar.begin(&entry).map_err(Error::WriteStream)?;
        self.content(file, &entry.name)
    }

    /// Exactly as many bytes as announced: a file that shrinks meanwhile is filled up, one that grows is cut.
    fn content(&mut self, mut file: File, shown: &[u8]) -> Result<()> {
        while self.tar.remaining() > 0 {
            let most = usize::try_from(self.tar.remaining()).unwrap_or(usize::MAX).min(BUFFER);
            let mut count = file.read(&mut self.buffer[..most]).map_err(|error| failed(shown, error))?;
            if count == 0 {
                self.buffer[..most].fill(0);
                count = most;
            }
            self.tar.write(&self.buffer[..count]).map_err(Error::WriteStream)?;
        }
        Ok(())
    }

    fn symlink(&mut self, parent: BorrowedFd<'_>, name: &[u8], found: &Stat, shown: Vec<u8>) -> Result<()> {
        // Links of /proc's lead to what processes have open, which is not among the files that are packed.
        if rustix::fs::fstatfs(parent).is_ok_and(|found| found.f_type == rustix::fs::PROC_SUPER_MAGIC) {
            return Ok(());
        }
        let target = readlinkat(parent, name, Vec::new()).map_err(|error| failed(&shown, error))?;
        let mut entry = entry_of(Kind::Symlink, found, shown);
        if !self.link_to_first(&mut entry, found) {
            entry.link = target.into_bytes();
        }
        self.tar.begin(&entry).map_err(Error::WriteStream)
    }

    fn node(&mut self, kind: Kind, found: &Stat, shown: Vec<u8>) -> Result<()> {
        let mut entry = entry_of(kind, found, shown);
        if !self.link_to_first(&mut entry, found) {
            entry.device = (major(found.st_rdev), minor(found.st_rdev));
        }
        self.tar.begin(&entry).map_err(Error::WriteStream)
    }

    fn whiteout(&mut self, shown: &[u8], found: &Stat) -> Result<()> {
        let (directory, name) = split_path(shown);
        let hidden = [b".wh.", name].concat();
        let mut entry = entry_of(Kind::File, found, child(directory, &hidden));
        entry.mode = 0o600;
        self.tar.file(&entry, b"").map_err(Error::WriteStream)
    }

    /// Makes a further name of a file that was written before a hard link.
    fn link_to_first(&mut self, entry: &mut Entry, found: &Stat) -> bool {
        if found.st_nlink < 2 {
            return false;
        }
        match self.links.get(&(found.st_dev, found.st_ino)) {
            Some(first) => {
                (entry.kind, entry.size) = (Kind::HardLink, 0);
                entry.link.clone_from(first);
                true
            }
            None => {
                self.links.insert((found.st_dev, found.st_ino), entry.name.clone());
                false
            }
        }
    }
}

fn child(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        directory if directory.ends_with(b"/") => [directory, name].concat(),
        directory => [directory, b"/", name].concat(),
    }
}

fn entry_of(kind: Kind, found: &Stat, name: Vec<u8>) -> Entry {
    let mut entry = Entry::new(name, kind, found.st_mode & 0o7777);
    (entry.uid, entry.gid) = (found.st_uid, found.st_gid);
    entry.mtime = (found.st_mtime, u32::try_from(found.st_mtime_nsec).unwrap_or(0));
    entry
}

/// The names in a directory in byte order.
pub(crate) fn sorted_names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether a directory hides what the layers below have in its place.
pub(crate) fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let mut value = [0u8; 2];
    fgetxattr(directory, OPAQUE_XATTR, value.as_mut_slice()) == Ok(1) && value[0] == b'y'
}

/// File capabilities and users' own attributes; the rest belongs to the machine that the file is on.
fn travels(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
}

fn xattrs(file: BorrowedFd<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0u8; LONGEST_XATTR];
    // A file system without attributes has none to give.
    let length = flistxattr(file, list.as_mut_slice()).unwrap_or(0);
    let mut found = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| travels(name)) {
        let mut value = vec![0u8; LONGEST_XATTR];
        if let Ok(length) = fgetxattr(file, name, value.as_mut_slice()) {
            value.truncate(length);
            found.push((name.to_vec(), value));
        }
    }
    found.sort();
    found
}
