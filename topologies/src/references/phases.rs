//! Phases, and the claims about them.

use hexloop_workloads::job::Placement;
use hexloop_workloads::request::RequestStream;

use super::undeclared;
use crate::check::Reporter;
use crate::experiment::{Link, Node, Phase, Study, Traffic};
use crate::model::{self, ModelShape};
use crate::plan::{Claim, ExpectationPlan, StudyClaim, TrafficJob};
use crate::problem::{listed, quoted};
use crate::section::Section;
use crate::value::Origin;

/// Reads the phases.
pub(super) fn read(
    reporter: &mut Reporter<'_>,
    file: &Section<'_>,
    (nodes, links): (&[Node], &[Link]),
    shape: Option<ModelShape>,
    requests: Option<&RequestStream>,
) -> Vec<Phase> {
    let sections = file.array("phases");
    if sections.is_empty() && file.written("phases").is_some() {
        reporter.report(file.place("phases"), "there is no phase".to_owned(), None);
    }
    let mut phases = Vec::new();
    for section in sections {
        let link = crossed_link(reporter, &section, links);
        let keys = [("device", 0, "first"), ("edge", 1, "second")];
        let [device, edge] = link_ends(reporter, &section, nodes, link, keys);
        let phase = Phase {
            name: section.text("name"),
            placement: placement(reporter, &section, shape),
            device,
            edge,
            link: link.map(|link| link.name.clone()).unwrap_or_default(),
            ipv6: section.text("family") == "ipv6",
            quic: section.text("transport") == "quic",
            duration_ns: section.time_ns("duration"),
        };
        let arrivals_for_ns = requests.map_or(0, |requests| requests.arrivals_for_ns);
        if phase.duration_ns > 0 && arrivals_for_ns > phase.duration_ns {
            let message = format!(
                "the phase lasts {}, but requests arrive for {}",
                quoted(&section.text("duration")),
                quoted(&file.table("requests").text("arrive_for"))
            );
            let help = "let the phase last longer than [requests] arrive_for, so that the last \
                        requests can end";
            reporter.report(section.place("duration"), message, Some(help.to_owned()));
        }
        phases.push(phase);
    }
    phases
}

/// The link that a phase crosses: one that is measured.
pub(super) fn crossed_link<'a>(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    links: &'a [Link],
) -> Option<&'a Link> {
    let link = link(reporter, section, links)?;
    expect_calibrated(reporter, link, section.place("link"));
    Some(link)
}

/// Reports a link that a phase crosses though nobody measures it.
pub(super) fn expect_calibrated(reporter: &mut Reporter<'_>, link: &Link, place: &Origin) {
    if !link.calibrate {
        let message = format!("link {} is not calibrated", quoted(&link.name));
        let help = "a phase crosses a link that was measured: take its `calibrate = false` out";
        reporter.report(place, message, Some(help.to_owned()));
    }
}

/// The link that a phase or an event names: the only one, if it names none.
pub(super) fn link<'a>(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    links: &'a [Link],
) -> Option<&'a Link> {
    let known = links.iter().map(|link| link.name.as_str());
    match section.written("link") {
        Some(written) => {
            let name = section.text("link");
            let link = links.iter().find(|link| link.name == name);
            if link.is_none() {
                undeclared(reporter, ("link", &name), &written.origin, known);
            }
            link
        }
        None => {
            if links.len() > 1 {
                let message = "`link` is missing, and there is more than one".to_owned();
                let help = format!("known links: {}", listed(known));
                reporter.report(section.origin, message, Some(help));
            }
            links.first()
        }
    }
}

/// The nodes at the ends of a phase's link, where they are named by such keys.
pub(super) fn link_ends(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    nodes: &[Node],
    link: Option<&Link>,
    ends: [(&str, usize, &str); 2],
) -> [String; 2] {
    ends.map(|(key, end, ordinal)| {
        let of_link = link
            .map(|link| link.between[end].clone())
            .unwrap_or_default();
        let Some(written) = section.written(key) else {
            return of_link;
        };
        let name = section.text(key);
        if !nodes.iter().any(|node| node.name == name) {
            let known = nodes.iter().map(|node| node.name.as_str());
            undeclared(reporter, ("node", &name), &written.origin, known);
        } else if let Some(link) = link.filter(|_| name != of_link) {
            let message = format!(
                "{} is not the {ordinal} end of link {}",
                quoted(&name),
                quoted(&link.name)
            );
            let help = format!(
                "`up` goes from the first end to the second: the {key} of this link is {}",
                quoted(&of_link)
            );
            reporter.report(&written.origin, message, Some(help));
        }
        name
    })
}

fn placement(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    shape: Option<ModelShape>,
) -> Placement {
    let cut = section.written("layers_on_device");
    let sound = section.sound("layers_on_device").is_some();
    match (section.text("placement").as_str(), cut) {
        ("split", Some(written)) => {
            let layers_on_device = section.integer_u32("layers_on_device");
            if let Some(shape) = shape.filter(|_| sound)
                && let Some((message, help)) = model::beyond_layers(shape, layers_on_device)
            {
                reporter.report(&written.origin, message, Some(help));
            }
            Placement::Split { layers_on_device }
        }
        ("split", None) => {
            let message = "`layers_on_device` is missing for placement `split`".to_owned();
            let help = match shape {
                Some(shape) => format!(
                    "the model has {} layers: 1 to {}",
                    shape.layers,
                    shape.layers - 1
                ),
                None => "how many decoder layers run on the device".to_owned(),
            };
            reporter.report(section.origin, message, Some(help));
            Placement::Split {
                layers_on_device: 1,
            }
        }
        (name, written) => {
            // Anything else than these two was reported.
            if let (Some(written), "device" | "edge") = (written, name) {
                let message = format!("`layers_on_device` means nothing for placement `{name}`");
                let help = "only placement `split` cuts the model".to_owned();
                reporter.report(&written.origin, message, Some(help));
            }
            if name == "edge" {
                Placement::Edge
            } else {
                Placement::Device
            }
        }
    }
}

/// The names of the traffic phases with such a job.
fn of_job(traffic: &[Traffic], is: impl Fn(&TrafficJob) -> bool) -> Vec<&str> {
    let with = traffic.iter().filter(|phase| is(&phase.job));
    with.map(|phase| phase.name.as_str()).collect()
}

/// Why a study has nothing that a claim could be judged by, though it is of the right technique, and how to mend that.
fn nothing_to_judge(study: &Study, claim: StudyClaim) -> Option<(String, &'static str)> {
    let name = quoted(&study.name);
    match claim {
        StudyClaim::AdaptiveNearBestOnTraces if study.traced.is_none() => Some((
            format!("study {name} asks nothing on its traces"),
            "give it `trace_requests`",
        )),
        StudyClaim::KpisHoldByTrace if study.kpi.is_some() && study.traced.is_none() => Some((
            format!("study {name} sends nothing on its trace"),
            "give it `trace_requests`",
        )),
        StudyClaim::KpisHoldByRate => {
            let kpi = study.kpi.as_ref().filter(|kpi| kpi.percents.is_empty());
            kpi.map(|_| {
                (
                    format!("study {name} sends nothing at a set rate"),
                    "give it `percents`, or claim `kpis-hold-by-trace`",
                )
            })
        }
        _ => None,
    }
}

/// Which of `phase` and `phases` a claim has follows from the claim.
fn phase_keys(reporter: &mut Reporter<'_>, section: &Section<'_>, names: &[&str]) {
    let claim = section.text("claim");
    let (key, others): (Option<&str>, &[&str]) = match claim.as_str() {
        "same-tokens" => (Some("phases"), &["phase"]),
        "idle-power-stable" => (None, &["phase", "phases"]),
        _ => (Some("phase"), &["phases"]),
    };
    let strange = others
        .iter()
        .find_map(|other| Some((other, section.written(other)?)));
    match (strange, key) {
        (Some((other, written)), Some(key)) => {
            let message = format!("claim `{claim}` has `{key}`, not `{other}`");
            reporter.report(&written.origin, message, None);
        }
        (Some((other, written)), None) => {
            let message = format!("claim `{claim}` is about no phase: it has no `{other}`");
            let help = "take it out".to_owned();
            reporter.report(&written.origin, message, Some(help));
        }
        (None, Some(key))
            if section.written(key).is_none() && section.written("claim").is_some() =>
        {
            let message = format!("`{key}` is missing for claim `{claim}`");
            let help = format!("known phases: {}", listed(names.iter().copied()));
            reporter.report(section.origin, message, Some(help));
        }
        (None, _) => {}
    }
}

/// Reads the claims about phases.
pub(super) fn expectations(
    reporter: &mut Reporter<'_>,
    file: &Section<'_>,
    (phases, traffic, studies): (&[Phase], &[Traffic], &[Study]),
) -> Vec<ExpectationPlan> {
    let mut expectations = Vec::new();
    for section in file.array("expectations") {
        let claim_name = section.text("claim");
        let of_study = StudyClaim::ALL
            .into_iter()
            .find(|claim| claim.name() == claim_name);
        let names: Vec<&str> = match claim_name.as_str() {
            _ if of_study.is_some() => studies.iter().map(|study| study.name.as_str()).collect(),
            "rate-follows-trace" | "shares-follow-cell" | "constant-rates-pass" => {
                of_job(traffic, |job| matches!(job, TrafficJob::Bulk { .. }))
            }
            "round-trip-follows-trace" => {
                of_job(traffic, |job| matches!(job, TrafficJob::Ping { .. }))
            }
            _ => phases.iter().map(|phase| phase.name.as_str()).collect(),
        };
        phase_keys(reporter, &section, &names);
        let mut named = section.list("phases");
        if let Some(value) = section.written("phase")
            && let Some(text) = value.text()
        {
            named.push((text, &value.origin));
        }
        for (name, origin) in named {
            if !names.contains(&name) {
                undeclared(reporter, ("phase", name), origin, names.iter().copied());
            }
        }
        let phase = section.text("phase");
        let study = studies.iter().find(|study| study.name == phase);
        if let (Some(study), Some(asked)) = (study, of_study)
            && !asked.is_about(study.technique.kind())
        {
            let message = format!(
                "claim `{claim_name}` says nothing of study {}",
                quoted(&phase)
            );
            let help = "it is about another technique".to_owned();
            reporter.report(section.place("claim"), message, Some(help));
        }
        let missing = study
            .zip(of_study)
            .and_then(|(study, claim)| nothing_to_judge(study, claim));
        if let Some((message, help)) = missing {
            reporter.report(section.place("claim"), message, Some(help.to_owned()));
        }
        let claim = match claim_name.as_str() {
            _ if let Some(claim) = of_study => Claim::Study {
                study: phase,
                claim,
            },
            "payload-formula" => Claim::PayloadFormula { phase },
            "stalls-in-outage" => Claim::StallsInOutage { phase },
            "goes-on-in-outage" => Claim::GoesOnInOutage { phase },
            "all-completed" => Claim::AllCompleted { phase },
            "rate-follows-trace" => Claim::RateFollowsTrace { phase },
            "shares-follow-cell" => Claim::SharesFollowCell { phase },
            "constant-rates-pass" => Claim::ConstantRatesPass { phase },
            "idle-power-stable" => Claim::IdlePowerStable,
            "round-trip-follows-trace" => Claim::RoundTripFollowsTrace { phase },
            _ => Claim::SameTokens {
                phases: section.texts("phases"),
            },
        };
        expectations.push(ExpectationPlan {
            name: section.text("name"),
            claim,
        });
    }
    expectations
}
