//! The client: what the command line asks of a running controller.

use std::{
    io::ErrorKind,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use thiserror::Error;
use tokio::net::UnixStream;

use super::{Changed, DrainTime, socket};
use crate::config::NewElasticIp;

/// Why a request came to nothing.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody serves the API.
    #[error(
        "no controller runs for {}, and it alone can change the gateway; start `natgw run`, or name its --pin-dir", .0.display()
    )]
    NoController(PathBuf),
    /// This user may not ask.
    #[error("the API at {} is for root; run natgw with sudo", .0.display())]
    NotPermitted(PathBuf),
    /// The controller says no.
    #[error("{0}")]
    Refused(String),
    /// The controller could not do it.
    #[error("the controller has failed: {0}")]
    Failed(String),
    /// There was no answer, or none that can be understood.
    #[error("the controller gives no answer: {0}; its log may tell why")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The body of an answer that is no success.
#[derive(Deserialize)]
struct ErrorBody {
    error: String,
}

/// A client of the controller whose state is pinned in a directory.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) pin_dir: PathBuf,
    pub(super) socket: PathBuf,
}

impl Client {
    /// A client of the controller for `pin_dir`. It connects anew for each request.
    #[must_use]
    pub fn new(pin_dir: &Path) -> Self {
        Self { pin_dir: pin_dir.to_owned(), socket: socket(pin_dir) }
    }

    /// Takes an Elastic IP into use.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add(&self, wanted: &NewElasticIp) -> Result<Changed, ClientError> {
        let body = serde_json::to_vec(wanted).map_err(|error| ClientError::Broken(error.into()))?;
        self.request(Method::POST, "/v1/elastic-ips", body).await
    }

    /// Takes the Elastic IP `address` out of use; without a time, by the configuration's.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove(&self, address: Ipv4Addr, drain: Option<DrainTime>) -> Result<Changed, ClientError> {
        let query = drain.map_or_else(String::new, |time| format!("?drain={}", time.seconds));
        self.request(Method::DELETE, &format!("/v1/elastic-ips/{address}{query}"), Vec::new()).await
    }

    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Changed, ClientError> {
        let stream = self.connect().await?;
        let (status, body) = exchange(stream, method, path, body).await.map_err(ClientError::Broken)?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| ClientError::Broken(error.into()));
        }
        let message =
            serde_json::from_slice(&body).map_or_else(|_| status.to_string(), |ErrorBody { error }| error);
        Err(if status.is_client_error() {
            ClientError::Refused(message)
        } else {
            ClientError::Failed(message)
        })
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let nobody = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
        UnixStream::connect(&self.socket).await.map_err(|error| {
            if nobody.contains(&error.kind()) {
                ClientError::NoController(self.pin_dir.clone())
            } else if error.kind() == ErrorKind::PermissionDenied {
                ClientError::NotPermitted(self.socket.clone())
            } else {
                ClientError::Broken(error.into())
            }
        })
    }
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "natgw")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok((status, body))
}
