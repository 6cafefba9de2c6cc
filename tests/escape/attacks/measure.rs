//! What a running container has, read from the kernel and not from any answer.

use std::collections::BTreeMap;

use droste_test_support::{Container, Engine, json};

/// What a process may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Capability sets by their names in `/proc`.
    pub capabilities: BTreeMap<String, u64>,
    /// `no_new_privs`.
    pub no_new_privileges: u64,
    /// 0 without a filter, 2 with.
    pub seccomp: u64,
    /// How many filters.
    pub filters: u64,
    /// The least that the OOM killer thinks of it.
    pub oom: i64,
    /// Hard limits by name; none is the largest.
    pub limits: BTreeMap<String, u64>,
    /// The label of the security module.
    pub label: String,
}

impl Rights {
    /// From the texts of a process's files.
    fn parse(status: &str, limits: &str, oom: &str, label: &str) -> Self {
        let mut all = Self { oom: oom.trim().parse().unwrap(), label: label.trim().to_owned(), ..Self::default() };
        for (key, value) in status.lines().filter_map(|line| line.split_once(":\t")) {
            match key {
                "CapInh" | "CapPrm" | "CapEff" | "CapBnd" | "CapAmb" => {
                    all.capabilities.insert(key.to_owned(), u64::from_str_radix(value, 16).unwrap());
                }
                "NoNewPrivs" => all.no_new_privileges = value.parse().unwrap(),
                "Seccomp" => all.seccomp = value.parse().unwrap(),
                "Seccomp_filters" => all.filters = value.parse().unwrap(),
                _ => {}
            }
        }
        for line in limits.lines().skip(1) {
            let (name, values) = line.split_at(26);
            let hard = values.split_whitespace().nth(1).unwrap();
            all.limits.insert(name.trim().to_owned(), hard.parse().unwrap_or(u64::MAX));
        }
        all
    }

    /// Those of a running container's first process.
    pub(crate) fn of(h: &Engine, c: &Container) -> Self {
        let pid = c.inspect()["State"]["Pid"].clone();
        let read = |file: &str| std::fs::read_to_string(h.root_path(&format!("/proc/{pid}/{file}"))).unwrap_or_default();
        Self::parse(&read("status"), &read("limits"), &read("oom_score_adj"), &read("attr/current"))
    }

    /// Those of a process that exec starts.
    pub(crate) fn of_exec(c: &Container, privileged: bool) -> Self {
        let script = "cat /proc/self/status; echo ----; cat /proc/self/limits; echo ----; cat /proc/self/oom_score_adj; echo ----; cat /proc/self/attr/current 2>/dev/null; true";
        let outcome = c.exec_with(json!({"Cmd": ["sh", "-c", script], "Privileged": privileged}));
        assert_eq!(outcome.code, 0, "{outcome:?}");
        let parts: Vec<&str> = outcome.out.split("----\n").collect();
        Self::parse(parts[0], parts[1], parts[2], parts[3])
    }

    /// What exceeds a host's rights, in words.
    pub(crate) fn beyond(&self, host: &Self) -> Vec<String> {
        let mut all = Vec::new();
        let bound = host.capabilities["CapBnd"];
        let beyond = self.capabilities.iter().filter(|(_, set)| **set & !bound != 0);
        all.extend(beyond.map(|(name, set)| format!("{name} {set:x}")));
        if self.no_new_privileges < host.no_new_privileges || self.seccomp < host.seccomp || self.filters < host.filters {
            all.push(format!("no_new_privs {}, seccomp {}, {} filters", self.no_new_privileges, self.seccomp, self.filters));
        }
        if bound & RAISES_LIMITS == 0 {
            all.extend(self.limits.iter().filter(|(name, hard)| **hard > host.limits[*name]).map(|limit| format!("{limit:?}")));
            if self.oom < host.oom {
                all.push(format!("oom score {}", self.oom));
            }
        }
        if host.label.starts_with(|first: char| first.is_ascii_alphabetic()) && !host.label.starts_with("unconfined") && self.label != host.label {
            all.push(format!("label {}", self.label));
        }
        all
    }
}

/// `CAP_SYS_RESOURCE`.
const RAISES_LIMITS: u64 = 1 << 24;

/// Namespaces of a container's first process that are the machine's own.
pub(crate) fn machines_namespaces(e: &Engine, h: &Engine, c: &Container) -> Vec<String> {
    let pid = c.inspect()["State"]["Pid"].clone();
    let link = |path: std::path::PathBuf| std::fs::read_link(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let own = |name: &str| link(h.root_path(&format!("/proc/{pid}/ns/{name}")));
    let machines = |name: &str| link(e.root_path(&format!("/proc/{}/ns/{name}", std::fs::read_to_string(e.dir().join("pid")).unwrap().trim())));
    ["mnt", "pid", "net", "ipc", "uts", "cgroup"].into_iter().filter(|name| own(name) == machines(name)).map(str::to_owned).collect()
}

/// Control groups of a container's first process that are not below a host's.
pub(crate) fn groups_beside(h: &Engine, c: &Container, host: &str) -> Vec<String> {
    let pid = c.inspect()["State"]["Pid"].clone();
    let groups = std::fs::read_to_string(h.root_path(&format!("/proc/{pid}/cgroup"))).unwrap();
    groups.lines().filter(|line| !line.ends_with(":/") && !line.contains(host)).map(str::to_owned).collect()
}

/// What of the kernel's a process reaches in a container, tried by a script: each line that comes out is a way.
pub(crate) const REACH: &str = "
mkdir -p /tmp/r; cd /tmp/r
try() { ($2) >/dev/null 2>&1 && echo \"$1\"; }
for d in 'c 1 1' 'c 1 2' 'c 1 4' 'c 1 11' 'c 10 229' 'c 10 200' 'b 7 0' 'b 254 0' 'b 8 0' 'b 259 0'; do
  n=d$(echo $d | tr -d ' '); rm -f $n; mknod $n $d 2>/dev/null && try \"device $d\" \"dd if=$n of=/dev/null bs=1 count=1\"
done
for f in /dev/*; do case $f in /dev/null|/dev/zero|/dev/full|/dev/random|/dev/urandom|/dev/tty|/dev/console|/dev/ptmx) ;; *) [ -c $f -o -b $f ] && try \"node $f\" \"dd if=$f of=/dev/null bs=1 count=1\";; esac; done
for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/domainname /proc/irq/default_smp_affinity /sys/kernel/mm/ksm/run /sys/kernel/uevent_helper; do [ -e $f ] && try \"written $f\" \"dd if=/dev/null of=$f conv=notrunc\"; done
for f in /proc/kcore /proc/keys /proc/timer_list; do [ -s $f ] || grep -q . $f 2>/dev/null && echo read $f; done
for g in /sys/fs/cgroup /sys/fs/cgroup/*; do [ -d $g ] && mkdir $g/mine 2>/dev/null && echo group $g; done
try mount 'mount -t tmpfs x /tmp/r'
try remount 'mount -o remount,rw /proc/sys && mount -o remount,ro /proc/sys'
try module 'insmod /bin/busybox'
try nice 'nice -n -5 true'
try swap 'swapoff -a'
try user 'unshare -U true'
try mountns 'unshare -m true'
echo end";
