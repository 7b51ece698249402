//! What may have become of the end of a link, and how that is told.

use hexloop_topologies::plan::{LinkEnd, LinkPlan};

use super::LinkError;
use super::relay::PortFailure;
use super::trouble::failure_in_words;

/// The end of a link as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) mtu: u32,
    pub(crate) is_up: bool,
}

/// What is not as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It was deleted, or moved into another namespace: there is no way back.
    Gone,
    /// It carries nothing until somebody brings it up.
    Down,
    /// Nobody who was told the old name finds it.
    Renamed(String),
    /// It sends other packets than the plan says.
    Mtu(u32),
}

impl Wrong {
    /// All that is wrong with the end of a link.
    pub(crate) fn all(found: Option<&Found>, plan: &LinkPlan, end: &LinkEnd) -> Vec<Wrong> {
        let Some(found) = found else {
            return vec![Wrong::Gone];
        };
        let renamed = (found.name != end.interface).then(|| Wrong::Renamed(found.name.clone()));
        let mtu = (found.mtu != plan.mtu).then_some(Wrong::Mtu(found.mtu));
        let down = (!found.is_up).then_some(Wrong::Down);
        [renamed, mtu, down].into_iter().flatten().collect()
    }

    /// Whether the link will never carry anything again.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Wrong::Gone)
    }

    /// The same as whoever uses the link is told.
    pub(crate) fn error(&self, plan: &LinkPlan, end: &LinkEnd) -> LinkError {
        let failed = |failure| LinkError::InterfaceFailed {
            link: plan.name.clone(),
            interface: end.interface.clone(),
            failure: failure_in_words(failure),
        };
        let changed = |what| LinkError::InterfaceChanged {
            link: plan.name.clone(),
            interface: end.interface.clone(),
            what,
        };
        match self {
            Wrong::Gone => failed(PortFailure::Gone),
            Wrong::Down => failed(PortFailure::Down),
            Wrong::Renamed(name) => changed(format!("it was renamed to {name}")),
            Wrong::Mtu(mtu) => changed(format!("its MTU went from {} to {mtu} bytes", plan.mtu)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::plan;

    #[test]
    fn the_end_of_a_link_is_gone_or_has_everything_told_that_is_wrong_with_it() {
        let plan = plan();
        let end = &plan.ends[1];
        let found = |name: &str, mtu, is_up| Found {
            name: name.to_owned(),
            mtu,
            is_up,
        };
        let all = |found: Option<Found>| Wrong::all(found.as_ref(), &plan, end);
        assert_eq!(all(Some(found("hxl0n1", 1500, true))), []);
        assert_eq!(all(None), [Wrong::Gone]);
        let wrong = all(Some(found("other0", 1400, false)));
        let renamed = Wrong::Renamed("other0".to_owned());
        assert_eq!(wrong, [renamed, Wrong::Mtu(1400), Wrong::Down]);
        assert!(Wrong::Gone.is_final() && !wrong.iter().any(Wrong::is_final));
        for (wrong, told) in [
            (Wrong::Gone, "interface hxl0n1 went away"),
            (Wrong::Down, "interface hxl0n1 was taken down"),
            (Wrong::Mtu(1400), "its MTU went from 1500 to 1400 bytes"),
            (Wrong::Renamed("x".to_owned()), "it was renamed to x"),
        ] {
            let error = wrong.error(&plan, end).to_string();
            assert!(
                error.contains(told) && error.contains("leave interfaces"),
                "{error}"
            );
        }
    }
}
