//! `X-Docker-Container-Path-Stat`: what is at a path of a container, with Go's mode bits.

use base64::Engine as _;

use crate::wire::PathStat;

/// Name of the header.
pub const HEADER: &str = "X-Docker-Container-Path-Stat";

/// Go's `FileMode` for the kernel's `st_mode`.
pub fn go_mode(st_mode: u32) -> u32 {
    const DIR: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const DEVICE: u32 = 1 << 26;
    const PIPE: u32 = 1 << 25;
    const SOCKET: u32 = 1 << 24;
    const SETUID: u32 = 1 << 23;
    const SETGID: u32 = 1 << 22;
    const CHAR_DEVICE: u32 = 1 << 21;
    const STICKY: u32 = 1 << 20;
    let kind = match st_mode & 0o170_000 {
        0o040_000 => DIR,
        0o120_000 => SYMLINK,
        0o060_000 => DEVICE,
        0o020_000 => DEVICE | CHAR_DEVICE,
        0o010_000 => PIPE,
        0o140_000 => SOCKET,
        _ => 0,
    };
    let bit = |mask: u32, go: u32| if st_mode & mask == 0 { 0 } else { go };
    kind | bit(0o4000, SETUID) | bit(0o2000, SETGID) | bit(0o1000, STICKY) | st_mode & 0o777
}

/// The header's value.
pub fn encode(stat: &PathStat) -> String {
    base64::prelude::BASE64_STANDARD.encode(serde_json::to_vec(stat).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_dockers() {
        assert_eq!(go_mode(0o040_755), 2_147_484_141);
        assert_eq!(go_mode(0o100_644), 0o644);
        assert_eq!(go_mode(0o104_755), (1 << 23) | 0o755);
        assert_eq!(go_mode(0o041_777), (1 << 31) | (1 << 20) | 0o777);
        assert_eq!(go_mode(0o020_620), (1 << 26) | (1 << 21) | 0o620);
        let stat = PathStat {
            name: "bin".to_owned(),
            size: 4096,
            mode: 2_147_484_141,
            mtime: "2026-11-23T19:19:25Z".to_owned(),
            link_target: String::new(),
        };
        assert_eq!(
            encode(&stat),
            "eyJuYW1lIjoiYmluIiwic2l6ZSI6NDA5NiwibW9kZSI6MjE0NzQ4NDE0MSwibXRpbWUiOiIyMDI2LTExLTIzVDE5OjE5OjI1WiIsImxpbmtUYXJnZXQiOiIifQ=="
        );
    }
}
