//! Which cgroup hierarchies the machine has, from `/proc/self/mountinfo`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::CgroupError;

/// Which kind of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// Every controller in a hierarchy of its own.
    V1,
    /// One hierarchy.
    V2,
    /// Both: controllers in v1, processes also in v2.
    Hybrid,
}

/// A mounted v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Its controllers: `cpu` and `cpuacct` may share one.
    pub controllers: Vec<String>,
    /// Its name, if it has one (`systemd`).
    pub name: Option<String>,
}

impl Hierarchy {
    /// Mount options that give the same hierarchy again.
    pub fn options(&self) -> String {
        let named = self.name.iter().map(|name| format!("name={name}"));
        let none = (self.controllers.is_empty()).then(|| "none".to_owned());
        let all: Vec<String> = none.into_iter().chain(self.controllers.iter().cloned()).chain(named).collect();
        all.join(",")
    }
}

/// The hierarchies of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Which kind.
    pub version: Version,
    /// Where the v2 tree is mounted.
    pub unified: Option<PathBuf>,
    /// The v2 tree's controllers.
    pub unified_controllers: Vec<String>,
    /// The v1 hierarchies.
    pub hierarchies: Vec<Hierarchy>,
}

/// Names of v1 controllers, to tell them from a mount's other options.
const CONTROLLERS: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "debug",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

impl Layout {
    /// The layout of the machine that this process runs on.
    pub fn detect() -> Result<Layout, CgroupError> {
        let mut layout = Layout::parse(&crate::file::read(Path::new("/proc/self/mountinfo"))?)?;
        if let Some(root) = &layout.unified {
            let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            layout.unified_controllers = controllers.split_whitespace().map(str::to_owned).collect();
        }
        Ok(layout)
    }

    /// From the text of a mountinfo file; the v2 tree's controllers are not in it.
    pub fn parse(mountinfo: &str) -> Result<Layout, CgroupError> {
        let mut layout =
            Layout { version: Version::V2, unified: None, unified_controllers: Vec::new(), hierarchies: Vec::new() };
        for line in mountinfo.lines() {
            layout.mount(line);
        }
        layout.version = match (&layout.unified, layout.hierarchies.as_slice()) {
            (None, []) => return Err(CgroupError::NotMounted),
            (Some(_), []) => Version::V2,
            (None, _) => Version::V1,
            (Some(_), _) => Version::Hybrid,
        };
        Ok(layout)
    }

    /// The v1 hierarchy that has a controller.
    pub fn hierarchy(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|one| one.controllers.iter().any(|name| name == controller))
    }

    /// Whether a controller is in the v2 tree.
    pub fn is_unified(&self, controller: &str) -> bool {
        self.unified_controllers.iter().any(|name| name == controller)
    }

    /// Takes in one line. The first mount of a hierarchy counts.
    fn mount(&mut self, line: &str) {
        let Some((own, of_super_block)) = line.split_once(" - ") else { return };
        let mut kind = of_super_block.split(' ');
        let Some(mount_point) = own.split(' ').nth(4).map(unescape) else { return };
        match kind.next() {
            Some("cgroup2") if self.unified.is_none() => self.unified = Some(mount_point),
            Some("cgroup") => self.legacy(mount_point, kind.nth(1).unwrap_or_default()),
            _ => {}
        }
    }

    fn legacy(&mut self, mount_point: PathBuf, options: &str) {
        let controllers: Vec<String> =
            options.split(',').filter(|word| CONTROLLERS.contains(word)).map(str::to_owned).collect();
        let name = options.split(',').find_map(|word| word.strip_prefix("name=")).map(str::to_owned);
        let known = self.hierarchies.iter().any(|one| one.controllers == controllers && one.name == name);
        if !known && (!controllers.is_empty() || name.is_some()) {
            self.hierarchies.push(Hierarchy { mount_point, controllers, name });
        }
    }
}

/// Undoes the octal escapes of blanks and backslashes.
fn unescape(text: &str) -> PathBuf {
    let plain = text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    PathBuf::from(plain.replace("\\134", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        99 31 0:32 / /elsewhere rw,relatime - cgroup cgroup rw,memory\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn hybrid() {
        let layout = Layout::parse(HYBRID).unwrap();
        assert_eq!(layout.version, Version::Hybrid);
        assert_eq!(layout.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(layout.hierarchies.len(), 3);
        let cpu = layout.hierarchy("cpuacct").unwrap();
        assert_eq!(cpu.mount_point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(cpu.options(), "cpu,cpuacct");
        assert_eq!(layout.hierarchy("memory").unwrap().mount_point, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(layout.hierarchies[2].options(), "none,name=systemd");
        assert!(layout.hierarchy("pids").is_none());
    }

    #[test]
    fn pure() {
        let line =
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(Layout::parse(line).unwrap().version, Version::V2);
        let v1: String =
            HYBRID.lines().filter(|line| !line.contains("cgroup2")).fold(String::new(), |all, line| all + line + "\n");
        assert_eq!(Layout::parse(&v1).unwrap().version, Version::V1);
        assert!(matches!(Layout::parse("1 2 0:3 / / rw - ext4 x rw\n"), Err(CgroupError::NotMounted)));
    }
}
