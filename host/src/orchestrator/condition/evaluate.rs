//! Finds the value of a condition, and counts what that takes.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::domain::{Json, excerpt, printable};
use crate::orchestrator::condition::CONDITION_WORK_MAX;
use crate::orchestrator::condition::node::{Binary, Each, EachKind, Function, Node, Unary};
use crate::orchestrator::condition::number::{Value, compute};

/// Bytes of text that count as one operation.
const TEXT_BYTES: usize = 32;

/// Characters of a value that an error shows: what tools bring is not spread over messages.
const SHOWN_CHARS_MAX: usize = 40;

/// A value: a part of what steps brought, or made here.
type Data<'a> = Cow<'a, Json>;

/// Answers whether the condition holds.
///
/// # Errors
/// What has no value.
pub(super) fn holds(root: &Node, steps: &BTreeMap<String, Json>, item: Option<&Json>) -> Result<bool, String> {
    let mut evaluation = Evaluation { steps, item, variables: Vec::new(), work_left: CONDITION_WORK_MAX };
    let value = evaluation.value(root)?;
    value.as_bool().ok_or_else(|| format!("it is {}, and neither true nor false", shown(&value)))
}

struct Evaluation<'a> {
    steps: &'a BTreeMap<String, Json>,
    item: Option<&'a Json>,
    /// Values of what macros name, the innermost last.
    variables: Vec<(&'a str, Data<'a>)>,
    work_left: u32,
}

impl<'a> Evaluation<'a> {
    fn work(&mut self, operations: usize) -> Result<(), String> {
        let left = u32::try_from(operations).ok().and_then(|operations| self.work_left.checked_sub(operations));
        // Once it is used up it stays so: no `||` makes a result of what could not be looked at.
        self.work_left = left.unwrap_or_default();
        left.map(drop).ok_or_else(|| format!("it takes more than {CONDITION_WORK_MAX} operations"))
    }

    /// Depth is that of the condition, which is bounded.
    fn value(&mut self, node: &'a Node) -> Result<Data<'a>, String> {
        self.work(1)?;
        match node {
            Node::Literal(value) => Ok(Cow::Borrowed(value)),
            Node::Step(name) => Ok(Cow::Borrowed(self.steps.get(name).unwrap_or(&Json::Null))),
            Node::Item => self.item.map(Cow::Borrowed).ok_or_else(|| "there is no item here".to_owned()),
            Node::Variable(name) => self.variable(name),
            Node::Select { of, field } => {
                let of = self.value(of)?;
                self.part(of, field)
            }
            Node::Has { of, field } => Ok(made(self.value(of)?.get(field).is_some())),
            Node::Unary(operator, operand) => self.unary(*operator, operand),
            Node::Binary(Binary::And, left, right) => self.either(left, right, false),
            Node::Binary(Binary::Or, left, right) => self.either(left, right, true),
            Node::Binary(operator, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.binary(*operator, left, right)
            }
            Node::Choice(parts) => {
                let [condition, one, other] = &**parts;
                if self.truth(condition)? { self.value(one) } else { self.value(other) }
            }
            Node::List(items) => {
                let items = items.iter().map(|item| self.owned(item)).collect::<Result<_, _>>()?;
                Ok(made(Json::Array(items)))
            }
            Node::Map(entries) => self.map(entries),
            Node::Each(each) => self.each(each),
            Node::Call(function, args) => self.call(*function, args),
        }
    }

    fn truth(&mut self, node: &'a Node) -> Result<bool, String> {
        let value = self.value(node)?;
        value.as_bool().ok_or_else(|| format!("{} is neither true nor false", shown(&value)))
    }

    /// As a value of its own, its parts counted.
    fn owned(&mut self, node: &'a Node) -> Result<Json, String> {
        let value = self.value(node)?;
        self.taken(value)
    }

    fn taken(&mut self, value: Data<'a>) -> Result<Json, String> {
        match value {
            Cow::Owned(value) => Ok(value),
            Cow::Borrowed(value) => {
                self.work(size(value))?;
                Ok(value.clone())
            }
        }
    }

    fn variable(&mut self, name: &str) -> Result<Data<'a>, String> {
        let found = self.variables.iter().rev().find(|(variable, _)| *variable == name);
        let (_, value) = found.ok_or_else(|| format!("`{}` is unknown", printable(name)))?;
        if let Cow::Owned(value) = value {
            let operations = size(value);
            let copy = value.clone();
            self.work(operations)?;
            return Ok(made(copy));
        }
        Ok(value.clone())
    }

    fn part(&mut self, of: Data<'a>, field: &str) -> Result<Data<'a>, String> {
        let missing = |of: &Json| match of {
            Json::Object(fields) => {
                let mut known: Vec<_> = fields.keys().take(10).map(String::as_str).collect();
                known.sort_unstable();
                let known = printable(&known.join(", "));
                format!("there is no field `{}`; there are: {known}", printable(field))
            }
            other => format!("there is no field `{}` in {}", printable(field), shown(other)),
        };
        match of {
            Cow::Borrowed(value) => value.get(field).map(Cow::Borrowed).ok_or_else(|| missing(value)),
            Cow::Owned(mut value) => match value.get_mut(field) {
                Some(part) => Ok(made(part.take())),
                None => Err(missing(&value)),
            },
        }
    }

    fn unary(&mut self, operator: Unary, operand: &'a Node) -> Result<Data<'a>, String> {
        match operator {
            Unary::Not => Ok(made(!self.truth(operand)?)),
            Unary::Negate => {
                let value = self.value(operand)?;
                number(&value)?.negated().json().map(Cow::Owned)
            }
        }
    }

    /// `&&` and `||`: one side that decides is enough, whatever is wrong with the other.
    fn either(&mut self, left: &'a Node, right: &'a Node, decides: bool) -> Result<Data<'a>, String> {
        let left = self.truth(left);
        if left == Ok(decides) {
            return Ok(made(decides));
        }
        let right = self.truth(right)?;
        if right == decides {
            return Ok(made(decides));
        }
        left.map(made)
    }

    fn binary(&mut self, operator: Binary, left: Data<'a>, right: Data<'a>) -> Result<Data<'a>, String> {
        match operator {
            Binary::Equal => Ok(made(self.is_equal(&left, &right)?)),
            Binary::NotEqual => Ok(made(!self.is_equal(&left, &right)?)),
            Binary::Less => Ok(made(self.order(&left, &right)?.is_lt())),
            Binary::LessEqual => Ok(made(self.order(&left, &right)?.is_le())),
            Binary::Greater => Ok(made(self.order(&left, &right)?.is_gt())),
            Binary::GreaterEqual => Ok(made(self.order(&left, &right)?.is_ge())),
            Binary::In => Ok(made(self.is_in(&left, &right)?)),
            Binary::Index => self.index(left, &right),
            Binary::Add if left.is_string() || left.is_array() => self.joined(left, right),
            _ => compute(operator, number(&left)?, number(&right)?).map(Cow::Owned),
        }
    }

    fn joined(&mut self, left: Data<'a>, right: Data<'a>) -> Result<Data<'a>, String> {
        self.work(size(&left).saturating_add(size(&right)))?;
        match (left.into_owned(), right.into_owned()) {
            (Json::String(left), Json::String(right)) => Ok(made(left + &right)),
            (Json::Array(mut left), Json::Array(right)) => {
                left.extend(right);
                Ok(made(Json::Array(left)))
            }
            (left, right) => Err(format!("{} and {} cannot be joined", shown(&left), shown(&right))),
        }
    }

    /// Values of different kinds are not equal; numbers are equal where their values are.
    fn is_equal(&mut self, left: &Json, right: &Json) -> Result<bool, String> {
        self.work(1)?;
        match (left, right) {
            (Json::Number(a), Json::Number(b)) => {
                Ok(Value::of(a).zip(Value::of(b)).and_then(|(a, b)| a.compare(b)) == Some(Ordering::Equal))
            }
            (Json::String(a), Json::String(b)) => {
                self.work(a.len().min(b.len()) / TEXT_BYTES)?;
                Ok(a == b)
            }
            (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
                a.iter().zip(b).try_fold(true, |equal, (a, b)| Ok(equal && self.is_equal(a, b)?))
            }
            (Json::Object(a), Json::Object(b)) if a.len() == b.len() => {
                a.iter().try_fold(true, |equal, (key, a)| match b.get(key) {
                    Some(b) if equal => self.is_equal(a, b),
                    _ => Ok(false),
                })
            }
            (Json::Array(_) | Json::Object(_), _) => Ok(false),
            (left, right) => Ok(left == right),
        }
    }

    fn order(&mut self, left: &Json, right: &Json) -> Result<Ordering, String> {
        let order = match (left, right) {
            (Json::Number(a), Json::Number(b)) => Value::of(a).zip(Value::of(b)).and_then(|(a, b)| a.compare(b)),
            (Json::String(a), Json::String(b)) => {
                self.work(a.len().min(b.len()) / TEXT_BYTES)?;
                Some(a.cmp(b))
            }
            (Json::Bool(a), Json::Bool(b)) => Some(a.cmp(b)),
            _ => None,
        };
        order.ok_or_else(|| format!("{} and {} cannot be compared", shown(left), shown(right)))
    }

    fn is_in(&mut self, value: &Json, among: &Json) -> Result<bool, String> {
        match (value, among) {
            (_, Json::Array(items)) => {
                items.iter().try_fold(false, |found, item| Ok(found || self.is_equal(value, item)?))
            }
            (Json::String(key), Json::Object(fields)) => Ok(fields.contains_key(key)),
            (_, Json::Object(_)) => Ok(false),
            (_, other) => Err(format!("nothing can be in {}", shown(other))),
        }
    }

    fn index(&mut self, of: Data<'a>, at: &Json) -> Result<Data<'a>, String> {
        match (&*of, at) {
            (Json::Object(_), Json::String(key)) => self.part(of, key),
            (Json::Array(items), Json::Number(n)) => {
                let count = items.len();
                let missing = || format!("there is no item {n} in a list of {count}");
                let n = n.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n < count).ok_or_else(missing)?;
                match of {
                    Cow::Borrowed(list) => list.get(n).map(Cow::Borrowed).ok_or_else(missing),
                    Cow::Owned(mut list) => list.get_mut(n).map(|item| made(item.take())).ok_or_else(missing),
                }
            }
            (of, at) => Err(format!("{} has no item {}", shown(of), shown(at))),
        }
    }

    fn map(&mut self, entries: &'a [(Node, Node)]) -> Result<Data<'a>, String> {
        let mut map = serde_json::Map::new();
        for (key, value) in entries {
            let Json::String(key) = self.owned(key)? else { return Err("a key of a map is text".to_owned()) };
            let value = self.owned(value)?;
            if map.insert(key, value).is_some() {
                return Err("a key stands in a map twice".to_owned());
            }
        }
        Ok(made(Json::Object(map)))
    }

    fn each(&mut self, each: &'a Each) -> Result<Data<'a>, String> {
        let list = self.value(&each.list)?;
        let elements: Vec<Data<'a>> = match list {
            Cow::Borrowed(Json::Array(items)) => items.iter().map(Cow::Borrowed).collect(),
            Cow::Owned(Json::Array(items)) => items.into_iter().map(Cow::Owned).collect(),
            Cow::Borrowed(Json::Object(fields)) => fields.keys().map(|key| made(key.as_str())).collect(),
            Cow::Owned(Json::Object(fields)) => fields.keys().map(|key| made(key.as_str())).collect(),
            other => return Err(format!("`{}` is for lists and maps, not for {}", each.kind.name(), shown(&other))),
        };
        self.work(elements.len())?;
        match each.kind {
            EachKind::All => self.quantified(each, elements, false),
            EachKind::Exists => self.quantified(each, elements, true),
            EachKind::ExistsOne => self.exists_one(each, elements),
            EachKind::Filter => self.filter(each, elements),
            EachKind::Map => self.mapped(each, elements),
        }
    }

    fn with<T>(
        &mut self,
        variable: &'a str,
        value: Data<'a>,
        look: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        self.variables.push((variable, value));
        let result = look(self);
        self.variables.pop();
        result
    }

    /// `all` and `exists`: as `&&` and `||` over the elements.
    fn quantified(&mut self, each: &'a Each, elements: Vec<Data<'a>>, decides: bool) -> Result<Data<'a>, String> {
        let mut wrong = None;
        for element in elements {
            match self.with(&each.variable, element, |this| this.truth(&each.body)) {
                Ok(truth) if truth == decides => return Ok(made(decides)),
                Ok(_) => {}
                Err(what) if self.work_left == 0 => return Err(what),
                Err(what) => wrong = wrong.or(Some(what)),
            }
            self.work(1)?;
        }
        wrong.map_or(Ok(made(!decides)), Err)
    }

    fn exists_one(&mut self, each: &'a Each, elements: Vec<Data<'a>>) -> Result<Data<'a>, String> {
        let mut found = 0_usize;
        for element in elements {
            found += usize::from(self.with(&each.variable, element, |this| this.truth(&each.body))?);
        }
        Ok(made(found == 1))
    }

    fn filter(&mut self, each: &'a Each, elements: Vec<Data<'a>>) -> Result<Data<'a>, String> {
        let mut kept = Vec::new();
        for element in elements {
            let element = self.taken(element)?;
            self.work(size(&element))?;
            if self.with(&each.variable, made(element.clone()), |this| this.truth(&each.body))? {
                kept.push(element);
            }
        }
        Ok(made(Json::Array(kept)))
    }

    fn mapped(&mut self, each: &'a Each, elements: Vec<Data<'a>>) -> Result<Data<'a>, String> {
        let mut brought = Vec::new();
        for element in elements {
            let value = self.with(&each.variable, element, |this| match &each.only {
                Some(only) if !this.truth(only)? => Ok(None),
                _ => this.owned(&each.body).map(Some),
            })?;
            brought.extend(value);
        }
        Ok(made(Json::Array(brought)))
    }

    fn call(&mut self, function: Function, args: &'a [Node]) -> Result<Data<'a>, String> {
        match (function, args) {
            (Function::Size, [of]) => {
                let of = self.value(of)?;
                self.work(size_of_text(&of))?;
                length(&of).map(made)
            }
            (Function::Int, [of]) => to_whole(&*self.value(of)?).map(Cow::Owned),
            (Function::Double, [of]) => to_fraction(&*self.value(of)?).map(Cow::Owned),
            (Function::String, [of]) => self.text(of),
            (function, [text, part]) => {
                let (text, part) = (self.value(text)?, self.value(part)?);
                let (Json::String(text), Json::String(part)) = (&*text, &*part) else {
                    return Err(format!("`{}` is for text, not for {}", function.name(), shown(&text)));
                };
                self.work((text.len() + part.len()) / TEXT_BYTES)?;
                Ok(made(match function {
                    Function::StartsWith => text.starts_with(part.as_str()),
                    Function::EndsWith => text.ends_with(part.as_str()),
                    _ => text.contains(part.as_str()),
                }))
            }
            (function, _) => Err(format!("`{}` takes {} values", function.name(), function.arguments())),
        }
    }

    fn text(&mut self, of: &'a Node) -> Result<Data<'a>, String> {
        let value = self.value(of)?;
        match &*value {
            Json::String(_) => Ok(value),
            Json::Number(_) | Json::Bool(_) => Ok(made(value.to_string())),
            other => Err(format!("`string` is for text, numbers and truth, not for {}", shown(other))),
        }
    }
}

fn made<'a>(value: impl Into<Json>) -> Data<'a> {
    Cow::Owned(value.into())
}

fn number(value: &Json) -> Result<Value, String> {
    let value = match value {
        Json::Number(number) => Value::of(number),
        _ => None,
    }
    .ok_or_else(|| format!("{} is not a number", shown(value)))?;
    Ok(value)
}

/// Elements, keys or characters.
fn length(of: &Json) -> Result<u64, String> {
    let length = match of {
        Json::Array(items) => items.len(),
        Json::Object(fields) => fields.len(),
        Json::String(text) => text.chars().count(),
        other => return Err(format!("`size` is for text, lists and maps, not for {}", shown(other))),
    };
    Ok(u64::try_from(length).unwrap_or(u64::MAX))
}

fn to_whole(of: &Json) -> Result<Json, String> {
    match of {
        Json::String(text) => match text.parse::<i128>() {
            Ok(whole) => Value::Whole(whole).json(),
            Err(_) => Err(format!("{} is not a whole number", shown(of))),
        },
        other => number(other)?.whole()?.json(),
    }
}

fn to_fraction(of: &Json) -> Result<Json, String> {
    match of {
        Json::String(text) => match text.parse::<f64>() {
            Ok(fraction) => Value::Fraction(fraction).json(),
            Err(_) => Err(format!("{} is not a number", shown(of))),
        },
        other => number(other)?.as_fraction().json(),
    }
}

/// How many values there are in it, and how much text. JSON's levels are bounded by the parser that made it.
fn size(value: &Json) -> usize {
    match value {
        Json::Array(items) => items.iter().fold(1, |sum, item| sum + size(item)),
        Json::Object(fields) => {
            fields.iter().fold(1, |sum, (key, field)| sum + 1 + key.len() / TEXT_BYTES + size(field))
        }
        other => 1 + size_of_text(other),
    }
}

fn size_of_text(value: &Json) -> usize {
    value.as_str().map_or(0, |text| text.len() / TEXT_BYTES)
}

fn shown(value: &Json) -> String {
    match value {
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "a map".to_owned(),
        Json::Null => "nothing (null)".to_owned(),
        scalar => format!("`{}`", printable(&excerpt(scalar, SHOWN_CHARS_MAX))),
    }
}
