//! Several users and one edge: what batches cost, who was served in time, and what each policy can serve.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::energy;
use crate::format::{grouped, significant};
use crate::report::html::{Table, escape, legend};
use crate::report::svg::{Axis, Chart};
use crate::summary::{Quantity, SharedLoad, StudyShared, StudySummary};

/// Colours of arms that the style sheet has.
const COLOURS: usize = 4;

pub(super) fn section(page: &mut String, study: &StudySummary) -> fmt::Result {
    let Some(shared) = &study.shared else {
        return Ok(());
    };
    let uploads: Vec<String> = shared.upload_ms.iter().copied().map(significant).collect();
    writeln!(
        page,
        "<p>Reading a prompt takes the edge {} ms, and each user's upload alone {} ms. A request is served in time \
         if its last token comes within {} ms of when it was due.</p>",
        significant(shared.prefill_ms),
        uploads.join(", "),
        significant(shared.deadline_ms)
    )?;
    charts(page, study, shared)?;
    loads(page, shared)?;
    rounds(page, shared)?;
    capacities(page, shared)?;
    batches(page, shared)
}

fn quantity(quantity: &Quantity) -> String {
    match (quantity.value, &quantity.reason) {
        (Some(value), _) => significant(value),
        (None, Some(reason)) => format!("<span class=\"small\">{}</span>", escape(reason)),
        (None, None) => "-".to_owned(),
    }
}

fn charts(page: &mut String, study: &StudySummary, shared: &StudyShared) -> fmt::Result {
    let mut by_users: BTreeMap<u32, BTreeMap<&str, Vec<&SharedLoad>>> = BTreeMap::new();
    for load in &shared.loads {
        let of_users = by_users.entry(load.users).or_default();
        of_users.entry(&load.arm).or_default().push(load);
    }
    writeln!(page, "<figure><div class=\"row\">")?;
    for (users, arms) in &by_users {
        let most = arms.values().flatten().map(|load| load.offered_per_s);
        let most = most.fold(1.0, f64::max) * 1.05;
        let label = format!("requests offered each second, {users} users");
        let x = Axis::linear(0.0, most, &label);
        let y = Axis::linear(0.0, 100.0, "in time, %");
        let description = format!("Requests in time in {} over {label}", study.study);
        let mut chart = Chart::new((430.0, 230.0), x, y, &description);
        for (colour, loads) in arms.values().enumerate() {
            let points: Vec<(f64, f64)> = loads
                .iter()
                .map(|load| (load.offered_per_s, load.in_budget_share * 100.0))
                .collect();
            chart.crosses(&points, &format!("s{}", colour % COLOURS));
        }
        page.push_str("<div>");
        page.push_str(&chart.render());
        page.push_str("</div>\n");
    }
    writeln!(page, "</div>")?;
    let arms = by_users.values().next();
    let entries = arms.into_iter().flat_map(BTreeMap::keys).enumerate();
    let entries: Vec<(String, String)> = entries
        .map(|(colour, name)| (format!("s{}", colour % COLOURS), escape(name)))
        .collect();
    legend(page, &entries)?;
    writeln!(
        page,
        "<figcaption>Each cross is an arm at an offered rate, over all repetitions; every arm has the same \
         arrivals.</figcaption></figure>"
    )
}

fn loads(page: &mut String, shared: &StudyShared) -> fmt::Result {
    let head = [
        "Arm",
        "Users",
        "Offered, %",
        "Requests/s",
        "Requests",
        "In time",
        "Refused",
        "Late of those admitted",
        "Least of any user",
        "End to end p50, ms",
        "p95",
        "Tokens/s",
        "Batch",
        "J for a token in time",
    ];
    let mut table = Table::new(&head, 1);
    let share = |share: f64| format!("{:.1} %", share * 100.0);
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
    for load in &shared.loads {
        table.row(vec![
            escape(&load.arm),
            load.users.to_string(),
            load.offered_percent.to_string(),
            significant(load.offered_per_s),
            grouped(load.requests),
            share(load.in_budget_share),
            grouped(load.refused),
            load.admitted_late.map_or_else(|| "-".to_owned(), share),
            share(load.worst_user_share),
            number(load.end_to_end_p50_ms),
            number(load.end_to_end_p95_ms),
            significant(load.tokens_per_s),
            number(load.mean_batch),
            quantity(&load.j_per_good_token),
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">An arm is named by its policy and the most sequences of a pass. Offered is in percent \
         of what edge and links were measured to serve. fcfs refuses nobody; deadline computes by deadline and \
         refuses whom it cannot serve in time; joint also says who uploads when.</p>"
    )
}

/// What rounds used.
fn rounds(page: &mut String, shared: &StudyShared) -> fmt::Result {
    let mut table = Table::new(&["Arm", "Users", "Offered, %"], 1);
    let further = [
        "J/request in time",
        "J of a request times its time, J s",
        "Idle in the same time, J",
    ];
    for name in energy::HEAD.into_iter().chain(further) {
        table.named_column(name);
    }
    for load in &shared.loads {
        let mut row = vec![
            escape(&load.arm),
            load.users.to_string(),
            load.offered_percent.to_string(),
        ];
        row.extend(energy::columns(&load.energy));
        let further = [
            &load.j_per_good_request,
            &load.energy_delay_product_j_s,
            &load.idle_j,
        ];
        row.extend(further.map(energy::joules));
        table.row(row);
    }
    table.write(page)?;
    let further = shared.loads.iter().flat_map(|load| {
        [
            &load.j_per_good_request,
            &load.energy_delay_product_j_s,
            &load.idle_j,
        ]
    });
    writeln!(
        page,
        "<p class=\"small\">Whole rounds, for each request and token that was served; the energy-delay product takes \
         the mean time from due to the last token. J is the gross energy of the machine; above idle, less its power \
         without jobs.{}</p>",
        energy::reasons(
            shared
                .loads
                .iter()
                .flat_map(|load| energy::all(&load.energy))
                .chain(further)
        )
    )
}

fn capacities(page: &mut String, shared: &StudyShared) -> fmt::Result {
    let head = ["Arm", "Users", "Served 95 % in time, requests/s"];
    let mut table = Table::new(&head, 1);
    for capacity in &shared.capacities {
        let rate = match (capacity.at_95_percent_per_s, capacity.is_lower_bound) {
            (Some(rate), true) => format!("{} or more", significant(rate)),
            (Some(rate), false) => significant(rate),
            (None, _) => "less than was tried".to_owned(),
        };
        table.row(vec![
            escape(&capacity.arm),
            capacity.users.to_string(),
            rate,
        ]);
    }
    table.write(page)
}

fn batches(page: &mut String, shared: &StudyShared) -> fmt::Result {
    let head = [
        "Sequences of a pass",
        "Passes",
        "Tokens/s",
        "CPU time of a token, ms",
        "J of a token",
        "Idle in its time, J",
        "Energy-delay product, J s",
    ];
    let mut table = Table::new(&head, 0);
    for batch in &shared.batches {
        table.row(vec![
            batch.sequences.to_string(),
            batch.passes.to_string(),
            significant(batch.tokens_per_s),
            significant(batch.cpu_ms_per_token),
            quantity(&batch.j_per_token),
            quantity(&batch.idle_j_per_token),
            quantity(&batch.energy_delay_product_j_s),
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Measured before the rounds. CPU time stands in for energy where nothing meters it; the \
         power of the machine without jobs: {} W.</p>",
        quantity(&shared.idle_w)
    )
}
