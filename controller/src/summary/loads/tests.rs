use std::net::SocketAddr;

use hexloop_workloads::load::{Api, Arrivals, Ending, Length, LoadSpec, Mix};
use hexloop_workloads::wire::PayloadBytes;

use super::*;
use crate::fixture;

const MS: u64 = 1_000_000;

fn load(arrivals: Arrivals) -> LoadPlan {
    LoadPlan {
        name: "load".to_owned(),
        node: "device".to_owned(),
        server: "edge".to_owned(),
        link: "radio".to_owned(),
        endpoint: SocketAddr::from(([198, 18, 0, 2], 8000)),
        load: LoadSpec {
            api: Api::Chat,
            path: "/v1".to_owned(),
            model: "m".to_owned(),
            arrivals,
            arrivals_for_ns: 1000 * MS,
            deadline_ns: 500 * MS,
            mix: Mix::Plain,
            prompt_words: Length::Fixed { count: 1 },
            output_tokens: Length::Fixed { count: 4 },
            body: String::new(),
            keep_connections: true,
        },
        duration_ns: 2000 * MS,
    }
}

/// A request that was sent 1 ms late and answered by three events from then on, 10 ms apart.
fn answered(id: u32, scheduled_ms: u64, counted: Option<u32>) -> (RequestRecord, ExchangeRecord) {
    let scheduled_ns = scheduled_ms * MS;
    let record = RequestRecord {
        id,
        scheduled_ns,
        sent_ns: scheduled_ns + MS,
        token_ns: [20, 30, 40].map(|at| scheduled_ns + at * MS).to_vec(),
        prompt_tokens: 5,
        tokens: Vec::new(),
        ties: Vec::new(),
        outcome: Outcome::Completed,
        payload: PayloadBytes { up: 300, down: 900 },
    };
    let exchange = ExchangeRecord {
        id,
        conversation: id,
        turn: 0,
        ending: Ending::Completed,
        status: Some(200),
        connected_ns: None,
        first_byte_ns: Some(scheduled_ns + 15 * MS),
        last_byte_ns: Some(scheduled_ns + 41 * MS),
        bursts: vec![500, 400],
        pieces: 3,
        text_bytes: 9,
        prompt_words: 1,
        prompt_tokens: Some(5),
        output_tokens: counted,
    };
    (record, exchange)
}

fn summed(arrivals: Arrivals, told: Vec<(RequestRecord, ExchangeRecord)>) -> LoadSummary {
    let mut recorded = PhaseResults {
        name: "load".to_owned(),
        ..PhaseResults::default()
    };
    for (record, exchange) in told {
        recorded.exchanges.insert(record.id, exchange);
        recorded.requests.insert(record.id, record);
    }
    let mut results = Results::default();
    results.phases.push(recorded);
    let mut plan = fixture::plan();
    plan.loads = vec![load(arrivals)];
    summaries(&plan, &BTreeMap::new(), &results, None).remove(0)
}

#[test]
fn latencies_count_from_the_schedule_and_tokens_as_the_server_counts() {
    let told = (0..8).map(|id| answered(id, 100 * u64::from(id), Some(5)));
    let summary = summed(Arrivals::SingleStream, told.collect());
    assert_eq!((summary.requests, summary.completed), (8, 8));
    assert_eq!(summary.ttft_ms.p50, Some(20.0));
    assert_eq!(summary.ttft_from_send_ms.p50, Some(19.0));
    assert_eq!(summary.first_byte_ms.p50, Some(15.0));
    assert_eq!(summary.e2e_ms.p50, Some(40.0));
    // Five tokens came in three events: four gaps share 20 ms.
    assert_eq!(summary.tpot_ms.p50, Some(5.0));
    assert_eq!(summary.itl_ms.p50, Some(10.0));
    assert_eq!(
        (summary.output_tokens, summary.prompt_tokens),
        (40, Some(40))
    );
    assert_eq!(summary.uplink_over_downlink, Some(0.333_333_333));
    assert_eq!(summary.burst_bytes_down.n, 16);
    assert_eq!(summary.api, "chat");
    let scenario = summary.scenario.unwrap();
    // 44 queries carry a 90th percentile.
    assert_eq!(
        (scenario.value, scenario.queries, scenario.needed),
        (None, 8, 44)
    );
}

#[test]
fn what_failed_counts_against_goodput_and_is_told_by_its_ending() {
    let (mut record, mut exchange) = answered(1, 10, None);
    exchange.ending = Ending::ClosedMidStream;
    record.outcome = exchange.ending.outcome();
    let told = vec![answered(0, 0, None), (record, exchange)];
    let summary = summed(Arrivals::Offline { samples: 4 }, told);
    assert_eq!((summary.requests, summary.failed), (4, 1));
    assert_eq!(summary.goodput_over_offered, Some(0.25));
    assert_eq!(summary.endings["closed-mid-stream"], 1);
    // Nobody counted: three events each.
    assert_eq!((summary.output_tokens, summary.counted_by_server), (6, 0));
    let scenario = summary.scenario.unwrap();
    assert_eq!((scenario.value, scenario.incomplete), (None, 1));
}

#[test]
fn scenarios_state_what_loadgen_states_once_enough_queries_carry_it() {
    let told = (0..44)
        .map(|id| answered(id, 50 * u64::from(id), None))
        .collect();
    let single = summed(Arrivals::SingleStream, told).scenario.unwrap();
    assert_eq!(single.value, Some(40.0));
    // Two samples a query: 459 queries need 918 samples.
    let told = (0..918)
        .map(|id| answered(id, 50 * u64::from(id / 2), None))
        .collect();
    let multi = summed(Arrivals::MultiStream { samples: 2 }, told)
        .scenario
        .unwrap();
    assert_eq!((multi.queries, multi.value), (459, Some(40.0)));
    let told = (0..4).map(|id| answered(id, 0, None)).collect();
    let offline = summed(Arrivals::Offline { samples: 4 }, told)
        .scenario
        .unwrap();
    // Twelve events within 40 ms.
    assert_eq!(offline.value, Some(300.0));
}
