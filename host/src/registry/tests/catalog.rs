//! Names in a catalog.

use crate::domain::Kind;

use super::*;

#[test]
fn tools_are_found_by_name_and_sorted() {
    let catalog = catalog_of(&["text", "csv"]).unwrap();
    let names: Vec<_> = catalog.tools().map(|tool| tool.name().to_string()).collect();
    assert_eq!(names, ["csv.run", "csv.stop", "text.run", "text.stop"]);
    let name = "text.stop".parse().unwrap();
    assert_eq!(catalog.tool(&name).unwrap().name(), &name);
    assert!(catalog.tool(&"text.go".parse().unwrap()).is_none());
}

#[test]
fn one_name_twice_and_look_alikes_are_refused() {
    for (names, text) in [
        (["csv", "csv"], "two components called `csv`"),
        (["tools", "t-0o1s"], "look alike"),
        (["mail", "mai1"], "look alike"),
        (["modern", "modem"], "look alike"),
        (["view", "vievv"], "look alike"),
        (["csv-zs", "c5v25"], "look alike"),
    ] {
        let failure = catalog_of(&names).unwrap_err();
        assert_eq!(failure.kind, Kind::LoadInvalid);
        assert!(failure.message.contains(text), "{failure}");
        assert_eq!(failure.message.matches("sha256:").count(), 2);
    }
    assert!(catalog_of(&["tools", "tool"]).is_ok());
}

#[test]
fn the_digest_is_of_the_set() {
    let digest = |names: &[&str]| catalog_of(names).unwrap().digest();
    assert_eq!(digest(&["text", "csv"]), digest(&["csv", "text"]));
    assert_ne!(digest(&["text", "csv"]), digest(&["text"]));
    assert_eq!(Catalog::default().digest(), digest(&[]));
}

#[test]
fn a_mistyped_name_finds_the_one_meant() {
    let catalog = catalog_of(&["text", "csv"]).unwrap();
    assert_eq!(catalog.similar("text.rum").as_deref(), Some("text.run"));
    assert_eq!(catalog.similar("CSV.STOP").as_deref(), Some("csv.stop"));
    assert_eq!(catalog.similar("stop").as_deref(), Some("csv.stop"));
    assert_eq!(catalog.similar("weather.today"), None);
    assert_eq!(catalog.similar(&"a".repeat(1_000_000)), None);
}
