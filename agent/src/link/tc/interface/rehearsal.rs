//! Whether this kernel can do what the steps of a shaping ask for, found out by doing it elsewhere first.

use super::TcStep;
use super::step::About;
use crate::link::LinkError;
use crate::link::netlink::RouteSocket;
use crate::link::tc::lacking;
use crate::namespace::NetworkNamespace;

/// The number of the loopback interface in every namespace.
const LOOPBACK: u32 = 1;

/// Does all of it in a throw-away namespace, with the loopback interface in the interface's place: what
/// this kernel lacks is told before anything is touched.
///
/// # Errors
/// The kernel refuses, or no namespace can be made.
pub(crate) fn rehearse(steps: &[TcStep]) -> Result<(), LinkError> {
    let failed = |source| LinkError::Namespace {
        link: "(rehearsal of a shaping)".to_owned(),
        source,
    };
    let namespace = NetworkNamespace::create().map_err(failed)?;
    let rehearsed = namespace.run(|| {
        let mut socket = RouteSocket::open_to_look().map_err(|source| LinkError::Socket {
            action: "open a netlink socket".to_owned(),
            source,
        })?;
        for step in steps {
            let about = match &step.about {
                About::Existing(_) => About::Existing(LOOPBACK),
                made @ About::Made(_) => made.clone(),
            };
            let made = TcStep {
                about,
                ..step.clone()
            }
            .apply(&mut socket);
            made.map_err(|error| match step.kind() {
                Some(kind) => lacking::told(error, kind),
                None => error,
            })?;
        }
        Ok(())
    });
    rehearsed.map_err(failed)?
}
