//! Which datapath a link gets, found by trying.

use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::{CapacityCurve, Direction, Trace};

use super::edt::{self, EdtPlayer};
use super::interfaces::Offloads;
use super::playback::Datapath;
use super::relay::{Carrier, NewLink, Relay, RelayMode, RelaySizes, choose_mode};
use super::tc::{self, TcPlayer};
use super::{LinkError, LinkSpec, interfaces};
use crate::namespace::NetworkNamespace;
use crate::node::with_causes;
use crate::sys::packet::{Intake, PacketSocket, PacketSocketOptions, SpreadSender};

/// Frames that may come in while the relay's thread is kept from running.
const RING_FRAMES: usize = 4096;

/// The same for links whose rate never exceeds this; at most, where their queues hold more packets: TCP that has found
/// much room hands as many over at once.
const SLOW_BPS: u64 = 50_000_000;
const SLOW_RING_FRAMES: usize = 1024;
const DEEP_RING_FRAMES: usize = 8192;

/// From so many links of an engine on, rings of slow ones hold less than the thousand packets that
/// a real interface would take at once (`txqueuelen`): both rings of a link would keep 4 MB of the
/// machine's memory, 4 GB with a thousand links.
const FEW_LINKS: u32 = 16;
const ONE_OF_MANY_RING_FRAMES: usize = 128;

/// What may wait in a socket's buffer, as the kernel counts it.
const BUFFER_BYTES: usize = 16 << 20;
/// The same where no more is allowed: every system allows its default.
const SMALL_BUFFER_BYTES: usize = 200_000;

/// Makes the interfaces of the link and starts what shapes it; says why in words.
pub(super) fn build(spec: &LinkSpec<'_>, played: &Trace) -> Result<(Datapath, String), LinkError> {
    let asked = "as asked";
    if spec.relay.seat.is_some() {
        return shared(spec, played);
    }
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

/// Only one thread that serves all links of a cell can divide its slots.
fn shared(spec: &LinkSpec<'_>, played: &Trace) -> Result<(Datapath, String), LinkError> {
    match spec.plan.datapath {
        DatapathChoice::Auto | DatapathChoice::Relay => {
            let reason = "links that share a cell are served by one thread of the relay";
            Ok((relay(spec, played)?, reason.to_owned()))
        }
        DatapathChoice::Tc | DatapathChoice::Edt => Err(LinkError::NoDatapath {
            link: spec.plan.name.clone(),
            reason: "tc and edt shape each link by itself and cannot divide a cell among several; \
                     choose datapath relay or auto"
                .to_owned(),
        }),
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
    let ports = interfaces::relay_ports(u32::from(plan.index));
    interfaces::build_relayed(plan, spec.ends, &namespace, &ports, Offloads::None)?;
    Ok(namespace)
}

fn relay(spec: &LinkSpec<'_>, played: &Trace) -> Result<Datapath, LinkError> {
    let plan = spec.plan;
    let options = &spec.relay;
    let acts = !played.is_transparent()
        || spec.faults.stop_relay_ns > 0
        || options.observer.is_some()
        || options.seat.is_some();
    let mode = choose_mode(options.mode, acts).map_err(|reason| LinkError::NoDatapath {
        link: plan.name.clone(),
        reason: reason.to_owned(),
    })?;
    let failed = |source| LinkError::Namespace {
        link: plan.name.clone(),
        source,
    };
    let engine = options.engine.clone().unwrap_or_default();
    let namespace = engine.namespace().map_err(failed)?;
    let number = engine.next_link();
    let ports = interfaces::relay_ports(number);
    let sizes = RelaySizes {
        mtu: plan.mtu,
        held_bytes: held_bytes(spec, played),
    };
    let (mut socket, offloads) = socket_options(mode, &sizes, peak_bps(played), number);
    interfaces::build_relayed(plan, spec.ends, &namespace, &ports, offloads)?;
    let carrier = Carrier::find(mode, options.in_userspace, &namespace, &ports);
    if carrier.is_kernel() {
        socket.intake = Intake::Nothing;
    }
    let exits = || -> std::io::Result<_> {
        let [first, second] = &ports;
        Ok([SpreadSender::exit(first)?, SpreadSender::exit(second)?])
    };
    // Without it each link sends by itself.
    let exits = namespace.run(exits).ok().and_then(Result::ok);
    let spread = engine.spread().zip(exits);
    let [first, second] = ports.map(|port| {
        interfaces::inside(plan, &namespace, || {
            PacketSocket::open(&port, socket).map_err(|source| LinkError::Socket {
                action: format!("open a packet socket on relay port {port}"),
                source,
            })
        })
    });
    let relay = Relay::attach(
        &engine,
        (&plan.name, number),
        mode,
        NewLink {
            ports: [first?, second?],
            spread,
            sizes,
            observer: options.observer.clone(),
            seat: options.seat.clone(),
        },
        carrier,
        spec.relay_cpu,
    )?;
    Ok(Datapath::Relay {
        relay,
        engine,
        _namespace: namespace,
    })
}

/// How the ports' packets come in, and what may come. A relay that may have large socket buffers
/// takes super-packets; one that may not has rings of its own, for packets of at most the MTU.
/// So have slow links, where a ring without system calls counts for more.
fn socket_options(
    mode: RelayMode,
    sizes: &RelaySizes,
    peak_bps: u64,
    number: u32,
) -> (PacketSocketOptions, Offloads) {
    let may_buffer = PacketSocket::may_buffer(BUFFER_BYTES);
    let slots = |frames| Intake::Ring {
        snap_bytes: usize::try_from(sizes.mtu).unwrap_or(1500) + 64,
        frames,
    };
    let (intake, offloads) = match mode {
        RelayMode::Bulk => (Intake::Blocks, Offloads::All),
        RelayMode::LowLatency if may_buffer => {
            let bytes = BUFFER_BYTES;
            (Intake::Buffer { bytes }, Offloads::All)
        }
        RelayMode::LowLatency => {
            let bytes = SMALL_BUFFER_BYTES;
            (Intake::Buffer { bytes }, Offloads::All)
        }
        RelayMode::Exact if peak_bps <= SLOW_BPS => {
            let frames = if number < FEW_LINKS {
                let packets = sizes.held_bytes.div_ceil(u64::from(sizes.mtu.max(1)));
                let packets = usize::try_from(packets).unwrap_or(usize::MAX);
                packets
                    .clamp(SLOW_RING_FRAMES, DEEP_RING_FRAMES)
                    .next_power_of_two()
            } else {
                ONE_OF_MANY_RING_FRAMES
            };
            (slots(frames), Offloads::Checksum)
        }
        RelayMode::Exact if may_buffer => {
            let bytes = BUFFER_BYTES;
            (Intake::Buffer { bytes }, Offloads::All)
        }
        RelayMode::Exact => (slots(RING_FRAMES), Offloads::Checksum),
    };
    let options = PacketSocketOptions {
        intake,
        headers: true,
    };
    (options, offloads)
}

/// The highest rate of either direction.
pub(super) fn peak_bps(played: &Trace) -> u64 {
    let peaks = Direction::BOTH.map(|direction| CapacityCurve::new(played, direction).peak_bps());
    peaks.into_iter().max().unwrap_or(0)
}

/// The longest that a packet is under way behind the bottleneck, in either direction.
fn longest_flight_ns(trace: &Trace) -> u64 {
    let states = trace.states().flat_map(|(_, states)| states);
    let flights = states.map(|state| state.delay_ns.saturating_add(u64::from(state.jitter_ns)));
    flights.max().unwrap_or(0)
}

/// The longest queue, and what is in flight behind it at the highest rate.
fn held_bytes(spec: &LinkSpec<'_>, played: &Trace) -> u64 {
    let states = played.states().flat_map(|(_, states)| states);
    let queue = states
        .map(|state| u64::from(state.queue_bytes))
        .max()
        .unwrap_or(0)
        .max(spec.plan.settings.most_queue_bytes(spec.plan.mtu));
    let flight_bits =
        u128::from(peak_bps(played)) * u128::from(longest_flight_ns(played)) / 1_000_000_000;
    queue.saturating_add(u64::try_from(flight_bits / 8).unwrap_or(u64::MAX))
}
