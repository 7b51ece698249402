//! Both sides of a job in one process, over loopback, with a small model of random weights.

mod adapters;
mod cnn;
pub(super) mod harness;
mod kv;
mod leak;
mod multimodal;
mod own;
mod placement;
mod retrieval;
mod shared;
mod speculative;
mod studies;
mod tensor_parallel;
mod traced;
mod u_shape;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use harness::{
    Job, SmallModel, TRANSPORTS, access, device_role, event_reasons, free_address, listen,
    requests, spec,
};

use super::JobError;
use super::connection::{PayloadCounter, accept, connect, token_bytes};
use crate::job::{JobEvent, JobRole, JobSpec, JobTotals, Outcome, Placement, RequestRecord};
use crate::request::ScheduledRequest;
use crate::transport::Transport;
use crate::wire::{
    FrameKind, PayloadBytes, edge_request_payload, handshake_payload, split_request_payload,
};

fn over(transport: Transport, spec: JobSpec) -> JobSpec {
    JobSpec { transport, ..spec }
}

/// Plays `requests` under a placement; returns the device's records and both sides' totals.
fn play(
    transport: Transport,
    model: &SmallModel,
    placement: Placement,
    requests: &[ScheduledRequest],
) -> (Vec<RequestRecord>, JobTotals, JobTotals) {
    let address = free_address();
    let edge = (placement != Placement::Device).then_some(address);
    let spec = |role| over(transport, spec(model, placement, role));
    let mut edge_job = Job::start(&spec(JobRole::Edge { listen: address }));
    edge_job.wait_until_ready();
    let mut device = Job::start(&spec(device_role(edge, requests)));
    device.wait_until_ready();
    edge_job.begin();
    device.begin();
    let records = device.records_until_idle();
    let (rest, device_totals) = device.stop();
    assert_eq!(rest, []);
    let (_, edge_totals) = edge_job.stop();
    (records, device_totals, edge_totals)
}

fn tokens(records: &[RequestRecord]) -> Vec<Vec<u32>> {
    let mut records = records.to_vec();
    records.sort_by_key(|record| record.id);
    records.into_iter().map(|record| record.tokens).collect()
}

#[test]
fn every_placement_gives_the_tokens_of_the_whole_model_and_the_bytes_of_the_formulas() {
    for transport in TRANSPORTS {
        every_placement(transport);
    }
}

fn every_placement(transport: Transport) {
    let model = SmallModel::new();
    let requests = requests(&[0, 1_000_000, 2_000_000], 9, 6);
    let expected: Vec<Vec<u32>> = requests.iter().map(|one| model.greedy(one)).collect();
    let splits = (1..model.layers()).map(|cut| Placement::Split {
        layers_on_device: cut,
    });
    for placement in [Placement::Device, Placement::Edge]
        .into_iter()
        .chain(splits)
    {
        let (records, device, edge) = play(transport, &model, placement, &requests);
        let (device_totals, edge_totals) = (device.payload, edge.payload);
        let below = (transport != Transport::Tcp && placement != Placement::Device)
            .then_some((device_totals, edge_totals));
        assert_eq!(device.quic.is_some(), below.is_some(), "{placement:?}");
        if let (Some(device), Some(edge)) = (device.quic, edge.quic) {
            // Encrypted, in packets, acknowledged: more than the frames, and of nothing else.
            assert!(device.sent_bytes > device_totals.up, "{device:?}");
            assert!(edge.sent_bytes > edge_totals.down, "{edge:?}");
            assert!(device.received_datagrams > 0 && edge.received_datagrams > 0);
        }
        assert_eq!(tokens(&records), expected, "{placement:?}");
        let per_request = match placement {
            Placement::Device => PayloadBytes::default(),
            Placement::Edge => edge_request_payload(9, 6),
            Placement::Split { .. } => split_request_payload(9, 6, model.width(), 4),
        };
        let mut sum = match placement {
            Placement::Device => PayloadBytes::default(),
            _ => handshake_payload(),
        };
        for record in &records {
            assert_eq!(record.outcome, Outcome::Completed);
            assert_eq!(record.payload, per_request, "{placement:?}");
            assert_eq!(record.token_ns.len(), 6);
            assert!(record.token_ns.is_sorted());
            assert!(record.scheduled_ns <= record.sent_ns);
            assert!(record.sent_ns <= record.token_ns[0]);
            sum.add(record.payload);
        }
        assert_eq!(device_totals, sum, "{placement:?}");
        // The last frame up may still be on its way when the edge is stopped.
        assert_eq!(edge_totals.down, sum.down, "{placement:?}");
        assert!(sum.up - edge_totals.up <= 16, "{placement:?}");
    }
}

#[test]
fn tokens_that_the_device_chose_among_others_as_good_are_told_as_ties() {
    let model = SmallModel::without_preference();
    let requests = requests(&[0], 9, 6);
    for (placement, known) in [
        (Placement::Device, &[0, 1, 2, 3, 4, 5][..]),
        (Placement::Edge, &[]),
    ] {
        let (records, ..) = play(Transport::Tcp, &model, placement, &requests);
        assert_eq!(tokens(&records), [[0; 6]], "{placement:?}");
        assert_eq!(records[0].ties, known, "{placement:?}");
    }
}

#[test]
fn what_has_not_ended_when_the_job_is_stopped_is_reported_unfinished() {
    let model = SmallModel::new();
    let an_hour_ns = 3_600_000_000_000;
    let requests = requests(&[0, an_hour_ns], 5, 3);
    let mut device = Job::start(&spec(
        &model,
        Placement::Device,
        device_role(None, &requests),
    ));
    device.wait_until_ready();
    device.begin();
    let first = device.next_request();
    assert_eq!((first.id, first.outcome), (0, Outcome::Completed));
    let (rest, _) = device.stop();
    let [second] = &rest[..] else {
        panic!("{rest:?}")
    };
    assert_eq!((second.id, &second.outcome), (1, &Outcome::Unfinished));
    assert_eq!((second.sent_ns, second.tokens.len()), (an_hour_ns, 0));
}

#[test]
fn a_job_stopped_before_t0_ends_with_its_totals_alone() {
    let model = SmallModel::new();
    let requests = requests(&[0], 5, 3);
    let mut device = Job::start(&spec(
        &model,
        Placement::Device,
        device_role(None, &requests),
    ));
    device.wait_until_ready();
    let (rest, totals) = device.stop();
    assert_eq!(rest, []);
    assert_eq!(totals.payload, PayloadBytes::default());
    assert!(totals.load_ns > 0);
}

#[test]
fn end_of_file_on_standard_input_ends_a_job_at_once() {
    let model = SmallModel::new();
    let address = free_address();
    let mut edge = Job::start(&spec(
        &model,
        Placement::Edge,
        JobRole::Edge { listen: address },
    ));
    edge.wait_until_ready();
    let (events, result) = edge.close_input();
    assert!(matches!(result, Err(JobError::InputClosed)), "{result:?}");
    assert!(
        matches!(events.last(), Some(JobEvent::Failed { .. })),
        "{events:?}"
    );
}

#[test]
fn another_runs_secret_is_refused_on_both_sides_and_the_edge_serves_on() {
    for transport in TRANSPORTS {
        stranger_refused(transport);
    }
}

fn stranger_refused(transport: Transport) {
    let model = SmallModel::new();
    let address = free_address();
    let spec = |role| over(transport, spec(&model, Placement::Edge, role));
    let mut edge = Job::start(&spec(JobRole::Edge { listen: address }));
    edge.wait_until_ready();
    let requests = requests(&[0], 5, 3);
    let mut stranger = spec(device_role(Some(address), &requests));
    stranger.secret = "ee".repeat(32);
    let (events, result) = Job::start(&stranger).end();
    assert!(result.is_err());
    assert!(
        event_reasons(&events)[0].contains("refused this run's secret"),
        "{events:?}"
    );

    let mut friend = Job::start(&spec(device_role(Some(address), &requests)));
    friend.wait_until_ready();
    friend.begin();
    assert_eq!(friend.records_until_idle()[0].outcome, Outcome::Completed);
    friend.stop();
    edge.stop();
}

/// Writes bytes to the edge and returns what it answers before it closes the connection.
fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // Closing with unread bytes resets the connection: that is an answer too.
    let _reset = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn foreign_bytes_wrong_frames_and_clients_that_vanish_leave_the_edge_serving() {
    for transport in TRANSPORTS {
        serves_on(transport);
    }
}

fn serves_on(transport: Transport) {
    let model = SmallModel::new();
    let address = free_address();
    let placement = Placement::Split {
        layers_on_device: 2,
    };
    let spec = |role| over(transport, spec(&model, placement, role));
    let mut edge = Job::start(&spec(JobRole::Edge { listen: address }));
    edge.wait_until_ready();
    let foreign: [&[u8]; 2] = [b"GET / HTTP/1.1\r\nhost: edge\r\n\r\n", &[0xff; 64]];
    for bytes in foreign {
        match transport {
            Transport::Tcp => assert_eq!(answer_to(address, bytes), b""),
            Transport::Quic { .. } => {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.send_to(bytes, address).unwrap();
            }
        }
    }

    let counter = PayloadCounter::default();
    let connected = || connect(address, (&access(transport), &model.terms(2)), &counter).unwrap();
    let state = vec![0; usize::try_from(4 * model.width()).unwrap()];
    // A kind that this placement does not know, half a state, a position out of order, the end
    // of what was never begun.
    let wrong: [(FrameKind, u32, &[u8]); 4] = [
        (FrameKind::Prompt, 3, &[0; 8]),
        (FrameKind::Hidden, 0, &state[1..]),
        (FrameKind::Hidden, 5, &state),
        (FrameKind::End, 0, &[]),
    ];
    for (kind, position, body) in wrong {
        let mut client = connected();
        client.writer.write(kind, 0, position, body).unwrap();
        let answer = client.reader.read(&|_| Some(64));
        assert!(!matches!(answer, Ok(Some(_))), "{kind:?}: {answer:?}");
    }
    // One that vanishes in the middle of a request, with a frame cut off.
    let mut client = connected();
    client
        .writer
        .write(FrameKind::Hidden, 0, 0, &state)
        .unwrap();
    drop(client);

    let requests = requests(&[0], 5, 3);
    let mut device = Job::start(&spec(device_role(Some(address), &requests)));
    device.wait_until_ready();
    device.begin();
    assert_eq!(
        tokens(&device.records_until_idle()),
        [model.greedy(&requests[0])]
    );
    device.stop();
    edge.stop();
}

#[test]
fn an_edge_that_vanishes_fails_every_open_request_with_the_reason() {
    for transport in TRANSPORTS {
        edge_vanishes(transport);
    }
}

fn edge_vanishes(transport: Transport) {
    let model = SmallModel::new();
    for placement in [
        Placement::Edge,
        Placement::Split {
            layers_on_device: 1,
        },
    ] {
        let (listener, _socket) = listen(transport);
        let address = listener.address();
        let requests = requests(&[0, 0], 5, 3);
        let device = spec(&model, placement, device_role(Some(address), &requests));
        let mut device = Job::start(&over(transport, device));
        let (stream, peer) = listener.accept().unwrap().unwrap();
        let held = model.terms(0);
        let counter = PayloadCounter::default();
        let mut edge = accept(stream, peer, (&access(transport), &held), &counter).unwrap();
        device.wait_until_ready();
        device.begin();
        // One token, then nobody is there any more. A split device answers it with its next state; of one
        // that sends prompts alone nothing tells whether it came before the end did.
        let mut read = || edge.reader.read(&|_| Some(1 << 20)).unwrap().unwrap();
        read();
        edge.writer
            .write(FrameKind::Token, 0, 5, &token_bytes(&[7]))
            .unwrap();
        let answered = matches!(placement, Placement::Split { .. });
        while answered && read().header.position < 5 {}
        drop(edge);
        let (events, result) = device.end();
        assert!(
            matches!(result, Err(JobError::Connection { .. })),
            "{result:?}"
        );
        let ended: Vec<&RequestRecord> = events
            .iter()
            .filter_map(|event| match event {
                JobEvent::Request(record) => Some(record),
                _ => None,
            })
            .collect();
        assert_eq!(ended.len(), 2, "{events:?}");
        let came: &[u32] = &ended[0].tokens;
        assert!(came == [7] || came.is_empty() && !answered, "{came:?}");
        for record in ended {
            let Outcome::Failed { reason } = &record.outcome else {
                panic!("{record:?}")
            };
            assert!(
                reason.contains(&format!("the connection to {address} failed")),
                "{reason}"
            );
        }
        assert!(
            matches!(events.last(), Some(JobEvent::Failed { .. })),
            "{events:?}"
        );
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_the_remedy() {
    let model = SmallModel::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let job = Job::start(&spec(&model, Placement::Edge, JobRole::Edge { listen }));
    let (events, _) = job.end();
    let reasons = event_reasons(&events);
    assert!(
        reasons[0].contains(&format!("cannot listen at {listen}")),
        "{reasons:?}"
    );
    assert!(
        reasons[0].contains("give the phase another port"),
        "{reasons:?}"
    );
}

#[test]
fn descriptions_that_cannot_be_carried_out_say_why() {
    let model = SmallModel::new();
    let one = requests(&[0], 5, 3);
    let cut = Placement::Split {
        layers_on_device: model.layers(),
    };
    let too_long = requests(&[0], 500, 30);
    let cases = [
        (
            spec(&model, cut, device_role(None, &one)),
            "cannot be split after layer 4",
        ),
        (
            spec(&model, Placement::Edge, device_role(None, &one)),
            "the model needs the edge and no address of one is given",
        ),
        (
            spec(&model, Placement::Device, device_role(None, &too_long)),
            "529 positions, and the model was made for 512",
        ),
    ];
    for (spec, why) in cases {
        let (events, result) = Job::start(&spec).end();
        assert!(result.is_err());
        let reasons = event_reasons(&events);
        assert!(reasons[0].contains(why), "{reasons:?}");
    }
}

#[test]
fn a_missing_model_and_wrong_lines_on_standard_input_end_the_job_with_the_reason() {
    let model = SmallModel::new();
    let mut no_model = spec(&model, Placement::Device, device_role(None, &[]));
    no_model.model_directory = "/nonexistent".into();
    let (events, _) = Job::start(&no_model).end();
    assert!(
        event_reasons(&events)[0].contains("/nonexistent"),
        "{events:?}"
    );

    let (events, result) = Job::start_with("{\"name\": 1}\n").end();
    assert!(matches!(result, Err(JobError::ParseSpec(_))), "{result:?}");
    assert!(
        event_reasons(&events)[0].contains("not a job's description"),
        "{events:?}"
    );

    let mut job = Job::start(&spec(&model, Placement::Device, device_role(None, &[])));
    job.wait_until_ready();
    job.write("dance\n");
    let (_, result) = job.end();
    assert!(
        matches!(result, Err(JobError::ParseCommand { .. })),
        "{result:?}"
    );
}
