//! What the text of an experiment file says as a whole: every name that is used is declared,
//! and the values go together.

mod background;
mod cells;
pub(crate) mod events;
mod kernel;
mod links;
pub(crate) mod loads;
mod phases;
mod programs;
pub(crate) mod studies;
mod traffic;

use std::collections::BTreeMap;
use std::path::PathBuf;

use hexloop_workloads::recipe::Recipe;
use hexloop_workloads::request::RequestStream;

use crate::check::Reporter;
use crate::compute;
use crate::experiment::{Document, Experiment, Link, Node, PhaseSpan, TraceSource};
use crate::fields;
use crate::generated;
use crate::isolation;
use crate::model::{self, ModelShape};
use crate::plan::{CalibrationPlan, CpuQuota, FaultPlan, ModelSource, VerdictBounds};
use crate::problem::{listed, nearest, quoted};
use crate::scenario;
use crate::section::Section;
use crate::value::{Origin, Table};

/// Most nodes and links of one experiment: what one machine can hold in namespaces.
const MOST_NODES: usize = 4000;

/// Most requests of one phase: their schedule is held in memory.
const MOST_REQUESTS: u128 = 1_000_000;

/// IPv6 and UDP headers, the larger of both families.
const UDP_HEADER_BYTES: u64 = 48;

/// Reads the whole experiment and checks every reference.
pub(crate) fn resolve(
    reporter: &mut Reporter<'_>,
    root: &Table,
    preset: Option<String>,
) -> Experiment {
    let top = Origin::File(0..0);
    let file = Section::new(root, fields::ROOT, &top);
    let traces = traces(reporter, &file);
    let nodes = nodes(reporter, &file);
    let cells = cells::read(reporter, &file, &traces);
    let links = links::read(reporter, &file, (&nodes, &cells), &traces);
    let has = |key| file.written(key).is_some();
    let (model, shape) = if has("phases") || has("studies") {
        let (model, shape) = model_source(reporter, &file.table("model"), "tiny");
        (Some(model), shape)
    } else {
        (None, None)
    };
    let draft_model = draft_model(reporter, &file, model.as_ref());
    let requests = if has("phases") {
        Some(requests(reporter, &file, shape))
    } else {
        without_phases(reporter, &file, model.is_some());
        None
    };
    let phases = phases::read(reporter, &file, (&nodes, &links), shape, requests.as_ref());
    let traffic = traffic::read(reporter, &file, &links, &phases);
    let traffic_spans = traffic.iter().map(|phase| (&phase.name, phase.duration_ns));
    let named = traffic.iter().map(|phase| phase.name.as_str());
    let named = named.chain(phases.iter().map(|phase| phase.name.as_str()));
    let named: Vec<&str> = named.collect();
    let studies = studies::read(reporter, &file, (&nodes, &links), shape, &named);
    let named = named
        .into_iter()
        .chain(studies.iter().map(|study| study.name.as_str()));
    let named: Vec<&str> = named.collect();
    let loads = loads::read(reporter, &file, (&nodes, &links), &named);
    let study_spans = studies.iter().map(|study| (&study.name, study.duration_ns));
    let spans: Vec<PhaseSpan> = traffic_spans
        .chain(phases.iter().map(|phase| (&phase.name, phase.duration_ns)))
        .chain(study_spans)
        .chain(loads.iter().map(|load| (&load.name, load.duration_ns)))
        .map(|(name, duration_ns)| PhaseSpan {
            name: name.clone(),
            duration_ns,
        })
        .collect();
    let background = background::read(reporter, &file, &links, &spans);
    Experiment {
        name: file.text("name"),
        description: file.text("description"),
        preset,
        seed: file.integer("seed"),
        events: events::read(reporter, &file, &links, &spans),
        commands: programs::read(reporter, &file, &nodes),
        machine: isolation::machine(reporter, &file),
        calibration: calibration(reporter, &file, &links),
        verdict: verdict(&file),
        faults: faults(&file),
        expectations: phases::expectations(reporter, &file, (&phases, &traffic, &studies)),
        traces,
        nodes,
        links,
        cells,
        model,
        draft_model,
        requests,
        traffic,
        phases,
        studies,
        loads,
        background,
        document: Document {
            source: reporter.source.clone(),
            root: root.clone(),
        },
    }
}

/// Reports a name that nothing declares.
pub(crate) fn undeclared<'a>(
    reporter: &mut Reporter<'_>,
    (what, name): (&str, &str),
    origin: &Origin,
    known: impl Iterator<Item = &'a str> + Clone,
) {
    let known_names = listed(known.clone());
    let help = match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`? Known {what}s: {known_names}"),
        None => format!("known {what}s: {known_names}"),
    };
    reporter.report(
        origin,
        format!("there is no {what} {}", quoted(name)),
        Some(help),
    );
}

fn traces(reporter: &mut Reporter<'_>, file: &Section<'_>) -> BTreeMap<String, TraceSource> {
    let mut traces = BTreeMap::new();
    for (name, section) in file.map("traces") {
        let path = section.written("file");
        let named = section.written("scenario");
        let steps = section.written("steps");
        if named.is_none() {
            for key in fields::WITH_SCENARIO {
                if let Some(written) = section.written(key) {
                    let message = format!("`{key}` means nothing without a `scenario`");
                    reporter.report(&written.origin, message, None);
                }
            }
        }
        let source = match (path, named, steps) {
            (Some(_), None, None) => {
                let events = scenario::events(reporter, &section);
                TraceSource::File(PathBuf::from(section.text("file")), events)
            }
            (None, Some(_), None) => scenario::source(reporter, &section),
            (None, None, Some(_)) => {
                let steps = generated::steps(reporter, &section.table("steps"));
                TraceSource::Steps(steps, scenario::events(reporter, &section))
            }
            (Some(_), Some(second), _)
            | (_, Some(_), Some(second))
            | (Some(_), _, Some(second)) => {
                let message = format!("trace {} has two sources", quoted(name));
                let help = "give it a `file`, a `scenario` or `steps`, one of them";
                reporter.report(&second.origin, message, Some(help.to_owned()));
                continue;
            }
            (None, None, None) => {
                let message = format!("trace {} has no source", quoted(name));
                let help = "give it a `scenario` (`hexloop trace list`), a `file`, or `steps`";
                reporter.report(section.origin, message, Some(help.to_owned()));
                // Still declared, so that links to it are not reported as well.
                TraceSource::File(PathBuf::new(), Vec::new())
            }
        };
        traces.insert(name.to_owned(), source);
    }
    traces
}

fn nodes(reporter: &mut Reporter<'_>, file: &Section<'_>) -> Vec<Node> {
    let sections = file.map("nodes");
    if sections.len() > MOST_NODES {
        let message = format!("there are {} nodes; at most {MOST_NODES}", sections.len());
        reporter.report(file.place("nodes"), message, None);
    }
    let node = |(name, section): (&str, Section<'_>)| {
        let (compute, gpu) = compute::node(reporter, &section);
        Node {
            name: name.to_owned(),
            cpus: section.integer_u32("cpus"),
            cpu_quota: cpu_quota(reporter, &section),
            compute,
            slowdown: section
                .sound("slowdown")
                .map(|_| section.integer_u32("slowdown")),
            congestion_control: section.optional_text("congestion_control"),
            isolation: isolation::node(reporter, &section, gpu),
        }
    };
    sections.into_iter().map(node).collect()
}

/// The kernel's CPU controller takes no quota below 1 ms.
const LEAST_QUOTA_US: u64 = 1000;

fn cpu_quota(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Option<CpuQuota> {
    let period_us = section.time_ns("cpu_period") / 1000;
    let Some(written) = section.written("cpu_quota") else {
        if let Some(period) = section.written("cpu_period") {
            let message = "`cpu_period` without `cpu_quota` does nothing".to_owned();
            let help = "add a `cpu_quota`, or take `cpu_period` out".to_owned();
            reporter.report(&period.origin, message, Some(help));
        }
        return None;
    };
    let share_ppm = section.share_ppm("cpu_quota");
    let quota_us = share_ppm * period_us * section.integer("cpus") / 1_000_000;
    // A share of 0 stands for a value that was reported already.
    if share_ppm > 0 && period_us > 0 && quota_us < LEAST_QUOTA_US {
        let message = format!(
            "{} of {period_us} us is {quota_us} us; the kernel takes no CPU quota below 1 ms",
            quoted(&section.text("cpu_quota"))
        );
        let percent = (LEAST_QUOTA_US * 100).div_ceil(period_us * section.integer("cpus").max(1));
        let help = format!("with this period the smallest quota is \"{percent} %\"");
        reporter.report(&written.origin, message, Some(help));
    }
    Some(CpuQuota {
        quota_us,
        period_us,
    })
}

/// What only phases with a model need must not stand there without one.
fn without_phases(reporter: &mut Reporter<'_>, file: &Section<'_>, studies: bool) {
    let others = ["traffic", "loads"].map(|key| file.written(key).is_some());
    if !others.contains(&true) && !studies {
        let message = "there is no phase in the file".to_owned();
        let help =
            "declare [[phases]] for a model, or [[traffic]] or [[loads]] without one".to_owned();
        reporter.report(file.origin, message, Some(help));
    }
    for key in ["model", "draft_model", "requests"] {
        if key != "requests" && studies {
            continue;
        }
        if let Some(written) = file.written(key) {
            let message = format!("[{key}] means nothing without [[phases]]");
            let help = "traffic phases need neither model nor requests".to_owned();
            reporter.report(&written.origin, message, Some(help));
        }
    }
}

/// A model, and its shape where the text alone tells it; `usual` is its recipe unless one is given. A source that
/// the command line names goes over one of the file.
fn model_source(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    usual: &str,
) -> (ModelSource, Option<ModelShape>) {
    let on_command_line = |key: &str| {
        let written = section.written(key);
        written.is_some_and(|value| matches!(value.origin, Origin::Option(_)))
    };
    let over_the_other = ["recipe", "directory"].map(on_command_line);
    if let Some(directory) = section.optional_text("directory")
        && over_the_other != [true, false]
    {
        if let Some(recipe) = section.written("recipe")
            && over_the_other != [false, true]
        {
            let message = "the model has two sources".to_owned();
            let help = "give it a `recipe` or a `directory`, not both".to_owned();
            reporter.report(&recipe.origin, message, Some(help));
        }
        return (ModelSource::Directory(PathBuf::from(directory)), None);
    }
    let recipe = section
        .optional_text("recipe")
        .unwrap_or_else(|| usual.to_owned());
    let shape = model::of_recipe(&recipe);
    if shape.is_none() {
        let names = Recipe::names();
        let known = names.iter().map(String::as_str);
        undeclared(
            reporter,
            ("model recipe", &recipe),
            section.place("recipe"),
            known,
        );
    }
    (ModelSource::Recipe(recipe), shape)
}

/// The second model. Two recipes are compared here, checkpoints where their files are.
fn draft_model(
    reporter: &mut Reporter<'_>,
    file: &Section<'_>,
    model: Option<&ModelSource>,
) -> Option<ModelSource> {
    file.written("draft_model")?;
    let section = file.table("draft_model");
    let (source, _) = model_source(reporter, &section, "tiny-draft");
    if let (Some(ModelSource::Recipe(first)), ModelSource::Recipe(second)) = (model, &source)
        && let (Some(target), Some(draft)) = (Recipe::by_name(first), Recipe::by_name(second))
        && !draft.shares_tokenizer_with(&target)
    {
        let message = format!(
            "models {} and {} have different tokenizers: the ids of one mean nothing to the other",
            quoted(first),
            quoted(second)
        );
        let others = Recipe::all().into_iter();
        let fitting =
            others.filter(|other| other.shares_tokenizer_with(&target) && *other != target);
        let names: Vec<String> = fitting.map(|recipe| recipe.name).collect();
        let help = match names.as_slice() {
            [] => format!("no other recipe shares the tokenizer of {}", quoted(first)),
            names => format!(
                "with the tokenizer of {}: {}",
                quoted(first),
                names.join(", ")
            ),
        };
        reporter.report(section.place("recipe"), message, Some(help));
    }
    Some(source)
}

fn requests(
    reporter: &mut Reporter<'_>,
    file: &Section<'_>,
    shape: Option<ModelShape>,
) -> RequestStream {
    if file.written("requests").is_none() {
        let message = "`requests` is missing in the file".to_owned();
        let help = "phases with a model need [requests]".to_owned();
        reporter.report(file.place("phases"), message, Some(help));
    }
    let section = file.table("requests");
    let stream = RequestStream {
        arrivals_per_kilosecond: section.per_kilosecond("arrivals"),
        prompt_tokens: section.integer_u32("prompt_tokens"),
        output_tokens: section.integer_u32("output_tokens"),
        arrivals_for_ns: section.time_ns("arrive_for"),
        deadline_ns: section.time_ns("deadline"),
    };
    if let Some(shape) = shape
        && let Some((message, help)) = model::beyond_positions(shape, &stream)
    {
        reporter.report(section.place("output_tokens"), message, Some(help));
    }
    let expected = u128::from(stream.arrivals_per_kilosecond) * u128::from(stream.arrivals_for_ns)
        / 1_000_000_000_000;
    if expected > MOST_REQUESTS {
        let message = format!("about {expected} requests would arrive in each phase");
        let help = format!("a phase has at most {MOST_REQUESTS}: lower `arrivals` or `arrive_for`");
        reporter.report(section.place("arrivals"), message, Some(help));
    }
    stream
}

fn calibration(reporter: &mut Reporter<'_>, file: &Section<'_>, links: &[Link]) -> CalibrationPlan {
    let section = file.table("calibration");
    let packet_bytes = section.size_bytes("packet");
    for link in links {
        let most = u64::from(link.mtu).saturating_sub(UDP_HEADER_BYTES);
        if packet_bytes > most {
            let message = format!(
                "a calibration packet of {packet_bytes} B does not fit link {} with mtu {}",
                quoted(&link.name),
                link.mtu
            );
            let help = format!("with headers of {UDP_HEADER_BYTES} B, at most \"{most} B\"");
            reporter.report(section.place("packet"), message, Some(help));
        }
    }
    CalibrationPlan {
        flow_ns: section.time_ns("flow"),
        packet_payload_bytes: u32::try_from(packet_bytes).unwrap_or(u32::MAX),
        probe_gap_ns: section.time_ns("probe_gap"),
        window_ns: section.time_ns("window"),
    }
}

fn verdict(file: &Section<'_>) -> VerdictBounds {
    let section = file.table("verdict");
    VerdictBounds {
        rate_error_ppm: section.share_ppm("rate_error"),
        delay_error_ns: section.time_ns("delay_error"),
        delay_error_ppm: section.share_ppm("delay_error_share"),
        shaper_lateness_ns: section.time_ns("shaper_lateness"),
        send_lateness_ppm: section.share_ppm("send_lateness"),
        backlogged_windows: section.integer("backlogged_windows"),
        relay_cpu_ppm: section.share_ppm("relay_cpu"),
        interrupt_cpu_ppm: section.share_ppm("interrupt_cpu"),
        steal_ppm: section.sound("steal").map(|_| section.share_ppm("steal")),
        timer_lateness_ns: section.optional_time_ns("timer_lateness"),
    }
}

fn faults(file: &Section<'_>) -> FaultPlan {
    let section = file.table("faults");
    FaultPlan {
        stop_relay_ns: section.time_ns("stop_relay"),
        scale_rate_ppm: section.share_ppm("scale_rate"),
        add_delay_ns: section.time_ns("add_delay"),
        delay_sends_ns: section.time_ns("delay_sends"),
        burn_relay_cpu: section.boolean("burn_relay_cpu"),
    }
}
