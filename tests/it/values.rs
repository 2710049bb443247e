//! What the steps of a run bring, where that is more than a run keeps in memory.

use cofferdam::host::RunState;
use cofferdam_kit::WebServer;
use cofferdam_kit::web::Reply;
use serde_json::json;

use crate::saga::Agency;

/// Steps, each of which brings 400,000 bytes: together more than the 8 MiB that a run keeps.
const STEPS: usize = 22;

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_to_what_is_not_in_memory_any_more_is_followed_through_the_log() {
    let web = WebServer::start();
    for n in 0..STEPS {
        web.on(&format!("/{n}"), Reply::text(&format!("{n}{}", "𝄞".repeat(99_999))));
    }
    let port = web.port();
    let agency = Agency::with(|_| {
        format!(
            "version = 0\n[[rule]]\nname = 'it'\nwhy = 'A test.'\nallow = ['fetch.get']\nhttp = [{{ url = 'http://127.0.0.1:{port}/*', addresses = ['127.0.0.1/32'] }}]\n"
        )
    });
    let mut flow = "workflow = 'large'\ngoal = 'Read much'\n".to_owned();
    for n in 0..STEPS {
        let needs = n.checked_sub(1).map(|before| format!("needs = ['s{before}']\n")).unwrap_or_default();
        flow += &format!(
            "[[steps]]\nid = 's{n}'\ntool = 'fetch.get'\nargs = {{ url = 'http://127.0.0.1:{port}/{n}' }}\n{needs}"
        );
    }
    // The first is asked for again when all others have been there since.
    flow += "[answer]\nall = [";
    flow += &(0..STEPS).map(|n| format!("{{ '$from' = 's{n}', path = '/status' }}")).collect::<Vec<_>>().join(", ");
    flow += "]\n";
    let report = agency.book(&flow).await;
    assert_eq!(report.state, RunState::Succeeded, "{:?}", report.failure);
    assert_eq!(report.answer, Some(json!({"all": vec![200; STEPS]})));
    assert_eq!(web.seen().len(), STEPS, "nothing is read from the world twice");
    agency.host.verify(&report.run).await.expect("the log is whole");
}
