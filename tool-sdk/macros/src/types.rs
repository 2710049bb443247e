//! The types a tool may speak: what of Rust has an exact WIT counterpart, and what to say about the rest.

use syn::spanned::Spanned;
use syn::{Error, GenericArgument, Ident, PathArguments, PathSegment, Result};

use crate::names;

/// Rust scalars and their WIT names.
const SCALARS: &[(&str, &str)] = &[
    ("bool", "bool"),
    ("u8", "u8"),
    ("u16", "u16"),
    ("u32", "u32"),
    ("u64", "u64"),
    ("i8", "s8"),
    ("i16", "s16"),
    ("i32", "s32"),
    ("i64", "s64"),
    ("f32", "f32"),
    ("f64", "f64"),
    ("char", "char"),
    ("String", "string"),
];

/// A value type of an interface.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// A WIT built-in, by its WIT name.
    Scalar(&'static str),
    List(Box<Type>),
    Option(Box<Type>),
    Tuple(Vec<Type>),
    /// A type that the author declared, by its Rust identifier.
    Named(Ident),
}

impl Type {
    /// Reads a Rust type.
    ///
    /// # Errors
    /// Types without a WIT counterpart are refused at their own span, with what to use in their place.
    pub fn read(ty: &syn::Type) -> Result<Self> {
        match ty {
            syn::Type::Paren(inner) => Self::read(&inner.elem),
            syn::Type::Group(inner) => Self::read(&inner.elem),
            syn::Type::Tuple(tuple) if !tuple.elems.is_empty() => {
                Ok(Self::Tuple(tuple.elems.iter().map(Self::read).collect::<Result<_>>()?))
            }
            syn::Type::Path(path) if path.qself.is_none() => match path.path.segments.last() {
                Some(segment) => Self::read_segment(ty, segment),
                None => Err(unsupported(ty, "name a type")),
            },
            syn::Type::Reference(_) => Err(unsupported(ty, "tools own their values: use `String` or `Vec<T>`")),
            syn::Type::Array(_) | syn::Type::Slice(_) => Err(unsupported(ty, "use `Vec<T>`")),
            _ => Err(unsupported(ty, "use a struct, enum, tuple, `Vec<T>` or `Option<T>`")),
        }
    }

    fn read_segment(ty: &syn::Type, segment: &PathSegment) -> Result<Self> {
        let name = segment.ident.to_string();
        if let Some((_, scalar)) = SCALARS.iter().find(|(rust, _)| *rust == name) {
            return Ok(Self::Scalar(scalar));
        }
        match name.as_str() {
            "Vec" => Ok(Self::List(Box::new(Self::read(argument(ty, segment)?)?))),
            "Option" => Ok(Self::Option(Box::new(Self::read(argument(ty, segment)?)?))),
            "usize" | "isize" => Err(unsupported(ty, "its size differs between machines: use `u32` or `u64`")),
            "i128" | "u128" => Err(unsupported(ty, "WIT ends at 64 bits: use `String` for larger numbers")),
            "HashMap" | "BTreeMap" => Err(unsupported(ty, "WIT has no maps: use `Vec<(K, V)>` or a struct")),
            "HashSet" | "BTreeSet" | "VecDeque" | "Box" | "Rc" | "Arc" => Err(unsupported(ty, "use `Vec<T>` or `T`")),
            "str" => Err(unsupported(ty, "use `String`")),
            "Result" => Err(unsupported(ty, "a result is only possible as what a tool returns")),
            _ if segment.arguments.is_empty() => Ok(Self::Named(segment.ident.clone())),
            _ => Err(unsupported(ty, "generic types have no WIT counterpart: declare a struct")),
        }
    }

    /// Returns the type as WIT source; `name_of` gives the WIT name of a declared type.
    pub fn wit(&self, name_of: &dyn Fn(&Ident) -> String) -> String {
        match self {
            Self::Scalar(name) => (*name).to_owned(),
            Self::List(item) => format!("list<{}>", item.wit(name_of)),
            Self::Option(item) => format!("option<{}>", item.wit(name_of)),
            Self::Tuple(items) => {
                let items: Vec<String> = items.iter().map(|item| item.wit(name_of)).collect();
                format!("tuple<{}>", items.join(", "))
            }
            Self::Named(ident) => names::wit(&name_of(ident)),
        }
    }

    /// Returns the declared types inside this one.
    pub fn named(&self) -> Vec<&Ident> {
        match self {
            Self::Scalar(_) => Vec::new(),
            Self::List(item) | Self::Option(item) => item.named(),
            Self::Tuple(items) => items.iter().flat_map(Self::named).collect(),
            Self::Named(ident) => vec![ident],
        }
    }
}

fn argument<'a>(ty: &syn::Type, segment: &'a PathSegment) -> Result<&'a syn::Type> {
    if let PathArguments::AngleBracketed(list) = &segment.arguments
        && let (Some(GenericArgument::Type(inner)), 1) = (list.args.first(), list.args.len())
    {
        return Ok(inner);
    }
    Err(unsupported(ty, "say what it holds, like `Vec<String>`"))
}

fn unsupported(ty: &syn::Type, hint: &str) -> Error {
    let written = quote::quote!(#ty).to_string().replace(' ', "");
    Error::new(ty.span(), format!("`{written}` cannot cross a component's border: {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rust: &str) -> std::result::Result<String, String> {
        let ty: syn::Type = syn::parse_str(rust).unwrap();
        let ty = Type::read(&ty).map_err(|error| error.to_string())?;
        Ok(ty.wit(&|ident| ident.to_string().to_lowercase()))
    }

    #[test]
    fn types_with_a_counterpart() {
        assert_eq!(check("Vec<u8>").as_deref(), Ok("list<u8>"));
        assert_eq!(check("Option<Vec<(String, i64)>>").as_deref(), Ok("option<list<tuple<string, s64>>>"));
        assert_eq!(check("std::string::String").as_deref(), Ok("string"));
        assert_eq!(check("Vec<List>").as_deref(), Ok("list<%list>"));
    }

    #[test]
    fn types_without_one_are_named_with_a_way_out() {
        assert!(check("HashMap<String, u8>").unwrap_err().starts_with("`HashMap<String,u8>` cannot cross"));
        for (rust, hint) in [("usize", "u64"), ("&str", "String"), ("[u8; 4]", "Vec<T>"), ("Vec", "Vec<String>")] {
            assert!(check(rust).unwrap_err().contains(hint), "{rust}");
        }
        assert!(check("Page<u8>").unwrap_err().contains("generic"));
    }
}
