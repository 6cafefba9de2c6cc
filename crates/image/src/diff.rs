//! What a container changed in its image's file system: `docker diff`.
//!
//! Docker compares the two trees file by file; here only the writable layer is walked, beside the lower directories
//! that it covers, with the same result: a changed mode, owner, device, size or time is a change, a directory is listed
//! if anything in it is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fgetxattr, openat, statat};
use rustix::io::Errno;

use crate::error::{Context as _, Error, MOST_LEVELS, Result};
use crate::pack::{is_opaque, sorted_names};

/// What happened to a path; the numbers are Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is different.
    Modified = 0,
    /// It is new.
    Added = 1,
    /// It is gone.
    Deleted = 2,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The absolute path in the container.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// The changes that the writable layer `upper` makes to `lowers`, topmost first; parents before their children.
/// Blocking.
pub fn changes(upper: &Path, lowers: &[PathBuf]) -> Result<Vec<Change>> {
    let lowers = lowers.iter().map(|path| open(path).at("open", path)).collect::<Result<Vec<_>>>()?;
    let upper_dir = open(upper).at("open", upper)?;
    let mut walk = Walk { found: Vec::new(), level: 0 };
    walk.directory(upper_dir.as_fd(), &lowers, Path::new("/")).map_err(|source| match source {
        Errno::NAMETOOLONG => Error::TooDeep,
        source => Error::Io { operation: "compare", path: upper.to_owned(), source: source.into() },
    })?;
    Ok(walk.found)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    openat(CWD, path, DIRECTORY, Mode::empty())
}

struct Walk {
    found: Vec<Change>,
    /// How many directories the one that is being compared lies in.
    level: usize,
}

impl Walk {
    fn directory(&mut self, upper: BorrowedFd<'_>, lowers: &[OwnedFd], path: &Path) -> rustix::io::Result<()> {
        if self.level > MOST_LEVELS {
            return Err(Errno::NAMETOOLONG);
        }
        for name in sorted_names(upper)? {
            self.level += 1;
            self.item(upper, lowers, &name, path)?;
            self.level -= 1;
        }
        Ok(())
    }

    fn item(
        &mut self,
        upper: BorrowedFd<'_>,
        lowers: &[OwnedFd],
        name: &[u8],
        directory: &Path,
    ) -> rustix::io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let path = directory.join(std::ffi::OsStr::from_bytes(name));
        let now = match statat(upper, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            result => result?,
        };
        let before = lookup(lowers, name)?;
        if is_whiteout(&now) {
            if before.is_some() {
                self.found.push(Change { path, kind: ChangeKind::Deleted });
            }
            return Ok(());
        }
        let at = self.found.len();
        let kind = match &before {
            None => Some(ChangeKind::Added),
            Some((was, holder)) => differs(was, holder, &now, upper, name).then_some(ChangeKind::Modified),
        };
        if file_type(&now) == FileType::Directory {
            let inner = openat(upper, name, DIRECTORY, Mode::empty())?;
            let below = match &before {
                Some((was, _)) if file_type(was) == FileType::Directory => merged(lowers, name)?,
                _ => Vec::new(),
            };
            if is_opaque(inner.as_fd()) {
                self.directory(inner.as_fd(), &below, &path)?;
                self.hidden(inner.as_fd(), &below, &path)?;
            } else {
                self.directory(inner.as_fd(), &below, &path)?;
            }
        }
        let kind = kind.or_else(|| (self.found.len() > at).then_some(ChangeKind::Modified));
        if let Some(kind) = kind {
            self.found.insert(at, Change { path, kind });
        }
        Ok(())
    }

    /// What an opaque directory hides without having something of that name itself.
    fn hidden(&mut self, upper: BorrowedFd<'_>, lowers: &[OwnedFd], path: &Path) -> rustix::io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let mut names = Vec::new();
        for lower in lowers {
            names.extend(sorted_names(lower.as_fd())?);
        }
        names.sort_unstable();
        names.dedup();
        for name in names {
            if matches!(statat(upper, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
                && lookup(lowers, &name)?.is_some()
            {
                let path = path.join(std::ffi::OsStr::from_bytes(&name));
                self.found.push(Change { path, kind: ChangeKind::Deleted });
            }
        }
        Ok(())
    }
}

fn file_type(found: &Stat) -> FileType {
    FileType::from_raw_mode(found.st_mode)
}

fn is_whiteout(found: &Stat) -> bool {
    file_type(found) == FileType::CharacterDevice && found.st_rdev == 0
}

/// What the lower directories show under a name, and which of them has it.
fn lookup<'a>(lowers: &'a [OwnedFd], name: &[u8]) -> rustix::io::Result<Option<(Stat, &'a OwnedFd)>> {
    for lower in lowers {
        match statat(lower, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if is_whiteout(&found) => return Ok(None),
            Ok(found) => return Ok(Some((found, lower))),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The lower directories that a directory of this name is merged from.
fn merged(lowers: &[OwnedFd], name: &[u8]) -> rustix::io::Result<Vec<OwnedFd>> {
    let mut parts = Vec::new();
    for lower in lowers {
        match openat(lower, name, DIRECTORY, Mode::empty()) {
            Ok(directory) => {
                let covers = is_opaque(directory.as_fd());
                parts.push(directory);
                if covers {
                    break;
                }
            }
            Err(Errno::NOENT) => {}
            // Something else, or a whiteout, hides all below it.
            Err(Errno::NOTDIR | Errno::LOOP) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(parts)
}

/// Docker's rule for what counts as a change of something that both trees have.
fn differs(was: &Stat, holder: &OwnedFd, now: &Stat, upper: BorrowedFd<'_>, name: &[u8]) -> bool {
    let basics = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    if basics(was) != basics(now) {
        return true;
    }
    let content = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec, stat.st_size);
    match file_type(now) {
        FileType::Directory => false,
        FileType::RegularFile => {
            content(was) != content(now) || capability(holder.as_fd(), name) != capability(upper, name)
        }
        _ => content(was) != content(now),
    }
}

fn capability(directory: BorrowedFd<'_>, name: &[u8]) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty()).ok()?;
    let mut value = vec![0u8; 64];
    let length = fgetxattr(&file, "security.capability", value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}
