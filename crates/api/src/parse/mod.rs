//! From Docker's shapes to the model, with Docker's texts for what is wrong whatever the engine's state.

mod adjust;
mod binds;
mod create;
mod exec;
mod host;
mod limits;
mod mounts;
mod networks;
mod ports;

pub use self::create::{Parsed, commit_config, config, create, image_name};
pub use self::exec::exec;
pub use self::host::{network_mode, restart_policy, update};
pub use self::mounts::volume_name;
pub use self::networks::{connect, disconnect, go_bool, network};
