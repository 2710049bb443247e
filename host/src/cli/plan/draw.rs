//! The graph of a plan as text for programs that draw.
//!
//! Names of steps and tools are letters, digits, `_`, `-`, `.` and `:`: nothing in them needs an escape.

use crate::host::{EdgeKind, Graph, Node, NodeKind};

/// Returns the graph for Graphviz.
pub(super) fn dot(graph: &Graph) -> String {
    let mut text = String::from("digraph plan {\n  rankdir = LR;\n  node [shape = box];\n");
    for node in &graph.nodes {
        let shape = match node.kind {
            NodeKind::Step => String::new(),
            NodeKind::Approval => ", shape = diamond".to_owned(),
            NodeKind::Run => ", shape = folder".to_owned(),
            NodeKind::Item | NodeKind::Undo | NodeKind::Reconcile => ", style = dashed".to_owned(),
        };
        text.push_str(&format!("  \"{}\" [label = \"{}\"{shape}];\n", node.id, label(node, "\\n")));
    }
    for edge in &graph.edges {
        let style = if is_soft(edge.kind) { ", style = dashed" } else { "" };
        text.push_str(&format!("  \"{}\" -> \"{}\" [label = \"{}\"{style}];\n", edge.from, edge.to, name(edge.kind)));
    }
    text.push_str("}\n");
    text
}

/// Returns the graph for Mermaid.
pub(super) fn mermaid(graph: &Graph) -> String {
    let mut text = String::from("flowchart LR\n");
    for node in &graph.nodes {
        let (open, close) = match node.kind {
            NodeKind::Approval => ("{", "}"),
            NodeKind::Run => ("[[", "]]"),
            NodeKind::Item | NodeKind::Undo | NodeKind::Reconcile => ("(", ")"),
            NodeKind::Step => ("[", "]"),
        };
        text.push_str(&format!("  {}{open}\"{}\"{close}\n", id(&node.id), label(node, "<br>")));
    }
    for edge in &graph.edges {
        let arrow = if is_soft(edge.kind) { "-.->" } else { "-->" };
        text.push_str(&format!("  {} {arrow}|{}| {}\n", id(&edge.from), name(edge.kind), id(&edge.to)));
    }
    text
}

fn label(node: &Node, newline: &str) -> String {
    let what = match node.kind {
        NodeKind::Approval => return "a person".to_owned(),
        _ => &node.id,
    };
    let effect = node.effect.map_or(String::new(), |effect| format!(" ({effect})"));
    format!("{what}{newline}{}{effect}", node.tool)
}

/// What happens only where something else does, or does not.
fn is_soft(kind: EdgeKind) -> bool {
    !matches!(kind, EdgeKind::Data | EdgeKind::Needs | EdgeKind::Item | EdgeKind::Run)
}

fn name(kind: EdgeKind) -> &'static str {
    match kind {
        EdgeKind::Data => "data",
        EdgeKind::Needs => "needs",
        EdgeKind::After => "after",
        EdgeKind::When => "when",
        EdgeKind::Fallback => "fallback",
        EdgeKind::Item => "item",
        EdgeKind::Approval => "approval",
        EdgeKind::Undo => "undo",
        EdgeKind::Reconcile => "reconcile",
        EdgeKind::Run => "run",
    }
}

/// Mermaid's names are words; two nodes never share one, as a `_` of a name is doubled.
fn id(id: &str) -> String {
    id.chars()
        .map(|c| match c {
            '_' => "__".to_owned(),
            '.' => "_d".to_owned(),
            ':' => "_c".to_owned(),
            '-' => "_h".to_owned(),
            c => c.to_string(),
        })
        .collect()
}
