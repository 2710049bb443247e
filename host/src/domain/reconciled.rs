//! What became of a call whose end nobody saw, as the tool tells that was asked.

use crate::domain::{Case, Json, WitType};

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Reconciled {
    /// It was done, and brought this; null where it brings nothing.
    Done(Json),
    /// It was not done: it may be tried again.
    NotDone,
    /// The tool cannot tell either.
    Unknown,
}

impl Reconciled {
    /// Reads what the tool returned; `None` where it is none of the three.
    pub fn of(output: &Json) -> Option<Self> {
        match output.as_str() {
            Some("done") => return Some(Self::Done(Json::Null)),
            Some("not_done") => return Some(Self::NotDone),
            Some("unknown") => return Some(Self::Unknown),
            Some(_) => return None,
            None => {}
        }
        let fields = output.as_object().filter(|fields| fields.len() == 1)?;
        fields.get("done").map(|output| Self::Done(output.clone()))
    }

    /// Answers whether values of `ty` are what became of a call that brings `output`: a variant with exactly the cases `done`
    /// (with that output), `not-done` and `unknown`.
    pub fn is_type(ty: Option<&WitType>, output: Option<&WitType>) -> bool {
        let cases: Vec<Case> = match ty {
            Some(WitType::Variant { cases, .. }) => cases.clone(),
            Some(WitType::Enum { cases, .. }) => {
                cases.iter().map(|name| Case { name: name.clone(), ty: None }).collect()
            }
            _ => return false,
        };
        let has =
            |name: &str, ty: Option<&WitType>| cases.iter().any(|case| case.name == name && case.ty.as_ref() == ty);
        cases.len() == 3 && has("done", output) && has("not-done", None) && has("unknown", None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_one_of_three() {
        assert_eq!(Reconciled::of(&json!({"done": {"id": 3}})), Some(Reconciled::Done(json!({"id": 3}))));
        assert_eq!(Reconciled::of(&json!("done")), Some(Reconciled::Done(Json::Null)));
        assert_eq!(Reconciled::of(&json!("not_done")), Some(Reconciled::NotDone));
        assert_eq!(Reconciled::of(&json!("unknown")), Some(Reconciled::Unknown));
        for other in
            [json!("not-done"), json!(null), json!({"done": 1, "b": 2}), json!({"not_done": 1}), json!(["done"])]
        {
            assert_eq!(Reconciled::of(&other), None, "{other}");
        }
    }
}
