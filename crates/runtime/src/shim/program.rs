//! The last part of a process's way to its program: streams, identity, privileges, look-up, `execve`.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use droste_runtime::lookup::{Identity, identify};
use droste_runtime::plan::{Capabilities, Failure, FailureKind, Process, Rlimit, WindowSize};
use droste_runtime::{sys, wire, words};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Uid, fchown, open};
use rustix::io::Errno;
use rustix::process::{fchdir, ioctl_tiocsctty, setsid, umask};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::report::{Reporter, Step, refusal};

const LAST_CAPABILITY: u32 = 63;
const START_FAILED: i32 = 255;

/// Where a process's standard streams come from.
pub(crate) enum Streams {
    /// Pipes: input (none is `/dev/null`), output, errors.
    Pipes(Option<OwnedFd>, OwnedFd, OwnedFd),
    /// A terminal of this size, made in the container.
    Terminal(WindowSize),
}

/// Gives the process its standard streams, in a session of its own. Gives the terminal's path, if it has one.
pub(crate) fn connect(streams: &Streams, reporter: &Reporter) -> Result<Option<String>, Failure> {
    setsid().step("setsid", String::new)?;
    match streams {
        Streams::Pipes(input, output, errors) => {
            let input = match input {
                Some(input) => input.try_clone().step("standard input", String::new)?,
                None => open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .step("open", || "/dev/null".to_owned())?,
            };
            take_streams(input.as_fd(), output.as_fd(), errors.as_fd()).step("standard streams", String::new)?;
            Ok(None)
        }
        Streams::Terminal(size) => open_terminal(*size, reporter).map(Some),
    }
}

fn open_terminal(size: WindowSize, reporter: &Reporter) -> Result<String, Failure> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = open("/dev/pts/ptmx", flags, Mode::empty()).step("open", || "/dev/pts/ptmx".to_owned())?;
    unlockpt(&master).step("unlock terminal", String::new)?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, peer).step("open terminal", String::new)?;
    set_size(master.as_fd(), size).step("set size of terminal", String::new)?;
    reporter.terminal(master.as_fd())?;
    ioctl_tiocsctty(&slave).step("take terminal", String::new)?;
    take_streams(slave.as_fd(), slave.as_fd(), slave.as_fd()).step("standard streams", String::new)?;
    let name = rustix::pty::ptsname(&master, Vec::new()).step("name terminal", String::new)?;
    Ok(name.to_string_lossy().into_owned())
}

/// Sets a terminal's size.
pub(crate) fn set_size(terminal: BorrowedFd<'_>, size: WindowSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

fn take_streams(input: BorrowedFd<'_>, output: BorrowedFd<'_>, errors: BorrowedFd<'_>) -> io::Result<()> {
    dup2_stdin(input)?;
    dup2_stdout(output)?;
    dup2_stderr(errors)?;
    Ok(())
}

/// Becomes the program: returns only when that failed.
pub(crate) fn become_program(process: &Process, init: Option<BorrowedFd<'_>>, reporter: &Reporter) -> Failure {
    match prepare(process, init) {
        Ok(ready) => ready.execute(reporter),
        Err(failure) => failure,
    }
}

struct Ready<'a> {
    program: Program<'a>,
    args: Vec<CString>,
    env: Vec<CString>,
}

enum Program<'a> {
    Path(CString),
    Init(BorrowedFd<'a>),
}

fn prepare<'a>(process: &Process, init: Option<BorrowedFd<'a>>) -> Result<Ready<'a>, Failure> {
    let identity = identify(&process.user, &process.groups)?;
    for limit in &process.rlimits {
        set_limit(limit)?;
    }
    own_streams(identity.uid);
    sys::process::new_session_keyring().step("make session keyring", String::new)?;
    if let Some(profile) = &process.apparmor {
        set_profile(profile).step("set AppArmor profile", || profile.clone())?;
    }
    if let Some(label) = &process.selinux {
        std::fs::write("/proc/thread-self/attr/exec", label).step("set SELinux label", || label.clone())?;
    }
    let env = environment(process, &identity);
    umask(Mode::from_raw_mode(process.umask));
    let sets = sets_for(&process.capabilities, identity.uid);
    change_identity(&identity, process.capabilities.bounding)?;
    let program = match init {
        Some(file) => Program::Init(file),
        None => Program::Path(look_up(&process.args, &env)?),
    };
    let mut args = c_strings(&process.args)?;
    if init.is_some() {
        args.splice(0..0, [wire::INIT_NAME, "--"].map(c_string));
    }
    let ready = Ready { program, args, env: c_strings(&env)? };
    sys::process::close_on_exec_from(3).step("close descriptors", String::new)?;
    // Without no_new_privs only a process with CAP_SYS_ADMIN may filter itself: it has to happen before it is dropped.
    if !process.no_new_privs {
        install_filters(process)?;
    }
    drop_capabilities(&process.capabilities, sets)?;
    if process.no_new_privs {
        set_no_new_privs(true).step("set no_new_privs", String::new)?;
        install_filters(process)?;
    }
    Ok(ready)
}

impl Ready<'_> {
    /// From here on Docker counts the process as started: it tells its own standard error what went wrong.
    fn execute(self, reporter: &Reporter) -> Failure {
        let args: Vec<&CStr> = self.args.iter().map(CString::as_c_str).collect();
        let env: Vec<&CStr> = self.env.iter().map(CString::as_c_str).collect();
        sys::signal::restore_defaults();
        let result = match &self.program {
            Program::Path(path) => sys::process::execute(path, &args, &env),
            Program::Init(file) => sys::process::execute_file(*file, &args, &env),
        };
        let _ = reporter;
        if let (Program::Path(path), Err(error)) = (&self.program, result) {
            let text = format!("exec {}: {}\n", path.to_string_lossy(), words(&error));
            let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
        }
        std::process::exit(START_FAILED)
    }
}

/// Enters the working directory, made if missing and allowed to. A magic link is none: it could lead to what this
/// process still holds open.
pub(crate) fn enter_directory(cwd: &str, make_in: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    match (change_directory(cwd), make_in) {
        (Ok(()), _) => Ok(()),
        (Err(Errno::NOENT), Some(root)) => {
            let directory = super::furnish::ensure_directory(root, cwd);
            directory.and_then(|directory| Ok(fchdir(directory)?)).map_err(|error| bad_directory(cwd, &error))
        }
        (Err(Errno::NOTDIR), Some(_)) => {
            let message = format!("Cannot mkdir: {cwd} is not a directory");
            Err(refusal("enter working directory", libc::ENOTDIR, FailureKind::Other, message))
        }
        (Err(error), _) => Err(bad_directory(cwd, &error.into())),
    }
}

fn change_directory(cwd: &str) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = sys::open::open_at(CWD, cwd, flags, ResolveFlags::NO_MAGICLINKS)?;
    fchdir(directory)
}

fn bad_directory(cwd: &str, error: &io::Error) -> Failure {
    let kind = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => FailureKind::NotFound,
        Some(libc::EACCES) => FailureKind::NotExecutable,
        _ => FailureKind::Other,
    };
    let message = format!("chdir to cwd (\"{cwd}\") set in config.json failed: {}", words(error));
    refusal("enter working directory", error.raw_os_error().unwrap_or(0), kind, message)
}

fn set_limit(limit: &Rlimit) -> Result<(), Failure> {
    let value = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: `value` lives for the call and is only read.
    let result = unsafe { libc::setrlimit(limit.resource, &raw const value) };
    if result == 0 || limit.best_effort {
        return Ok(());
    }
    Err(io::Error::last_os_error()).step("set resource limit", || limit.resource.to_string())
}

/// A user other than root must be able to open `/dev/stdout` again.
fn own_streams(uid: u32) {
    if uid == 0 {
        return;
    }
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let shared = rustix::fs::fstat(stream).is_ok_and(|stat| stat.st_rdev == rustix::fs::makedev(1, 3));
        if !shared {
            // As in runc, a stream that can't be given away stays as it is.
            let _ = fchown(stream, Some(Uid::from_raw(uid)), None);
        }
    }
}

fn set_profile(profile: &str) -> io::Result<()> {
    let value = format!("exec {profile}");
    std::fs::write("/proc/thread-self/attr/apparmor/exec", &value)
        .or_else(|_| std::fs::write("/proc/thread-self/attr/exec", &value))
}

fn environment(process: &Process, identity: &Identity) -> Vec<String> {
    let mut env = process.env.clone();
    if !env.iter().any(|pair| pair.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home));
    }
    env
}

fn sets_for(capabilities: &Capabilities, uid: u32) -> CapabilitySets {
    let kept = uid == 0 || capabilities.keep_for_users;
    let (effective, permitted) = if kept { (capabilities.effective, capabilities.permitted) } else { (0, 0) };
    CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(capabilities.inheritable),
    }
}

fn change_identity(identity: &Identity, bounding: u64) -> Result<(), Failure> {
    for bit in 0..=LAST_CAPABILITY {
        if bounding & 1 << bit == 0 {
            match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
                Ok(()) => {}
                // The kernel knows fewer capabilities than we count.
                Err(Errno::INVAL) => break,
                other => return other.step("drop from bounding set", || bit.to_string()),
            }
        }
    }
    let groups: Vec<_> = identity.groups.iter().map(|gid| rustix::process::Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), rustix::process::Gid::from_raw(identity.gid));
    set_keep_capabilities(true).step("keep capabilities", String::new)?;
    set_thread_groups(&groups).step("set groups", || format!("{:?}", identity.groups))?;
    set_thread_res_gid(gid, gid, gid).step("set group", || identity.gid.to_string())?;
    set_thread_res_uid(uid, uid, uid).step("set user", || identity.uid.to_string())
}

fn install_filters(process: &Process) -> Result<(), Failure> {
    if process.seccomp.is_empty() {
        return Ok(());
    }
    if !process.no_new_privs {
        raise_all().step("raise capabilities", String::new)?;
    }
    for program in &process.seccomp {
        sys::seccomp::install(&program.instructions, program.flags).step("install seccomp filter", String::new)?;
    }
    Ok(())
}

/// Changing the user cleared the effective set; the permitted one was kept.
fn raise_all() -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective = sets.permitted;
    Ok(set_capabilities(None, sets)?)
}

fn drop_capabilities(capabilities: &Capabilities, sets: CapabilitySets) -> Result<(), Failure> {
    // Inheritable bits beyond the permitted ones need CAP_SETPCAP in effect.
    raise_all().step("raise capabilities", String::new)?;
    set_capabilities(None, sets).step("set capabilities", || format!("{:#x}", capabilities.permitted))?;
    for bit in 0..=LAST_CAPABILITY {
        if capabilities.ambient & sets.permitted.bits() & 1 << bit != 0 {
            configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << bit), true)
                .step("raise ambient capability", || bit.to_string())?;
        }
    }
    Ok(())
}

/// Finds the program as Go's `exec.LookPath` does, and says what runc says when there is none.
fn look_up(args: &[String], env: &[String]) -> Result<CString, Failure> {
    let name = args.first().map_or("", String::as_str);
    if name.contains('/') {
        return executable(name).map(|()| c_string(name)).map_err(|error| not_executable(name, &error));
    }
    let path = env.iter().rev().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or("");
    path.split(':')
        .filter(|_| !name.is_empty() && !path.is_empty())
        .map(|directory| if directory.is_empty() { format!("./{name}") } else { format!("{directory}/{name}") })
        .find(|candidate| executable(candidate).is_ok())
        .map(|found| c_string(&found))
        .ok_or_else(|| {
            let message = format!("exec: \"{name}\": executable file not found in $PATH");
            refusal("look up program", libc::ENOENT, FailureKind::NotFound, message)
        })
}

fn executable(path: &str) -> io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
        return Err(Errno::ISDIR.into());
    }
    // Root may "access" a file without any x bit only by reading; execve would refuse.
    if stat.st_mode & 0o111 == 0 {
        return Err(Errno::ACCESS.into());
    }
    let flags = rustix::fs::AtFlags::EACCESS;
    Ok(rustix::fs::accessat(CWD, path, rustix::fs::Access::EXEC_OK, flags)?)
}

fn not_executable(name: &str, error: &io::Error) -> Failure {
    let errno = error.raw_os_error().unwrap_or(0);
    let (kind, text) = match errno {
        libc::EISDIR => (FailureKind::NotExecutable, "is a directory: permission denied".to_owned()),
        libc::EACCES => (FailureKind::NotExecutable, "permission denied".to_owned()),
        libc::ENOENT => (FailureKind::NotFound, format!("stat {name}: no such file or directory")),
        _ => (FailureKind::Other, format!("stat {name}: {}", words(error))),
    };
    refusal("look up program", errno, kind, format!("exec: \"{name}\": {text}"))
}

fn c_strings(strings: &[String]) -> Result<Vec<CString>, Failure> {
    let convert = |string: &String| CString::new(string.as_str()).map_err(io::Error::from);
    strings.iter().map(convert).collect::<io::Result<_>>().step("arguments", String::new)
}

/// Strings checked before have no NUL inside.
fn c_string(string: &str) -> CString {
    CString::new(string).unwrap_or_default()
}
