//! Ports of bridges: when they begin to carry packets, and how they are silenced.

use std::thread;
use std::time::{Duration, Instant};

use super::make::end;
use super::{index_of, link_error, link_header, link_request};
use crate::error::Result;
use crate::netlink::uapi::*;
use crate::netlink::{Message, Socket, find};

/// How long a port is waited for. It may never carry anything: its bridge may have been set down by somebody.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_micros(200);

/// Waits until a port carries packets, its other end being up.
///
/// The kernel tells the bridge of the carrier some time later, from a queue, and until then drops what comes. Asking
/// for the link makes recent kernels (6.8) do it at once; older ones need the time.
pub(crate) fn await_carrier(socket: &mut Socket, name: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while is_disabled(socket, name)? && Instant::now() < deadline {
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn is_disabled(socket: &mut Socket, name: &str) -> Result<bool> {
    let mut request = link_request(RTM_GETLINK, 0, 0, 0);
    request.text(IFLA_IFNAME, name);
    let reply = socket.ask(request).map_err(|source| link_error(name, "find it", source))?;
    Ok(state_of(&reply.payload) == Some(BR_STATE_DISABLED))
}

/// The state of a port in what the kernel tells of a link.
fn state_of(payload: &[u8]) -> Option<u8> {
    let info = find(payload.get(16..)?, IFLA_LINKINFO)?;
    find(find(info, IFLA_INFO_SLAVE_DATA)?, IFLA_BRPORT_STATE)?.first().copied()
}

/// Silences a port of a bridge, which forgets what is behind it; one that is gone is as good.
///
/// This goes by the bridge family: a change of the link as such would make the bridge enable the port again.
pub(crate) fn unplug(socket: &mut Socket, name: &str) -> Result<()> {
    let Some(index) = index_of(socket, name)? else {
        return Ok(());
    };
    let mut header = link_header(index, 0);
    header[0] = AF_BRIDGE;
    let mut request = Message::new(RTM_SETLINK, 0, &header);
    request.nest(IFLA_PROTINFO, |m| {
        m.attr(IFLA_BRPORT_STATE, &[BR_STATE_DISABLED]).attr(IFLA_BRPORT_FLUSH, &[]);
    });
    end(socket, request, name, "silence it")
}
