//! `hexloop link apply`, `confirm`, `show` and `clear`: a real interface.
//!
//! The process of `apply` makes no change itself. It starts a holder, which does, hears from it,
//! and confirms; what becomes of a machine whose applier is gone is the holder's affair.

mod show;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Read};
use std::net::IpAddr;

use hexloop_agent::guardian::{self, HeldLink};
use hexloop_agent::hold::{self, HoldError, HoldEvent, HoldOrder, Holder};
use hexloop_agent::management;
use hexloop_traces::units::{ByteSize, TimeSpan};
use hexloop_traces::{LinkState, QueueLimit, UNLIMITED_RATE_BPS};
use serde_json::json;

use super::super::{Voice, print, print_json};
use crate::cli::link::{InterfaceAction, InterfaceApplyArguments, ShapeArguments};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::paths::Paths;

/// Within how long a shaping must be confirmed when nobody said so.
const CONFIRM_WITHIN_NS: u64 = 15_000_000_000;

/// Before a bottleneck whose queue nobody gave.
const QUEUE_BYTES: u64 = 300_000;

pub(super) fn interface(action: &InterfaceAction, voice: Voice) -> Outcome {
    let state = Paths::of_this_user()?.state;
    let state = std::path::absolute(&state).or_fail(ExitCode::Usage, || {
        format!("{} is no path", state.display())
    })?;
    match action {
        InterfaceAction::Apply(arguments) => apply(arguments, &state, voice),
        InterfaceAction::Confirm(arguments) => {
            let held = held(&state, Some(&arguments.interface))?;
            for link in &held {
                hold::confirm(link).map_err(refused)?;
            }
            done(&held, "confirmed", voice)
        }
        InterfaceAction::Show(arguments) => {
            show::show(&state, arguments.interface.as_deref(), voice)
        }
        InterfaceAction::Clear(arguments) => {
            let held = held(&state, arguments.interface.as_deref())?;
            for link in &held {
                hold::clear(link, &state).map_err(refused)?;
            }
            done(&held, "cleared", voice)
        }
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
    let mut held = guardian::held_links(state).or_fail(ExitCode::Preflight, || {
        format!(
            "cannot look which interfaces are held in {}",
            state.display()
        )
    })?;
    if let Some(interface) = interface {
        held.retain(|link| link.held.interface.name == interface);
        if held.is_empty() {
            let message = format!("interface {interface} is not shaped by hexloop");
            return Err(Failure::message(ExitCode::Preflight, message)
                .remedy("`hexloop link show` tells what is"));
        }
    }
    Ok(held)
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
    let order = order(arguments)?;
    let mut holder = Holder::start(&order, state).map_err(refused)?;
    match next(&mut holder)? {
        HoldEvent::Applied => {}
        event => return Err(unexpected(&event)),
    }
    if arguments.confirm_within.is_some() && !io::stdin().is_terminal() {
        holder.leave().map_err(refused)?;
        return told(&order, None, voice);
    }
    if let Some(within) = arguments.confirm_within {
        let name = &order.interface;
        eprintln!("{name} is shaped. Press Enter within {within} to keep it so.");
        // The end of the terminal is no answer; neither is a holder that has had enough.
        let answered = io::stdin().lock().read(&mut [0; 256]);
        if !matches!(answered, Ok(1..)) {
            return Err(Failure::message(ExitCode::Failed, "nobody confirmed it"));
        }
    }
    // Without a wish for more: the interface is none over which this machine is reached.
    holder.confirm().map_err(refused)?;
    match next(&mut holder)? {
        HoldEvent::Held { until_boot_ns } => told(&order, Some(until_boot_ns), voice),
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

fn told(order: &HoldOrder, until_boot_ns: Option<u64>, voice: Voice) -> Outcome {
    let name = &order.interface;
    let lease = TimeSpan { ns: order.lease_ns };
    let within = TimeSpan {
        ns: order.confirm_within_ns,
    };
    if voice.json {
        print_json(&json!({
            "interface": name,
            "shape": order.shape,
            "lease_ns": order.lease_ns,
            "confirmed": until_boot_ns.is_some(),
            "until_boot_ns": until_boot_ns,
        }))?;
    } else if voice.quiet {
    } else if until_boot_ns.is_some() {
        print(&format!("{name} is shaped for {lease}: {}\n", order.shape))?;
    } else {
        print(&format!(
            "{name} is shaped: {}\nput back unless `hexloop link confirm {name}` says within \
             {within} that this machine can still be reached\n",
            order.shape
        ))?;
    }
    Ok(ExitCode::Done)
}

fn order(arguments: &InterfaceApplyArguments) -> Result<HoldOrder, Failure> {
    let shape = &arguments.shape;
    let [down, up] = states(shape)?;
    let queue = shape.queue.unwrap_or(QueueLimit::Bytes(QUEUE_BYTES));
    let confirm = arguments.confirm_within.map(|span| span.ns);
    Ok(HoldOrder {
        interface: arguments.interface.interface.clone(),
        down,
        up,
        queue,
        shape: in_words(&down, &up, queue),
        lease_ns: arguments.lease.ns,
        confirm_within_ns: confirm.unwrap_or(CONFIRM_WITHIN_NS),
        control_peers: control_peers(),
        invoking_user: invoking_user(),
    })
}

fn control_peers() -> BTreeSet<IpAddr> {
    management::control_peers()
}

/// The user behind sudo; `None` for root itself.
fn invoking_user() -> Option<u32> {
    let user = std::env::var("SUDO_UID").ok()?.parse().ok()?;
    (user != 0).then_some(user)
}

fn states(shape: &ShapeArguments) -> Result<[LinkState; 2], Failure> {
    if shape.down.is_some() || shape.up.is_some() {
        return Err(Failure::message(
            ExitCode::Usage,
            "a real interface cannot follow a trace yet; give --rate",
        ));
    }
    let mut states = [LinkState::TRANSPARENT; 2];
    if let Some(rate) = shape.rate {
        states[0].rate_bps = rate.down.bps;
        states[1].rate_bps = rate.up.bps;
    }
    if let Some(delay) = shape.delay {
        states[0].delay_ns = delay.down.ns;
        states[1].delay_ns = delay.up.ns;
    }
    if let Some(jitter) = shape.jitter {
        let clamped = |ns: u64| u32::try_from(ns).unwrap_or(u32::MAX);
        states[0].jitter_ns = clamped(jitter.down.ns);
        states[1].jitter_ns = clamped(jitter.up.ns);
    }
    if let Some(loss) = shape.loss {
        states[0].loss_ppb = loss.down.ppb();
        states[1].loss_ppb = loss.up.ppb();
    }
    Ok(states)
}

fn in_words(down: &LinkState, up: &LinkState, queue: QueueLimit) -> String {
    let one = |name: &str, state: &LinkState| {
        let mut words = name.to_owned();
        if state.rate_bps == UNLIMITED_RATE_BPS {
            words.push_str(" unlimited");
        } else {
            let rate = hexloop_traces::units::BitRate {
                bps: state.rate_bps,
            };
            words.push_str(&format!(" {rate}"));
        }
        if state.delay_ns > 0 {
            let delay = TimeSpan { ns: state.delay_ns };
            words.push_str(&format!(" {delay}"));
        }
        words
    };
    let queue = match queue {
        QueueLimit::Bytes(bytes) => ByteSize { bytes }.to_string(),
        QueueLimit::Packets(packets) => format!("{packets} packets"),
    };
    format!("{}, {}, queue {queue}", one("down", down), one("up", up))
}
