//! What was run, on what, and how to run it again.

use std::fmt::{self, Write};

use hexloop_topologies::plan::{ModelPlan, ModelSource, NodePlan};

use super::Data;
use super::html::{Table, escape, facts};
use crate::format::{bit_rate, count_to_f64, grouped, ns_to_s, trimmed};
use crate::record::environment::{Known, ModelOrigin};

/// What was served; nothing where there was no model.
fn model_rows(
    [name, weights]: [&'static str; 2],
    (model, origin): (Option<&ModelPlan>, Option<&ModelOrigin>),
) -> Option<[(&'static str, String); 2]> {
    let (model, origin) = (model?, origin?);
    let source = match &model.source {
        ModelSource::Recipe(name) => format!("built-in recipe <code>{}</code>", escape(name)),
        ModelSource::Directory(path) => {
            let path = escape(&path.display().to_string());
            format!("checkpoint in <code>{path}</code>")
        }
    };
    let template = origin
        .chat_template_tokens
        .map(|tokens| format!("; {tokens} tokens of every prompt are its chat template's"));
    let model = format!(
        "{source}: {} decoder layers, width {}, {} weights; {}{}",
        model.layers,
        model.width,
        grouped(origin.parameters),
        escape(&origin.origin),
        template.unwrap_or_default()
    );
    let sha256 = format!("SHA-256 <code>{}</code>", escape(&origin.weights_sha256));
    Some([(name, model), (weights, sha256)])
}

/// How exits agree with the last layer; nothing where none is used or nothing is known of them.
fn exits_row(model: Option<&ModelOrigin>) -> Option<(&'static str, String)> {
    let exits = &model?.exits;
    let told = exits.iter().map(|exit| {
        let percent = exit.agreement * 100.0;
        format!("{percent:.1} % after layer {}", exit.layer)
    });
    let told: Vec<String> = told.collect();
    let words = format!("{} of held-out tokens as the last layer", told.join(", "));
    (!exits.is_empty()).then_some(("Early exits", words))
}

pub(super) fn section(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let plan = &data.records.plan;
    writeln!(page, "<h2>What was run</h2>")?;
    let mut rows = vec![
        ("Experiment", escape(&plan.experiment)),
        ("Seed", plan.seed.to_string()),
        (
            "Plan",
            format!("SHA-256 <code>{}</code>", data.records.plan_sha256),
        ),
    ];
    let environment = &data.records.environment;
    let of_model = (plan.model.as_ref(), environment.model.as_ref());
    rows.extend(
        model_rows(["Model", "Weights"], of_model)
            .into_iter()
            .flatten(),
    );
    let of_draft = (plan.draft_model.as_ref(), environment.draft_model.as_ref());
    let names = ["Second model", "Its weights"];
    rows.extend(model_rows(names, of_draft).into_iter().flatten());
    rows.extend(exits_row(environment.model.as_ref()));
    if let Some(agent) = &data.records.results.agent {
        rows.push((
            "Agent",
            format!(
                "version {}, {}; jobs run as {}; CPU shares by {}",
                escape(&agent.version),
                escape(&agent.privilege),
                escape(&agent.job_user),
                escape(&agent.cpu_control)
            ),
        ));
    }
    facts(page, &rows)?;
    nodes(page, data)?;
    links(page, data)?;
    requests(page, data)
}

fn cpu_list(cpus: &[u32]) -> String {
    let names: Vec<String> = cpus.iter().map(u32::to_string).collect();
    names.join(", ")
}

fn nodes(page: &mut String, data: &Data<'_>) -> fmt::Result {
    writeln!(page, "<h3>Nodes</h3>")?;
    let head = [
        "Node",
        "CPUs asked",
        "CPUs got",
        "CPU share asked",
        "CPU share got",
        "TCP controlled by",
        "Threads",
    ];
    let mut table = Table::new(&head, 6);
    for node in &data.records.plan.nodes {
        let up = data
            .records
            .results
            .nodes
            .iter()
            .find(|up| up.node == node.name);
        let got_cpus = up.map_or_else(
            || "never came up".to_owned(),
            |up| {
                format!(
                    "{} by {}",
                    cpu_list(&up.pinning.got_cpus),
                    escape(&up.pinning.cpus_by)
                )
            },
        );
        let got_share = up.map_or_else(String::new, |up| {
            let period = up
                .pinning
                .got_period_us
                .map_or_else(String::new, |us| format!(", period {us} us"));
            match up.pinning.got_quota {
                Some(quota) => {
                    format!(
                        "{}{period}, by {}",
                        trimmed(quota, 3),
                        escape(&up.pinning.quota_by)
                    )
                }
                None => "all".to_owned(),
            }
        });
        table.row(vec![
            escape(&node.name),
            cpu_list(&node.cpus),
            got_cpus,
            asked_share(node),
            got_share,
            up.and_then(|up| up.congestion_control.as_deref())
                .map_or_else(|| "unknown".to_owned(), escape),
            node.threads.to_string(),
        ]);
    }
    table.write(page)
}

fn asked_share(node: &NodePlan) -> String {
    node.cpu_quota.map_or_else(
        || "all".to_owned(),
        |quota| {
            let share = count_to_f64(quota.quota_us) / count_to_f64(quota.period_us.max(1));
            format!(
                "{} ({} of {} us)",
                trimmed(share, 3),
                quota.quota_us,
                quota.period_us
            )
        },
    )
}

fn links(page: &mut String, data: &Data<'_>) -> fmt::Result {
    writeln!(page, "<h3>Links</h3>")?;
    for link in &data.records.plan.links {
        let mut rows = vec![
            (
                "Link",
                format!(
                    "<strong>{}</strong>: {} to {}, MTU {}, {}",
                    escape(&link.name),
                    escape(&link.ends[0].node),
                    escape(&link.ends[1].node),
                    link.mtu,
                    link.settings
                ),
            ),
            (
                "Trace",
                format!(
                    "{}, SHA-256 of its text <code>{}</code>",
                    escape(&link.trace),
                    escape(&link.trace_sha256)
                ),
            ),
        ];
        if let Some(trace) = data.records.traces.get(&link.trace) {
            let metadata = trace.metadata();
            let status = serde_json::to_value(metadata.status).unwrap_or_default();
            rows.push((
                "Channel",
                format!(
                    "{} ({:.1} s, {} rows), status <strong>{}</strong>, made by {}",
                    escape(&metadata.scenario),
                    ns_to_s(metadata.duration_ns),
                    grouped(u64::try_from(trace.row_count()).unwrap_or(0)),
                    escape(status.as_str().unwrap_or("unknown")),
                    escape(&metadata.generator)
                ),
            ));
            for note in &metadata.notes {
                rows.push(("", escape(note)));
            }
            let rates = |side: usize| trace.states().map(move |(_, states)| states[side].rate_bps);
            let peak = rates(0).max().unwrap_or(0);
            let peak_up = rates(1).max().unwrap_or(0);
            rows.push((
                "Peak rate",
                format!(
                    "{} down, {} up",
                    bit_rate(count_to_f64(peak)),
                    bit_rate(count_to_f64(peak_up))
                ),
            ));
        }
        if let Some(made) = data.records.results.links.get(&link.name) {
            rows.push((
                "Datapath",
                format!(
                    "<strong>{}</strong>{}: {}; {}",
                    escape(&made.datapath),
                    made.mode
                        .as_ref()
                        .map_or_else(String::new, |mode| format!(", mode {}", escape(mode))),
                    escape(&made.reason),
                    escape(&made.scheduling)
                ),
            ));
        }
        let captures = data.summary.captures.iter();
        for capture in captures.filter(|capture| capture.link == link.name) {
            rows.push(("Capture", escape(&capture.told())));
        }
        facts(page, &rows)?;
    }
    let head = [
        "Calibration",
        "",
        "Delivered / trace",
        "Windows",
        "while jobs ran",
        "Windows",
        "Late p50, us",
        "p99",
        "max",
        "Delay error p99, us",
    ];
    let mut table = Table::new(&head, 2);
    let number = |value: Option<f64>, decimals: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
    };
    for link in &data.summary.links {
        table.row(vec![
            escape(&link.link),
            escape(&link.direction),
            number(link.delivered_over_trace, 5),
            link.backlogged_windows.to_string(),
            number(link.run_delivered_over_trace, 5),
            link.run_backlogged_windows.to_string(),
            number(link.lateness_us.p50, 1),
            number(link.lateness_us.p99, 1),
            number(link.lateness_us.max, 1),
            number(link.delay_error_us.p99, 1),
        ]);
    }
    table.write(page)
}

fn requests(page: &mut String, data: &Data<'_>) -> fmt::Result {
    writeln!(page, "<h3>Placements and requests</h3>")?;
    let head = [
        "Placement",
        "Device",
        "Edge",
        "Link",
        "Arrivals per s",
        "Prompt tokens",
        "Output tokens",
        "Deadline",
        "Length, s",
    ];
    let mut table = Table::new(&head, 4);
    for phase in &data.records.plan.phases {
        let stream = &phase.requests;
        table.row(vec![
            escape(&phase.name),
            escape(&phase.device),
            escape(&phase.edge),
            escape(&phase.link),
            trimmed(count_to_f64(stream.arrivals_per_kilosecond) / 1e3, 3),
            stream.prompt_tokens.to_string(),
            stream.output_tokens.to_string(),
            format!("{} s", trimmed(ns_to_s(stream.deadline_ns), 3)),
            trimmed(ns_to_s(phase.duration_ns), 2),
        ]);
    }
    table.write(page)
}

fn known(fact: &Known<String>) -> String {
    match fact {
        Known::Known(text) => escape(text),
        Known::Unknown { why } => format!("unknown: {}", escape(why)),
    }
}

pub(super) fn environment(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let environment = &data.records.environment;
    let machine = &environment.machine;
    writeln!(
        page,
        "<h2>Reproduce</h2>\n<pre>{}</pre>",
        escape(&environment.command)
    )?;
    writeln!(
        page,
        "<p class=\"small\">The same experiment file, seed and settings give the same plan, request schedule and tokens on the same engine path. This page can be made again from the records alone with <code>hexloop report</code>.</p>"
    )?;
    let git = match &environment.git {
        Known::Known(git) => {
            let dirty = if git.dirty { ", with changes" } else { "" };
            format!("commit <code>{}</code>{dirty}", escape(&git.commit))
        }
        Known::Unknown { why } => format!("unknown: {}", escape(why)),
    };
    let unknown = || "unknown".to_owned();
    let load = machine
        .load_average
        .map_or_else(unknown, |[one, five, fifteen]| {
            format!("{one:.2}, {five:.2}, {fifteen:.2}")
        });
    facts(
        page,
        &[
            (
                "Program",
                format!("hexloop {}", escape(&environment.tool_version)),
            ),
            (
                "Engine",
                environment
                    .model
                    .as_ref()
                    .map_or_else(|| "none".to_owned(), |model| escape(&model.engine)),
            ),
            (
                "Kernel",
                format!(
                    "{} ({})",
                    escape(&machine.kernel),
                    escape(&machine.architecture)
                ),
            ),
            (
                "CPU",
                format!("{}, {} usable", escape(&machine.cpu_model), machine.cpus),
            ),
            (
                "Memory",
                machine.memory_bytes.map_or_else(unknown, |bytes| {
                    format!("{:.1} GB", count_to_f64(bytes) / 1e9)
                }),
            ),
            ("GPU", known(&machine.gpu)),
            ("Clock source", escape(&machine.clock_source)),
            ("Control groups", escape(&machine.cgroups)),
            ("Load average at start", load),
            ("Working directory", git),
        ],
    )
}
