//! The carrier on which recorded ratios are played: link adaptation in both directions.

use serde::Deserialize as _;
use toml::{Table, Value};

use crate::phy::{LinkAdapter, SlotService};
use crate::scenario::RadioLink;
use crate::{CounterRng, Direction, Radio as Told, TraceMetadata};

/// The carrier where nothing is set. Its power means nothing: the ratios are there already.
const USUAL: &str = "carrier = \"3.5 GHz\"\nbandwidth = \"100 MHz\"\nnumerology = 1\n\
                     base_power = \"44 dBm\"\n";

/// The keys that change what becomes of a recorded ratio.
const KEYS: [&str; 9] = [
    "carrier",
    "bandwidth",
    "numerology",
    "duplex",
    "mcs_table",
    "downlink_layers",
    "uplink_layers",
    "configured_grant",
    "report_period",
];

/// The carrier with what the options set: `radio.bandwidth` to `20 MHz`.
///
/// # Errors
/// A key that a carrier does not have or that changes nothing, or a value that cannot be.
pub(super) fn carrier(settings: &[(String, String)]) -> Result<RadioLink, String> {
    let mut table: Table = toml::from_str(USUAL).map_err(|error| error.message().to_owned())?;
    for (key, value) in settings {
        let name = key.strip_prefix("radio.").ok_or_else(|| {
            format!("setting {key}: expected radio.KEY=VALUE, such as radio.bandwidth=\"20 MHz\"")
        })?;
        let text = || Value::String(value.clone());
        let parsed = toml::from_str::<Table>(&format!("value = {value}")).ok();
        let value = parsed.and_then(|mut table| table.remove("value"));
        table.insert(name.to_owned(), value.unwrap_or_else(text));
        RadioLink::deserialize(Value::Table(table.clone()))
            .map_err(|error| format!("setting {key}: {}", error.message()))?;
        if !KEYS.contains(&name) {
            return Err(format!(
                "setting {key}: the recording has the ratio already, so this changes nothing; what \
                 may be set is {}",
                KEYS.join(", ")
            ));
        }
    }
    let carrier =
        RadioLink::deserialize(Value::Table(table)).map_err(|error| error.message().to_owned())?;
    let mut problems = Vec::new();
    carrier.problems(&mut problems);
    match problems.first() {
        Some((key, problem)) => Err(format!("setting {key}: {problem}")),
        None => Ok(carrier),
    }
}

/// The carrier in words.
pub(super) fn in_words(carrier: &RadioLink) -> String {
    format!(
        "{} at {} kHz, {}, up to {} layers down and {} up",
        carrier.bandwidth,
        15_u32 << carrier.numerology.min(6),
        carrier.duplex,
        carrier.downlink_layers,
        carrier.uplink_layers
    )
}

/// Puts the carrier into what the trace says about itself.
pub(super) fn tell(carrier: &RadioLink, metadata: &mut TraceMetadata) {
    metadata.provenance.radio = Some(Told {
        carrier_hz: carrier.carrier.hz,
        bandwidth_hz: Some(carrier.bandwidth.hz),
        numerology: Some(carrier.numerology),
        speed_mm_s: None,
    });
    let versions = &mut metadata.provenance.spec_versions;
    versions.insert("3GPP TS 38.214".to_owned(), "18".to_owned());
    let Ok(Value::Table(table)) = Value::try_from(carrier) else {
        return;
    };
    for key in KEYS {
        let value = match table.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => continue,
        };
        metadata.configuration.insert(format!("radio.{key}"), value);
    }
}

/// Both directions of the radio link.
pub(super) struct Radio {
    adapters: [LinkAdapter; 2],
    pub(super) slot_ns: u64,
}

impl Radio {
    pub(super) fn new(carrier: &RadioLink) -> Result<Radio, String> {
        let adapter = |direction: Direction| {
            let settings = carrier.adapter_settings(direction)?;
            LinkAdapter::new(
                settings,
                CounterRng::new(0, "recorded user", direction.name()),
            )
            .map_err(|error| error.to_string())
        };
        Ok(Radio {
            adapters: [adapter(Direction::Down)?, adapter(Direction::Up)?],
            slot_ns: carrier.numerology()?.slot_ns(),
        })
    }

    /// Nothing is known of the channel any more.
    pub(super) fn reset(&mut self) {
        for adapter in &mut self.adapters {
            adapter.reset();
        }
    }

    /// What a slot carries down and up at these linear ratios.
    pub(super) fn step(&mut self, slot: u64, ratios: [f64; 2]) -> [SlotService; 2] {
        let [down, up] = &mut self.adapters;
        [
            down.step(slot, &[ratios[0]], 1.0),
            up.step(slot, &[ratios[1]], 1.0),
        ]
    }
}
