//! CPU and memory of the nodes.

use std::fmt::{self, Write};

use super::Data;
use super::energy::cell;
use super::html::{Table, escape, legend};
use super::latency::{placement_name, series_class};
use super::svg::{Axis, Chart};
use crate::format::{count_to_f64, ns_to_s, significant};
use crate::results::PhaseResults;
use crate::summary::JobSummary;

pub(super) fn section(page: &mut String, data: &Data<'_>) -> fmt::Result {
    writeln!(page, "<h2>CPU and memory</h2>")?;
    charts(page, data)?;
    let head = [
        "Placement",
        "Node",
        "CPU time, s",
        "CPU s per token",
        "Peak memory, MB",
    ];
    let mut table = Table::new(&head, 2);
    for job in &data.summary.jobs {
        for (node, cpu_s) in &job.cpu_s {
            let memory = job.memory_peak_bytes.get(node).copied().unwrap_or(0);
            let per_token = if job.output_tokens > 0 {
                significant(cpu_s / count_to_f64(job.output_tokens))
            } else {
                "-".to_owned()
            };
            table.row(vec![
                placement_name(job),
                escape(node),
                format!("{cpu_s:.2}"),
                per_token,
                format!("{:.0}", count_to_f64(memory) / 1e6),
            ]);
        }
    }
    table.write(page)?;
    counters(page, &data.summary.jobs)?;
    cores(page, &data.summary.jobs)?;
    programs(page, data)
}

/// What the kernel counted of each node.
fn counters(page: &mut String, jobs: &[JobSummary]) -> fmt::Result {
    if jobs.iter().all(|job| job.counters.is_empty()) {
        return Ok(());
    }
    writeln!(page, "<h3>Counted by the kernel</h3>")?;
    let head = [
        "Placement",
        "Node",
        "Throttled periods",
        "Throttled, s",
        "Waited for CPU, s",
        "for memory, s",
        "for disks, s",
        "Peak with cache, MB",
        "Switches to wait",
        "Switches displaced",
    ];
    let mut table = Table::new(&head, 2);
    for job in jobs {
        for (node, counters) in &job.counters {
            let mut megabytes = counters.memory_peak_bytes.clone();
            megabytes.value = megabytes.value.map(|bytes| bytes / 1e6);
            table.row(vec![
                placement_name(job),
                escape(node),
                cell(&counters.throttled_periods),
                cell(&counters.throttled_s),
                cell(&counters.cpu_pressure_s),
                cell(&counters.memory_pressure_s),
                cell(&counters.io_pressure_s),
                cell(&megabytes),
                cell(&counters.voluntary_switches),
                cell(&counters.involuntary_switches),
            ]);
        }
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"note\">Waiting is pressure (PSI): time in which at least one task of the node stood still for want of the resource. Switches of threads that began and ended between two looks, one a second, are not counted.</p>"
    )
}

/// What the machine's cores did, whoever used them.
fn cores(page: &mut String, jobs: &[JobSummary]) -> fmt::Result {
    let Some(first) = jobs.iter().find(|job| !job.cores.is_empty()) else {
        let why = jobs.iter().find_map(|job| job.without_cores.as_deref());
        return why.map_or(Ok(()), |why| {
            writeln!(
                page,
                "<p>Cores of the machine: unavailable: {}.</p>",
                escape(why)
            )
        });
    };
    writeln!(page, "<h3>Cores of the machine</h3>")?;
    let mut table = Table::new(&["Core"], 1);
    for job in jobs {
        table.named_column(&format!("{}: busy, %", job.phase));
        table.named_column("taken by the hypervisor, %");
        table.named_column("GHz");
    }
    for core in &first.cores {
        let mut row = vec![core.cpu.to_string()];
        for job in jobs {
            let Some(core) = job.cores.iter().find(|one| one.cpu == core.cpu) else {
                row.extend(["-", "-", "-"].map(str::to_owned));
                continue;
            };
            let mut gigahertz = core.frequency_hz.clone();
            gigahertz.value = gigahertz.value.map(|hertz| hertz / 1e9);
            row.push(format!("{:.1}", core.busy * 100.0));
            row.push(format!("{:.2}", core.steal * 100.0));
            row.push(cell(&gigahertz));
        }
        table.row(row);
    }
    table.write(page)
}

/// The experiment's own programs and how they ended; nothing where there are none.
fn programs(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let plan = &data.records.plan;
    if plan.commands.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h3>Programs</h3>")?;
    let mut table = Table::new(&["Program", "Node", "Placement", "Ended"], 4);
    for (phase, duration_ns) in plan.phase_spans() {
        let Some(recorded) = data.records.results.phase(phase) else {
            continue;
        };
        for command in &plan.commands {
            let end = recorded
                .command_exits
                .iter()
                .find(|end| end.exit.command == command.name);
            let ended = end.map_or_else(
                || "no end was recorded".to_owned(),
                |end| {
                    let class = match end.failed(duration_ns) {
                        true => "not-held",
                        false => "held",
                    };
                    let status = escape(&end.exit.status);
                    format!("<span class=\"{class}\">{status}</span>")
                },
            );
            table.row(vec![
                escape(&command.name),
                escape(&command.node),
                escape(phase),
                ended,
            ]);
        }
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">What still runs at the end of a phase is stopped; how it takes that is no failure.</p>"
    )
}

/// CPUs in use between samples of one node: (from, CPUs).
fn use_over_time(recorded: &PhaseResults, node: &str) -> (Vec<(f64, f64)>, f64) {
    let mut points = Vec::new();
    let (mut previous_at, mut previous_cpu) = (0, 0);
    for sample in recorded.samples.iter().filter(|sample| sample.node == node) {
        if sample.at_ns > previous_at {
            let used = sample.cpu_ns.saturating_sub(previous_cpu);
            let share = count_to_f64(used) / count_to_f64(sample.at_ns - previous_at);
            points.push((ns_to_s(previous_at), share));
        }
        (previous_at, previous_cpu) = (sample.at_ns, sample.cpu_ns);
    }
    (points, ns_to_s(previous_at))
}

fn charts(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let nodes = &data.records.plan.nodes;
    let phases = &data.records.results.phases;
    if phases.iter().all(|phase| phase.samples.is_empty()) {
        return writeln!(page, "<p>No samples of the nodes were recorded.</p>");
    }
    let mut top: f64 = 1.0;
    for phase in phases {
        for node in nodes {
            let (points, _) = use_over_time(phase, &node.name);
            top = points.iter().map(|(_, share)| *share).fold(top, f64::max);
        }
    }
    let mut entries: Vec<(String, String)> = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| (series_class(index), escape(&node.name)))
        .collect();
    if nodes.iter().any(|node| node.cpu_quota.is_some()) {
        entries.push(("bound".to_owned(), "CPU quota of a node".to_owned()));
    }
    writeln!(page, "<figure>")?;
    legend(page, &entries)?;
    writeln!(page, "<div class=\"row\">")?;
    for phase in phases {
        let plan = data
            .records
            .plan
            .phases
            .iter()
            .find(|plan| plan.name == phase.name);
        let end = plan.map_or(1.0, |plan| ns_to_s(plan.duration_ns));
        let x = Axis::linear(0.0, end, "time since T0, s");
        let y = Axis::linear(0.0, top * 1.05, "CPUs in use");
        let description = format!("CPU use of the nodes in {}", phase.name);
        let mut chart = Chart::new((330.0, 200.0), x, y, &description);
        for up in &data.records.results.nodes {
            if let Some(quota) = up.pinning.got_quota {
                chart.level(quota, "bound");
            }
        }
        for (index, node) in nodes.iter().enumerate() {
            let (points, last) = use_over_time(phase, &node.name);
            chart.steps(&points, last, &series_class(index));
        }
        writeln!(page, "<div><h3>{}</h3>", escape(&phase.name))?;
        page.push_str(&chart.render());
        writeln!(page, "</div>")?;
    }
    writeln!(
        page,
        "</div><figcaption>CPU time per wall time of each node's processes, between samples.</figcaption></figure>"
    )
}
