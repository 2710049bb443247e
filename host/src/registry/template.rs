//! Holds the calls that a manifest names beside its tools, their undo and their reconcile, to what the component exports.
//!
//! Promises: what is named is there and takes what it is given, and what reconciles returns what can be read. Leaves to others: a
//! tool of another component, which is not seen from here, and the types of what is given (`orchestrator::check`).

use crate::domain::{CallTemplate, Failure, Manifest, Param, Reconciled, Returns, TemplateUse, WitType, json_name};

use super::manifest::{clip, invalid};
use super::wit::Exported;

/// Characters of what is said about a template, which may quote it.
const FLAW_CHARS_MAX: usize = 300;

/// Checks all templates of a manifest.
///
/// # Errors
/// `load.invalid` naming the tool, and what is wrong with its template.
pub(super) fn check(manifest: &Manifest, exported: &[Exported]) -> Result<(), Failure> {
    let view = View { component: &manifest.component, exported };
    for (name, tool) in &manifest.tools {
        let undo = tool.undo.iter().map(|template| ("undo", template, TemplateUse::Undo));
        let reconcile = tool.reconcile.iter().map(|template| ("reconcile", template, TemplateUse::Reconcile));
        for (what, template, usage) in undo.chain(reconcile) {
            view.check(name, template, usage)
                .map_err(|flaw| invalid(&clip(&format!("the {what} of its tool `{name}`: {flaw}"), FLAW_CHARS_MAX)))?;
        }
    }
    Ok(())
}

struct View<'a> {
    component: &'a str,
    exported: &'a [Exported],
}

impl View<'_> {
    fn check(&self, tool: &str, template: &CallTemplate, usage: TemplateUse) -> Result<(), String> {
        template.flaw(usage).map_or(Ok(()), Err)?;
        let named = template.tool_name(self.component)?;
        if named.component() != self.component {
            return Ok(());
        }
        let (params, returns) = self.signature(named.function())?;
        takes(params, template)?;
        if usage == TemplateUse::Undo {
            return Ok(());
        }
        let (_, own) = self.signature(tool)?;
        if Reconciled::is_type(value(returns), value(own)) {
            return Ok(());
        }
        Err(format!(
            "`{}` does not return a variant of `done` with what `{tool}` returns, `not-done` and `unknown`",
            named.function()
        ))
    }

    fn signature(&self, function: &str) -> Result<&(Vec<Param>, Returns), String> {
        let exported = self.exported.iter().find(|exported| exported.export.function == function);
        let exported = exported.ok_or_else(|| format!("the component exports no `{function}`"))?;
        exported.signature.as_ref().map_err(|why| format!("`{function}` is no tool: {why}"))
    }
}

/// Whether the parameters are those that the template gives.
fn takes(params: &[Param], template: &CallTemplate) -> Result<(), String> {
    let is_given = |param: &Param| template.args.get(json_name(&param.name)).is_some();
    if let Some(missing) = params.iter().find(|param| !param.ty.is_option() && !is_given(param)) {
        return Err(format!("it does not give `{}`", json_name(&missing.name)));
    }
    let mut given = template.args.as_object().into_iter().flat_map(|args| args.keys());
    let strange = given.find(|name| params.iter().all(|param| json_name(&param.name) != **name));
    strange.map_or(Ok(()), |name| Err(format!("there is no parameter `{name}`")))
}

/// What a call brings where it goes well.
fn value(returns: &Returns) -> Option<&WitType> {
    match returns {
        Returns::Nothing => None,
        Returns::Value(ty) => Some(ty),
        Returns::Fallible { ok, .. } => ok.as_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Case;

    #[test]
    fn a_reconcile_tells_one_of_three_things() {
        let case = |name: &str, ty: Option<WitType>| Case { name: name.into(), ty };
        let variant = |cases: Vec<Case>| WitType::Variant { name: "found".into(), cases };
        let whole = || vec![case("done", Some(WitType::U8)), case("not-done", None), case("unknown", None)];
        assert!(Reconciled::is_type(Some(&variant(whole())), Some(&WitType::U8)));
        assert!(!Reconciled::is_type(Some(&variant(whole())), Some(&WitType::U16)), "another output");
        assert!(!Reconciled::is_type(Some(&variant(whole())), None));
        assert!(!Reconciled::is_type(Some(&variant(whole()[..2].to_vec())), Some(&WitType::U8)));
        assert!(!Reconciled::is_type(Some(&WitType::U8), Some(&WitType::U8)));
        let more = [whole(), vec![case("perhaps", None)]].concat();
        assert!(!Reconciled::is_type(Some(&variant(more)), Some(&WitType::U8)));
        // Without a payload it is an enum.
        let names = ["unknown", "done", "not-done"].map(str::to_owned).to_vec();
        assert!(Reconciled::is_type(Some(&WitType::Enum { name: "found".into(), cases: names }), None));
    }
}
