//! What may be changed about a link while it plays: by a timeline event or by hand.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use crate::schedule::{PlaybackChange, StateOverride};
use crate::settings::{LinkSettings, QueueDiscipline, QueueLimit};
use crate::state::UNLIMITED_RATE_BPS;
use crate::units::{BitRate, ByteSize, Share, TimeSpan};

/// One change of a link while its trace plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkChange {
    /// Of what is played.
    Play(PlaybackChange),
    /// Of what is set beside it.
    Set(SettingsChange),
}

/// Settings that may change while packets wait; `None` leaves what is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsChange {
    /// See [`LinkSettings::queue`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueLimit>,
    /// See [`LinkSettings::discipline`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discipline: Option<QueueDiscipline>,
    /// See [`LinkSettings::ecn`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecn: Option<bool>,
    /// See [`LinkSettings::reorder`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reorder: Option<bool>,
}

impl SettingsChange {
    /// The settings with these in them.
    #[must_use]
    pub fn over(&self, settings: LinkSettings) -> LinkSettings {
        LinkSettings {
            queue: self.queue.unwrap_or(settings.queue),
            discipline: self.discipline.unwrap_or(settings.discipline),
            ecn: self.ecn.unwrap_or(settings.ecn),
            reorder: self.reorder.unwrap_or(settings.reorder),
            ..settings
        }
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == SettingsChange::default()
    }
}

/// Writes what is there, each with its name, after a verb.
fn list(
    f: &mut fmt::Formatter<'_>,
    verb: &str,
    parts: impl IntoIterator<Item = Option<String>>,
) -> fmt::Result {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    write!(f, "{verb} {}", parts.join(", "))
}

impl Display for LinkChange {
    /// As the predicate of a sentence about the link: `jumps to 8 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkChange::Play(change) => playback(f, change),
            LinkChange::Set(change) => settings(f, change),
        }
    }
}

const fn span(ns: u64) -> TimeSpan {
    TimeSpan { ns }
}

fn playback(f: &mut fmt::Formatter<'_>, change: &PlaybackChange) -> fmt::Result {
    let over = match change {
        PlaybackChange::Pause => return f.write_str("pauses"),
        PlaybackChange::Resume => return f.write_str("resumes"),
        PlaybackChange::Jump { to_ns } => return write!(f, "jumps to {}", span(*to_ns)),
        PlaybackChange::Override(StateOverride::NONE) => {
            return f.write_str("follows its trace again");
        }
        PlaybackChange::Override(over) => over,
    };
    let share = |name: &str, ppb: Option<u32>| {
        ppb.map(Share::from_ppb)
            .map(|share| format!("{name} {share}"))
    };
    let parts = [
        over.rate_bps.map(|bps| match bps {
            UNLIMITED_RATE_BPS => "no limit of rate".to_owned(),
            bps => format!("rate {}", BitRate { bps }),
        }),
        over.delay_ns.map(|ns| format!("delay {}", span(ns))),
        over.jitter_ns
            .map(|ns| format!("jitter {}", span(u64::from(ns)))),
        share("loss", over.loss_ppb),
        over.loss_burst_milli
            .map(|milli| format!("bursts of {} packets", f64::from(milli) / 1000.0)),
        share("duplication", over.dup_ppb),
        share("corruption", over.corrupt_ppb),
        over.queue_bytes.map(|bytes| {
            let bytes = u64::from(bytes);
            format!("queue {}", ByteSize { bytes })
        }),
    ];
    list(f, "is overridden with", parts)
}

fn settings(f: &mut fmt::Formatter<'_>, change: &SettingsChange) -> fmt::Result {
    let word = |flag: Option<bool>, [yes, no]: [&str; 2]| {
        flag.map(|flag| if flag { yes } else { no }.to_owned())
    };
    let parts = [
        change.queue.map(|queue| format!("queue {queue}")),
        change
            .discipline
            .map(|discipline| format!("discipline {discipline}")),
        word(change.ecn, ["marking", "no marking"]),
        word(change.reorder, ["reordering", "order kept"]),
    ];
    list(f, "is set to", parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reads_as_a_sentence() {
        let over = StateOverride {
            rate_bps: Some(20_000_000),
            loss_ppb: Some(10_000_000),
            loss_burst_milli: Some(2_500),
            ..StateOverride::NONE
        };
        let set = SettingsChange {
            queue: Some(QueueLimit::Packets(200)),
            discipline: Some(QueueDiscipline::CODEL),
            ecn: Some(true),
            reorder: Some(false),
        };
        let said = [
            LinkChange::Play(PlaybackChange::Jump {
                to_ns: 8_000_000_000,
            }),
            LinkChange::Play(PlaybackChange::Override(over)),
            LinkChange::Play(PlaybackChange::Override(StateOverride::NONE)),
            LinkChange::Set(set),
        ]
        .map(|change| change.to_string());
        assert_eq!(
            said,
            [
                "jumps to 8 s",
                "is overridden with rate 20 Mbit/s, loss 1 %, bursts of 2.5 packets",
                "follows its trace again",
                "is set to queue 200 packets, discipline codel (5 ms over 100 ms), marking, \
                 order kept",
            ]
        );
    }

    #[test]
    fn changed_settings_leave_the_others_as_they_were() {
        let settings = LinkSettings::drop_tail(300_000);
        let change = SettingsChange {
            discipline: Some(QueueDiscipline::CODEL),
            ecn: Some(true),
            ..SettingsChange::default()
        };
        let changed = change.over(settings);
        assert_eq!(changed.queue, settings.queue);
        assert_eq!(changed.service, settings.service);
        assert!(changed.ecn && changed.discipline == QueueDiscipline::CODEL);
        assert_eq!(SettingsChange::default().over(settings), settings);
    }
}
