//! The server: understands requests and hands them to the controller, which alone writes maps.

use std::{
    fs::{self, DirBuilder},
    io,
    net::Ipv4Addr,
    os::unix::{fs::DirBuilderExt, net::UnixStream},
    path::{Path, PathBuf},
};

use axum::{
    Json, Router,
    extract::{
        Path as InPath, Query, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use nix::sys::stat::{Mode, fchmod};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    net::{UnixListener, UnixSocket},
    sync::{mpsc, oneshot},
    task::{JoinHandle, spawn_blocking},
};

use super::{
    Call, DrainTime, Kind, Refusal, Request,
    message::Answer,
    metrics::{self, MetricsError},
    socket,
};
use crate::config::NewElasticIp;

/// Requests that may wait for the controller.
const WAITING: usize = 16;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;

/// The type of the text that Prometheus reads.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The API being served; its socket goes with it.
#[derive(Debug)]
pub struct Api {
    calls: mpsc::Receiver<Call>,
    socket: PathBuf,
    server: JoinHandle<()>,
}

impl Api {
    /// Serves the API of the controller that holds the lock on `pin_dir`. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the socket cannot be made, or another process serves it.
    pub fn serve(pin_dir: &Path) -> io::Result<Self> {
        Self::at(socket(pin_dir), pin_dir)
    }

    pub(super) fn at(socket: PathBuf, pin_dir: &Path) -> io::Result<Self> {
        let listener = listen(&socket)?;
        let (sender, calls) = mpsc::channel(WAITING);
        let router = router(sender).merge(metrics_of(pin_dir.to_owned()));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!("the API has ended: {error}");
            }
        });
        tracing::debug!("the API is served at {}", socket.display());
        Ok(Self { calls, socket, server })
    }

    /// The next request.
    pub async fn next(&mut self) -> Option<Call> {
        self.calls.recv().await
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.server.abort();
        // Whoever takes over replaces one that is left behind.
        let _ = fs::remove_file(&self.socket);
    }
}

/// Removes the `socket` that a controller has left behind, if it was killed.
pub fn forget(socket: &Path) {
    if UnixStream::connect(socket).is_err() {
        // There may be none.
        let _ = fs::remove_file(socket);
    }
}

/// Listens at `socket` in the place of a controller that has ended.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    let directory = socket.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if UnixStream::connect(socket).is_ok() {
        // Its pin directory has the same path, in another mount namespace.
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves it"));
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixSocket::new_stream()?;
    // The file that is bound gets the mode of the socket: nobody but root may connect, not even for a moment.
    fchmod(&listener, Mode::S_IRUSR | Mode::S_IWUSR)?;
    listener.bind(socket)?;
    listener.listen(BACKLOG)
}

type Controller = State<mpsc::Sender<Call>>;

fn router(controller: mpsc::Sender<Call>) -> Router {
    let not_here =
        || async { Refusal::new(Kind::NotFound, "there is no such path; use /v1/elastic-ips or /metrics") };
    let not_so = || async {
        Refusal::new(Kind::Invalid, "this path does not take this method; use GET, POST or DELETE")
    };
    Router::new()
        .route("/v1/elastic-ips", get(list).post(add))
        .route("/v1/elastic-ips/{address}", delete(remove))
        .fallback(not_here)
        .method_not_allowed_fallback(not_so)
        .with_state(controller)
}

/// The metrics, which need no controller: a large table takes a while to read, and the gateway goes on meanwhile.
fn metrics_of(pin_dir: PathBuf) -> Router {
    let answer = async move || {
        let text = spawn_blocking(move || metrics::text(&pin_dir)).await;
        match text.map_err(MetricsError::from).flatten() {
            Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
            Err(error) => Refusal::new(Kind::Failure, error.to_string()).into_response(),
        }
    };
    Router::new().route("/metrics", get(answer))
}

async fn list(State(controller): Controller) -> Response {
    ask(controller, Request::ElasticIps).await
}

async fn add(State(controller): Controller, wanted: Result<Json<NewElasticIp>, JsonRejection>) -> Response {
    match wanted {
        Ok(Json(wanted)) => ask(controller, Request::Add(wanted)).await,
        Err(error) => Refusal::new(Kind::Invalid, error.body_text()).into_response(),
    }
}

/// The query of a removal.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HowLong {
    drain: Option<DrainTime>,
}

async fn remove(
    State(controller): Controller,
    address: Result<InPath<Ipv4Addr>, PathRejection>,
    how_long: Result<Query<HowLong>, QueryRejection>,
) -> Response {
    match (address, how_long) {
        (Ok(InPath(address)), Ok(Query(how_long))) => {
            ask(controller, Request::Remove(address, how_long.drain)).await
        }
        (Err(error), _) => Refusal::new(Kind::Invalid, error.body_text()).into_response(),
        (_, Err(error)) => Refusal::new(Kind::Invalid, error.body_text()).into_response(),
    }
}

async fn ask(controller: mpsc::Sender<Call>, request: Request) -> Response {
    let (sender, receiver) = oneshot::channel();
    let gone = || Refusal::new(Kind::Ending, "the controller is ending; try again once another one runs");
    let call = Call { request, answer: sender };
    let answer: Answer = match controller.send(call).await {
        Ok(()) => receiver.await.unwrap_or_else(|_| Err(gone())),
        Err(_) => Err(gone()),
    };
    match answer {
        Ok(body) => Json(body).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Failure => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Ending => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(json!({ "error": self.message }))).into_response()
    }
}
