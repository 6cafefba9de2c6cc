//! Cgroup paths: names below the root of every hierarchy, and where a container's cgroup goes.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::CgroupError;

/// The child cgroup in which the processes of a container that is a host are.
pub const SELF: &str = "self";
/// The child cgroup below which the containers on such a host are.
pub const NESTED: &str = "nested";

/// A cgroup's path below the root of each hierarchy, such as `/droste/ab12`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupPath(String);

impl CgroupPath {
    /// The root.
    pub fn root() -> CgroupPath {
        CgroupPath(String::new())
    }

    /// From text with or without a leading slash. `.`, `..` and control characters are refused.
    pub fn parse(text: &str) -> Result<CgroupPath, CgroupError> {
        let mut path = CgroupPath::root();
        for name in text.split('/').filter(|name| !name.is_empty()) {
            path = path.child(name)?;
        }
        Ok(path)
    }

    /// The cgroup of this name in it.
    pub fn child(&self, name: &str) -> Result<CgroupPath, CgroupError> {
        let sound = !matches!(name, "" | "." | "..") && !name.contains(|one: char| one == '/' || one.is_control());
        match sound {
            true => Ok(CgroupPath(format!("{}/{name}", self.0))),
            false => Err(CgroupError::Path(name.to_owned())),
        }
    }

    /// The cgroup that it is in; `None` for the root.
    pub fn parent(&self) -> Option<CgroupPath> {
        let (parent, _) = self.0.rsplit_once('/')?;
        Some(CgroupPath(parent.to_owned()))
    }

    /// With a leading slash; the root is `/`.
    pub fn as_str(&self) -> &str {
        if self.0.is_empty() { "/" } else { &self.0 }
    }

    /// Whether it is below `other`.
    pub fn is_below(&self, other: &CgroupPath) -> bool {
        self.0.strip_prefix(&other.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Its folder in a hierarchy that is mounted there.
    pub fn below(&self, mount_point: &Path) -> PathBuf {
        mount_point.join(self.0.trim_start_matches('/'))
    }

    /// Itself and each cgroup above it but the root, the uppermost first.
    pub(crate) fn chain(&self) -> Vec<CgroupPath> {
        let ends = self.0.match_indices('/').map(|(at, _)| at).skip(1).chain([self.0.len()]);
        ends.filter(|end| *end > 0).map(|end| CgroupPath(self.0[..end].to_owned())).collect()
    }

    /// Where the cgroup of a container goes, given the cgroup below which its host's containers are.
    ///
    /// `cgroup_parent` is the client's: absolute or not, it leads below the host's and nowhere else; a systemd slice
    /// (`a-b.slice`) is the plain path that systemd would give it.
    pub fn of_container(containers: &CgroupPath, cgroup_parent: &str, id: &str) -> Result<CgroupPath, CgroupError> {
        let mut path = containers.clone();
        for name in cgroup_parent.split('/').filter(|name| !name.is_empty()) {
            for part in slice(name).unwrap_or_else(|| vec![name.to_owned()]) {
                path = path.child(&part)?;
            }
        }
        path.child(id)
    }

    /// Where the processes of a container that is a host go.
    pub fn of_host_itself(&self) -> CgroupPath {
        CgroupPath(format!("{}/{SELF}", self.0))
    }

    /// Below which the containers on a container that is a host go.
    pub fn of_hosts_containers(&self) -> CgroupPath {
        CgroupPath(format!("{}/{NESTED}", self.0))
    }
}

/// `a-b.slice` is in `a.slice`; `-.slice` is the root.
fn slice(name: &str) -> Option<Vec<String>> {
    let stem = name.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(Vec::new());
    }
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    Some(ends.filter(|end| *end > 0).map(|end| format!("{}.slice", &stem[..end])).collect())
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl TryFrom<String> for CgroupPath {
    type Error = CgroupError;

    fn try_from(text: String) -> Result<CgroupPath, CgroupError> {
        CgroupPath::parse(&text)
    }
}

impl From<CgroupPath> for String {
    fn from(path: CgroupPath) -> String {
        path.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(parent: &str) -> String {
        let containers = CgroupPath::parse("droste/h/nested").unwrap();
        CgroupPath::of_container(&containers, parent, "c").unwrap().to_string()
    }

    #[test]
    fn containers_stay_below_their_host() {
        assert_eq!(place(""), "/droste/h/nested/c");
        assert_eq!(place("/foo/bar"), "/droste/h/nested/foo/bar/c");
        assert_eq!(place("foo"), "/droste/h/nested/foo/c");
        assert_eq!(place("a-b.slice"), "/droste/h/nested/a.slice/a-b.slice/c");
        assert_eq!(place("-.slice"), "/droste/h/nested/c");
        let containers = CgroupPath::parse("/droste").unwrap();
        assert!(CgroupPath::of_container(&containers, "../x", "c").is_err());
        assert!(CgroupPath::of_container(&containers, "a/../../x", "c").is_err());
    }

    #[test]
    fn chains_and_parents() {
        let path = CgroupPath::parse("/a/b/c").unwrap();
        let chain: Vec<_> = path.chain().iter().map(CgroupPath::to_string).collect();
        assert_eq!(chain, ["/a", "/a/b", "/a/b/c"]);
        assert_eq!(path.parent().unwrap().to_string(), "/a/b");
        assert_eq!(CgroupPath::parse("/a").unwrap().parent().unwrap(), CgroupPath::root());
        assert_eq!(CgroupPath::root().parent(), None);
        assert!(CgroupPath::root().chain().is_empty());
        assert!(path.is_below(&CgroupPath::parse("/a").unwrap()));
        assert!(!CgroupPath::parse("/ab").unwrap().is_below(&CgroupPath::parse("/a").unwrap()));
        assert_eq!(path.below(Path::new("/sys")), Path::new("/sys/a/b/c"));
    }
}
