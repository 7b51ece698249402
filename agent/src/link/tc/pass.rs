//! Two ports of which each passes on what comes in on the other.

use super::LinkError;
use super::stage::{Port, put_ingress_hook, redirect, take_ingress_hook_off};
use crate::link::interfaces;
use crate::link::netlink::RouteSocket;

/// Sends everything that comes in on either of two interfaces of this thread's namespace out of
/// the other, or leaves both as they are.
///
/// # Errors
/// This kernel lacks the hook, u32 or mirred (`CONFIG_NET_SCH_INGRESS`, `CONFIG_NET_CLS_U32`,
/// `CONFIG_NET_ACT_MIRRED`), or the user may not.
pub(crate) fn pass_on(names: &[String; 2]) -> Result<(), LinkError> {
    let mut socket = interfaces::open_socket()?;
    let [first, second] = [super::port(&names[0])?, super::port(&names[1])?];
    let built = join_both(&mut socket, &first, &second);
    if built.is_err() {
        for port in [&first, &second] {
            // Where there is none, there is nothing to undo.
            let _ = take_ingress_hook_off(&mut socket, port);
        }
    }
    built
}

fn join_both(socket: &mut RouteSocket, first: &Port, second: &Port) -> Result<(), LinkError> {
    for (from, to) in [(first, second), (second, first)] {
        put_ingress_hook(socket, from)?;
        redirect(socket, from, to, 1)?;
    }
    Ok(())
}
