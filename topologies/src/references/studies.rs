//! Studies, and what their arms are once the model is known.

use hexloop_workloads::coding::Coding;
use hexloop_workloads::study::Grid;
use hexloop_workloads::study::multimodal::ATTRIBUTES;
use hexloop_workloads::study::own::OutageSpec;

mod adapters;
mod kpi;
mod kv;
mod multimodal;
mod own;
mod placement;
mod retrieval;
mod shared;
mod speculative;
mod traced;

use super::phases::expect_calibrated;
use super::undeclared;
use crate::check::Reporter;
use crate::experiment::{Cut, Link, Node, Study, Technique};
use crate::model::{self, ModelShape};
use crate::problem::{listed, quoted};
use crate::quantity::rate_bps;
use crate::section::Section;
use crate::value::{Data, Origin, Value};
use hexloop_traces::units::TimeSpan;

/// Reads the studies; `others` are the names of all phases.
pub(super) fn read(
    reporter: &mut Reporter<'_>,
    file: &Section<'_>,
    (nodes, links): (&[Node], &[Link]),
    shape: Option<ModelShape>,
    others: &[&str],
) -> Vec<Study> {
    let mut studies = Vec::new();
    for section in file.array("studies") {
        let name = section.text("name");
        if let Some(written) = section.written("name")
            && others.contains(&name.as_str())
        {
            let message = format!("there is a phase named {} already", quoted(&name));
            reporter.report(&written.origin, message, None);
        }
        let is_shared = section.text("technique") == "shared";
        let (path, crossed) = match is_shared {
            true => shared::path(reporter, &section, links),
            false => path(reporter, &section, nodes, links),
        };
        let technique = technique(reporter, &section, file);
        let output_tokens = match technique {
            Technique::Multimodal { .. } => ATTRIBUTES,
            _ => section.integer_u32("output_tokens"),
        };
        let study = Study {
            name,
            technique,
            path,
            prompts: section.integer_u32("prompts"),
            prompt_tokens: section.integer_u32("prompt_tokens"),
            output_tokens,
            held_out_prompts: section.integer_u32("held_out_prompts"),
            grid: Grid {
                round_trips_ns: section
                    .texts("round_trips")
                    .iter()
                    .map(|text| text.parse().map_or(0, |span: TimeSpan| span.ns))
                    .collect(),
                rates_bps: section
                    .texts("rates")
                    .iter()
                    .filter_map(|text| rate_bps(text))
                    .collect(),
                around_percent: match section.written("around_percent") {
                    Some(_) => integers(&section, "around_percent", 100),
                    None => Vec::new(),
                },
            },
            outage: section.written("outage").map(|_| OutageSpec {
                length_ns: section.time_ns("outage"),
            }),
            traced: traced::spec(reporter, &section),
            shared: is_shared.then(|| shared::spec(&section, crossed.len())),
            adapters: (section.text("technique") == "adapters")
                .then(|| adapters::spec(reporter, &section, file)),
            kpi: (section.text("technique") == "kpi").then(|| kpi::spec(reporter, &section)),
            patience_ns: section.time_ns("patience"),
            quic: section.text("transport") == "quic",
            timeout_ns: section.time_ns("timeout"),
            duration_ns: section.time_ns("limit"),
            links: crossed,
        };
        rates(reporter, &section);
        settings(reporter, &section);
        if let Some(shape) = shape {
            for (key, (message, help)) in study_problems(&study, shape) {
                reporter.report(section.place(key), message, Some(help));
            }
        }
        studies.push(study);
    }
    studies
}

/// What is wrong with a study of a model of that shape: the key to blame, and how to mend it.
pub(crate) fn study_problems(
    study: &Study,
    shape: ModelShape,
) -> Vec<(&'static str, (String, String))> {
    let mut problems = Vec::new();
    // What is wrong with the path was reported where it stands.
    let joined = study.path.len() == study.links.len() + 1;
    if let Some(problem) = study.arms(shape.layers).err().filter(|_| joined) {
        problems.push(problem);
    }
    if let (Some(traced), Ok(arms)) = (study.traced, study.arms(shape.layers)) {
        let asked = arms.iter().filter(|arm| arm.is_asked_on_traces()).count();
        let rounds =
            u64::from(traced.repetitions).saturating_mul(asked.try_into().unwrap_or(u64::MAX));
        if traced.round_ns().saturating_mul(rounds) > study.duration_ns {
            let message = format!(
                "{rounds} rounds of {} take longer than the study may",
                TimeSpan {
                    ns: traced.round_ns()
                }
            );
            let help = "ask fewer, more often or of fewer arms, or raise `limit`".to_owned();
            problems.push(("trace_requests", (message, help)));
        }
    }
    let shares = matches!(study.technique, Technique::TensorParallel { .. });
    if let Some(problem) = model::unshared(shape).filter(|_| shares) {
        problems.push(("technique", problem));
    }
    let lengths = (study.sequence_tokens(), study.output_tokens);
    if let Some(problem) = model::too_long(shape, lengths) {
        problems.push(("output_tokens", problem));
    }
    problems
}

/// What each technique needs: several users' links follow their traces, and rows of tables say their rates.
fn settings(reporter: &mut Reporter<'_>, section: &Section<'_>) {
    let needed: &[&str] = match section.text("technique").as_str() {
        "shared" => &["prompt_tokens", "output_tokens"],
        "kpi" if kpi::sends_at_no_rate(section) => &[],
        "kpi" => &["round_trips"],
        "multimodal" => &["round_trips", "rates"],
        _ => &["prompt_tokens", "output_tokens", "round_trips", "rates"],
    };
    for key in needed {
        if section.sound("technique").is_some() && section.written(key).is_none() {
            let message = format!(
                "`{key}` is missing for technique `{}`",
                section.text("technique")
            );
            reporter.report(section.origin, message, None);
        }
    }
}

/// A link at rate 0 carries nothing, and a trial would wait for it for ever.
fn rates(reporter: &mut Reporter<'_>, section: &Section<'_>) {
    for (text, origin) in section.list("rates") {
        if rate_bps(text) == Some(0) {
            let message = "at a rate of 0 no trial ends".to_owned();
            let help = "outages are scripted as [[events]]".to_owned();
            reporter.report(origin, message, Some(help));
        }
    }
}

fn integers(section: &Section<'_>, key: &str, usual: u32) -> Vec<u32> {
    let values = section.written(key).and_then(Value::array);
    let number = |value: &Value| match &value.data {
        Data::Integer(number) => u32::try_from(*number).ok(),
        _ => None,
    };
    match values {
        Some(values) => values.iter().filter_map(number).collect(),
        None => vec![usual],
    }
}

/// Keys that mean something to one technique alone.
const NOT_OF_EXITS: [&str; 3] = ["in_flight", "codings", "around_percent"];
const NOT_OF_CONTEXTS: [&str; 6] = [
    "cuts",
    "in_flight",
    "codings",
    "drafts",
    "crossing",
    "drawing",
];
const NOT_OF_RETRIEVAL: [&str; 8] = [
    "cuts",
    "in_flight",
    "codings",
    "drafts",
    "crossing",
    "drawing",
    "around_percent",
    "held_out_prompts",
];
const NOT_OF_ADAPTERS: [&str; 7] = [
    "cuts",
    "in_flight",
    "codings",
    "around_percent",
    "drafts",
    "crossing",
    "drawing",
];
const NETWORK_KEYS: [&str; 1] = ["gigaproducts"];
const NOT_OF_LEAKS: [&str; 6] = [
    "in_flight",
    "around_percent",
    "drafts",
    "crossing",
    "drawing",
    "held_out_prompts",
];
const NOT_OF_NETWORKS: [&str; 8] = [
    "cuts",
    "in_flight",
    "codings",
    "around_percent",
    "drafts",
    "crossing",
    "drawing",
    "held_out_prompts",
];
const NOT_OF_U_SHAPES: [&str; 7] = [
    "in_flight",
    "codings",
    "around_percent",
    "drafts",
    "crossing",
    "drawing",
    "held_out_prompts",
];
const NOT_OF_HALVES: [&str; 6] = [
    "in_flight",
    "around_percent",
    "drafts",
    "crossing",
    "drawing",
    "held_out_prompts",
];
const SPLIT_KEYS: [&str; 4] = ["cuts", "in_flight", "codings", "around_percent"];

/// The technique with its parameters; keys of others are reported.
fn technique(reporter: &mut Reporter<'_>, section: &Section<'_>, file: &Section<'_>) -> Technique {
    let name = section.text("technique");
    let (foreign, technique): (&[&str], Technique) = match name.as_str() {
        "speculative" => {
            needs_draft_model(reporter, section, file);
            let speculations = speculative::read(reporter, section);
            (&SPLIT_KEYS, Technique::Speculative(speculations))
        }
        "early-exit" => {
            let cuts = cuts(reporter, section);
            let thresholds = own::thresholds(reporter, section);
            (&NOT_OF_EXITS, Technique::EarlyExit { cuts, thresholds })
        }
        "cascade" => {
            needs_draft_model(reporter, section, file);
            let rules = own::rules(reporter, section);
            let thresholds = own::thresholds(reporter, section);
            (&SPLIT_KEYS, Technique::Cascade { rules, thresholds })
        }
        "kv" => (&NOT_OF_CONTEXTS, kv::read(reporter, section)),
        "retrieval" => (&NOT_OF_RETRIEVAL, retrieval::read(reporter, section)),
        "kpi" => (&kpi::FOREIGN, Technique::Kpi),
        "shared" => (&shared::FOREIGN, shared::technique(reporter, section)),
        "adapters" => (&NOT_OF_ADAPTERS, adapters::technique(reporter, section)),
        "leak" => {
            let cuts = cuts(reporter, section);
            let codings = codings(reporter, section);
            (&NOT_OF_LEAKS, Technique::Leaking { cuts, codings })
        }
        "cnn" => {
            let gigaproducts = gigaproducts(reporter, section);
            (&NOT_OF_NETWORKS, Technique::Convolutional { gigaproducts })
        }
        "u-shaped" => {
            let cuts = cuts(reporter, section);
            (&NOT_OF_U_SHAPES, Technique::UShaped { cuts })
        }
        "tensor-parallel" => {
            let cuts = cuts(reporter, section);
            let codings = codings(reporter, section);
            (&NOT_OF_HALVES, Technique::TensorParallel { cuts, codings })
        }
        "multimodal" => (&multimodal::FOREIGN, multimodal::read(reporter, section)),
        "placement" => (&NOT_OF_CONTEXTS, placement::read(reporter, section)),
        _ => {
            let split = Technique::Split {
                cuts: cuts(reporter, section),
                in_flight: integers(section, "in_flight", 1),
                codings: codings(reporter, section),
            };
            (&speculative::KEYS, split)
        }
    };
    let foreign = foreign.iter().chain(match technique {
        Technique::EarlyExit { .. } | Technique::Cascade { .. } => speculative::KEYS.as_slice(),
        _ => own::KEYS.as_slice(),
    });
    let foreign = foreign.chain(match technique {
        Technique::Convolutional { .. } => &[],
        _ => NETWORK_KEYS.as_slice(),
    });
    let foreign = foreign.chain(match technique {
        Technique::Placement { .. } => &[],
        _ => placement::KEYS.as_slice(),
    });
    let foreign = foreign.chain(match technique {
        Technique::Cascade { .. } => &[],
        _ => own::CASCADE_KEYS.as_slice(),
    });
    let foreign = foreign.chain(match technique {
        Technique::KeyValues { .. } => &[],
        _ => kv::KEYS.as_slice(),
    });
    let foreign = foreign.chain(match technique {
        Technique::Retrieval { .. } => &[],
        _ => retrieval::KEYS.as_slice(),
    });
    let foreign = foreign.chain(match technique {
        Technique::Adapters { .. } => &[],
        _ => adapters::KEYS.as_slice(),
    });
    let foreign = foreign.chain(match technique {
        Technique::Multimodal { .. } => &[],
        _ => multimodal::KEYS.as_slice(),
    });
    let foreign = foreign.chain(match technique {
        Technique::Shared { .. } => speculative::KEYS.as_slice(),
        Technique::Adapters { .. } => shared::NOT_OF_WAVES.as_slice(),
        _ => shared::KEYS.as_slice(),
    });
    let foreign = foreign.chain(match technique {
        Technique::Kpi => speculative::KEYS.as_slice(),
        _ => kpi::KEYS.as_slice(),
    });
    for key in foreign {
        if !name.is_empty()
            && let Some(written) = section.written(key)
        {
            let message = format!("`{key}` means nothing to technique `{name}`");
            reporter.report(&written.origin, message, None);
        }
    }
    technique
}

/// How fast both nodes are.
fn gigaproducts(reporter: &mut Reporter<'_>, section: &Section<'_>) -> [u32; 2] {
    let written = section.written("gigaproducts");
    match integers(section, "gigaproducts", 0).as_slice() {
        [near, far] => [*near, *far],
        _ => {
            if let Some(written) = written {
                let message = "one number is needed for each of two nodes".to_owned();
                reporter.report(&written.origin, message, None);
            }
            [25, 250]
        }
    }
}

fn needs_draft_model(reporter: &mut Reporter<'_>, section: &Section<'_>, file: &Section<'_>) {
    if file.written("draft_model").is_none() {
        let message = "a technique of two models needs a second one".to_owned();
        let help = "add [draft_model]; with the recipe `tiny` for the first, an empty one will do";
        reporter.report(section.place("technique"), message, Some(help.to_owned()));
    }
}

fn codings(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Vec<Coding> {
    let written = section.list("codings");
    let codings: Vec<Coding> = written
        .iter()
        .filter_map(|(name, _)| Coding::by_name(name))
        .collect();
    if codings.len() > 1
        && let Some(around) = section.written("around_percent")
    {
        let message = "the critical rate of `around_percent` is that of one coding".to_owned();
        let help = "give `rates` alone, or one coding".to_owned();
        reporter.report(&around.origin, message, Some(help));
    }
    match codings.is_empty() {
        true => vec![Coding::F32],
        false => codings,
    }
}

fn cuts(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Vec<Cut> {
    let written = section.list("cuts");
    if written.is_empty() {
        return vec![Cut::Every];
    }
    let mut cuts = Vec::new();
    for (text, origin) in written {
        let ends = || text.split('/').map(|end| end.trim().parse()).collect();
        match text {
            "every" => cuts.push(Cut::Every),
            "even" => cuts.push(Cut::Even),
            _ => match ends() {
                Ok(ends) => cuts.push(Cut::After(ends)),
                Err::<Vec<u32>, _>(_) => {
                    let message = format!("{} is no way to divide layers", quoted(text));
                    let help = "write `every`, `even`, or after which layer each node but the last \
                                ends, such as `2` or `2/4`";
                    reporter.report(origin, message, Some(help.to_owned()));
                }
            },
        }
    }
    cuts
}

/// The nodes of the path and the links between them.
fn path(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    nodes: &[Node],
    links: &[Link],
) -> (Vec<String>, Vec<String>) {
    let named = section.list("path");
    if named.is_empty() {
        return match links {
            [link] => {
                expect_calibrated(reporter, link, section.origin);
                (link.between.to_vec(), vec![link.name.clone()])
            }
            _ => {
                let message = "`path` is missing, and there is not exactly one link".to_owned();
                let known = nodes.iter().map(|node| node.name.as_str());
                let help = format!("known nodes: {}", listed(known));
                reporter.report(section.origin, message, Some(help));
                (Vec::new(), Vec::new())
            }
        };
    }
    let mut path: Vec<String> = Vec::new();
    let mut crossed = Vec::new();
    for (name, origin) in named {
        if !nodes.iter().any(|node| node.name == name) {
            let known = nodes.iter().map(|node| node.name.as_str());
            undeclared(reporter, ("node", name), origin, known);
        } else if path.iter().any(|node| node == name) {
            let message = format!("the path comes to node {} twice", quoted(name));
            reporter.report(origin, message, None);
        } else if let Some(before) = path.last() {
            crossed.extend(between(reporter, [before, name], links, origin));
        }
        path.push(name.to_owned());
    }
    (path, crossed)
}

/// The link that goes up from one node to another.
fn between(
    reporter: &mut Reporter<'_>,
    ends: [&str; 2],
    links: &[Link],
    origin: &Origin,
) -> Option<String> {
    let joins: Vec<&Link> = links.iter().filter(|link| link.between == ends).collect();
    let [from, to] = ends.map(quoted);
    match joins.as_slice() {
        [link] => {
            expect_calibrated(reporter, link, origin);
            Some(link.name.clone())
        }
        [] => {
            let message = format!("no link goes up from node {from} to node {to}");
            let back = links.iter().find(|link| link.between == [ends[1], ends[0]]);
            let help = match back {
                Some(link) => format!("link {} goes the other way: turn it", quoted(&link.name)),
                None => "declare one in [[links]]".to_owned(),
            };
            reporter.report(origin, message, Some(help));
            None
        }
        several => {
            let names = several.iter().map(|link| link.name.as_str());
            let message = format!("more than one link goes up from node {from} to node {to}");
            let help = format!("leave one of {}", listed(names));
            reporter.report(origin, message, Some(help));
            None
        }
    }
}
