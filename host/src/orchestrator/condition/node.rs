//! What a condition is made of, once it is read: only what has a meaning here.

use std::collections::BTreeSet;

use crate::domain::Json;
use crate::orchestrator::condition::Place;

/// A part of a condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Literal(Json),
    /// What a step brought.
    Step(String),
    /// The item of a `for_each`.
    Item,
    /// What a macro names: `r` in `rows.all(r, r.done)`.
    Variable(String),
    Select {
        of: Box<Node>,
        field: String,
    },
    /// Whether there is such a field.
    Has {
        of: Box<Node>,
        field: String,
    },
    Unary(Unary, Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    /// `condition ? one : other`.
    Choice(Box<[Node; 3]>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Each(Box<Each>),
    Call(Function, Vec<Node>),
}

/// An operator with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    Not,
    Negate,
}

/// An operator with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Index,
}

/// A look at each element of a list, or each key of a map.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Each {
    pub kind: EachKind,
    pub list: Node,
    pub variable: String,
    /// `filter` before `map`, where there is one.
    pub only: Option<Node>,
    pub body: Node,
}

/// What comes of looking at each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EachKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

/// A function. The first argument is what stands before the dot, where one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Int,
    Double,
    String,
}

impl EachKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Exists => "exists",
            Self::ExistsOne => "exists_one",
            Self::Filter => "filter",
            Self::Map => "map",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        [Self::All, Self::Exists, Self::ExistsOne, Self::Filter, Self::Map].into_iter().find(|kind| kind.name() == name)
    }
}

impl Function {
    pub(super) const ALL: [Self; 7] =
        [Self::Size, Self::Contains, Self::StartsWith, Self::EndsWith, Self::Int, Self::Double, Self::String];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Contains => "contains",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Int => "int",
            Self::Double => "double",
            Self::String => "string",
        }
    }

    /// Returns how many arguments it takes, what stands before the dot included.
    pub(super) fn arguments(self) -> usize {
        match self {
            Self::Contains | Self::StartsWith | Self::EndsWith => 2,
            _ => 1,
        }
    }

    /// Answers whether it may stand behind a dot, and whether it may stand alone.
    pub(super) fn forms(self) -> (bool, bool) {
        match self {
            Self::Size => (true, true),
            Self::Contains | Self::StartsWith | Self::EndsWith => (true, false),
            Self::Int | Self::Double | Self::String => (false, true),
        }
    }
}

impl Node {
    /// Adds every place that this part looks at.
    pub(super) fn places(&self, found: &mut BTreeSet<Place>) {
        match self.place() {
            Some(place) => {
                found.insert(place);
            }
            None => self.children().into_iter().for_each(|child| child.places(found)),
        }
    }

    /// The place that this part is, where it is one.
    fn place(&self) -> Option<Place> {
        let further = |of: &Self, part: String| {
            let mut place = of.place()?;
            place.path.push(part);
            Some(place)
        };
        match self {
            Self::Step(name) => Some(Place { step: Some(name.clone()), path: Vec::new() }),
            Self::Item => Some(Place { step: None, path: Vec::new() }),
            Self::Select { of, field } | Self::Has { of, field } => further(of, field.clone()),
            Self::Binary(Binary::Index, of, at) => match &**at {
                Self::Literal(Json::String(key)) => further(of, key.clone()),
                Self::Literal(Json::Number(n)) if n.is_u64() => further(of, n.to_string()),
                _ => None,
            },
            _ => None,
        }
    }

    fn children(&self) -> Vec<&Self> {
        match self {
            Self::Literal(_) | Self::Step(_) | Self::Item | Self::Variable(_) => Vec::new(),
            Self::Select { of, .. } | Self::Has { of, .. } | Self::Unary(_, of) => vec![of],
            Self::Binary(_, left, right) => vec![left, right],
            Self::Choice(parts) => parts.iter().collect(),
            Self::List(items) | Self::Call(_, items) => items.iter().collect(),
            Self::Map(entries) => entries.iter().flat_map(|(key, value)| [key, value]).collect(),
            Self::Each(each) => [&each.list, &each.body].into_iter().chain(&each.only).collect(),
        }
    }
}
