//! Checks that a measured file is a valid component, and decodes what it imports and exports.
//!
//! Promises: a component that uses a feature outside [`FEATURES`] fails here, naming it. Expects that `scan` measured
//! the file: validation and decoding are as long as what it lets pass.

use wasmparser::{
    BinaryReaderError, FuncValidatorAllocations, Parser, Payload, TypeRef, ValidPayload, Validator, WasmFeatures,
};
use wit_component::DecodedWasm;
use wit_parser::{Resolve, WorldId};

use crate::domain::{Failure, Kind};
use crate::registry::belt::belted;

/// What a component may use: what Rust, C, Go and Python toolchains emit today, and nothing that makes a call
/// unrepeatable (threads, relaxed SIMD) or that the sandbox does not meter (GC, exceptions, component async).
pub(super) const FEATURES: WasmFeatures = WasmFeatures::COMPONENT_MODEL
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::EXTENDED_CONST);

/// Returns the failure of a file that could not be followed.
pub(super) fn malformed(error: &BinaryReaderError) -> Failure {
    let message = format!("load the component: it is damaged at byte {:#x}: {}", error.offset(), error.message());
    Failure::new(Kind::LoadInvalid, message).hint("build or download it again; the file may have been cut")
}

/// Decodes `bytes` into the world that it imports and exports.
///
/// # Errors
/// `load.invalid`; `load.abi` where it is valid for a host with more features, or a WIT package.
pub(super) fn decode(bytes: &[u8]) -> Result<(Resolve, WorldId), Failure> {
    // Validator and decoder assert and unwrap what they believe of types: 200 instances in one another are enough to
    // prove the validator of wasmparser 0.254 wrong.
    let decoded = belted(|| {
        Validator::new_with_features(FEATURES).validate_all(bytes).map_err(|error| refused(bytes, &error))?;
        wit_component::decode(bytes).map_err(|error| undecodable(&format!("{error:#}")))
    });
    match decoded.unwrap_or_else(|| Err(undecodable("its types are too tangled")))? {
        DecodedWasm::Component(resolve, world) => Ok((resolve, world)),
        DecodedWasm::WitPackage(..) => Err(Failure::new(
            Kind::LoadAbi,
            "load the component: expected a WebAssembly component, found a WIT package: interfaces without code",
        )
        .hint("give the component that was built against it")),
    }
}

fn undecodable(why: &str) -> Failure {
    Failure::new(Kind::LoadInvalid, format!("load the component: its interfaces cannot be read: {why}"))
        .hint("build it with current tools")
}

/// Tells a component for another host from one that no host can run: with all features on, it is valid up to and with
/// the place where validation stopped. It is not validated further, as `scan` knows no measures for other features.
fn refused(bytes: &[u8], error: &BinaryReaderError) -> Failure {
    let function = function_at(bytes, error.offset());
    let place = function.map_or_else(String::new, |n| format!(" in function {n}"));
    let what = format!("{}{place}, at byte {:#x}", error.message(), error.offset());
    if validate_until(bytes, WasmFeatures::all(), error.offset()).is_err() {
        return Failure::new(Kind::LoadInvalid, format!("load the component: it is not valid: {what}"))
            .hint("build or download it again");
    }
    Failure::new(Kind::LoadAbi, format!("load the component: it uses what this host does not: {what}"))
        .hint("build it without threads, exceptions, GC, memory64, multi-memory, relaxed SIMD and component async")
}

/// Validates the sections and functions that start at or before byte `until`.
fn validate_until(bytes: &[u8], features: WasmFeatures, until: usize) -> Result<(), BinaryReaderError> {
    let mut validator = Validator::new_with_features(features);
    let mut allocations = FuncValidatorAllocations::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        if start(&payload) > until {
            break;
        }
        if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
            let mut function = function.into_validator(allocations);
            function.validate(&body)?;
            allocations = function.into_allocations();
        }
    }
    Ok(())
}

fn start(payload: &Payload<'_>) -> usize {
    match payload {
        Payload::CodeSectionEntry(body) => body.range().start,
        other => other.as_section().map_or(0, |(_, range)| range.start),
    }
}

/// Returns the index, in its module, of the function whose body holds byte `offset`.
fn function_at(bytes: &[u8], offset: usize) -> Option<usize> {
    let mut index = 0;
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        match payload {
            Payload::Version { .. } => index = 0,
            Payload::ImportSection(imports) => {
                let imports = imports.into_imports().map_while(Result::ok);
                index = imports.filter(|import| matches!(import.ty, TypeRef::Func(_))).count();
            }
            Payload::CodeSectionEntry(body) if body.range().contains(&offset) => return Some(index),
            Payload::CodeSectionEntry(_) => index += 1,
            _ => {}
        }
    }
    None
}
