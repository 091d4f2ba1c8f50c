//! What a pick costs, by the number of endpoints.

use std::hint::black_box;
use std::sync::Arc;

use mainstay::balance::Balancer;
use mainstay::balance::BalancerConfig;
use mainstay::balance::Balancing;
use mainstay::balance::Target;
use mainstay::policy::BreakerConfig;
use mainstay::policy::Load;
use mainstay::policy::pick::less_loaded;
use mainstay::policy::pick::p2c;
use mainstay::rng::Rng;
use mainstay::time::now;
use tower::discover::ServiceList;
use tower::load::CompleteOnResponse;
use tower::load::PendingRequestsDiscover;

use crate::harness::Case;
use crate::harness::IMMEDIATE;
use crate::harness::Peer;
use crate::harness::Run;
use crate::harness::Unasked;
use crate::harness::succeed;

const SIZES: [u64; 5] = [2, 10, 100, 1_000, 10_000];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in SIZES {
        let case = |contender, variant, make: Box<dyn Fn() -> Run>| {
            Case::new("pick", contender, variant, None, make).sized(size)
        };
        cases.push(case("mainstay", "policy-p2c", Box::new(move || policy(size))));
        cases.push(case("mainstay", "p2c", Box::new(move || balancer(size, Balancing::P2c, None))));
        cases.push(case("mainstay", "round-robin", Box::new(move || balancer(size, Balancing::RoundRobin, None))));
        let breaker = Some(BreakerConfig::default());
        cases.push(case("mainstay", "p2c+breaker", Box::new(move || balancer(size, Balancing::P2c, breaker))));
        // tower's cannot be asked for a pick alone, so a call to the trivial service is in it.
        cases.push(Case::new("pick", "tower", "p2c-pending", Some(IMMEDIATE), move || tower_p2c(size)).sized(size));
    }
    cases
}

/// The arithmetic alone.
fn policy(size: u64) -> Run {
    let loads = vec![Load::default(); size as usize];
    let rng = Rng::with_seed(1);
    Box::new(move |picks| {
        for _ in 0..picks {
            let (a, b) = p2c(loads.len(), rng.next()).expect("there are endpoints");
            black_box(if less_loaded(loads[b], loads[a]) { b } else { a });
        }
    })
}

fn balancer(size: u64, balancing: Balancing, breaker: Option<BreakerConfig>) -> Run {
    let config = BalancerConfig { balancing, breaker, ..BalancerConfig::default() };
    let balancer = Balancer::new("peer", config).expect("the settings are in range");
    let targets: Vec<_> = (0..size)
        .map(|n| {
            let address = ([10, 0, (n / 256) as u8, (n % 256) as u8], 80).into();
            Target { name: Arc::from(format!("{address}")), addresses: vec![address] }
        })
        .collect();
    balancer.update(now(), &targets).expect("the settings are in range");
    Box::new(move |picks| {
        let now = now();
        for _ in 0..picks {
            assert!(black_box(balancer.choose(now)).is_ok(), "there are endpoints");
        }
    })
}

fn tower_p2c(size: u64) -> Run {
    let peers = ServiceList::new((0..size).map(|_| Unasked(Peer::Immediate)));
    succeed(tower::balance::p2c::Balance::new(PendingRequestsDiscover::new(peers, CompleteOnResponse::default())))
}
