//! What the machine says of itself.

use std::collections::BTreeSet;
use std::fs;

use super::FilterKind;
use crate::link::LinkError;
use crate::link::interfaces;
use crate::link::netlink::{Mode, RouteSocket};
use crate::link::tc::codec::filter::{Classifier, ETH_P_ALL, Filter, Target, info};
use crate::link::tc::codec::{Discipline, NEW_FILTER, NEW_QDISC, Place, Qdisc};
use crate::link::tc::handle::Handle;
use crate::namespace::NetworkNamespace;

/// The fastest filter that this kernel has for peers, found by trying in a throw-away namespace.
///
/// # Errors
/// It has none, or no namespace can be made.
pub fn classifier_here() -> Result<FilterKind, LinkError> {
    let failed = |source| LinkError::Namespace {
        link: "(probe of filters)".to_owned(),
        source,
    };
    let namespace = NetworkNamespace::create().map_err(failed)?;
    namespace.run(try_filters).map_err(failed)?
}

fn try_filters() -> Result<FilterKind, LinkError> {
    let mut socket = interfaces::open_socket()?;
    let index = i32::try_from(interfaces::index_of("lo")?).unwrap_or(1);
    let ingress = Place::new(index, Handle::INGRESS_HANDLE, Handle::INGRESS);
    let hook = Qdisc::new(ingress, Discipline::Ingress).message();
    socket.order(NEW_QDISC, Mode::Create, &hook, || {
        "put the ingress hook on lo".to_owned()
    })?;
    match try_filter(&mut socket, index, Classifier::Flower) {
        Ok(()) => Ok(FilterKind::Flower),
        Err(_) => try_filter(&mut socket, index, Classifier::U32).map(|()| FilterKind::U32),
    }
}

fn try_filter(
    socket: &mut RouteSocket,
    index: i32,
    classifier: Classifier,
) -> Result<(), LinkError> {
    let filter = Filter {
        place: Place {
            info: info(super::FIRST_PRIORITY, ETH_P_ALL),
            ..Place::new(index, Handle::NONE, Handle::INGRESS_HANDLE)
        },
        classifier,
        packets: None,
        target: Target::Class(Handle::new(1, 1)),
        bucket: None,
    };
    socket.order(NEW_FILTER, Mode::Create, &filter.message(), || {
        format!("try a filter of kind {}", classifier.kind())
    })
}

/// The kinds of these disciplines that this kernel does not have, up to the first that it has; tried in a
/// throw-away namespace. Of a single one nothing is found out: who wants it is told when it is made.
///
/// # Errors
/// No namespace can be made.
pub(super) fn lacking(disciplines: &[Discipline]) -> Result<BTreeSet<String>, LinkError> {
    if disciplines.len() < 2 {
        return Ok(BTreeSet::new());
    }
    let failed = |source| LinkError::Namespace {
        link: "(probe of queues)".to_owned(),
        source,
    };
    let namespace = NetworkNamespace::create().map_err(failed)?;
    namespace.run(|| try_queues(disciplines)).map_err(failed)?
}

fn try_queues(disciplines: &[Discipline]) -> Result<BTreeSet<String>, LinkError> {
    let mut socket = interfaces::open_socket()?;
    let index = i32::try_from(interfaces::index_of("lo")?).unwrap_or(1);
    let place = Place::new(index, super::ROOT, Handle::ROOT);
    let mut lacks = BTreeSet::new();
    for discipline in disciplines {
        let kind = discipline.kind();
        let message = Qdisc::new(place, discipline.clone()).message();
        let made = socket.order(NEW_QDISC, Mode::Create, &message, || {
            format!("try a queue of kind {kind}")
        });
        if made.is_ok() {
            break;
        }
        lacks.insert(kind.to_owned());
    }
    Ok(lacks)
}

/// What an interface of this thread's namespace can send, in bit/s; `None` if it does not say.
#[must_use]
pub fn speed_bps(interface: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/sys/class/net/{interface}/speed")).ok()?;
    let megabits = text.trim().parse::<i64>().ok()?;
    u64::try_from(megabits)
        .ok()
        .filter(|&megabits| megabits > 0)
        .map(|megabits| megabits * 1_000_000)
}
