//! Images that were asked about: their bytes, what answers name, and the time of the first token.

use std::fmt::{self, Write};

use super::first_token::{self, FirstToken};
use super::number;
use crate::format::{grouped, significant};
use crate::report::html::{Table, escape};
use crate::summary::{StudyLookCell, StudyLooks};

pub(super) fn section(page: &mut String, looks: &StudyLooks) -> fmt::Result {
    writeln!(
        page,
        "<p>An image has {} bytes and is cut into {} patches, a visual token is {} numbers wide, and a question has {} \
         tokens. {}</p>",
        grouped(looks.image_bytes),
        looks.patches,
        looks.width,
        looks.question_tokens,
        critical(looks)
    )?;
    arms(page, looks)?;
    let point = |one: &StudyLookCell| FirstToken {
        arm: one.arm.clone(),
        round_trip_ms: one.round_trip_ms,
        rate_mbps: one.rate_mbps,
        first_token_ms: one.first_token_ms,
        expected_ms: one.expected_ms,
    };
    let points: Vec<FirstToken> = looks.cells.iter().map(point).collect();
    first_token::charts(page, &points, ("each arm", ""))?;
    cells(page, looks)
}

fn critical(looks: &StudyLooks) -> String {
    match (&looks.compared, looks.critical_rate_mbps) {
        (Some([image, tokens]), Some(rate)) => format!(
            "By costs and sizes {} should have the first token earlier than {} below {} Mbit/s, and later above.",
            escape(tokens),
            escape(image),
            significant(rate)
        ),
        (Some([image, tokens]), None) => format!(
            "By costs and sizes there is no rate at which {} and {} have the first token at once.",
            escape(tokens),
            escape(image)
        ),
        (None, _) => "No visual tokens are smaller than an image that is sent.".to_owned(),
    }
}

fn arms(page: &mut String, looks: &StudyLooks) -> fmt::Result {
    let head = [
        "What crosses the link",
        "Visual tokens",
        "Bytes of an image",
        "Over the image",
        "First node, ms",
        "Second node, ms",
        "Images",
        "Named",
        "95 %",
    ];
    let mut table = Table::new(&head, 1);
    for arm in &looks.arms {
        let [share, interval] = match arm.named {
            Some([share, low, high]) => [
                format!("{:.1} %", share * 100.0),
                format!("{:.1} to {:.1} %", low * 100.0, high * 100.0),
            ],
            None => ["-".to_owned(), "-".to_owned()],
        };
        table.row(vec![
            escape(&arm.arm),
            grouped(arm.visual_tokens),
            number(arm.up_bytes),
            number(arm.over_image),
            number(arm.device_ms),
            number(arm.edge_ms),
            grouped(arm.images),
            share,
            interval,
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">An arm is named by what crosses the link, how many patches are merged into one visual token \
         if several, and how tokens are coded if not exactly. Bytes are those of the image or its visual tokens, headers \
         and question apart. Times are what each node computes until the first token, its slowdown included. Named: the \
         share of the images, none of which was trained on, that the answers name.</p>"
    )
}

fn cells(page: &mut String, looks: &StudyLooks) -> fmt::Result {
    let head = [
        "Arm",
        "Round trip, ms",
        "Rate, Mbit/s",
        "Trials",
        "First token, ms",
        "By bytes and costs, ms",
    ];
    let mut table = Table::new(&head, 1);
    for cell in &looks.cells {
        table.row(vec![
            escape(&cell.arm),
            significant(cell.round_trip_ms),
            significant(cell.rate_mbps),
            grouped(cell.trials),
            significant(cell.first_token_ms),
            number(cell.expected_ms),
        ]);
    }
    table.write(page)
}
