//! Small text files of a root that is somebody else's: what is called like one may be a pipe, a device, a magic link or
//! endless, and reading it must not wait, reach out or take more memory than this.

use std::io::{self, Read};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstat, openat, statx};
use rustix::io::Errno;

use crate::sys::open::open_at;

/// The most that is read of one file, in bytes.
const MOST: u64 = 8 << 20;

/// Reads a regular file below the calling thread's root, at most 8 MiB of it. Links are followed, magic ones are not.
///
/// # Errors
/// When there is none, or it is no regular file.
pub fn read_small(path: &str) -> io::Result<String> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let root = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let found = open_at(&root, path, OFlags::PATH, inside)?;
    let kind = statx(&found, "", rustix::fs::AtFlags::EMPTY_PATH, StatxFlags::TYPE)?.stx_mode;
    require_file(FileType::from_raw_mode(kind.into()))?;
    // It may be another file by now, so the opening must not wait, and what was opened is looked at again.
    let file = open_at(&root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, inside)?;
    require_file(FileType::from_raw_mode(fstat(&file)?.st_mode))?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn require_file(kind: FileType) -> io::Result<()> {
    if kind == FileType::RegularFile { Ok(()) } else { Err(Errno::INVAL.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_read_and_not_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::fs::symlink("/proc/self/root/etc/hosts", at("magic")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        std::fs::File::create(at("large")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(
            (read_small(&at("file")).unwrap(), read_small(&at("link")).unwrap()),
            ("text".into(), "text".into())
        );
        for name in ["magic", "device", "pipe", "", "absent"] {
            assert!(read_small(&at(name)).is_err(), "{name}");
        }
        assert_eq!(read_small(&at("large")).unwrap().len() as u64, MOST);
    }
}
