//! Contexts that another node had: what getting them cost, what it took at each setting beside what that
//! should have taken, and what codings of keys and values lost.

use std::collections::BTreeMap;

use hexloop_workloads::coding::kv::KvCoding;
use hexloop_workloads::study::kv::{
    Circumstances, Context, Delivery, DeliveryCosts, LossRecord, QUESTION_TOKENS, Source,
    median_costs,
};
use hexloop_workloads::study::{Arm, RowRecord, TrialRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, law, mbps};
use crate::format::{count_to_f64, length, ns_to_ms, rounded};
use hexloop_statistics::mean_interval;

/// Contexts that the second node of a path had, and the first went on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyContext {
    /// Tokens of each.
    pub tokens: u32,
    /// To compute its keys and values on the first node, in milliseconds.
    pub recompute_ms: f64,
    /// The same on the second.
    pub prefill_ms: f64,
    /// From the whole context to the first token, on the first node, in milliseconds.
    pub answer_ms: f64,
    /// The codings that were tried, the most exact first.
    pub codings: Vec<StudyCodedKv>,
    /// Where the best way should change.
    pub regimes: Vec<StudyRegimes>,
    /// Every arm at every setting.
    pub deliveries: Vec<StudyDelivery>,
}

/// A coding of keys and values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyCodedKv {
    /// Its name.
    pub coding: String,
    /// Bytes of a context, scales included.
    pub bytes: u64,
    /// To cut out and code them on the second node, in milliseconds.
    pub encode_ms: f64,
    /// To decode them and put them into a cache on the first, in milliseconds.
    pub decode_ms: f64,
    /// Tokens of held-out texts that follow contexts in this coding.
    pub text_tokens: u64,
    /// Perplexity of those; null if there are none.
    pub perplexity: Option<f64>,
    /// The same over that with exact keys and values, and the ends of its 95 % interval over prompts.
    pub perplexity_over_exact: Option<[f64; 3]>,
    /// Mean Kullback-Leibler divergence from the distributions with exact ones, in nats.
    pub divergence: Option<f64>,
    /// Share of the tokens of which the most probable one is the same.
    pub same_choice: Option<f64>,
    /// The largest difference of any score.
    pub largest_delta: Option<f64>,
}

/// Where the best way should change, by costs and sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyRegimes {
    /// The round trip of each link, in milliseconds.
    pub round_trip_ms: f64,
    /// Where the second node has keys and values from.
    pub source: String,
    /// Below this rate the first node should compute the context again; null where there are not three
    /// regimes.
    pub shipping_from_mbps: Option<f64>,
    /// Above this one it should take keys and values as they are.
    pub exact_from_mbps: Option<f64>,
}

/// An arm at a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyDelivery {
    /// The round trip of each link, in milliseconds.
    pub round_trip_ms: f64,
    /// The rate of each link, in Mbit/s.
    pub rate_mbps: f64,
    /// The arm.
    pub arm: String,
    /// Trials.
    pub trials: u64,
    /// Until the context was there, the median, in milliseconds.
    pub context_ms: f64,
    /// Time of the first token, the median, in milliseconds.
    pub first_token_ms: f64,
    /// What that should be by bytes and costs, in milliseconds; null for an adaptive arm.
    pub expected_ms: Option<f64>,
    /// Bytes towards the first node for each trial, the mean, headers of frames included.
    pub down_bytes: f64,
    /// How contexts came, in the order of the trials: one name where all came alike.
    pub chosen: Vec<String>,
    /// The rate that the first node measured before it chose, the median, in Mbit/s; null where it did not
    /// choose.
    pub measured_mbps: Option<f64>,
}

impl<'a> Findings<'a> {
    /// What is shipped.
    pub(in crate::summary) fn context(&self) -> Context {
        Context {
            shape: self.kv_shape,
            tokens: self
                .plan
                .study
                .prompt_tokens
                .saturating_sub(QUESTION_TOKENS),
        }
    }

    /// Medians of all that was measured of what getting a context costs.
    pub(in crate::summary) fn delivery_costs(&self) -> Option<DeliveryCosts> {
        median_costs(&self.deliveries)
    }

    pub(in crate::summary) fn circumstances(
        &self,
        row: &RowRecord,
        source: Source,
    ) -> Circumstances {
        Circumstances {
            context: self.context(),
            source,
            echo_ns: row.echo_ns,
        }
    }

    /// The trials of each arm that ships contexts, at each setting.
    pub(in crate::summary) fn delivery_cells(&self) -> Vec<DeliveryCell<'a>> {
        let mut sorted: BTreeMap<(u64, u64, Source, Delivery), Vec<&TrialRecord>> = BTreeMap::new();
        for trial in &self.trials {
            if let Arm::KeyValues { delivery, source } = trial.arm {
                let key = (trial.round_trip_ns, trial.rate_bps, source, delivery);
                sorted.entry(key).or_default().push(trial);
            }
        }
        let cell = |((round_trip_ns, rate_bps, source, delivery), trials): (_, Vec<_>)| {
            let first_token_ns = law::median(trials.iter().filter_map(|trial: &&TrialRecord| {
                let first = trial.token_ns.first()?;
                Some(first.saturating_sub(trial.started_ns))
            }))?;
            let context_ns = law::median(trials.iter().filter_map(|trial: &&TrialRecord| {
                let context_ns = trial.transfer?.context_ns;
                Some(context_ns.saturating_sub(trial.started_ns))
            }))?;
            Some(DeliveryCell {
                round_trip_ns,
                rate_bps,
                source,
                delivery,
                trials,
                context_ns,
                first_token_ns,
            })
        };
        sorted.into_iter().filter_map(cell).collect()
    }
}

/// An arm at a setting.
#[derive(Debug)]
pub(in crate::summary) struct DeliveryCell<'a> {
    pub(in crate::summary) round_trip_ns: u64,
    pub(in crate::summary) rate_bps: u64,
    pub(in crate::summary) source: Source,
    pub(in crate::summary) delivery: Delivery,
    pub(in crate::summary) trials: Vec<&'a TrialRecord>,
    /// Until the context was there, the median.
    pub(in crate::summary) context_ns: u64,
    /// Likewise.
    pub(in crate::summary) first_token_ns: u64,
}

/// What a coding loses, over some prompts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::summary) struct Loss {
    pub(in crate::summary) prompts: u64,
    pub(in crate::summary) tokens: u64,
    pub(in crate::summary) perplexity: f64,
    /// The ratio to exact ones and its 95 % interval, paired by prompt; `None` of fewer than two prompts, or
    /// where none was exact.
    pub(in crate::summary) over_exact: Option<[f64; 3]>,
    pub(in crate::summary) divergence: f64,
    pub(in crate::summary) same_choice: f64,
    pub(in crate::summary) largest_delta: f64,
}

/// What a coding loses; `None` if nothing was measured of it.
pub(in crate::summary) fn loss(findings: &Findings<'_>, coding: KvCoding) -> Option<Loss> {
    let of = |coding: KvCoding| {
        let records = findings.losses.iter();
        records.filter(move |record| record.coding == coding)
    };
    let sum =
        |value: &dyn Fn(&LossRecord) -> u64| of(coding).map(|record| value(record)).sum::<u64>();
    let tokens = sum(&|record| u64::from(record.tokens));
    if tokens == 0 {
        return None;
    }
    let over_tokens = |value: u64| count_to_f64(value) / count_to_f64(tokens);
    let mean = |record: &LossRecord| {
        count_to_f64(record.surprise_nano) / 1e9 / f64::from(record.tokens.max(1))
    };
    let differences = of(coding).filter_map(|record| {
        let exact = of(KvCoding::F32).find(|exact| exact.prompt == record.prompt)?;
        Some(mean(record) - mean(exact))
    });
    let differences: Vec<f64> = differences.collect();
    let largest = of(coding)
        .map(|record| record.largest_delta_micro)
        .max()
        .unwrap_or(0);
    Some(Loss {
        prompts: length(&of(coding).collect::<Vec<_>>()),
        tokens,
        perplexity: (over_tokens(sum(&|record| record.surprise_nano)) / 1e9).exp(),
        over_exact: mean_interval(&differences).map(|ends| ends.map(f64::exp)),
        divergence: over_tokens(sum(&|record| record.divergence_nano)) / 1e9,
        same_choice: over_tokens(sum(&|record| u64::from(record.same_choice))),
        largest_delta: count_to_f64(largest) / 1e6,
    })
}

pub(super) fn summary(findings: &Findings<'_>) -> Option<StudyContext> {
    let costs = findings.delivery_costs()?;
    let study = &findings.plan.study;
    let offered = study.deliveries();
    let mut sources: Vec<Source> = study
        .arms
        .iter()
        .filter_map(|arm| match arm {
            Arm::KeyValues { source, .. } => Some(*source),
            _ => None,
        })
        .collect();
    sources.sort_unstable();
    sources.dedup();
    let regimes = findings.rows.iter().flat_map(|row| {
        let (costs, offered) = (&costs, &offered);
        sources.iter().map(move |source| {
            let regimes = costs.regimes_bps(offered, &findings.circumstances(row, *source));
            StudyRegimes {
                round_trip_ms: ns_to_ms(row.round_trip_ns),
                source: source.name().to_owned(),
                shipping_from_mbps: regimes.map(|[shipping, _]| mbps(shipping)),
                exact_from_mbps: regimes.map(|[_, exact]| mbps(exact)),
            }
        })
    });
    let codings = costs.codings.iter().filter(|of| {
        let ship = Delivery::Ship(of.coding);
        offered.contains(&ship)
    });
    let context = findings.context();
    let codings = codings.map(|of| {
        let lost = loss(findings, of.coding);
        StudyCodedKv {
            coding: of.coding.name().to_owned(),
            bytes: of.coding.bytes(context.shape, context.tokens),
            encode_ms: ns_to_ms(of.encode_ns),
            decode_ms: ns_to_ms(of.decode_ns),
            text_tokens: lost.map_or(0, |lost| lost.tokens),
            perplexity: lost.map(|lost| rounded(lost.perplexity, 4)),
            perplexity_over_exact: lost
                .and_then(|lost| lost.over_exact)
                .map(|ends| ends.map(|end| rounded(end, 5))),
            divergence: lost.map(|lost| rounded(lost.divergence, 9)),
            same_choice: lost.map(|lost| rounded(lost.same_choice, 4)),
            largest_delta: lost.map(|lost| rounded(lost.largest_delta, 6)),
        }
    });
    Some(StudyContext {
        tokens: context.tokens,
        recompute_ms: ns_to_ms(costs.recompute_ns),
        prefill_ms: ns_to_ms(costs.prefill_ns),
        answer_ms: ns_to_ms(costs.answer_ns),
        codings: codings.collect(),
        regimes: regimes.collect(),
        deliveries: deliveries(findings, &costs),
    })
}

fn deliveries(findings: &Findings<'_>, costs: &DeliveryCosts) -> Vec<StudyDelivery> {
    let cell = |cell: DeliveryCell<'_>| {
        let row = findings
            .rows
            .iter()
            .find(|row| row.round_trip_ns == cell.round_trip_ns);
        let expected = row.and_then(|row| {
            let at = findings.circumstances(row, cell.source);
            costs.first_token_ns(cell.delivery, &at, cell.rate_bps)
        });
        let transfers = || cell.trials.iter().filter_map(|trial| trial.transfer);
        let mut chosen: Vec<String> = transfers()
            .map(|how| how.delivery.name().to_owned())
            .collect();
        chosen.dedup();
        let down: u64 = cell
            .trials
            .iter()
            .flat_map(|trial| trial.hops.iter().map(|hop| hop.down))
            .sum();
        StudyDelivery {
            round_trip_ms: ns_to_ms(cell.round_trip_ns),
            rate_mbps: mbps(cell.rate_bps),
            arm: Arm::KeyValues {
                delivery: cell.delivery,
                source: cell.source,
            }
            .name(),
            trials: length(&cell.trials),
            context_ms: ns_to_ms(cell.context_ns),
            first_token_ms: ns_to_ms(cell.first_token_ns),
            expected_ms: expected.map(ns_to_ms),
            down_bytes: rounded(
                count_to_f64(down) / count_to_f64(length(&cell.trials).max(1)),
                1,
            ),
            chosen,
            measured_mbps: law::median(transfers().filter_map(|how| how.measured_bps)).map(mbps),
        }
    };
    findings.delivery_cells().into_iter().map(cell).collect()
}
