//! The page for Prometheus: HTTP on one address, one path, bounded in time and in callers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::ServeError;
use crate::play::Stage;
use crate::telemetry::metrics;

/// Where the page is.
const PATH: &str = "/metrics";
/// Callers at one time; others wait.
const CALLERS: usize = 8;
/// How long a caller may take for its request, and how long a connection may last.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
const CONNECTION_LIMIT: Duration = Duration::from_secs(300);

/// Begins to listen.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| ServeError::Metrics { address, source })
}

/// Answers until the process ends.
pub(super) async fn serve(listener: TcpListener, stage: Arc<Stage>) {
    let room = Arc::new(Semaphore::new(CALLERS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // A connection that failed concerns the caller alone. Where no descriptor is left nothing
            // tells when that is over, and without a pause this would spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let stage = Arc::clone(&stage);
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, Arc::clone(&stage)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_LIMIT)
                .serve_connection(TokioIo::new(stream), answer);
            // How a caller's connection ends is the caller's concern.
            let _ = tokio::time::timeout(CONNECTION_LIMIT, connection).await;
            drop(place);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    stage: Arc<Stage>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != PATH {
        let body = format!("metrics are at {PATH}\n");
        return Ok(plain(StatusCode::NOT_FOUND, body));
    }
    if request.method() != Method::GET {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "GET alone\n".to_owned());
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET"));
        return Ok(refused);
    }
    // Reading meters may take milliseconds: not on the threads that serve the controller.
    let page = tokio::task::spawn_blocking(move || metrics::expose(&stage.meters)).await;
    Ok(match page {
        Ok(page) => {
            let mut response = plain(StatusCode::OK, page);
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    })
}

fn plain(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
