//! The API's names and texts, and both of its ends on one socket.

use std::net::Ipv4Addr;
use std::path::Path;

use hyper::Method;

use super::*;
use crate::{config::NewElasticIp, report::ElasticIpState};

#[test]
fn every_pin_directory_has_a_socket_of_its_own() {
    let of = |path: &str| socket(Path::new(path)).display().to_string();
    assert_eq!(of("/sys/fs/bpf/natgw"), "/run/natgw/natgw.sock");
    assert_eq!(of("/sys/fs/bpf/lab/natgw"), "/run/natgw/lab:natgw.sock");
    assert_eq!(of("/mnt/bpf/natgw"), "/run/natgw/:mnt:bpf:natgw.sock");
}

#[test]
fn a_time_to_drain_is_seconds_with_or_without_units_or_now() {
    let seconds = |text: &str| text.parse::<DrainTime>().ok().map(|time| time.seconds);
    assert_eq!(["350", "350s", "5m50s", "now", "0"].map(seconds), [350, 350, 350, 0, 0].map(Some));
    assert_eq!(["", "soon", "-1", "1500ms", "32days"].map(seconds), [None; 5]);
}

/// Has `ask` talk to a controller that answers every call by `answer`, and once more when it has ended.
async fn asked<T>(
    name: &str,
    answer: fn(Request) -> Answer,
    ask: impl AsyncFnOnce(&Client) -> T,
) -> (T, Result<Changed, ClientError>) {
    let pin_dir = std::env::temp_dir().join(format!("natgw-api-{name}-{}", std::process::id()));
    let client = Client { socket: pin_dir.join("api.sock"), pin_dir: pin_dir.clone() };
    let mut api = Api::at(client.socket.clone(), &pin_dir).unwrap();
    let controller = tokio::spawn(async move {
        while let Some(Call { request, answer: sender }) = api.next().await {
            let _ = sender.send(answer(request));
        }
    });
    let answers = ask(&client).await;
    controller.abort();
    let _ = controller.await;
    let afterwards = client.remove(ADDRESS, None).await;
    std::fs::remove_dir(&pin_dir).unwrap();
    (answers, afterwards)
}

const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
const THREE_SECONDS: Option<DrainTime> = Some(DrainTime { seconds: 3 });

fn wanted() -> NewElasticIp {
    NewElasticIp { address: ADDRESS, nat_gateway: None, arp: None, ports: None }
}

fn in_order(request: Request) -> Answer {
    let (address, state, seconds_left) = match request {
        Request::Add(wanted) => (wanted.address, ElasticIpState::InUse, None),
        Request::Remove(address, drain) => {
            (address, ElasticIpState::Draining, drain.map(|time| time.seconds))
        }
        Request::ElasticIps => return Err(Refusal::new(Kind::Invalid, "not asked here")),
    };
    let (nat_gateway, to_keep) = ("nat-a".to_owned(), String::new());
    let changed = Changed { address, nat_gateway, state, seconds_left, generation: 7, to_keep };
    serde_json::to_value(changed).map_err(|error| Refusal::new(Kind::Failure, error))
}

#[tokio::test]
async fn what_the_client_asks_reaches_the_controller_and_its_answer_comes_back() {
    let (answers, afterwards) = asked("answers", in_order, async |client| {
        (client.add(&wanted()).await.unwrap(), client.remove(ADDRESS, THREE_SECONDS).await.unwrap())
    })
    .await;
    assert_eq!((answers.0.state, answers.0.generation), (ElasticIpState::InUse, 7));
    assert_eq!((answers.1.state, answers.1.seconds_left), (ElasticIpState::Draining, Some(3)));
    assert!(matches!(afterwards, Err(ClientError::NoController(_))), "the socket goes with the controller");
}

#[tokio::test]
async fn a_refusal_comes_back_with_its_message_and_a_failure_is_told_from_it() {
    let refuse = |request| match request {
        Request::Add(_) => Err(Refusal::new(Kind::Conflict, "no; because")),
        Request::Remove(..) | Request::ElasticIps => Err(Refusal::new(Kind::Failure, "a map is gone")),
    };
    let ((added, removed), _) = asked("refusals", refuse, async |client| {
        (client.add(&wanted()).await, client.remove(ADDRESS, None).await)
    })
    .await;
    assert!(matches!(added, Err(ClientError::Refused(message)) if message == "no; because"));
    assert!(matches!(removed, Err(ClientError::Failed(message)) if message == "a map is gone"));
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused_in_json_before_the_controller_hears_of_it() {
    let never = |request| Err(Refusal::new(Kind::Failure, format!("{request:?} has reached the controller")));
    let ((), _) = asked("nonsense", never, async |client| {
        for (method, path, body, expected) in [
            (Method::POST, "/v1/elastic-ips", "{", "EOF"),
            (
                Method::POST,
                "/v1/elastic-ips",
                r#"{"address": "203.0.113.11", "colour": 1}"#,
                "unknown field `colour`",
            ),
            (Method::POST, "/v1/elastic-ips", r#"{"address": "nowhere"}"#, "invalid IPv4 address"),
            (Method::DELETE, "/v1/elastic-ips/nowhere", "", "nowhere"),
            (Method::DELETE, "/v1/elastic-ips/203.0.113.11?drain=soon", "", "soon is no time to drain"),
            (Method::DELETE, "/v1/elastic-ips/203.0.113.11?now=1", "", "unknown field `now`"),
            (Method::PUT, "/v1/elastic-ips", "", "does not take this method"),
            (Method::GET, "/v2/elastic-ips", "", "there is no such path"),
        ] {
            let answer = client.request(method.clone(), path, body.into()).await;
            let Err(ClientError::Refused(message)) = answer else { panic!("{method} {path}: {answer:?}") };
            assert!(message.contains(expected), "{method} {path}: {message}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_one_that_is_served_is_not() {
    use std::os::unix::fs::PermissionsExt;
    let directory = std::env::temp_dir().join(format!("natgw-api-stale-{}", std::process::id()));
    let socket = directory.join("api.sock");
    std::fs::create_dir_all(&directory).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let api = Api::at(socket.clone(), Path::new("/nowhere")).unwrap();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    let second = Api::at(socket.clone(), Path::new("/nowhere")).unwrap_err();
    drop(api);
    let removed = !socket.exists();
    std::fs::remove_dir(&directory).unwrap();
    assert_eq!((mode & 0o777, removed), (0o600, true));
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
}
