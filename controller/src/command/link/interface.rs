//! `hexloop link apply`, `confirm`, `show` and `clear`: a real interface.
//!
//! The process of `apply` makes no change itself. It starts a holder, which does, hears from it,
//! and confirms; what becomes of a machine whose applier is gone is the holder's affair.

mod show;

use std::io::{self, IsTerminal, Read};
use std::net::IpAddr;

use hexloop_agent::guardian::{self, HeldLink};
use hexloop_agent::hold::{self, HoldError, HoldEvent, HoldOrder, Holder, Peer, PeerTransport};
use hexloop_agent::management;
use hexloop_traces::units::{BitRate, ByteSize, TimeSpan};
use hexloop_traces::{LinkSettings, LinkState, QueueLimit, Service, Trace, UNLIMITED_RATE_BPS};
use serde_json::json;

use super::super::undo::of_ledgers;
use super::super::{Voice, print, print_json};
use super::shape::{Shape, shape};
use crate::cli::link::{InterfaceAction, InterfaceApplyArguments};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::paths::Paths;
use crate::tell::tell;

/// Within how long a shaping must be confirmed when nobody said so.
const CONFIRM_WITHIN_NS: u64 = 15_000_000_000;

pub(super) fn interface(action: &InterfaceAction, voice: Voice) -> Outcome {
    let state = Paths::of_this_user()?.state;
    let state = std::path::absolute(&state).or_fail(ExitCode::Usage, || {
        format!("{} is no path", state.display())
    })?;
    match action {
        InterfaceAction::Apply(arguments) => apply(arguments, &state, voice),
        InterfaceAction::Confirm(arguments) => {
            check_root()?;
            if let Some(lease) = arguments.extend {
                check_lasts("--extend", lease)?;
            }
            let held = held(&state, Some(&arguments.interface.interface))?;
            for link in &held {
                hold::confirm(link, &state).map_err(refused)?;
                if let Some(lease) = arguments.extend {
                    hold::extend(link, &state, lease.ns).map_err(refused)?;
                }
            }
            done(&held, "confirmed", voice)
        }
        InterfaceAction::Show(arguments) => {
            show::show(&state, arguments.interface.as_deref(), voice)
        }
        InterfaceAction::Clear(arguments) => {
            check_root()?;
            let held = held(&state, arguments.interface.as_deref())?;
            for link in &held {
                hold::clear(link, &state).map_err(refused)?;
            }
            done(&held, "cleared", voice)
        }
    }
}

/// Nobody but root can have an interface held, or tell its holder something.
fn check_root() -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(refused(HoldError::NotRoot))
    }
}

fn refused(error: HoldError) -> Failure {
    let (code, remedy) = (error.exit_code(), error.remedy());
    let failure = Failure::new(ExitCode::from_number(code), error);
    match remedy {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

/// The held interfaces, or the one of that name.
fn held(state: &std::path::Path, interface: Option<&str>) -> Result<Vec<HeldLink>, Failure> {
    let mut held = guardian::held_links(state).map_err(|error| {
        of_ledgers(error).context(format!(
            "cannot look which interfaces are held in {}",
            state.display()
        ))
    })?;
    if let Some(interface) = interface {
        held = called(&held, interface).into_iter().cloned().collect();
        if held.is_empty() {
            let last = hold::last_end(state, interface);
            let last = last.map(|ended| format!("; its last shaping ended: {}", ended.why));
            let message = format!(
                "interface {interface} is not shaped by hexloop{}",
                last.unwrap_or_default()
            );
            return Err(Failure::message(ExitCode::Preflight, message)
                .remedy("`hexloop link show` tells what is"));
        }
    }
    Ok(held)
}

/// The one of them that is called so by now; else those that were when they were shaped.
fn called<'a>(held: &'a [HeldLink], name: &str) -> Vec<&'a HeldLink> {
    let is_now = |link: &&HeldLink| {
        let now = hold::interface_now(&link.held.interface).ok().flatten();
        now.is_some_and(|now| now.name == name)
    };
    if let Some(link) = held.iter().find(is_now) {
        return vec![link];
    }
    held.iter()
        .filter(|link| link.held.interface.name == name)
        .collect()
}

fn done(links: &[HeldLink], what: &str, voice: Voice) -> Outcome {
    let names: Vec<&str> = links
        .iter()
        .map(|link| link.held.interface.name.as_str())
        .collect();
    if voice.json {
        print_json(&json!({ what: names }))?;
    } else if names.is_empty() {
        print("nothing is shaped\n")?;
    } else if !voice.quiet {
        print(&format!("{what} {}\n", names.join(", ")))?;
    }
    Ok(ExitCode::Done)
}

fn apply(arguments: &InterfaceApplyArguments, state: &std::path::Path, voice: Voice) -> Outcome {
    let (order, trace) = order(arguments)?;
    let mut holder = Holder::start(&order, &trace, state).map_err(refused)?;
    let shape = match next(&mut holder)? {
        HoldEvent::Applied { shape } => shape,
        event => return Err(unexpected(&event)),
    };
    if arguments.confirm_within.is_some() && !io::stdin().is_terminal() {
        holder.leave().map_err(refused)?;
        return told(&order, &shape, None, voice);
    }
    if arguments.confirm_within.is_some() {
        let name = &order.interface;
        let within = confirmed_within(&order);
        tell(&format_args!(
            "{name} is shaped. Press Enter within {within} to keep it so."
        ));
        // The end of the terminal is no answer; neither is a holder that has had enough.
        let answered = io::stdin().lock().read(&mut [0; 256]);
        if !matches!(answered, Ok(1..)) {
            return Err(Failure::message(ExitCode::Failed, "nobody confirmed it"));
        }
    }
    // Without a wish for more: the interface is none over which this machine is reached.
    holder.confirm().map_err(refused)?;
    match next(&mut holder)? {
        HoldEvent::Held {
            until_boot_ns,
            scheduling,
        } => told(&order, &shape, Some((until_boot_ns, scheduling)), voice),
        event => Err(unexpected(&event)),
    }
}

fn next(holder: &mut Holder) -> Result<HoldEvent, Failure> {
    match holder.next_event().map_err(refused)? {
        Some(HoldEvent::Refused {
            code,
            message,
            remedy,
        }) => {
            let failure = Failure::message(ExitCode::from_number(code), message);
            Err(match remedy {
                Some(remedy) => failure.remedy(remedy),
                None => failure,
            })
        }
        Some(event) => Ok(event),
        None => Err(Failure::message(
            ExitCode::Failed,
            "the process that was to hold the interface is gone; its guardian puts everything back",
        )),
    }
}

fn unexpected(event: &HoldEvent) -> Failure {
    Failure::message(
        ExitCode::Failed,
        format!("the process that holds the interface said {event:?} out of turn"),
    )
}

/// Tells what was done; of what is confirmed, until when and how its thread is scheduled.
fn told(
    order: &HoldOrder,
    shape: &str,
    held: Option<(u64, Option<String>)>,
    voice: Voice,
) -> Outcome {
    let name = &order.interface;
    let lease = TimeSpan { ns: order.lease_ns };
    let within = confirmed_within(order);
    let (until_boot_ns, scheduling) = held.unzip();
    let scheduling = scheduling.flatten();
    if voice.json {
        print_json(&json!({
            "interface": name,
            "shape": shape,
            "lease_ns": order.lease_ns,
            "confirmed": until_boot_ns.is_some(),
            "until_boot_ns": until_boot_ns,
            "scheduling": scheduling,
        }))?;
    } else if voice.quiet {
    } else if until_boot_ns.is_some() {
        print(&format!("{name} is shaped for {lease}: {shape}\n"))?;
        if let Some(scheduling) = scheduling {
            print(&format!(
                "its trace is followed by a thread with {scheduling}\n"
            ))?;
        }
    } else {
        print(&format!(
            "{name} is shaped: {shape}\nput back unless `hexloop link confirm {name}` says within \
             {within} that this machine can still be reached\n"
        ))?;
    }
    Ok(ExitCode::Done)
}

/// Within how long it must be confirmed: no lease is longer for that it may be confirmed later.
fn confirmed_within(order: &HoldOrder) -> TimeSpan {
    TimeSpan {
        ns: order.confirm_within_ns.min(order.lease_ns),
    }
}

/// Refuses a time in which nothing could happen.
fn check_lasts(option: &str, span: TimeSpan) -> Result<(), Failure> {
    if span.ns > 0 {
        return Ok(());
    }
    let message = format!("{option}: a time of {span} is over before it begins");
    Err(Failure::message(ExitCode::InvalidInput, message)
        .remedy("give a time above 0, such as `10 min`"))
}

fn order(arguments: &InterfaceApplyArguments) -> Result<(HoldOrder, Trace), Failure> {
    check_lasts("--lease", arguments.lease)?;
    if let Some(within) = arguments.confirm_within {
        check_lasts("--confirm-within", within)?;
    }
    let Shape {
        trace,
        settings,
        notes,
    } = shape(&arguments.shape)?;
    for note in notes {
        tell(&format_args!("note: {note}"));
    }
    if settings.service != Service::Fluid {
        return Err(Failure::message(
            ExitCode::Usage,
            "--slots: the kernel's disciplines do not serve in delivery opportunities",
        ));
    }
    let peers = arguments.peer.iter().map(|text| peer(text));
    let peers: Vec<Peer> = peers.collect::<Result<_, _>>()?;
    let confirm = arguments.confirm_within.map(|span| span.ns);
    let control_peers = management::control_peers().map_err(|error| {
        let message =
            format!("cannot tell over which interface this machine is controlled: {error}");
        Failure::message(ExitCode::Preflight, message).remedy("mount /proc as the kernel's own")
    })?;
    let order = HoldOrder {
        interface: arguments.interface.interface.clone(),
        shape: in_words(&trace, &settings, peers.len()),
        settings,
        peers,
        lease_ns: arguments.lease.ns,
        confirm_within_ns: confirm.unwrap_or(CONFIRM_WITHIN_NS),
        control_peers,
        invoking_user: invoking_user(),
    };
    Ok((order, trace))
}

/// The user behind sudo; `None` for root itself.
fn invoking_user() -> Option<u32> {
    let user = std::env::var("SUDO_UID").ok()?.parse().ok()?;
    (user != 0).then_some(user)
}

/// ADDRESS[/PREFIX][:PORT[/tcp|/udp]]; an IPv6 address with a port is written in brackets.
pub(super) fn peer(text: &str) -> Result<Peer, Failure> {
    let wrong = || {
        let message = format!("`{text}` is no peer");
        Failure::message(ExitCode::Usage, message).remedy(
            "write 192.0.2.7, 192.0.2.0/24, 192.0.2.7:443, 192.0.2.7:53/udp or [2001:db8::7]:443",
        )
    };
    let is_bare = text.parse::<IpAddr>().is_ok();
    let (network, port) = if let Some(rest) = text.strip_prefix('[') {
        let (network, rest) = rest.split_once(']').ok_or_else(wrong)?;
        match rest.strip_prefix(':') {
            Some(port) => (network, Some(port)),
            None if rest.is_empty() => (network, None),
            None => return Err(wrong()),
        }
    } else if !is_bare && text.matches(':').count() == 1 {
        let (network, port) = text.split_once(':').ok_or_else(wrong)?;
        (network, Some(port))
    } else {
        (text, None)
    };
    let (address, prefix) = match network.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (network, None),
    };
    let address: IpAddr = address.parse().map_err(|_unreadable| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix_bits = match prefix {
        Some(prefix) => prefix.parse().map_err(|_unreadable| wrong())?,
        None => most,
    };
    let port = match port {
        None => None,
        Some(port) => {
            let (number, transport) = match port.split_once('/') {
                None | Some((_, "tcp")) => (port.trim_end_matches("/tcp"), PeerTransport::Tcp),
                Some((number, "udp")) => (number, PeerTransport::Udp),
                Some(_) => return Err(wrong()),
            };
            Some((transport, number.parse().map_err(|_unreadable| wrong())?))
        }
    };
    if prefix_bits > most {
        return Err(wrong());
    }
    Ok(Peer {
        address,
        prefix_bits,
        port,
    })
}

fn in_words(trace: &Trace, settings: &LinkSettings, peers: usize) -> String {
    let one = |name: &str, state: &LinkState| {
        let rate = match state.rate_bps {
            UNLIMITED_RATE_BPS => "unlimited".to_owned(),
            bps => BitRate { bps }.to_string(),
        };
        let delay = TimeSpan { ns: state.delay_ns };
        format!("{name} {rate} {delay}")
    };
    let mut words = match (trace.row_count(), trace.row(0)) {
        (1, Some(row)) => vec![one("down", &row.down), one("up", &row.up)],
        (rows, _) => vec![format!("{rows} rows of {}", trace.metadata().scenario)],
    };
    words.push(match settings.queue {
        QueueLimit::Bytes(bytes) => format!("queue {}", ByteSize { bytes }),
        QueueLimit::Packets(packets) => format!("queue {packets} packets"),
    });
    if peers > 0 {
        words.push(format!("{peers} peers"));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_addresses_networks_and_ports() {
        let read = |text: &str| peer(text).unwrap();
        let v4 = |bits, port| Peer {
            address: "192.0.2.7".parse().unwrap(),
            prefix_bits: bits,
            port,
        };
        assert_eq!(read("192.0.2.7"), v4(32, None));
        assert_eq!(read("192.0.2.7/24"), v4(24, None));
        assert_eq!(
            read("192.0.2.7:443"),
            v4(32, Some((PeerTransport::Tcp, 443)))
        );
        assert_eq!(
            read("192.0.2.7/24:53/udp"),
            v4(24, Some((PeerTransport::Udp, 53)))
        );
        let v6 = read("[2001:db8::7/64]:80/tcp");
        assert_eq!(
            (v6.prefix_bits, v6.port),
            (64, Some((PeerTransport::Tcp, 80)))
        );
        assert_eq!(read("2001:db8::7").prefix_bits, 128);
        for text in [
            "",
            "example.org",
            "192.0.2.7/33",
            "192.0.2.7:http",
            "192.0.2.7:1/sctp",
            "[::1",
        ] {
            assert!(peer(text).is_err(), "{text}");
        }
    }
}
