//! What the troubles of a playback mean for the link: a failure, or a warning.

use hexloop_topologies::plan::LinkPlan;
use hexloop_traces::Direction;

use super::LinkError;
use super::relay::{Played, PortFailure};
use crate::sys::realtime;

pub(super) fn failure_in_words(failure: PortFailure) -> String {
    match failure {
        PortFailure::Gone => "went away".to_owned(),
        PortFailure::Down => "was taken down".to_owned(),
        PortFailure::Other(number) => {
            let error = std::io::Error::from_raw_os_error(number);
            format!("could not be used any more ({error})")
        }
    }
}

/// Whether the interfaces are all right: the ports first, as [`Played::failures`] has them, then the
/// receiving interfaces in the order of [`Direction::BOTH`].
///
/// # Errors
/// One failed.
pub(super) fn judge_interfaces(
    plan: &LinkPlan,
    ports: [Option<PortFailure>; 2],
    taps: [Option<PortFailure>; 2],
) -> Result<(), LinkError> {
    let receivers = Direction::BOTH.map(|direction| plan.receiver(direction));
    let all = plan.ends.iter().zip(ports);
    let mut all = all.chain(receivers.into_iter().zip(taps));
    match all.find_map(|(end, failure)| Some((end, failure?))) {
        None => Ok(()),
        Some((end, failure)) => Err(LinkError::InterfaceFailed {
            link: plan.name.clone(),
            interface: end.interface.clone(),
            failure: failure_in_words(failure),
        }),
    }
}

/// A first row that is set later than this after T0 is told of: as much as the verdict tolerates.
const LATE_START_NS: u64 = 1_000_000;

/// In words, that the beginning was not shaped.
fn late_start(plan: &LinkPlan, played: &Played) -> Option<String> {
    let late_us = played.late_start_ns / 1000;
    (played.late_start_ns > LATE_START_NS).then(|| {
        format!(
            "link {}: the trace's first row was set {}.{:03} ms after it began, and until then the link did \
             not follow it; keep this machine less busy, give the link's thread real-time scheduling, or choose \
             datapath relay",
            plan.name,
            late_us / 1000,
            late_us % 1000
        )
    })
}

/// Warnings of packets that were lost on the machine, and of a beginning that was not shaped; `taps` is what became of the receiving
/// interfaces, in the order of [`Direction::BOTH`].
///
/// # Errors
/// An interface failed, or packets were too long.
pub(super) fn judge(
    plan: &LinkPlan,
    played: &Played,
    taps: [Option<PortFailure>; 2],
) -> Result<Vec<String>, LinkError> {
    judge_interfaces(plan, played.failures, taps)?;
    let trouble = played.trouble;
    if trouble.too_long > 0 {
        return Err(LinkError::TooLong {
            link: plan.name.clone(),
            mtu: plan.mtu,
            packets: trouble.too_long,
        });
    }
    let error = std::io::Error::from_raw_os_error(trouble.error);
    let losses = [
        (
            trouble.overflow,
            "found no room in the relay or its socket".to_owned(),
        ),
        (
            trouble.no_room,
            "found no room at the receiving interface".to_owned(),
        ),
        (
            trouble.interface_away,
            "found the interface down".to_owned(),
        ),
        (trouble.refused, format!("could not be passed on ({error})")),
    ];
    let warnings = losses.into_iter().filter(|(packets, _)| *packets > 0);
    Ok(warnings
        .map(|(packets, what)| format!("link {}: {packets} packets {what}", plan.name))
        .chain(late_start(plan, played))
        .collect())
}

/// Threads that ran for so long that they lost real-time scheduling, in words.
pub(super) fn demotions() -> Option<String> {
    let threads = realtime::demoted_threads();
    (threads > 0).then(|| {
        format!(
            "{threads} real-time threads ran for 2 s without a pause and are ordinary ones since; \
             there is more to relay than this machine can"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::histogram::NanosecondHistogram;
    use crate::link::relay::Trouble;
    use hexloop_topologies::plan::{DatapathChoice, LinkEnd};
    use hexloop_traces::LinkSettings;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn plan() -> LinkPlan {
        let end = |number: u8| LinkEnd {
            node: format!("node{number}"),
            interface: format!("hx{number}"),
            ipv4: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ipv6: IpAddr::V6(Ipv6Addr::LOCALHOST),
            mac: [0; 6],
        };
        LinkPlan {
            name: "air".to_owned(),
            index: 0,
            ends: [end(0), end(1)],
            trace: String::new(),
            trace_sha256: String::new(),
            datapath: DatapathChoice::Relay,
            mode: hexloop_topologies::plan::RelayModePlan::default(),
            mtu: 1500,
            settings: LinkSettings::drop_tail(1),
        }
    }

    fn played(trouble: Trouble, failures: [Option<PortFailure>; 2]) -> Played {
        Played {
            lateness: [NanosecondHistogram::new(), NanosecondHistogram::new()],
            cpu_ns: 0,
            trouble,
            joined: [Default::default(); 2],
            failures,
            late_start_ns: 0,
        }
    }

    #[test]
    fn a_first_row_that_is_set_late_is_a_warning_with_a_remedy() {
        let late = |late_start_ns| {
            let played = Played {
                late_start_ns,
                ..played(Trouble::default(), [None; 2])
            };
            judge(&plan(), &played, [None; 2]).unwrap()
        };
        assert_eq!(late(LATE_START_NS), [] as [&str; 0]);
        let [warning] = &late(50_004_000)[..] else {
            panic!("one warning");
        };
        assert!(
            warning.starts_with("link air: the trace's first row was set 50.004 ms after it began"),
            "{warning}"
        );
        assert!(warning.contains("datapath relay"), "{warning}");
    }

    #[test]
    fn a_failed_interface_is_named_whoever_saw_it() {
        let clean = || played(Trouble::default(), [None; 2]);
        let at_port = played(Trouble::default(), [None, Some(PortFailure::Gone)]);
        let error = judge(&plan(), &at_port, [None; 2]).unwrap_err();
        assert!(
            error.to_string().contains("interface hx1 went away"),
            "{error}"
        );
        // Down is what arrives at the first node.
        let error = judge(&plan(), &clean(), [Some(PortFailure::Down), None]).unwrap_err();
        assert!(
            error.to_string().contains("interface hx0 was taken down"),
            "{error}"
        );
        assert_eq!(
            judge(&plan(), &clean(), [None; 2]).unwrap(),
            [] as [&str; 0]
        );
    }

    #[test]
    fn losses_on_the_machine_are_warnings_and_packets_that_are_too_long_a_failure() {
        let trouble = Trouble {
            no_room: 7,
            refused: 1,
            error: libc::EPERM,
            ..Trouble::default()
        };
        let warnings = judge(&plan(), &played(trouble, [None; 2]), [None; 2]).unwrap();
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with("link air: 7 packets found no room"));
        let trouble = Trouble {
            too_long: 3,
            ..Trouble::default()
        };
        let error = judge(&plan(), &played(trouble, [None; 2]), [None; 2]).unwrap_err();
        assert!(
            error.to_string().contains("3 packets were longer"),
            "{error}"
        );
    }
}
