//! A question about one class or discipline that is asked again and again: what it has counted.

use std::io;

use crate::link::netlink::{Prepared, RouteSocket};

use super::codec::statistics::Statistics;
use super::codec::{HEADER_BYTES, NEW_CLASS, NEW_QDISC, Place, Verb};
use super::wire::Attributes;

const STATS2: u16 = 7; // TCA_STATS2

/// The question, built once.
#[derive(Debug)]
pub(super) struct Question {
    message: Prepared,
    /// The type of its answer.
    answer: u16,
}

impl Question {
    /// What a class has sent and what waits in it.
    pub(super) fn of_class(place: Place) -> Question {
        Question::new(NEW_CLASS, place)
    }

    /// What a discipline has sent and what waits in it.
    pub(super) fn of_discipline(place: Place) -> Question {
        Question::new(NEW_QDISC, place)
    }

    fn new(answer: u16, place: Place) -> Question {
        Question {
            message: Prepared::question(Verb::Get.of(answer), &place.message()),
            answer,
        }
    }

    /// Asks it.
    ///
    /// # Errors
    /// The kernel's refusal, or an answer without statistics.
    pub(super) fn ask(&mut self, socket: &mut RouteSocket) -> io::Result<Statistics> {
        let (mut found, answer) = (None, self.answer);
        socket.exchange(&mut self.message, |kind, payload| {
            if kind != answer {
                return false;
            }
            let attributes = payload.get(HEADER_BYTES..).unwrap_or(&[]);
            let statistics = Attributes::find(attributes, STATS2);
            found = statistics.and_then(Statistics::read);
            true
        })?;
        found.ok_or_else(|| io::Error::other("the kernel's answer holds no statistics"))
    }
}
