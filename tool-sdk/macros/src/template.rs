//! The calls that a tool names beside itself: `undo = cancel(id = out.id)`, `reconcile = find(key = key)`.
//!
//! A part is `input` or `out` with fields behind it, `key`, or a constant. Names and types are checked here, at the author's
//! line; what a host makes of the template is for the host to say.

use syn::spanned::Spanned;
use syn::{Error, Expr, ExprCall, ExprField, Ident, Lit, Member as FieldName, Result, UnOp};

use crate::model::{Component, Shape, Tool};
use crate::names;
use crate::types::Type;

/// The cases of what a tool that reconciles returns: with the output of the tool in question, or nothing.
const CASES: [(&str, bool); 3] = [("done", true), ("not-done", false), ("unknown", false)];

/// A call that is made of another one.
pub struct Template {
    pub tool: Ident,
    /// Parameter and what it is given.
    pub args: Vec<(Ident, Part)>,
}

/// What a parameter of the other call is given.
pub enum Part {
    /// Part of the call's arguments, by Rust names: `input.path`.
    In(Vec<Ident>),
    /// Part of the call's output: `out.id`.
    Out(Vec<Ident>),
    /// The call's idempotency key.
    Key,
    /// A value, as JSON.
    Constant(String),
}

impl Template {
    /// Reads `cancel(id = out.id)`.
    ///
    /// # Errors
    /// At the span of what is no template.
    pub fn read(value: &Expr) -> Result<Self> {
        let Expr::Call(ExprCall { func, args, .. }) = value else {
            return Err(Error::new(value.span(), "expected a call of another tool here: `cancel(id = out.id)`"));
        };
        let tool = ident(func).ok_or_else(|| Error::new(func.span(), "expected the name of a tool of this module"))?;
        let args = args.iter().map(argument).collect::<Result<_>>()?;
        Ok(Self { tool, args })
    }

    /// Returns the template as JSON, with the names that callers see.
    pub fn json(&self, component: &Component, string: fn(&str) -> String) -> String {
        let tool = component.tools.iter().find(|tool| tool.ident == self.tool);
        let name = tool.map_or_else(|| self.tool.to_string(), |tool| tool.name.clone());
        let args: Vec<String> = self
            .args
            .iter()
            .map(|(name, part)| format!("{}:{}", string(&json_name(name)), part.json(string)))
            .collect();
        format!("{{\"tool\":{},\"args\":{{{}}}}}", string(&name), args.join(","))
    }
}

impl Part {
    fn json(&self, string: fn(&str) -> String) -> String {
        let pointer =
            |fields: &[Ident]| fields.iter().map(|field| format!("/{}", json_name(field))).collect::<String>();
        match self {
            Self::In(fields) => format!("{{\"$in\":{}}}", string(&pointer(fields))),
            Self::Out(fields) => format!("{{\"$out\":{}}}", string(&pointer(fields))),
            Self::Key => "{\"$key\":\"\"}".to_owned(),
            Self::Constant(json) => json.clone(),
        }
    }
}

/// The name that callers see: that of WIT with `_` for `-`.
fn json_name(ident: &Ident) -> String {
    names::kebab(ident).map_or_else(|_| ident.to_string(), |name| name.replace('-', "_"))
}

fn argument(argument: &Expr) -> Result<(Ident, Part)> {
    let Expr::Assign(assign) = argument else {
        return Err(Error::new(argument.span(), "arguments have names here: `id = out.id`"));
    };
    let name = ident(&assign.left).ok_or_else(|| Error::new(assign.left.span(), "expected a parameter's name"))?;
    Ok((name, part(&assign.right)?))
}

fn part(value: &Expr) -> Result<Part> {
    let unknown = || Error::new(value.span(), "expected `input.name`, `out.name`, `key` or a constant");
    match value {
        Expr::Lit(literal) => constant(&literal.lit, false).ok_or_else(unknown),
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => match &*unary.expr {
            Expr::Lit(literal) => constant(&literal.lit, true).ok_or_else(unknown),
            _ => Err(unknown()),
        },
        _ => {
            let mut fields = path(value).ok_or_else(unknown)?;
            let root = fields.remove(0);
            match root.to_string().as_str() {
                "input" => Ok(Part::In(fields)),
                "out" => Ok(Part::Out(fields)),
                "key" if fields.is_empty() => Ok(Part::Key),
                _ => Err(unknown()),
            }
        }
    }
}

/// Returns `a.b.c` as its names.
fn path(value: &Expr) -> Option<Vec<Ident>> {
    match value {
        Expr::Field(ExprField { base, member: FieldName::Named(field), .. }) => {
            let mut fields = path(base)?;
            fields.push(field.clone());
            Some(fields)
        }
        _ => Some(vec![ident(value)?]),
    }
}

fn ident(value: &Expr) -> Option<Ident> {
    match value {
        Expr::Path(path) => path.path.get_ident().cloned(),
        _ => None,
    }
}

fn constant(literal: &Lit, is_negative: bool) -> Option<Part> {
    let json = match literal {
        Lit::Str(text) if !is_negative => crate::manifest::string(&text.value()),
        Lit::Bool(truth) if !is_negative => truth.value.to_string(),
        Lit::Int(number) => format!("{}{}", if is_negative { "-" } else { "" }, number.base10_digits()),
        _ => return None,
    };
    Some(Part::Constant(json))
}

/// Checks the templates of all tools against the tools that they name.
///
/// # Errors
/// The first that does not fit, at its span.
pub fn check(component: &Component) -> Result<()> {
    for tool in &component.tools {
        if let Some(undo) = &tool.undo {
            fits(component, tool, undo, true)?;
        }
        if let Some(reconcile) = &tool.reconcile {
            let other = fits(component, tool, reconcile, false)?;
            if !tells(component, other, tool) {
                let message = "it must return an enum with the cases `Done` (with what this tool returns), `NotDone` and `Unknown`";
                return Err(Error::new(reconcile.tool.span(), message));
            }
        }
    }
    Ok(())
}

fn fits<'a>(component: &'a Component, tool: &Tool, template: &Template, has_output: bool) -> Result<&'a Tool> {
    let named = component.tools.iter().find(|other| other.ident == template.tool);
    let other = named.ok_or_else(|| Error::new(template.tool.span(), "there is no tool of this name in the module"))?;
    for (name, part) in &template.args {
        let Some(param) = other.params.iter().find(|param| param.ident == *name) else {
            return Err(Error::new(name.span(), format!("`{}` has no parameter `{name}`", other.ident)));
        };
        let Some(ty) = part_type(component, tool, part, has_output).map_err(|what| Error::new(name.span(), what))?
        else {
            continue;
        };
        if ty != param.ty && Type::Option(Box::new(ty)) != param.ty {
            return Err(Error::new(name.span(), format!("`{name}` is given a value of another type")));
        }
    }
    let is_missing = |ident: &Ident| template.args.iter().all(|(name, _)| name != ident);
    match other.params.iter().find(|param| !matches!(param.ty, Type::Option(_)) && is_missing(&param.ident)) {
        Some(param) => Err(Error::new(template.tool.span(), format!("`{}` is not given", param.ident))),
        None => Ok(other),
    }
}

/// The type of a part; `None` for a constant, whose type the host sees.
fn part_type(
    component: &Component,
    tool: &Tool,
    part: &Part,
    has_output: bool,
) -> std::result::Result<Option<Type>, String> {
    match part {
        Part::Constant(_) => Ok(None),
        Part::Key => Ok(Some(Type::Scalar("string"))),
        Part::In(fields) => {
            let [first, rest @ ..] = &fields[..] else { return Err("name a parameter: `input.name`".into()) };
            let param = tool.params.iter().find(|param| param.ident == *first);
            let param = param.ok_or_else(|| format!("this tool has no parameter `{first}`"))?;
            field(component, &param.ty, rest).map(Some)
        }
        Part::Out(_) if !has_output => Err("`out` is not there where nobody saw the call end".into()),
        Part::Out(fields) => {
            let ty = tool.output.ty.as_ref().ok_or("this tool returns nothing")?;
            field(component, ty, fields).map(Some)
        }
    }
}

fn field(component: &Component, ty: &Type, fields: &[Ident]) -> std::result::Result<Type, String> {
    let [first, rest @ ..] = fields else { return Ok(ty.clone()) };
    let Type::Named(ident) = ty else { return Err(format!("there is no field `{first}`")) };
    let members = match component.declared(ident).map(|declared| &declared.shape) {
        Some(Shape::Record(members)) => &members[..],
        _ => &[],
    };
    let member = members.iter().find(|member| member.ident == *first);
    field(component, &member.ok_or_else(|| format!("`{ident}` has no field `{first}`"))?.ty, rest)
}

/// Whether what `other` returns tells what became of a call of `tool`.
fn tells(component: &Component, other: &Tool, tool: &Tool) -> bool {
    let Some(Type::Named(ident)) = &other.output.ty else { return false };
    let Some(Shape::Cases(cases)) = component.declared(ident).map(|declared| &declared.shape) else { return false };
    cases.len() == CASES.len()
        && CASES.iter().all(|(name, has_output)| {
            let payload = if *has_output { tool.output.ty.as_ref() } else { None };
            cases.iter().any(|case| case.name == *name && case.payload.as_ref() == payload)
        })
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;
    use crate::manifest;

    fn component(marks: &proc_macro2::TokenStream) -> Result<Component> {
        Component::read(&parse_quote! {
            mod trips {
                #[tool(#marks)]
                pub fn book(what: String, days: u32) -> Result<Booking, ToolError> { unreachable!("only the signature is read") }
                #[tool(internal)]
                pub fn cancel(booking_id: String, why: Option<String>) {}
                #[tool]
                pub fn find(key: String) -> Found { unreachable!("only the signature is read") }
                #[tool]
                pub fn look(key: String) -> Booking { unreachable!("only the signature is read") }
                #[derive(ToolType)]
                pub struct Booking { pub id: String, pub made_by: Person }
                #[derive(ToolType)]
                pub struct Person { pub full_name: String }
                #[derive(ToolType)]
                pub enum Found { Done(Booking), NotDone, Unknown }
            }
        })
    }

    #[track_caller]
    fn check(marks: proc_macro2::TokenStream, expected: &str) {
        let json = manifest::json(&component(&marks).expect("it is in order"));
        assert!(json.contains(expected), "{json}");
    }

    #[track_caller]
    fn refused(marks: proc_macro2::TokenStream, expected: &str) {
        let told = component(&marks).err().expect("a mistake").to_string();
        assert!(told.contains(expected), "{told}");
    }

    #[test]
    fn a_template_is_written_with_the_names_that_callers_see() {
        let undo = quote::quote!(undo = cancel(booking_id = out.made_by.full_name, why = "undone"), effect = "once");
        check(undo, r#""undo":{"tool":"cancel","args":{"booking_id":{"$out":"/made_by/full_name"},"why":"undone"}}"#);
        check(quote::quote!(undo = cancel(booking_id = input.what)), r#"{"booking_id":{"$in":"/what"}}"#);
        check(quote::quote!(reconcile = find(key = key)), r#""reconcile":{"tool":"find","args":{"key":{"$key":""}}}"#);
        check(quote::quote!(), r#""cancel":{"summary":"","params":{},"asks":[],"internal":true}"#);
    }

    #[test]
    fn what_does_not_fit_is_told_at_its_place() {
        for (marks, expected) in [
            (quote::quote!(undo = "cancel"), "expected a call"),
            (quote::quote!(undo = delete(id = out.id)), "no tool of this name"),
            (quote::quote!(undo = cancel(out.id)), "arguments have names"),
            (quote::quote!(undo = cancel(id = out.id)), "no parameter `id`"),
            (quote::quote!(undo = cancel(booking_id = out.number)), "`Booking` has no field `number`"),
            (quote::quote!(undo = cancel(booking_id = input.days)), "another type"),
            (quote::quote!(undo = cancel(booking_id = input.when)), "no parameter `when`"),
            (quote::quote!(undo = cancel(booking_id = result.id)), "expected `input.name`"),
            (quote::quote!(undo = cancel(why = "undone")), "`booking_id` is not given"),
            (quote::quote!(reconcile = look(key = key)), "`Done`"),
            (quote::quote!(reconcile = find(key = out.id)), "nobody saw"),
        ] {
            refused(marks, expected);
        }
    }
}
