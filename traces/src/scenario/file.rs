//! A scenario file: its text, its checks, and what the command line puts over it.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::error::{ScenarioError, ScenarioProblem, locate};
use super::settings::{
    BlockageSettings, ChannelModel, ChannelSettings, HandoverSettings, MobilitySettings,
    NetworkSettings, RadioLink, SatelliteSettings, Weather,
};
use super::{Control, Generator, ScriptedEvent, Variant};
use crate::mobility::{RecordedTrack, TrackError, TrackFormat};
use crate::ntn::Band;
use crate::units::{Frequency, Length, TimeSpan};
use crate::{EndPolicy, TraceError, TraceStatus};

/// The longest scenario file.
const LONGEST_TEXT_BYTES: usize = 1 << 20;

/// A scenario: what its file says, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// A short name, such as `umi-fr3-street`.
    pub name: String,
    /// What it is, in one line.
    pub about: String,
    /// Length of the trace.
    pub duration: TimeSpan,
    /// Time between rows.
    pub step: TimeSpan,
    /// What follows the end.
    #[serde(default = "hold")]
    pub end: EndPolicy,
    /// A link by formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// The air interface of a radio link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radio: Option<RadioLink>,
    /// Its channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelSettings>,
    /// Sites and antennas.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: NetworkSettings,
    /// How the user moves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mobility: MobilitySettings,
    /// When the user is handed over.
    #[serde(default, skip_serializing_if = "is_default")]
    pub handover: HandoverSettings,
    /// What stands in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blockage: Option<BlockageSettings>,
    /// What the air does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub weather: Weather,
    /// A link by satellites, alone or where base stations do not reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub satellite: Option<SatelliteSettings>,
    /// What is scripted on top.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<ScriptedEvent>,
    /// The track of [`MobilitySettings::file`], once it has been read.
    #[serde(skip)]
    track: Option<RecordedTrack>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const fn hold() -> EndPolicy {
    EndPolicy::Hold
}

impl Scenario {
    /// Reads the text of a scenario file; `file` is the name for errors.
    ///
    /// # Errors
    /// Everything that is wrong, each with line and column.
    pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
        Scenario::parse_with(file, text, &[])
    }

    /// The same with settings of the command line put over it: dotted keys and values as in TOML,
    /// or as plain text (`radio.carrier` to `15 GHz`).
    ///
    /// # Errors
    /// Everything that is wrong; what comes of a setting is told without a place in the file.
    pub fn parse_with(
        file: &str,
        text: &str,
        settings: &[(String, String)],
    ) -> Result<Scenario, ScenarioError> {
        if text.len() > LONGEST_TEXT_BYTES {
            let problem = format!("the file is larger than {LONGEST_TEXT_BYTES} bytes");
            return Err(ScenarioError::at(file, "", Some(0), problem));
        }
        let mut scenario: Scenario =
            toml::from_str(text).map_err(|error| ScenarioError::of_toml(file, text, &error))?;
        if !settings.is_empty() {
            let mut table: Table =
                toml::from_str(text).map_err(|error| ScenarioError::of_toml(file, text, &error))?;
            for (key, value) in settings {
                put(&mut table, key, value)
                    .and_then(|()| {
                        Scenario::deserialize(Value::Table(table.clone()))
                            .map_err(|error| error.message().to_owned())
                    })
                    .map(|changed| scenario = changed)
                    .map_err(|problem| {
                        let problem = format!("setting {key}={value}: {problem}");
                        ScenarioError::at(file, text, None, problem)
                    })?;
            }
        }
        let problems: Vec<ScenarioProblem> = scenario
            .problems()
            .into_iter()
            .map(|(path, problem)| ScenarioProblem {
                place: place_of(text, &path, settings),
                problem: format!("{path}: {problem}"),
            })
            .collect();
        if problems.is_empty() {
            Ok(scenario)
        } else {
            Err(ScenarioError {
                file: file.to_owned(),
                problems,
            })
        }
    }

    /// Everything that is wrong with it: the dotted key and why.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut report = |path: String, problem: String| found.push((path, problem));
        if !crate::state::is_event_name(&self.name) {
            let rule = "a name has at most 64 letters, digits, `-`, `_` and `.`";
            report("name".to_owned(), rule.to_owned());
        }
        if self.step.ns < 1_000 {
            report("step".to_owned(), "at least 1 us".to_owned());
        }
        if self.duration.ns < self.step.ns {
            let problem = format!("at least one step of {}", self.step);
            report("duration".to_owned(), problem);
        }
        if let Some(control) = &self.control {
            if let Some((key, problem)) = control.problem() {
                report(format!("control.{key}"), problem);
            }
            for (key, there) in [
                ("radio", self.radio.is_some()),
                ("satellite", self.satellite.is_some()),
            ] {
                if there {
                    let problem = format!("a scenario has a [control] or a [{key}], not both");
                    report(key.to_owned(), problem);
                }
            }
        } else if self.radio.is_none() && self.satellite.is_none() {
            let problem = "the scenario says nothing about the link: it needs a [radio] with its \
                           [channel], a [satellite], or a [control]";
            report("control".to_owned(), problem.to_owned());
        }
        if let Some(radio) = &self.radio {
            self.radio_problems(radio, &mut found);
        }
        if let Some(satellite) = &self.satellite {
            satellite.problems(&mut found);
            self.step_problem(&satellite.radio, &mut found);
        }
        for (index, event) in self.events.iter().enumerate() {
            if let Some((key, problem)) = event.problem() {
                found.push((format!("events.{index}.{key}"), problem));
            }
        }
        found
    }

    fn radio_problems(&self, radio: &RadioLink, found: &mut Vec<(String, String)>) {
        radio.problems(found);
        match &self.channel {
            Some(channel) => channel.problems(radio.carrier, found),
            None => found.push((
                "channel".to_owned(),
                "a [radio] needs a [channel] with its `scenario`".to_owned(),
            )),
        }
        self.network.problems(found);
        self.mobility.problems(found);
        self.handover.problems(found);
        self.weather.problems(found);
        if let Some(blockage) = &self.blockage {
            blockage.problems(found);
        }
        self.step_problem(radio, found);
        if let Some(channel) = self.channel.as_ref().filter(|channel| !channel.extrapolate)
            && let Some(outside) = self.heights_outside(channel)
        {
            let problem = format!("{outside}; `extrapolate = true` goes on, and the trace says so");
            found.push(("channel.scenario".to_owned(), problem));
        }
    }

    /// What of the antennas' heights the channel model does not cover.
    pub(super) fn heights_outside(&self, channel: &ChannelSettings) -> Option<String> {
        let (base_m, user_m) = channel.scenario.usual_heights_m();
        let base_m = self.network.height.map_or(base_m, Length::as_metres_f64);
        channel.heights_outside(base_m, self.mobility.height_m(user_m))
    }

    fn step_problem(&self, radio: &RadioLink, found: &mut Vec<(String, String)>) {
        if let Ok(numerology) = radio.numerology()
            && !self.step.ns.is_multiple_of(numerology.slot_ns())
        {
            let slot_ns = numerology.slot_ns();
            let problem = format!("a multiple of the slot, which lasts {slot_ns} ns");
            found.push(("step".to_owned(), problem));
        }
    }

    /// The air interface, of base stations where there are any.
    fn air_interface(&self) -> Option<&RadioLink> {
        let satellite = self.satellite.as_ref().map(|satellite| &satellite.radio);
        self.radio.as_ref().or(satellite)
    }

    /// The carrier of a channel; controls have none.
    #[must_use]
    pub fn carrier(&self) -> Option<Frequency> {
        self.air_interface().map(|radio| radio.carrier)
    }

    /// Its bandwidth.
    #[must_use]
    pub fn bandwidth(&self) -> Option<Frequency> {
        self.air_interface().map(|radio| radio.bandwidth)
    }

    /// How far the trace may be trusted: not fully where a model is used outside of what it was made
    /// for.
    #[must_use]
    pub fn status(&self) -> TraceStatus {
        if self.radio.is_none() && self.satellite.is_none() {
            return TraceStatus::Control;
        }
        if self.extrapolations().is_empty() {
            TraceStatus::Checked
        } else {
            TraceStatus::Simplified
        }
    }

    /// Which models are used outside of what they were made for, in words.
    pub(super) fn extrapolations(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let (Some(radio), Some(channel)) = (&self.radio, &self.channel) {
            let carrier = radio.carrier;
            if channel.is_extrapolated(carrier) {
                found.push(format!("the path loss at {carrier}"));
            }
            if channel.model == ChannelModel::CloseIn && carrier.as_ghz_f64() > 100.0 {
                found.push(
                    "line of sight, the course of shadowing, fading and blockage of TR 38.901, which \
                     ends at 100 GHz"
                        .to_owned(),
                );
            }
            found.extend(self.heights_outside(channel));
        }
        if let Some(satellite) = &self.satellite {
            let carrier = satellite.radio.carrier;
            if Band::nearest(carrier.as_ghz_f64()).1 {
                found.push(format!("shadowing and clutter of TR 38.811 at {carrier}"));
            }
        }
        found
    }

    /// The channel of a radio link.
    pub(super) fn channel(&self) -> Result<&ChannelSettings, TraceError> {
        self.channel.as_ref().ok_or_else(|| TraceError::Generator {
            setting: "channel",
            problem: "a [radio] needs a [channel]".to_owned(),
        })
    }

    /// The file of the track that the user follows.
    #[must_use]
    pub fn track_file(&self) -> Option<&str> {
        self.mobility.file.as_deref()
    }

    /// Gives the track of [`Scenario::track_file`], which whoever reads files has read.
    ///
    /// # Errors
    /// Text that is not such a track, with line and column.
    pub fn set_track(&mut self, text: &str) -> Result<(), TrackError> {
        let format = TrackFormat::of_file(self.track_file().unwrap_or_default());
        let usual = self
            .channel
            .as_ref()
            .map_or(1.5, |channel| channel.scenario.usual_heights_m().1);
        let height_m = self.mobility.height_m(usual);
        self.track = Some(RecordedTrack::parse(text, format, height_m)?);
        Ok(())
    }

    pub(super) const fn track(&self) -> Option<&RecordedTrack> {
        self.track.as_ref()
    }

    /// The trace of this scenario, row by row.
    ///
    /// # Errors
    /// A scenario with [`Scenario::problems`].
    pub fn generate(&self, variant: Variant) -> Result<Generator, TraceError> {
        Generator::new(self, variant)
    }
}

/// Where the value at `path` was written, unless the command line put another over it.
fn place_of(text: &str, path: &str, settings: &[(String, String)]) -> Option<(usize, usize)> {
    let set = settings
        .iter()
        .any(|(key, _)| path == key || path.starts_with(&format!("{key}.")));
    (!set).then(|| locate(text, path))
}

/// Puts a value over what stands at a dotted key.
fn put(table: &mut Table, key: &str, value: &str) -> Result<(), String> {
    let parsed = toml::from_str::<Table>(&format!("value = {value}"))
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"));
    let value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    let mut keys: Vec<&str> = key.split('.').collect();
    let Some(last) = keys.pop().filter(|last| !last.is_empty()) else {
        return Err("a setting is a dotted key, such as `radio.carrier`".to_owned());
    };
    let mut place = table;
    for key in keys {
        place = place
            .entry(key)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("`{key}` is not a table"))?;
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
