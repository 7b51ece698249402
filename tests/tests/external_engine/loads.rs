//! Loads against a server that misbehaves as it is asked to.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use hexloop_workloads::job::Outcome;
use hexloop_workloads::load::{Api, Arrivals, Length, Mix, Think};

use crate::harness::{GAP_NS, MS, load, play, play_at};

/// Three requests, one after the other.
fn three() -> Arrivals {
    Arrivals::Recorded {
        moments_ns: vec![0, 40 * MS, 80 * MS],
    }
}

#[test]
fn an_open_loop_sends_at_its_moments_and_stamps_every_token() {
    for model in ["plain", "shredded", "forgetful"] {
        let told = play(load(model, three()), None);
        assert_eq!(told.endings(), ["completed"; 3], "{model}");
        let scheduled: Vec<u64> = told.records.iter().map(|it| it.scheduled_ns).collect();
        assert_eq!(scheduled, [0, 40 * MS, 80 * MS]);
        for (record, exchange) in told.records.iter().zip(&told.exchanges) {
            assert!(record.sent_ns >= record.scheduled_ns);
            assert_eq!((record.token_ns.len(), exchange.pieces), (4, 4), "{model}");
            assert!(record.token_ns.is_sorted());
            // The server says nothing before its time.
            let paced = (1..).zip(&record.token_ns);
            for (number, at) in paced {
                assert!(
                    *at >= record.sent_ns + number * GAP_NS,
                    "{model}: {record:?}"
                );
            }
            assert_eq!(
                (exchange.prompt_tokens, exchange.output_tokens),
                (Some(16), Some(4))
            );
            assert_eq!(exchange.text_bytes, " w0 w1 w2 w3".len() as u64);
            let down: u64 = exchange.bursts.iter().map(|bytes| u64::from(*bytes)).sum();
            assert_eq!(down, record.payload.down);
        }
        let [up, down] = [
            told.records.iter().map(|it| it.payload.up).sum::<u64>(),
            told.records.iter().map(|it| it.payload.down).sum(),
        ];
        assert_eq!(
            (told.totals.payload.up, told.totals.payload.down),
            (up, down)
        );
    }
}

#[test]
fn a_connection_is_kept_where_the_server_keeps_it() {
    let opened = |model: &str, keep: bool| {
        let mut load = load(model, Arrivals::SingleStream);
        load.keep_connections = keep;
        let told = play(load, Some(4));
        let completed = told
            .exchanges
            .iter()
            .filter(|it| it.ending.name() == "completed");
        completed.filter(|it| it.connected_ns.is_some()).count()
    };
    assert_eq!(opened("plain", true), 1);
    assert!(opened("plain", false) >= 4);
    assert!(opened("forgetful", true) >= 4);
}

#[test]
fn every_way_to_misbehave_is_told_apart() {
    for (model, ending, pieces) in [
        ("close", "closed-mid-stream", 2),
        ("latin", "not-utf-8", 2),
        ("malformed", "malformed-event", 2),
        ("error", "server-error", 2),
        ("huge", "too-large", 2),
        ("status", "http-status", 0),
        ("json", "not-a-stream", 0),
    ] {
        let moments_ns = vec![0];
        let told = play(load(model, Arrivals::Recorded { moments_ns }), None);
        assert_eq!(told.endings(), [ending], "{model}");
        assert_eq!(told.exchanges[0].pieces, pieces, "{model}");
        let Outcome::Failed { reason } = &told.records[0].outcome else {
            panic!("{:?}", told.records[0]);
        };
        match model {
            "status" => assert!(reason.contains("500") && reason.contains("out of memory")),
            "error" => assert!(reason.contains("out of blocks")),
            _ => assert!(!reason.is_empty()),
        }
    }
}

#[test]
fn a_stalled_stream_is_given_up_at_its_deadline_and_at_the_end_of_the_phase() {
    let moments_ns = vec![0];
    let mut stalled = load("stall", Arrivals::Recorded { moments_ns });
    stalled.deadline_ns = 100 * MS;
    let told = play(stalled.clone(), None);
    assert_eq!(told.endings(), ["timeout"]);
    assert_eq!(told.records[0].token_ns.len(), 2);
    // Two that fail at once end the phase while one stalls; one more is never sent.
    let moments_ns = vec![0, 30_000 * MS];
    let mut stalled = load("stall", Arrivals::Recorded { moments_ns });
    stalled.arrivals_for_ns = 60_000 * MS;
    stalled.deadline_ns = 50 * MS;
    let told = play(stalled, Some(1));
    assert_eq!(told.endings(), ["timeout", "phase-over"]);
    assert_eq!(told.records[1].outcome, Outcome::Unfinished);
    assert_eq!(told.records[1].sent_ns, told.records[1].scheduled_ns);
}

#[test]
fn nobody_listening_is_an_ending_too() {
    // Bound and dropped: nobody listens there now.
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = std::net::TcpListener::bind(anywhere)
        .unwrap()
        .local_addr()
        .unwrap();
    let moments_ns = vec![0];
    let told = play_at(
        address,
        load("plain", Arrivals::Recorded { moments_ns }),
        None,
    );
    assert_eq!(told.endings(), ["not-connected"]);
}

#[test]
fn users_of_a_closed_loop_wait_for_their_answers() {
    let think = Think {
        mean_ns: 5 * MS,
        exponential: false,
    };
    let mut closed = load("plain", Arrivals::Closed { users: 3, think });
    closed.arrivals_for_ns = 200 * MS;
    let told = play(closed, None);
    // Nobody has two requests under way.
    let mut ends: Vec<(u64, u64)> = told
        .records
        .iter()
        .map(|record| (record.sent_ns, *record.token_ns.last().unwrap()))
        .collect();
    ends.sort_unstable();
    for (sent, _) in &ends {
        let under_way = ends.iter().filter(|(from, to)| from < sent && sent < to);
        assert!(under_way.count() < 3);
    }
    assert!(told.records.len() >= 3);
    assert!(
        told.records
            .iter()
            .all(|record| record.scheduled_ns < 200 * MS)
    );
}

#[test]
fn a_query_of_a_multi_stream_comes_when_all_samples_before_have_ended() {
    let told = play(load("plain", Arrivals::MultiStream { samples: 3 }), Some(7));
    let scheduled: BTreeSet<u64> = told.records.iter().map(|it| it.scheduled_ns).collect();
    let queries: Vec<u64> = scheduled.into_iter().collect();
    for pair in queries.windows(2) {
        let mut before = told.records.iter().filter(|it| it.scheduled_ns == pair[0]);
        let ended = before.clone().count();
        assert_eq!(ended, 3);
        assert!(before.all(|it| it.token_ns.last() <= Some(&pair[1])));
    }
}

#[test]
fn conversations_grow_turn_by_turn() {
    let turns = Length::Fixed { count: 3 };
    let pause_ns = 10 * MS;
    let moments_ns = vec![0];
    let mut chat = load("plain", Arrivals::Recorded { moments_ns });
    (chat.api, chat.mix) = (Api::Chat, Mix::Chat { turns, pause_ns });
    let told = play(chat, None);
    assert_eq!(told.endings(), ["completed"; 3]);
    // 16 words of the user's and 4 of the answer more in each turn.
    let prompts: Vec<_> = told.exchanges.iter().map(|it| it.prompt_tokens).collect();
    assert_eq!(prompts, [Some(16), Some(36), Some(56)]);
    let turns: Vec<_> = told
        .exchanges
        .iter()
        .map(|it| (it.conversation, it.turn))
        .collect();
    assert_eq!(turns, [(0, 0), (0, 1), (0, 2)]);
    for pair in told.records.windows(2) {
        let ended = *pair[0].token_ns.last().unwrap();
        assert!(pair[1].scheduled_ns >= ended + pause_ns, "{pair:?}");
    }
}

#[test]
fn an_image_and_documents_make_the_uplink_heavy() {
    let up_of = |mix: Mix| {
        let moments_ns = vec![0];
        let mut heavy = load("plain", Arrivals::Recorded { moments_ns });
        (heavy.api, heavy.mix) = (Api::Chat, mix);
        let told = play(heavy, None);
        assert_eq!(told.endings(), ["completed"]);
        told.records[0].payload.up
    };
    // Base64 is a third larger.
    assert!(up_of(Mix::Image { bytes: 90_000 }) > 120_000);
    let document_words = Length::Fixed { count: 1000 };
    assert!(
        up_of(Mix::Retrieval {
            documents: 5,
            document_words
        }) > 15_000
    );
}
