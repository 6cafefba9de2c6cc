//! Tar archives on our side: what we send is written by a thread into a pipe as the request reads it; what we get is
//! unpacked below one folder and never outside.

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::thread::JoinHandle;

use tar::{Archive, Builder, Entry, EntryType, Header};

use crate::error::{CliError, Result};

/// An archive in the making; reading it drives the thread that writes it.
pub(crate) struct Packing {
    reader: Option<PipeReader>,
    writer: Option<JoinHandle<io::Result<()>>>,
}

impl Packing {
    /// Starts a thread that writes an archive.
    pub(crate) fn start(
        write: impl FnOnce(&mut Builder<PipeWriter>) -> io::Result<()> + Send + 'static,
    ) -> Result<Self> {
        let (reader, end) = io::pipe().map_err(|e| CliError::io("making a pipe", e))?;
        let writer = std::thread::spawn(move || {
            let mut builder = Builder::new(end);
            builder.follow_symlinks(false);
            write(&mut builder)?;
            builder.into_inner().map(drop)
        });
        Ok(Self { reader: Some(reader), writer: Some(writer) })
    }

    /// What the writer met; a reader that went away early is not its error.
    pub(crate) fn finish(mut self) -> Result<()> {
        drop(self.reader.take());
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(CliError::io("reading the files to send", error))
            }
            Some(Err(_)) => Err(CliError::new("writing the archive failed")),
            _ => Ok(()),
        }
    }
}

impl Read for Packing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = match &mut self.reader {
            Some(reader) => reader.read(buffer)?,
            None => 0,
        };
        if size == 0
            && let Some(writer) = self.writer.take()
        {
            // The end of an archive that could not be written must not look like a whole one.
            match writer.join() {
                Ok(outcome) => outcome?,
                Err(_) => return Err(io::Error::other("writing the archive failed")),
            }
        }
        Ok(size)
    }
}

/// Adds a file or a folder with everything in it under another name. `keep` says what of a folder goes in.
pub(crate) fn add<W: io::Write>(
    builder: &mut Builder<W>,
    path: &Path,
    name: &Path,
    keep: &dyn Fn(&Path) -> bool,
    owner: bool,
) -> io::Result<()> {
    let meta = fs::symlink_metadata(path).map_err(|e| named(path, e))?;
    if meta.file_type().is_socket() {
        return Ok(());
    }
    if keep(name) || name.as_os_str().is_empty() {
        add_one(builder, path, name, &meta, owner).map_err(|e| named(path, e))?;
    }
    if meta.is_dir() {
        let mut children: Vec<PathBuf> = fs::read_dir(path)
            .map_err(|e| named(path, e))?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<io::Result<_>>()?;
        children.sort();
        for child in children {
            let Some(last) = child.file_name() else { continue };
            add(builder, &child, &name.join(last), keep, owner)?;
        }
    }
    Ok(())
}

fn add_one<W: io::Write>(
    builder: &mut Builder<W>,
    path: &Path,
    name: &Path,
    meta: &fs::Metadata,
    owner: bool,
) -> io::Result<()> {
    if name.as_os_str().is_empty() {
        return Ok(());
    }
    let mut header = Header::new_gnu();
    header.set_metadata(meta);
    if !owner {
        header.set_uid(0);
        header.set_gid(0);
    }
    let kind = meta.file_type();
    if kind.is_file() {
        header.set_cksum();
        return builder.append_data(&mut header, name, File::open(path)?.take(meta.len()));
    }
    header.set_size(0);
    if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        return builder.append_link(&mut header, name, fs::read_link(path)?);
    }
    if kind.is_char_device() || kind.is_block_device() {
        let device = meta.rdev();
        header.set_device_major(rustix::fs::major(device))?;
        header.set_device_minor(rustix::fs::minor(device))?;
    }
    header.set_cksum();
    builder.append_data(&mut header, name, io::empty())
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Unpacks an archive of one file or folder so that this becomes `target`.
pub(crate) fn unpack(reader: impl Read, target: &Path, owner: bool) -> Result<()> {
    let fail = |e| CliError::io(format!("unpacking into {}", target.display()), e);
    let mut archive = Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_preserve_ownerships(owner);
    let mut root: Option<PathBuf> = None;
    // Folders get their permissions last: one that is read-only must still be filled.
    let mut folders = Vec::new();
    for entry in archive.entries().map_err(fail)? {
        let mut entry = entry.map_err(fail)?;
        let path = entry.path().map_err(fail)?.into_owned();
        let relative = below(root.get_or_insert_with(|| path.clone()), &path).map_err(fail)?;
        place(&mut entry, root.as_deref().unwrap_or(&path), target, &relative, &mut folders).map_err(fail)?;
    }
    for (path, mode) in folders.into_iter().rev() {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(fail)?;
    }
    Ok(())
}

/// The way from the archive's root to an entry, free of anything that leads out.
fn below(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let plain = |path: &Path| -> io::Result<PathBuf> {
        let mut out = PathBuf::new();
        for part in path.components() {
            match part {
                Component::Normal(name) => out.push(name),
                Component::CurDir | Component::RootDir => {}
                _ => return Err(io::Error::other(format!("the archive leads outside: {}", path.display()))),
            }
        }
        Ok(out)
    };
    let (root, path) = (plain(root)?, plain(path)?);
    path.strip_prefix(&root)
        .map(Path::to_owned)
        .map_err(|_| io::Error::other(format!("the archive has an entry beside its root: {}", path.display())))
}

fn place<R: Read>(
    entry: &mut Entry<'_, R>,
    root: &Path,
    target: &Path,
    relative: &Path,
    folders: &mut Vec<(PathBuf, u32)>,
) -> io::Result<()> {
    let path = if relative.as_os_str().is_empty() { target.to_owned() } else { target.join(relative) };
    if !relative.as_os_str().is_empty() {
        inside(target, &path)?;
    }
    match entry.header().entry_type() {
        EntryType::Directory => {
            if !path.is_dir() {
                fs::create_dir(&path)?;
            }
            folders.push((path, entry.header().mode()? & 0o7777));
            Ok(())
        }
        EntryType::Link => {
            let link = entry.link_name()?.ok_or_else(|| io::Error::other("a hard link without a target"))?;
            let source = target.join(below(root, &link)?);
            inside(target, &source)?;
            let _ = fs::remove_file(&path);
            fs::hard_link(source, path)
        }
        _ => {
            if fs::symlink_metadata(&path).is_ok_and(|m| !m.is_dir()) {
                fs::remove_file(&path)?;
            }
            entry.unpack(&path).map(drop)
        }
    }
}

/// Refuses a path whose folder is, through a link, not below the target.
fn inside(target: &Path, path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    if folder.canonicalize()?.starts_with(target.canonicalize()?) {
        return Ok(());
    }
    Err(io::Error::other(format!("the archive leads outside through a link: {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("droste-cli-archive-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_folder_there_and_back() {
        let here = folder("round");
        fs::create_dir_all(here.join("src/sub")).unwrap();
        fs::write(here.join("src/a"), "one").unwrap();
        fs::write(here.join("src/sub/b"), "two").unwrap();
        std::os::unix::fs::symlink("a", here.join("src/link")).unwrap();
        let source = here.join("src");
        let mut packing =
            Packing::start(move |builder| add(builder, &source, Path::new("name"), &|_| true, false)).unwrap();
        let target = here.join("dst");
        unpack(&mut packing, &target, false).unwrap();
        packing.finish().unwrap();
        assert_eq!(fs::read_to_string(target.join("sub/b")).unwrap(), "two");
        assert_eq!(fs::read_link(target.join("link")).unwrap(), Path::new("a"));
        fs::remove_dir_all(here).unwrap();
    }

    fn hostile(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (name, kind, link) in entries {
            let mut header = Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(0);
            if !link.is_empty() {
                header.set_link_name_literal(link).unwrap();
            }
            header.set_cksum();
            builder.append(&header, io::empty()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn hostile_archives_stay_inside() {
        let here = folder("hostile");
        for entries in [
            &[("d/", EntryType::Directory, ""), ("d/../../x", EntryType::Regular, "")][..],
            &[("d/", EntryType::Directory, ""), ("d/l", EntryType::Symlink, "/tmp"), ("d/l/x", EntryType::Regular, "")],
            &[("d/", EntryType::Directory, ""), ("d/h", EntryType::Link, "/etc/passwd")],
            &[("d/", EntryType::Directory, ""), ("e", EntryType::Regular, "")],
        ] {
            assert!(unpack(hostile(entries).as_slice(), &here.join("out"), false).is_err(), "{entries:?}");
        }
        fs::remove_dir_all(here).unwrap();
    }
}
