//! What a link may not ask of the kernel's datapaths. The agent refuses the same, but knows no place
//! in the file; what depends on the trace or on the kernel is left to it.

use hexloop_traces::{LinkSettings, QueueDiscipline, QueueLimit, Service};

use crate::check::Reporter;
use crate::plan::DatapathChoice;
use crate::section::Section;

/// Reports the settings that the link's own datapath cannot do.
pub(super) fn check(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    datapath: DatapathChoice,
    settings: &LinkSettings,
) {
    let refused = match datapath {
        DatapathChoice::Tc => refused_by_tc(settings),
        DatapathChoice::Edt => refused_by_edt(settings),
        DatapathChoice::Auto | DatapathChoice::Relay => None,
    };
    let Some((key, message, help)) = refused else {
        return;
    };
    // What is malformed was reported, and its placeholder says nothing about the rest.
    if section.written(key).is_none() || section.sound(key).is_some() {
        reporter.report(
            section.place(key),
            message.to_owned(),
            Some(help.to_owned()),
        );
    }
}

type Refusal = (&'static str, &'static str, &'static str);

fn refused_by_tc(settings: &LinkSettings) -> Option<Refusal> {
    if settings.service != Service::Fluid {
        return Some((
            "service",
            "datapath `tc` has no delivery opportunities: htb serves bit by bit",
            "choose service `fluid`, or datapath `relay`",
        ));
    }
    let in_bytes = matches!(settings.queue, QueueLimit::Bytes(_));
    (settings.discipline == QueueDiscipline::DropHead && in_bytes).then_some((
        "discipline",
        "datapath `tc` drops at the head only of a queue in packets (pfifo_head_drop)",
        "give `queue` in packets, such as \"200 packets\", or choose datapath `relay`",
    ))
}

fn refused_by_edt(settings: &LinkSettings) -> Option<Refusal> {
    (settings.discipline != QueueDiscipline::DropTail).then_some((
        "discipline",
        "datapath `edt` gives every packet its departure time as it comes, so that nothing can be \
         decided about it later",
        "choose discipline `drop-tail`, or datapath `relay`",
    ))
}
