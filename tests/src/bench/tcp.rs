//! TCP through real sockets: bulk, connect-request-close, and the latency of requests.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

use crate::bench::gateway::finish_checksums;
use crate::bench::topology::Topology;
use crate::lab::process::Stream;

/// Latency of requests, microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
}

/// Makes sure that TCP passes, if need be with checksums that the end hosts finish themselves.
///
/// # Errors
/// When it does not pass either way.
pub fn prepare(topology: &Topology) -> Result<()> {
    if latency(topology, Duration::from_millis(50)).is_ok() {
        return Ok(());
    }
    finish_checksums(topology)?;
    latency(topology, Duration::from_millis(50)).map(drop).context("TCP does not pass")
}

/// Gbit/s that `iperf3` receives.
///
/// # Errors
/// When iperf3 fails.
pub fn bulk(topology: &Topology, streams: u32, seconds: u32) -> Result<f64> {
    let mut server = topology.server().spawn(&["iperf3", "--server", "--one-off", "--forceflush"])?;
    server.wait_for_line(0, PATIENCE, |stream, line| {
        stream == Stream::Out && line.contains("Server listening")
    })?;
    let (remote, streams, time) = (remote(0).to_string(), streams.to_string(), seconds.to_string());
    let client = topology.client().try_run_within(
        &["iperf3", "--client", &remote, "--parallel", &streams, "--time", &time, "--json"],
        PATIENCE + Duration::from_secs(u64::from(seconds)),
    )?;
    let report: Value = serde_json::from_str(&client.stdout).context("iperf3 tells nothing")?;
    let received = report["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(received.with_context(|| format!("iperf3 received nothing: {}", report["error"]))? / 1e9)
}

/// Connections per second: each carries a request and an answer and is closed, `in_flight` at a time.
///
/// # Errors
/// When one fails.
pub fn connect_request_close(topology: &Topology, in_flight: u32, lasting: Duration) -> Result<f64> {
    let (stop, stopped) = oneshot::channel();
    let listener = topology.server().within(|| {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("cannot listen")?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })?;
    let server = topology.server().thread(move || run_local(serve(listener, stopped)));
    let rate = topology.client().within(|| run_local(ask(in_flight, lasting))?);
    // The server ends with its sender anyway.
    let _ = stop.send(());
    let served = server.join().map_err(|_| anyhow::anyhow!("the server has panicked"))?;
    served???;
    rate
}

/// One request after the other on one connection.
///
/// # Errors
/// When one fails or takes more than two seconds.
pub fn latency(topology: &Topology, lasting: Duration) -> Result<Latency> {
    let listener = topology.server().within(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?))?;
    let server = topology.server().thread(move || answer(&listener));
    let times = topology.client().within(|| request(lasting));
    if times.is_err() {
        // Nobody may have connected: the server must not wait for ever.
        let _ = topology.server().within(|| {
            Ok(TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)), ANSWER)?)
        });
    }
    let answered = server.join().map_err(|_| anyhow::anyhow!("the server has panicked"))??;
    let mut times = times?;
    answered?;
    times.sort_unstable();
    ensure!(!times.is_empty(), "no request was answered");
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_nanos() as f64 / 1e3;
    Ok(Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999) })
}

fn request(lasting: Duration) -> Result<Vec<Duration>> {
    let address = SocketAddr::from((remote(1), PORT));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER).context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let (mut times, mut buffer) = (Vec::new(), MESSAGE);
    let end = Instant::now() + lasting;
    while Instant::now() < end {
        let begin = Instant::now();
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer).context("no answer")?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

fn answer(listener: &TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut buffer = MESSAGE;
    while stream.read_exact(&mut buffer).is_ok() {
        stream.write_all(&buffer)?;
    }
    Ok(())
}

async fn serve(listener: TcpListener, mut stopped: oneshot::Receiver<()>) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => return Ok(()),
        };
        let (mut stream, _) = accepted?;
        spawn_local(async move {
            let mut buffer = MESSAGE;
            // A client that goes away early counts the failure itself.
            if stream.read_exact(&mut buffer).await.is_ok() {
                let _ = stream.write_all(&buffer).await;
            }
        });
    }
}

async fn ask(in_flight: u32, lasting: Duration) -> Result<f64> {
    let begin = Instant::now();
    let done = Rc::new(Cell::new(0_u32));
    let asked = Rc::new(Cell::new(0_u32));
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (done, asked) = (Rc::clone(&done), Rc::clone(&asked));
            spawn_local(async move {
                while begin.elapsed() < lasting {
                    let number = asked.replace(asked.get() + 1);
                    exchange(number).await?;
                    done.set(done.get() + 1);
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(f64::from(done.get()) / begin.elapsed().as_secs_f64())
}

/// One connection, toward one remote after the other, so that ports do not run out.
async fn exchange(number: u32) -> Result<()> {
    let connect = tokio::net::TcpStream::connect((remote(number), PORT));
    let mut stream = tokio::time::timeout(PATIENCE, connect).await.context("a connection hangs")??;
    stream.write_all(&MESSAGE).await?;
    let mut answer = Vec::with_capacity(MESSAGE.len() + 1);
    stream.read_to_end(&mut answer).await?;
    ensure!(answer.len() == MESSAGE.len(), "an answer has {} bytes", answer.len());
    Ok(())
}

/// Runs a future and what it spawns on this thread, whose sockets are in its namespace.
fn run_local<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(LocalSet::new().block_on(&runtime, work))
}

/// An address of the server.
const fn remote(number: u32) -> Ipv4Addr {
    let [_, _, high, low] = (number % 1_000 + 1).to_be_bytes();
    Ipv4Addr::new(198, 18, high, low)
}

const PORT: u16 = 8_080;
const MESSAGE: [u8; 64] = [b'x'; 64];
const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(2);
