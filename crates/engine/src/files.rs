//! The files of a container, running or not: cp, export, diff, sizes, and a volume's first content.
//!
//! All path look-up happens inside the container's root: on a thread in its mount namespace, or in one with its overlay
//! mounted for that thread alone. A link in the container can lead nowhere else.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use droste_image::{PackOptions, UnpackOptions};
use droste_model::mount::MountSource;
use droste_model::path::ContainerPath;
use droste_model::state::State;
use droste_model::time::Timestamp;
use droste_runtime::namespaces::{BindOptions, EnterError, HostNamespaces, PrivateRoot};
use droste_runtime::sys::open::open_at;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, readlinkat};
use tokio::sync::mpsc;

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Message, Result};
use crate::host::{Host, Target};
use crate::options::{ChangeKind, Download, PathStat, Upload, WriteArchive};

/// Pieces of a download on the way to a client, and the size of each in bytes.
const IN_FLIGHT: usize = 8;
const PIECE: usize = 64 << 10;

/// How many links a path may lead over before it counts as a loop, as in the kernel.
const MOST_LINKS: usize = 40;

/// Writes pieces into a channel.
pub(crate) struct ChannelWriter {
    client: mpsc::Sender<Result<Bytes>>,
    buffer: Vec<u8>,
}

impl ChannelWriter {
    /// A writer and the client's end.
    pub(crate) fn new() -> (Self, Download) {
        let (client, download) = mpsc::channel(IN_FLIGHT);
        (Self { client, buffer: Vec::with_capacity(PIECE) }, download)
    }

    fn send(&mut self) -> std::io::Result<()> {
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.client.blocking_send(Ok(piece.into())).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }

    /// Sends what is left, or why it ends early.
    pub(crate) fn finish(mut self, outcome: Result<()>) {
        let _ = match outcome {
            Ok(()) if self.buffer.is_empty() => Ok(()),
            Ok(()) => self.send().map_err(drop),
            Err(error) => self.client.blocking_send(Err(error)).map_err(drop),
        };
    }
}

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = PIECE - self.buffer.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() == PIECE {
            self.send()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn entered<T>(outcome: Result<Result<T>, EnterError>) -> Result<T> {
    outcome.map_err(|error| Error::hidden("the container's file system could not be entered", error))?
}

fn missing(path: &str, at: &str) -> Error {
    Error::NotFound(Message::new(format!("Could not find the file {path} in container {at}")))
}

impl Engine {
    /// A folder in a container's directory. One that is being removed has no directory any more, and gets none.
    pub(crate) fn folder_in(&self, container: &Container, name: &str) -> std::io::Result<PathBuf> {
        let folder = self.container_dir(&container.id).join(name);
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(folder),
        }
    }

    /// Runs `work` with the container's root as `/`, mounts included. Blocking.
    pub(crate) fn inside<T: Send>(&self, container: &Container, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        if let Some(shim) = container.shim() {
            let namespaces = HostNamespaces::of(shim.pidfd().as_fd(), shim.pid());
            if let Ok(view) = namespaces.map_err(drop).and_then(|namespaces| namespaces.view().map_err(drop)) {
                return entered(view.run(work));
            }
        }
        let overlay = self.overlay(container)?;
        let place = self
            .folder_in(container, "merged")
            .map_err(|error| Error::hidden("the container's root could not be mounted", error))?;
        let root = PrivateRoot { overlay: &overlay, place: &place, binds: self.binds_of_stopped(container)? };
        entered(root.run(work))
    }

    /// What a stopped container would have mounted, as far as its sources are there.
    fn binds_of_stopped(&self, container: &Container) -> Result<Vec<(OwnedFd, PathBuf)>> {
        let mounts = container.record().mounts.clone();
        let host = container.host.power()?.namespaces;
        let mut binds = Vec::new();
        for mount in mounts {
            let opened = match &mount.source {
                MountSource::Bind { source, .. } => {
                    let view = host.view();
                    let view = view.map_err(|error| Error::hidden("the host's root could not be entered", error))?;
                    let opened = view.open_bind_source(Path::new(source.as_str()), BindOptions::default());
                    opened.map(|opened| opened.mount).ok()
                }
                MountSource::Volume { name: Some(name), subpath, .. } => {
                    let volume = self.volumes.find(&container.host.id, name);
                    let open = |volume: &_| self.volumes.open_once(self, &container.host, volume, subpath.as_deref());
                    volume.as_deref().map(open).transpose()?
                }
                _ => continue,
            };
            binds.extend(opened.map(|opened| (opened, PathBuf::from(mount.target.as_str()))));
        }
        Ok(binds)
    }
}

/// The path as the kernel is asked for it: absolute, with the trailing slash or dot that makes it follow a link.
fn rooted(path: &str) -> Result<String> {
    let clean = ContainerPath::rooted(path).ok_or_else(|| Error::invalid("a path can't contain a NUL byte"))?;
    let keeps = path.ends_with('/') || path.ends_with("/.");
    let text = clean.as_str();
    Ok(if keeps && text != "/" { format!("{text}/.") } else { text.to_owned() })
}

/// What is at a path; the process's root is the container's. Magic links lead nowhere: not even that something is there
/// may be told.
fn look(path: &str, flags: OFlags) -> std::io::Result<std::fs::Metadata> {
    let found = open_at(CWD, path, flags | OFlags::PATH, ResolveFlags::NO_MAGICLINKS)?;
    std::fs::File::from(found).metadata()
}

/// What is at a path; the process's root is the container's.
fn stat(path: &str, at: &str) -> Result<PathStat> {
    let absolute = rooted(path)?;
    let found = look(&absolute, OFlags::NOFOLLOW).map_err(|_| missing(path, at))?;
    let link_target = if found.is_symlink() { link_target(&absolute) } else { String::new() };
    let name = absolute.trim_end_matches("/.").rsplit('/').next().unwrap_or_default();
    Ok(PathStat {
        name: if name.is_empty() { "/".to_owned() } else { name.to_owned() },
        size: i64::try_from(found.size()).unwrap_or(i64::MAX),
        mode: found.mode(),
        mtime: Timestamp::from_nanos(found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec())),
        link_target,
    })
}

/// Where a link ends inside the container, whether anything is there or not.
fn link_target(path: &str) -> String {
    let mut current = PathBuf::from(path);
    for _ in 0..MOST_LINKS {
        let Ok(target) = read_link(&current) else { break };
        let joined = current.parent().unwrap_or(Path::new("/")).join(target);
        let text = joined.to_string_lossy().into_owned();
        current = ContainerPath::rooted(&text).map_or(joined, |clean| PathBuf::from(clean.as_str()));
    }
    current.to_string_lossy().into_owned()
}

fn read_link(path: &Path) -> std::io::Result<PathBuf> {
    let link = open_at(CWD, path, OFlags::PATH | OFlags::NOFOLLOW, ResolveFlags::NO_MAGICLINKS)?;
    // Where /proc's own links lead is no path of the container's.
    if rustix::fs::fstatfs(&link)?.f_type == rustix::fs::PROC_SUPER_MAGIC {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    Ok(std::ffi::OsString::from_vec(readlinkat(&link, "", Vec::new())?.into_bytes()).into())
}

impl Host {
    pub(crate) async fn with_files<T: Send + 'static>(
        &self,
        container: &Arc<Container>,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (engine, container) = (Arc::clone(&self.engine), Arc::clone(container));
        let done = crate::transit::aside(move || engine.inside(&container, work));
        done.await.map_err(|error| Error::hidden("the work on the container's files was broken off", error))?
    }

    /// A container whose files this host may touch: a member, or SELF.
    fn with_own_files(&self, at: &str) -> Result<Arc<Container>> {
        match self.target(at)? {
            Target::Member(container) | Target::Myself(container) => Ok(container),
        }
    }

    /// What is at a path in a container.
    pub async fn stat_path(&self, at: &str, path: &str) -> Result<PathStat> {
        let container = self.with_own_files(at)?;
        let (path, at) = (path.to_owned(), at.to_owned());
        self.with_files(&container, move || stat(&path, &at)).await
    }

    /// A path of a container as a tar archive.
    pub async fn read_archive(&self, at: &str, path: &str) -> Result<(PathStat, Download)> {
        let container = self.with_own_files(at)?;
        let (writer, download) = ChannelWriter::new();
        let (told, stat_of) = tokio::sync::oneshot::channel();
        let engine = Arc::clone(&self.engine);
        let (path, at, owned) = (path.to_owned(), at.to_owned(), Arc::clone(&container));
        self.state.transit.place().await?.spawn(move || {
            let outcome = engine.inside(&owned, move || {
                let found = stat(&path, &at);
                let stop = found.is_err();
                let _ = told.send(found);
                if stop {
                    return Ok(());
                }
                let mut writer = writer;
                let name = droste_image::archive_name(&path).as_bytes().to_vec();
                let outcome = pack_here(&rooted(&path)?, PackOptions { name, whiteouts: false }, &mut writer);
                writer.finish(outcome);
                Ok(())
            });
            if let Err(error) = outcome {
                tracing::warn!(%error, "an archive was not read");
            }
        })?;
        let found =
            stat_of.await.map_err(|_| Error::internal("the container's file system could not be entered"))??;
        container.emit("archive-path", &[]);
        Ok((found, download))
    }

    /// Unpacks a tar archive into a directory of a container.
    pub async fn write_archive(&self, at: &str, path: &str, options: WriteArchive, body: Upload) -> Result<()> {
        self.require_write()?;
        let container = self.with_own_files(at)?;
        check_writable(&container, path)?;
        let counted_on = self.engine.counted_on(&container);
        self.engine.require_space(&counted_on).await?;
        let user = container.record().config.user.clone();
        let (path, at) = (path.to_owned(), at.to_owned());
        let work = move || {
            let absolute = rooted(&path)?;
            let found = look(&absolute, OFlags::empty()).map_err(|_| missing(&path, &at))?;
            if !found.is_dir() {
                return Err(Error::invalid("extraction point is not a directory"));
            }
            let options = UnpackOptions {
                no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir,
                owner: options.copy_uid_gid.then(|| owner(&user)).transpose()?,
                limits: counted_on.account.room(),
                ..UnpackOptions::default()
            };
            let root = open_root()?;
            droste_image::unpack(root.as_fd(), absolute.as_bytes(), body, &options).map_err(|error| {
                counted_on.account.no_room(options.limits, &error).unwrap_or_else(|| archive_error(error))
            })
        };
        let (engine, owned) = (Arc::clone(&self.engine), Arc::clone(&container));
        self.state.transit.run(move || engine.inside(&owned, work)).await?;
        container.emit("extract-to-dir", &[]);
        Ok(())
    }

    /// The whole file system of a container as a tar archive.
    pub async fn export(&self, at: &str) -> Result<Download> {
        let container = self.member(at)?;
        let (mut writer, download) = ChannelWriter::new();
        let (engine, owned) = (Arc::clone(&self.engine), Arc::clone(&container));
        self.state.transit.place().await?.spawn(move || {
            let outcome = engine.overlay(&owned).and_then(|overlay| {
                let place = engine
                    .folder_in(&owned, "merged")
                    .map_err(|error| Error::hidden("the root could not be mounted", error))?;
                let root = PrivateRoot { overlay: &overlay, place: &place, binds: Vec::new() };
                entered(root.run(|| pack_here("/.", PackOptions::default(), &mut writer)))
            });
            writer.finish(outcome);
        })?;
        container.emit("export", &[]);
        Ok(download)
    }

    /// What a container changed in its image's file system.
    pub async fn changes(&self, at: &str) -> Result<Vec<(ChangeKind, String)>> {
        let container = self.member(at)?;
        let (engine, owned) = (Arc::clone(&self.engine), Arc::clone(&container));
        let failed = |error: &dyn std::fmt::Display| Error::hidden("the container's changes could not be read", error);
        let listed = self.state.transit.run(move || {
            let overlay = engine.layers_of(&owned).map_err(|error| failed(&error))?;
            droste_image::changes(&overlay.upper, &overlay.lower_paths()).map_err(|error| match error {
                droste_image::Error::TooDeep => archive_error(error),
                error => failed(&error),
            })
        });
        let kind = |kind| match kind {
            droste_image::ChangeKind::Modified => ChangeKind::Modified,
            droste_image::ChangeKind::Added => ChangeKind::Added,
            droste_image::ChangeKind::Deleted => ChangeKind::Deleted,
        };
        Ok(listed
            .await?
            .into_iter()
            .map(|change| (kind(change.kind), change.path.to_string_lossy().into_owned()))
            .collect())
    }

    /// Bytes that a container has written, and bytes of its whole root.
    pub async fn container_size(&self, at: &str) -> Result<(u64, u64)> {
        let container = self.with_own_files(at)?;
        let upper = self.engine.container_dir(&container.id).join("diff");
        let written = tokio::task::spawn_blocking(move || size_of(&upper)).await.unwrap_or(0);
        let image = container.image.as_ref().map_or(0, droste_image::Image::size);
        Ok((written, written + image))
    }
}

fn open_root() -> Result<std::fs::File> {
    std::fs::File::open("/").map_err(|error| Error::hidden("the container's root could not be opened", error))
}

fn pack_here(path: &str, options: PackOptions, writer: &mut ChannelWriter) -> Result<()> {
    let root = open_root()?;
    droste_image::pack(root.as_fd(), path.as_bytes(), &options, writer).map_err(archive_error)
}

fn archive_error(error: droste_image::Error) -> Error {
    Error::invalid(error.to_string())
}

/// Docker's refusals to write where the container itself can't.
fn check_writable(container: &Container, path: &str) -> Result<()> {
    let record = container.record();
    let wanted = ContainerPath::rooted(path).ok_or_else(|| Error::invalid("a path can't contain a NUL byte"))?;
    let below = |target: &str| wanted.as_str() == target || wanted.as_str().starts_with(&format!("{target}/"));
    let mount = record
        .mounts
        .iter()
        .filter(|mount| below(mount.target.as_str()))
        .max_by_key(|mount| mount.target.as_str().len());
    match mount {
        Some(mount) if mount.read_only => Err(Error::forbidden("mounted volume is marked read-only")),
        None if record.host_config.readonly_rootfs => Err(Error::forbidden("container rootfs is marked read-only")),
        _ => Ok(()),
    }
}

/// The numbers of `user[:group]`, names looked up in the container.
pub(crate) fn owner(user: &str) -> Result<(u32, u32)> {
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    let passwd = droste_runtime::read_small("/etc/passwd").unwrap_or_default();
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = entry.into_iter().find(|fields| fields.len() > 3 && (fields[0] == name || fields[2] == name));
    let number = |text: &str| text.parse::<u32>().ok();
    let uid = match (&entry, name) {
        (_, "") => Some(0),
        (Some(fields), _) => number(fields[2]),
        (None, _) => number(name),
    };
    let uid =
        uid.ok_or_else(|| Error::invalid(format!("unable to find user {name}: no matching entries in passwd file")))?;
    let own = entry.and_then(|fields| number(fields[3])).unwrap_or(0);
    if group.is_empty() {
        return Ok((uid, own));
    }
    let groups = droste_runtime::read_small("/etc/group").unwrap_or_default();
    let named = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let gid =
        named.into_iter().find(|fields| fields.len() > 2 && fields[0] == group).and_then(|fields| number(fields[2]));
    let gid = gid.or_else(|| number(group));
    let gid =
        gid.ok_or_else(|| Error::invalid(format!("unable to find group {group}: no matching entries in group file")))?;
    Ok((uid, gid))
}

/// Bytes of all files below a directory, hard links once.
pub(crate) fn size_of(directory: &Path) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let mut waiting = vec![directory.to_owned()];
    let mut total = 0;
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                waiting.push(entry.path());
            } else if found.nlink() < 2 || seen.insert(found.ino()) {
                total += found.size();
            }
        }
    }
    total
}

/// A directory of the image's and the volume that gets its content.
pub(crate) struct Copy {
    /// The path in the container.
    pub from: String,
    /// The volume's root.
    pub to: OwnedFd,
}

/// Which of these paths are directories in a container's own root, without its mounts. Blocking.
pub(crate) fn directories(engine: &Engine, container: &Container, paths: Vec<String>) -> Result<Vec<String>> {
    in_own_root(engine, container, || {
        let is_directory = |path: &String| look(path, OFlags::empty()).is_ok_and(|found| found.is_dir());
        Ok(paths.into_iter().filter(is_directory).collect())
    })
}

fn in_own_root<T: Send>(engine: &Engine, container: &Container, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let overlay = engine.overlay(container)?;
    let place = engine.folder_in(container, "merged").map_err(copy_failed)?;
    let root = PrivateRoot { overlay: &overlay, place: &place, binds: Vec::new() };
    entered(root.run(work))
}

/// Copies what the image has into volumes, with the owners and modes of the directories. Blocking.
pub(crate) fn copy_up(engine: &Engine, container: &Container, copies: Vec<Copy>) -> Result<()> {
    in_own_root(engine, container, || copies.iter().try_for_each(copy))
}

fn copy_failed(error: impl std::fmt::Display) -> Error {
    Error::hidden("failed to populate volume", error)
}

/// Copies one directory; the process's root is the container's. What the image does not have makes an empty volume.
fn copy(copy: &Copy) -> Result<()> {
    let Ok(found) = look(&copy.from, OFlags::empty()) else { return Ok(()) };
    if !found.is_dir() {
        return Ok(());
    }
    let (reader, writer) = std::io::pipe().map_err(copy_failed)?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(|| {
            let source = std::fs::File::open(&copy.from).map_err(copy_failed)?;
            let out = std::io::BufWriter::with_capacity(PIECE, writer);
            droste_image::pack(source.as_fd(), b".", &PackOptions::default(), out).map_err(archive_error)
        });
        let unpacked = droste_image::unpack(copy.to.as_fd(), b"/", reader, &UnpackOptions::default());
        let packed = packing.join().map_err(|_| Error::internal("the copying thread died"))?;
        unpacked.map_err(archive_error).and(packed)
    })?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(found.uid()), rustix::fs::Gid::from_raw(found.gid()));
    rustix::fs::fchown(&copy.to, Some(uid), Some(gid)).map_err(copy_failed)?;
    rustix::fs::fchmod(&copy.to, Mode::from_raw_mode(found.mode() & 0o7777)).map_err(copy_failed)
}

/// Whether a container's processes must be frozen for a consistent copy of its files.
pub(crate) fn runs(container: &Container) -> bool {
    matches!(container.state(), State::Running(running) if !running.paused)
}
