//! What commands write: human numbers and times (`human`, `time`), tables (`table`), lists with `--format` (`list`),
//! a container's two streams in one (`demux`), and progress (`progress`).

pub(crate) mod demux;
pub(crate) mod human;
pub(crate) mod indent;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod time;
