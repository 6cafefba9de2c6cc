//! The files of the repository, or of a tree that a test makes up, by path.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

/// Folders that hold nothing of the repository's own.
const NOT_OURS: [&str; 7] = ["target", ".git", "node_modules", "__pycache__", ".venv", "artifacts", "coverage"];

/// Files with their text; what is no text is decoded as far as it goes.
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// The repository, read once.
    pub(crate) fn repository() -> &'static Tree {
        static TREE: OnceLock<Tree> = OnceLock::new();
        TREE.get_or_init(|| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
            let mut files = BTreeMap::new();
            read(&root, &root, &mut files);
            Tree { files }
        })
    }

    /// A tree that a test makes up.
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        Tree { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    /// A file's text.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// All files, path and text.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Rust files below a folder, path and text.
    pub(crate) fn rust<'a>(&'a self, below: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files().filter(move |(path, _)| path.starts_with(below) && path.ends_with(".rs"))
    }
}

fn read(root: &Path, folder: &Path, into: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !NOT_OURS.iter().any(|folder| name == *folder) {
            read(root, &path, into);
        } else if kind.is_file() && path.extension().is_none_or(|extension| extension != "log") {
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let place = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            into.insert(place, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
