//! Load for servers that speak the streaming part of OpenAI's interface (`/v1/completions` and
//! `/v1/chat/completions` with `stream: true`): what is sent, when, and what each request experienced.
//!
//! [`run_load`] is the main of such a process. It reads one [`LoadJobSpec`] as a line of JSON, then
//! [`crate::job::JobCommand`] lines, and writes [`crate::job::JobEvent`] lines, as every job does:
//!
//! ```text
//! standard input -> hx-input -+
//! schedule       -> hx-load  -+-> Signal -> main -> JobEvent -> standard output
//! sockets        -> hx-http  -+
//! ```
//!
//! `hx-load` keeps to one CPU, waits on absolute deadlines and hands a request on that is written
//! already; `hx-http` alone has sockets.

mod answer;
mod conversation;
mod draw;
mod exchange;
mod http;
mod pacer;
mod pin;
mod record;
mod run;
mod spec;
mod sse;
mod words;

#[cfg(test)]
mod tests;

pub use http::BURST_GAP_NS;
pub use record::{Ending, ExchangeRecord};
pub use run::{LoadError, run_load};
pub use spec::{Api, Arrivals, Length, LoadJobSpec, LoadSpec, MULTI_STREAM_SAMPLES, Mix, Think};
