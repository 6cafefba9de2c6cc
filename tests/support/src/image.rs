//! Images for tests, made from the machine's static busybox: a root file system as a tar archive, and
//! a docker-archive around it. Nothing is downloaded.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::engine::Engine;

/// The image that most tests run: busybox with a few users and files.
pub const BASE: &str = "droste-test-base:latest";

/// A tar archive being made.
pub struct Archive(Builder<Vec<u8>>);

impl Default for Archive {
    fn default() -> Self {
        Self::new()
    }
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn entry(&mut self, path: &str, kind: EntryType, mode: u32, owner: u64, data: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_700_000_000);
        header.set_size(data.len() as u64);
        self.0.append_data(&mut header, path, data).expect("append to an archive in memory");
    }

    /// Adds a directory.
    #[must_use]
    pub fn dir(mut self, path: &str, mode: u32, owner: u64) -> Self {
        self.entry(path, EntryType::Directory, mode, owner, &[]);
        self
    }

    /// Adds a file that root owns.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, data: &[u8]) -> Self {
        self.owned_file(path, mode, 0, data)
    }

    /// Adds a file with an owner.
    #[must_use]
    pub fn owned_file(mut self, path: &str, mode: u32, owner: u64, data: &[u8]) -> Self {
        self.entry(path, EntryType::Regular, mode, owner, data);
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, to: &str) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        self.0.append_link(&mut header, path, to).expect("append to an archive in memory");
        self
    }

    /// Adds a folder of the machine with all that is in it, links as links.
    #[must_use]
    pub fn tree(mut self, path: &str, folder: &Path) -> Self {
        self.0.follow_symlinks(false);
        self.0.append_dir_all(path, folder).expect("append to an archive in memory");
        self
    }

    /// The archive's bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("finish an archive in memory")
    }
}

/// The machine's static busybox, or that of `DROSTE_TEST_BUSYBOX`, for another processor.
pub fn busybox() -> Vec<u8> {
    let given = std::env::var_os("DROSTE_TEST_BUSYBOX").map(PathBuf::from);
    let places =
        given.map_or_else(|| ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).to_vec(), |path| vec![path]);
    places.iter().find_map(|path| std::fs::read(path).ok()).expect("busybox-static is installed (scripts/setup)")
}

fn applets() -> Vec<String> {
    let listed = Command::new("busybox").arg("--list").output();
    let listed = listed.expect("busybox runs").stdout;
    String::from_utf8_lossy(&listed).lines().map(str::to_owned).collect()
}

/// The root file system of the base image.
pub fn rootfs() -> Archive {
    let passwd = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\n\
                  app:x:1000:1000::/home/app:/bin/sh\n";
    let group = "root:x:0:\ndaemon:x:1:\napp:x:1000:\nextra:x:2000:app\n";
    let mut archive = Archive::new()
        .dir("bin", 0o755, 0)
        .dir("dev", 0o755, 0)
        .dir("etc", 0o755, 0)
        .dir("home", 0o755, 0)
        .dir("home/app", 0o755, 1000)
        .dir("proc", 0o755, 0)
        .dir("root", 0o700, 0)
        .dir("sys", 0o755, 0)
        .dir("tmp", 0o1777, 0)
        .dir("var", 0o755, 0)
        .file("bin/busybox", 0o755, &busybox())
        .file("etc/passwd", 0o644, passwd.as_bytes())
        .file("etc/group", 0o644, group.as_bytes())
        .file("etc/marker", 0o644, b"base\n")
        .owned_file("home/app/notes", 0o640, 1000, b"notes\n");
    for applet in applets() {
        if applet != "busybox" {
            archive = archive.link(&format!("bin/{applet}"), "busybox");
        }
    }
    archive
}

/// Imports the base image unless the engine has it.
pub fn load_base(engine: &Engine) {
    let there = engine.request("GET", &format!("/images/{BASE}/json")).send();
    if there.status == 200 {
        return;
    }
    import(engine, BASE, &["CMD [\"sh\"]"], rootfs().finish());
}

/// Imports a root file system under a name, with Dockerfile lines as `changes`.
pub fn import(engine: &Engine, reference: &str, changes: &[&str], rootfs: Vec<u8>) {
    let (repo, tag) = reference.rsplit_once(':').expect("a reference with a tag");
    let mut target = format!("/images/create?fromSrc=-&repo={repo}&tag={tag}");
    for change in changes {
        let _ = write!(target, "&changes={}", encode(change));
    }
    let reply = engine.request("POST", &target).bytes("application/x-tar", rootfs).send();
    reply.expect_status(200);
    let lines = reply.json_lines();
    let error = lines.iter().find(|line| line.get("error").is_some());
    assert!(error.is_none(), "import of {reference}: {error:?}");
}

/// An image that tests may remove: a small layer of its own, so its id is its own too.
#[derive(Debug)]
pub struct Image<'e> {
    engine: &'e Engine,
    /// Its repository, without a tag.
    pub repo: String,
    /// `repo:latest`.
    pub name: String,
    /// `sha256:…`.
    pub id: String,
}

impl<'e> Image<'e> {
    /// Imports busybox with a marker file, under a name of its own.
    pub fn new(engine: &'e Engine, changes: &[&str]) -> Self {
        let repo = engine.name("img");
        let name = format!("{repo}:latest");
        let rootfs = rootfs().file("own", 0o644, repo.as_bytes()).finish();
        import(engine, &name, changes, rootfs);
        let id = engine.get(&format!("/images/{name}/json"))["Id"].clone();
        Self { engine, repo, name, id: id.as_str().expect("an image has an id").to_owned() }
    }
}

impl std::fmt::Display for Image<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        let target = format!("/images/{}?force=1", self.id);
        self.engine.request("DELETE", &target).send();
    }
}

/// A docker-archive of one layer, with a configuration of the caller's. `digest` is the layer's.
pub fn docker_archive(name: &str, mut config: Value, layer: &[u8], digest: &str) -> Vec<u8> {
    config["rootfs"] = json!({"type": "layers", "diff_ids": [digest]});
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    Archive::new()
        .file("config.json", 0o644, config.to_string().as_bytes())
        .file("layer.tar", 0o644, layer)
        .file("manifest.json", 0o644, manifest.to_string().as_bytes())
        .finish()
}

/// Percent-encodes a query value.
pub fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
