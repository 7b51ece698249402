//! Programs of the experiment.

use super::undeclared;
use crate::check::Reporter;
use crate::experiment::Node;
use crate::plan::{CommandPlan, Readiness, ReadyPlan};
use crate::problem::quoted;
use crate::section::Section;

/// The status of an answer that is waited for unless another is given.
const USUAL_STATUS: u16 = 200;

/// Reads the commands.
pub(super) fn read(
    reporter: &mut Reporter<'_>,
    file: &Section<'_>,
    nodes: &[Node],
) -> Vec<CommandPlan> {
    let mut commands = Vec::new();
    for section in file.array("commands") {
        let node = section.text("node");
        if let Some(written) = section.written("node")
            && !nodes.iter().any(|known| known.name == node)
        {
            let known = nodes.iter().map(|node| node.name.as_str());
            undeclared(reporter, ("node", &node), &written.origin, known);
        }
        let argv = section.texts("argv");
        if argv.first().is_some_and(String::is_empty) {
            let message = "the program's name is empty".to_owned();
            reporter.report(section.place("argv"), message, None);
        }
        let directory = section.optional_text("directory");
        if let Some(path) = directory.as_deref().filter(|path| !path.starts_with('/')) {
            let message = format!("{} is not an absolute path", quoted(path));
            reporter.report(section.place("directory"), message, None);
        }
        commands.push(CommandPlan {
            name: section.text("name"),
            node,
            argv,
            environment: section.variables("environment"),
            directory,
            ready: section
                .written("ready")
                .and_then(|_| ready(reporter, &section.table("ready"))),
            lives: section.boolean("lives"),
        });
    }
    commands
}

fn ready(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Option<ReadyPlan> {
    let ways = ["tcp", "http", "line"].map(|key| section.written(key));
    if ways.iter().flatten().count() != 1 {
        let message = "`ready` needs one of `tcp`, `http` and `line`".to_owned();
        let help = "such as `ready = { tcp = 8000 }`, `ready = { http = \"8000/health\" }` or \
                    `ready = { line = \"listening\" }`";
        reporter.report(section.origin, message, Some(help.to_owned()));
        return None;
    }
    if let Some(status) = section.written("status")
        && section.written("http").is_none()
    {
        let message = "`status` means nothing without `http`".to_owned();
        reporter.report(&status.origin, message, None);
    }
    let when = if section.written("tcp").is_some() {
        let port = u16::try_from(section.integer("tcp")).unwrap_or(0);
        Readiness::Tcp { port }
    } else if section.written("http").is_some() {
        http(reporter, section)?
    } else {
        let text = section.text("line");
        if text.is_empty() {
            let message = "`line` is empty: every line would do".to_owned();
            reporter.report(section.place("line"), message, None);
        }
        Readiness::Line { text }
    };
    let within_ns = section.time_ns("within");
    Some(ReadyPlan { when, within_ns })
}

fn http(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Option<Readiness> {
    let text = section.text("http");
    let (port, path) = text.split_once('/').unwrap_or((&text, ""));
    let path = format!("/{path}");
    let number = port
        .trim_start_matches(':')
        .parse()
        .ok()
        .filter(|port| *port > 0);
    let plain = path.chars().all(|c| c.is_ascii_graphic());
    let (Some(port), true) = (number, plain) else {
        let message = format!("{} is not a port and a path", quoted(&text));
        let help = "write it like `8000/health`".to_owned();
        reporter.report(section.place("http"), message, Some(help));
        return None;
    };
    let status = match section.sound("status") {
        Some(_) => u16::try_from(section.integer("status")).unwrap_or(USUAL_STATUS),
        None => USUAL_STATUS,
    };
    Some(Readiness::Http { port, path, status })
}
