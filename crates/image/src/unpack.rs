//! Unpacks a client's archive into a directory of a container: `PUT /containers/…/archive`.

use std::io::Read;
use std::os::fd::BorrowedFd;

use crate::decompress::decompress;
use crate::error::{Error, Result};
use crate::extract::{Limits, Rules, Unobserved, extract};
use crate::tar::read::{Plain, TarReader};

/// What a client's archive may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnpackOptions {
    /// Bounds on what is written.
    pub limits: Limits,
    /// Refuse to replace a directory by something else, or the reverse: `noOverwriteDirNonDir`.
    pub no_overwrite_dir_non_dir: bool,
    /// Give everything to this user and group, as `copyUIDGID` asks; otherwise the archive's numbers count.
    pub owner: Option<(u32, u32)>,
    /// Refuse device nodes.
    pub refuse_devices: bool,
}

/// Unpacks an archive, which may be compressed, into the directory `path` of the file system `root`.
///
/// Links are followed as if `root` were `/`; nothing outside of it is touched. What was unpacked before an error stays.
/// Blocking.
pub fn unpack(root: BorrowedFd<'_>, path: &[u8], input: impl Read + Send, options: &UnpackOptions) -> Result<()> {
    let (_, plain) = decompress(input).map_err(Error::stream)?;
    let base = path.iter().copied().skip_while(|byte| *byte == b'/').collect();
    let rules = Rules {
        limits: options.limits,
        whiteouts: false,
        refuse_devices: options.refuse_devices,
        owner: options.owner,
        keep_types: options.no_overwrite_dir_non_dir,
        base,
    };
    let mut tar = TarReader::new(Plain(std::io::BufReader::with_capacity(64 << 10, plain)));
    extract(root, &mut tar, &rules, &mut Unobserved)?;
    tar.finish()?;
    Ok(())
}
