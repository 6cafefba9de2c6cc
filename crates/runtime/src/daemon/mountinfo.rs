//! What the kernel says of the mounts of the calling thread's namespace: `mountinfo` (proc_pid_mountinfo(5)).
//!
//! It is read through a descriptor of `/proc/thread-self` that was opened before another namespace was entered, because
//! what is called `/proc` there is somebody else's.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, readlinkat, statx};
use rustix::io::Errno;

/// The calling thread's entry of `/proc`.
pub(super) struct Myself(OwnedFd);

/// A line of the table.
struct Line<'a> {
    id: u64,
    parent: u64,
    /// Where it is, with spaces and the like escaped.
    place: &'a str,
    optional: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(' ');
        let (id, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let place = fields.nth(2)?;
        let optional = fields.skip(1).take_while(|field| *field != "-").collect();
        Some(Self { id, parent, place, optional })
    }
}

impl Myself {
    /// Opens the entry. The thread must still be where it began.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(openat(CWD, "/proc/thread-self", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?))
    }

    fn table(&self) -> io::Result<String> {
        let file = openat(&self.0, "mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        std::fs::File::from(file).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Where the mount is on which a file lies, and its optional fields.
    pub(super) fn mount_of(&self, found: BorrowedFd<'_>) -> io::Result<(String, Vec<String>)> {
        let (id, text) = (mount_id(found)?, self.table()?);
        let line = text.lines().filter_map(Line::parse).find(|line| line.id == id).ok_or(Errno::NOENT)?;
        Ok((line.place.to_owned(), line.optional.into_iter().map(str::to_owned).collect()))
    }

    /// The first mount that lies on the same mount as a file, at that file or below it.
    pub(super) fn mount_below(&self, found: BorrowedFd<'_>) -> io::Result<Option<String>> {
        let (id, text) = (mount_id(found)?, self.table()?);
        let path = readlinkat(&self.0, format!("fd/{}", found.as_raw_fd()), Vec::new())?;
        let path = escaped(path.as_bytes());
        // A path that is not the namespace's own says nothing: then all that lies on the mount counts.
        let top = if path.starts_with('/') { Path::new(&path) } else { Path::new("/") };
        let below = |line: &Line<'_>| line.parent == id && Path::new(line.place).starts_with(top);
        Ok(text.lines().filter_map(Line::parse).find(below).map(|line| line.place.to_owned()))
    }
}

fn mount_id(found: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(statx(found, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}

/// A path as the table writes it.
fn escaped(path: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
        other => vec![*other],
    };
    let bytes: Vec<u8> = path.iter().flat_map(one).collect();
    OsStr::from_bytes(&bytes).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn lines_are_read() {
        let line = Line::parse("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime shared:1 master:2 - ext3 /dev/root rw").unwrap();
        assert_eq!((line.id, line.parent, line.place), (36, 35, "/mnt\\0402"));
        assert_eq!(line.optional, ["shared:1", "master:2"]);
        assert_eq!(escaped(b"/a b\\c"), "/a\\040b\\134c");
        assert!(Line::parse("").is_none());
    }

    #[test]
    fn mounts_below_a_file_are_found() {
        let myself = Myself::open().unwrap();
        let open = |path: &str| openat(CWD, path, OFlags::PATH, Mode::empty()).unwrap();
        let (root, file) = (open("/"), tempfile::NamedTempFile::new().unwrap());
        assert!(myself.mount_below(root.as_fd()).unwrap().is_some(), "at least /proc");
        assert_eq!(myself.mount_below(file.as_file().as_fd()).unwrap(), None);
    }
}
