//! All hostile cases in one process, in a new order each round, while a neighbour works without pause.
//!
//! `COFFERDAM_SOAK_SECONDS=600 cargo test -p cofferdam --test it soak -- --ignored --nocapture`

#![expect(clippy::disallowed_methods, reason = "a test measures time, and is told by variables how long")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::alone::{Case, Held, Running, seconds_of_soak, soak_begins, test};
use crate::hostile::neighbour;

/// Every case of every module.
pub fn all() -> Vec<Case> {
    [
        crate::agent::cases::ALL,
        crate::files::cases::ALL,
        crate::hostile::cases::ALL,
        crate::limits::cases::ALL,
        crate::load::cases::ALL,
        crate::network::cases::ALL,
        crate::secrets::cases::ALL,
    ]
    .concat()
}

#[test]
#[ignore = "it lasts two minutes, or COFFERDAM_SOAK_SECONDS"]
fn soak() {
    test(
        concat!(module_path!(), "::soak"),
        || -> Running { Box::pin(crate::network::shared()) },
        || -> Running { Box::pin(soaked()) },
    );
}

async fn soaked() {
    soak_begins();
    let (is_over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let working = tokio::spawn(work(is_over.clone(), served.clone()));
    let mut random = seed();
    println!("COFFERDAM_SOAK_SEED={random}");
    let (start, mut cases, mut rounds, mut after_first) = (Instant::now(), all(), 0, None);
    while start.elapsed() < Duration::from_secs(seconds_of_soak()) {
        shuffle(&mut cases, &mut random);
        for case in &cases {
            println!("{} {}", rounds, case.name);
            (case.body)().await;
        }
        rounds += 1;
        // What the first round left (compiled code, the allocator's store) is all that there may ever be.
        after_first.get_or_insert_with(Held::now).comes_back().await;
    }
    is_over.store(true, Ordering::SeqCst);
    working.await.expect("the neighbour was always served");
    println!(
        "{rounds} rounds of {} cases; the neighbour was served {} times",
        cases.len(),
        served.load(Ordering::SeqCst)
    );
}

async fn work(is_over: Arc<AtomicBool>, served: Arc<AtomicU64>) {
    while !is_over.load(Ordering::SeqCst) {
        neighbour().await;
        served.fetch_add(1, Ordering::SeqCst);
    }
}

/// The seed that was asked for, or one of this process.
fn seed() -> u64 {
    let asked = std::env::var("COFFERDAM_SOAK_SEED").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(u64::from(std::process::id())) | 1
}

/// Fisher and Yates, with xorshift.
fn shuffle(cases: &mut [Case], random: &mut u64) {
    for n in (1..cases.len()).rev() {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let other = *random % (u64::try_from(n).expect("few cases") + 1);
        cases.swap(n, usize::try_from(other).expect("few cases"));
    }
}
