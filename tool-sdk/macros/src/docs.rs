//! Doc comments as plain text: what a planner, a form or a man page shows.

use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// Returns the doc comment of an item, its wrapped lines joined, its paragraphs and list items kept apart.
pub fn text(attributes: &[Attribute]) -> String {
    let lines: Vec<String> = attributes.iter().filter_map(doc_line).collect();
    let mut text = String::new();
    for line in lines.iter().flat_map(|block| block.split('\n')).map(str::trim) {
        let joint = if line.is_empty() || line.starts_with(['-', '*', '|', '#', '`']) { '\n' } else { ' ' };
        let is_line_start = text.is_empty() || text.ends_with('\n');
        if !is_line_start || (joint == '\n' && !text.is_empty()) {
            text.push(joint);
        }
        text.push_str(line);
        if line.is_empty() {
            text.push('\n');
        }
    }
    text.trim().to_owned()
}

/// Whether an attribute is a doc comment.
pub fn is_doc(attribute: &Attribute) -> bool {
    attribute.path().is_ident("doc")
}

fn doc_line(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(pair) if is_doc(attribute) => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) => Some(line.value()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn wrapped_lines_join_and_paragraphs_stay() {
        let item: syn::ItemStruct = parse_quote! {
            /// Counts words
            /// and lines.
            ///
            /// Each is:
            /// - small
            /// - exact
            #[allow(dead_code)]
            struct Stats;
        };
        assert_eq!(text(&item.attrs), "Counts words and lines.\n\nEach is:\n- small\n- exact");
    }
}
