//! The bytes that the files below a directory take. Whoever fills the directory may be doing it meanwhile, and with ill
//! will: nothing is looked up by a path, no link is followed, and what is kept in memory does not grow with the number
//! of files.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use rustix::path::Arg;

/// How many directories are held open at once, and so how deep the deepest is that is looked into.
const DEEPEST: usize = 500;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What was found below a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    /// Bytes of blocks: holes take nothing, and hard links of one file share what it takes.
    pub(super) bytes: u64,
    /// Whether all of it was looked into.
    pub(super) is_whole: bool,
}

/// Measures a directory; one that is not there takes nothing.
pub(super) fn measure(directory: &Path) -> Tree {
    let mut tree = Tree { bytes: 0, is_whole: true };
    let Ok(root) = openat(CWD, directory, DIRECTORY, Mode::empty()) else { return tree };
    let Ok(device) = fstat(&root).map(|found| found.st_dev) else { return tree };
    let mut open: Vec<Dir> = Dir::new(root).into_iter().collect();
    loop {
        let depth = open.len();
        let Some(current) = open.last_mut() else { return tree };
        let Some(entry) = current.read() else {
            open.pop();
            continue;
        };
        let (Ok(entry), Ok(above)) = (entry, current.fd()) else { continue };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(found) = statat(above, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if found.st_dev != device {
            continue;
        }
        tree.bytes += bytes_of(&found);
        if is_directory(&found) {
            match enter(above, name, depth) {
                Ok(below) => open.push(below),
                Err(gone_meanwhile) => tree.is_whole &= gone_meanwhile,
            }
        }
    }
}

/// Measures one file; one that is not there takes nothing.
pub(super) fn file(path: &Path) -> u64 {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |found| bytes_of(&found))
}

/// The directory below, or whether it is no matter that there is none.
fn enter(above: BorrowedFd<'_>, name: impl Arg, depth: usize) -> Result<Dir, bool> {
    if depth == DEEPEST {
        return Err(false);
    }
    let opened: Result<OwnedFd, Errno> = openat(above, name, DIRECTORY, Mode::empty());
    opened.and_then(Dir::new).map_err(|error| matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

fn is_directory(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Directory
}

#[allow(clippy::useless_conversion, reason = "the number of links has 32 bits on aarch64")]
fn bytes_of(found: &Stat) -> u64 {
    let bytes = u64::try_from(found.st_blocks).unwrap_or(0) * 512;
    if is_directory(found) { bytes } else { bytes / u64::from(found.st_nlink).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_by_what_they_take() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = || measure(folder.path()).bytes;
        let empty = bytes();
        let sparse = std::fs::File::create(folder.path().join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        assert!(bytes() - empty < 1 << 20, "holes take nothing");
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/full"), vec![1; 1 << 20]).unwrap();
        std::fs::File::open(folder.path().join("sub/full")).unwrap().sync_all().unwrap();
        let once = bytes();
        assert!(once - empty >= 1 << 20, "{once}");
        std::fs::hard_link(folder.path().join("sub/full"), folder.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("away")).unwrap();
        assert!(bytes() - once < 1 << 20, "hard links count once, and links are not followed");
        assert_eq!(measure(&folder.path().join("nowhere")), Tree { bytes: 0, is_whole: true });
        assert_eq!(measure(&folder.path().join("away")), Tree { bytes: 0, is_whole: true });
    }

    #[test]
    fn what_is_too_deep_to_be_looked_into_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut at: OwnedFd = openat(CWD, folder.path(), DIRECTORY, Mode::empty()).unwrap();
        let mut deeper = |levels: usize| {
            for _ in 0..levels {
                rustix::fs::mkdirat(&at, "a-long-name-of-which-there-are-many", Mode::from_raw_mode(0o755)).unwrap();
                at = openat(&at, "a-long-name-of-which-there-are-many", DIRECTORY, Mode::empty()).unwrap();
            }
        };
        // Deeper than any path can name.
        deeper(DEEPEST - 1);
        assert!(measure(folder.path()).is_whole);
        deeper(1);
        assert!(!measure(folder.path()).is_whole);
    }
}
