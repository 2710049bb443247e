//! Names on both sides: Rust identifiers to WIT names, and WIT names to the identifiers wit-bindgen will make of them.

use heck::{ToKebabCase, ToSnakeCase, ToUpperCamelCase};
use quote::format_ident;
use syn::ext::IdentExt;
use syn::{Error, Ident, Result};

/// Words with a meaning in WIT; as names they are written `%word`.
const WIT_KEYWORDS: &[&str] = &[
    "as",
    "async",
    "bool",
    "borrow",
    "char",
    "constructor",
    "error-context",
    "export",
    "f32",
    "f64",
    "from",
    "func",
    "future",
    "import",
    "include",
    "interface",
    "list",
    "map",
    "option",
    "own",
    "package",
    "record",
    "resource",
    "result",
    "s16",
    "s32",
    "s64",
    "s8",
    "static",
    "stream",
    "string",
    "tuple",
    "type",
    "u16",
    "u32",
    "u64",
    "u8",
    "use",
    "variant",
    "flags",
    "enum",
    "with",
    "world",
];

/// Returns the WIT name of a Rust identifier: `read_all` and `ReadAll` become `read-all`.
///
/// # Errors
/// Names whose words do not start with a letter (`top_10`) or that are not ASCII have no WIT spelling.
pub fn kebab(ident: &Ident) -> Result<String> {
    let name = ident.unraw().to_string().to_kebab_case();
    let is_word = |word: &str| word.starts_with(|first: char| first.is_ascii_lowercase()) && word.is_ascii();
    if name.split('-').all(is_word) {
        return Ok(name);
    }
    let message = format!("`{ident}` has no WIT name: each word needs ASCII letters first, like `top10` for `top_10`");
    Err(Error::new(ident.span(), message))
}

/// Returns a name as WIT source, with `%` where WIT has a keyword of that spelling.
pub fn wit(name: &str) -> String {
    let mark = if WIT_KEYWORDS.contains(&name) { "%" } else { "" };
    format!("{mark}{name}")
}

/// Returns the identifier that wit-bindgen gives to a function, field or module.
pub fn bound_value(name: &str) -> Ident {
    let snake = name.to_snake_case();
    match syn::parse_str::<Ident>(&snake) {
        Ok(ident) => ident,
        Err(_) => format_ident!("{snake}_"),
    }
}

/// Returns the identifier that wit-bindgen gives to a type or a case.
pub fn bound_type(name: &str) -> Ident {
    match name {
        "guest" => format_ident!("Guest_"),
        name => format_ident!("{}", name.to_upper_camel_case()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> std::result::Result<String, String> {
        kebab(&format_ident!("{text}")).map_err(|error| error.to_string())
    }

    #[test]
    fn rust_names_become_kebab_case() {
        assert_eq!(named("group_by").as_deref(), Ok("group-by"));
        assert_eq!(named("HttpStatus").as_deref(), Ok("http-status"));
        assert_eq!(kebab(&format_ident!("r#type")).unwrap(), "type");
    }

    #[test]
    fn names_without_a_wit_spelling_are_refused() {
        assert!(named("top_10").unwrap_err().contains("top10"));
        assert!(named("größe").is_err());
    }

    #[test]
    fn keywords_are_escaped_on_their_own_side() {
        assert_eq!(wit("list"), "%list");
        assert_eq!(wit("words"), "words");
        assert_eq!(bound_value("type"), "type_");
        assert_eq!(bound_value("list"), "list");
        assert_eq!(bound_type("guest"), "Guest_");
    }
}
