//! A load process within the test, and what it told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;

use hexloop_tests::mock_engine::MockEngine;
use hexloop_workloads::clock;
use hexloop_workloads::job::{JobCommand, JobEvent, JobTotals, RequestRecord};
use hexloop_workloads::load::{
    Api, Arrivals, ExchangeRecord, Length, LoadJobSpec, LoadSpec, Mix, run_load,
};

pub(crate) const MS: u64 = 1_000_000;

/// Between tokens of the server.
pub(crate) const GAP_NS: u64 = 2 * MS;

/// Requests for answers of four tokens.
pub(crate) fn load(model: &str, arrivals: Arrivals) -> LoadSpec {
    LoadSpec {
        api: Api::Completions,
        path: "/v1".to_owned(),
        model: model.to_owned(),
        arrivals,
        arrivals_for_ns: 10_000 * MS,
        deadline_ns: 60_000 * MS,
        mix: Mix::Plain,
        prompt_words: Length::Fixed { count: 16 },
        output_tokens: Length::Fixed { count: 4 },
        body: String::new(),
        keep_connections: true,
    }
}

pub(crate) struct Told {
    pub(crate) records: Vec<RequestRecord>,
    pub(crate) exchanges: Vec<ExchangeRecord>,
    pub(crate) totals: JobTotals,
}

impl Told {
    /// How exchanges ended, in the order of their requests.
    pub(crate) fn endings(&self) -> Vec<&'static str> {
        self.exchanges
            .iter()
            .map(|exchange| exchange.ending.name())
            .collect()
    }
}

/// Plays a load against a server of its own. It is stopped when it has nothing more to do, or after so
/// many exchanges.
pub(crate) fn play(load: LoadSpec, stop_after: Option<usize>) -> Told {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mock = MockEngine::start(anywhere, GAP_NS).unwrap();
    play_at(mock.address, load, stop_after)
}

/// The same against a server at an address.
pub(crate) fn play_at(endpoint: SocketAddr, load: LoadSpec, stop_after: Option<usize>) -> Told {
    let spec = LoadJobSpec {
        name: "load".to_owned(),
        endpoint,
        load,
        seed: 7,
        send_delay_ns: 0,
    };
    let (input, mut orders) = std::io::pipe().unwrap();
    let (told, output) = std::io::pipe().unwrap();
    let process = std::thread::spawn(move || run_load(BufReader::new(input), output));
    writeln!(orders, "{}", serde_json::to_string(&spec).unwrap()).unwrap();
    let mut tell = |command: JobCommand| {
        writeln!(orders, "{}", serde_json::to_string(&command).unwrap()).unwrap();
    };
    let (mut records, mut exchanges, mut totals) = (Vec::new(), Vec::new(), None);
    for line in BufReader::new(told).lines() {
        match serde_json::from_str(&line.unwrap()).unwrap() {
            JobEvent::Ready { .. } => tell(JobCommand::Start {
                t0_monotonic_ns: clock::now() + MS,
            }),
            JobEvent::Request(record) => records.push(record),
            JobEvent::Exchange(exchange) => {
                exchanges.push(exchange);
                if stop_after == Some(exchanges.len()) {
                    tell(JobCommand::Stop);
                }
            }
            JobEvent::Idle if stop_after.is_none() => tell(JobCommand::Stop),
            JobEvent::Done(done) => totals = Some(done),
            JobEvent::Failed { reason } => panic!("{reason}"),
            _ => {}
        }
    }
    process.join().unwrap().unwrap();
    records.sort_by_key(|record: &RequestRecord| record.id);
    exchanges.sort_by_key(|exchange: &ExchangeRecord| exchange.id);
    Told {
        records,
        exchanges,
        totals: totals.unwrap(),
    }
}
