//! Loads on programs that serve.

mod lengths;

use std::path::PathBuf;

use hexloop_workloads::load::{Api, Arrivals, LoadSpec, MULTI_STREAM_SAMPLES, Mix, Think};

use super::phases;
use crate::check::Reporter;
use crate::experiment::{Link, Load, Node};
use crate::problem::quoted;
use crate::section::Section;

pub(crate) use lengths::parsed as parsed_lengths;

/// Tools that an agent's requests declare unless another number is given.
const USUAL_TOOLS: u32 = 4;

/// Files that belong in a load: key and path.
pub(super) type Files = Vec<(&'static str, PathBuf)>;

/// Reads the loads. `others` are the names of the phases before them.
pub(super) fn read(
    reporter: &mut Reporter<'_>,
    file: &Section<'_>,
    (nodes, links): (&[Node], &[Link]),
    others: &[&str],
) -> Vec<Load> {
    let mut loads = Vec::new();
    for section in file.array("loads") {
        let link = phases::crossed_link(reporter, &section, links);
        let keys = [("node", 0, "first"), ("server", 1, "second")];
        let [node, server] = phases::link_ends(reporter, &section, nodes, link, keys);
        let name = section.text("name");
        if let Some(written) = section.written("name")
            && others.contains(&name.as_str())
        {
            let message = format!("there is a phase named {} already", quoted(&name));
            reporter.report(&written.origin, message, None);
        }
        let mut files = Files::new();
        let load = spec(reporter, &section, &mut files);
        let duration_ns = section.time_ns("duration");
        if duration_ns > 0 && load.arrivals_for_ns > duration_ns {
            let message = "requests arrive for longer than the phase lasts".to_owned();
            let help =
                "let `duration` be longer than `arrive_for`, so that the last requests can end";
            reporter.report(section.place("duration"), message, Some(help.to_owned()));
        }
        loads.push(Load {
            name,
            node,
            server,
            link: link.map(|link| link.name.clone()).unwrap_or_default(),
            ipv6: section.text("family") == "ipv6",
            port: u16::try_from(section.integer("port")).unwrap_or(0),
            load,
            files,
            duration_ns,
        });
    }
    loads
}

fn spec(reporter: &mut Reporter<'_>, section: &Section<'_>, files: &mut Files) -> LoadSpec {
    let path = section.text("path");
    if !path.is_empty() && (!path.starts_with('/') || path.ends_with('/')) {
        let message = format!("{} does not begin with `/`, or ends with it", quoted(&path));
        let help = "write it like `/v1`".to_owned();
        reporter.report(section.place("path"), message, Some(help));
    }
    let body = section.text("body");
    let object: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(&body);
    if let (Some(written), Err(error)) = (section.sound("body"), object) {
        let message = format!("`body` is no JSON object: {error}");
        let help = "write it like \"{\\\"ignore_eos\\\": true}\"".to_owned();
        reporter.report(&written.origin, message, Some(help));
    }
    let api = match section.text("api").as_str() {
        "chat" => Api::Chat,
        _ => Api::Completions,
    };
    let mix = mix(reporter, section, api, files);
    let (prompt_words, needed) = (
        section.table("prompt_words"),
        !matches!(mix, Mix::Recorded { .. }),
    );
    let prompt_words = match section.written("prompt_words") {
        Some(_) => lengths::read(reporter, &prompt_words, "prompt_words", files),
        None => {
            if needed && section.sound("mix").is_some() | section.written("mix").is_none() {
                let message = "`prompt_words` is missing".to_owned();
                let help = "such as `prompt_words = { fixed = 128 }`".to_owned();
                reporter.report(section.origin, message, Some(help));
            }
            lengths::NONE
        }
    };
    LoadSpec {
        api,
        path,
        model: section.text("model"),
        arrivals: arrivals(reporter, section, files),
        arrivals_for_ns: section.time_ns("arrive_for"),
        deadline_ns: section.time_ns("deadline"),
        mix,
        prompt_words,
        output_tokens: lengths::read(
            reporter,
            &section.table("output_tokens"),
            "output_tokens",
            files,
        ),
        body,
        keep_connections: section.boolean("keep_connections"),
    }
}

/// Reports keys that mean nothing with what `of` says.
fn only_with(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    of: &str,
    keys: &[(&str, &[&str])],
) {
    if section.written(of).is_some() && section.sound(of).is_none() {
        return;
    }
    let said = section.text(of);
    for (key, with) in keys {
        if let Some(written) = section.written(key)
            && !with.contains(&said.as_str())
        {
            let message = format!("`{key}` means nothing with {of} `{said}`");
            let help = format!("it goes with {}", with.join(", "));
            reporter.report(&written.origin, message, Some(help));
        }
    }
}

/// Whether a key is there; reported if not.
fn is_there(reporter: &mut Reporter<'_>, section: &Section<'_>, of: &str, key: &str) -> bool {
    if section.written(key).is_some() {
        return true;
    }
    let message = format!("`{key}` is missing for {of} `{}`", section.text(of));
    reporter.report(section.origin, message, None);
    false
}

fn arrivals(reporter: &mut Reporter<'_>, section: &Section<'_>, files: &mut Files) -> Arrivals {
    let of = "arrivals";
    only_with(
        reporter,
        section,
        of,
        &[
            ("rate", &["poisson", "constant", "gamma", "server"]),
            ("variation_percent", &["gamma"]),
            ("arrivals_file", &["recorded"]),
            ("users", &["closed"]),
            ("think", &["closed"]),
            ("think_law", &["closed"]),
            ("samples", &["multi-stream", "offline"]),
        ],
    );
    let per_kilosecond = section.per_kilosecond("rate");
    let name = section.text(of);
    let wanted: &[&str] = match name.as_str() {
        "poisson" | "constant" | "server" => &["rate"],
        "gamma" => &["rate", "variation_percent"],
        "recorded" => &["arrivals_file"],
        "closed" => &["users"],
        "offline" => &["samples"],
        _ => &[],
    };
    for key in wanted {
        is_there(reporter, section, of, key);
    }
    let samples = section.integer_u32("samples");
    match name.as_str() {
        "constant" => Arrivals::Constant { per_kilosecond },
        "gamma" => Arrivals::Gamma {
            per_kilosecond,
            variation_percent: section.integer_u32("variation_percent"),
        },
        "recorded" => {
            let path = section.optional_text("arrivals_file").map(PathBuf::from);
            files.extend(path.map(|path| ("arrivals_file", path)));
            Arrivals::Recorded {
                moments_ns: Vec::new(),
            }
        }
        "closed" => Arrivals::Closed {
            users: section.integer_u32("users"),
            think: Think {
                mean_ns: section.optional_time_ns("think").unwrap_or(0),
                exponential: section.text("think_law") == "exponential",
            },
        },
        "single-stream" => Arrivals::SingleStream,
        "multi-stream" => Arrivals::MultiStream {
            samples: match section.sound("samples") {
                Some(_) => samples,
                None => MULTI_STREAM_SAMPLES,
            },
        },
        "server" => Arrivals::Server { per_kilosecond },
        "offline" => Arrivals::Offline { samples },
        _ => Arrivals::Poisson { per_kilosecond },
    }
}

fn mix(reporter: &mut Reporter<'_>, section: &Section<'_>, api: Api, files: &mut Files) -> Mix {
    let of = "mix";
    only_with(
        reporter,
        section,
        of,
        &[
            ("turns", &["chat", "agent"]),
            ("pause", &["chat", "agent"]),
            ("tools", &["agent"]),
            ("result_words", &["agent"]),
            ("image", &["image"]),
            ("documents", &["retrieval"]),
            ("document_words", &["retrieval"]),
            ("log", &["recorded"]),
        ],
    );
    let name = section.text(of);
    let wanted: &[&str] = match name.as_str() {
        "chat" => &["turns"],
        "agent" => &["turns", "result_words"],
        "image" => &["image"],
        "retrieval" => &["documents", "document_words"],
        "recorded" => &["log"],
        _ => &[],
    };
    for key in wanted {
        is_there(reporter, section, of, key);
    }
    if matches!(name.as_str(), "chat" | "agent" | "image") && api != Api::Chat {
        let message = format!("mix `{name}` needs messages, which `completions` does not take");
        let help = "add `api = \"chat\"`".to_owned();
        reporter.report(section.place(of), message, Some(help));
    }
    let mut length = |reporter: &mut Reporter<'_>, key: &'static str| match section.written(key) {
        Some(_) => lengths::read(reporter, &section.table(key), key, files),
        None => lengths::NONE,
    };
    let pause_ns = section.optional_time_ns("pause").unwrap_or(0);
    match name.as_str() {
        "chat" => Mix::Chat {
            turns: length(reporter, "turns"),
            pause_ns,
        },
        "agent" => Mix::Agent {
            turns: length(reporter, "turns"),
            tools: match section.sound("tools") {
                Some(_) => section.integer_u32("tools"),
                None => USUAL_TOOLS,
            },
            result_words: length(reporter, "result_words"),
            pause_ns,
        },
        "image" => Mix::Image {
            bytes: u32::try_from(section.size_bytes("image")).unwrap_or(0),
        },
        "retrieval" => Mix::Retrieval {
            documents: section.integer_u32("documents"),
            document_words: length(reporter, "document_words"),
        },
        "recorded" => {
            let path = section.optional_text("log").map(PathBuf::from);
            files.extend(path.map(|path| ("log", path)));
            Mix::Recorded { bodies: Vec::new() }
        }
        _ => Mix::Plain,
    }
}
