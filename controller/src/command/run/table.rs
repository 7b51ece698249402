//! The summary as a table for terminals.

use std::fmt::Write as _;

use crate::format::{grouped, significant};
use crate::summary::{
    BackgroundSummary, CellSummary, Distribution, JobSummary, LoadSummary, StudyAdapters,
    StudyLooks, StudyShared, StudySummary, Summary, TrafficSummary,
};

/// The table that ends a run.
pub(super) fn summary_table(summary: &Summary) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_table(&mut text, summary);
    text
}

fn write_table(text: &mut String, summary: &Summary) -> std::fmt::Result {
    let outcome = if summary.verdict.is_valid() {
        "VALID"
    } else {
        "INVALID"
    };
    writeln!(text, "\n{}: {outcome}", summary.run)?;
    for reason in &summary.verdict.reasons {
        writeln!(
            text,
            "  {} {}: {}",
            reason.code.name(),
            reason.subject,
            reason.message
        )?;
    }
    for note in &summary.verdict.notes {
        writeln!(text, "  note: {note}")?;
    }
    for link in &summary.links {
        let ratio =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |r| format!("{r:.4}"));
        writeln!(
            text,
            "  link {} {:4} by {}{}: delivered/trace {} ({} windows), late p99 {} us",
            link.link,
            link.direction,
            link.datapath.as_deref().unwrap_or("nothing"),
            link.mode
                .as_ref()
                .map_or_else(String::new, |mode| format!(", {mode}")),
            ratio(link.delivered_over_trace),
            link.backlogged_windows,
            link.lateness_us
                .p99
                .map_or_else(|| "-".to_owned(), significant)
        )?;
    }
    for change in &summary.changes {
        writeln!(
            text,
            "  changed in {}: {} {}, asked at {:.6} s, from {:.6} s on",
            change.phase, change.link, change.change, change.asked_s, change.achieved_s
        )?;
    }
    for capture in &summary.captures {
        writeln!(text, "  capture of {} {}", capture.link, capture.told())?;
    }
    for phase in &summary.traffic {
        traffic_rows(text, phase)?;
    }
    if let Some(rates) = &summary.rates {
        writeln!(text, "  rates: {}", rates.in_words())?;
    }
    for cell in &summary.cells {
        cell_rows(text, cell)?;
    }
    if !summary.jobs.is_empty() {
        job_rows(text, &summary.jobs)?;
    }
    for study in &summary.studies {
        study_rows(text, study)?;
    }
    for load in &summary.loads {
        load_rows(text, load)?;
    }
    for one in &summary.background {
        background_row(text, one)?;
    }
    for expectation in &summary.expectations {
        let outcome = expectation.outcome.name();
        writeln!(
            text,
            "  {outcome:9}  {}: {}",
            expectation.name, expectation.detail
        )?;
    }
    writeln!(text)
}

fn study_rows(text: &mut String, study: &StudySummary) -> std::fmt::Result {
    writeln!(
        text,
        "  study {}: {} trials over {}",
        study.study,
        study.trials,
        study.path.join(", ")
    )?;
    if !study.kpis.is_empty() {
        return kpi_rows(text, study);
    }
    if let Some(shared) = &study.shared {
        return shared_rows(text, shared);
    }
    if let Some(tasks) = &study.adapters {
        return adapter_rows(text, tasks);
    }
    for costs in &study.costs {
        let head = costs.head_ms.map(significant);
        writeln!(
            text,
            "    a token costs {} ms a layer on {}{}",
            significant(costs.layer_ms),
            costs.node,
            head.map_or_else(String::new, |head| format!(", {head} ms its head"))
        )?;
    }
    for row in &study.rows {
        let (asked, echo) = (significant(row.round_trip_ms), significant(row.echo_ms));
        write!(
            text,
            "    round trip {asked} ms ({echo} with an empty frame)"
        )?;
        if study.seeks_a_flip() {
            let number = |value: Option<f64>| value.map_or_else(|| "never".to_owned(), significant);
            write!(
                text,
                ": the best cut flips at {} Mbit/s by the formula, {} by the trials",
                number(row.critical_rate_mbps),
                number(row.flip_rate_mbps)
            )?;
        }
        writeln!(text)?;
    }
    halves_rows(text, study)?;
    study
        .looks
        .iter()
        .try_for_each(|looks| look_rows(text, looks))
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), significant)
}

fn look_rows(text: &mut String, looks: &StudyLooks) -> std::fmt::Result {
    let rate = looks.critical_rate_mbps;
    if let (Some([image, tokens]), Some(rate)) = (&looks.compared, rate) {
        writeln!(
            text,
            "    by costs and sizes {tokens} should be there before {image} below {} Mbit/s",
            significant(rate)
        )?;
    }
    for arm in &looks.arms {
        let named = arm.named.map_or_else(
            || "-".to_owned(),
            |[share, ..]| format!("{:.1} %", share * 100.0),
        );
        writeln!(
            text,
            "    {:16} {:>8} B an image, {} of it; {named} of the images are named",
            arm.arm,
            number(arm.up_bytes),
            number(arm.over_image)
        )?;
    }
    for cell in &looks.cells {
        writeln!(
            text,
            "    {:16} at {:>7} Mbit/s: first token after {} ms ({} by bytes and costs)",
            cell.arm,
            significant(cell.rate_mbps),
            significant(cell.first_token_ms),
            number(cell.expected_ms)
        )?;
    }
    Ok(())
}

fn halves_rows(text: &mut String, study: &StudySummary) -> std::fmt::Result {
    for arm in study.halves.iter().flat_map(|halves| &halves.arms) {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
        writeln!(
            text,
            "    {} at {} Mbit/s: {} times as fast as the first node alone at the shortest round trip, {} round trips \
             a token, slower from {} ms on",
            arm.arm,
            significant(arm.rate_mbps),
            number(arm.speed_up),
            number(arm.round_trips),
            number(arm.behind_from_ms)
        )?;
    }
    Ok(())
}

fn congestion_control(phase: &TrafficSummary) -> String {
    if phase.congestion_control.is_empty() {
        "TCP".to_owned()
    } else {
        phase.congestion_control.join(" and ")
    }
}

fn traffic_rows(text: &mut String, phase: &TrafficSummary) -> std::fmt::Result {
    let load = if phase.load { ", loaded" } else { "" };
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
    for one in &phase.following {
        writeln!(
            text,
            "  traffic {} {:4} over {}{load} by {}: delivered/trace {} in {} of {} windows, \
             correlation {}, {} of {} steps late",
            phase.phase,
            one.direction,
            phase.link,
            congestion_control(phase),
            one.delivered_over_trace
                .map_or_else(|| "-".to_owned(), |share| format!("{share:.4}")),
            one.backlogged_windows,
            one.windows,
            one.correlation
                .map_or_else(|| "-".to_owned(), |value| format!("{value:.4}")),
            one.late_steps,
            one.steps
        )?;
    }
    if let Some(trips) = &phase.round_trips {
        writeln!(
            text,
            "  traffic {} over {}{load}: round trip p50 {} ms of {} asked, largest {}, {} of {} lost",
            phase.phase,
            phase.link,
            number(trips.p50_ms),
            number(trips.asked_p50_ms),
            number(trips.max_ms),
            trips.lost,
            trips.sent
        )?;
    }
    Ok(())
}

fn cell_rows(text: &mut String, cell: &CellSummary) -> std::fmt::Result {
    let percent = |share: Option<f64>| {
        share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
    };
    let users = cell.users.iter().map(|user| {
        let [got, asked] = [user.delivered_share, user.asked_share].map(percent);
        format!("{} {got} ({asked} asked)", user.link)
    });
    let users: Vec<String> = users.collect();
    writeln!(
        text,
        "  cell {} {:4} in {}, {}: {} in {} of {} windows",
        cell.cell,
        cell.direction,
        cell.phase,
        cell.policy,
        users.join(", "),
        cell.backlogged_windows,
        cell.windows
    )
}

fn background_row(text: &mut String, one: &BackgroundSummary) -> std::fmt::Result {
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), grouped);
    let control = one.congestion_control.as_ref();
    writeln!(
        text,
        "  beside {}: {} {} over {}{}, {} B sent, {} B arrived, {} Mbit/s",
        one.phase,
        one.background,
        one.direction,
        one.link,
        control.map_or_else(String::new, |control| format!(" by {control}")),
        bytes(one.sent_bytes),
        bytes(one.received_bytes),
        one.received_mbps
            .map_or_else(|| "-".to_owned(), significant)
    )
}

fn load_rows(text: &mut String, load: &LoadSummary) -> std::fmt::Result {
    let pair = |distribution: &Distribution| {
        let one = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
        format!("{} / {}", one(distribution.p50), one(distribution.p95))
    };
    writeln!(
        text,
        "  load {} ({}, {}): {} of {} completed, {} tokens; ms p50/p95: TTFT {}, TPOT {}, E2E {}; {} B up, {} B down",
        load.phase,
        load.arrivals,
        load.mix,
        load.completed,
        load.requests,
        load.output_tokens,
        pair(&load.ttft_ms),
        pair(&load.tpot_ms),
        pair(&load.e2e_ms),
        grouped(load.http_bytes_up),
        grouped(load.http_bytes_down)
    )?;
    for (ending, count) in &load.endings {
        if ending != "completed" {
            writeln!(text, "    {count} ended with {ending}")?;
        }
    }
    Ok(())
}

fn kpi_rows(text: &mut String, study: &StudySummary) -> std::fmt::Result {
    for row in &study.kpis {
        let within = row
            .latency_ms
            .map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        write!(
            text,
            "    {:36} {:4} {within:>7}",
            row.use_case, row.direction
        )?;
        if let Some(why) = &row.not_tried {
            write!(text, "  not tried: {why}")?;
        }
        for outcome in &row.outcomes {
            write!(
                text,
                "  {} {} ({} % of its rate, 1:{}: {} ms, margin {:+.1} %)",
                outcome.verdict,
                if outcome.verdict == "mixed" {
                    format!("{} of {}", outcome.in_time, outcome.sent)
                } else {
                    outcome.sent.to_string()
                },
                outcome.percent,
                row.scale,
                significant(outcome.median_ms),
                outcome.margin * 100.0
            )?;
        }
        if let Some(sent) = &row.on_trace {
            let carried = sent.by_trace.as_ref();
            let carried = carried.map(|by_trace| by_trace.carried_over_needed[1]);
            write!(
                text,
                "  {} {} of {} (on {}, 1:{}: {} ms, margin {:+.1} %; the trace carries {} of what it needs)",
                sent.verdict,
                sent.in_time,
                sent.sent,
                sent.trace,
                row.scale,
                significant(sent.median_ms),
                sent.margin * 100.0,
                number(carried)
            )?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn adapter_rows(text: &mut String, tasks: &StudyAdapters) -> std::fmt::Result {
    for one in &tasks.deliveries {
        let expected = one.expected_ms.map(significant);
        writeln!(
            text,
            "    {:12} at {:>7} Mbit/s: {:>10} parameters, {:>10} B, served after {} ms ({} by bytes, round trip and \
             loading; {} to load)",
            one.what,
            significant(one.rate_mbps),
            grouped(one.parameters),
            grouped(one.bytes),
            significant(one.median_ms),
            expected.as_deref().unwrap_or("unknown"),
            significant(one.load_ms)
        )?;
    }
    for one in &tasks.waves {
        writeln!(
            text,
            "    {:14} at {:>7} Mbit/s: {:>6.1} % of {:>4} within {} ms, a wave takes {} ms, {} sequences a pass, {} \
             changes of task",
            one.arm,
            significant(one.rate_mbps),
            one.in_budget_share * 100.0,
            one.requests,
            significant(tasks.deadline_ms),
            significant(one.wave_ms),
            significant(one.sequences_per_pass),
            significant(one.switches_per_wave)
        )?;
    }
    for one in &tasks.tasks {
        let other = one
            .best_other_nats
            .map_or_else(|| "-".to_owned(), significant);
        writeln!(
            text,
            "    {:12} {} nats a token with its adapter, {} with none, {other} with the best of the others",
            one.task,
            significant(one.own_nats),
            significant(one.backbone_nats)
        )?;
    }
    Ok(())
}

fn shared_rows(text: &mut String, shared: &StudyShared) -> std::fmt::Result {
    let share = |share: f64| format!("{:.1} %", share * 100.0);
    for load in &shared.loads {
        let late = load.admitted_late.map_or_else(|| "-".to_owned(), share);
        writeln!(
            text,
            "    {:14} {:>2} users, {:>3} % ({:>6}/s): {:>7} of {:>4} within {} ms, {:>4} refused, {late} of the others \
             late",
            load.arm,
            load.users,
            load.offered_percent,
            significant(load.offered_per_s),
            share(load.in_budget_share),
            load.requests,
            significant(shared.deadline_ms),
            load.refused,
        )?;
    }
    for batch in &shared.batches {
        let energy = match (batch.j_per_token.value, &batch.j_per_token.reason) {
            (Some(joules), _) => format!("{} J", significant(joules)),
            (None, why) => format!(
                "energy unavailable ({})",
                why.as_deref().unwrap_or("unknown")
            ),
        };
        writeln!(
            text,
            "    batch of {:>2}: {} tokens/s, a token takes {} ms of CPU time, {energy}",
            batch.sequences,
            significant(batch.tokens_per_s),
            significant(batch.cpu_ms_per_token)
        )?;
    }
    Ok(())
}

fn job_rows(text: &mut String, jobs: &[JobSummary]) -> std::fmt::Result {
    writeln!(
        text,
        "\n  {:14} {:>9} {:>7}  {:>17}  {:>17}  {:>17}  {:>12} {:>12}",
        "placement",
        "completed",
        "tokens",
        "TTFT p50/p95 ms",
        "TPOT p50/p95 ms",
        "E2E p50/p95 ms",
        "up B",
        "down B"
    )?;
    jobs.iter().try_for_each(|job| job_row(text, job))
}

fn job_row(text: &mut String, job: &JobSummary) -> std::fmt::Result {
    let pair = |distribution: &Distribution| {
        let one = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
        format!("{} / {}", one(distribution.p50), one(distribution.p95))
    };
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), grouped);
    writeln!(
        text,
        "  {:14} {:>9} {:>7}  {:>17}  {:>17}  {:>17}  {:>12} {:>12}",
        job.phase,
        format!("{}/{}", job.completed, job.requests),
        job.output_tokens,
        pair(&job.ttft_ms),
        pair(&job.tpot_ms),
        pair(&job.e2e_ms),
        bytes(job.link_payload_bytes_up),
        bytes(job.link_payload_bytes_down)
    )
}
