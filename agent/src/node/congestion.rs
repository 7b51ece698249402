//! What controls the congestion of a node's TCP connections: what was asked for, and else cubic, whatever this machine
//! prefers for itself. What jobs take must not depend on that: bbr, for one, was seen to stay below a link's rate for
//! seconds.

use std::fs;

use super::rooms::{RoomError, failed};

/// Each network namespace has its own; its connections begin with it.
const SETTING: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// What Linux takes unless told otherwise.
pub(crate) const USUAL: &str = "cubic";

/// What every namespace may have.
const AT_LEAST: &str = "reno";

/// Sets it for the namespace of the caller, and returns what is read back.
///
/// # Errors
/// The kernel does not control connections as was asked.
pub(super) fn control(asked: Option<&str>) -> Result<String, RoomError> {
    let set = |name: &str| fs::write(SETTING, name);
    match asked {
        Some(name) => set(name).map_err(failed(format!(
            "have congestion control {name} (load it with `modprobe tcp_{name}`, and add it to \
             `sysctl net.ipv4.tcp_allowed_congestion_control`, as namespaces need)"
        )))?,
        // What is then read back is told.
        None => set(USUAL).or_else(|_| set(AT_LEAST)).unwrap_or_default(),
    }
    let name = fs::read_to_string(SETTING).map_err(failed(format!("read {SETTING}")))?;
    Ok(name.trim().to_owned())
}
