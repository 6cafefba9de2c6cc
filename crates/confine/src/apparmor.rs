//! AppArmor's profile of containers that name none: what it is called and what it says.

/// The default profile's name; a Docker beside Droste keeps its own `docker-default`.
pub const DEFAULT: &str = "droste-default";

/// The word for no profile.
pub const UNCONFINED: &str = "unconfined";

/// The default profile's text, for AppArmor's own compiler.
///
/// `abi` is the set of rules that it was written for, where the machine has a description of it; without one a compiler
/// that knows more kinds of rules would deny what they are about. `daemon` is the profile that the daemon is in.
pub fn default_profile(abi: Option<&str>, daemon: &str) -> String {
    let abi = abi.map(|abi| format!("abi <{abi}>,\n")).unwrap_or_default();
    format!("{abi}profile {DEFAULT} flags=(attach_disconnected,mediate_deleted) {{{}}}\n", rules(daemon))
}

/// As Docker documents its default: files, network and capabilities are the affair of what else confines a container;
/// nothing is mounted, and of the kernel's files only those of processes, of shared memory and of cgroups are written.
fn rules(daemon: &str) -> String {
    let daemon = if daemon == UNCONFINED { String::new() } else { format!("signal (receive) peer=\"{daemon}\",\n") };
    format!(
        r"
file,
network,
unix,
capability,
umount,
deny mount,

# From outside of all containers, from the daemon, and among containers: those of a host are signalled by it.
signal (receive) peer=unconfined,
{daemon}signal (send, receive) peer={DEFAULT},
ptrace (read, readby, trace, tracedby) peer={DEFAULT},

deny /proc/* w,
deny /proc/{{[^1-9s],s[^y],sy[^s],sys?}}*/** w,
deny /proc/sys/{{[^k],k[^e]}}** w,
deny /proc/sys/kernel/{{[^s],s[^h],sh[^m]}}** w,
deny /proc/{{kcore,sysrq-trigger}} rwklx,

deny /sys/{{[^f],f[^s],fs/[^c],fs/c[^g]}}*/** wklx,
deny /sys/{{firmware,kernel/security}}/** rwklx,
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_own_profile_may_signal_containers() {
        let plain = default_profile(None, UNCONFINED);
        assert!(plain.starts_with("profile droste-default ") && plain.ends_with("}\n"), "{plain}");
        assert_eq!(plain.matches("signal (receive)").count(), 1);
        let confined = default_profile(Some("abi/3.0"), "/usr/bin/droste");
        assert!(confined.starts_with("abi <abi/3.0>,\nprofile "), "{confined}");
        assert!(confined.contains("\nsignal (receive) peer=\"/usr/bin/droste\",\n"), "{confined}");
    }
}
