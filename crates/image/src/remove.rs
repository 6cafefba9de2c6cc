//! Removes trees that somebody else made. However deep one is, removing it takes neither much of a stack nor many
//! descriptors, because a tree that could not be removed would outlive its owner.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, DirEntry, FileType, IFlags, Mode, OFlags, RenameFlags, ioctl_getflags, ioctl_setflags, openat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// How many directories are held open at once. What lies deeper is moved up before it is looked into.
const DEEPEST: usize = 64;

/// `FS_PROJINHERIT_FL` of a directory's flags.
const INHERITS_PROJECT: IFlags = IFlags::from_bits_retain(0x2000_0000);

/// Removes a tree by path, without following links; nothing there is no error.
///
/// # Errors
/// When the kernel refuses, as it does where something is mounted.
pub fn remove_tree(path: &Path) -> Result<()> {
    let failed = |operation| move |error: Errno| Error::Io { operation, path: path.to_owned(), source: error.into() };
    let found = match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        found => found.map_err(failed("look up"))?,
    };
    let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    remove_at(CWD, path.as_os_str().as_bytes(), is_directory).map_err(failed("remove"))
}

/// Removes a file, or a directory with all that is in it, without following links or leaving the file system tree.
pub(crate) fn remove_at(parent: BorrowedFd<'_>, name: &[u8], is_directory: bool) -> rustix::io::Result<()> {
    if !is_directory {
        return unlinkat(parent, name, AtFlags::empty());
    }
    let mut top = Top { directory: open(parent, name)?, moved: 0 };
    loop {
        let before = top.moved;
        top.clear()?;
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            // Reading a directory may have missed what was moved into it meanwhile.
            Err(Errno::NOTEMPTY) if top.moved > before => {}
            done => return done,
        }
    }
}

fn open(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// A directory that is being read, and its name in the one above.
struct Level {
    entries: Dir,
    name: Vec<u8>,
}

impl Level {
    fn below(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Self> {
        Ok(Self { entries: Dir::new(open(parent, name)?)?, name: name.to_vec() })
    }

    /// Its next entry that is neither itself nor the one above.
    fn next(&mut self) -> Option<rustix::io::Result<DirEntry>> {
        let is_other = |entry: &DirEntry| !matches!(entry.file_name().to_bytes(), b"." | b"..");
        self.entries.by_ref().find(|entry| entry.as_ref().map_or(true, is_other))
    }
}

/// The directory that is to go, and how much was moved up into it.
struct Top {
    directory: OwnedFd,
    moved: u64,
}

impl Top {
    /// Removes what is in it, but perhaps not all of what is moved up meanwhile.
    fn clear(&mut self) -> rustix::io::Result<()> {
        let mut levels = vec![Level::below(self.directory.as_fd(), b".")?];
        loop {
            let depth = levels.len();
            let Some(level) = levels.last_mut() else { return Ok(()) };
            let Some(entry) = level.next() else {
                let name = levels.pop().map(|done| done.name).unwrap_or_default();
                if let Some(above) = levels.last() {
                    unlinkat(above.entries.fd()?, name, AtFlags::REMOVEDIR)?;
                }
                continue;
            };
            let (entry, at) = (entry?, level.entries.fd()?);
            let name = entry.file_name().to_bytes();
            if !is_directory(at, &entry)? {
                unlinkat(at, name, AtFlags::empty())?;
            } else if depth == DEEPEST {
                self.move_up(at, name)?;
            } else {
                let below = Level::below(at, name)?;
                levels.push(below);
            }
        }
    }

    fn move_up(&mut self, from: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
        loop {
            self.moved += 1;
            let free = format!("moved-up-{}", self.moved);
            match renameat_with(from, name, &self.directory, free, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                // What belongs to another project is let in nowhere where a project is inherited.
                Err(Errno::XDEV) if self.stop_inheriting()? => {}
                done => return done,
            }
        }
    }

    /// Whether there was something to stop.
    fn stop_inheriting(&self) -> rustix::io::Result<bool> {
        let flags = ioctl_getflags(&self.directory)?;
        let inherits = flags.contains(INHERITS_PROJECT);
        if inherits {
            ioctl_setflags(&self.directory, flags.difference(INHERITS_PROJECT))?;
        }
        Ok(inherits)
    }
}

fn is_directory(at: BorrowedFd<'_>, entry: &DirEntry) -> rustix::io::Result<bool> {
    let kind = match entry.file_type() {
        FileType::Unknown => FileType::from_raw_mode(statat(at, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
        kind => kind,
    };
    Ok(kind == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nests directories below one, deeper than any path can name.
    fn nest(folder: &Path, levels: usize) {
        let mut at = openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..levels {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
            at = openat(&at, "d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn deep_trees_go_with_few_descriptors_and_little_stack() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir_all(tree.join("moved-up-1")).unwrap();
        std::fs::write(tree.join("moved-up-2"), "in the way").unwrap();
        std::os::unix::fs::symlink(folder.path(), tree.join("away")).unwrap();
        nest(&tree, 5000);
        nest(&tree.join("moved-up-1"), 5000);
        std::fs::write(folder.path().join("beside"), "stays").unwrap();
        let small = std::thread::Builder::new().stack_size(64 << 10);
        small.spawn(move || remove_tree(&tree)).unwrap().join().unwrap().unwrap();
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["beside"]);
        remove_tree(&folder.path().join("tree")).unwrap();
    }

    #[test]
    fn files_and_links_go_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("kept/inside")).unwrap();
        std::os::unix::fs::symlink("kept", folder.path().join("link")).unwrap();
        remove_tree(&folder.path().join("link")).unwrap();
        assert!(folder.path().join("kept/inside").exists() && !folder.path().join("link").exists());
    }
}
