//! What the author wrote, read once: the component, its tools and the types they reach. Nothing is emitted here.

use std::collections::HashSet;

use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Field, Fields, FnArg, Ident, Item, ItemEnum, ItemFn, ItemMod, ItemStruct, Lit};
use syn::{LitStr, Meta, Pat, Result, ReturnType, Token, Variant};

use crate::template::Template;
use crate::types::Type;
use crate::{docs, names, strip, template};

/// How far a call can reach, from nothing to what cannot be taken back.
const EFFECTS: &[&str] = &["pure", "read", "idempotent", "reversible", "once"];

/// What a tool may ask for. The operator's policy decides what it gets.
const CAPABILITIES: &[&str] = &[
    "files.read",
    "files.write",
    "http",
    "env",
    "secrets",
    "state.session",
    "state.user",
    "state.workflow",
    "clock",
    "random",
    "log",
    "progress",
];

/// The error of every fallible tool, declared by the SDK in each interface.
const TOOL_ERROR: &str = "ToolError";

/// One `#[tools]` module.
pub struct Component {
    pub name: String,
    pub version: String,
    pub summary: String,
    pub tools: Vec<Tool>,
    /// The types that tools reach, in the author's order.
    pub types: Vec<Declared>,
}

/// One `#[tool]` function.
pub struct Tool {
    pub ident: Ident,
    /// Modules between the `#[tools]` module and the function.
    pub modules: Vec<Ident>,
    pub name: String,
    pub summary: String,
    pub params: Vec<Member>,
    pub output: Output,
    pub effect: Option<String>,
    pub asks: Vec<String>,
    /// The call that takes a call of this tool back.
    pub undo: Option<Template>,
    /// The call that tells what became of a call of this tool.
    pub reconcile: Option<Template>,
    /// Whether planners are not to be offered it.
    pub is_internal: bool,
}

/// What stands in `#[tool(…)]`.
#[derive(Default)]
struct Marks {
    effect: Option<String>,
    asks: Vec<String>,
    undo: Option<Template>,
    reconcile: Option<Template>,
    is_internal: bool,
}

/// What a tool returns.
pub struct Output {
    /// `None` for `()`.
    pub ty: Option<Type>,
    /// Whether it is a `Result<_, ToolError>`.
    pub is_fallible: bool,
}

/// A parameter or a field.
pub struct Member {
    pub ident: Ident,
    pub name: String,
    pub text: String,
    pub ty: Type,
}

/// One `#[derive(ToolType)]` type.
pub struct Declared {
    pub ident: Ident,
    pub modules: Vec<Ident>,
    pub name: String,
    pub text: String,
    pub shape: Shape,
}

/// What a declared type is made of.
pub enum Shape {
    Record(Vec<Member>),
    /// A WIT enum when no case has a payload, else a variant.
    Cases(Vec<Case>),
}

/// One case of an enum.
pub struct Case {
    pub ident: Ident,
    pub name: String,
    pub text: String,
    pub payload: Option<Type>,
}

impl Component {
    /// Reads a `#[tools]` module.
    ///
    /// # Errors
    /// Everything that WIT cannot say, each at the span of the author's code.
    pub fn read(module: &ItemMod) -> Result<Self> {
        let Some((_, items)) = &module.content else {
            return Err(Error::new(module.ident.span(), "`#[tools]` needs the module's body here: `mod name { … }`"));
        };
        let mut found = Found::default();
        found.read_items(items, &[]);
        let Found { tools, types, errors } = found;
        let mut component = Self {
            name: names::kebab(&module.ident)?,
            version: std::env::var("CARGO_PKG_VERSION").unwrap_or_else(|_| "0.0.0".to_owned()),
            summary: docs::text(&module.attrs),
            tools,
            types,
        };
        errors.map_or(Ok(()), Err)?;
        component.settle(module.ident.span())?;
        Ok(component)
    }

    /// Returns the declared type behind an identifier. Every [`Type::Named`] has one after [`Component::read`].
    pub fn declared(&self, ident: &Ident) -> Option<&Declared> {
        self.types.iter().find(|declared| declared.ident == *ident)
    }

    /// Returns the WIT name of a declared type.
    pub fn name_of(&self, ident: &Ident) -> String {
        self.declared(ident).map_or_else(|| ident.to_string(), |declared| declared.name.clone())
    }

    fn settle(&mut self, module: Span) -> Result<()> {
        if self.tools.is_empty() {
            return Err(Error::new(module, "no tools here: mark a function with `#[tool]`"));
        }
        self.keep_reachable_types()?;
        self.part_types_from_tools();
        self.check_names()?;
        template::check(self)
    }

    fn keep_reachable_types(&mut self) -> Result<()> {
        let mut reached = HashSet::new();
        for tool in &self.tools {
            for ty in tool.params.iter().map(|param| &param.ty).chain(&tool.output.ty) {
                self.reach(ty, &mut Vec::new(), &mut reached)?;
            }
        }
        self.types.retain(|declared| reached.contains(&declared.ident));
        Ok(())
    }

    fn reach(&self, ty: &Type, within: &mut Vec<Ident>, reached: &mut HashSet<Ident>) -> Result<()> {
        for ident in ty.named() {
            if within.contains(ident) {
                let message = format!("`{ident}` contains itself: WIT types are finite, so use an id or an index");
                return Err(Error::new(ident.span(), message));
            }
            let Some(declared) = self.declared(ident) else {
                let message =
                    format!("`{ident}` is not known here: declare it in this module with `#[derive(ToolType)]`");
                return Err(Error::new(ident.span(), message));
            };
            if reached.contains(ident) {
                continue;
            }
            within.push(ident.clone());
            declared.shape.types().iter().try_for_each(|inner| self.reach(inner, within, reached))?;
            within.pop();
            reached.insert(ident.clone());
        }
        Ok(())
    }

    /// In WIT, functions and types share their names: `Stats` beside a tool `stats` is called `stats-type` there.
    fn part_types_from_tools(&mut self) {
        for declared in &mut self.types {
            if self.tools.iter().any(|tool| tool.name == declared.name) {
                declared.name.push_str("-type");
            }
        }
    }

    fn check_names(&self) -> Result<()> {
        let mut seen = HashSet::from(["tool-error"]);
        let tools = self.tools.iter().map(|tool| (&tool.name, &tool.ident));
        let types = self.types.iter().map(|declared| (&declared.name, &declared.ident));
        for (name, ident) in tools.chain(types) {
            if !seen.insert(name) {
                return Err(Error::new(ident.span(), format!("the WIT name `{name}` is taken: rename `{ident}`")));
            }
        }
        Ok(())
    }
}

impl Shape {
    fn types(&self) -> Vec<&Type> {
        match self {
            Self::Record(fields) => fields.iter().map(|field| &field.ty).collect(),
            Self::Cases(cases) => cases.iter().filter_map(|case| case.payload.as_ref()).collect(),
        }
    }
}

/// What a walk over the module tree collects; it goes on after an error so that all are shown at once.
#[derive(Default)]
struct Found {
    tools: Vec<Tool>,
    types: Vec<Declared>,
    errors: Option<Error>,
}

impl Found {
    fn read_items(&mut self, items: &[Item], modules: &[Ident]) {
        for item in items {
            match item {
                Item::Fn(function) if function.attrs.iter().any(strip::is_tool) => {
                    keep(read_tool(function, modules), &mut self.tools, &mut self.errors);
                }
                Item::Struct(item) if strip::derives_tool_type(&item.attrs) => {
                    keep(read_struct(item, modules), &mut self.types, &mut self.errors);
                }
                Item::Enum(item) if strip::derives_tool_type(&item.attrs) => {
                    keep(read_enum(item, modules), &mut self.types, &mut self.errors);
                }
                Item::Mod(ItemMod { ident, content: Some((_, items)), .. }) => {
                    self.read_items(items, &[modules, std::slice::from_ref(ident)].concat());
                }
                _ => {}
            }
        }
    }
}

fn keep<T>(read: Result<T>, values: &mut Vec<T>, errors: &mut Option<Error>) {
    match (read, errors) {
        (Ok(value), _) => values.push(value),
        (Err(error), Some(errors)) => errors.combine(error),
        (Err(error), none) => *none = Some(error),
    }
}

fn read_tool(function: &ItemFn, modules: &[Ident]) -> Result<Tool> {
    let signature = &function.sig;
    if signature.asyncness.is_some() {
        return Err(Error::new(signature.ident.span(), "a tool is not `async`: it has its instance to itself"));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new(signature.ident.span(), "a tool cannot be generic: WIT functions have fixed types"));
    }
    let Marks { effect, asks, undo, reconcile, is_internal } = read_marks(function)?;
    Ok(Tool {
        ident: signature.ident.clone(),
        modules: modules.to_vec(),
        name: names::kebab(&signature.ident)?,
        summary: docs::text(&function.attrs),
        params: signature.inputs.iter().map(read_param).collect::<Result<_>>()?,
        output: read_output(&signature.output)?,
        effect,
        asks,
        undo,
        reconcile,
        is_internal,
    })
}

fn read_param(input: &FnArg) -> Result<Member> {
    let FnArg::Typed(param) = input else {
        return Err(Error::new_spanned(input, "a tool is a free function: it has no `self`"));
    };
    let Pat::Ident(pattern) = &*param.pat else {
        return Err(Error::new_spanned(&param.pat, "a parameter needs a plain name: callers pass it by name"));
    };
    let ident = pattern.ident.clone();
    Ok(Member { name: names::kebab(&ident)?, text: docs::text(&param.attrs), ty: Type::read(&param.ty)?, ident })
}

fn read_output(output: &ReturnType) -> Result<Output> {
    let ReturnType::Type(_, ty) = output else { return Ok(Output { ty: None, is_fallible: false }) };
    match result_of(ty) {
        Some((value, error)) if error == TOOL_ERROR => Ok(Output { ty: read_value(&value)?, is_fallible: true }),
        Some(_) => Err(Error::new_spanned(ty, "a tool returns `T` or `Result<T, ToolError>`")),
        None => Ok(Output { ty: read_value(ty)?, is_fallible: false }),
    }
}

fn read_value(ty: &syn::Type) -> Result<Option<Type>> {
    match ty {
        syn::Type::Tuple(tuple) if tuple.elems.is_empty() => Ok(None),
        ty => Type::read(ty).map(Some),
    }
}

/// Returns both sides of a `Result<T, E>`, the error by its last name.
fn result_of(ty: &syn::Type) -> Option<(syn::Type, String)> {
    let syn::Type::Path(path) = ty else { return None };
    let segment = path.path.segments.last().filter(|segment| segment.ident == "Result")?;
    let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return Some((ty.clone(), String::new()));
    };
    let types: Vec<&syn::Type> = arguments.args.iter().filter_map(type_argument).collect();
    match types[..] {
        [value, syn::Type::Path(error)] => {
            Some((value.clone(), error.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default()))
        }
        _ => Some((ty.clone(), String::new())),
    }
}

fn type_argument(argument: &syn::GenericArgument) -> Option<&syn::Type> {
    match argument {
        syn::GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }
}

/// Reads `#[tool(effect = "…", asks("…", …), undo = …(…), reconcile = …(…), internal)]`.
fn read_marks(function: &ItemFn) -> Result<Marks> {
    let mut marks = Marks::default();
    for attribute in function.attrs.iter().filter(|attribute| strip::is_tool(attribute)) {
        let Meta::List(list) = &attribute.meta else { continue };
        for meta in list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)? {
            read_mark(meta, &mut marks)?;
        }
    }
    Ok(marks)
}

fn read_mark(meta: Meta, marks: &mut Marks) -> Result<()> {
    match meta {
        Meta::NameValue(pair) if pair.path.is_ident("effect") => {
            marks.effect = Some(known(&string(&pair.value)?, EFFECTS, "an effect")?);
        }
        Meta::NameValue(pair) if pair.path.is_ident("undo") => marks.undo = Some(Template::read(&pair.value)?),
        Meta::NameValue(pair) if pair.path.is_ident("reconcile") => {
            marks.reconcile = Some(Template::read(&pair.value)?);
        }
        Meta::Path(path) if path.is_ident("internal") => marks.is_internal = true,
        Meta::List(list) if list.path.is_ident("asks") => {
            for ask in list.parse_args_with(Punctuated::<LitStr, Token![,]>::parse_terminated)? {
                marks.asks.push(known(&ask, CAPABILITIES, "a capability")?);
            }
        }
        other => {
            let message =
                "expected `effect = \"…\"`, `asks(\"…\", …)`, `undo = …(…)`, `reconcile = …(…)` or `internal`";
            return Err(Error::new_spanned(other, message));
        }
    }
    Ok(())
}

fn string(value: &Expr) -> Result<LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.clone()),
        other => Err(Error::new_spanned(other, "expected a string like \"read\"")),
    }
}

fn known(word: &LitStr, words: &[&str], what: &str) -> Result<String> {
    let value = word.value();
    if words.contains(&value.as_str()) {
        return Ok(value);
    }
    Err(Error::new(word.span(), format!("\"{value}\" is not {what}: choose from {}", words.join(", "))))
}

fn read_struct(item: &ItemStruct, modules: &[Ident]) -> Result<Declared> {
    check_plain(&item.ident, &item.generics)?;
    let Fields::Named(fields) = &item.fields else {
        return Err(Error::new(item.ident.span(), "a tool type needs named fields: callers see their names"));
    };
    if fields.named.is_empty() {
        return Err(Error::new(item.ident.span(), "a WIT record needs at least one field"));
    }
    let fields = fields.named.iter().map(read_field).collect::<Result<_>>()?;
    declared(&item.ident, modules, docs::text(&item.attrs), Shape::Record(fields))
}

fn read_field(field: &Field) -> Result<Member> {
    let Some(ident) = field.ident.clone() else {
        return Err(Error::new_spanned(field, "a field needs a name"));
    };
    Ok(Member { name: names::kebab(&ident)?, text: docs::text(&field.attrs), ty: Type::read(&field.ty)?, ident })
}

fn read_enum(item: &ItemEnum, modules: &[Ident]) -> Result<Declared> {
    check_plain(&item.ident, &item.generics)?;
    if item.variants.is_empty() {
        return Err(Error::new(item.ident.span(), "a WIT enum needs at least one case"));
    }
    let cases = item.variants.iter().map(read_case).collect::<Result<_>>()?;
    declared(&item.ident, modules, docs::text(&item.attrs), Shape::Cases(cases))
}

fn read_case(variant: &Variant) -> Result<Case> {
    let payload = match &variant.fields {
        Fields::Unit => None,
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Some(Type::read(&fields.unnamed[0].ty)?),
        _ => return Err(Error::new_spanned(variant, "a case holds nothing or one value: put several into a struct")),
    };
    let ident = variant.ident.clone();
    Ok(Case { name: names::kebab(&ident)?, text: docs::text(&variant.attrs), payload, ident })
}

fn check_plain(ident: &Ident, generics: &syn::Generics) -> Result<()> {
    if ident == TOOL_ERROR {
        return Err(Error::new(ident.span(), "`ToolError` is the SDK's: choose another name"));
    }
    if !generics.params.is_empty() {
        return Err(Error::new(ident.span(), "a tool type cannot be generic: WIT types are fixed"));
    }
    Ok(())
}

fn declared(ident: &Ident, modules: &[Ident], text: String, shape: Shape) -> Result<Declared> {
    Ok(Declared { name: names::kebab(ident)?, ident: ident.clone(), modules: modules.to_vec(), text, shape })
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn mistakes(module: &ItemMod) -> Vec<String> {
        let errors = Component::read(module).err().expect("mistakes");
        errors.into_iter().map(|error| error.to_string()).collect()
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let told = mistakes(&parse_quote! {
            mod wrong {
                #[tool(effect = "harmless")]
                fn first() {}
                #[tool(asks("disk"))]
                fn second() {}
                #[tool]
                fn third() -> Result<u8, String> { Ok(1) }
                #[derive(ToolType)]
                struct Empty {}
            }
        });
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[0].contains("\"harmless\" is not an effect: choose from pure, read"));
        assert!(told[1].contains("\"disk\" is not a capability"));
        assert!(told[2].contains("`Result<T, ToolError>`"));
        assert!(told[3].contains("at least one field"));
    }

    #[test]
    fn types_must_be_known_and_finite() {
        let told = mistakes(&parse_quote!(
            mod wrong {
                #[tool]
                fn first(page: Page) {}
            }
        ));
        assert!(told[0].starts_with("`Page` is not known here"), "{told:?}");
        let told = mistakes(&parse_quote! {
            mod wrong {
                #[tool]
                fn first(tree: Tree) {}
                #[derive(ToolType)]
                struct Tree { children: Vec<Tree> }
            }
        });
        assert!(told[0].starts_with("`Tree` contains itself"), "{told:?}");
    }
}
