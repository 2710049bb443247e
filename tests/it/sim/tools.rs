//! The tools of a simulation, and what its policy says of them.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use cofferdam::policy::Policy;
use cofferdam::registry::{Catalog, Options as Reading, VerifiedComponent};

/// Components whose tools are played. `journeys` books as `bookings` does, with a service that honours no keys.
static COMPONENTS: LazyLock<Vec<Arc<VerifiedComponent>>> = LazyLock::new(|| {
    let read = |name: &str| std::fs::read(cofferdam_guests::component(name)).expect("the component is there");
    let component = |name: &str, bytes: Vec<u8>| {
        Arc::new(VerifiedComponent::new(bytes, Some(name), &Reading::default()).expect("the component is good"))
    };
    let mut components = ["bookings", "fetch", "notes", "text"].map(|name| component(name, read(name))).to_vec();
    components.push(component("journeys", renamed(&read("bookings"), b"bookings", b"journeys")));
    components
});

/// The same component under another name of the same length.
fn renamed(bytes: &[u8], from: &[u8; 8], to: &[u8; 8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, part)| part == from).map(|(at, _)| at).collect();
    places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
    bytes
}

pub static CATALOG: LazyLock<Arc<Catalog>> =
    LazyLock::new(|| Arc::new(Catalog::new(COMPONENTS.clone()).expect("the components have different names")));

pub static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let digest = |component: &str| {
        let tool = CATALOG.tools().find(|tool| tool.name().component() == component).expect("it is there");
        tool.digest().to_string()
    };
    let text = format!(
        r#"version = 0
[[rule]]
name = "compute"
why = "It touches nothing."
allow = ["text.*"]
[[rule]]
name = "look"
why = "It only looks."
allow = ["fetch.get"]
http = [{{ url = "https://f.test/*" }}]
[[rule]]
name = "send"
why = "The service honours keys."
allow = ["fetch.send"]
http = [{{ url = "https://f.test/*", methods = ["POST"], keyed = true }}]
lower = [{{ tool = "fetch.send", digest = "{fetch}", effect = "idempotent", why = "The service honours keys." }}]
approval = "none"
price_usd_micros = 10
[[rule]]
name = "note"
why = "A line stays."
allow = ["notes.append"]
files = [{{ mount = "/notes", path = "notes", access = "read_write" }}]
approval = "none"
[[rule]]
name = "book"
why = "The service honours keys."
allow = ["bookings.book", "bookings.cancel"]
http = [{{ url = "https://b.test/*", methods = ["GET", "POST", "DELETE"], keyed = true }}]
env = {{ BOOKINGS_URL = "https://b.test" }}
approval = "none"
[[rule]]
name = "trip"
why = "The service honours no keys."
allow = ["journeys.book", "journeys.cancel"]
http = [{{ url = "https://t.test/*", methods = ["GET", "POST", "DELETE"] }}]
env = {{ BOOKINGS_URL = "https://t.test" }}
lower = [{{ tool = "journeys.cancel", digest = "{bookings}", effect = "idempotent", why = "What is cancelled stays so." }}]
approval = "none"
[[rule]]
name = "find"
why = "It only looks."
allow = ["bookings.find", "journeys.find"]
http = [{{ url = "https://b.test/*" }}, {{ url = "https://t.test/*" }}]
env = {{ BOOKINGS_URL = "https://b.test" }}
"#,
        fetch = digest("fetch"),
        bookings = digest("journeys"),
    );
    Arc::new(Policy::parse(&text, Path::new("/sim")).expect("the policy reads"))
});
