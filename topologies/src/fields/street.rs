//! Settings of the street generator.

use super::Need::Default as Usually;
use super::{DAY, Field, Kind, Measure, SECOND, field, time};

pub(crate) const STREET: &[Field] = &[
    field(
        "duration",
        time(1, DAY),
        Usually("20 s"),
        "Length of the trace.",
    ),
    field(
        "step",
        time(1_000, DAY),
        Usually("10 ms"),
        "Time between rows.",
    ),
    field(
        "end",
        Kind::Choice(&["loop", "hold", "clear"]),
        Usually("hold"),
        "What follows the end: from the start again, the last row, or no limit at all.",
    ),
    field(
        "carrier",
        Kind::Measure(Measure::Frequency),
        Usually("7 GHz"),
        "Carrier, 0.5 to 100 GHz.",
    ),
    field(
        "bandwidth",
        Kind::Measure(Measure::Frequency),
        Usually("100 MHz"),
        "Of the carrier.",
    ),
    field(
        "downlink_share",
        Kind::Share { zero: true },
        Usually("20 %"),
        "Share of the cell's time that this user's downlink gets.",
    ),
    field(
        "uplink_share",
        Kind::Share { zero: true },
        Usually("8 %"),
        "The same for the uplink.",
    ),
    field(
        "distance",
        Kind::Measure(Measure::Length),
        Usually("120 m"),
        "How far along the street the base station is at the start; the user walks towards it.",
    ),
    field(
        "street_offset",
        Kind::Measure(Measure::Length),
        Usually("10 m"),
        "How far the user's line stays from the base station sideways; at least 10 m.",
    ),
    field(
        "speed",
        Kind::Measure(Measure::Speed),
        Usually("1.5 m/s"),
        "The user's speed.",
    ),
    field(
        "base_height",
        Kind::Measure(Measure::Length),
        Usually("10 m"),
        "Base station's antenna.",
    ),
    field(
        "user_height",
        Kind::Measure(Measure::Length),
        Usually("1.5 m"),
        "User's antenna, 1.5 m to 22.5 m.",
    ),
    field(
        "sight",
        Kind::Choice(&["clear", "obstructed"]),
        Usually("clear"),
        "Whether buildings stand between base station and user.",
    ),
    field(
        "base_power",
        Kind::Measure(Measure::PowerLevel),
        Usually("33 dBm"),
        "Transmit power of the base station, antenna gains included.",
    ),
    field(
        "user_power",
        Kind::Measure(Measure::PowerLevel),
        Usually("23 dBm"),
        "Transmit power of the user, antenna gains included.",
    ),
    field(
        "base_noise_figure",
        Kind::Measure(Measure::Ratio),
        Usually("5 dB"),
        "Of its receiver.",
    ),
    field(
        "user_noise_figure",
        Kind::Measure(Measure::Ratio),
        Usually("9 dB"),
        "Of its receiver.",
    ),
    field(
        "downlink_interference",
        Kind::Measure(Measure::Ratio),
        Usually("10 dB"),
        "How far interference lifts the noise in the downlink.",
    ),
    field(
        "uplink_interference",
        Kind::Measure(Measure::Ratio),
        Usually("6 dB"),
        "How far interference lifts the noise in the uplink.",
    ),
    field(
        "efficiency",
        Kind::Share { zero: false },
        Usually("60 %"),
        "Share of Shannon's capacity that the link reaches.",
    ),
    field(
        "efficiency_cap",
        Kind::Measure(Measure::SpectralEfficiency),
        Usually("7.4 bit/s/Hz"),
        "Highest spectral efficiency.",
    ),
    field(
        "lowest_sinr",
        Kind::Measure(Measure::Ratio),
        Usually("-6 dB"),
        "Signal to interference and noise ratio below which nothing gets through.",
    ),
    field(
        "shadowing",
        Kind::Measure(Measure::Ratio),
        Usually("4 dB"),
        "Its standard deviation.",
    ),
    field(
        "shadowing_distance",
        Kind::Measure(Measure::Length),
        Usually("10 m"),
        "Distance over which the shadowing's correlation falls to 1/e.",
    ),
    field(
        "blocker_at",
        time(0, DAY),
        Usually("8 s"),
        "When the blocker stands fully in the path.",
    ),
    field(
        "blocker_length",
        time(0, DAY),
        Usually("2500 ms"),
        "How long it stays fully in the path; `0 s` means no blocker.",
    ),
    field(
        "blocker_edge",
        time(0, DAY),
        Usually("100 ms"),
        "How long it takes to move in or out.",
    ),
    field(
        "blocker_loss",
        Kind::Measure(Measure::Ratio),
        Usually("45 dB"),
        "What it takes from the signal while fully in the path.",
    ),
    field(
        "downlink_delay",
        time(0, SECOND),
        Usually("4 ms"),
        "One-way delay of the downlink.",
    ),
    field(
        "uplink_delay",
        time(0, SECOND),
        Usually("8 ms"),
        "One-way delay of the uplink.",
    ),
    field(
        "jitter",
        time(0, SECOND),
        Usually("0 ns"),
        "Half-width of the uniform jitter.",
    ),
    field(
        "queue",
        Kind::Size {
            least: 0,
            most: 1 << 30,
        },
        Usually("300 kB"),
        "Queue before the bottleneck, each way; `0 B` leaves it to the link.",
    ),
];
