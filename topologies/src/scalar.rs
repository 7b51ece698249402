//! Checks values that are neither tables nor lists against their kind.

use hexloop_traces::QueueLimit;
use hexloop_traces::units::{ByteSize, QuantityError, Share, TimeSpan};

use crate::fields::Kind;
use crate::problem::{listed, nearest, quoted};
use crate::quantity::{
    PER_SECOND_EXAMPLES, QUEUE_BYTES, QUEUE_EXAMPLES, QUEUE_PACKETS, RATE_EXAMPLES, per_kilosecond,
    queue_limit, rate_bps,
};
use crate::value::Data;

pub(crate) type Finding = (String, Option<String>);

/// Checks a value that is neither a table nor a list.
pub(crate) fn scalar(key: &str, kind: &Kind, data: &Data) -> Result<(), Finding> {
    match (kind, data) {
        (Kind::Name, Data::Text(text)) => name(key, text),
        (Kind::Identifier, Data::Text(text)) => identifier(key, text),
        (Kind::Text { longest }, Data::Text(text)) => free_text(key, text, *longest),
        (Kind::Integer { least, most }, Data::Integer(number)) => {
            if (i128::from(*least)..=i128::from(*most)).contains(number) {
                return Ok(());
            }
            Err((
                format!("`{key}` is {number}; it lies from {least} to {most}"),
                None,
            ))
        }
        (Kind::Boolean, Data::Boolean(_)) => Ok(()),
        (Kind::Choice(words), Data::Text(text)) => choice(key, words, text),
        (Kind::Time { least_ns, most_ns }, Data::Text(text)) => {
            let span: TimeSpan = text.parse().map_err(|error| quantity(key, &error))?;
            let write = |ns: u64| TimeSpan { ns }.to_string();
            bounds(key, text, (span.ns, *least_ns, *most_ns), write)
        }
        (Kind::Size { least, most }, Data::Text(text)) => {
            let size: ByteSize = text.parse().map_err(|error| quantity(key, &error))?;
            let write = |bytes: u64| ByteSize { bytes }.to_string();
            bounds(key, text, (size.bytes, *least, *most), write)
        }
        (Kind::Queue, Data::Text(text)) => queue(key, text),
        (Kind::Rate, Data::Text(text)) => rate_bps(text)
            .map(|_| ())
            .ok_or_else(|| not(key, text, kind)),
        (Kind::Share { zero }, Data::Text(text)) => {
            let share: Share = text.parse().map_err(|error| quantity(key, &error))?;
            if !share.ppb().is_multiple_of(1000) {
                return Err((
                    format!("`{key}` is {}, finer than 1 ppm", quoted(text)),
                    None,
                ));
            }
            if share.ppb() == 0 && !zero {
                return Err((
                    format!("`{key}` is {}; it must be above 0", quoted(text)),
                    None,
                ));
            }
            Ok(())
        }
        (Kind::PerSecond, Data::Text(text)) => per_kilosecond(text).map(|_| ()).ok_or_else(|| {
            let message = format!("`{key}`: {} is not a rate of events", quoted(text));
            (
                message,
                Some(format!("write it like {PER_SECOND_EXAMPLES}")),
            )
        }),
        (kind, data) => Err(wrong_type(key, kind, data)),
    }
}

/// Whether a value that is neither a table nor a list is what it must be.
pub(crate) fn is_sound(kind: &Kind, data: &Data) -> bool {
    scalar("", kind, data).is_ok()
}

/// A text that does not say what its kind expects.
fn not(key: &str, text: &str, kind: &Kind) -> Finding {
    let (what, examples) = expected(kind);
    let message = format!("`{key}`: {} is not {what}", quoted(text));
    let help = examples.map(|examples| format!("write it like {examples}"));
    (message, help)
}

fn queue(key: &str, text: &str) -> Result<(), Finding> {
    let (value, least, most, unit) = match queue_limit(text) {
        Some(QueueLimit::Bytes(bytes)) => (bytes, *QUEUE_BYTES.start(), *QUEUE_BYTES.end(), None),
        Some(QueueLimit::Packets(packets)) => (
            u64::from(packets),
            u64::from(*QUEUE_PACKETS.start()),
            u64::from(*QUEUE_PACKETS.end()),
            Some("packets"),
        ),
        None => return Err(not(key, text, &Kind::Queue)),
    };
    bounds(key, text, (value, least, most), |value| match unit {
        Some(unit) => format!("{value} {unit}"),
        None => ByteSize { bytes: value }.to_string(),
    })
}

fn wrong_type(key: &str, kind: &Kind, data: &Data) -> Finding {
    let number = matches!(data, Data::Integer(_) | Data::Float(_));
    let (expected, examples) = expected(kind);
    if number && examples.is_some() && !matches!(kind, Kind::Integer { .. }) {
        let help = examples.map(|examples| format!("write it in quotes like {examples}"));
        return (
            format!("`{key}` is a number without a unit; it must be {expected}"),
            help,
        );
    }
    let found = match data {
        Data::Float(number) if matches!(kind, Kind::Integer { .. }) => number.to_string(),
        data => data.kind_name().to_owned(),
    };
    let help = examples.map(|examples| format!("write it like {examples}"));
    (format!("`{key}` is {found}; it must be {expected}"), help)
}

/// What a kind expects, in words, and how it may be written.
pub(crate) fn expected(kind: &Kind) -> (&'static str, Option<String>) {
    let of = |error: QuantityError| (error.what, Some(error.examples.to_owned()));
    match kind {
        Kind::Name | Kind::Identifier => ("a name in quotes", None),
        Kind::Text { .. } => ("text in quotes", None),
        Kind::Integer { .. } => ("a whole number", None),
        Kind::Boolean => ("true or false", None),
        Kind::Time { .. } => ""
            .parse::<TimeSpan>()
            .map_or_else(of, |_| ("a time span", None)),
        Kind::Size { .. } => ""
            .parse::<ByteSize>()
            .map_or_else(of, |_| ("an amount of data", None)),
        Kind::Share { .. } => "".parse::<Share>().map_or_else(of, |_| ("a share", None)),
        Kind::Rate => ("a data rate", Some(RATE_EXAMPLES.to_owned())),
        Kind::Queue => (
            "an amount of data or a number of packets",
            Some(QUEUE_EXAMPLES.to_owned()),
        ),
        Kind::PerSecond => ("a rate of events", Some(PER_SECOND_EXAMPLES.to_owned())),
        Kind::Choice(words) => (
            "one of some words in quotes",
            Some(listed(words.iter().copied())),
        ),
        Kind::List { .. } => ("a list in square brackets", None),
        Kind::Table(_) | Kind::Map { .. } | Kind::Variables | Kind::Presets => ("a table", None),
        Kind::Array { .. } => ("an array of tables, written with [[double brackets]]", None),
    }
}

fn quantity(key: &str, error: &QuantityError) -> Finding {
    let bare = error
        .text
        .trim()
        .trim_start_matches('-')
        .parse::<f64>()
        .is_ok();
    let message = if bare {
        format!(
            "`{key}`: {} has no unit; it must be {}",
            quoted(&error.text),
            error.what
        )
    } else {
        format!("`{key}`: {} is not {}", quoted(&error.text), error.what)
    };
    (message, Some(format!("write it like {}", error.examples)))
}

fn bounds(
    key: &str,
    text: &str,
    (value, least, most): (u64, u64, u64),
    write: impl Fn(u64) -> String,
) -> Result<(), Finding> {
    let text = quoted(text);
    if value < least {
        return Err((
            format!("`{key}` is {text}; it must be at least {}", write(least)),
            None,
        ));
    }
    if value > most {
        return Err((
            format!("`{key}` is {text}; it must be at most {}", write(most)),
            None,
        ));
    }
    Ok(())
}

fn choice(key: &str, words: &'static [&'static str], text: &str) -> Result<(), Finding> {
    if words.contains(&text) {
        return Ok(());
    }
    let words = words.iter().copied();
    let help = match nearest(text, words.clone()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("known: {}", listed(words)),
    };
    Err((format!("`{key}` cannot be {}", quoted(text)), Some(help)))
}

fn name(key: &str, text: &str) -> Result<(), Finding> {
    if text.trim().is_empty() || text.len() > 64 || text.chars().any(char::is_control) {
        let message = format!("`{key}`: {} cannot be a name", quoted(text));
        let help = "a name has 1 to 64 bytes of printable text";
        return Err((message, Some(help.to_owned())));
    }
    Ok(())
}

fn identifier(key: &str, text: &str) -> Result<(), Finding> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if first && text.len() <= 64 && text.chars().all(inner) {
        return Ok(());
    }
    let message = format!("`{key}`: {} cannot be a name here", quoted(text));
    let help = "files are named after it: up to 64 letters, digits, `-`, `_` and `.`, beginning \
                with a letter or digit";
    Err((message, Some(help.to_owned())))
}

/// Variables of a program's environment that its node sets.
const OF_THE_NODE: [&str; 3] = ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PATH"];

/// Checks the name of a variable of the environment (POSIX.1, section 8.1).
pub(crate) fn variable(name: &str) -> Result<(), Finding> {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(inner);
    if name.is_empty() || name.len() > 128 || !is_name {
        let message = format!("{} cannot be the name of a variable", quoted(name));
        let help = "it has letters, digits and `_`, and does not begin with a digit";
        return Err((message, Some(help.to_owned())));
    }
    if OF_THE_NODE.contains(&name) || name.starts_with("HEXLOOP_") {
        let message = format!("{} is not the experiment's to set", quoted(name));
        let help = "a node's `gpu` says which GPU its programs see; a program is named by its path";
        return Err((message, Some(help.to_owned())));
    }
    Ok(())
}

fn free_text(key: &str, text: &str, longest: usize) -> Result<(), Finding> {
    if text.len() > longest {
        return Err((format!("`{key}` is longer than {longest} bytes"), None));
    }
    if text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\t'))
    {
        return Err((format!("`{key}` contains a control character"), None));
    }
    Ok(())
}
