//! Changes of links by hand, written as `[[events]]` of an experiment file are: the same keys, the
//! same checks, the same words.

use hexloop_traces::{Direction, LinkChange};

use crate::check::{self, Extent, Reporter};
use crate::fields;
use crate::overrides;
use crate::problem::{Problem, Problems, SourceText};
use crate::references::events;
use crate::section::Section;
use crate::value::{Origin, Table};

/// Reads a change: its action, and keys with their values, such as `("rate", "20 Mbit/s")`.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn link_change(
    action: &str,
    settings: &[(String, String)],
) -> Result<(Vec<Direction>, LinkChange), Problems> {
    let source = SourceText {
        file: String::new(),
        text: String::new(),
    };
    let mut reporter = Reporter {
        source: &source,
        problems: Vec::new(),
    };
    let mut table = Table::default();
    let origin = Origin::Option(action.to_owned());
    let action = [("action".to_owned(), action.to_owned())];
    for (key, text) in action.iter().chain(settings) {
        let origin = Origin::Option(key.clone());
        if let Err((message, help)) =
            overrides::set_in_table(&mut table, fields::EVENT, &[key.as_str()], text, &origin)
        {
            reporter.report(&origin, message, help);
        }
    }
    for key in ["name", "at", "phase", "link"] {
        if let Some(written) = table.get(key) {
            let message = format!("`{key}` means nothing for a change by hand");
            reporter.report(&written.origin, message, None);
        }
    }
    check::table(
        &mut reporter,
        &table,
        fields::EVENT,
        ("in the change", &origin),
        Extent::Part,
    );
    let section = Section::new(&table, fields::EVENT, &origin);
    let change = events::change_of(&mut reporter, &section);
    let problems: Vec<Problem> = reporter.problems;
    Problems::check(problems)?;
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_traces::{PlaybackChange, SettingsChange, StateOverride};

    fn read(action: &str, settings: &[(&str, &str)]) -> Result<LinkChange, String> {
        let settings: Vec<(String, String)> = settings
            .iter()
            .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
            .collect();
        link_change(action, &settings)
            .map(|(_, change)| change)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_change_by_hand_is_written_as_in_an_experiment_file() {
        let over = StateOverride {
            rate_bps: Some(20_000_000),
            ..StateOverride::NONE
        };
        let change = read("override", &[("rate", "20 Mbit/s"), ("direction", "up")]);
        assert_eq!(change, Ok(LinkChange::Play(PlaybackChange::Override(over))));
        let set = SettingsChange {
            ecn: Some(true),
            ..SettingsChange::default()
        };
        assert_eq!(read("set", &[("ecn", "true")]), Ok(LinkChange::Set(set)));
        assert_eq!(
            read("pause", &[]),
            Ok(LinkChange::Play(PlaybackChange::Pause))
        );
    }

    #[test]
    fn what_is_wrong_names_the_key_and_the_remedy() {
        /// Action, keys with values, and what is said.
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
        let cases: [Case<'_>; 7] = [
            ("jump", &[], "give it at least one of `to`"),
            (
                "override",
                &[("rate", "20")],
                "rate: `rate`: `20` is not a data rate",
            ),
            (
                "override",
                &[("loss", "90 %"), ("loss_burst", "2")],
                "losses cannot come in bursts of 2 packets on average where 90 % of all packets are lost",
            ),
            ("set", &[("discipline", "codle")], "did you mean `codel`?"),
            (
                "pause",
                &[("to", "5 s")],
                "`to` means nothing for action `pause`",
            ),
            ("set", &[("eecn", "true")], "unknown key `eecn`"),
            (
                "pause",
                &[("at", "5 s")],
                "`at` means nothing for a change by hand",
            ),
        ];
        for (action, settings, expected) in cases {
            let text = read(action, settings).unwrap_err();
            assert!(text.contains(expected), "{text}");
        }
    }
}
