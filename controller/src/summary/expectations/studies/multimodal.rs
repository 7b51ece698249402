//! Claims about images: what merging leaves on the link, when visual tokens are there before the image, and what
//! answers name.

use std::collections::{BTreeMap, BTreeSet};

use hexloop_workloads::coding::Coding;
use hexloop_workloads::study::RowRecord;
use hexloop_workloads::study::multimodal::{Encoder, Look, compared};

use super::{Evidence, Judgement, RESOLUTION, TOLERANCE, judgement, told, unjudged, with_numbers};
use crate::format::{count_to_f64, length, ns_to_ms};
use crate::summary::studies::Findings;
use crate::summary::studies::multimodal::{LookCell, payload_bytes, sends_tokens};
use crate::summary::studies::placement::first_token_ns;
use hexloop_statistics::{NORMAL, mean_interval, ratio_of_sums};

/// The share of what is asked that answers have to name more than.
const NAMED: f64 = 0.5;

/// How much less of what is asked answers may name with fewer visual tokens.
const FALL: f64 = 0.10;

fn no_costs() -> Judgement {
    unjudged(&[], "no costs were measured".to_owned())
}

/// The time of the first token over what it should be, of each arm at each setting; `None` where no costs were measured.
pub(super) fn over_expected(findings: &Findings<'_>) -> Option<Vec<f64>> {
    findings.looks.as_ref()?;
    let ratio = |cell: &LookCell<'_>| {
        let expected = cell.expected_ns?;
        Some(count_to_f64(cell.first_token_ns) / count_to_f64(expected.max(1)))
    };
    Some(findings.look_cells().iter().filter_map(ratio).collect())
}

/// Visual tokens of each coding are, byte for byte, what all patches make divided by how many are merged.
pub(super) fn merging_divides(findings: &Findings<'_>) -> Judgement {
    let Some(looks) = &findings.looks else {
        return no_costs();
    };
    let (shape, width) = (looks.shape, u64::from(looks.shape.width));
    // Of each coding, merges and the bytes that were counted with each, but for what opens a frame.
    let mut counted: BTreeMap<Coding, BTreeMap<u32, BTreeSet<u64>>> = BTreeMap::new();
    let (mut judged, mut differing, mut told) = (0_u64, 0_u64, Vec::new());
    for look in findings.plan.study.looks() {
        if !sends_tokens(look) {
            continue;
        }
        let trials = findings.trials_with(look);
        let payloads = trials
            .iter()
            .map(|trial| payload_bytes(trial, (look, shape)));
        let payloads: Vec<Option<u64>> = payloads.collect();
        let expected = look.payload_bytes(shape);
        judged += length(&payloads);
        differing += payloads
            .iter()
            .map(|bytes| u64::from(*bytes != Some(expected)))
            .sum::<u64>();
        let Some(most) = payloads.iter().copied().flatten().max() else {
            continue;
        };
        let opening = look.coding.opening_bytes(width);
        let payloads = payloads.iter().flatten();
        let states = payloads.map(|bytes| bytes.saturating_sub(opening));
        let merges = counted.entry(look.coding).or_default();
        merges.entry(look.merge).or_default().extend(states);
        told.push(format!(
            "{} {most} B, {:.3} of the image",
            look.name(),
            count_to_f64(most) / count_to_f64(shape.image_bytes.max(1))
        ));
    }
    let (mut ratios, mut divided) = (0_u64, 0_u64);
    for merges in counted.values().filter(|merges| merges.len() > 1) {
        let whole: BTreeSet<u64> = merges
            .iter()
            .flat_map(|(merge, bytes)| bytes.iter().map(|bytes| u64::from(*merge) * bytes))
            .collect();
        ratios += 1;
        divided += u64::from(whole.len() == 1);
    }
    let numbers = [
        ("trials", judged),
        ("differing_trials", differing),
        ("codings", ratios),
        ("codings_that_are_divided", divided),
    ];
    let detail = format!(
        "{}; {differing} of {judged} trials differ from the formula, and of {divided} of {ratios} codings with several \
         merges m times the bytes of states are the same for every merge m",
        told.join(", ")
    );
    let held = (ratios > 0).then_some(differing == 0 && divided == ratios);
    let evidence = Evidence::equality(judged, "trials", "one byte");
    judgement(held, &numbers, evidence, &detail)
}

/// In each round trip visual tokens have the first token earlier than the image at rates below the critical one, and
/// later above it, or at least not surely the other way round.
pub(super) fn tokens_win_below(findings: &Findings<'_>) -> Judgement {
    let Some(record) = &findings.looks else {
        return no_costs();
    };
    let looks = findings.plan.study.looks();
    let Some((image, tokens)) = compared(&looks, record.shape) else {
        let detail = "an image that crosses the link and visual tokens that are smaller are needed";
        return unjudged(&[], detail.to_owned());
    };
    let Some(critical_bps) = record.critical_rate_bps(image, tokens) else {
        let detail = format!(
            "costs and sizes leave no rate at which {} and {} are there at once: one of both is better at every rate",
            tokens.name(),
            image.name()
        );
        let trials = length(&findings.trials);
        let evidence = Evidence::new(trials, "trials", "costs with such a rate");
        return judgement(Some(false), &[], evidence, &detail);
    };
    let cells = findings.look_cells();
    let rows = findings.rows.iter().map(|row| {
        let name = format!("round trip {} ms", ns_to_ms(row.round_trip_ns));
        (
            name,
            wins_in_row((row, &cells), (image, tokens), critical_bps),
        )
    });
    let rows: Vec<(String, Judgement)> = rows.collect();
    if rows.is_empty() {
        return unjudged(&[], "nothing was tried".to_owned());
    }
    super::super::all_of(rows.into_iter())
}

fn wins_in_row(
    (row, cells): (&RowRecord, &[LookCell<'_>]),
    (image, tokens): (Look, Look),
    critical_bps: u64,
) -> Judgement {
    let at = |look: Look, rate_bps: u64| {
        let mut cells = cells.iter();
        cells.find(|cell| {
            cell.row.round_trip_ns == row.round_trip_ns
                && cell.rate_bps == rate_bps
                && cell.look == look
        })
    };
    let (mut sure, mut rates) = ([0_u64; 2], [0_u64; 2]);
    let (mut wrong, mut detectable, mut words) = (0_u64, 0.0_f64, Vec::new());
    let mut trials = 0_u64;
    for cell in cells.iter().filter(|cell| cell.look == image) {
        let over_critical = count_to_f64(cell.rate_bps) / count_to_f64(critical_bps);
        let beside = at(tokens, cell.rate_bps).filter(|_| {
            cell.row.round_trip_ns == row.round_trip_ns && (over_critical - 1.0).abs() > TOLERANCE
        });
        let Some(beside) = beside else { continue };
        let Some(ratio) = paired(beside, cell) else {
            continue;
        };
        let [mean, low, high] = ratio;
        let is_above = over_critical > 1.0;
        let (is_right, is_wrong) = match is_above {
            true => (low > 1.0, high < 1.0 - RESOLUTION),
            false => (high < 1.0, low > 1.0 + RESOLUTION),
        };
        rates[usize::from(is_above)] += 1;
        sure[usize::from(is_above)] += u64::from(is_right);
        wrong += u64::from(is_wrong);
        detectable = detectable.max(high - mean);
        trials += length(&cell.trials) + length(&beside.trials);
        words.push(format!(
            "{:.3} Mbit/s {}",
            count_to_f64(cell.rate_bps) / 1e6,
            told(ratio)
        ));
    }
    let [below, above] = sure;
    let detail = format!(
        "first tokens of {} over those of {} should be 1 at {:.3} Mbit/s: {} (95 % of the images, paired); surely \
         earlier at {below} of {} rates below, surely later at {above} of {} above, surely the other way round at {wrong}",
        tokens.name(),
        image.name(),
        count_to_f64(critical_bps) / 1e6,
        words.join(", "),
        rates[0],
        rates[1]
    );
    let numbers = [
        ("critical_rate_bps", count_to_f64(critical_bps)),
        ("rates_below", count_to_f64(rates[0])),
        ("rates_above", count_to_f64(rates[1])),
        ("surely_earlier_below", count_to_f64(below)),
        ("surely_later_above", count_to_f64(above)),
        ("surely_the_other_way_round", count_to_f64(wrong)),
        ("detectable", detectable),
    ];
    let held = match (wrong, below, above) {
        (0, 0, _) | (0, _, 0) => None,
        (0, ..) => Some(true),
        _ => Some(false),
    };
    let effect = format!("a difference of {:.1} %", detectable * 100.0);
    let evidence = Evidence::new(trials, "trials", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

/// First tokens of one arm over those of another for the same images, with the ends of the 95 % interval.
fn paired(one: &LookCell<'_>, other: &LookCell<'_>) -> Option<[f64; 3]> {
    let pairs = one.trials.iter().filter_map(|trial| {
        let mut others = other.trials.iter();
        let beside = others.find(|beside| beside.prompt == trial.prompt)?;
        let [time, of] = [trial, beside].map(|trial| first_token_ns(trial).map(count_to_f64));
        Some((time?, of?))
    });
    let pairs: Vec<(f64, f64)> = pairs.collect();
    ratio_of_sums(&pairs)
}

/// With exact visual tokens of the least merge, wherever they are made, answers name more than half of what is asked
/// about the images.
pub(super) fn answers_name(findings: &Findings<'_>) -> Judgement {
    let looks = findings.plan.study.looks();
    let mut judged = Vec::new();
    for encoder in [Encoder::Edge, Encoder::Device] {
        let exact = looks.iter().copied();
        let exact = exact.filter(|look| look.encoder == encoder && look.coding.is_exact());
        let Some(look) = exact.min_by_key(|look| look.merge) else {
            continue;
        };
        judged.push((look.name(), names_more(findings, look)));
    }
    if judged.is_empty() {
        return unjudged(&[], "no arm is exact".to_owned());
    }
    super::super::all_of(judged.into_iter())
}

fn names_more(findings: &Findings<'_>, look: Look) -> Judgement {
    let named = findings.named_with(look);
    let images = findings.seen_with(look).len();
    let Some([share, low, high]) = named.interval() else {
        return unjudged(&[], "nothing was asked".to_owned());
    };
    let asked = count_to_f64(named.compared);
    // The interval is that of the score test, whose error at a half is that of a half.
    let detectable = NORMAL * (NAMED * (1.0 - NAMED) / asked).sqrt();
    let held = match () {
        () if low > NAMED => Some(true),
        () if high <= NAMED => Some(false),
        () => None,
    };
    let detail = format!(
        "of {images} images {:.1} % are named, {:.1} to {:.1} % (95 %)",
        share * 100.0,
        low * 100.0,
        high * 100.0
    );
    let numbers = [
        ("named", share),
        ("named_low", low),
        ("named_high", high),
        ("asked", asked),
        ("detectable_from", NAMED + detectable),
    ];
    let effect = format!(
        "that more than half are named, if {:.1} % are,",
        (NAMED + detectable) * 100.0
    );
    let evidence = Evidence::new(named.compared, "things asked", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

/// Of the same images no larger merge names less than the least one by more than a tenth of what is asked.
pub(super) fn merging_keeps(findings: &Findings<'_>) -> Judgement {
    let looks = findings.plan.study.looks();
    let mut judged = Vec::new();
    for look in &looks {
        let alike = looks.iter().copied();
        let alike = alike.filter(|of| of.encoder == look.encoder && of.coding == look.coding);
        let Some(least) = alike.min_by_key(|of| of.merge) else {
            continue;
        };
        if least.merge < look.merge {
            judged.push((look.name(), keeps(findings, (*look, least))));
        }
    }
    if judged.is_empty() {
        return unjudged(&[], "two merges are needed".to_owned());
    }
    super::super::all_of(judged.into_iter())
}

fn keeps(findings: &Findings<'_>, (look, least): (Look, Look)) -> Judgement {
    let of_least = findings.seen_with(least);
    let falls = findings.seen_with(look).into_iter();
    let falls = falls.filter_map(|(image, merged)| {
        let beside = of_least.get(&image)?;
        let share = |right: u32, asked: u32| f64::from(right) / f64::from(asked.max(1));
        Some(share(beside.right, beside.asked) - share(merged.right, merged.asked))
    });
    let falls: Vec<f64> = falls.collect();
    let Some([fall, low, high]) = mean_interval(&falls) else {
        let detail = format!("{} images are too few", falls.len());
        return unjudged(&[("images", length(&falls))], detail);
    };
    let held = match () {
        () if high <= FALL => Some(true),
        () if low > FALL => Some(false),
        () => None,
    };
    let detail = format!(
        "{:+.1} points fewer are named than with {}, {:+.1} to {:+.1} (95 %, paired); {:.0} are allowed",
        fall * 100.0,
        least.name(),
        low * 100.0,
        high * 100.0,
        FALL * 100.0
    );
    let numbers = [
        ("fall", fall),
        ("fall_low", low),
        ("fall_high", high),
        ("images", count_to_f64(length(&falls))),
    ];
    let effect = format!("{:.1} points fewer", (high - fall) * 100.0);
    let evidence = Evidence::new(length(&falls), "images", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
