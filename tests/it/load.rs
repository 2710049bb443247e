//! From a file to code that runs: what is refused, what the compiling child is held to, what the cache believes.
//!
//! Tests bear the identifiers of the catalogue in the threat model, as in `hostile.rs`. Where a bound of reading stops a
//! file, the same file is then sent past it, straight to the child with lowered bounds: the child must die of it, and the
//! host must not. What is good must load with the same bounds.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use cofferdam::clock::{Clock, SystemClock};
use cofferdam::domain::{Contract, Failure, Kind};
use cofferdam::host::{Host, RunHandle, RunState};
use cofferdam::registry::{Options as Reading, VerifiedTool, read};
use cofferdam::sandbox::{CompileLimits, Helper, NoLink, Options, Runner, WasmRunner, raw_compile};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Mutex;
use wasm_encoder::{
    BlockType, CodeSection, Component, ComponentBuilder, ComponentExportKind, ConstExpr, CustomSection, DataSection,
    Encode, EntityType, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType, ImportSection,
    Instruction, MemorySection, MemoryType, Module, NameMap, NameSection, RawSection, RefType, Section, TableSection,
    TableType, TypeSection, ValType,
};

use crate::alone::cases;
use crate::guest::{Rule, assembled, call, helper, kind, options, pause, runner, tool, tool_in, tool_of};
use crate::hostile::{guest, logging};
use crate::runs::{approved, goal};

cases![
    c1_cut_at_each_section,
    c3_nested_loops,
    c3_nested_blocks,
    c4_locals,
    c5_functions,
    c5_types_and_exports,
    c5_names,
    c9_other_versions_of_interfaces,
    c10_manifests,
    c11_manifests_that_say_less_or_more,
    c13_tampered_code,
    c13_code_of_another_component,
    c13_links_and_modes,
    c13_a_cache_that_others_may_use,
];

/// A file is refused within this; the promise is one second, the rest is for busy machines.
const REFUSED_WITHIN_MS: u64 = 5_000;

/// Bombs go off one after the other: they are given a second of processor time each.
static ALONE: Mutex<()> = Mutex::const_new(());

fn reading(bytes: &[u8]) -> Result<Contract, Failure> {
    read(bytes, Some("guest"), &Reading::default())
}

/// Expects that reading `bytes` fails soon, with `kind` and in words that hold `text`.
#[track_caller]
fn refused(bytes: &[u8], kind: Kind, text: &str) -> Failure {
    let clock = SystemClock::default();
    let failure = reading(bytes).expect_err("the file is refused");
    assert_eq!(failure.kind, kind, "{failure:?}");
    assert!(failure.message.contains(text), "expected `{text}` in {failure:?}");
    assert!(clock.monotonic_ms() < REFUSED_WITHIN_MS, "it took {} ms", clock.monotonic_ms());
    failure
}

/// What a child may use whose end a test waits for.
fn lowered() -> Options {
    // With wall time for a machine that does other things as well.
    let compile = CompileLimits { cpu_s_base: 1, cpu_s_per_mib: 0, wall_per_cpu: 30, ..CompileLimits::default() };
    Options { cache_dir: None, compile, ..options() }
}

/// Expects that reading refuses a bomb, and that without reading the child dies of it at its bound.
async fn disarmed(bomb: &[u8], text: &str) {
    let _alone = ALONE.lock().await;
    refused(bomb, Kind::LoadLimit, text);
    let failure = raw_compile(&lowered(), bomb).await.expect_err("the child dies of it");
    assert_eq!(failure.kind, Kind::LoadLimit, "{failure:?}");
    assert!(failure.message.contains("1 s of processor time"), "{failure:?}");
    neighbour().await;
}

/// A good call: the host lives.
async fn neighbour() {
    let outcome = runner()
        .run(call(&tool("text.stats"), &json!({"text": "still here"}), &Rule::default()), Arc::new(NoLink))
        .await;
    assert_eq!(kind(&outcome), None, "{outcome:?}");
}

/// A component whose tool `run` is that function of `module`.
fn around(module: &Module) -> Vec<u8> {
    let mut outer = ComponentBuilder::default();
    let module = outer.core_module(None, module);
    let instance = outer.core_instantiate(None, module, []);
    let run = outer.core_alias_export(None, instance, "run", ExportKind::Func);
    let (ty, mut function) = outer.type_function(None);
    function.params::<[(&str, wasm_encoder::ComponentValType); 0], _>([]).result(None);
    let lifted = outer.lift_func(None, run, ty, []);
    outer.export("run", ComponentExportKind::Func, lifted, None);
    outer.finish()
}

/// A module of `count` functions with this body; the first is `run`.
fn module_of(count: u32, body: &Function) -> Module {
    Shape { functions: vec![(count, body.clone())], ..Shape::default() }.module()
}

fn body(locals: u32, instructions: &[Instruction<'_>]) -> Function {
    let mut function = Function::new([(locals, ValType::I64)]);
    for instruction in instructions {
        function.instruction(instruction);
    }
    function.instruction(&Instruction::End);
    function
}

/// `depth` loops in one another, which read and write every local, so that each has to be carried round each loop.
fn loops(depth: usize, locals: u32) -> Function {
    nested(&Instruction::Loop(BlockType::Empty), depth, locals)
}

fn nested(block: &Instruction<'_>, depth: usize, locals: u32) -> Function {
    let mut instructions = vec![block.clone(); depth];
    for local in 0..locals {
        instructions.extend([
            Instruction::LocalGet(local),
            Instruction::I64Const(1),
            Instruction::I64Add,
            Instruction::LocalSet(local),
        ]);
    }
    for _ in 0..depth {
        instructions.extend([
            Instruction::LocalGet(0),
            Instruction::I32WrapI64,
            Instruction::BrIf(0),
            Instruction::End,
        ]);
    }
    body(locals, &instructions)
}

/// What a module consists of, in numbers.
#[derive(Default)]
struct Shape {
    functions: Vec<(u32, Function)>,
    types: u32,
    imports: u32,
    exports: u32,
    globals: u32,
    data: u32,
    table_elements: u64,
    memory_pages: u64,
}

impl Shape {
    fn module(&self) -> Module {
        let mut module = Module::new();
        let mut types = TypeSection::new();
        for _ in 0..self.types.max(1) {
            types.ty().function([], []);
        }
        module.section(&types);
        self.declarations(&mut module);
        self.exports(&mut module);
        let mut code = CodeSection::new();
        for (count, body) in &self.functions {
            for _ in 0..*count {
                code.function(body);
            }
        }
        module.section(&code);
        let mut data = DataSection::new();
        for _ in 0..self.data {
            data.active(0, &ConstExpr::i32_const(0), [0]);
        }
        if self.data > 0 {
            module.section(&data);
        }
        module
    }

    fn declarations(&self, module: &mut Module) {
        if self.imports > 0 {
            let mut imports = ImportSection::new();
            for n in 0..self.imports {
                imports.import("a", &n.to_string(), EntityType::Function(0));
            }
            module.section(&imports);
        }
        let mut functions = FunctionSection::new();
        for _ in 0..self.functions.iter().map(|(count, _)| count).sum() {
            functions.function(0);
        }
        module.section(&functions);
        if self.table_elements > 0 {
            let mut tables = TableSection::new();
            let element_type = RefType::FUNCREF;
            let (minimum, maximum) = (self.table_elements, None);
            tables.table(TableType { element_type, table64: false, minimum, maximum, shared: false });
            module.section(&tables);
        }
        if self.memory_pages > 0 || self.data > 0 {
            let mut memories = MemorySection::new();
            let minimum = self.memory_pages.max(1);
            memories.memory(MemoryType {
                minimum,
                maximum: None,
                memory64: false,
                shared: false,
                page_size_log2: None,
            });
            module.section(&memories);
        }
        let mut globals = GlobalSection::new();
        for _ in 0..self.globals {
            let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
            globals.global(ty, &ConstExpr::i32_const(0));
        }
        module.section(&globals);
    }

    fn exports(&self, module: &mut Module) {
        let mut exports = ExportSection::new();
        exports.export("run", ExportKind::Func, self.imports);
        for n in 0..self.exports {
            exports.export(&n.to_string(), ExportKind::Func, self.imports);
        }
        module.section(&exports);
    }
}

async fn c1_cut_at_each_section() {
    let whole = fs::read(cofferdam_guests::component("text")).expect("the component reads");
    let sections = wasmparser::Parser::new(0).parse_all(&whole).map(|payload| payload.expect("it is whole"));
    let mut ends = vec![];
    let mut exports_end = 0;
    for payload in sections {
        ends.extend(payload.as_section().map(|(_, range)| [range.start, range.end]).into_iter().flatten());
        if let wasmparser::Payload::ComponentExportSection(exports) = payload {
            exports_end = exports_end.max(exports.range().end);
        }
    }
    assert!(ends.len() > 40, "sections were found: {}", ends.len());
    for at in ends {
        for end in at.saturating_sub(1)..=(at + 1).min(whole.len()) {
            let cut = reading(&whole[..end]);
            // Behind the exports stands only what is nice to know.
            let kind = cut.as_ref().err().map(|failure| failure.kind);
            assert!(kind == Some(Kind::LoadInvalid) || end >= exports_end, "cut at {end}: {cut:?}");
        }
    }
    reading(&whole).expect("the whole file loads");
}

async fn c3_nested_loops() {
    disarmed(&around(&module_of(4, &loops(1_000, 200))), "levels of loops").await;
    let few = around(&module_of(1, &loops(20, 20)));
    reading(&few).expect("loops as deep as QuickJS has them are read");
    raw_compile(&options(), &few).await.expect("and compiled");
}

async fn c3_nested_blocks() {
    // Deep blocks are not slow, as deep loops are: what reading lets pass of them is compiled within the bounds.
    let block = Instruction::Block(BlockType::Empty);
    let deep = around(&module_of(4, &nested(&block, 2_000, 200)));
    reading(&deep).expect("it is read");
    let compile = CompileLimits { cpu_s_base: 20, ..lowered().compile };
    raw_compile(&Options { compile, ..options() }, &deep).await.expect("it is compiled");
    refused(&around(&module_of(1, &nested(&block, 2_050, 0))), Kind::LoadLimit, "levels of blocks");
}

async fn c4_locals() {
    disarmed(&around(&module_of(20_000, &body(49_000, &[]))), "49000 locals in a function").await;
    let few = around(&module_of(20, &body(400, &[])));
    reading(&few).expect("some hundred locals are read");
    raw_compile(&options(), &few).await.expect("and compiled");
}

async fn c5_functions() {
    disarmed(&around(&module_of(500_000, &body(0, &[]))), "500000 functions").await;
}

async fn c5_types_and_exports() {
    let empty = || vec![(1, body(0, &[]))];
    let types = Shape { functions: empty(), types: 1_000_000, ..Shape::default() };
    refused(&around(&types.module()), Kind::LoadLimit, "1000000 types");
    let exports = Shape { functions: empty(), exports: 100_000, ..Shape::default() };
    refused(&around(&exports.module()), Kind::LoadLimit, "100001 exports");
    let some = Shape { functions: empty(), types: 1_000, exports: 1_000, ..Shape::default() };
    reading(&around(&some.module())).expect("a thousand of each are read");
}

async fn c5_names() {
    let named = |bytes: usize| {
        let mut functions = NameMap::new();
        functions.append(0, &"x".repeat(bytes));
        let mut names = NameSection::new();
        names.functions(&functions);
        let mut module = module_of(1, &body(0, &[]));
        module.section(&names);
        around(&module)
    };
    // The file's own bound comes before all others, and before a byte is read.
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("names.wasm");
    fs::write(&file, named(100 << 20)).expect("a file is written");
    let failure = cofferdam::host::inspect(&file, Some("guest"), &Reading::default()).expect_err("it is too large");
    assert_eq!(failure.kind, Kind::LoadLimit, "{failure:?}");
    // Names are no code: as many as fit into a file are read past, and compiled past.
    let large = named(16 << 20);
    reading(&large).expect("a name section is read past");
    raw_compile(&options(), &large).await.expect("and compiled past");
}

/// A component that imports an instance with the function `f`.
fn importing(interface: &str) -> Vec<u8> {
    assembled(&format!(
        "(component (import \"{interface}\" (instance (export \"f\" (func))))
           (core module $m (func (export \"run\"))) (core instance $i (instantiate $m))
           (func (export \"run\") (canon lift (core func $i \"run\"))))"
    ))
}

async fn c9_other_versions_of_interfaces() {
    for (interface, found, ours) in [
        ("cofferdam:tool/log@1.0.0", "1.0.0", "0.1"),
        ("cofferdam:tool/log@0.2.0", "0.2.0", "0.1"),
        ("wasi:cli/environment@1.0.0", "1.0.0", "0.2"),
        ("wasi:cli/environment@0.3.0", "0.3.0", "0.2"),
    ] {
        let failure = refused(&importing(interface), Kind::LoadAbi, found);
        assert!(failure.message.contains(&format!("version {ours}")), "{failure:?}");
    }
    // An older release of the version that is here works, and a newer one that asks for nothing new.
    for release in ["0.2.0", "0.2.3", "0.2.12"] {
        let wat = format!(
            r#"(component
              (import "wasi:random/insecure-seed@{release}" (instance $i (export "insecure-seed" (func (result (tuple u64 u64))))))
              (core module $libc (memory (export "memory") 1)) (core instance $libc (instantiate $libc))
              (core func $seed (canon lower (func $i "insecure-seed") (memory $libc "memory")))
              (core module $m (import "h" "seed" (func $seed (param i32))) (func (export "run") (call $seed (i32.const 0))))
              (core instance $h (export "seed" (func $seed)))
              (core instance $m (instantiate $m (with "h" (instance $h))))
              (func (export "run") (canon lift (core func $m "run"))))"#
        );
        let outcome = runner().run(call(&tool_of(&wat, "run"), &json!({}), &Rule::default()), Arc::new(NoLink)).await;
        assert_eq!(kind(&outcome), None, "{release}: {outcome:?}");
    }
}

/// `bytes` with a manifest section behind them.
fn with_manifest(mut bytes: Vec<u8>, manifest: &[u8]) -> Vec<u8> {
    let section = CustomSection { name: "cofferdam:manifest".into(), data: manifest.into() };
    bytes.push(section.id());
    section.encode(&mut bytes);
    bytes
}

async fn c10_manifests() {
    let bare = || assembled(&guest("(func (export \"run\"))"));
    let good = br#"{"manifest":0,"component":"guest"}"#;
    reading(&with_manifest(bare(), good)).expect("a good manifest is read");
    refused(&with_manifest(with_manifest(bare(), good), good), Kind::LoadInvalid, "expected one section");
    refused(&with_manifest(bare(), &vec![b' '; 10 << 20]), Kind::LoadInvalid, "more than the 262144 allowed");
    refused(&with_manifest(bare(), "[".repeat(100_000).as_bytes()), Kind::LoadInvalid, "recursion limit");
    for invalid in [&b"\xa1\x68manifest\x00"[..], b"", b"{", b"{\"manifest\":0}", b"\xff\xfe"] {
        refused(&with_manifest(bare(), invalid), Kind::LoadInvalid, "manifest");
    }
    // Without a manifest, a component is taken to ask for all that it imports.
    let contract = reading(&assembled(&logging(1, 1))).expect("a manifest may lack");
    assert!(!contract.has_manifest && contract.tools[0].asks.len() == 1, "{contract:?}");
}

async fn c11_manifests_that_say_less_or_more() {
    let manifest = |asks: &str| {
        let manifest = format!(r#"{{"manifest":0,"component":"guest","tools":{{"run":{{"asks":[{asks}]}}}}}}"#);
        tool_in(with_manifest(assembled(&logging(1, 1)), manifest.as_bytes()), "run")
    };
    let run =
        async |tool: &VerifiedTool, rule: &Rule| runner().run(call(tool, &json!({}), rule), Arc::new(NoLink)).await;
    let (silent, honest) = (manifest(""), manifest("\"log\""));
    // It says less: what it does not ask for it does not get, whatever the rule gives.
    let given = Rule::default().gives("log");
    let outcome = run(&silent, &given).await;
    assert_eq!(kind(&outcome), Some(Kind::PolicyDenied), "{outcome:?}");
    assert_eq!(kind(&run(&honest, &given).await), None);
    // It says more than is granted: the call never starts.
    let outcome = run(&honest, &Rule::default()).await;
    assert_eq!((kind(&outcome), outcome.usage.fuel), (Some(Kind::PolicyDenied), 0), "{outcome:?}");
}

/// A cache of its own, and runners of the kinds that meet there.
struct Kept {
    folder: TempDir,
    tool: VerifiedTool,
}

impl Kept {
    /// Compiles a small component into a new cache.
    async fn new() -> Self {
        let kept =
            Self { folder: TempDir::new().expect("a folder"), tool: tool_of(&guest("(func (export \"run\"))"), "run") };
        kept.runs().await;
        assert!(kept.is_there().await, "what was compiled is kept");
        kept
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn runner(&self, helper: Option<Helper>) -> WasmRunner {
        let options = Options { helper, cache_dir: Some(self.directory()), ..options() };
        WasmRunner::new(&options, Arc::new(SystemClock::default())).expect("the machine can run guests")
    }

    /// Runs the tool in a new process's place, one that can compile.
    async fn runs(&self) {
        let call = call(&self.tool, &json!({}), &Rule::default());
        let outcome = self.runner(Some(helper())).run(call, Arc::new(NoLink)).await;
        assert_eq!(kind(&outcome), None, "{outcome:?}");
    }

    /// Whether a process that cannot compile finds the code.
    async fn is_there(&self) -> bool {
        match self.runner(None).prepare(&self.tool).await {
            Ok(()) => true,
            Err(failure) => {
                assert_eq!(failure.kind, Kind::DataConfig, "{failure:?}");
                assert!(failure.hint.as_ref().is_some_and(|hint| hint.contains("helper")), "{failure:?}");
                false
            }
        }
    }

    fn file(&self) -> PathBuf {
        let entries =
            fs::read_dir(self.directory()).expect("the cache lists").map(|entry| entry.expect("an entry").path());
        let mut files = entries.filter(|path| path.extension().is_some_and(|ending| ending == "code"));
        files.next().expect("there is code")
    }

    /// Expects that the entry, as it is now, is ignored, and then replaced by what compiling gives.
    async fn is_replaced(&self, what: &str) {
        assert!(!self.is_there().await, "{what} is believed");
        self.runs().await;
        assert!(self.is_there().await, "{what} is not replaced");
        assert!(fs::symlink_metadata(self.file()).expect("it is there").is_file(), "{what}");
    }
}

async fn c13_tampered_code() {
    let kept = Kept::new().await;
    let good = fs::read(kept.file()).expect("the code reads");
    for at in [0, 31, 32, good.len() / 2, good.len() - 1] {
        let mut changed = good.clone();
        changed[at] ^= 1;
        fs::write(kept.file(), &changed).expect("it is written");
        kept.is_replaced(&format!("code with byte {at} changed")).await;
    }
    for end in [0, 16, 32, good.len() - 1] {
        fs::write(kept.file(), &good[..end]).expect("it is written");
        kept.is_replaced(&format!("code cut at {end}")).await;
    }
    fs::write(kept.file(), [&good[..], b"more"].concat()).expect("it is written");
    kept.is_replaced("code with more behind it").await;
    // Code that was sealed elsewhere, for the very same component: a new key makes all that was sealed before foreign.
    fs::remove_file(kept.directory().join("key")).expect("it is removed");
    kept.is_replaced("code of another host").await;
}

async fn c13_code_of_another_component() {
    let kept = Kept::new().await;
    let (file, good) = (kept.file(), fs::read(kept.file()).expect("the code reads"));
    let other = tool_of(&guest("(func (export \"run\") unreachable)"), "run");
    kept.runner(Some(helper())).prepare(&other).await.expect("it compiles");
    let others = fs::read_dir(kept.directory()).expect("the cache lists").map(|entry| entry.expect("an entry").path());
    let others: Vec<_> = others.filter(|path| *path != file && path.extension().is_some()).collect();
    let [theirs] = &others[..] else { panic!("one other: {others:?}") };
    fs::copy(theirs, &file).expect("it is copied");
    assert!(!kept.is_there().await, "code under another's name is believed");
    fs::write(&file, good).expect("it is written");
    assert!(kept.is_there().await, "it is the name that was wrong");
}

async fn c13_links_and_modes() {
    let kept = Kept::new().await;
    let elsewhere = kept.folder.path().join("elsewhere");
    fs::rename(kept.file(), &elsewhere).expect("it is moved");
    let name = {
        kept.runs().await;
        let name = kept.file();
        fs::remove_file(&name).expect("it is removed");
        name
    };
    symlink(&elsewhere, &name).expect("a link is made");
    kept.is_replaced("a link to good code").await;
    assert!(elsewhere.is_file(), "what a link points at is left alone");
    for mode in [0o644, 0o622, 0o640] {
        fs::set_permissions(kept.file(), fs::Permissions::from_mode(mode)).expect("the mode is set");
        kept.is_replaced("code that others may use").await;
    }
    fs::remove_file(kept.file()).expect("it is removed");
    fs::create_dir(&name).expect("a folder is made");
    assert!(!kept.is_there().await, "a folder is believed");
    kept.runs().await;
}

async fn c13_a_cache_that_others_may_use() {
    let kept = Kept::new().await;
    let set = |mode| fs::set_permissions(kept.directory(), fs::Permissions::from_mode(mode)).expect("the mode is set");
    for mode in [0o777, 0o770, 0o755, 0o701] {
        set(mode);
        assert!(!kept.is_there().await, "a cache of mode {mode:o} is used");
        kept.runs().await;
    }
    set(0o700);
    assert!(kept.is_there().await, "it was the mode");
    let real = kept.folder.path().join("real");
    fs::rename(kept.directory(), &real).expect("it is moved");
    symlink(&real, kept.directory()).expect("a link is made");
    assert!(!kept.is_there().await, "a link to a cache is used");
    kept.runs().await;
}

#[tokio::test]
async fn what_is_kept_is_loaded_and_not_compiled() {
    let kept = Kept::new().await;
    // A helper that would fail: nobody asks it.
    let runner = kept.runner(Some(Helper::Path("/nonexistent".into())));
    runner.prepare(&kept.tool).await.expect("it loads");
    let other = tool_of(&guest("(func (export \"run\") nop)"), "run");
    let failure = runner.prepare(&other).await.expect_err("nobody can compile it");
    assert_eq!(failure.kind, Kind::DataConfig, "{failure:?}");
}

#[tokio::test]
async fn two_who_compile_the_same_at_once_both_succeed() {
    let folder = TempDir::new().expect("a folder");
    let tool = tool_of(&guest("(func (export \"run\"))"), "run");
    let kept = Kept { folder, tool };
    let runners: Vec<_> = (0..4).map(|_| kept.runner(Some(helper()))).collect();
    let mut preparing = tokio::task::JoinSet::new();
    for runner in runners {
        let tool = kept.tool.clone();
        preparing.spawn(async move { runner.prepare(&tool).await });
    }
    while let Some(prepared) = preparing.join_next().await {
        prepared.expect("it ends").expect("it compiles");
    }
    assert!(kept.is_there().await);
}

#[tokio::test]
async fn a_bomb_that_reading_lets_pass_ends_its_child_once() {
    let _alone = ALONE.lock().await;
    // Within every bound of reading: each function is honest, and there are too many.
    let bomb = around(&module_of(300, &loops(120, 200)));
    reading(&bomb).expect("it is read");
    let tool = tool_in(bomb, "run");
    let runner = WasmRunner::new(&lowered(), Arc::new(SystemClock::default())).expect("the machine can run guests");
    let failure = runner.prepare(&tool).await.expect_err("the child dies of it");
    assert_eq!(failure.kind, Kind::LoadLimit, "{failure:?}");
    assert!(failure.message.contains("1 s of processor time"), "{failure:?}");
    // It is not lit again for the next call.
    let clock = SystemClock::default();
    let outcome = runner.run(call(&tool, &json!({}), &Rule::default()), Arc::new(NoLink)).await;
    assert_eq!(outcome.result.err(), Some(failure));
    assert!(clock.monotonic_ms() < 500, "it took {} ms", clock.monotonic_ms());
    neighbour().await;
}

#[tokio::test]
async fn a_child_out_of_memory_is_told_from_one_out_of_time() {
    let _alone = ALONE.lock().await;
    // One function of straight code: its size is what it costs.
    let code: Vec<_> = (0..150_000).flat_map(|_| [Instruction::Call(0), Instruction::Nop]).collect();
    let bomb = around(&module_of(1, &body(0, &code)));
    let with = |memory_bytes_base| {
        let compile =
            CompileLimits { memory_bytes_base, memory_bytes_per_byte: 0, cpu_s_base: 60, ..CompileLimits::default() };
        Options { compile, ..options() }
    };
    let failure = raw_compile(&with(640 << 20), &bomb).await.expect_err("its memory ends");
    assert_eq!(failure.kind, Kind::LoadLimit, "{failure:?}");
    assert!(failure.message.contains("640 MiB of address space"), "{failure:?}");
    raw_compile(&with(4 << 30), &bomb).await.expect("with more memory it ends well");
    neighbour().await;
}

/// A program of the tests in place of a helper: a script of the shell.
struct Script(TempDir);

impl Script {
    fn new(text: &str) -> Self {
        let script = Self(TempDir::new().expect("a folder"));
        fs::write(script.path(), format!("#!/bin/sh\n{text}\n")).expect("a script is written");
        fs::set_permissions(script.path(), fs::Permissions::from_mode(0o700)).expect("the mode is set");
        script
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("helper")
    }

    async fn compiles(&self) -> Failure {
        let compile = CompileLimits { wall_per_cpu: 2, ..lowered().compile };
        let options = Options { helper: Some(Helper::Path(self.path())), compile, ..lowered() };
        raw_compile(&options, &assembled("(component)")).await.expect_err("no script compiles")
    }
}

/// A host whose one tool is compiled by a script, and whose calls may take half a second.
struct Slow {
    _script: Script,
    _folder: TempDir,
    host: Host,
}

impl Slow {
    fn new(script: &str) -> Self {
        let (script, folder) = (Script::new(script), TempDir::new().expect("a folder"));
        let file = folder.path().join("guest.wasm");
        fs::write(&file, assembled(&guest("(func (export \"run\"))"))).expect("a component is written");
        let builder = Host::builder().helper(Helper::Path(script.path())).tool("guest", file);
        let policy = Rule::default().limit("wall_ms_max", 500).policy();
        let host = builder.policy(policy).build().expect("the host is made");
        Self { _script: script, _folder: folder, host }
    }

    async fn start(&self) -> RunHandle {
        let flow = "workflow = 'one'\ngoal = 'Run.'\n[[steps]]\nid = 'run'\ntool = 'guest.run'\nargs = {}";
        self.host.start(goal(flow), approved()).await.expect("it starts")
    }
}

/// A helper that takes a second and a half before it does what it is for.
fn sleepy() -> String {
    format!("sleep 1.5; exec {} \"$@\"", env!("CARGO_BIN_EXE_cofferdam"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_compilation_is_no_part_of_the_calls_time() {
    let report = Slow::new(&sleepy()).host.call("guest.run", json!({})).await.expect("it is called");
    assert_eq!(kind(&report.outcome), None, "{report:?}");
    assert!(report.outcome.usage.wall_ms < 500, "{report:?}");
    let slow = Slow::new(&sleepy());
    let report = slow.start().await.finished().await.expect("it is driven");
    assert_eq!(report.state, RunState::Succeeded, "{report:#?}");
    assert!(report.steps[0].usage.as_ref().is_some_and(|usage| usage.wall_ms < 500), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_does_not_compile_fails_its_step_with_the_reason() {
    let slow = Slow::new("kill -SEGV $$");
    let report = slow.start().await.finished().await.expect("it is driven");
    assert!(matches!(report.state, RunState::Failed), "{report:#?}");
    let failure = report.steps[0].failure.as_ref().expect("the step failed");
    assert_eq!(failure.kind, Kind::LoadInvalid, "{failure:?}");
    let report = slow.host.call("guest.run", json!({})).await.expect("it is on record");
    assert_eq!(kind(&report.outcome), Some(Kind::LoadInvalid), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_does_not_wait_for_a_compilation() {
    let slow = Slow::new("exec sleep 30");
    let clock = SystemClock::default();
    let run = slow.start().await;
    pause(300).await;
    run.cancel("ann").await.expect("it is told");
    let report = run.finished().await.expect("it is driven");
    assert_eq!(report.state, RunState::Cancelled, "{report:#?}");
    assert!(clock.monotonic_ms() < 10_000, "it took {} ms", clock.monotonic_ms());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_was_killed_is_not_started_again_for_each_who_waited() {
    let folder = TempDir::new().expect("a folder");
    let count = folder.path().join("count");
    let script = Script::new(&format!("echo x >> {}; sleep 0.5; kill -KILL $$", count.display()));
    let options = Options { helper: Some(Helper::Path(script.path())), ..lowered() };
    let runner = WasmRunner::new(&options, Arc::new(SystemClock::default())).expect("the machine can run guests");
    let (runner, tool) = (Arc::new(runner), tool_of(&guest("(func (export \"run\"))"), "run"));
    let mut preparing = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (runner, tool) = (runner.clone(), tool.clone());
        preparing.spawn(async move { runner.prepare(&tool).await });
    }
    while let Some(prepared) = preparing.join_next().await {
        let failure = prepared.expect("it ends").expect_err("no script compiles");
        assert!(failure.message.contains("was killed"), "{failure:?}");
    }
    assert_eq!(fs::read_to_string(&count).expect("it was started"), "x\n");
}

#[tokio::test]
async fn a_helper_that_does_something_else_is_told_so() {
    for (script, kind, text) in [
        ("exit 0", Kind::DataConfig, "ended without an answer"),
        ("echo 'usage: helper'", Kind::DataConfig, "it is no helper"),
        ("printf '\\011\\000\\000\\000\\000\\000\\000\\000\\000'", Kind::DataConfig, "it is no helper"),
        ("printf '\\003\\000\\000\\000\\000\\000\\000\\000\\000'", Kind::DataConfig, "for another engine"),
        ("printf '\\000\\000\\000\\000\\000\\000\\000\\000\\177'", Kind::LoadLimit, "MiB of code"),
        ("kill -SEGV $$", Kind::LoadInvalid, "crashed on it (signal 11)"),
        ("exec sleep 60", Kind::LoadLimit, "it took longer than 2 s"),
        ("yes >&2", Kind::LoadLimit, "it took longer than 2 s"),
    ] {
        let clock = SystemClock::default();
        let failure = Script::new(script).compiles().await;
        assert_eq!(failure.kind, kind, "{script}: {failure:?}");
        assert!(failure.message.contains(text), "{script}: {failure:?}");
        assert!(failure.message.len() < 300 && failure.detail.is_none_or(|detail| detail.len() < 5_000), "{script}");
        assert!(clock.monotonic_ms() < 10_000, "{script}: it took {} ms", clock.monotonic_ms());
    }
    let options = Options { helper: Some(Helper::Path("/nonexistent".into())), ..lowered() };
    let failure = raw_compile(&options, &assembled("(component)")).await.expect_err("it is not there");
    assert_eq!(failure.kind, Kind::DataConfig, "{failure:?}");
}

/// What the kernel tells of a process.
struct Process(PathBuf);

impl Process {
    /// Waits for the child of `parent` that compiles under `cpu_s` seconds, and for it to have bounded itself.
    async fn compiling(parent: u32, cpu_s: u64) -> Self {
        for _ in 0..2_000 {
            let found = fs::read_dir("/proc").expect("processes list").filter_map(|entry| Some(entry.ok()?.path()));
            let found = found.map(Self).find(|process| {
                let arguments = process.text("cmdline");
                let is_child = process.text("status").contains(&format!("PPid:\t{parent}\n"));
                is_child && arguments.contains("cofferdam:compile") && arguments.ends_with(&format!("\0{cpu_s}\0"))
            });
            // Its compiler's threads start last of all.
            if let Some(process) = found.filter(|process| !process.text("status").contains("Threads:\t1\n")) {
                return process;
            }
            pause(10).await;
        }
        panic!("no child compiles");
    }

    fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.0.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn descriptors(&self) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(self.0.join("fd")).expect("descriptors list").filter_map(Result::ok);
        let mut all: Vec<_> = entries
            .map(|entry| {
                (entry.file_name().to_string_lossy().into_owned(), fs::read_link(entry.path()).unwrap_or_default())
            })
            .collect();
        all.sort();
        all
    }

    /// The bound that the kernel holds it to: soft and hard.
    fn limit(&self, name: &str) -> Vec<String> {
        let limits = self.text("limits");
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {limits}"));
        line[name.len()..].split_whitespace().take(2).map(str::to_owned).collect()
    }

    /// Waits until it is gone, for five seconds.
    async fn ends(&self) {
        for _ in 0..500 {
            if !self.is_alive() {
                return;
            }
            pause(10).await;
        }
        panic!("it lives on");
    }

    fn is_alive(&self) -> bool {
        let status = self.text("status");
        !status.is_empty() && !status.contains("State:\tZ")
    }
}

#[tokio::test]
async fn the_child_has_its_pipes_its_bounds_and_nothing_else() {
    let _alone = ALONE.lock().await;
    // A descriptor that every child of this process inherits.
    let leaked = fs::File::open("/proc/self/stat").expect("a file opens");
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).expect("it is to be inherited");
    let heirs = Command::new("ls").args(["-l", "/proc/self/fd"]).output().expect("a child starts");
    let heirs = String::from_utf8_lossy(&heirs.stdout).into_owned();
    assert!(heirs.contains("/stat"), "another child inherits it: {heirs}");
    let compile = CompileLimits { cpu_s_base: 7, cpu_s_per_mib: 0, ..CompileLimits::default() };
    let options = Options { compile, ..lowered() };
    let bomb = around(&module_of(4, &loops(1_000, 200)));
    let compiling = tokio::spawn(async move { raw_compile(&options, &bomb).await });
    let child = Process::compiling(std::process::id(), 7).await;
    assert_eq!(child.text("environ"), "", "it has variables");
    let descriptors = child.descriptors();
    assert_eq!(descriptors.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["0", "1", "2"], "{descriptors:?}");
    assert!(descriptors.iter().all(|(_, what)| what.to_string_lossy().starts_with("pipe:")), "{descriptors:?}");
    assert_eq!(fs::read_link(child.0.join("cwd")).expect("it is somewhere"), Path::new("/"));
    assert!(child.text("status").contains("NoNewPrivs:\t1"), "it may gain privileges");
    assert_eq!(child.text("oom_score_adj"), "1000\n", "others are killed before it");
    assert_eq!(child.limit("Max cpu time"), ["7", "8"]);
    assert_eq!(child.limit("Max core file size"), ["0", "0"]);
    assert_eq!(child.limit("Max file size"), ["0", "0"]);
    assert_eq!(child.limit("Max open files"), ["16", "16"]);
    let memory: u64 = child.limit("Max address space")[1].parse().expect("it is bounded");
    assert!((1 << 30..2 << 30).contains(&memory), "{memory}");
    // Where this kernel lets programs have networks of their own, it has one, with nobody in it.
    if Command::new("unshare").args(["-Un", "true"]).status().is_ok_and(|status| status.success()) {
        let network = |process: &Path| fs::read_link(process.join("ns/net")).expect("it has a network");
        assert_ne!(network(&child.0), network(Path::new("/proc/self")));
    }
    // Nobody waits any more: it ends.
    compiling.abort();
    child.ends().await;
}

#[tokio::test]
async fn the_child_dies_with_its_host() {
    let _alone = ALONE.lock().await;
    let shop = Program::new(&around(&module_of(300, &loops(120, 200))));
    let mut host = shop.command(&["call", "guest.run"]).spawn().expect("the program starts");
    // Left alone it would compile for 22 s of processor time: 20, and two for the first MiB.
    let child = Process::compiling(host.id(), 22).await;
    assert!(child.is_alive());
    host.kill().expect("it is killed, and cannot clean up");
    host.wait().expect("it is gone");
    child.ends().await;
}

#[test]
fn a_program_that_lacks_the_first_line_is_told_so() {
    // This one lacks it.
    let build = |helper| Host::builder().helper(helper).build().map(drop);
    let failure = build(Helper::SelfExec).expect_err("it cannot be its own helper");
    assert_eq!(failure.kind, Kind::DataConfig, "{failure:?}");
    assert!(failure.hint.as_ref().is_some_and(|hint| hint.contains("cofferdam::helper_main();")), "{failure:?}");
    build(helper()).expect("it can have another");
}

/// The program of the command line, as a copy that stands alone: no other program beside it, and no search path.
struct Program(TempDir);

impl Program {
    /// Makes one with the component `guest`.
    fn new(guest: &[u8]) -> Self {
        let program = Self(TempDir::new().expect("a folder"));
        let write = |name: &str, text: &[u8]| fs::write(program.path(name), text).expect("a file is written");
        write("guest.wasm", guest);
        write("cofferdam.toml", b"version = 0\n[tools]\nguest = 'guest.wasm'\n");
        write("policy.toml", b"version = 0\n[[rule]]\nname = 'a'\nwhy = 'A test.'\nallow = ['*']\napproval = 'none'\n");
        fs::copy(env!("CARGO_BIN_EXE_cofferdam"), program.path("own-name")).expect("it is copied");
        program
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path("own-name"));
        command.args(args).current_dir(self.0.path()).env_clear().env("HOME", self.0.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

#[test]
fn a_program_can_be_its_own_helper() {
    // It begins with that line, and chooses nobody: what it calls, it compiled itself.
    let program = Program::new(&assembled(&guest("(func (export \"run\"))")));
    let output = program.command(&["call", "guest.run"]).output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kept = fs::read_dir(program.path(".cache/cofferdam")).expect("it is kept where the user's cache is");
    assert_eq!(kept.count(), 1, "the code alone");
    assert!(program.path(".local/state/cofferdam/cache/key").is_file(), "the key is kept where the user's state is");
}

/// The validator of wasmparser panics at these types. The file is refused, and that is all that is told of it.
#[test]
fn a_file_that_decoders_panic_at_leaves_no_panic_in_the_log() {
    // type n = (instance (export "a" (instance (type n-1)))), through aliases.
    let mut data = Vec::new();
    200_u32.encode(&mut data);
    data.extend([0x42, 0]);
    for n in 0..199_u32 {
        data.extend([0x42, 2, 0x02, 0x03, 0x02, 1]);
        n.encode(&mut data);
        data.extend([0x04, 0x00, 1, b'a', 0x05, 0]);
    }
    let mut tangled = Component::new();
    tangled.section(&RawSection { id: 7, data: &data });
    let output = Program::new(&tangled.finish()).command(&["call", "guest.run"]).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("too tangled"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

/// Components with the figures of real ones, which were measured with `measured` below: a Python interpreter with its
/// libraries (componentize-py 0.25), StarlingMonkey (componentize-js 0.23), QuickJS (componentize-qjs), and, as told by
/// those who built one, a Go program.
#[test]
fn components_of_the_shape_of_real_ones_are_read() {
    let nop = || body(0, &[]);
    let blocks = |depth: usize| {
        body(0, &[vec![Instruction::Block(BlockType::Empty); depth], vec![Instruction::End; depth]].concat())
    };
    let table = |targets: usize| body(0, &[Instruction::I32Const(0), Instruction::BrTable(vec![0; targets].into(), 0)]);
    let python = Shape {
        functions: vec![
            (13_473, nop()),
            (1, blocks(782)),
            (1, body(271, &[])),
            (1, loops(6, 20)),
            (1, table(6_406)),
            (14, table(6_163)),
        ],
        types: 509,
        exports: 1_857,
        globals: 871,
        data: 1_773,
        table_elements: 5_670,
        memory_pages: 197,
        ..Shape::default()
    };
    let starling = Shape {
        functions: vec![(12_702, nop()), (4, blocks(457)), (100, table(444))],
        types: 140,
        data: 10_000,
        table_elements: 7_688,
        memory_pages: 145,
        ..Shape::default()
    };
    let quick = Shape {
        functions: vec![(1_634, nop()), (1, blocks(282)), (1, loops(21, 86)), (40, table(254))],
        types: 127,
        data: 5_283,
        table_elements: 737,
        memory_pages: 22,
        ..Shape::default()
    };
    let go = Shape { functions: vec![(4_000, nop()), (100, table(1_483))], memory_pages: 64, ..Shape::default() };
    for (shape, what) in [(python, "Python"), (starling, "StarlingMonkey"), (quick, "QuickJS"), (go, "Go")] {
        reading(&around(&shape.module())).unwrap_or_else(|failure| panic!("{what}: {failure}"));
    }
}

/// CPython has 38 core instances, one for each of its libraries, two tables and one memory; QuickJS two memories, and
/// values that composed components hand each other.
#[tokio::test]
async fn components_with_as_many_instances_as_real_ones_run() {
    let wat = format!(
        r#"(component
          (core module $own (memory (export "memory") 197) (table 5670 funcref) (table 737 funcref)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
          (core instance $own (instantiate $own))
          (core module $other (memory 22) (func (export "run")))
          (core instance $other (instantiate $other))
          (core module $library (import "a" "memory" (memory 1)) (global (mut i32) (i32.const 0)))
          {}
          (func (export "run") (canon lift (core func $other "run"))))"#,
        "(core instance (instantiate $library (with \"a\" (instance $own))))".repeat(36),
    );
    let outcome = runner().run(call(&tool_of(&wat, "run"), &json!({}), &Rule::default()), Arc::new(NoLink)).await;
    assert_eq!(kind(&outcome), None, "{outcome:?}");
    let tables = (5_670 + 737) * 16;
    assert_eq!(outcome.usage.memory_bytes_peak, ((197 + 22) << 16) + tables, "{:?}", outcome.usage);
    // What no pool here has room for is refused as too much, and not as damaged.
    for tables in [8, 9] {
        let module = format!("{} (func (export \"run\"))", "(table 1 funcref)".repeat(tables));
        let prepared = runner().prepare(&tool_of(&guest(&module), "run")).await.map_err(|failure| failure.kind);
        assert_eq!(prepared, if tables > 8 { Err(Kind::LoadLimit) } else { Ok(()) }, "{tables} tables");
    }
}

/// Values that one component hands to another inside a third: wasmtime writes a module between them that uses two
/// memories, which no guest may.
#[tokio::test]
async fn composed_components_hand_each_other_text() {
    let wat = r#"(component
      (component $taker
        (core module $m (memory (export "memory") 1)
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
          (func (export "take") (param i32 i32) (if (i32.ne (i32.load8_u (i32.const 66)) (i32.const 0x78)) (then unreachable))))
        (core instance $i (instantiate $m))
        (func (export "take") (param "text" string)
          (canon lift (core func $i "take") (memory $i "memory") (realloc (func $i "realloc")))))
      (component $giver
        (import "take" (func $take (param "text" string)))
        (core module $libc (memory (export "memory") 1) (data (i32.const 0) "text"))
        (core instance $libc (instantiate $libc))
        (core func $take (canon lower (func $take) (memory $libc "memory")))
        (core module $m (import "h" "take" (func $take (param i32 i32)))
          (func (export "run") (call $take (i32.const 0) (i32.const 4))))
        (core instance $h (export "take" (func $take)))
        (core instance $i (instantiate $m (with "h" (instance $h))))
        (func (export "run") (canon lift (core func $i "run"))))
      (instance $taker (instantiate $taker))
      (instance $giver (instantiate $giver (with "take" (func $taker "take"))))
      (export "run" (func $giver "run")))"#;
    let outcome = runner().run(call(&tool_of(wat, "run"), &json!({}), &Rule::default()), Arc::new(NoLink)).await;
    assert_eq!(kind(&outcome), None, "{outcome:?}");
}

const WORDS_WIT: &str = "package tools:words@0.1.0;
    interface words { count: func(text: string) -> result<u32, string>; }
    world tool { export words; }";

const WORDS_JS: &str = r#"export const words = { count(text) {
    if (text === "") throw "nothing to count";
    return text.split(/\s+/).filter((word) => word !== "").length;
} };"#;

const WORDS_PY: &str = r#"from wit_world import exports
from componentize_py_types import Err

class Words(exports.Words):
    def count(self, text: str) -> int:
        if text == "":
            raise Err("nothing to count")
        return len(text.split())
"#;

const STARLING_MJS: &str = r#"import { componentize } from '@bytecodealliance/componentize-js';
import { readFile, writeFile } from 'node:fs/promises';
const disableFeatures = ['http', 'fetch-event'];
const options = { witPath: 'words.wit', worldName: 'tool', disableFeatures };
const { component } = await componentize(await readFile('words.js', 'utf8'), options);
await writeFile('starling.wasm', component);
"#;

/// Builds the same tool with three toolchains, in a folder that is kept for the next time.
fn real_components() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("real");
    fs::create_dir_all(&folder).expect("a folder is made");
    for (name, text) in
        [("words.wit", WORDS_WIT), ("words.js", WORDS_JS), ("words_py.py", WORDS_PY), ("starling.mjs", STARLING_MJS)]
    {
        fs::write(folder.join(name), text).expect("a file is written");
    }
    let npm = "test -d node_modules || npm install --no-audit --no-fund componentize-qjs@0 @bytecodealliance/componentize-js@0.23";
    let python =
        "test -x venv/bin/componentize-py || (python3 -m venv venv && venv/bin/pip install -q componentize-py==0.25.1)";
    for (made, commands) in [
        ("quick.wasm", [npm, "npx componentize-qjs --sync --wit words.wit --js words.js -n tool -o quick.wasm"]),
        ("starling.wasm", [npm, "node starling.mjs"]),
        // CPython imports sockets unless it is told that there are none.
        (
            "python.wasm",
            [python, "venv/bin/componentize-py -d words.wit -w tool componentize --stub-wasi words_py -o python.wasm"],
        ),
    ] {
        for command in commands.iter().filter(|_| !folder.join(made).exists()) {
            let done = Command::new("sh").args(["-c", command]).current_dir(&folder).status().expect("a shell starts");
            assert!(done.success(), "{command}");
        }
    }
    ["quick.wasm", "starling.wasm", "python.wasm"].map(|name| folder.join(name)).into()
}

/// Real components of JavaScript and Python load and run under the default limits. It needs npm, Node and Python with
/// their registries, some 500 MB of disk, and minutes:
/// `cargo test -p cofferdam --test it real_components -- --ignored --nocapture`
#[tokio::test]
#[ignore = "builds components with npm and pip: see above"]
async fn real_components_are_read_compiled_and_run() {
    // Wall time for a machine that does other things as well, and a compiler that is not optimised.
    let compile = CompileLimits { wall_per_cpu: 20, cpu_s_base: 60, ..CompileLimits::default() };
    let options = Options { compile, ..options() };
    let new_runner =
        || WasmRunner::new(&options, Arc::new(SystemClock::default())).expect("the machine can run guests");
    for file in real_components() {
        let bytes = fs::read(&file).expect("the component reads");
        println!("{}: {} bytes; {}", file.display(), bytes.len(), measured(&bytes));
        let tool = tool_in(bytes, "count");
        // The deadline of a call is not for the first compilation of an interpreter.
        let clock = SystemClock::default();
        new_runner().prepare(&tool).await.unwrap_or_else(|failure| panic!("{}: {failure:?}", file.display()));
        let compiled_ms = clock.monotonic_ms();
        let again = new_runner();
        let clock = SystemClock::default();
        again.prepare(&tool).await.expect("it loads from the cache");
        println!("  first load {compiled_ms} ms, from the cache {} ms", clock.monotonic_ms());
        for (text, expected) in [("one two three", Some(json!(3))), ("", None)] {
            let outcome = again.run(call(&tool, &json!({ "text": text }), &Rule::default()), Arc::new(NoLink)).await;
            println!("  {:?}", outcome.usage);
            assert!(expected.is_some() || kind(&outcome) == Some(Kind::ToolDeclared), "{outcome:?}");
            assert_eq!(outcome.result.ok(), expected, "{}", file.display());
        }
    }
}

/// The figures of a component that bounds of reading are about.
fn measured(bytes: &[u8]) -> String {
    use wasmparser::{Instance, Operator, Payload};
    let (mut functions, mut instances, mut data) = (0, 0, 0);
    let (mut blocks, mut loops, mut locals, mut targets, mut targets_all) = (0, 0, 0, 0, 0);
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        match payload.expect("it is whole") {
            Payload::FunctionSection(section) => functions += section.count(),
            Payload::DataSection(section) => data = data.max(section.count()),
            Payload::InstanceSection(section) => {
                let made = section.into_iter().filter(|i| matches!(i, Ok(Instance::Instantiate { .. })));
                instances += made.count();
            }
            Payload::CodeSectionEntry(body) => {
                let groups = body.get_locals_reader().expect("locals").into_iter();
                locals = locals.max(groups.map(|group| group.expect("locals").0).sum());
                let mut open = vec![false];
                for operator in body.get_operators_reader().expect("code") {
                    match operator.expect("code") {
                        Operator::Block { .. } | Operator::If { .. } => open.push(false),
                        Operator::Loop { .. } => open.push(true),
                        Operator::End => drop(open.pop()),
                        Operator::BrTable { targets: table } => {
                            targets = targets.max(table.len());
                            targets_all += table.len();
                        }
                        _ => continue,
                    }
                    blocks = blocks.max(open.len());
                    loops = loops.max(open.iter().filter(|is_loop| **is_loop).count());
                }
            }
            _ => {}
        }
    }
    format!(
        "{functions} functions, {instances} core instances, {data} data segments, blocks {blocks} deep, loops {loops} \
         deep, {locals} locals, {targets} targets in one `br_table` of {targets_all}"
    )
}
