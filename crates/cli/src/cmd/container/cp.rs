//! `cp`: files between a container and us, with the rules of `cp` about what a destination that exists means.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::app::App;
use crate::archive::{self, Packing};
use crate::error::{CliError, Result, io_text};
use crate::flags::Parsed;
use crate::net::client::{Client, Query, Request, escape};
use crate::net::http::Body;
use crate::output::human::size;
use crate::output::progress::Counter;
use crate::terminal;

pub(super) const FLAGS: &str = "
    a archive bool Keep owners and groups
    L follow-link bool Copy what a link in SRC_PATH points to
    q quiet bool Say nothing about progress (the default without a terminal)";

/// Go's bits for kinds of files.
const MODE_DIR: u32 = 1 << 31;
const MODE_SYMLINK: u32 = 1 << 27;

/// What the daemon says about a path in a container.
#[derive(Debug, Deserialize)]
struct Stat {
    mode: u32,
    #[serde(default, rename = "linkTarget")]
    link_target: String,
}

impl Stat {
    fn is_dir(&self) -> bool {
        self.mode & MODE_DIR != 0
    }

    fn is_link(&self) -> bool {
        self.mode & MODE_SYMLINK != 0
    }
}

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    let (source, destination) = (&flags.args[0], &flags.args[1]);
    if source.is_empty() || destination.is_empty() {
        let which = if source.is_empty() { "source" } else { "destination" };
        return Err(CliError::new(format!("{which} can not be empty")));
    }
    let quiet = flags.switch("quiet").unwrap_or(!terminal::stderr_is_terminal());
    let copy = Copy { client: app.client()?, owner: flags.on("archive"), follow: flags.on("follow-link"), quiet };
    match (split(source), split(destination)) {
        (Some(_), Some(_)) => Err(CliError::new("copying between containers is not supported")),
        (Some((container, path)), None) => copy.fetch(container, path, destination),
        (None, Some((container, path))) => copy.send(source, container, path),
        (None, None) => Err(CliError::new("must specify at least one container source")),
    }?;
    Ok(0)
}

/// `CONTAINER:PATH`; a path that begins with `/` or `.` is one of ours.
fn split(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) || text == "-" {
        return None;
    }
    text.split_once(':')
}

struct Copy<'a> {
    client: &'a Client,
    owner: bool,
    follow: bool,
    quiet: bool,
}

impl Copy<'_> {
    fn url(container: &str, query: Query, path: &str) -> String {
        query.add("path", path).on(&format!("/containers/{}/archive", escape(container)))
    }

    fn stat(&self, container: &str, path: &str) -> Result<Stat> {
        let response =
            self.client.send(Request::new("HEAD", Self::url(container, Query::new(), path))).map_err(|e| match e {
                // A HEAD has no text; these are the daemon's words for the same GET.
                CliError::Api { status: 404, .. } => CliError::Api {
                    status: 404,
                    message: format!("Could not find the file {path} in container {container}"),
                },
                other => other,
            })?;
        let header = response.head.header("x-docker-container-path-stat").unwrap_or("").to_owned();
        self.client.keep(response);
        parse_stat(&header)
    }

    fn fetch(&self, container: &str, path: &str, destination: &str) -> Result<()> {
        let mut path = absolute_in_container(path);
        if self.follow
            && let Ok(stat) = self.stat(container, &path)
            && stat.is_link()
        {
            path = join_link(&path, &stat.link_target);
        }
        let response = self.client.send(Request::new("GET", Self::url(container, Query::new(), &path)))?;
        let header = response.head.header("x-docker-container-path-stat").unwrap_or("").to_owned();
        let mut counted = Counter::new(response, "Copying from container -", None, self.quiet);
        if destination == "-" {
            io::copy(&mut counted, &mut io::stdout().lock())?;
            return Ok(());
        }
        let stat = parse_stat(&header)?;
        let target = local_target(destination, &path, stat.is_dir())?;
        archive::unpack(&mut counted, &target, self.owner)?;
        io::copy(&mut counted, &mut io::sink())?;
        let done = counted.done();
        drop(counted);
        self.report(done, destination);
        Ok(())
    }

    fn send(&self, source: &str, container: &str, path: &str) -> Result<()> {
        let mut path = absolute_in_container(path);
        let mut stat = self.stat(container, &path);
        if let Ok(found) = &stat
            && found.is_link()
        {
            path = join_link(&path, &found.link_target);
            stat = self.stat(container, &path);
        }
        let stat = match stat {
            Ok(stat) => Some(stat),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        if source == "-" {
            if !stat.is_some_and(|s| s.is_dir()) {
                return Err(CliError::new(format!("destination \"{container}:{path}\" must be a directory")));
            }
            return self.upload(container, &path, &mut io::stdin().lock()).map(drop);
        }
        let local = self.local_source(source)?;
        let is_dir = fs::symlink_metadata(&local).is_ok_and(|m| m.is_dir());
        let (folder, name) = remote_target(&path, stat.as_ref(), source, is_dir)?;
        let owner = self.owner;
        let name = PathBuf::from(name);
        let mut packing = Packing::start(move |builder| archive::add(builder, &local, &name, &|_| true, owner))?;
        let sent = self.upload(container, &folder, &mut packing);
        match (sent, packing.finish()) {
            (Err(CliError::Transport { .. }), Err(ours)) => Err(ours),
            (Ok(done), Ok(())) => {
                self.report(done, &format!("{container}:{path}"));
                Ok(())
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    fn upload(&self, container: &str, folder: &str, reader: &mut dyn Read) -> Result<u64> {
        let mut query = Query::new();
        if self.owner {
            query = query.add("copyUIDGID", "true");
        }
        let url = Self::url(container, query.add("noOverwriteDirNonDir", "true"), folder);
        let mut counted = Counter::new(reader, "Copying to container -", None, self.quiet);
        let body = Body::Stream { reader: &mut counted, kind: "application/x-tar" };
        self.client.done(Request::new("PUT", url).body(body))?;
        Ok(counted.done())
    }

    fn local_source(&self, source: &str) -> Result<PathBuf> {
        let path = PathBuf::from(source);
        let fail = |e: io::Error| CliError::new(format!("lstat {}: {}", path.display(), io_text(&e)));
        let meta = fs::symlink_metadata(&path).map_err(fail)?;
        if meta.is_symlink() && (self.follow || source.ends_with('/')) {
            return fs::canonicalize(&path).map_err(fail);
        }
        Ok(path)
    }

    fn report(&self, bytes: u64, destination: &str) {
        if !self.quiet {
            eprintln!("Successfully copied {} to {destination}", size(bytes as f64));
        }
    }
}

fn parse_stat(header: &str) -> Result<Stat> {
    let bytes = STANDARD.decode(header).unwrap_or_default();
    serde_json::from_slice(&bytes)
        .map_err(|e| CliError::new(format!("unable to decode container path stat header: {e}")))
}

/// Paths in a container begin at its root; a trailing slash or `/.` keeps its meaning.
fn absolute_in_container(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn join_link(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let parent = Path::new(path).parent().unwrap_or(Path::new("/"));
    parent.join(target).to_string_lossy().into_owned()
}

/// The last part of a path; none if it ends in `.` or is a root, which means the content.
fn base_name(path: &str) -> Option<String> {
    if path.ends_with("/.") || path == "." {
        return None;
    }
    Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned())
}

/// What a file or folder from a container becomes here.
fn local_target(destination: &str, source: &str, is_dir: bool) -> Result<PathBuf> {
    let path = PathBuf::from(destination);
    match fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => Ok(base_name(source).map_or(path.clone(), |name| path.join(name))),
        Ok(_) if is_dir => Err(CliError::new("cannot copy directory")),
        Ok(_) if destination.ends_with('/') => Err(CliError::new("not a directory")),
        Ok(_) => Ok(path),
        Err(_) if !is_dir && destination.ends_with('/') => Err(CliError::new("no such directory")),
        Err(_) => {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !parent.is_dir() {
                return Err(CliError::new(format!("invalid output path: directory {:?} does not exist", parent)));
            }
            Ok(path)
        }
    }
}

/// The folder in the container to unpack into, and the name that our file or folder has there.
fn remote_target(path: &str, stat: Option<&Stat>, source: &str, is_dir: bool) -> Result<(String, String)> {
    let trimmed = path.trim_end_matches('/').trim_end_matches("/.");
    let parent = || {
        let parent = Path::new(trimmed).parent().unwrap_or(Path::new("/"));
        (parent.to_string_lossy().into_owned(), base_name(trimmed).unwrap_or_default())
    };
    match stat {
        Some(stat) if stat.is_dir() => {
            let name = match base_name(source) {
                Some(name) => name,
                None if source.ends_with("/.") || source == "." => String::new(),
                None => String::new(),
            };
            Ok((path.to_owned(), name))
        }
        Some(_) if is_dir => Err(CliError::new("cannot copy directory")),
        Some(_) => Ok(parent()),
        None if !is_dir && path.ends_with('/') => Err(CliError::new("no such directory")),
        None => Ok(parent()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_side_is_the_container() {
        assert_eq!(split("web:/etc"), Some(("web", "/etc")));
        assert_eq!(split("/a:b"), None);
        assert_eq!(split("./a:b"), None);
        assert_eq!(split("-"), None);
    }

    #[test]
    fn where_a_copy_lands() {
        let dir = Stat { mode: MODE_DIR, link_target: String::new() };
        let file = Stat { mode: 0o644, link_target: String::new() };
        let target = |path, stat, source, is_dir| remote_target(path, stat, source, is_dir).ok();
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(target("/tmp", Some(&dir), "a/b", false), pair("/tmp", "b"));
        assert_eq!(target("/tmp", Some(&dir), "a/.", true), pair("/tmp", ""));
        assert_eq!(target("/tmp/x", Some(&file), "b", false), pair("/tmp", "x"));
        assert_eq!(target("/tmp/x", Some(&file), "b", true), None);
        assert_eq!(target("/tmp/x", None, "b", true), pair("/tmp", "x"));
        assert_eq!(target("/tmp/x/", None, "b", false), None);
    }
}
