//! Tells from the first bytes whether a file can be a component, and what it is when it is not.
//!
//! Promises: constant work, and a failure that says what to do. Leaves everything behind the first eight bytes to `scan`.

use wasmparser::{Parser, Payload};

use crate::domain::{Failure, Kind};

/// Bytes of magic number and version, before the first section.
const HEADER_BYTES: usize = 8;
/// Bytes looked at to tell text from bytes: more than any header, less than a page.
const SNIFF_BYTES: usize = 512;
/// What nearly every hint says.
const BUILD: &str = "build for the target `wasm32-wasip2`";

/// Files that people take for components, by their first bytes.
const FOREIGN: &[(&[u8], &str, &str)] = &[
    (b"\x7fELF", "an ELF binary", "this is native code; build for the target `wasm32-wasip2`"),
    (b"MZ", "a Windows binary", "this is native code; build for the target `wasm32-wasip2`"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O binary", "this is native code; build for the target `wasm32-wasip2`"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first, and give the `.wasm` file inside"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first, and give the `.wasm` file inside"),
    (b"PK\x03\x04", "a zip archive", "unpack it first, and give the `.wasm` file inside"),
    (b"!<arch>", "a static library", "link it into a component: build for the target `wasm32-wasip2`"),
];

/// Answers that `bytes` start as a component does.
///
/// # Errors
/// `load.invalid`, or `load.abi` for a core module and for a component of another version.
pub(super) fn check(bytes: &[u8]) -> Result<(), Failure> {
    if Parser::is_component(bytes) {
        return Ok(());
    }
    if Parser::is_core_wasm(bytes) {
        return Err(core_module(bytes));
    }
    if bytes.starts_with(b"\0asm") && bytes.len() >= HEADER_BYTES {
        return Err(found(Kind::LoadAbi, "WebAssembly of an unknown version", "build it with current tools"));
    }
    Err(not_wasm(bytes))
}

fn not_wasm(bytes: &[u8]) -> Failure {
    if bytes.is_empty() {
        return found(Kind::LoadInvalid, "an empty file", "the build or the download may have stopped early");
    }
    if bytes.len() < HEADER_BYTES {
        let what = format!("a file of {} bytes, too short for any component", bytes.len());
        return found(Kind::LoadInvalid, &what, "the build or the download may have stopped early");
    }
    if let Some((_, what, hint)) = FOREIGN.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return found(Kind::LoadInvalid, what, hint);
    }
    text(bytes).unwrap_or_else(|| found(Kind::LoadInvalid, "bytes that are not WebAssembly", BUILD))
}

fn text(bytes: &[u8]) -> Option<Failure> {
    let sniffed = &bytes[..bytes.len().min(SNIFF_BYTES)];
    let valid = match std::str::from_utf8(sniffed) {
        Ok(text) => text,
        // The cut may fall inside a character.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&sniffed[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if valid.contains('\0') {
        return None;
    }
    let (what, hint) = if valid.trim_start().starts_with('(') {
        ("WebAssembly text", "assemble it first: `wasm-tools parse tool.wat -o tool.wasm`")
    } else if valid.contains("package ") || valid.contains("world ") || valid.contains("interface ") {
        ("WIT text: an interface without code", "give the component that was built against it")
    } else {
        ("a text file", "give the `.wasm` file of a component")
    };
    Some(found(Kind::LoadInvalid, what, hint))
}

fn core_module(bytes: &[u8]) -> Failure {
    if is_preview1(bytes) {
        return found(
            Kind::LoadAbi,
            "a core module for WASI preview 1",
            "build for the target `wasm32-wasip2`, or run `wasm-tools component new` with the preview 1 adapter",
        );
    }
    found(
        Kind::LoadAbi,
        "a core WebAssembly module",
        "build for the target `wasm32-wasip2`, or run `wasm-tools component new`",
    )
}

/// Looks at the imports alone: they stand near the front of a module.
fn is_preview1(bytes: &[u8]) -> bool {
    let sections = Parser::new(0).parse_all(bytes).map_while(Result::ok);
    let imports = sections.filter_map(|payload| match payload {
        Payload::ImportSection(imports) => Some(imports),
        _ => None,
    });
    imports
        .flat_map(|imports| imports.into_imports().map_while(Result::ok))
        .any(|i| i.module == "wasi_snapshot_preview1")
}

fn found(kind: Kind, what: &str, hint: &str) -> Failure {
    Failure::new(kind, format!("load the component: expected a WebAssembly component, found {what}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_found(bytes: &[u8], kind: Kind, text: &str) {
        let failure = check(bytes).unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(text), "{failure}");
        assert!(failure.hint.is_some());
    }

    #[test]
    fn a_failure_names_what_was_found() {
        check_found(b"", Kind::LoadInvalid, "an empty file");
        check_found(b"\0asm", Kind::LoadInvalid, "4 bytes");
        check_found(b"\x7fELF\x02\x01\x01\0\0\0\0", Kind::LoadInvalid, "ELF");
        check_found(b"\x1f\x8b\x08\0\0\0\0\0\0\0", Kind::LoadInvalid, "gzip");
        check_found(b"package a:b;\nworld w {}", Kind::LoadInvalid, "WIT text");
        check_found(b"(component (core module))", Kind::LoadInvalid, "WebAssembly text");
        check_found(b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7", Kind::LoadInvalid, "not WebAssembly");
        check_found(b"\0asm\x01\0\0\0", Kind::LoadAbi, "core WebAssembly module");
        check_found(b"\0asm\x0c\0\x01\0", Kind::LoadAbi, "unknown version");
    }

    #[test]
    fn a_preview1_command_is_told_apart() {
        let mut module = wasm_encoder::Module::new();
        let mut types = wasm_encoder::TypeSection::new();
        types.ty().function([], []);
        let mut imports = wasm_encoder::ImportSection::new();
        imports.import("wasi_snapshot_preview1", "proc_exit", wasm_encoder::EntityType::Function(0));
        module.section(&types).section(&imports);
        check_found(&module.finish(), Kind::LoadAbi, "WASI preview 1");
    }

    #[test]
    fn text_cut_inside_a_character_is_still_text() {
        check_found("é".repeat(400).as_bytes(), Kind::LoadInvalid, "text file");
        check_found(format!("a{}", "é".repeat(400)).as_bytes(), Kind::LoadInvalid, "text file");
    }
}
