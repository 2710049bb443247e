//! The macros of `cofferdam-tool-sdk`: plain Rust in, a typed component out.
//!
//! `#[tools]` reads one module, derives the WIT package and the manifest from it, and emits the module unchanged
//! beside bindings that exist only on `wasm32`. Every mistake is reported at the author's line. What the texts mean
//! is for the host to decide; these macros only carry them.

mod docs;
mod glue;
mod manifest;
mod model;
mod names;
mod strip;
mod template;
mod types;
mod wit;

use proc_macro::TokenStream;
use quote::quote;
use syn::{Error, ItemMod, parse_macro_input};

use crate::model::Component;

/// Turns a module into a tool component: each `#[tool]` function in it becomes a tool.
#[proc_macro_attribute]
pub fn tools(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let module = parse_macro_input!(item as ItemMod);
    if !arguments.is_empty() {
        let error = Error::new(module.ident.span(), "`#[tools]` takes no arguments");
        return error.into_compile_error().into();
    }
    expand(module).into()
}

/// Marks a function inside a `#[tools]` module as a tool: `#[tool(effect = "read", asks("files.read", "log"))]`,
/// `#[tool(undo = cancel(id = out.id), reconcile = find(key = key))]`, `#[tool(internal)]`.
#[proc_macro_attribute]
pub fn tool(_arguments: TokenStream, item: TokenStream) -> TokenStream {
    outside("#[tool]", item)
}

/// Lets tools take and return a struct or enum declared inside a `#[tools]` module.
#[proc_macro_derive(ToolType)]
pub fn tool_type(_item: TokenStream) -> TokenStream {
    // `#[tools]` removes the derive before it expands, so reaching this point means there is no such module around.
    outside("#[derive(ToolType)]", TokenStream::new())
}

fn expand(mut module: ItemMod) -> proc_macro2::TokenStream {
    let generated =
        Component::read(&module).map(|component| glue::tokens(&component)).unwrap_or_else(Error::into_compile_error);
    strip::strip(&mut module, generated);
    quote! {
        #module

        // A second `#[tools]` module beside this one would make a second component of one file: the name clashes.
        #[doc(hidden)]
        mod __one_tools_module_per_crate {}
    }
}

fn outside(what: &str, item: TokenStream) -> TokenStream {
    let message = format!("`{what}` belongs inside a `#[tools]` module: `#[tools] mod name {{ … }}`");
    let error = Error::new(proc_macro2::Span::call_site(), message).into_compile_error();
    [TokenStream::from(error), item].into_iter().collect()
}
