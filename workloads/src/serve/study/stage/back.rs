//! Answers of the stages behind, on their way to the driver.

use std::io::Read;
use std::sync::{Mutex, PoisonError};

use crate::serve::connection::{ConnectionError, FrameReader};
use crate::serve::study::books::{self, WayBack};
use crate::study::NodeCosts;
use crate::wire::FrameKind;

/// Bytes of all stages' accounts of their costs.
const MOST_COST_BYTES: u64 = 1 << 16;

/// Hands on what comes until the next stage goes, which it may when no request is open.
pub(super) fn hand_on(
    mut reader: FrameReader<impl Read>,
    way_back: &WayBack,
    own_costs: &Mutex<Option<NodeCosts>>,
) -> Result<(), ConnectionError> {
    let limits = |kind| match kind {
        FrameKind::Token => Some(4),
        FrameKind::Echo => Some(0),
        FrameKind::Costs => Some(MOST_COST_BYTES),
        FrameKind::Books => u64::try_from(books::MOST_ENTRIES * books::ENTRY_BYTES).ok(),
        _ => None,
    };
    loop {
        let frame = match reader.read(&limits)? {
            Some(frame) => frame,
            None if way_back.is_idle() => return Ok(()),
            None => return Err(ConnectionError::Closed),
        };
        let (kind, request) = (frame.header.kind, frame.header.request);
        match kind {
            FrameKind::Books => way_back.close(request, &frame.body)?,
            FrameKind::Costs => {
                let behind: Vec<NodeCosts> = serde_json::from_slice(&frame.body)
                    .map_err(|error| frame.content_error(format!("it holds no costs: {error}")))?;
                let own = *own_costs.lock().unwrap_or_else(PoisonError::into_inner);
                let all: Vec<NodeCosts> = own.into_iter().chain(behind).collect();
                let body = serde_json::to_vec(&all).map_err(|error| {
                    frame.content_error(format!("costs go no further: {error}"))
                })?;
                way_back.send((kind, request), 0, &body)?;
            }
            _ => way_back.send((kind, request), frame.header.position, &frame.body)?,
        }
    }
}
