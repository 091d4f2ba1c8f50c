//! Targets and names.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use mainstay::Channel;
use mainstay::Event;
use mainstay::HostPort;
use mainstay::Scope;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::kit::*;
use crate::sites::*;

#[tokio::test(start_paused = true)]
async fn targets_that_cannot_be_used_are_refused_with_what_is_allowed() {
    let wrong = [
        "",
        "orders",
        ":50051",
        "orders:0",
        "orders:65536",
        "orders:http",
        "or ders:80",
        "dns://orders:80",
        "dns:///",
        "dns:///orders",
        "dns://ns/orders:80",
        "dns://127.0.0.1/orders:80",
        "static:///",
        "static:///a:1,",
        "static:///a:1,b",
        "http://orders",
        "https://orders:443",
        "xds:///orders:80",
        "[::1:80",
        "[nonsense]:80",
        "::1:80:",
    ];
    for target in wrong {
        let error = Channel::builder(target).build::<Plain>().err().unwrap_or_else(|| panic!("{target} was taken"));
        assert_eq!(error.field(), "target", "{target}");
        assert!(error.value().contains(target) && !error.allowed().is_empty(), "{error}");
    }
    let right = [
        "orders:50051",
        "127.0.0.1:80",
        "[::1]:80",
        "dns:///orders.prod:50051",
        "dns://127.0.0.1:53/orders:80",
        "static:///10.0.0.1:1,[::1]:2,orders:3",
        "http://orders:80/",
    ];
    for target in right {
        Channel::builder(target).build::<Plain>().unwrap_or_else(|error| panic!("{target}: {error}"));
    }
}

#[test]
fn hosts_and_ports_are_written_as_they_are_read() {
    for text in ["orders:1", "10.0.0.1:65535", "[::1]:80", "a-b.c_d:9"] {
        let parsed: HostPort = text.parse().unwrap();
        assert_eq!(parsed.to_string(), text);
    }
    let v6: HostPort = "[fe80::1]:443".parse().unwrap();
    assert_eq!((v6.host(), v6.port()), ("fe80::1", 443));
}

#[tokio::test(start_paused = true)]
async fn settings_out_of_range_are_refused_with_their_path() {
    let outlier = mainstay::policy::OutlierConfig { consecutive_failures: 0, ..Default::default() };
    let error = Channel::builder("127.0.0.1:1").outlier(Some(outlier)).build::<Plain>().err().unwrap();
    assert_eq!(error.field(), "outlier.consecutive_failures");
    let breaker = mainstay::policy::BreakerConfig { half_open_permits: 0, ..Default::default() };
    let error = Channel::builder("127.0.0.1:1").breaker(Some(breaker)).build::<Plain>().err().unwrap();
    assert_eq!(error.field(), "breaker.half_open_permits");
}

/// Real time, since the resolver's own does not pause; nothing here waits for a clock.
#[tokio::test]
async fn localhost_is_found_without_a_name_server() {
    let site = Site::ok().await;
    let mut channel: Channel<Plain> =
        Channel::builder(format!("dns:///localhost:{}", site.address.port())).build().unwrap();
    assert_eq!(ask(&mut channel).await, 0);
    assert_eq!(channel.balancer().endpoints()[0].name(), site.address.to_string());
}

/// A name server that answers every question for an address with these, for one second.
async fn name_server(addresses: Arc<Mutex<Vec<Ipv4Addr>>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let (address, asked) = (socket.local_addr().expect("it is bound"), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    tokio::spawn(async move {
        let mut packet = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            let answers = addresses.lock().unwrap().clone();
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = socket.send_to(&answer_to(&packet[..length], &answers), from).await;
        }
    });
    (address, asked)
}

/// RFC 1035: the question again, and an A record for each address if it asks for those.
fn answer_to(question: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let mut end = 12;
    while question[end] != 0 {
        end += usize::from(question[end]) + 1;
    }
    let (kind, end) = (question[end + 2], end + 5);
    let answers = if kind == 1 { addresses } else { &[] };
    let mut packet = question[..2].to_vec();
    packet.extend_from_slice(&[0x85, 0x80, 0, 1, 0, answers.len() as u8, 0, 0, 0, 0]);
    packet.extend_from_slice(&question[12..end]);
    for address in answers {
        // The name of the question, A, IN, one second, four bytes.
        packet.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        packet.extend_from_slice(&address.octets());
    }
    packet
}

/// Real time, since the resolver's own does not pause; the test waits for events.
#[tokio::test]
async fn a_name_is_resolved_again_when_its_time_is_over() {
    let (one, other) = (Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2));
    let addresses = Arc::new(Mutex::new(vec![one]));
    let (server, asked) = name_server(addresses.clone()).await;
    let (heard, mut changes) = mpsc::unbounded_channel();
    let observer = move |_: &Scope<'_>, event: &Event<'_>| {
        if let Event::EndpointsChanged { count } = event {
            let _ = heard.send(*count);
        }
    };
    let channel: Channel<Plain> =
        Channel::builder(format!("dns://{server}/orders.test.:50051")).observer(Arc::new(observer)).build().unwrap();
    assert_eq!(changes.recv().await, Some(1));
    *addresses.lock().unwrap() = vec![other, one];
    assert_eq!(changes.recv().await, Some(2), "within its time to live");
    let names: Vec<_> = channel.balancer().endpoints().iter().map(|endpoint| endpoint.name().to_owned()).collect();
    assert_eq!(names, ["127.0.0.1:50051", "127.0.0.2:50051"], "in an order of its own");
    assert!(asked.load(Ordering::Relaxed) >= 2);
}
