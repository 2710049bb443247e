//! Calls under a key whose process is killed in their middle: whoever comes next under the key does them again where nothing
//! was changed, is told where nobody knows, and takes a person's word.

use std::process::Stdio;
use std::sync::Arc;

use cofferdam::clock::SystemClock;
use cofferdam::domain::{Digest, Principal, RunId, Timestamp, canonical};
use cofferdam::store::KeyedOutcomes;
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use cofferdam_kit::Bookings;
use serde_json::json;

use crate::cli::{Brought, Shop};
use crate::guest::pause;
use crate::saga::{Form, policy, shop};

const BOOK: [&str; 6] = ["call", "bookings.book", "--args", r#"{"kind": "car", "what": "small"}"#, "--key", "monday"];
const FIND: [&str; 6] = ["call", "bookings.find", "--args", r#"{"kind": "car", "key": "none"}"#, "--key", "look"];

fn again(shop: &Shop, call: &[&str], more: &[&str]) -> Brought {
    shop.run(&[call, more].concat())
}

/// Kills the process of a call when its request is under way.
async fn killed(shop: &Shop, service: &Bookings, call: &[&str]) {
    let before = service.log().len();
    service.slow(3_000);
    let mut child = shop.command(call).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    while service.log().len() == before {
        assert_eq!(child.try_wait().expect("it can be asked"), None, "it has not ended");
        pause(5).await;
    }
    let meanwhile = again(shop, call, &[]).ends(2);
    assert!(meanwhile.err.contains("has not been seen to end"), "{}", meanwhile.err);
    child.kill().expect("it can be killed");
    child.wait().expect("it is gone");
    service.slow(0);
}

#[tokio::test]
async fn a_look_whose_process_died_is_made_again_under_its_key() {
    let service = Bookings::start();
    let shop = shop(&service);
    killed(&shop, &service, &FIND).await;
    let asked = service.log().len();
    let found = again(&shop, &FIND, &["--json"]).ends(0);
    assert_eq!((found.json()["result"].clone(), service.log().len()), (json!("not_done"), asked + 1));
    again(&shop, &FIND, &[]).ends(0);
    assert_eq!(service.log().len(), asked + 1, "its outcome is kept");
}

#[tokio::test]
async fn a_change_whose_process_died_is_told_as_unknown_until_a_person_says_what_became_of_it() {
    let booked = json!({"id": "car-9", "kind": "car", "what": "small", "is_cancelled": false});
    let word = format!("done:{booked}");
    for (settle, code, requests) in [(word.as_str(), 0, 0), ("failed", 70, 0), ("retry", 0, 1)] {
        let service = Bookings::start();
        let shop = shop(&service);
        killed(&shop, &service, &BOOK).await;
        let asked = service.log().len();
        let unknown = again(&shop, &BOOK, &[]).ends(70);
        assert!(unknown.err.contains("--settle"), "{}", unknown.err);
        again(&shop, &BOOK, &["--settle", "done:{}"]).ends(1);
        assert_eq!(service.log().len(), asked, "{settle}: not on a guess");
        let settled = again(&shop, &BOOK, &["--settle", settle, "--json"]).ends(code).json();
        assert_eq!(service.log().len(), asked + requests, "{settle}");
        let repeated = again(&shop, &BOOK, &["--json"]).ends(code).json();
        assert_eq!(repeated["result"], settled["result"], "{settle}");
        assert_eq!(service.log().len(), asked + requests, "{settle}: the word stands");
        if code == 0 && requests == 0 {
            assert_eq!(settled["result"], booked);
        }
        assert!(service.effects().values().all(|times| *times == 1), "{settle}: {:?}", service.effects());
        shop.run(&["verify", "--all"]).ends(0);
    }
}

#[tokio::test]
async fn a_word_about_a_call_that_nobody_made_makes_none() {
    let service = Bookings::start();
    let shop = shop(&service);
    again(&shop, &BOOK, &["--settle", "retry"]).ends(2);
    assert!(service.log().is_empty());
    again(&shop, &BOOK, &[]).ends(0);
    assert_eq!(service.log().len(), 1);
}

#[tokio::test]
async fn a_change_whose_end_nobody_knows_keeps_its_key_until_a_person_says_what_became_of_it() {
    let booked = json!({"id": "car-9", "kind": "car", "what": "small", "is_cancelled": false});
    let word = format!("done:{booked}");
    for (settle, code, requests) in [(word.as_str(), 0, 0), ("failed", 70, 0), ("retry", 0, 1)] {
        let service = Bookings::start();
        let shop = shop(&service);
        shop.write("policy.toml", &policy(Form::Unkeyed, service.port()));
        // A gateway that answers so may have lost the answer, and not the booking.
        service.fail("car", 502, 1);
        let call = [&BOOK[..], &["--yes"]].concat();
        let lost = again(&shop, &call, &[]).ends(1);
        assert!(lost.err.contains("nobody knows what it changed"), "{}", lost.err);
        let asked = service.log().len();
        assert!(again(&shop, &call, &[]).ends(70).err.contains("--settle"));
        assert_eq!(service.log().len(), asked, "{settle}: not on a guess");
        again(&shop, &call, &["--settle", settle]).ends(code);
        again(&shop, &call, &[]).ends(code);
        assert_eq!(service.log().len(), asked + requests, "{settle}: the word stands");
        // Now it is known, and no word changes that.
        assert!(again(&shop, &call, &["--settle", "failed"]).ends(2).err.contains("is known"));
        assert_eq!(service.log().len(), asked + requests);
    }
}

#[tokio::test]
async fn a_key_whose_process_died_before_it_began_anything_is_free_and_a_word_about_it_makes_no_call() {
    let service = Bookings::start();
    let shop = shop(&service);
    // As it is left by a process that dies between the two: a key, and no session.
    let args = json!({"kind": "car", "what": "small"});
    let request = Digest::of_parts(&[b"call", b"bookings.book", canonical(&args).as_bytes()]);
    let clock = Arc::new(SystemClock::default());
    let (run, at): (RunId, _) = ("r-01arz3ndektsv4rrffq69g5fav".parse().expect("an id"), Timestamp(1));
    let settings = std::fs::read_to_string(shop.path("cofferdam.toml")).expect("there are settings");
    shop.write("cofferdam.toml", &settings.replace("version = 0\n", "version = 0\nstate = 'log'\n"));
    let log = SqliteLog::open(&shop.path("log"), SqliteOptions::default(), clock).expect("the log opens");
    for word in ["failed", "done:{}", "retry"] {
        log.claim_key(&Principal::default(), "monday", &request, &run, at).await.expect("the key is taken");
        assert!(again(&shop, &BOOK, &["--settle", word]).ends(2).err.contains("there is none"), "{word}");
        assert!(service.log().is_empty(), "{word} makes no call");
    }
    log.claim_key(&Principal::default(), "monday", &request, &run, at).await.expect("the key is taken");
    again(&shop, &BOOK, &[]).ends(0);
    assert_eq!(service.log().len(), 1);
}
