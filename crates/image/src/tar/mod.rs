//! The tar format, read and written as image tools write it: ustar with PAX and GNU extensions.
//!
//! Written here rather than taken from a crate because layers must be given back byte for byte (the reader says which
//! bytes are structure and which are file content), because PAX sparse files must be understood, and because every
//! header that a stranger sends is bounded in size. Nothing here touches a file system.

pub(crate) mod read;
pub(crate) mod write;

/// Size of the units that a tar archive is made of.
pub(crate) const BLOCK: usize = 512;

/// PAX records with this prefix carry extended attributes.
pub(crate) const XATTR_PREFIX: &str = "SCHILY.xattr.";

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry's header with all extensions applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of content stored in the archive.
    pub(crate) size: u64,
    /// Seconds and nanoseconds since the epoch.
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Option<Sparse>,
}

/// Where the stored bytes of a sparse file belong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// Offset and length of each run of data, in order.
    pub(crate) runs: Vec<(u64, u64)>,
    /// Length of the file with its holes.
    pub(crate) size: u64,
}

impl Entry {
    pub(crate) fn new(name: Vec<u8>, kind: Kind, mode: u32) -> Self {
        Self {
            name,
            link: Vec::new(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }
}
