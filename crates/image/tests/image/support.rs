//! Archives, stores and programs for the tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use droste_image::{Image, Limits, MakeOptions, Progress, Store, import};
use tempfile::TempDir;

/// A store in a directory of its own. Fails without root, which nothing here works without.
pub(crate) fn store() -> (TempDir, Store) {
    assert!(rustix::process::geteuid().is_root(), "these tests need root: owners, devices, overlay mounts");
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path().join("images")).unwrap();
    (directory, store)
}

/// Runs a shell script in a directory and gives its output.
pub(crate) fn shell(directory: &Path, script: &str) -> String {
    let output = Command::new("sh").arg("-euc").arg(script).current_dir(directory).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{script}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// One entry of an archive made by hand.
pub(crate) struct Item {
    pub(crate) name: Vec<u8>,
    pub(crate) flag: u8,
    pub(crate) link: String,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u64,
    pub(crate) device: (u64, u64),
    /// Size in the header, where it is not that of the content.
    pub(crate) stated: Option<u64>,
}

impl Item {
    fn new(name: &str, flag: u8) -> Self {
        let (link, content) = (String::new(), Vec::new());
        Self { name: name.into(), flag, link, content, mode: 0o644, device: (0, 0), stated: None }
    }

    pub(crate) fn file(name: &str, content: &str) -> Self {
        Self { content: content.into(), ..Self::new(name, b'0') }
    }

    pub(crate) fn bytes(name: &str, content: &[u8]) -> Self {
        Self { content: content.to_vec(), ..Self::new(name, b'0') }
    }

    pub(crate) fn directory(name: &str) -> Self {
        Self { mode: 0o755, ..Self::new(name, b'5') }
    }

    pub(crate) fn symlink(name: &str, target: &str) -> Self {
        Self { link: target.to_owned(), ..Self::new(name, b'2') }
    }

    pub(crate) fn hard_link(name: &str, target: &str) -> Self {
        Self { link: target.to_owned(), ..Self::new(name, b'1') }
    }

    pub(crate) fn device(name: &str, major: u64, minor: u64) -> Self {
        Self { device: (major, minor), ..Self::new(name, b'3') }
    }

    /// A PAX header with these records before the next entry.
    pub(crate) fn pax(records: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut total = rest + 1;
            while total != rest + total.to_string().len() {
                total += 1;
            }
            content.extend_from_slice(format!("{total} {key}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        Self { content, ..Self::new("pax", b'x') }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut block = [0u8; 512];
        block[..self.name.len()].copy_from_slice(&self.name);
        let mut octal = |at: usize, width: usize, value: u64| {
            block[at..at + width].copy_from_slice(format!("{value:0w$o}\0", w = width - 1).as_bytes());
        };
        octal(100, 8, self.mode);
        octal(108, 8, 0);
        octal(116, 8, 0);
        octal(124, 12, self.stated.unwrap_or(self.content.len() as u64));
        octal(136, 12, 1_600_000_000);
        octal(329, 8, self.device.0);
        octal(337, 8, self.device.1);
        block[156] = self.flag;
        block[157..157 + self.link.len()].copy_from_slice(self.link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&block);
        out.extend_from_slice(&self.content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
}

/// An archive of these entries.
pub(crate) fn tar(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    items.iter().for_each(|item| item.write(&mut out));
    out.extend_from_slice(&[0; 1024]);
    out
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// An image with one layer.
pub(crate) fn image_of(store: &Store, archive: &[u8]) -> droste_image::Result<Image> {
    import(store, archive, None, Limits::default(), &MakeOptions::default())
}

/// The directory of an image's topmost layer.
pub(crate) fn top_layer(store: &Store, image: &Image) -> PathBuf {
    let scratch = TempDir::new().unwrap();
    store.prepare_root(Some(image), scratch.path()).unwrap().lower_paths().remove(0)
}

/// Nobody listens.
pub(crate) fn silent(_: Progress) {}

/// What is in the store's directory for unfinished work.
pub(crate) fn leftovers(directory: &Path) -> Vec<PathBuf> {
    let unfinished = directory.join("images/unfinished");
    std::fs::read_dir(unfinished).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The entries of an archive by name, with their content, in order, as Debian's `tar` lists them.
pub(crate) fn names(archive: &[u8]) -> Vec<String> {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("a.tar"), archive).unwrap();
    shell(directory.path(), "tar -tPf a.tar").lines().map(str::to_owned).collect()
}

/// The content of one entry.
pub(crate) fn content(archive: &[u8], name: &str) -> Vec<u8> {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("a.tar"), archive).unwrap();
    let output = Command::new("tar").args(["-xOPf", "a.tar", name]).current_dir(directory.path()).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Bytes that do not compress, always the same.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}
