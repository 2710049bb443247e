//! From text to parts: the crate's parser, without its macros, and then only what has a meaning here.

use std::panic::catch_unwind;

use cel::Env;
use cel::IdedExpr;
use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators};

use crate::domain::{Json, printable};
use crate::orchestrator::condition::node::{Binary, Each, EachKind, Function, Node, Unary};
use crate::orchestrator::condition::{ANSWER, CONDITION_BYTES_MAX, CONDITION_DEPTH_MAX};

/// Reads a condition.
///
/// # Errors
/// The first thing that is wrong, as a fragment.
pub(super) fn read(text: &str) -> Result<Node, String> {
    if text.len() > CONDITION_BYTES_MAX {
        return Err(format!("a condition of {} bytes: at most {CONDITION_BYTES_MAX}", text.len()));
    }
    node(&parsed(text)?, &mut Scope { variables: Vec::new(), depth_left: CONDITION_DEPTH_MAX })
}

/// Where in a condition a part stands.
struct Scope {
    /// What macros around it name.
    variables: Vec<String>,
    /// Levels that there may still be below.
    depth_left: usize,
}

/// The parser is generated code over a library of its own: should it panic, that is a flaw of this one text.
fn parsed(text: &str) -> Result<IdedExpr, String> {
    let parse = || Env::default().with_optional_support(false).parser().max_recursion_depth(90).parse(text);
    match catch_unwind(parse) {
        Ok(Ok(expr)) => Ok(expr),
        Ok(Err(errors)) => Err(errors.errors.first().map_or_else(
            || "it cannot be read as CEL".to_owned(),
            |error| format!("column {}: {}", error.pos.1.max(1), shortened(&error.msg)),
        )),
        Err(_) => Err("it cannot be read as CEL".to_owned()),
    }
}

/// The parser repeats what it was given, and lists every token that it would have taken.
fn shortened(message: &str) -> String {
    let message = message.trim_start_matches("Syntax error: ");
    let message = if message.contains("Recursion limit") { "it is nested too deeply" } else { message };
    let message = message.split(" expecting {").next().unwrap_or(message);
    printable(&message.chars().take(200).collect::<String>())
}

/// Its own recursion is bounded here: a sum of many terms is as deep as it is long.
fn node(expr: &IdedExpr, scope: &mut Scope) -> Result<Node, String> {
    let too_deep = || format!("a condition is nested {CONDITION_DEPTH_MAX} levels deep at most");
    scope.depth_left = scope.depth_left.checked_sub(1).ok_or_else(too_deep)?;
    let node = part(expr, scope);
    scope.depth_left += 1;
    node
}

fn part(expr: &IdedExpr, scope: &mut Scope) -> Result<Node, String> {
    Ok(match &expr.expr {
        Expr::Literal(literal) => Node::Literal(value(literal)?),
        Expr::Ident(name) => ident(name, &scope.variables)?,
        Expr::Select(select) => selected(select, scope)?,
        Expr::Call(call) => called(call, scope)?,
        Expr::List(list) => {
            Node::List(list.elements.iter().map(|element| node(element, scope)).collect::<Result<_, _>>()?)
        }
        Expr::Map(map) => {
            let entries = map.entries.iter().map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => Ok((node(&entry.key, scope)?, node(&entry.value, scope)?)),
                EntryExpr::StructField(_) => Err("messages have no meaning here".to_owned()),
            });
            Node::Map(entries.collect::<Result<_, _>>()?)
        }
        Expr::Struct(_) => return Err("messages have no meaning here".to_owned()),
        Expr::Comprehension(_) | Expr::Unspecified => return Err("it cannot be read as CEL".to_owned()),
    })
}

fn value(literal: &LiteralValue) -> Result<Json, String> {
    Ok(match literal {
        LiteralValue::Boolean(value) => (*value.inner()).into(),
        LiteralValue::Int(value) => (*value.inner()).into(),
        LiteralValue::UInt(value) => (*value.inner()).into(),
        LiteralValue::Double(value) => (*value.inner()).into(),
        LiteralValue::String(text) => text.inner().into(),
        LiteralValue::Null => Json::Null,
        LiteralValue::Bytes(_) => return Err("bytes have no meaning here".to_owned()),
    })
}

fn ident(name: &str, variables: &[String]) -> Result<Node, String> {
    match name {
        _ if variables.iter().any(|variable| variable == name) => Ok(Node::Variable(name.to_owned())),
        "item" => Ok(Node::Item),
        "answer" => Ok(Node::Step(ANSWER.to_owned())),
        "steps" => Err("`steps` alone is nothing: name a step, as in `steps.name`".to_owned()),
        other => {
            Err(format!("`{}` is unknown: a condition sees `steps`, `item` and, in the end, `answer`", shown(other)))
        }
    }
}

/// The name of the step that `steps.name` means.
fn is_steps(expr: &IdedExpr) -> bool {
    matches!(&expr.expr, Expr::Ident(name) if name == "steps")
}

fn selected(select: &SelectExpr, scope: &mut Scope) -> Result<Node, String> {
    if is_steps(&select.operand) {
        return Ok(Node::Step(select.field.clone()));
    }
    Ok(Node::Select { of: Box::new(node(&select.operand, scope)?), field: select.field.clone() })
}

fn called(call: &CallExpr, scope: &mut Scope) -> Result<Node, String> {
    let name = call.func_name.as_str();
    match (&call.target, call.args.as_slice()) {
        (None, [index_of, at]) if name == operators::INDEX && is_steps(index_of) => match &at.expr {
            Expr::Literal(LiteralValue::String(step)) => Ok(Node::Step(step.inner().to_owned())),
            _ => Err("a step is named by text, as in `steps[\"name\"]`".to_owned()),
        },
        (None, [condition, one, other]) if name == operators::CONDITIONAL => {
            let parts = [node(condition, scope)?, node(one, scope)?, node(other, scope)?];
            Ok(Node::Choice(Box::new(parts)))
        }
        (None, [left, right]) if binary(name).is_some() => {
            let (left, right) = (Box::new(node(left, scope)?), Box::new(node(right, scope)?));
            binary(name).map(|operator| Node::Binary(operator, left, right)).ok_or_else(|| unknown(name))
        }
        (None, [operand]) if name == operators::LOGICAL_NOT => {
            Ok(Node::Unary(Unary::Not, Box::new(node(operand, scope)?)))
        }
        (None, [operand]) if name == operators::NEGATE => {
            Ok(Node::Unary(Unary::Negate, Box::new(node(operand, scope)?)))
        }
        (None, [field]) if name == operators::HAS => has(field, scope),
        (Some(list), args) if EachKind::of(name).is_some() => each(name, list, args, scope),
        (target, args) => function(name, target.as_deref(), args, scope),
    }
}

fn binary(name: &str) -> Option<Binary> {
    Some(match name {
        operators::LOGICAL_OR => Binary::Or,
        operators::LOGICAL_AND => Binary::And,
        operators::EQUALS => Binary::Equal,
        operators::NOT_EQUALS => Binary::NotEqual,
        operators::LESS => Binary::Less,
        operators::LESS_EQUALS => Binary::LessEqual,
        operators::GREATER => Binary::Greater,
        operators::GREATER_EQUALS => Binary::GreaterEqual,
        operators::IN => Binary::In,
        operators::ADD => Binary::Add,
        operators::SUBSTRACT => Binary::Subtract,
        operators::MULTIPLY => Binary::Multiply,
        operators::DIVIDE => Binary::Divide,
        operators::MODULO => Binary::Remainder,
        operators::INDEX => Binary::Index,
        _ => return None,
    })
}

fn has(field: &IdedExpr, scope: &mut Scope) -> Result<Node, String> {
    let Expr::Select(select) = &field.expr else {
        return Err("`has` asks for a field, as in `has(steps.name.field)`".to_owned());
    };
    if is_steps(&select.operand) {
        return Err("`has` asks for a field of a step; whether a step brought something is `steps.name != null`".into());
    }
    Ok(Node::Has { of: Box::new(node(&select.operand, scope)?), field: select.field.clone() })
}

fn each(name: &str, list: &IdedExpr, args: &[IdedExpr], scope: &mut Scope) -> Result<Node, String> {
    let kind = EachKind::of(name).ok_or_else(|| unknown(name))?;
    let (variable, only, body) = match args {
        [variable, body] => (variable, None, body),
        [variable, only, body] if kind == EachKind::Map => (variable, Some(only), body),
        _ => return Err(format!("`{name}` takes a name and a condition, as in `list.{name}(x, x > 1)`")),
    };
    let Expr::Ident(variable) = &variable.expr else {
        return Err(format!("the first argument of `{name}` is a name"));
    };
    if matches!(variable.as_str(), "steps" | "item" | "answer") || variable.starts_with('.') {
        return Err(format!("`{}` cannot be a name in `{name}`", shown(variable)));
    }
    let list = node(list, scope)?;
    scope.variables.push(variable.clone());
    let only = only.map(|only| node(only, scope)).transpose();
    let body = node(body, scope);
    scope.variables.pop();
    Ok(Node::Each(Box::new(Each { kind, list, variable: variable.clone(), only: only?, body: body? })))
}

fn function(name: &str, target: Option<&IdedExpr>, args: &[IdedExpr], scope: &mut Scope) -> Result<Node, String> {
    let function = Function::ALL.into_iter().find(|function| function.name() == name).ok_or_else(|| unknown(name))?;
    let (behind_dot, alone) = function.forms();
    let args: Vec<&IdedExpr> = target.into_iter().chain(args).collect();
    if args.len() != function.arguments() || !(if target.is_some() { behind_dot } else { alone }) {
        let form = if behind_dot { "x.f(…)" } else { "f(x)" };
        let form = form.replace('f', name);
        return Err(format!("`{name}` is written `{form}` and takes {} values in all", function.arguments()));
    }
    let args = args.into_iter().map(|arg| node(arg, scope)).collect::<Result<_, _>>()?;
    Ok(Node::Call(function, args))
}

fn unknown(name: &str) -> String {
    let known: Vec<_> = Function::ALL.into_iter().map(Function::name).collect();
    let name = shown(name);
    format!("there is no function `{name}`; there are has, all, exists, exists_one, filter, map, {}", known.join(", "))
}

fn shown(name: &str) -> String {
    printable(&name.chars().take(40).collect::<String>())
}
