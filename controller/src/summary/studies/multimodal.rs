//! Images that were asked about: what crossed the link for them, when the first token was there beside when it should
//! have been, and what answers named.

use std::collections::BTreeMap;

use hexloop_workloads::study::multimodal::{
    Encoder, Look, LookCosts, LookRecord, LookShape, LooksRecord, compared,
};
use hexloop_workloads::study::{Arm, RowRecord, StudyFinding, TrialRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::own::Agreement;
use super::placement::first_token_ns;
use super::{Findings, law, mbps};
use crate::format::{count_to_f64, length, ns_to_ms, rounded};

/// Images that the first node of a path had, and the second was asked about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyLooks {
    /// Bytes of an image.
    pub image_bytes: u64,
    /// Patches that it is cut into.
    pub patches: u32,
    /// Width of a visual token.
    pub width: u32,
    /// Tokens of each question.
    pub question_tokens: u32,
    /// The arms that the critical rate is of, the one that sends the image first; null where no visual tokens are
    /// smaller than an image that is sent.
    pub compared: Option<[String; 2]>,
    /// Below this rate the second of them should have the first token earlier, in Mbit/s; null where one of both should
    /// at every rate.
    pub critical_rate_mbps: Option<f64>,
    /// Every arm.
    pub arms: Vec<StudyLook>,
    /// Every arm at every setting.
    pub cells: Vec<StudyLookCell>,
}

/// A way to ask about images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyLook {
    /// The arm.
    pub arm: String,
    /// Visual tokens in front of the question.
    pub visual_tokens: u64,
    /// Bytes of the image or its visual tokens that crossed the link for each image, headers and question apart: the
    /// mean over the trials; null without any.
    pub up_bytes: Option<f64>,
    /// The same over the bytes of the image.
    pub over_image: Option<f64>,
    /// What the first node computes before anything is sent, the median, in milliseconds.
    pub device_ms: Option<f64>,
    /// What the second computes until it has the first token, the median, in milliseconds.
    pub edge_ms: Option<f64>,
    /// Different images.
    pub images: u64,
    /// What was asked about them.
    pub asked: u64,
    /// Share of it that the answers name, and the ends of its 95 % interval; null if nothing was asked.
    pub named: Option<[f64; 3]>,
}

/// An arm at a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyLookCell {
    /// The round trip of each link, in milliseconds.
    pub round_trip_ms: f64,
    /// The rate of each link, in Mbit/s.
    pub rate_mbps: f64,
    /// The arm.
    pub arm: String,
    /// Trials.
    pub trials: u64,
    /// Time of the first token, the median, in milliseconds.
    pub first_token_ms: f64,
    /// What that should be by bytes and costs, in milliseconds.
    pub expected_ms: Option<f64>,
}

/// An arm at a setting.
#[derive(Debug)]
pub(in crate::summary) struct LookCell<'a> {
    pub(in crate::summary) row: &'a RowRecord,
    pub(in crate::summary) rate_bps: u64,
    pub(in crate::summary) look: Look,
    pub(in crate::summary) trials: Vec<&'a TrialRecord>,
    /// The median.
    pub(in crate::summary) first_token_ns: u64,
    /// What that should be; `None` where costs were not measured.
    pub(in crate::summary) expected_ns: Option<u64>,
}

/// Medians of what looking at an image costs, over all times that it was measured.
pub(super) fn costs(findings: &[StudyFinding]) -> Option<LooksRecord> {
    let records = findings.iter().filter_map(|finding| match finding {
        StudyFinding::Looks(record) => Some(record),
        _ => None,
    });
    let records: Vec<&LooksRecord> = records.collect();
    let first = records.first()?;
    let costs = first.costs.iter().filter_map(|one| {
        let all = || {
            records
                .iter()
                .filter_map(|record| record.costs_of(one.look))
        };
        Some(LookCosts {
            look: one.look,
            device_ns: law::median(all().map(|costs| costs.device_ns))?,
            edge_ns: law::median(all().map(|costs| costs.edge_ns))?,
            passes: all().map(|costs| costs.passes).sum(),
        })
    });
    Some(LooksRecord {
        shape: first.shape,
        costs: costs.collect(),
    })
}

impl<'a> Findings<'a> {
    /// The trials of each arm that looks at images, at each setting.
    pub(in crate::summary) fn look_cells(&self) -> Vec<LookCell<'a>> {
        let mut cells = Vec::new();
        for row in &self.rows {
            for look in self.plan.study.looks() {
                for (rate_bps, trials) in self.by_rate(row.round_trip_ns, &Arm::Look(look)) {
                    let times = trials.iter().filter_map(|trial| first_token_ns(trial));
                    let Some(median_ns) = law::median(times) else {
                        continue;
                    };
                    let looks = self.looks.as_ref();
                    cells.push(LookCell {
                        row,
                        rate_bps,
                        look,
                        first_token_ns: median_ns,
                        expected_ns: looks
                            .and_then(|looks| looks.first_token_ns(look, (row.echo_ns, rate_bps))),
                        trials,
                    });
                }
            }
        }
        cells
    }

    /// What was seen with one arm, by image, each once: answers do not depend on the links.
    pub(in crate::summary) fn seen_with(&self, look: Look) -> BTreeMap<u32, &'a LookRecord> {
        let seen = self.seen.iter().filter(|seen| seen.of == look);
        seen.map(|seen| (seen.prompt, *seen)).collect()
    }

    /// How much of what was asked answers of one arm name.
    pub(in crate::summary) fn named_with(&self, look: Look) -> Agreement {
        let mut named = Agreement::default();
        for seen in self.seen_with(look).values() {
            named.compared += u64::from(seen.asked);
            named.same += u64::from(seen.right);
        }
        named
    }

    /// The trials of one arm that looks at images.
    pub(in crate::summary) fn trials_with(&self, look: Look) -> Vec<&'a TrialRecord> {
        let trials = self.trials.iter().copied();
        trials
            .filter(|trial| trial.arm == Arm::Look(look))
            .collect()
    }
}

/// Bytes of the image or its visual tokens that a trial put on the link, headers and question apart; `None` if it put
/// fewer there than those are.
pub(in crate::summary) fn payload_bytes(
    trial: &TrialRecord,
    (look, shape): (Look, LookShape),
) -> Option<u64> {
    let besides = look.hop_bytes(shape).up - look.payload_bytes(shape);
    trial.hops.first()?.up.checked_sub(besides)
}

pub(super) fn summary(findings: &Findings<'_>) -> Option<StudyLooks> {
    let record = findings.looks.as_ref()?;
    let looks = findings.plan.study.looks();
    let pair = compared(&looks, record.shape);
    let critical = pair.and_then(|(image, tokens)| record.critical_rate_bps(image, tokens));
    let cell = |cell: LookCell<'_>| StudyLookCell {
        round_trip_ms: ns_to_ms(cell.row.round_trip_ns),
        rate_mbps: mbps(cell.rate_bps),
        arm: cell.look.name(),
        trials: length(&cell.trials),
        first_token_ms: ns_to_ms(cell.first_token_ns),
        expected_ms: cell.expected_ns.map(ns_to_ms),
    };
    Some(StudyLooks {
        image_bytes: record.shape.image_bytes,
        patches: record.shape.patches,
        width: record.shape.width,
        question_tokens: record.shape.question_tokens,
        compared: pair.map(|(image, tokens)| [image, tokens].map(Look::name)),
        critical_rate_mbps: critical.map(mbps),
        arms: looks
            .into_iter()
            .map(|look| arm(findings, (record, look)))
            .collect(),
        cells: findings.look_cells().into_iter().map(cell).collect(),
    })
}

fn arm(findings: &Findings<'_>, (record, look): (&LooksRecord, Look)) -> StudyLook {
    let trials = findings.trials_with(look);
    let payloads = trials
        .iter()
        .filter_map(|trial| payload_bytes(trial, (look, record.shape)));
    let payloads: Vec<u64> = payloads.collect();
    let sum = count_to_f64(payloads.iter().sum());
    let up_bytes = (!payloads.is_empty()).then(|| sum / count_to_f64(length(&payloads)));
    let image_bytes = count_to_f64(record.shape.image_bytes.max(1));
    let costs = record.costs_of(look);
    let named = findings.named_with(look);
    let images = findings.seen_with(look).len();
    StudyLook {
        arm: look.name(),
        visual_tokens: look.visual_tokens(record.shape),
        up_bytes: up_bytes.map(|bytes| rounded(bytes, 1)),
        over_image: up_bytes.map(|bytes| rounded(bytes / image_bytes, 4)),
        device_ms: costs.map(|costs| ns_to_ms(costs.device_ns)),
        edge_ms: costs.map(|costs| ns_to_ms(costs.edge_ns)),
        images: u64::try_from(images).unwrap_or(u64::MAX),
        asked: named.compared,
        named: named.interval().map(|ends| ends.map(|end| rounded(end, 6))),
    }
}

/// Whether visual tokens cross the link.
pub(in crate::summary) fn sends_tokens(look: Look) -> bool {
    look.encoder == Encoder::Device
}
