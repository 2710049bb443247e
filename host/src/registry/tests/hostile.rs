//! Files made to hurt: cut, random, changed at random, and bombs. Each is refused, soon, and nothing panics.

use std::time::{Duration, Instant};

use wasm_encoder::{
    BlockType, CodeSection, Component, ComponentBuilder, ComponentExportKind, ComponentTypeSection, ConstExpr,
    Function, FunctionSection, GlobalSection, GlobalType, Instruction, MemorySection, MemoryType, Module,
    ModuleSection, NestedComponentSection, RawSection, TableSection, TableType, TypeSection, ValType,
};

use crate::domain::Kind;

use super::*;

/// A bomb is refused within this; the promise is one second, the rest is for busy machines.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);

const SMALL: &str = "package a:b; interface i { record r { a: u64, b: list<string> } f: func(v: r) -> result<r, string>; } world w { import wasi:io/poll@0.2.3; export i; }
    package wasi:io@0.2.3 { interface poll { resource pollable { ready: func() -> bool; } } }";

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = with_manifest(component(SMALL), r#"{"manifest":0,"component":"a"}"#);
    let complete = exports_end(&bytes);
    for end in 0..complete {
        let failure = read(&bytes[..end], Some("sample"), &Options::default()).unwrap_err();
        assert_eq!(failure.kind, Kind::LoadInvalid, "cut at {end}: {failure}");
    }
    // What is behind the exports says only what is nice to know, and a cut between sections leaves a component.
    for end in complete..=bytes.len() {
        let _ = read(&bytes[..end], Some("sample"), &Options::default());
    }
}

fn exports_end(bytes: &[u8]) -> usize {
    let sections = wasmparser::Parser::new(0).parse_all(bytes).map(Result::unwrap);
    let exports = sections.filter_map(|payload| match payload {
        wasmparser::Payload::ComponentExportSection(exports) => Some(exports.range().end),
        _ => None,
    });
    exports.max().unwrap()
}

/// A small generator of bytes that are the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

#[test]
fn random_bytes_are_refused() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut bytes: Vec<u8> = (0..random.below(600)).map(|_| random.byte()).collect();
        assert!(read(&bytes, None, &Options::default()).is_err(), "seed {seed}");
        bytes.splice(0..0, *b"\0asm\x0d\0\x01\0");
        assert!(read(&bytes, None, &Options::default()).is_err(), "seed {seed}, behind a header");
    }
}

#[test]
fn components_changed_at_random_are_read_or_refused() {
    let original = with_manifest(component(SMALL), r#"{"manifest":0,"component":"a"}"#);
    for seed in 0..1_500 {
        let mut random = Random(seed);
        let mut bytes = original.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.byte(),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random.byte()),
            }
        }
        let result = std::panic::catch_unwind(|| read(&bytes, Some("sample"), &Options::default()));
        let kind = result
            .unwrap_or_else(|_| panic!("panicked at seed {seed}"))
            .map_or_else(|failure| failure.kind, |_| Kind::LoadInvalid);
        assert!(kind.code().starts_with("load."), "seed {seed}: {kind}");
    }
}

/// Expects that a component around `module` is refused soon with `load.limit`.
#[track_caller]
fn check_bomb(module: &Module, text: &str) {
    let mut outer = Component::new();
    outer.section(&ModuleSection(module));
    check_component_bomb(&outer.finish(), text);
}

#[track_caller]
#[expect(clippy::disallowed_methods, reason = "measures how long the refusal takes")]
fn check_component_bomb(bytes: &[u8], text: &str) {
    let start = Instant::now();
    check_refused(bytes, Kind::LoadLimit, &[text]);
    assert!(start.elapsed() < REFUSED_WITHIN, "took {:?}", start.elapsed());
}

/// A module of `count` functions without parameters or results, each with `body`.
fn module_of(count: u32, body: &Function) -> Module {
    let (mut types, mut functions, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([], []);
    for _ in 0..count {
        functions.function(0);
        code.function(body);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&code);
    module
}

fn body(locals: u32, instructions: &[Instruction<'_>]) -> Function {
    let mut function = Function::new([(locals, ValType::I64)]);
    for instruction in instructions {
        function.instruction(instruction);
    }
    function.instruction(&Instruction::End);
    function
}

#[test]
fn nested_loops() {
    let mut instructions = vec![Instruction::Loop(BlockType::Empty); 1_000];
    instructions.extend(vec![Instruction::End; 1_000]);
    check_bomb(&module_of(4, &body(0, &instructions)), "levels of loops");
    // A block between two loops does not hide one of them.
    let mut instructions = Vec::new();
    for _ in 0..129 {
        instructions.extend([Instruction::Loop(BlockType::Empty), Instruction::Block(BlockType::Empty)]);
    }
    instructions.extend(vec![Instruction::End; 258]);
    check_bomb(&module_of(1, &body(0, &instructions)), "129 levels of loops");
}

#[test]
fn nested_blocks() {
    let mut instructions = vec![Instruction::Block(BlockType::Empty); 3_000];
    instructions.extend(vec![Instruction::End; 3_000]);
    check_bomb(&module_of(1, &body(0, &instructions)), "levels of blocks");
}

#[test]
fn blocks_as_deep_as_those_of_interpreters_are_read() {
    // A `switch` is a block for each case: one of CPython's functions has 782 in one another. Loops side by side, as
    // many as one likes, are not nested.
    let nested = |n: usize| [vec![Instruction::Block(BlockType::Empty); n], vec![Instruction::End; n]].concat();
    let aside = (0..500).flat_map(|_| [Instruction::Loop(BlockType::Empty), Instruction::End]).collect();
    for instructions in [nested(782), aside] {
        let mut outer = Component::new();
        outer.section(&ModuleSection(&module_of(1, &body(0, &instructions))));
        // It has no tool, and that is all that is wrong with it.
        check_refused(&outer.finish(), Kind::LoadInvalid, &["function"]);
    }
}

#[test]
fn locals() {
    check_bomb(&module_of(20_000, &body(49_000, &[])), "49000 locals in a function");
    check_bomb(&module_of(1_000, &body(1_900, &[])), "locals in a module");
}

#[test]
fn functions() {
    check_bomb(&module_of(100_001, &body(0, &[])), "100001 functions");
}

#[test]
fn branch_tables() {
    let table = |targets: usize| [Instruction::I32Const(0), Instruction::BrTable(vec![0; targets].into(), 0)];
    check_bomb(&module_of(1, &body(0, &table(20_000))), "20000 targets");
    check_bomb(&module_of(70, &body(0, &table(16_000))), "targets in `br_table`s");
}

#[test]
fn calls_that_move_many_values() {
    let (mut types, mut functions, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function(vec![ValType::I64; 1_000], []);
    functions.function(0);
    let mut instructions = vec![Instruction::Unreachable];
    instructions.extend(vec![Instruction::Call(0); 300_000]);
    code.function(&body(0, &instructions));
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&code);
    check_bomb(&module, "instructions and operands");
}

#[test]
fn memories_and_tables() {
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 65_536,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut module = Module::new();
    module.section(&memories);
    check_bomb(&module, "starts with 4096 MiB of memory, more than the 64 MiB");
    let mut tables = TableSection::new();
    let element_type = wasm_encoder::RefType::FUNCREF;
    tables.table(TableType { element_type, table64: false, minimum: 30_000_000, maximum: None, shared: false });
    let mut module = Module::new();
    module.section(&tables);
    check_bomb(&module, "30000000 elements");
}

#[test]
fn types_and_exports_of_modules() {
    let mut types = TypeSection::new();
    for _ in 0..500_000 {
        types.ty().function([], []);
    }
    let mut module = Module::new();
    module.section(&types);
    check_bomb(&module, "500000 types");
    let mut globals = GlobalSection::new();
    for _ in 0..100_001 {
        globals.global(GlobalType { val_type: ValType::I32, mutable: false, shared: false }, &ConstExpr::i32_const(0));
    }
    let mut module = Module::new();
    module.section(&globals);
    check_bomb(&module, "100001 globals");
}

#[test]
fn ten_thousand_instances() {
    let mut outer = ComponentBuilder::default();
    outer.core_module(None, &Module::new());
    for _ in 0..10_000 {
        outer.core_instantiate(None, 0, []);
    }
    check_component_bomb(&outer.finish(), "instances");
}

#[test]
fn many_instances_of_a_module_with_many_imports() {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut imports = wasm_encoder::ImportSection::new();
    for n in 0..90_000 {
        imports.import("a", &n.to_string(), wasm_encoder::EntityType::Function(0));
    }
    let mut module = Module::new();
    module.section(&types).section(&imports);
    let mut outer = ComponentBuilder::default();
    outer.core_module(None, &module);
    for _ in 0..900 {
        outer.core_instantiate(None, 0, []);
    }
    check_component_bomb(&outer.finish(), "linked imports");
}

#[test]
fn instances_that_multiply_through_nested_components() {
    // Each level instantiates the one below it ten times: 10⁴ core modules in some hundred bytes.
    let mut inner = ComponentBuilder::default();
    inner.core_module(None, &Module::new());
    inner.core_instantiate(None, 0, []);
    for _ in 0..4 {
        let mut outer = ComponentBuilder::default();
        outer.component(None, inner);
        for _ in 0..10 {
            outer.instantiate::<Vec<(String, ComponentExportKind, u32)>, _>(None, 0, vec![]);
        }
        inner = outer;
    }
    check_component_bomb(&inner.finish(), "instances");
}

#[test]
fn components_nested_deep() {
    let mut inner = Component::new();
    for _ in 0..2_000 {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&inner));
        inner = outer;
    }
    check_component_bomb(&inner.finish(), "levels of components");
}

#[test]
fn types_written_deep_inside_one_another() {
    // `(instance (type (instance (type …))))`, far deeper than any stack.
    let mut section = vec![1];
    for _ in 0..200_000 {
        section.extend([0x42, 1, 0x01]);
    }
    section.extend([0x42, 0]);
    let mut outer = Component::new();
    outer.section(&RawSection { id: 7, data: &section });
    check_component_bomb(&outer.finish(), "levels of types in types");
}

#[test]
fn types_that_name_one_another_without_end() {
    // Not written inside one another, so only validation sees the depth: it must not recurse over it.
    let mut outer = Component::new();
    let mut types = ComponentTypeSection::new();
    types.defined_type().list(wasm_encoder::PrimitiveValType::U8);
    for n in 0..50_000 {
        types.defined_type().list(wasm_encoder::ComponentValType::Type(n));
    }
    outer.section(&types);
    check_refused(&outer.finish(), Kind::LoadInvalid, &["too deep"]);
}

#[test]
fn instances_of_instances_without_end() {
    // type n = (instance (export "a" (instance (type n-1)))), through aliases.
    for levels in [2_u32, 60, 120, 200, 10_000] {
        let mut section = Vec::new();
        levels.encode(&mut section);
        section.extend([0x42, 0]);
        for n in 0..levels - 1 {
            // Two declarations: `alias outer 1 n (type 0)`, and `export "a" (instance 0)`.
            section.extend([0x42, 2, 0x02, 0x03, 0x02, 1]);
            n.encode(&mut section);
            section.extend([0x04, 0x00, 1, b'a', 0x05, 0]);
        }
        let mut outer = Component::new();
        outer.section(&RawSection { id: 7, data: &section });
        check_refused(&outer.finish(), Kind::LoadInvalid, &[]);
    }
}

#[test]
fn component_sections_too_large() {
    let mut outer = Component::new();
    let mut types = ComponentTypeSection::new();
    for _ in 0..800_000 {
        types.defined_type().primitive(wasm_encoder::PrimitiveValType::U8);
    }
    outer.section(&types);
    outer.section(&types);
    check_component_bomb(&outer.finish(), "bytes of component sections");
}

#[test]
fn a_component_that_imports_code() {
    let mut outer = ComponentBuilder::default();
    let ty = outer.type_component(None, &wasm_encoder::ComponentType::new());
    outer.import("plugin", wasm_encoder::ComponentTypeRef::Component(ty));
    check_refused(&outer.finish(), Kind::LoadAbi, &["`plugin` is code"]);
}

/// Expects that a module with `module`'s feature is refused with `load.abi`, naming the feature.
#[track_caller]
fn check_feature(module: &Module, text: &str) {
    let mut outer = Component::new();
    outer.section(&ModuleSection(module));
    check_refused(&outer.finish(), Kind::LoadAbi, &["uses what this host does not", text]);
}

#[test]
fn features_that_are_off_are_named() {
    let memory = |memory64: bool, shared: bool, count: usize| {
        let mut memories = MemorySection::new();
        for _ in 0..count {
            let maximum = shared.then_some(1);
            memories.memory(MemoryType { minimum: 1, maximum, memory64, shared, page_size_log2: None });
        }
        let mut module = Module::new();
        module.section(&memories);
        module
    };
    check_feature(&memory(true, false, 1), "memory64");
    check_feature(&memory(false, true, 1), "threads");
    check_feature(&memory(false, false, 2), "multi");
    let relaxed = [
        Instruction::V128Const(0),
        Instruction::V128Const(0),
        Instruction::V128Const(0),
        Instruction::F32x4RelaxedMadd,
        Instruction::Drop,
    ];
    check_feature(&module_of(3, &body(0, &relaxed)), "in function 0");
    let throwing = [Instruction::Unreachable, Instruction::ThrowRef];
    check_feature(&module_of(1, &body(0, &throwing)), "exceptions");
}

#[test]
fn a_core_module_inside_that_is_wrong_is_named() {
    let mut outer = Component::new();
    outer.section(&ModuleSection(&module_of(2, &body(0, &[Instruction::Drop]))));
    check_refused(&outer.finish(), Kind::LoadInvalid, &["not valid", "in function 0"]);
}

#[test]
fn core_modules_and_foreign_files_are_named() {
    check_refused(&module_of(1, &body(0, &[])).finish(), Kind::LoadAbi, &["found a core WebAssembly module"]);
    check_refused(b"\x7fELF\x02\x01\x01\0\0\0\0\0", Kind::LoadInvalid, &["found an ELF binary"]);
    check_refused(SMALL.as_bytes(), Kind::LoadInvalid, &["found WIT text"]);
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", "package a:b; world w { export f: func(); }").unwrap();
    let wit = wit_component::encode(&resolve, package).unwrap();
    check_refused(&wit, Kind::LoadAbi, &["found a WIT package"]);
}
