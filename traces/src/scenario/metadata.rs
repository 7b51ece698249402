//! What a generated trace says about itself.

use std::collections::BTreeMap;

use toml::Value;

use super::settings::{ChannelModel, FadingModel, LayoutName, MobilityKind};
use super::{Scenario, ScriptedEvent, Variant};
use crate::{Provenance, Radio, TRACE_SCHEMA, TraceMetadata, TraceStatus};

/// The metadata of a scenario's trace: its whole configuration, so that it can be made again.
/// `beyond` is how far its user goes beyond what the model describes.
pub(super) fn of(scenario: &Scenario, variant: Variant, beyond: Option<&str>) -> TraceMetadata {
    let mut configuration = BTreeMap::new();
    // A scenario was read from such a table, and is one again.
    if let Ok(Value::Table(table)) = Value::try_from(scenario) {
        for (key, value) in &table {
            flatten(key, value, &mut configuration);
        }
    }
    if variant.user > 0 {
        configuration.insert("user".to_owned(), variant.user.to_string());
    }
    TraceMetadata {
        schema: TRACE_SCHEMA,
        scenario: scenario.name.clone(),
        status: match beyond {
            Some(_) => TraceStatus::Simplified,
            None => scenario.status(),
        },
        duration_ns: scenario.duration.ns,
        end: scenario.end,
        seed: scenario.carrier().map(|_| variant.seed),
        generator: format!("hexloop {} scenario v1", env!("CARGO_PKG_VERSION")),
        configuration,
        notes: notes(scenario, beyond),
        provenance: provenance(scenario),
    }
}

/// Says that these events lie over a trace.
pub(super) fn note_events(metadata: &mut TraceMetadata, events: &[ScriptedEvent]) {
    for (index, event) in events.iter().enumerate() {
        // An event was read from such a value, and is one again.
        if let Ok(value) = Value::try_from(event) {
            let path = format!("events.{index}");
            flatten(&path, &value, &mut metadata.configuration);
        }
    }
    metadata.notes.push(EVENTS_NOTE.to_owned());
}

const EVENTS_NOTE: &str = "scripted events lie over it";

/// What is standard, extrapolated or assumed.
fn notes(scenario: &Scenario, beyond: Option<&str>) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |text: &str| notes.push(text.to_owned());
    match (&scenario.radio, &scenario.channel) {
        (Some(radio), Some(channel)) => {
            note("38.901 channel + NR-like L2, extrapolated; there is no 6G air interface yet");
            match channel.model {
                ChannelModel::Tr38901 => note(
                    "standard: path loss, line of sight (soft, spatially consistent), shadowing, delay \
                     spread, K factor, blockage and absolute time of arrival of TR 38.901; NR coding \
                     schemes and transport blocks",
                ),
                ChannelModel::CloseIn => note(
                    "standard: close-in path loss with NYUSIM's parameters, gases of ITU-R P.676, \
                     rain of P.838; line of sight, shadowing's course and fading of TR 38.901",
                ),
            }
            note(match channel.fading {
                FadingModel::Tdl => "standard: fading of TDL-D and TDL-C",
                FadingModel::Cdl => {
                    "standard: fading of CDL-D and CDL-C, angles scaled to the spreads of the place where \
                     the cell began to serve; assumed: they stay so and the user keeps its heading; the \
                     beam is Gaussian, and points along the line of sight or where it catches most"
                }
            });
            note(
                "assumed: times of handover and re-establishment; layers are equally strong; a packet is \
                 given up after 300 ms on the air; nearer than the path loss is described, it is that of \
                 where its description begins",
            );
            if radio.background_users > 0 {
                note(
                    "assumed: the cell's other users have 12 dB on average with 8 dB of spread, walk, \
                     and send in bursts; reports tell the scheduler how good each ninth of the band is",
                );
            }
            if scenario.network.layout != LayoutName::Single || scenario.network.sectors > 1 {
                note(if scenario.network.load_burst.ns == 0 {
                    "assumed: other cells disturb with their mean load; the strongest fade"
                } else {
                    "assumed: other cells transmit by turns, for their load; the strongest fade"
                });
            }
            if scenario.blockage.is_some() {
                note(
                    "assumed: people, cars and vehicles go along random lines around the user and its \
                     direct path; factories take blockage model A's regions of offices",
                );
            }
        }
        _ if scenario.satellite.is_some() => {
            note("38.811 channel + NR-like L2, extrapolated; there is no 6G air interface yet");
        }
        _ => note("an analytic control; it stands for no radio channel"),
    }
    if scenario.satellite.is_some() {
        note(
            "satellites: losses of TR 38.811 clause 6.6, orbits of a Walker constellation (assumed), \
             allocations every 15 s (measured by others); Doppler is compensated; uplink grants do \
             not wait for the satellite (configured grants, assumed); HARQ retransmissions neither, as \
             with feedback off and as many repetitions (assumed)",
        );
    }
    let beyond = beyond.map(str::to_owned);
    for extrapolation in scenario.extrapolations().into_iter().chain(beyond) {
        notes.push(format!("extrapolated: {extrapolation}"));
    }
    if !scenario.events.is_empty() {
        notes.push(EVENTS_NOTE.to_owned());
    }
    notes
}

fn provenance(scenario: &Scenario) -> Provenance {
    let mut provenance = Provenance::default();
    let (carrier, bandwidth) = (scenario.carrier(), scenario.bandwidth());
    let (Some(carrier), Some(bandwidth)) = (carrier, bandwidth) else {
        return provenance;
    };
    let mut follows = |name: &str, version: &str| {
        let (name, version) = (name.to_owned(), version.to_owned());
        provenance.spec_versions.insert(name, version);
    };
    if let Some(channel) = &scenario.channel {
        follows("3GPP TR 38.901", channel.spec.name());
        if channel.model == ChannelModel::CloseIn {
            follows("ITU-R P.676", "12");
            follows("ITU-R P.838", "3");
        }
    }
    if scenario.satellite.is_some() {
        follows("3GPP TR 38.811", "15.4");
    }
    follows("3GPP TS 38.214", "18");
    provenance.radio = Some(Radio {
        carrier_hz: carrier.hz,
        bandwidth_hz: Some(bandwidth.hz),
        numerology: scenario.radio.as_ref().map(|radio| radio.numerology),
        speed_mm_s: (scenario.mobility.kind == MobilityKind::Line)
            .then_some(scenario.mobility.speed.mm_per_h / 3600),
    });
    provenance
}

/// Puts a value and all within it under dotted keys.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                flatten(&format!("{path}.{key}"), value, into);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                flatten(&format!("{path}.{index}"), value, into);
            }
        }
        Value::String(text) => {
            into.insert(path.to_owned(), text.clone());
        }
        other => {
            into.insert(path.to_owned(), other.to_string());
        }
    }
}
