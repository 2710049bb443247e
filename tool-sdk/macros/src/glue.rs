//! The code between the author's functions and the component's border: bindings, conversions and the manifest section.
//!
//! It exists on `wasm32` only. It sits inside the author's module, so that private fields stay private.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use syn::Ident;

use crate::model::{Component, Declared, Shape, Tool};
use crate::types::Type;
use crate::{manifest, names, wit};

/// Which way a value crosses the border.
#[derive(Clone, Copy)]
enum Way {
    /// From the caller to the tool.
    In,
    /// From the tool to the caller.
    Out,
}

/// Returns the module that makes a component of the author's functions.
pub fn tokens(component: &Component) -> TokenStream {
    let (source, world) = (wit::text(component), wit::WORLD);
    let (namespace, interface) = (format_ident!("{}", wit::NAMESPACE), names::bound_value(&component.name));
    let tools = component.tools.iter().map(|tool| tool_tokens(component, tool));
    let conversions = component.types.iter().map(conversions);
    let manifest = manifest_section(component);
    let tool_error = component.tools.iter().any(|tool| tool.output.is_fallible).then(tool_error);
    quote! {
        #[cfg(target_arch = "wasm32")]
        #[doc(hidden)]
        #[allow(unsafe_code, unused, missing_docs, clippy::all, clippy::pedantic)]
        mod __cofferdam_component {
            // `path: []` keeps a `wit` folder that the author may have for other purposes out of this.
            ::cofferdam_tool_sdk::wit_bindgen::generate!({
                inline: #source,
                path: [],
                world: #world,
                runtime_path: "::cofferdam_tool_sdk::wit_bindgen::rt",
            });
            use self::exports::#namespace::#interface::#interface as wire;

            struct Component;

            impl wire::Guest for Component {
                #(#tools)*
            }

            #tool_error
            #(#conversions)*
            #manifest

            export!(Component);
        }
    }
}

fn tool_tokens(component: &Component, tool: &Tool) -> TokenStream {
    let (bound, path) = (names::bound_value(&tool.name), author_path(&tool.modules, &tool.ident));
    let names: Vec<Ident> = (0..tool.params.len()).map(|index| format_ident!("param{index}")).collect();
    let types = tool.params.iter().map(|param| wire_type(component, &param.ty));
    let arguments = tool.params.iter().zip(&names).map(|(param, name)| convert(&param.ty, quote!(#name), Way::In));
    let value = tool.output.ty.as_ref().map_or(quote!(()), |ty| wire_type(component, ty));
    let out = tool.output.ty.as_ref().map_or(quote!(value), |ty| convert(ty, quote!(value), Way::Out));
    let (output, body) = if tool.output.is_fallible {
        (quote!(::std::result::Result<#value, wire::ToolError>), quote!(value.map(|value| #out).map_err(tool_error)))
    } else {
        (value, out)
    };
    quote! {
        fn #bound(#(#names: #types),*) -> #output {
            let value = #path(#(#arguments),*);
            #body
        }
    }
}

fn tool_error() -> TokenStream {
    quote! {
        fn tool_error(error: ::cofferdam_tool_sdk::ToolError) -> wire::ToolError {
            wire::ToolError { code: error.code, message: error.message, retryable: error.retryable }
        }
    }
}

fn conversions(declared: &Declared) -> TokenStream {
    let author = author_path(&declared.modules, &declared.ident);
    let bound = names::bound_type(&declared.name);
    let (inward, outward) = (conversion_name(&declared.ident, Way::In), conversion_name(&declared.ident, Way::Out));
    let to_author = body(declared, &quote!(wire::#bound), &author, Way::In);
    let to_wire = body(declared, &author, &quote!(wire::#bound), Way::Out);
    quote! {
        fn #inward(value: wire::#bound) -> #author { #to_author }
        fn #outward(value: #author) -> wire::#bound { #to_wire }
    }
}

fn body(declared: &Declared, from: &TokenStream, to: &TokenStream, way: Way) -> TokenStream {
    match &declared.shape {
        Shape::Record(fields) => {
            let fields = fields.iter().map(|field| {
                let (source, target) = ends(field.ident.clone(), names::bound_value(&field.name), way);
                let value = convert(&field.ty, quote!(value.#source), way);
                quote!(#target: #value)
            });
            quote!(#to { #(#fields),* })
        }
        Shape::Cases(cases) => {
            let arms = cases.iter().map(|case| {
                let (source, target) = ends(case.ident.clone(), names::bound_type(&case.name), way);
                match &case.payload {
                    None => quote!(#from::#source => #to::#target),
                    Some(ty) => {
                        let value = convert(ty, quote!(value), way);
                        quote!(#from::#source(value) => #to::#target(#value))
                    }
                }
            });
            quote!(match value { #(#arms),* })
        }
    }
}

/// Returns an identifier on the side that a value comes from, and on the side that it goes to.
fn ends(author: Ident, bound: Ident, way: Way) -> (Ident, Ident) {
    match way {
        Way::In => (bound, author),
        Way::Out => (author, bound),
    }
}

/// Returns an expression of the other side's type. Types without declared ones inside are the same on both sides.
fn convert(ty: &Type, value: TokenStream, way: Way) -> TokenStream {
    if ty.named().is_empty() {
        return value;
    }
    match ty {
        Type::Scalar(_) => value,
        Type::Named(ident) => {
            let function = conversion_name(ident, way);
            quote!(#function(#value))
        }
        Type::List(item) => {
            let item = convert(item, quote!(item), way);
            quote!(#value.into_iter().map(|item| #item).collect::<::std::vec::Vec<_>>())
        }
        Type::Option(item) => {
            let item = convert(item, quote!(item), way);
            quote!(#value.map(|item| #item))
        }
        Type::Tuple(items) => {
            let parts: Vec<Ident> = (0..items.len()).map(|index| format_ident!("part{index}")).collect();
            let values = items.iter().zip(&parts).map(|(item, part)| convert(item, quote!(#part), way));
            quote!({ let (#(#parts,)*) = #value; (#(#values,)*) })
        }
    }
}

/// Returns a type as wit-bindgen spells it.
fn wire_type(component: &Component, ty: &Type) -> TokenStream {
    match ty {
        Type::Scalar("string") => quote!(::std::string::String),
        Type::Scalar(name) => {
            let rust = name.strip_prefix('s').map_or((*name).to_owned(), |bits| format!("i{bits}"));
            let rust = format_ident!("{rust}");
            quote!(::std::primitive::#rust)
        }
        Type::List(item) => {
            let item = wire_type(component, item);
            quote!(::std::vec::Vec<#item>)
        }
        Type::Option(item) => {
            let item = wire_type(component, item);
            quote!(::std::option::Option<#item>)
        }
        Type::Tuple(items) => {
            let items = items.iter().map(|item| wire_type(component, item));
            quote!((#(#items,)*))
        }
        Type::Named(ident) => {
            let bound = names::bound_type(&component.name_of(ident));
            quote!(wire::#bound)
        }
    }
}

fn author_path(modules: &[Ident], ident: &Ident) -> TokenStream {
    quote!(super::#(#modules::)*#ident)
}

fn conversion_name(ident: &Ident, way: Way) -> Ident {
    match way {
        Way::In => format_ident!("in_{ident}"),
        Way::Out => format_ident!("out_{ident}"),
    }
}

fn manifest_section(component: &Component) -> TokenStream {
    let json = manifest::json(component);
    let (length, bytes) = (json.len(), Literal::byte_string(json.as_bytes()));
    quote! {
        // Without `#[used]`, which would put the text into the tool's memory as well.
        #[unsafe(link_section = "cofferdam:manifest")]
        pub static MANIFEST: [u8; #length] = *#bytes;
    }
}
