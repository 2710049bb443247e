//! A canary secret, granted to one tool for one header of requests to one server. The program runs as an operator runs
//! it, with everything logged, against a server that tells the secret back in every form it can. Then every byte that
//! left the host is searched: what was printed, what was logged, what is on the disk, and what was sent.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cofferdam_kit::WebServer;
use cofferdam_kit::web::{Reply, Seen, coded};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::Shop;

const SECRET: &str = "canary/7c1f+\"s3cret\"&value";
const VARIABLE: &str = "SHOP_SECRET";

/// A shop with the tool `fetch`, the server that the secret is for, and another one.
struct World {
    shop: Shop,
    own: WebServer,
    other: WebServer,
    /// All that the program printed and logged.
    told: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let (shop, own, other) = (Shop::new(), WebServer::start(), WebServer::start());
        let settings = format!(
            "version = 0\n[tools]\nfetch = {:?}\nprobe = {:?}\n[secrets]\nshop = \"env:{VARIABLE}\"\n",
            cofferdam_guests::component("fetch"),
            cofferdam_guests::component("probe")
        );
        shop.write("cofferdam.toml", &settings);
        shop.write("policy.toml", &policy(own.port(), other.port()));
        Self { shop, own, other, told: Vec::new() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.own.at("127.0.0.1"))
    }

    /// Runs the program with everything logged, and keeps what it says.
    fn run(&mut self, args: &[&str]) -> (i32, Value) {
        let mut command = self.shop.command(args);
        let output = command.env(VARIABLE, SECRET).env("COFFERDAM_LOG", "trace").output().expect("the program starts");
        self.told.extend([output.stdout.as_slice(), &output.stderr].concat());
        (output.status.code().unwrap_or(-1), serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    fn get(&mut self, path: &str) -> (i32, Value) {
        let args = json!({"url": self.url(path)}).to_string();
        self.run(&["call", "fetch.get", "--json", "--args", &args])
    }

    fn send(&mut self, path: &str, body: &str) -> (i32, Value) {
        let args = json!({"method": "POST", "url": self.url(path), "body": body}).to_string();
        self.run(&["call", "fetch.send", "--json", "--args", &args])
    }
}

fn policy(own: u16, other: u16) -> String {
    format!(
        "version = 0
[[rule]]
name = 'web'
why = 'The test.'
allow = ['fetch.*']
approval = 'none'
http = [
  {{ url = 'http://127.0.0.1:{own}/*', methods = ['GET', 'POST'] }},
  {{ url = 'http://127.0.0.1:{other}/*' }},
]
secrets = [{{ name = 'shop', to = ['http://127.0.0.1:{own}/*'], header = 'authorization', value = 'Bearer {{secret}}' }}]
[[rule]]
name = 'reveal'
why = 'A tool that must have the value itself.'
allow = ['probe.*']
approval = 'none'
secrets = [{{ name = 'shop', env = 'TOKEN', reveal = true }}]
files = [{{ mount = '/data', path = 'notes', access = 'read' }}]
capabilities = ['log', 'progress']
"
    )
}

/// The secret as it may stand somewhere.
fn forms() -> Vec<String> {
    let escaped = serde_json::to_string(SECRET).expect("text is JSON");
    let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("%{:02X}", c as u32) };
    let mut forms = vec![
        SECRET.to_owned(),
        escaped.trim_matches('"').to_owned(),
        STANDARD.encode(SECRET),
        URL_SAFE_NO_PAD.encode(SECRET),
        hex::encode(SECRET),
        hex::encode_upper(SECRET),
        percent.to_ascii_lowercase(),
        SECRET.chars().map(plain).collect(),
        percent,
    ];
    // Within a longer text that is base64 these characters are the secret's alone.
    forms.extend(USERS.iter().map(|user| {
        let before = user.len() + 1;
        STANDARD.encode(format!("{user}:{SECRET}"))[(before * 8).div_ceil(6)..(before + SECRET.len()) * 8 / 6]
            .to_owned()
    }));
    forms
}

/// Names before the secret in `Basic` credentials, so that it begins at each of the three places of a group.
const USERS: [&str; 3] = ["u", "me", "you"];

/// What a server may say to tell the secret back.
fn disguises() -> String {
    let basic = USERS.map(|user| format!("Basic {}", STANDARD.encode(format!("{user}:{SECRET}"))));
    [forms()[..forms().len() - USERS.len()].join("\n"), basic.join("\n")].join("\n")
}

#[track_caller]
fn silent(place: &str, bytes: &[u8]) {
    for form in forms() {
        let found = bytes.windows(form.len()).position(|window| window == form.as_bytes());
        let around = found.map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(120)..at]).into_owned());
        assert!(found.is_none(), "{place} holds the secret as `{form}`, after: {around:?}");
    }
}

/// Everything in a request but the one header.
fn rest(seen: &Seen) -> Vec<u8> {
    let headers = seen.headers.iter().filter(|(name, _)| name != "authorization");
    let text: String = headers.map(|(name, value)| format!("{name}: {value}\n")).collect();
    [format!("{} {}\n{text}", seen.method, seen.target).as_bytes(), &seen.body].concat()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder lists").flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_a_canary_secret_leaves_in_one_header_and_nowhere_else() {
    let mut world = World::new();
    let disguised = disguises();
    for (path, coding) in [("/gzip", "gzip"), ("/deflate", "deflate"), ("/br", "br")] {
        let body = coded::text(coding, &disguised).await;
        world.own.on(path, Reply::page(200, "content-encoding", coding, body));
    }
    world.own.on("/echo", Reply::Echo);
    world.own.on("/plain", Reply::text(&disguised));
    world.own.on("/header", Reply::page(200, "x-token", &format!("Bearer {SECRET}"), "here"));
    world.own.on("/cut", Reply::octets(format!("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{SECRET}")));
    world.own.on("/drip", drip());
    world.own.on("/away", Reply::redirect(302, &format!("http://{}/echo", world.other.at("127.0.0.1"))));
    let telling = format!("http://{}/echo?key={}", world.other.at("127.0.0.1"), forms()[7]);
    world.own.on("/telling", Reply::redirect(302, &telling));
    world.other.on("/echo", Reply::Echo);

    for path in ["/echo", "/plain", "/gzip", "/deflate", "/br", "/header", "/drip"] {
        let (code, document) = world.get(path);
        assert_eq!(code, 0, "{path}: {document}");
        let marked = document["result"].to_string().contains("[secret:shop]");
        assert!(marked, "the guest sees a mark where {path} tells the secret: {document}");
    }
    for way in ["result", "error", "panic", "log", "path", "progress", "print"] {
        let args = json!({"variable": "TOKEN", "way": way}).to_string();
        world.run(&["call", "probe.leak", "--json", "--args", &args]);
    }
    assert_eq!(world.get("/cut").0, 1, "an answer that breaks off is a failure");
    assert_eq!(world.send("/echo", "an order").0, 0);
    // The guest has no value, so that what it sends of its own can only be a guess; a guess that is right is not sent.
    let before = world.own.seen().len();
    assert_eq!(world.send("/echo", &format!("is it {SECRET}?")).0, 1);
    for seen in world.own.seen().iter().skip(before) {
        silent("what was sent of a guess", &rest(seen));
    }

    let (code, away) = world.get("/away");
    assert_eq!(code, 0, "{away}");
    let seen = world.other.seen();
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.header("authorization").is_none()), "{seen:?}");
    // A server that knows the secret cannot have it carried on by a redirect either.
    assert_eq!(world.get("/telling").0, 1);

    world.shop.write("flow.toml", &flow(&world.url("/echo"), &world.url("/absent\u{20}x")));
    assert_eq!(world.run(&["run", "flow.toml"]).0, 1, "one of its steps cannot be sent");
    let args = format!("fetch.get GET {}", world.url("/echo"));
    let explain: Vec<&str> = ["policy", "explain"].into_iter().chain(args.split(' ')).collect();
    for args in
        [&["show", "last"][..], &["show", "last", "--json"], &["runs", "--json"], &["tools"], &["doctor"], &explain]
    {
        assert_eq!(world.run(args).0, 0, "{args:?}");
    }

    silent("what was printed and logged", &world.told);
    for file in files(&world.shop.path("")) {
        silent(&file.display().to_string(), &fs::read(&file).expect("a file reads"));
    }
    let (own, other) = (world.own.seen(), world.other.seen());
    assert!(own.len() > 10, "{}", own.len());
    for seen in &own {
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {SECRET}").as_str()), "{seen:?}");
    }
    for seen in own.iter().chain(&other) {
        silent("a request beside its one header", &rest(seen));
    }
    assert!(String::from_utf8_lossy(&world.told).contains("TRACE"), "everything was logged");
}

#[test]
fn g3_a_placeholder_is_not_carried_on_by_a_redirect() {
    let mut world = World::new();
    world.own.on("/echo", Reply::Echo);
    world.own.on("/away", Reply::redirect(302, &format!("http://{}/echo", world.other.at("127.0.0.1"))));
    world.other.on("/echo", Reply::Echo);
    let mut get = |path: &str, header: &str| {
        let headers = json!([{"name": header, "value": "cofferdam-secret-shop"}]);
        let args = json!({"url": world.url(path), "headers": headers}).to_string();
        world.run(&["call", "fetch.get", "--json", "--args", &args])
    };
    assert_eq!(get("/echo", "x-key").0, 0);
    let (code, document) = get("/away", "x-key");
    // It may follow without the header, which is not one that goes along, or stop: the value is never there.
    assert!(code == 0 || document["denials"].to_string().contains("denied.secret"), "{document}");
    assert_eq!(
        world.own.seen().first().and_then(|seen| seen.header("x-key").map(str::to_owned)).as_deref(),
        Some(SECRET)
    );
    for seen in world.other.seen() {
        silent("a request to another place", format!("{seen:?}").as_bytes());
        assert!(!format!("{seen:?}").contains("cofferdam-secret"), "the placeholder stays too: {seen:?}");
    }
    silent("what was printed and logged", &world.told);
}

/// The secret, one octet at a time.
fn drip() -> Reply {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunks: String = SECRET.chars().map(|c| format!("1\r\n{c}\r\n")).collect();
    Reply::octets(format!("{head}{chunks}0\r\n\r\n"))
}

/// A run that fetches twice: once well, and once what cannot be sent.
fn flow(good: &str, bad: &str) -> String {
    format!(
        "workflow = 'web'\ngoal = 'Look twice.'\n[[steps]]\nid = 'good'\ntool = 'fetch.get'\nargs = {{ url = {good:?} }}\n\
         [[steps]]\nid = 'bad'\ntool = 'fetch.get'\nargs = {{ url = {bad:?} }}\n"
    )
}

/// The search finds what is there: without the rule's scrubbing the echo itself would hold it.
#[test]
fn a_search_for_the_canary_finds_each_of_its_forms() {
    let folder = TempDir::new().expect("there is room for a folder");
    for form in forms() {
        let text = format!("before {form} after");
        fs::write(folder.path().join("x"), &text).expect("a file is written");
        let found = std::panic::catch_unwind(|| silent("a text", text.as_bytes()));
        assert!(found.is_err(), "{form}");
    }
}
