//! A server that stands in for an engine: `mock-engine ADDRESS:PORT GAP_MS`. It says where it listens
//! and answers until it is killed.

#![forbid(unsafe_code)]

use std::env;

use anyhow::Context as _;
use hexloop_tests::mock_engine::MockEngine;

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let usage = "usage: mock-engine ADDRESS:PORT GAP_MS";
    let listen = arguments.next().context(usage)?;
    let gap_ms: u64 = arguments.next().context(usage)?.parse().context(usage)?;
    let mock = MockEngine::start(listen.parse().context(usage)?, gap_ms * 1_000_000)
        .with_context(|| format!("cannot listen at {listen}"))?;
    println!("listening at {}", mock.address);
    loop {
        std::thread::park();
    }
}
