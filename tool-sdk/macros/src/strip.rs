//! What the compiler sees of a `#[tools]` module: the author's code without our marks, and the bindings inside it.

use proc_macro2::TokenStream;
use syn::punctuated::Punctuated;
use syn::{Attribute, FnArg, Item, ItemFn, ItemMod, Meta, Path, Token, parse_quote};

use crate::docs;

/// Removes our marks from the module and puts the generated items at its end.
pub fn strip(module: &mut ItemMod, generated: TokenStream) {
    // Only bindings call the tools, and natively there are none.
    module.attrs.push(parse_quote!(#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]));
    let Some((_, items)) = &mut module.content else { return };
    strip_items(items);
    items.insert(
        0,
        parse_quote!(
            #[allow(unused_imports)]
            use ::cofferdam_tool_sdk::prelude::*;
        ),
    );
    items.push(Item::Verbatim(generated));
}

/// Whether an attribute is `#[tool]` or `#[tool(…)]`, by any path.
pub fn is_tool(attribute: &Attribute) -> bool {
    is_named(attribute.path(), "tool")
}

/// Whether the attributes derive `ToolType`.
pub fn derives_tool_type(attributes: &[Attribute]) -> bool {
    attributes.iter().filter_map(derived).flatten().any(|path| is_named(&path, "ToolType"))
}

fn strip_items(items: &mut [Item]) {
    for item in items {
        match item {
            Item::Fn(function) if function.attrs.iter().any(is_tool) => strip_function(function),
            Item::Struct(item) => strip_derive(&mut item.attrs),
            Item::Enum(item) => strip_derive(&mut item.attrs),
            Item::Mod(module) => {
                if let Some((_, items)) = &mut module.content {
                    strip_items(items);
                }
            }
            _ => {}
        }
    }
}

fn strip_function(function: &mut ItemFn) {
    function.attrs.retain(|attribute| !is_tool(attribute));
    for input in &mut function.sig.inputs {
        if let FnArg::Typed(param) = input {
            param.attrs.retain(|attribute| !docs::is_doc(attribute));
        }
    }
}

fn strip_derive(attributes: &mut [Attribute]) {
    for attribute in attributes {
        if let Some(paths) = derived(attribute) {
            let kept: Punctuated<Path, Token![,]> =
                paths.into_iter().filter(|path| !is_named(path, "ToolType")).collect();
            *attribute = parse_quote!(#[derive(#kept)]);
        }
    }
}

fn derived(attribute: &Attribute) -> Option<Punctuated<Path, Token![,]>> {
    match &attribute.meta {
        Meta::List(list) if list.path.is_ident("derive") => list.parse_args_with(Punctuated::parse_terminated).ok(),
        _ => None,
    }
}

fn is_named(path: &Path, name: &str) -> bool {
    path.segments.last().is_some_and(|segment| segment.ident == name)
}
