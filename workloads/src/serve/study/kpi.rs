//! Rows of the KPI tables as transmissions: the driver sends or fetches a payload, and whoever receives it notes
//! when its last byte was there. Both read one clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use super::conductor::{Conductor, Setting};
use super::link::Path;
use super::{door, models};
use crate::clock;
use crate::job::JobCommand;
use crate::serve::connection::{Connection, ConnectionError, PayloadCounter};
use crate::serve::error::JobError;
use crate::serve::signal::Signal;
use crate::study::kpi::{Flow, KpiRow, ROWS, STAMP_BYTES, Way, hop_bytes};
use crate::study::{Arm, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::{FrameKind, MAX_BODY_BYTES};

/// Plays such a study to its end.
pub(super) fn play(
    spec: &StudyJobSpec,
    study: &StudySpec,
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    // No model computes here; its name tells strangers apart.
    let named = models::large_by_name(spec)?;
    let needed = named.terms(0..0)?;
    let loaded = (named.weight_bytes(), named.engine_path());
    let needed = (&needed, study.timeout_ns);
    let Some(mut conductor) = Conductor::connect(path, needed, loaded, told)? else {
        return Ok(());
    };
    for round_trip_ns in study.grid.round_trips_ns.iter().copied() {
        at_rates(&mut conductor, study, round_trip_ns)?;
    }
    for turn in study.turns() {
        let (arm, prompt) = (turn.arm.clone(), turn.prompt);
        conductor.take_turn(turn)?;
        let record = transmit(&mut conductor, study, (&arm, Setting::TRACED, prompt))?;
        conductor.find_trial(record);
    }
    conductor.end();
    Ok(())
}

/// Sends every row at each of its rates.
fn at_rates(
    conductor: &mut Conductor<'_>,
    study: &StudySpec,
    round_trip_ns: u64,
) -> Result<(), JobError> {
    for arm in &study.arms {
        let Arm::Kpi { percent, .. } = *arm else {
            continue;
        };
        let (_, flow) = row_of(study, arm)?;
        let setting = Setting {
            round_trip_ns,
            rate_bps: flow.rate_bps * u64::from(percent) / 100,
        };
        conductor.set_links(setting)?;
        for repetition in 0..study.prompts {
            let record = transmit(conductor, study, (arm, setting, repetition))?;
            conductor.find_trial(record);
        }
    }
    Ok(())
}

/// The row that an arm sends, and what it comes to.
fn row_of(study: &StudySpec, arm: &Arm) -> Result<(&'static KpiRow, Flow), JobError> {
    let wrong = |why: String| JobError::Spec { why };
    let (Arm::Kpi { row, .. } | Arm::KpiOnTrace { row }) = *arm else {
        return Err(wrong(format!("{} is no row of a table", arm.name())));
    };
    let known = usize::try_from(row).ok().and_then(|row| ROWS.get(row));
    let (row, kpi) = known
        .zip(study.kpi.as_ref())
        .ok_or_else(|| wrong(format!("there is no row {row}")))?;
    Ok((row, kpi.flow(row).map_err(wrong)?))
}

fn transmit(
    conductor: &mut Conductor<'_>,
    study: &StudySpec,
    (arm, setting, repetition): (&Arm, Setting, u32),
) -> Result<TrialRecord, JobError> {
    let (row, flow) = row_of(study, arm)?;
    let group = conductor.next_group();
    let mut record = conductor.next_trial(arm, setting, (group, repetition));
    let offset = conductor.offset();
    let id = record.number;
    let link = conductor.link()?;
    let (started, arrived) = match row.way {
        Way::Up => {
            let length = usize::try_from(flow.payload_bytes).unwrap_or(usize::MAX);
            let body = vec![0x5a; length];
            let started = clock::now();
            link.write((FrameKind::Payload, id), 0, &body)?;
            let frame = link.read(&[FrameKind::Arrived], STAMP_BYTES)?;
            let stamp = frame.body.first_chunk::<8>();
            let stamp = stamp.ok_or_else(|| link.wrong(&frame, "it holds no moment"))?;
            (started, u64::from_le_bytes(*stamp))
        }
        Way::Down => {
            link.write(
                (FrameKind::Wanted, id),
                0,
                &flow.payload_bytes.to_le_bytes(),
            )?;
            let frame = link.read(&[FrameKind::Payload], flow.payload_bytes)?;
            let arrived = clock::now();
            let stamp = frame.body.first_chunk::<8>();
            let stamp = stamp.ok_or_else(|| link.wrong(&frame, "it holds no moment"))?;
            (u64::from_le_bytes(*stamp), arrived)
        }
    };
    record.started_ns = offset(started);
    record.token_ns = vec![offset(arrived)];
    record.hops = vec![hop_bytes(row.way, 0)];
    if let Some(hop) = record.hops.first_mut() {
        // What was really written and read.
        let (up, down) = link.take_counts();
        (hop.up, hop.down) = (up, down);
    }
    Ok(record)
}

/// The other end.
pub(super) fn serve(
    spec: &StudyJobSpec,
    listen: SocketAddr,
    counter: &Arc<PayloadCounter>,
    signals: &Sender<Signal>,
) -> Result<(), JobError> {
    let named = models::large_by_name(spec)?;
    let held = named.terms(0..0)?;
    let loaded = (named.weight_bytes(), named.engine_path());
    let Some(front) = door::open(spec, listen, (loaded, held), (counter, signals))? else {
        return Ok(());
    };
    let peer = front.peer;
    let served = answer(front);
    counter.closed();
    served.map_err(|source| JobError::Connection { peer, source })
}

fn answer(front: Connection) -> Result<(), ConnectionError> {
    let Connection {
        mut reader,
        mut writer,
        socket: _open,
        ..
    } = front;
    let limits = |kind| match kind {
        FrameKind::Payload => Some(u64::from(MAX_BODY_BYTES)),
        FrameKind::Wanted => Some(STAMP_BYTES),
        _ => None,
    };
    while let Some(frame) = reader.read(&limits)? {
        let arrived = clock::now();
        let id = frame.header.request;
        if frame.header.kind == FrameKind::Payload {
            writer.write(FrameKind::Arrived, id, 0, &arrived.to_le_bytes())?;
            continue;
        }
        let length = frame.body.first_chunk::<8>().copied();
        let length = length.map(u64::from_le_bytes);
        let length = length.filter(|it| (STAMP_BYTES..=u64::from(MAX_BODY_BYTES)).contains(it));
        let length = length.ok_or_else(|| frame.content_error("so much is not sent"))?;
        let mut body = vec![0x5a; usize::try_from(length).unwrap_or(0)];
        if let Some(stamp) = body.first_chunk_mut::<8>() {
            *stamp = clock::now().to_le_bytes();
        }
        writer.write(FrameKind::Payload, id, 0, &body)?;
    }
    Ok(())
}
