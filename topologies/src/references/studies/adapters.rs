//! Tasks that share a backbone, and how their requests are served.

use hexloop_workloads::recipe::TASKS;
use hexloop_workloads::study::adapters::{AdaptersSpec, Serving};

use super::integers;
use super::speculative::listed;
use crate::check::Reporter;
use crate::experiment::Technique;
use crate::problem::{self, quoted};
use crate::section::Section;

/// The keys that mean something to it alone.
pub(super) const KEYS: [&str; 3] = ["adapters", "servings", "wave"];

/// Tasks of a built-in model that are taken unless others are named.
const USUAL_TASKS: usize = 3;

pub(super) fn technique(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Technique {
    let read = |text: &str| Serving::ALL.into_iter().find(|it| it.name() == text);
    let help = "write `together`, `switched` or `merged`";
    let servings = listed(reporter, section, ("servings", help), read);
    Technique::Adapters {
        servings: servings.unwrap_or_else(|| Serving::ALL.to_vec()),
        batches: integers(section, "batches", 8),
    }
}

/// The tasks and their waves. Those of a built-in model are known here; those of a checkpoint are looked for in its
/// directory.
pub(super) fn spec(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    file: &Section<'_>,
) -> AdaptersSpec {
    let has_directory = file.table("model").written("directory").is_some();
    let mut tasks: Vec<String> = Vec::new();
    for (task, origin) in section.list("adapters") {
        if tasks.iter().any(|known| known == task) {
            let message = format!("{} comes twice", quoted(task));
            reporter.report(origin, message, None);
        } else if !has_directory && !TASKS.contains(&task) {
            let message = format!("built-in models have no adapter for {}", quoted(task));
            let help = format!("known tasks: {}", problem::listed(TASKS));
            reporter.report(origin, message, Some(help));
        }
        tasks.push(task.to_owned());
    }
    if tasks.is_empty() && has_directory {
        let message =
            "`adapters` is missing, and a checkpoint's adapters have no names of their own";
        let help = "name directories in the checkpoint's directory `adapters`";
        reporter.report(
            section.place("technique"),
            message.to_owned(),
            Some(help.to_owned()),
        );
    }
    if tasks.is_empty() {
        tasks.extend(
            TASKS
                .iter()
                .take(USUAL_TASKS)
                .map(|task| (*task).to_owned()),
        );
    }
    AdaptersSpec {
        tasks,
        wave: section.integer_u32("wave"),
        repetitions: section.integer_u32("repetitions"),
        deadline_ns: section.time_ns("deadline"),
    }
}
