//! Calls under a key whose process is killed in their middle: whoever comes next under the key does them again where nothing
//! was changed, is told where nobody knows, and takes a person's word.

use std::process::Stdio;

use cofferdam_kit::Bookings;
use serde_json::json;

use crate::cli::{Brought, Shop};
use crate::guest::pause;
use crate::saga::shop;

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
