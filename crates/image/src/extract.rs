//! Unpacks a tar stream beneath a directory, from which no entry can lead out.
//!
//! Every parent is looked up by the kernel with the directory as its root (`openat2`, `RESOLVE_IN_ROOT`), the last
//! component is only ever made or removed, never followed, and what was just made is changed through its own
//! descriptor. So a hostile archive, or a container that moves links about meanwhile, stays inside.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags, fchmod, fchown,
    fsetxattr, futimens, linkat, lsetxattr, makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat, utimensat,
};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::remove::remove_at;
use crate::tar::read::{Source, TarReader};
use crate::tar::{Entry, Kind};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
/// Attributes by which overlayfs steers itself; an archive must not set them.
const OVERLAY_XATTRS: &[u8] = b"trusted.overlay.";
const BUFFER: usize = 256 << 10;

/// Bounds on what an archive may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of files, and bytes of the plain stream.
    pub bytes: u64,
    /// Number of entries.
    pub entries: u64,
}

impl Default for Limits {
    /// 256 GiB and ten million entries: far above any image, far below what would never end.
    fn default() -> Self {
        Self { bytes: 256 << 30, entries: 10_000_000 }
    }
}

/// What the entries of an archive mean and may do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    /// Turn `.wh.` entries into overlayfs whiteouts.
    pub(crate) whiteouts: bool,
    /// Refuse device nodes.
    pub(crate) refuse_devices: bool,
    /// Give everything to this owner instead of the one in the archive.
    pub(crate) owner: Option<(u32, u32)>,
    /// Refuse to put a directory in the place of something else, or the reverse.
    pub(crate) keep_types: bool,
    /// The directory beneath the root that names are relative to.
    pub(crate) base: Vec<u8>,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// Learns which entries' content went into files, and takes what has to make way for a later entry.
pub(crate) trait Observer<S> {
    /// The content that was just read from `source` is in the file `path`.
    fn kept(&mut self, source: &mut S, path: &[u8], size: u64) -> io::Result<()>;
    /// Moves `name` out of `parent`; false if it should be removed instead.
    fn displace(&mut self, source: &mut S, path: &[u8], parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool>;
}

/// Nobody looks.
pub(crate) struct Unobserved;

impl<S> Observer<S> for Unobserved {
    fn kept(&mut self, _: &mut S, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn displace(&mut self, _: &mut S, _: &[u8], _: BorrowedFd<'_>, _: &[u8]) -> io::Result<bool> {
        Ok(false)
    }
}

/// Unpacks all of `tar` beneath `root`.
pub(crate) fn extract<S: Source, O: Observer<S>>(
    root: BorrowedFd<'_>,
    tar: &mut TarReader<S>,
    rules: &Rules,
    observer: &mut O,
) -> Result<Unpacked> {
    let mut extractor = Extractor {
        root,
        rules,
        parent: None,
        directories: Vec::new(),
        done: Unpacked::default(),
        buffer: vec![0; BUFFER],
    };
    while let Some(entry) = tar.next()? {
        extractor.entry(tar, &entry, observer)?;
    }
    extractor.finish_directories()?;
    Ok(extractor.done)
}

/// Removes `.`, empty components and leading slashes; refuses a `..` that climbs above the root.
pub(crate) fn clean_name(name: &[u8]) -> Result<Vec<u8>> {
    let mut clean = Vec::with_capacity(name.len());
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if clean.is_empty() => return Err(refused(name, "its name leads out of the directory")),
            b".." => clean.truncate(split_path(&clean).0.len()),
            part => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(part);
            }
        }
    }
    Ok(clean)
}

fn refused(name: &[u8], reason: &'static str) -> Error {
    Error::RefusedEntry { name: String::from_utf8_lossy(name).into_owned(), reason }
}

fn failed(name: &[u8], operation: &'static str, source: impl Into<io::Error>) -> Error {
    Error::Extract { name: String::from_utf8_lossy(name).into_owned(), operation, source: source.into() }
}

/// Parent and last component of a clean path.
pub(crate) fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Whether a link's target, read as text from the link's place, climbs above the root.
fn climbs_out(path: &[u8], target: &[u8]) -> bool {
    if target.starts_with(b"/") {
        return false;
    }
    let mut depth = split_path(path).0.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).count();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Opens a path with `root` as its root directory.
pub(crate) fn open_in(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), IN_ROOT) {
            // The kernel asks to try again when something was renamed under its feet.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

struct Extractor<'a> {
    root: BorrowedFd<'a>,
    rules: &'a Rules,
    /// The directory that the last entry was in.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories whose times are set at the end, when nothing changes them any more.
    directories: Vec<(Vec<u8>, (i64, u32))>,
    done: Unpacked,
    buffer: Vec<u8>,
}

impl Extractor<'_> {
    fn entry<S: Source, O: Observer<S>>(
        &mut self,
        tar: &mut TarReader<S>,
        entry: &Entry,
        observer: &mut O,
    ) -> Result<()> {
        self.done.entries += 1;
        if self.done.entries > self.rules.limits.entries {
            return Err(Error::TooLarge { limit: self.rules.limits.entries, unit: "entries" });
        }
        let path = clean_name(&entry.name)?;
        let (directory, name) = split_path(&path);
        if name.is_empty() {
            return self.root_entry(entry);
        }
        if name.len() > 255 {
            return Err(refused(&path, "a component of its name is longer than 255 bytes"));
        }
        let parent = self.open_parent(directory)?;
        let result = self.make(tar, entry, &path, parent.as_fd(), observer);
        self.parent = Some((directory.to_vec(), parent));
        if matches!(result, Ok(true)) {
            // Something that a cached path may lead through was replaced.
            self.parent = None;
        }
        result.map(drop)
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(refused(&entry.name, "the root can only be a directory"));
        }
        let root = open_in(self.root, &self.rules.base, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|error| failed(b"/", "open", error))?;
        self.settle(&root, entry).map_err(|error| failed(b"/", "set attributes", error))?;
        self.directories.push((Vec::new(), entry.mtime));
        Ok(())
    }

    fn based(&self, path: &[u8]) -> Vec<u8> {
        match (self.rules.base.is_empty(), path.is_empty()) {
            (true, _) => path.to_vec(),
            (false, true) => self.rules.base.clone(),
            (false, false) => [self.rules.base.as_slice(), b"/", path].concat(),
        }
    }

    fn open_parent(&mut self, directory: &[u8]) -> Result<OwnedFd> {
        match self.parent.take() {
            Some((path, fd)) if path == directory => Ok(fd),
            _ => self.open_or_make(directory),
        }
    }

    /// Opens a directory, making what is missing of it as root's with mode 0755.
    fn open_or_make(&self, directory: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match open_in(self.root, &self.based(directory), flags) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) if !directory.is_empty() => {}
            Err(error) => return Err(failed(directory, "open the parent directory", error)),
        }
        let (above, name) = split_path(directory);
        let above = self.open_or_make(above)?;
        match mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(directory, "make the parent directory", error)),
        }
        let made =
            open_in(self.root, &self.based(directory), flags).map_err(|error| failed(directory, "open", error))?;
        fchmod(&made, Mode::from_raw_mode(0o755)).map_err(|error| failed(directory, "change mode", error))?;
        if let Some((uid, gid)) = self.rules.owner {
            own(&made, uid, gid).map_err(|error| failed(directory, "change owner", error))?;
        }
        Ok(made)
    }

    /// Makes one entry; true if it took the place of something.
    fn make<S: Source, O: Observer<S>>(
        &mut self,
        tar: &mut TarReader<S>,
        entry: &Entry,
        path: &[u8],
        parent: BorrowedFd<'_>,
        observer: &mut O,
    ) -> Result<bool> {
        let (_, name) = split_path(path);
        if self.rules.whiteouts && name.starts_with(WHITEOUT) {
            return self.whiteout(tar, entry, path, parent, observer);
        }
        let replaced = self.make_way(tar, entry.kind, path, parent, observer)?;
        match entry.kind {
            Kind::File => self.file(tar, entry, path, parent, observer)?,
            Kind::Directory => self.directory(entry, path, parent)?,
            Kind::HardLink => self.hard_link(entry, path, parent)?,
            Kind::Symlink => self.symlink(entry, path, parent)?,
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.node(entry, path, parent)?,
        }
        Ok(replaced)
    }

    fn whiteout<S: Source, O: Observer<S>>(
        &mut self,
        tar: &mut TarReader<S>,
        entry: &Entry,
        path: &[u8],
        parent: BorrowedFd<'_>,
        observer: &mut O,
    ) -> Result<bool> {
        let (directory, name) = split_path(path);
        if name == OPAQUE {
            let flags = XattrFlags::empty();
            fsetxattr(parent, OPAQUE_XATTR, b"y", flags).map_err(|error| failed(path, "mark opaque", error))?;
            return Ok(false);
        }
        let hidden = &name[WHITEOUT.len()..];
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(refused(path, "a whiteout without a name"));
        }
        let hidden_path = if directory.is_empty() { hidden.to_vec() } else { [directory, b"/", hidden].concat() };
        let replaced = self.make_way(tar, Kind::CharDevice, &hidden_path, parent, observer)?;
        mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(|error| failed(path, "make the whiteout", error))?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, hidden, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)), flags)
            .map_err(|error| failed(path, "change owner", error))?;
        Ok(replaced)
    }

    /// Removes what is in an entry's place, unless both are directories; true if there was something.
    fn make_way<S: Source, O: Observer<S>>(
        &self,
        tar: &mut TarReader<S>,
        kind: Kind,
        path: &[u8],
        parent: BorrowedFd<'_>,
        observer: &mut O,
    ) -> Result<bool> {
        let (_, name) = split_path(path);
        let found = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => FileType::from_raw_mode(found.st_mode),
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(failed(path, "look up", error)),
        };
        let was_directory = found == FileType::Directory;
        if was_directory && kind == Kind::Directory {
            return Ok(false);
        }
        if self.rules.keep_types && was_directory != (kind == Kind::Directory) {
            return Err(self.would_replace(path, was_directory));
        }
        let displaced =
            observer.displace(tar.source(), path, parent, name).map_err(|error| failed(path, "move away", error))?;
        if !displaced {
            remove_at(parent, name, was_directory).map_err(|error| failed(path, "remove", error))?;
        }
        Ok(true)
    }

    fn would_replace(&self, path: &[u8], was_directory: bool) -> Error {
        let shown = |path: &[u8]| format!("/{}", String::from_utf8_lossy(&self.based(path)));
        let (path, directory) = (shown(path), shown(b""));
        if was_directory {
            Error::WouldReplaceDirectory { path, directory }
        } else {
            Error::WouldReplaceFile { path, directory }
        }
    }

    fn file<S: Source, O: Observer<S>>(
        &mut self,
        tar: &mut TarReader<S>,
        entry: &Entry,
        path: &[u8],
        parent: BorrowedFd<'_>,
        observer: &mut O,
    ) -> Result<()> {
        let size = entry.sparse.as_ref().map_or(entry.size, |sparse| sparse.size);
        self.done.bytes = self.done.bytes.saturating_add(size);
        if self.done.bytes > self.rules.limits.bytes {
            return Err(Error::TooLarge { limit: self.rules.limits.bytes, unit: "bytes" });
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, split_path(path).1, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| failed(path, "create", error))?;
        let file = File::from(file);
        match &entry.sparse {
            Some(sparse) => {
                for (offset, length) in &sparse.runs {
                    self.run(tar, &file, path, *offset, *length)?;
                }
                file.set_len(sparse.size).map_err(|error| failed(path, "set size", error))?;
            }
            None => {
                self.whole(tar, &file, path)?;
                observer.kept(tar.source(), path, entry.size).map_err(|error| failed(path, "record", error))?;
            }
        }
        self.settle(&file, entry)
            .and_then(|()| futimens(&file, &times(entry.mtime)))
            .map_err(|error| failed(path, "set attributes", error))
    }

    fn whole<S: Source>(&mut self, tar: &mut TarReader<S>, file: &File, path: &[u8]) -> Result<()> {
        let mut offset = 0;
        loop {
            let count = tar.content(&mut self.buffer)?;
            if count == 0 {
                return Ok(());
            }
            file.write_all_at(&self.buffer[..count], offset).map_err(|error| failed(path, "write", error))?;
            offset += count as u64;
        }
    }

    fn run<S: Source>(
        &mut self,
        tar: &mut TarReader<S>,
        file: &File,
        path: &[u8],
        mut offset: u64,
        mut length: u64,
    ) -> Result<()> {
        while length > 0 {
            let most = usize::try_from(length).unwrap_or(usize::MAX).min(BUFFER);
            let count = tar.inline(&mut self.buffer[..most])?;
            if count == 0 {
                return Err(Error::CutShort);
            }
            file.write_all_at(&self.buffer[..count], offset).map_err(|error| failed(path, "write", error))?;
            offset += count as u64;
            length -= count as u64;
        }
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, path: &[u8], parent: BorrowedFd<'_>) -> Result<()> {
        let name = split_path(path).1;
        match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(path, "make directory", error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(parent, name, flags, Mode::empty()).map_err(|error| failed(path, "open", error))?;
        self.settle(&made, entry).map_err(|error| failed(path, "set attributes", error))?;
        self.directories.push((path.to_vec(), entry.mtime));
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, path: &[u8], parent: BorrowedFd<'_>) -> Result<()> {
        let target =
            clean_name(&entry.link).map_err(|_| refused(path, "a hard link to something outside of the directory"))?;
        let (directory, name) = split_path(&target);
        if name.is_empty() {
            return Err(refused(path, "a hard link to the root"));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let from = open_in(self.root, &self.based(directory), flags)
            .map_err(|error| failed(path, "look up the hard link's target", error))?;
        linkat(&from, name, parent, split_path(path).1, AtFlags::empty())
            .map_err(|error| failed(path, "make hard link", error))
    }

    fn symlink(&mut self, entry: &Entry, path: &[u8], parent: BorrowedFd<'_>) -> Result<()> {
        if climbs_out(path, &entry.link) {
            return Err(refused(path, "a symbolic link that leads out of the directory"));
        }
        let name = split_path(path).1;
        symlinkat(entry.link.as_slice(), parent, name).map_err(|error| failed(path, "make symbolic link", error))?;
        let (uid, gid) = self.rules.owner.unwrap_or((entry.uid, entry.gid));
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), nofollow)
            .and_then(|()| utimensat(parent, name, &times(entry.mtime), nofollow))
            .and_then(|()| set_link_xattrs(parent, name, entry))
            .map_err(|error| failed(path, "set attributes", error))
    }

    fn node(&mut self, entry: &Entry, path: &[u8], parent: BorrowedFd<'_>) -> Result<()> {
        let kind = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        if self.rules.refuse_devices && kind != FileType::Fifo {
            return Err(refused(path, "device nodes are not allowed here"));
        }
        let name = split_path(path).1;
        let device = makedev(entry.device.0, entry.device.1);
        mknodat(parent, name, kind, Mode::from_raw_mode(entry.mode & 0o7777), device)
            .map_err(|error| failed(path, "make device node", error))?;
        self.settle_node(entry, name, parent).map_err(|error| failed(path, "set attributes", error))
    }

    /// Attributes of something that must not be opened: through a path descriptor and `/proc`.
    fn settle_node(&self, entry: &Entry, name: &[u8], parent: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = openat(parent, name, flags, Mode::empty())?;
        let (uid, gid) = self.rules.owner.unwrap_or((entry.uid, entry.gid));
        let ids = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(&node, "", ids.0, ids.1, AtFlags::EMPTY_PATH)?;
        let magic = format!("/proc/self/fd/{}", node.as_raw_fd());
        rustix::fs::chmodat(CWD, magic.as_str(), Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::empty())?;
        utimensat(CWD, magic.as_str(), &times(entry.mtime), AtFlags::empty())
    }

    /// Owner, mode and extended attributes, in the order in which the kernel does not undo them.
    fn settle(&self, file: impl AsFd, entry: &Entry) -> rustix::io::Result<()> {
        let file = file.as_fd();
        let (uid, gid) = self.rules.owner.unwrap_or((entry.uid, entry.gid));
        own(file, uid, gid)?;
        fchmod(file, Mode::from_raw_mode(entry.mode & 0o7777))?;
        for (name, value) in allowed_xattrs(entry) {
            match fsetxattr(file, name, value, XattrFlags::empty()) {
                // As Docker: what this file system cannot hold is left out.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn finish_directories(&mut self) -> Result<()> {
        self.parent = None;
        for (path, mtime) in std::mem::take(&mut self.directories) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            match open_in(self.root, &self.based(&path), flags) {
                Ok(fd) => futimens(&fd, &times(mtime)).map_err(|error| failed(&path, "set times", error))?,
                // Replaced by a later entry.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(failed(&path, "open", error)),
            }
        }
        Ok(())
    }
}

fn own(file: impl AsFd, uid: u32, gid: u32) -> rustix::io::Result<()> {
    fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

fn times(mtime: (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.0, tv_nsec: i64::from(mtime.1) },
    }
}

fn allowed_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let own = entry.xattrs.iter().filter(|(name, _)| !name.starts_with(OVERLAY_XATTRS) && !name.contains(&0));
    own.map(|(name, value)| (name.as_slice(), value.as_slice()))
}

fn set_link_xattrs(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> rustix::io::Result<()> {
    for (xattr, value) in allowed_xattrs(entry) {
        let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        match lsetxattr(path.as_slice(), xattr, value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
