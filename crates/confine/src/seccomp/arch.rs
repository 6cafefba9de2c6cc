//! Architectures as the kernel's seccomp sees them, and the numbers that system calls have on each.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use syscalls::{aarch64, arm, x86, x86_64};

/// An instruction set and calling convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 32-bit pointers on 64-bit x86.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
}

/// The bit in a system call's number by which the kernel tells x32 from x86-64.
pub(super) const X32_BIT: u32 = 0x4000_0000;

type Table = HashMap<&'static str, u32>;

impl Arch {
    /// The architecture that this program was built for, if it is one of ours.
    pub fn native() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Arch::X86_64),
            "aarch64" => Some(Arch::Aarch64),
            _ => None,
        }
    }

    /// From a profile's name, `SCMP_ARCH_*`.
    pub fn from_profile_name(name: &str) -> Option<Arch> {
        match name {
            "SCMP_ARCH_X86_64" => Some(Arch::X86_64),
            "SCMP_ARCH_X86" => Some(Arch::X86),
            "SCMP_ARCH_X32" => Some(Arch::X32),
            "SCMP_ARCH_AARCH64" => Some(Arch::Aarch64),
            "SCMP_ARCH_ARM" => Some(Arch::Arm),
            _ => None,
        }
    }

    /// A profile's name for it.
    pub fn profile_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::X86 => "SCMP_ARCH_X86",
            Arch::X32 => "SCMP_ARCH_X32",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
            Arch::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// The name that a profile's `includes` and `excludes` use.
    pub fn filter_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::X86 => "x86",
            Arch::X32 => "x32",
            Arch::Aarch64 => "arm64",
            Arch::Arm => "arm",
        }
    }

    /// `AUDIT_ARCH_*`.
    pub fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments are 32 bits wide.
    pub fn is_narrow(self) -> bool {
        matches!(self, Arch::X86 | Arch::X32 | Arch::Arm)
    }

    /// The number of a system call on it, with x32's bit.
    pub fn number(self, name: &str) -> Option<u32> {
        self.table().get(name).copied()
    }

    /// Where 32-bit x86 also takes the call: the multiplexer's number and its first argument.
    pub(super) fn multiplexed(self, name: &str) -> Option<(u32, u64)> {
        if self != Arch::X86 {
            return None;
        }
        let at = |list: &[(&str, u64)]| list.iter().find(|(known, _)| *known == name).map(|(_, call)| *call);
        at(&SOCKETCALLS)
            .and_then(|call| Some((self.number("socketcall")?, call)))
            .or_else(|| at(&IPCS).and_then(|call| Some((self.number("ipc")?, call))))
    }

    fn table(self) -> &'static Table {
        static TABLES: [OnceLock<Table>; 5] = [const { OnceLock::new() }; 5];
        let at = match self {
            Arch::X86_64 => 0,
            Arch::X86 => 1,
            Arch::X32 => 2,
            Arch::Aarch64 => 3,
            Arch::Arm => 4,
        };
        TABLES[at].get_or_init(|| self.build())
    }

    fn build(self) -> Table {
        let number = |id: i32| u32::try_from(id).ok();
        match self {
            Arch::X86_64 => x86_64::Sysno::iter().filter_map(|one| Some((one.name(), number(one.id())?))).collect(),
            Arch::X86 => x86::Sysno::iter().filter_map(|one| Some((one.name(), number(one.id())?))).collect(),
            Arch::Aarch64 => aarch64::Sysno::iter().filter_map(|one| Some((one.name(), number(one.id())?))).collect(),
            Arch::Arm => arm::Sysno::iter().filter_map(|one| Some((one.name(), number(one.id())?))).collect(),
            Arch::X32 => x32(),
        }
    }
}

/// x32 shares most numbers with x86-64, lacks the calls that were obsolete when it came, and has its own for those
/// whose arguments contain pointers.
fn x32() -> Table {
    let shared = x86_64::Sysno::iter().map(|one| (one.name(), one.id().unsigned_abs()));
    let mut table: Table = shared.filter(|(name, _)| !NOT_ON_X32.contains(name)).collect();
    table.extend((512..).zip(X32_OWN).map(|(number, name)| (name, number)));
    table.values_mut().for_each(|number| *number |= X32_BIT);
    table
}

const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

const NOT_ON_X32: [&str; 11] = [
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
];

const SOCKETCALLS: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

const IPCS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];
