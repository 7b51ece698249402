//! Which datapath a link gets, found by trying.

use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::{CapacityCurve, Direction, Trace};

use super::edt::{self, EdtPlayer};
use super::playback::{Datapath, longest_delay_ns};
use super::relay::{Relay, RelaySizes};
use super::tc::{self, TcPlayer};
use super::{LinkError, LinkSpec, interfaces};
use crate::namespace::NetworkNamespace;
use crate::node::with_causes;
use crate::sys::packet::{Intake, PacketSocket, PacketSocketOptions};

/// Frames that may come in while the relay's thread is kept from running.
const RING_FRAMES: usize = 4096;

/// Makes the interfaces of the link and starts what shapes it; says why in words.
pub(super) fn build(spec: &LinkSpec<'_>, played: &Trace) -> Result<(Datapath, String), LinkError> {
    let asked = "asked for by the experiment";
    match spec.plan.datapath {
        DatapathChoice::Relay => Ok((relay(spec, played)?, asked.to_owned())),
        DatapathChoice::Tc => {
            tc::try_out_for(spec.plan, played).map_err(|error| LinkError::NoDatapath {
                link: spec.plan.name.clone(),
                reason: format!("tc: {}; choose datapath relay", with_causes(&error)),
            })?;
            let player = tc(spec, played)?;
            let reason = match player.note() {
                Some(note) => format!("{asked}; {note}"),
                None => asked.to_owned(),
            };
            Ok((Datapath::Tc(player), reason))
        }
        DatapathChoice::Edt => {
            edt::try_out(spec.plan).map_err(|error| LinkError::NoDatapath {
                link: spec.plan.name.clone(),
                reason: format!("edt: {}; choose datapath relay", with_causes(&error)),
            })?;
            Ok((edt(spec, played)?, asked.to_owned()))
        }
        DatapathChoice::Auto => choose(spec, played),
    }
}

/// The relay is exact where it works; tc is what is left.
fn choose(spec: &LinkSpec<'_>, played: &Trace) -> Result<(Datapath, String), LinkError> {
    let tc_verdict = tc::try_out_for(spec.plan, played);
    match relay(spec, played) {
        Ok(relay) => {
            let tc_verdict = match tc_verdict {
                Ok(()) => "tc would work too".to_owned(),
                Err(error) => format!("tc would not work: {}", with_causes(&error)),
            };
            let reason = format!("auto: packet sockets work, and the relay is exact; {tc_verdict}");
            Ok((relay, reason))
        }
        Err(relay_error) => {
            let relay_error = with_causes(&relay_error);
            let edt_error = match edt::try_out(spec.plan).and_then(|()| edt(spec, played)) {
                Ok(edt) => {
                    let reason = format!("auto: the relay cannot be built ({relay_error})");
                    return Ok((edt, reason));
                }
                Err(error) => with_causes(&error),
            };
            if let Err(tc_error) = tc_verdict {
                let reason = format!(
                    "relay: {relay_error}; edt: {edt_error}; tc: {}",
                    with_causes(&tc_error)
                );
                return Err(LinkError::NoDatapath {
                    link: spec.plan.name.clone(),
                    reason,
                });
            }
            let reason =
                format!("auto: relay and edt cannot be built ({relay_error}; {edt_error})");
            Ok((Datapath::Tc(tc(spec, played)?), reason))
        }
    }
}

fn tc(spec: &LinkSpec<'_>, played: &Trace) -> Result<TcPlayer, LinkError> {
    let between = between(spec)?;
    let held_bytes = held_bytes(spec, played);
    TcPlayer::spawn(
        spec.plan,
        spec.ends,
        between,
        played,
        held_bytes,
        spec.relay_cpu,
    )
}

fn edt(spec: &LinkSpec<'_>, played: &Trace) -> Result<Datapath, LinkError> {
    let namespace = between(spec)?;
    let edt = EdtPlayer::spawn(spec, played, &namespace)?;
    Ok(Datapath::Edt {
        edt,
        _namespace: namespace,
    })
}

/// A namespace between both nodes, with a port to each.
fn between(spec: &LinkSpec<'_>) -> Result<NetworkNamespace, LinkError> {
    let plan = spec.plan;
    let namespace = NetworkNamespace::create().map_err(|source| LinkError::Namespace {
        link: plan.name.clone(),
        source,
    })?;
    interfaces::build_relayed(plan, spec.ends, &namespace)?;
    Ok(namespace)
}

fn relay(spec: &LinkSpec<'_>, played: &Trace) -> Result<Datapath, LinkError> {
    let plan = spec.plan;
    let namespace = between(spec)?;
    let snap_bytes = usize::try_from(plan.mtu).unwrap_or(1500) + 64;
    let options = PacketSocketOptions {
        intake: Intake::Ring {
            snap_bytes,
            frames: RING_FRAMES,
        },
        headers: false,
    };
    let [first, second] = interfaces::relay_ports(plan.index).map(|port| {
        interfaces::inside(plan, &namespace, || {
            PacketSocket::open(&port, options).map_err(|source| LinkError::Socket {
                action: format!("open a packet socket on relay port {port}"),
                source,
            })
        })
    });
    let sizes = RelaySizes {
        mtu: plan.mtu,
        held_bytes: held_bytes(spec, played),
    };
    let relay = Relay::spawn(
        &plan.name,
        plan.index,
        [first?, second?],
        sizes,
        spec.relay_cpu,
    )?;
    Ok(Datapath::Relay {
        relay,
        _namespace: namespace,
    })
}

/// The longest queue, and what is in flight behind it at the highest rate.
fn held_bytes(spec: &LinkSpec<'_>, played: &Trace) -> u64 {
    let queues = played
        .rows()
        .iter()
        .flat_map(|row| [row.down.queue_bytes, row.up.queue_bytes]);
    let queue = queues
        .map(u64::from)
        .max()
        .unwrap_or(0)
        .max(spec.plan.settings.most_queue_bytes(spec.plan.mtu));
    let peaks = Direction::BOTH.map(|direction| CapacityCurve::new(played, direction).peak_bps());
    let peak_bps = peaks.into_iter().max().unwrap_or(0);
    let flight_bits = u128::from(peak_bps) * u128::from(longest_delay_ns(played)) / 1_000_000_000;
    queue.saturating_add(u64::try_from(flight_bits / 8).unwrap_or(u64::MAX))
}
