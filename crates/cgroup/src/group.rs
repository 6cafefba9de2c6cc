//! Cgroups as the engine makes and ends them: one path in every hierarchy at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::file;
use crate::{CgroupError, CgroupPath, Layout, Limits};

/// How long a cgroup may take to freeze, to die or to become removable.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(2);
/// The leaf into which processes are moved out of the way of controllers, when the daemon's own cgroup is the root.
const ASIDE: &str = "droste-init";

/// The engine's part of the hierarchies: everything below one path.
#[derive(Clone, Debug)]
pub struct Cgroups {
    layout: Arc<Layout>,
    parent: CgroupPath,
}

impl Cgroups {
    /// Makes `parent`, such as `/droste`, and holds it.
    pub fn open(layout: Layout, parent: &str) -> Result<Cgroups, CgroupError> {
        let cgroups = Cgroups { layout: Arc::new(layout), parent: CgroupPath::parse(parent)? };
        cgroups.create(&cgroups.parent)?;
        Ok(cgroups)
    }

    /// The hierarchies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Below which everything is.
    pub fn parent(&self) -> &CgroupPath {
        &self.parent
    }

    /// A cgroup, whether it exists or not.
    pub fn get(&self, path: &CgroupPath) -> Cgroup {
        Cgroup { layout: Arc::clone(&self.layout), path: path.clone() }
    }

    /// Makes a cgroup and those above it. One that exists is taken as it is.
    pub fn create(&self, path: &CgroupPath) -> Result<Cgroup, CgroupError> {
        for hierarchy in &self.layout.hierarchies {
            for each in path.chain() {
                let dir = each.below(&hierarchy.mount_point);
                make(&dir)?;
                // One that is there may be somebody's who has just made it, or was ended before it had what follows.
                if hierarchy.controllers.iter().any(|name| name == "cpuset") {
                    inherit_cpuset(&dir)?;
                }
            }
        }
        if let Some(root) = &self.layout.unified {
            self.create_unified(root, path)?;
        }
        Ok(self.get(path))
    }

    /// Makes the v2 cgroups, with every controller that the one above can pass on.
    fn create_unified(&self, root: &Path, path: &CgroupPath) -> Result<(), CgroupError> {
        let mut above = root.to_owned();
        for each in path.chain() {
            self.pass_on_controllers(&above)?;
            above = each.below(root);
            make(&above)?;
        }
        Ok(())
    }

    fn pass_on_controllers(&self, dir: &Path) -> Result<(), CgroupError> {
        if self.layout.unified_controllers.is_empty() {
            return Ok(());
        }
        let enabled = file::read(&dir.join("cgroup.subtree_control"))?;
        let here = file::read(&dir.join("cgroup.controllers"))?;
        let missing: Vec<&str> =
            here.split_whitespace().filter(|name| !enabled.split_whitespace().any(|on| on == *name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let control = dir.join("cgroup.subtree_control");
        let all: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
        match file::write(&control, &all.join(" ")) {
            Ok(()) => return Ok(()),
            Err(CgroupError::Write { source, .. }) if file::is(&source, Errno::BUSY) => move_aside(dir)?,
            Err(_) => {}
        }
        // One that can't be passed on (cpu with real-time processes about) must not keep the others back. Whoever
        // needs it hears of it when the limit's file is missing.
        for one in &all {
            match file::write(&control, one) {
                Err(CgroupError::Write { path, value, source }) if file::is(&source, Errno::BUSY) => {
                    return Err(CgroupError::Write { path, value, source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// One path in every hierarchy.
#[derive(Clone, Debug)]
pub struct Cgroup {
    pub(crate) layout: Arc<Layout>,
    pub(crate) path: CgroupPath,
}

impl Cgroup {
    /// Its path.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// The cgroup below it.
    pub fn child(&self, name: &str) -> Result<Cgroup, CgroupError> {
        Ok(Cgroup { layout: Arc::clone(&self.layout), path: self.path.child(name)? })
    }

    /// Its folder in the v2 tree, for `CLONE_INTO_CGROUP` and for waiting on `cgroup.events`.
    pub fn unified_dir(&self) -> Option<PathBuf> {
        self.layout.unified.as_ref().map(|root| self.path.below(root))
    }

    /// The files to which a process's id (or 0 for the writer) is written to place it here: one in each hierarchy.
    pub fn procs_files(&self) -> Vec<PathBuf> {
        self.dirs().map(|dir| dir.join("cgroup.procs")).collect()
    }

    /// Whether it exists in every hierarchy.
    pub fn exists(&self) -> bool {
        self.dirs().all(|dir| dir.is_dir())
    }

    /// Sets limits; at any time, also while processes are in it.
    pub fn limit(&self, limits: &Limits) -> Result<(), CgroupError> {
        crate::apply::apply(self, limits)
    }

    /// The ids of the processes in it and below it.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = Vec::new();
        if let Some(dir) = self.process_dir() {
            collect_pids(&dir, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Whether a process is in it or below it.
    pub fn is_populated(&self) -> Result<bool, CgroupError> {
        match self.unified_dir() {
            Some(dir) => match file::read_if_there(&dir.join("cgroup.events"))? {
                Some(events) => Ok(file::keyed(&events, "populated") == Some(1)),
                None => Ok(false),
            },
            None => Ok(!self.pids()?.is_empty()),
        }
    }

    /// Stops every process in it and below it from running, and returns when they stand still.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.set_frozen(true)
    }

    /// Lets them run again.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen(false)
    }

    /// Whether they stand still.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        match self.freezer()? {
            Freezer::Unified(dir) => {
                let events = file::read(&dir.join("cgroup.events"))?;
                Ok(file::keyed(&events, "frozen") == Some(1))
            }
            Freezer::Legacy(state) => Ok(file::read(&state)?.trim() == "FROZEN"),
        }
    }

    /// Ends every process in it and below it, frozen or not, and returns when none is left.
    pub fn kill(&self) -> Result<(), CgroupError> {
        let Some(dir) = self.process_dir().filter(|dir| dir.is_dir()) else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.kill_once()?;
            if !self.is_populated()? {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(CgroupError::NotKilled(dir));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Sends SIGKILL to every process in it and below it, without waiting for their end.
    pub fn kill_once(&self) -> Result<(), CgroupError> {
        if let Some(dir) = self.unified_dir() {
            match file::write(&dir.join("cgroup.kill"), "1") {
                Ok(()) => return Ok(()),
                Err(CgroupError::Write { source, .. }) if file::is_gone(&source) => {}
                Err(error) => return Err(error),
            }
        }
        self.kill_each()
    }

    /// Removes it and everything below it, in every hierarchy. Processes must have ended; one that is just ending is
    /// waited for. What is not there counts as removed.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + PATIENCE;
        let results: Vec<_> = self.dirs().map(|dir| remove_tree(&dir, deadline)).collect();
        results.into_iter().collect()
    }

    /// Its folder in the hierarchy that has a controller, v1 or v2.
    pub(crate) fn home(&self, controller: &str) -> Option<Home> {
        if let Some(hierarchy) = self.layout.hierarchy(controller) {
            return Some(Home::Legacy(self.path.below(&hierarchy.mount_point)));
        }
        let root = self.layout.unified.as_ref().filter(|_| self.layout.is_unified(controller))?;
        Some(Home::Unified(self.path.below(root)))
    }

    /// The hierarchy by which processes are counted.
    pub(crate) fn process_dir(&self) -> Option<PathBuf> {
        let legacy = || {
            let order = ["freezer", "pids", "devices", "memory"];
            let found = order.iter().find_map(|name| self.layout.hierarchy(name));
            found.or(self.layout.hierarchies.first()).map(|one| self.path.below(&one.mount_point))
        };
        self.unified_dir().or_else(legacy)
    }

    fn dirs(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let legacy = self.layout.hierarchies.iter().map(|one| self.path.below(&one.mount_point));
        legacy.chain(self.unified_dir())
    }

    /// Whether it was frozen itself, and not only a cgroup above it.
    pub fn is_frozen_itself(&self) -> Result<bool, CgroupError> {
        match self.freezer()? {
            Freezer::Unified(dir) => Ok(file::read(&dir.join("cgroup.freeze"))?.trim() == "1"),
            Freezer::Legacy(state) => Ok(file::read(&state.with_file_name("freezer.self_freezing"))?.trim() == "1"),
        }
    }

    fn freezer(&self) -> Result<Freezer, CgroupError> {
        if let Some(dir) = self.unified_dir().filter(|dir| dir.join("cgroup.freeze").exists()) {
            return Ok(Freezer::Unified(dir));
        }
        match self.home("freezer") {
            Some(Home::Legacy(dir)) => Ok(Freezer::Legacy(dir.join("freezer.state"))),
            _ => Err(CgroupError::NoController { controller: "freezer", what: "containers can't be paused" }),
        }
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), CgroupError> {
        let freezer = self.freezer()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match &freezer {
                Freezer::Unified(dir) => {
                    file::write(&dir.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
                }
                Freezer::Legacy(state) => file::write(state, if frozen { "FROZEN" } else { "THAWED" })?,
            }
            // Below one that is frozen nothing goes on, whatever is asked for here.
            let done = if frozen { self.is_frozen()? } else { !self.is_frozen_itself()? };
            if done {
                return Ok(());
            }
            if Instant::now() > deadline {
                return self.give_up_freezing(&freezer);
            }
            thread::sleep(PAUSE);
        }
    }

    /// Half-frozen is worse than running.
    fn give_up_freezing(&self, freezer: &Freezer) -> Result<(), CgroupError> {
        match freezer {
            Freezer::Unified(dir) => {
                file::write(&dir.join("cgroup.freeze"), "0")?;
                Err(CgroupError::NotFrozen(dir.clone()))
            }
            Freezer::Legacy(state) => {
                file::write(state, "THAWED")?;
                Err(CgroupError::NotFrozen(state.clone()))
            }
        }
    }

    /// Without `cgroup.kill`: frozen, so that none can fork meanwhile, where there is a freezer.
    fn kill_each(&self) -> Result<(), CgroupError> {
        let frozen = self.freeze().is_ok();
        let mut first_error = None;
        for pid in self.pids()? {
            let Some(known) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
            match kill_process(known, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => {
                    first_error.get_or_insert(CgroupError::Signal { pid, source: error.into() });
                }
            }
        }
        if frozen {
            self.thaw()?;
        }
        first_error.map_or(Ok(()), Err)
    }
}

/// Where a controller is.
pub(crate) enum Home {
    /// In a v1 hierarchy.
    Legacy(PathBuf),
    /// In the v2 tree.
    Unified(PathBuf),
}

enum Freezer {
    Unified(PathBuf),
    Legacy(PathBuf),
}

/// Makes a folder, unless it is there.
fn make(dir: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(CgroupError::Create { path: dir.to_owned(), source }),
    }
}

/// A new v1 cpuset has no CPU and no memory, and takes no process until it has.
fn inherit_cpuset(dir: &Path) -> Result<(), CgroupError> {
    let Some(above) = dir.parent() else { return Ok(()) };
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if file::read(&dir.join(name))?.trim().is_empty() {
            file::write(&dir.join(name), file::read(&above.join(name))?.trim())?;
        }
    }
    Ok(())
}

/// Moves the processes of a cgroup into a leaf of it, because a v2 cgroup can't have both processes and children with
/// controllers. That happens where the daemon itself runs in a container, whose cgroup is then the root that it sees.
fn move_aside(dir: &Path) -> Result<(), CgroupError> {
    let leaf = dir.join(ASIDE);
    make(&leaf)?;
    for _ in 0..10 {
        let pids = file::read(&dir.join("cgroup.procs"))?;
        if pids.is_empty() {
            break;
        }
        for pid in pids.lines() {
            match file::write(&leaf.join("cgroup.procs"), pid) {
                Err(CgroupError::Write { source, .. }) if file::is(&source, Errno::SRCH) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn collect_pids(dir: &Path, pids: &mut Vec<u32>) -> Result<(), CgroupError> {
    let text = file::read_if_there(&dir.join("cgroup.procs"))?;
    pids.extend(text.iter().flat_map(|text| text.lines()).filter_map(|line| line.parse::<u32>().ok()));
    children(dir)?.iter().try_for_each(|child| collect_pids(child, pids))
}

/// The cgroups in a cgroup.
pub(crate) fn children(dir: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let failed = |source| CgroupError::Read { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if file::is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        match entry.and_then(|entry| Ok((entry.file_type()?.is_dir(), entry.path()))) {
            Ok((true, path)) => found.push(path),
            Ok((false, _)) => {}
            Err(error) if file::is_gone(&error) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(found)
}

fn remove_tree(dir: &Path, deadline: Instant) -> Result<(), CgroupError> {
    loop {
        let error = match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if file::is_gone(&error) => return Ok(()),
            Err(error) => error,
        };
        if !file::is(&error, Errno::BUSY) || Instant::now() > deadline {
            return Err(CgroupError::Remove { path: dir.to_owned(), source: error });
        }
        let below = children(dir)?;
        if below.is_empty() {
            thread::sleep(PAUSE);
        }
        below.iter().try_for_each(|child| remove_tree(child, deadline))?;
    }
}
