//! Components made for tests, and the one place that calls [`read`] on them.

use std::borrow::Cow;
use std::sync::Arc;

use wasm_encoder::{CustomSection, Encode, Section};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

use crate::domain::{Contract, Failure, Kind};

use super::{Catalog, Options, VerifiedComponent, VerifiedTool, read};

mod catalog;
mod contract;
mod files;
mod hostile;
mod lock;
mod schemas;

/// Builds a component whose functions trap, for the one world of `wit`.
pub(super) fn component(wit: &str) -> Vec<u8> {
    encoded(&core_module(wit))
}

/// Builds the core module of that component, with its world embedded.
fn core_module(wit: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

fn encoded(module: &[u8]) -> Vec<u8> {
    ComponentEncoder::default().module(module).unwrap().encode().unwrap()
}

/// Appends a custom section to a component or module.
fn with_section(mut bytes: Vec<u8>, name: &str, data: &[u8]) -> Vec<u8> {
    let section = CustomSection { name: name.into(), data: Cow::Borrowed(data) };
    bytes.push(section.id());
    section.encode(&mut bytes);
    bytes
}

fn with_manifest(bytes: Vec<u8>, manifest: &str) -> Vec<u8> {
    with_section(bytes, "cofferdam:manifest", manifest.as_bytes())
}

fn described(bytes: &[u8]) -> Contract {
    read(bytes, Some("sample"), &Options::default()).unwrap()
}

/// Expects that `bytes` are refused with `kind`, in words that hold each of `texts`.
#[track_caller]
fn check_refused(bytes: &[u8], kind: Kind, texts: &[&str]) -> Failure {
    let failure = read(bytes, Some("sample"), &Options::default()).unwrap_err();
    assert_eq!(failure.kind, kind, "{failure}");
    for text in texts {
        assert!(failure.message.contains(text), "expected `{text}` in: {failure}");
    }
    assert!(failure.hint.is_some(), "{failure}");
    failure
}

fn verified(bytes: Vec<u8>) -> Arc<VerifiedComponent> {
    Arc::new(VerifiedComponent::new(bytes, Some("sample"), &Options::default()).unwrap())
}

/// Returns the one tool of the component for `wit`.
fn tool(wit: &str) -> VerifiedTool {
    let tools: Vec<_> = verified(component(wit)).tools().collect();
    let [tool] = &tools[..] else { panic!("expected one tool, found {tools:?}") };
    tool.clone()
}

fn catalog_of(names: &[&str]) -> Result<Catalog, Failure> {
    let components = names.iter().map(|name| {
        let wit = format!(
            "package tools:{name}@0.1.0; interface api {{ run: func(); stop: func(); }} world w {{ export api; }}"
        );
        Arc::new(VerifiedComponent::new(component(&wit), None, &Options::default()).unwrap())
    });
    Catalog::new(components.collect())
}
