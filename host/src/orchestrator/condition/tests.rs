use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn steps() -> BTreeMap<String, Json> {
    let value = json!({
        "sum": {"total": 12.5, "count": 3, "note": null, "name": "Ä b"},
        "rows": [{"n": 1, "ok": true}, {"n": 2, "ok": false}, {"n": 9_007_199_254_740_993_u64, "ok": true}],
        "t1.early": {"big": 18_446_744_073_709_551_615_u64, "least": i64::MIN},
        "none": null,
    });
    value.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn held(text: &str) -> Result<bool, String> {
    Condition::parse(text)?.holds(&steps(), Some(&json!({"name": "bolt", "count": 2})))
}

/// Each line is a condition, and what comes of it.
#[track_caller]
fn check(lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (text, expected) = line.rsplit_once(" => ").unwrap();
        let found = match held(text) {
            Ok(truth) => truth.to_string(),
            Err(flaw) => flaw,
        };
        assert_eq!(found, expected.trim(), "{text}");
        // What is written down again is the same condition.
        if let Ok(condition) = Condition::parse(text) {
            let printed = condition.renamed(&str::to_owned);
            assert_eq!(Condition::parse(&printed), Ok(condition), "{text} is printed as {printed}");
        }
    }
}

#[test]
fn values_are_compared_by_what_they_are() {
    check(
        r#"
        steps.sum.total > 12 => true
        steps.sum.count == 3.0 => true
        steps.sum.count == "3" => false
        steps.sum.name.startsWith("Ä") && size(steps.sum.name) == 3 => true
        steps["t1.early"].big == 18446744073709551615u => true
        steps["t1.early"].big > steps.rows[2].n => true
        steps.rows[2].n == 9007199254740992.0 => false
        steps.rows[2].n > 9007199254740992 && steps.rows[2].n < 9007199254740994.0 => true
        steps["t1.early"].least == -9223372036854775808 => true
        steps.rows == [{"n": 1, "ok": true}] => false
        {"a": [1, 2.0]} == {"a": [1.0, 2]} => true
        "b" in ["a", "b"] && 2 in [1, 2.0] && "n" in steps.rows[0] => true
        item.name == "bolt" && item["count"] + 1 == 3 => true
        7 / 2 == 3 && 7 % 2 == 1 && 7.0 / 2 == 3.5 && -7 / 2 == -3 => true
        1 - (2 - 3) == 2 && (1 + 2) * 3 == 9 && !(1 > 2) => true
        "a" + "b" == "ab" && [1] + [2] == [1, 2] => true
        (steps.sum.count > 2 ? "many" : "few") == "many" => true
        int("42") == 42 && int(3.9) == 3 && double("0.5") < 1 && string(3) == "3" => true
        "abc".contains("bc") && "abc".endsWith("c") => true
        "#,
    );
}

#[test]
fn lists_are_looked_through() {
    check(
        r"
        steps.rows.all(r, r.n > 0) => true
        steps.rows.exists(r, !r.ok) => true
        steps.rows.exists_one(r, !r.ok) => true
        steps.rows.filter(r, r.ok).map(r, r.n)[0] == 1 => true
        steps.rows.map(r, r.ok, r.n).size() == 2 => true
        steps.rows[0].all(key, size(key) < 3) => true
        steps.rows.all(a, steps.rows.exists(b, a.n == b.n)) => true
        ",
    );
}

#[test]
fn what_is_absent_has_one_meaning() {
    check(
        r"
        steps.none == null && steps.unheard_of == null => true
        steps.sum.note == null => true
        has(steps.sum.total) && !has(steps.sum.sum) && !has(steps.none.total) => true
        has(steps.sum.note) => true
        steps.sum.totl > 1 => there is no field `totl`; there are: count, name, note, total
        steps.none.total > 1 => there is no field `total` in nothing (null)
        steps.sum.note > 1 => nothing (null) and `1` cannot be compared
        steps.none.total > 1 || true => true
        false && steps.none.total > 1 => false
        steps.none.total > 1 && true => there is no field `total` in nothing (null)
        steps.rows[3].ok => there is no item 3 in a list of 3
        ",
    );
}

#[test]
fn what_has_no_meaning_is_told() {
    check(
        r#"
        steps.sum.total => it is `12.5`, and neither true nor false
        1 + "a" == 2 => `"a"` is not a number
        1 / 0 == 1 => a division by zero
        1.0 / 0.0 == 1 => a division by zero
        18446744073709551615u + 1 == 0 => a whole number is beyond -2^63 or 2^64-1
        1e308 * 10 == 1 => a result is no finite number
        steps == null => `steps` alone is nothing: name a step, as in `steps.name`
        steps[item.name] == 1 => a step is named by text, as in `steps["name"]`
        now() > 1 => there is no function `now`; there are has, all, exists, exists_one, filter, map, size, contains, startsWith, endsWith, int, double, string
        env.HOME == "" => `env` is unknown: a condition sees `steps`, `item` and, in the end, `answer`
        has(steps.sum) => `has` asks for a field of a step; whether a step brought something is `steps.name != null`
        [1].map(steps, 1) == [1] => `steps` cannot be a name in `map`
        size() == 1 => `size` is written `x.size(…)` and takes 1 values in all
        b"a" == b"a" => bytes have no meaning here
        "#,
    );
    assert!(held("1 +").unwrap_err().starts_with("column 4: "), "{:?}", held("1 +"));
    assert!(held("").is_err());
    assert!(held("\u{1b}]0;x\u{7}").is_err_and(|flaw| !flaw.contains('\u{1b}')));
}

#[test]
fn a_condition_names_its_steps() {
    let condition =
        Condition::parse(r#"steps.a.x > 1 && (has(steps["b-c"].y) || [1].all(i, steps.d[0].z == i))"#).unwrap();
    assert_eq!(condition.steps().iter().collect::<Vec<_>>(), ["a", "b-c", "d"]);
    assert!(!condition.uses_item());
    assert!(Condition::parse("item.x").unwrap().uses_item());
    assert_eq!(
        condition.renamed(&|step| format!("t2.{step}")),
        r#"steps["t2.a"].x > 1 && (has(steps["t2.b-c"].y) || [1].all(i, steps["t2.d"][0].z == i))"#
    );
    let places: Vec<_> = condition.places().into_iter().map(|place| place.path.join("/")).collect();
    assert_eq!(places, ["x", "y", "0/z"]);
}

#[test]
fn a_condition_is_bounded() {
    let long = format!("1{} > 0", " + 1".repeat(300));
    assert!(Condition::parse(&long).unwrap_err().contains("at most 1024"), "{:?}", Condition::parse(&long));
    let deep = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    assert!(Condition::parse(&deep).is_err());
    // As deep as the bytes allow, on a thread's ordinary stack.
    for wide in [
        format!("1{} > 0", "+1".repeat(508)),
        format!("steps.a{} > 0", ".b".repeat(500)),
        format!("steps.a{}", "[0]".repeat(330)),
    ] {
        assert!(Condition::parse(&wide).unwrap_err().contains("levels"), "{:?}", Condition::parse(&wide));
    }
    let ten = "[1,2,3,4,5,6,7,8,9,10]";
    let busy = (0..8).fold("1".to_owned(), |inner, n| format!("{ten}.map(x{n}, {inner})"));
    assert_eq!(held(&format!("size({busy}) > 0")), Err("it takes more than 1000000 operations".to_owned()));
    let all = (0..8).fold("1 > 2".to_owned(), |inner, n| format!("{ten}.exists(x{n}, {inner})"));
    // What could not be looked at to its end has no value, on whichever side of an `||` it stands.
    assert!(held(&format!("({all}) || true")).is_err() && held(&format!("!({all})")).is_err());
    assert_eq!(held(&all), Err("it takes more than 1000000 operations".to_owned()));
}

/// Conditions over whole numbers and truth, where the crate's own evaluation says the same.
fn any_condition() -> impl Strategy<Value = String> {
    let number = (0..9_i64).prop_map(|n| n.to_string()).prop_recursive(3, 12, 2, |inner| {
        (inner.clone(), prop::sample::select(vec!["+", "-", "*", "/", "%"]), inner)
            .prop_map(|(a, operator, b)| format!("({a} {operator} {b})"))
    });
    let compared = (number.clone(), prop::sample::select(vec!["<", "<=", "==", "!=", ">", ">="]), number.clone());
    let truth = compared.prop_map(|(a, operator, b)| format!("{a} {operator} {b}"));
    truth.prop_recursive(3, 24, 3, move |inner| {
        let list = prop::collection::vec(number.clone(), 0..3).prop_map(|items| items.join(", "));
        let each = prop::sample::select(vec!["all", "exists", "exists_one"]);
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (list, each, inner).prop_map(|(list, each, a)| format!("[{list}].{each}(x, x > 2 || {a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_condition_holds_where_the_crate_says_so(text in any_condition()) {
        prop_assume!(text.len() <= CONDITION_BYTES_MAX);
        let ours = Condition::parse(&text).unwrap().holds(&BTreeMap::new(), None);
        let theirs = cel::Program::compile(&text).unwrap().execute(&cel::Context::default());
        match theirs {
            Ok(cel::Value::Bool(truth)) => prop_assert_eq!(ours, Ok(truth), "{}", text),
            _ => prop_assert!(ours.is_err(), "{}: {:?}, {:?}", text, ours, theirs),
        }
    }
}
