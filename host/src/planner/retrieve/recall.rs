//! Measures recall over a catalogue and goals of one's own: `COFFERDAM_RECALL_DATA=FILE.jsonl`, whose first line is
//! `{"tools": [{"name", "description", "parameters"}…]}` and each other `{"goal", "right": [names], "category"?}`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::domain::Effect;

/// Makes a tool's name of what a catalogue has: the last dot parts it, and what is no letter or digit is a hyphen.
fn name(text: &str) -> ToolName {
    let label = |text: &str| {
        let humps = words::words(text).join("-");
        let label = if humps.starts_with(|c: char| c.is_ascii_lowercase()) { humps } else { format!("x{humps}") };
        label.chars().filter(char::is_ascii).take(64).collect::<String>()
    };
    let (component, function) = text.rsplit_once('.').unwrap_or(("tools", text));
    ToolName::new(&label(component), &label(function)).unwrap()
}

fn tool(value: &Value) -> OfferedTool {
    OfferedTool {
        name: name(value["name"].as_str().unwrap()),
        summary: value["description"].as_str().unwrap_or_default().to_owned(),
        effect: Effect::Pure,
        input_schema: value["parameters"].clone(),
        output_schema: Value::Null,
    }
}

#[test]
#[ignore = "reads a file that is not in the repository"]
#[expect(clippy::disallowed_methods, reason = "the file is the reader's")]
fn recall_of_the_data_that_the_environment_names() {
    let text = std::fs::read_to_string(std::env::var("COFFERDAM_RECALL_DATA").unwrap()).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let catalogue = lines.next().unwrap();
    let listed = catalogue["tools"].as_array().unwrap();
    let tools: Vec<OfferedTool> = listed.iter().map(tool).collect();
    let index = Index::of(&tools);
    // For each category, of how many goals, and the parts of their tools that are among the first 1, 5 and 10.
    let mut found: BTreeMap<String, (f64, [f64; 3])> = BTreeMap::new();
    for goal in lines {
        let ranked = index.rank(goal["goal"].as_str().unwrap());
        let right = goal["right"].as_array().unwrap();
        let place = |name: &Value| ranked.iter().position(|ranked| listed[ranked.at]["name"] == *name).unwrap();
        let places: Vec<usize> = right.iter().map(place).collect();
        for category in [goal["category"].as_str().unwrap_or("goals"), "~ all"] {
            let (goals, parts) = found.entry(category.to_owned()).or_default();
            *goals += 1.0;
            for (part, first) in parts.iter_mut().zip([1, 5, 10]) {
                *part += places.iter().filter(|place| **place < first).count() as f64 / places.len() as f64;
            }
        }
    }
    for (category, (goals, parts)) in &found {
        let [one, five, ten] = parts.map(|part| (part * 1_000.0 / goals).round());
        println!("{category}: of {goals} goals over {} tools {one} at 1, {five} at 5, {ten} at 10", tools.len());
    }
    assert!(!found.is_empty(), "there are goals");
}
