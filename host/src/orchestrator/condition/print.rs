//! Writes a condition down again, with its steps under other names.

use crate::domain::Json;
use crate::orchestrator::condition::node::{Binary, Each, Node, Unary};

/// How tightly a part holds together: what is looser stands in parentheses.
const CHOICE: u8 = 0;
const UNARY: u8 = 7;
const MEMBER: u8 = 8;

/// Returns the text of a condition, which reads back as the same parts.
pub(super) fn print(root: &Node, rename: &dyn Fn(&str) -> String) -> String {
    let mut printer = Printer { text: String::new(), rename };
    printer.node(root, CHOICE);
    printer.text
}

struct Printer<'a> {
    text: String,
    rename: &'a dyn Fn(&str) -> String,
}

impl Printer<'_> {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Writes a part where something of at least this tightness is expected.
    fn node(&mut self, node: &Node, tightness: u8) {
        let is_loose = tightness_of(node) < tightness;
        if is_loose {
            self.put("(");
        }
        self.bare(node);
        if is_loose {
            self.put(")");
        }
    }

    fn bare(&mut self, node: &Node) {
        match node {
            Node::Literal(value) => self.put(&literal(value)),
            Node::Step(name) => {
                let name = (self.rename)(name);
                self.put(&format!("steps[{}]", quoted(&name)));
            }
            Node::Item => self.put("item"),
            Node::Variable(name) => self.put(name),
            Node::Select { of, field } => self.select(of, field),
            Node::Has { of, field } => {
                self.put("has(");
                self.select(of, field);
                self.put(")");
            }
            Node::Unary(operator, operand) => {
                self.put(if *operator == Unary::Not { "!" } else { "-" });
                self.node(operand, MEMBER);
            }
            Node::Binary(Binary::Index, of, at) => {
                self.node(of, MEMBER);
                self.put("[");
                self.node(at, CHOICE);
                self.put("]");
            }
            Node::Binary(operator, left, right) => self.binary(*operator, left, right),
            Node::Choice(parts) => {
                let [condition, one, other] = &**parts;
                self.node(condition, CHOICE + 1);
                self.put(" ? ");
                self.node(one, CHOICE + 1);
                self.put(" : ");
                self.node(other, CHOICE);
            }
            Node::List(items) => {
                self.put("[");
                self.list(items);
                self.put("]");
            }
            Node::Map(entries) => self.map(entries),
            Node::Each(each) => self.each(each),
            Node::Call(function, args) => match (function.forms(), args.split_first()) {
                ((true, _), Some((of, rest))) => {
                    self.node(of, MEMBER);
                    self.put(&format!(".{}(", function.name()));
                    self.list(rest);
                    self.put(")");
                }
                _ => {
                    self.put(&format!("{}(", function.name()));
                    self.list(args);
                    self.put(")");
                }
            },
        }
    }

    fn select(&mut self, of: &Node, field: &str) {
        self.node(of, MEMBER);
        self.put(".");
        self.put(field);
    }

    fn binary(&mut self, operator: Binary, left: &Node, right: &Node) {
        let (sign, tightness) = sign(operator);
        self.node(left, tightness);
        self.put(&format!(" {sign} "));
        self.node(right, tightness + 1);
    }

    fn list(&mut self, items: &[Node]) {
        for (n, item) in items.iter().enumerate() {
            if n > 0 {
                self.put(", ");
            }
            self.node(item, CHOICE);
        }
    }

    fn map(&mut self, entries: &[(Node, Node)]) {
        self.put("{");
        for (n, (key, value)) in entries.iter().enumerate() {
            if n > 0 {
                self.put(", ");
            }
            self.node(key, CHOICE);
            self.put(": ");
            self.node(value, CHOICE);
        }
        self.put("}");
    }

    fn each(&mut self, each: &Each) {
        self.node(&each.list, MEMBER);
        self.put(&format!(".{}({}, ", each.kind.name(), each.variable));
        if let Some(only) = &each.only {
            self.node(only, CHOICE);
            self.put(", ");
        }
        self.node(&each.body, CHOICE);
        self.put(")");
    }
}

fn tightness_of(node: &Node) -> u8 {
    match node {
        Node::Choice(_) => CHOICE,
        Node::Binary(Binary::Index, ..) => MEMBER,
        Node::Binary(operator, ..) => sign(*operator).1,
        Node::Unary(..) => UNARY,
        // A sign before a number binds as an operator does.
        Node::Literal(Json::Number(number)) if number.to_string().starts_with('-') => UNARY,
        _ => MEMBER,
    }
}

fn sign(operator: Binary) -> (&'static str, u8) {
    match operator {
        Binary::Or => ("||", 1),
        Binary::And => ("&&", 2),
        Binary::Equal => ("==", 3),
        Binary::NotEqual => ("!=", 3),
        Binary::Less => ("<", 3),
        Binary::LessEqual => ("<=", 3),
        Binary::Greater => (">", 3),
        Binary::GreaterEqual => (">=", 3),
        Binary::In => ("in", 3),
        Binary::Add => ("+", 4),
        Binary::Subtract => ("-", 4),
        Binary::Multiply => ("*", 5),
        Binary::Divide => ("/", 5),
        Binary::Remainder => ("%", 5),
        Binary::Index => ("[]", MEMBER),
    }
}

fn literal(value: &Json) -> String {
    match value {
        Json::String(text) => quoted(text),
        // Past 2^63 a whole number is written as one without a sign.
        Json::Number(number) if number.is_u64() && !number.is_i64() => format!("{number}u"),
        other => other.to_string(),
    }
}

/// The escapes of JSON are those of CEL too.
fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}
