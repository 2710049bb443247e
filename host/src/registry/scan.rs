//! Measures a file before anything heavier looks at it.
//!
//! Promises: one pass, linear in the file, that refuses what would make validation, decoding or compilation take more
//! than their share: their work is bounded by the constants below. Says nothing of validity: that is `decode`'s.

use wasmparser::{
    BinaryReader, BlockType, ComponentAlias, ComponentExternName, ComponentExternalKind, ComponentImport,
    ComponentInstance, ComponentOuterAliasKind, ComponentType, ComponentTypeRef, CoreType, Encoding, FunctionBody,
    Instance, MemoryType, Operator, Parser, Payload, SectionLimited, TypeRef, WasmFeatures,
};

use crate::domain::{Failure, Kind};

use super::decode::malformed;
use super::verify::Options;

/// Name of the custom section that holds a manifest.
pub(super) const MANIFEST_SECTION: &str = "cofferdam:manifest";
/// Name of the custom section that holds documentation, which the decoder reads as JSON.
const DOCS_SECTION: &str = "package-docs";

/// Functions with a body, in all modules. A CPython interpreter has 13,473.
const FUNCTIONS_MAX: u64 = 100_000;
/// Core modules. A CPython component with its native libraries has a few dozen.
const CORE_MODULES_MAX: u64 = 256;
/// Components, the outermost included. Tools emit one for each exported interface.
const COMPONENTS_MAX: u64 = 1_000;
/// Levels of components in components. Composed components have two or three.
const COMPONENT_DEPTH_MAX: u64 = 8;
/// Levels of types written inside one another. Tools emit two; the decoder recurses over them.
const TYPE_DECLARATIONS_DEPTH_MAX: u32 = 8;
/// Instances made when the component starts, those of nested components counted each time they are instantiated.
const INSTANCES_MAX: u64 = 1_000;
/// Imports linked when the component starts, counted for each instance. CPython with its libraries links some 50,000.
const LINKS_MAX: u64 = 2_000_000;
/// Bytes of the sections outside core modules: types, imports, exports, glue. A component with all of WASI has 20 KiB.
const COMPONENT_SECTION_BYTES_MAX: u64 = 1024 * 1024;
/// The same, counted again for each instantiation: the compiler unfolds nested components.
const UNFOLDED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Entries of one section of a core module, but code. As many as functions: each may be imported, exported or typed.
const SECTION_ENTRIES_MAX: u64 = 100_000;
/// Locals of one function. Generated interpreters have some hundreds; compilation grows faster than their number.
const LOCALS_MAX: u64 = 2_000;
/// Locals of all functions of a module.
const MODULE_LOCALS_MAX: u64 = 200_000;
/// Blocks in blocks in one function. A `switch` is a block for each case: CPython has 782, StarlingMonkey 457.
const CONTROL_DEPTH_MAX: u64 = 2_048;
/// Loops in loops in one function. Compilation grows with the square of it. QuickJS has 21.
const LOOP_DEPTH_MAX: u64 = 128;
/// Targets of one `br_table`. CPython's interpreter loop has 6,406.
const BRANCH_TARGETS_MAX: u64 = 16_384;
/// Targets of all `br_table`s. CPython has 92,688 and a Go program of 3.3 MB 148,252.
const ALL_BRANCH_TARGETS_MAX: u64 = 1_000_000;
/// Instructions, and the values that calls, blocks and branches move, in all: what validation has to look at.
/// A CPython component of 18 MB stays below half of it.
const OPERANDS_MAX: u64 = 32 * 1024 * 1024;
/// Elements that a table has at the start: one for each function and room to spare.
const TABLE_ELEMENTS_MAX: u64 = 1_000_000;
/// Bytes of documentation sections.
const DOCS_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes in a page of memory; other page sizes are off.
const PAGE_BYTES: u64 = 65_536;

/// Measures `bytes`, and returns the contents of its manifest section.
///
/// # Errors
/// `load.limit` naming what is too much; `load.invalid` where the file cannot be followed, or where it has more than
/// one manifest; `load.abi` for components that take components as arguments.
pub(super) fn scan<'a>(bytes: &'a [u8], options: &Options) -> Result<Option<&'a [u8]>, Failure> {
    let mut scan = Scan::new(bytes, options.memory_bytes_max);
    let mut parser = Parser::new(0);
    // All of them, so that `decode` names the one which is off.
    parser.set_features(WasmFeatures::all());
    for payload in parser.parse_all(bytes) {
        scan.payload(payload.map_err(|e| malformed(&e))?)?;
    }
    match scan.manifests[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(Failure::new(
            Kind::LoadInvalid,
            format!("load the component: expected one section `{MANIFEST_SECTION}`, found {}", scan.manifests.len()),
        )
        .hint("link the SDK once; when components are composed, keep the manifest of the outer one only")),
    }
}

/// Refuses `found` above `max`.
fn bounded(what: &str, found: u64, max: u64) -> Result<(), Failure> {
    if found <= max {
        return Ok(());
    }
    let message = format!("load the component: it has {found} {what}, more than the {max} that this host takes");
    Err(Failure::new(Kind::LoadLimit, message)
        .hint("split the tool, or build it optimised and without what it does not use"))
}

fn parsed<T>(result: wasmparser::Result<T>) -> Result<T, Failure> {
    result.map_err(|e| malformed(&e))
}

/// What one instantiation of a component brings into being.
#[derive(Clone, Copy, Default)]
struct Weight {
    instances: u64,
    /// Imports of core modules that instantiation looks up.
    links: u64,
    section_bytes: u64,
}

impl Weight {
    fn add(&mut self, other: Self) {
        self.instances = self.instances.saturating_add(other.instances);
        self.links = self.links.saturating_add(other.links);
        self.section_bytes = self.section_bytes.saturating_add(other.section_bytes);
    }

    fn max(self, other: Self) -> Self {
        Self {
            instances: self.instances.max(other.instances),
            links: self.links.max(other.links),
            section_bytes: self.section_bytes.max(other.section_bytes),
        }
    }
}

/// What is open at this point of the file.
enum Frame {
    Component(ComponentFrame),
    Module(ModuleFrame),
}

#[derive(Default)]
struct ComponentFrame {
    weight: Weight,
    /// The component index space.
    components: Vec<Weight>,
}

#[derive(Default)]
struct ModuleFrame {
    /// Parameters and results of each type.
    types: Vec<u64>,
    /// Type of each function, imported ones first.
    functions: Vec<u32>,
    imported: usize,
    bodies: usize,
    locals: u64,
}

impl ModuleFrame {
    fn values(&self, type_index: u32) -> u64 {
        usize::try_from(type_index).ok().and_then(|n| self.types.get(n)).copied().unwrap_or(0)
    }

    fn values_of(&self, function: usize) -> u64 {
        self.functions.get(function).map_or(0, |ty| self.values(*ty))
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    memory_bytes_max: u64,
    frames: Vec<Frame>,
    manifests: Vec<&'a [u8]>,
    /// The heaviest component seen: stands for one whose definition an alias hides.
    heaviest: Weight,
    /// The most imports of a core module seen.
    module_imports_max: u64,
    modules: u64,
    components: u64,
    functions: u64,
    section_bytes: u64,
    docs_bytes: u64,
    branch_targets: u64,
    operands: u64,
    /// The open blocks of a function. Kept here so that one allocation serves all functions.
    labels: Vec<Label>,
    /// How many of them are loops.
    loops: u64,
}

/// An open block.
#[derive(Clone, Copy, Default)]
struct Label {
    /// Values that a branch to it moves.
    values: u64,
    is_loop: bool,
}

impl<'a> Scan<'a> {
    fn new(bytes: &'a [u8], memory_bytes_max: u64) -> Self {
        Self {
            bytes,
            memory_bytes_max,
            frames: Vec::new(),
            manifests: Vec::new(),
            heaviest: Weight::default(),
            module_imports_max: 0,
            modules: 0,
            components: 0,
            functions: 0,
            section_bytes: 0,
            docs_bytes: 0,
            branch_targets: 0,
            operands: 0,
            labels: Vec::new(),
            loops: 0,
        }
    }

    fn payload(&mut self, payload: Payload<'a>) -> Result<(), Failure> {
        match payload {
            Payload::Version { encoding, .. } => self.open(encoding),
            Payload::End(_) => self.close(),
            Payload::CustomSection(section) => self.custom(section.name(), section.data()),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => Ok(()),
            other => match self.frames.pop() {
                Some(Frame::Component(mut frame)) => {
                    let done = self.component_section(&mut frame, other);
                    self.frames.push(Frame::Component(frame));
                    done
                }
                Some(Frame::Module(mut frame)) => {
                    let done = self.module_section(&mut frame, other);
                    self.frames.push(Frame::Module(frame));
                    done
                }
                None => Ok(()),
            },
        }
    }

    fn open(&mut self, encoding: Encoding) -> Result<(), Failure> {
        if encoding == Encoding::Module {
            self.modules += 1;
            self.frames.push(Frame::Module(ModuleFrame::default()));
            return bounded("core modules", self.modules, CORE_MODULES_MAX);
        }
        self.components += 1;
        self.frames.push(Frame::Component(ComponentFrame::default()));
        bounded("components", self.components, COMPONENTS_MAX)?;
        bounded("levels of components in components", self.frames.len() as u64, COMPONENT_DEPTH_MAX)
    }

    fn close(&mut self) -> Result<(), Failure> {
        let Some(Frame::Component(closed)) = self.frames.pop() else { return Ok(()) };
        self.heaviest = self.heaviest.max(closed.weight);
        if let Some(Frame::Component(parent)) = self.frames.last_mut() {
            parent.components.push(closed.weight);
        }
        Ok(())
    }

    fn custom(&mut self, name: &str, data: &'a [u8]) -> Result<(), Failure> {
        match name {
            MANIFEST_SECTION => self.manifests.push(data),
            DOCS_SECTION => self.docs_bytes += data.len() as u64,
            _ => {}
        }
        bounded("bytes of documentation", self.docs_bytes, DOCS_BYTES_MAX)
    }

    fn component_section(&mut self, frame: &mut ComponentFrame, payload: Payload<'a>) -> Result<(), Failure> {
        let section_bytes = payload.as_section().map_or(0, |(_, range)| range.len() as u64);
        self.section_bytes += section_bytes;
        bounded("bytes of component sections", self.section_bytes, COMPONENT_SECTION_BYTES_MAX)?;
        frame.weight.add(Weight { section_bytes, ..Weight::default() });
        match payload {
            Payload::ComponentTypeSection(types) => self.type_section(&types)?,
            Payload::ComponentImportSection(imports) => component_imports(imports)?,
            Payload::ComponentAliasSection(aliases) => self.aliases(frame, aliases)?,
            Payload::ComponentExportSection(exports) => self.exports(frame, exports)?,
            Payload::InstanceSection(instances) => core_instances(frame, instances, self.module_imports_max)?,
            Payload::ComponentInstanceSection(instances) => self.instances(frame, instances)?,
            _ => {}
        }
        bounded("instances", frame.weight.instances, INSTANCES_MAX)?;
        bounded("linked imports", frame.weight.links, LINKS_MAX)?;
        bounded("bytes of unfolded component sections", frame.weight.section_bytes, UNFOLDED_BYTES_MAX)
    }

    fn type_section(&self, types: &SectionLimited<'a, ComponentType<'a>>) -> Result<(), Failure> {
        let range = types.range();
        let bytes = self.bytes.get(range.clone()).unwrap_or_default();
        let mut reader = BinaryReader::new_features(bytes, range.start, WasmFeatures::all());
        for _ in 0..parsed(reader.read_var_u32())? {
            type_declaration(&mut reader, 0)?;
        }
        Ok(())
    }

    fn aliases(
        &self,
        frame: &mut ComponentFrame,
        aliases: SectionLimited<'a, ComponentAlias<'a>>,
    ) -> Result<(), Failure> {
        for alias in aliases {
            let is_component = matches!(
                parsed(alias)?,
                ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. }
                    | ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, .. }
            );
            if is_component {
                frame.components.push(self.heaviest);
            }
        }
        Ok(())
    }

    fn exports(
        &self,
        frame: &mut ComponentFrame,
        exports: SectionLimited<'a, wasmparser::ComponentExport<'a>>,
    ) -> Result<(), Failure> {
        for export in exports {
            if parsed(export)?.kind == ComponentExternalKind::Component {
                frame.components.push(self.heaviest);
            }
        }
        Ok(())
    }

    fn instances(
        &self,
        frame: &mut ComponentFrame,
        instances: SectionLimited<'a, ComponentInstance<'a>>,
    ) -> Result<(), Failure> {
        for instance in instances {
            let ComponentInstance::Instantiate { component_index, .. } = parsed(instance)? else { continue };
            let known = usize::try_from(component_index).ok().and_then(|n| frame.components.get(n)).copied();
            frame.weight.add(known.unwrap_or(self.heaviest));
            frame.weight.add(Weight { instances: 1, ..Weight::default() });
        }
        Ok(())
    }

    fn module_section(&mut self, frame: &mut ModuleFrame, payload: Payload<'a>) -> Result<(), Failure> {
        match payload {
            Payload::TypeSection(types) => {
                entries("types of a module", types.count())?;
                for ty in types.into_iter_err_on_gc_types() {
                    // Types of the GC proposal are left for validation to name.
                    frame.types.push(ty.map_or(0, |ty| (ty.params().len() + ty.results().len()) as u64));
                }
            }
            Payload::ImportSection(imports) => {
                self.module_imports_max = self.module_imports_max.max(u64::from(imports.count()));
                module_imports(frame, imports)?;
            }
            Payload::FunctionSection(functions) => {
                self.functions += u64::from(functions.count());
                bounded("functions", self.functions, FUNCTIONS_MAX)?;
                for ty in functions {
                    frame.functions.push(parsed(ty)?);
                }
            }
            Payload::TableSection(tables) => {
                entries("tables of a module", tables.count())?;
                for table in tables {
                    bounded("elements in a table at the start", parsed(table)?.ty.initial, TABLE_ELEMENTS_MAX)?;
                }
            }
            Payload::MemorySection(memories) => self.memories(memories)?,
            Payload::GlobalSection(globals) => entries("globals of a module", globals.count())?,
            Payload::ExportSection(exports) => entries("exports of a module", exports.count())?,
            Payload::ElementSection(elements) => entries("element segments of a module", elements.count())?,
            Payload::DataSection(data) => entries("data segments of a module", data.count())?,
            Payload::CodeSectionEntry(body) => self.body(frame, &body)?,
            _ => {}
        }
        Ok(())
    }

    fn memories(&self, memories: SectionLimited<'a, MemoryType>) -> Result<(), Failure> {
        entries("memories of a module", memories.count())?;
        for memory in memories {
            let bytes = parsed(memory)?.initial.saturating_mul(PAGE_BYTES);
            if bytes > self.memory_bytes_max {
                let (found, max) = (bytes.div_ceil(1024 * 1024), self.memory_bytes_max / (1024 * 1024));
                let message = format!(
                    "load the component: it starts with {found} MiB of memory, more than the {max} MiB allowed"
                );
                return Err(Failure::new(Kind::LoadLimit, message)
                    .hint("raise `memory_bytes_max`, or link it with less initial memory"));
            }
        }
        Ok(())
    }

    fn body(&mut self, frame: &mut ModuleFrame, body: &FunctionBody<'a>) -> Result<(), Failure> {
        let own = frame.imported + frame.bodies;
        frame.bodies += 1;
        let mut locals = 0_u64;
        for group in parsed(body.get_locals_reader())? {
            locals += u64::from(parsed(group)?.0);
        }
        bounded("locals in a function", locals, LOCALS_MAX)?;
        frame.locals += locals;
        bounded("locals in a module", frame.locals, MODULE_LOCALS_MAX)?;
        self.labels.clear();
        self.loops = 0;
        self.labels.push(Label { values: frame.values_of(own), is_loop: false });
        let mut operators = parsed(body.get_operators_reader())?;
        while !operators.eof() {
            let operator = parsed(operators.read())?;
            self.operands += 1 + self.operator(frame, &operator)?;
        }
        bounded("instructions and operands", self.operands, OPERANDS_MAX)
    }

    /// Follows the blocks, and returns how many values `operator` moves.
    fn operator(&mut self, frame: &ModuleFrame, operator: &Operator<'a>) -> Result<u64, Failure> {
        Ok(match operator {
            Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
                let values = match blockty {
                    BlockType::Empty => 0,
                    BlockType::Type(_) => 1,
                    BlockType::FuncType(ty) => frame.values(*ty),
                };
                self.enter(Label { values, is_loop: matches!(operator, Operator::Loop { .. }) })?;
                values
            }
            Operator::End => self.leave(),
            Operator::Else => self.labels.last().map_or(0, |label| label.values),
            Operator::Return => self.labels.first().map_or(0, |label| label.values),
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => self.label(*relative_depth),
            Operator::BrTable { targets } => {
                let count = u64::from(targets.len());
                self.branch_targets += count;
                bounded("targets in a `br_table`", count, BRANCH_TARGETS_MAX)?;
                bounded("targets in `br_table`s", self.branch_targets, ALL_BRANCH_TARGETS_MAX)?;
                (count + 1).saturating_mul(1 + self.label(targets.default()))
            }
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                usize::try_from(*function_index).map_or(0, |n| frame.values_of(n))
            }
            Operator::CallIndirect { type_index, .. } | Operator::ReturnCallIndirect { type_index, .. } => {
                frame.values(*type_index)
            }
            _ => 0,
        })
    }

    fn enter(&mut self, label: Label) -> Result<(), Failure> {
        self.labels.push(label);
        self.loops += u64::from(label.is_loop);
        bounded("levels of blocks in a function", self.labels.len() as u64, CONTROL_DEPTH_MAX)?;
        bounded("levels of loops in a function", self.loops, LOOP_DEPTH_MAX)
    }

    fn leave(&mut self) -> u64 {
        let label = self.labels.pop().unwrap_or_default();
        self.loops = self.loops.saturating_sub(u64::from(label.is_loop));
        label.values
    }

    fn label(&self, relative_depth: u32) -> u64 {
        let from_end = usize::try_from(relative_depth).ok().and_then(|depth| self.labels.len().checked_sub(depth + 1));
        from_end.and_then(|n| self.labels.get(n)).map_or(0, |label| label.values)
    }
}

fn entries(what: &str, count: u32) -> Result<(), Failure> {
    bounded(what, u64::from(count), SECTION_ENTRIES_MAX)
}

fn module_imports(
    frame: &mut ModuleFrame,
    imports: SectionLimited<'_, wasmparser::Imports<'_>>,
) -> Result<(), Failure> {
    entries("imports of a module", imports.count())?;
    for import in imports.into_imports() {
        if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = parsed(import)?.ty {
            frame.functions.push(ty);
            frame.imported += 1;
        }
    }
    Ok(())
}

fn core_instances(
    frame: &mut ComponentFrame,
    instances: SectionLimited<'_, Instance<'_>>,
    module_imports_max: u64,
) -> Result<(), Failure> {
    for instance in instances {
        if let Instance::Instantiate { .. } = parsed(instance)? {
            // Which module it is may be hidden behind an alias, so it counts as the one with most imports.
            frame.weight.add(Weight { instances: 1, links: module_imports_max, section_bytes: 0 });
        }
    }
    Ok(())
}

fn component_imports(imports: SectionLimited<'_, ComponentImport<'_>>) -> Result<(), Failure> {
    for import in imports {
        let import = parsed(import)?;
        if let ComponentTypeRef::Module(_) | ComponentTypeRef::Component(_) = import.ty {
            // What such an import stands for is unknown here, so its instances could not be counted.
            let message = format!("load the component: its import `{}` is code, not an interface", import.name.name);
            return Err(
                Failure::new(Kind::LoadAbi, message).hint("compose the component fully, for example with `wac plug`")
            );
        }
    }
    Ok(())
}

/// Walks over one type without building it: the builder recurses as deep as types are written inside one another.
fn type_declaration(reader: &mut BinaryReader<'_>, depth: u32) -> Result<(), Failure> {
    bounded("levels of types in types", u64::from(depth), u64::from(TYPE_DECLARATIONS_DEPTH_MAX))?;
    let is_container = matches!(parsed(reader.clone().read_u8())?, 0x41 | 0x42);
    if !is_container {
        parsed(reader.read::<ComponentType<'_>>())?;
        return Ok(());
    }
    parsed(reader.read_u8())?;
    for _ in 0..parsed(reader.read_var_u32())? {
        match parsed(reader.read_u8())? {
            0x00 => {
                parsed(reader.read::<CoreType<'_>>())?;
            }
            0x01 => type_declaration(reader, depth + 1)?,
            0x02 => {
                parsed(reader.read::<ComponentAlias<'_>>())?;
            }
            0x03 => {
                parsed(reader.read::<ComponentImport<'_>>())?;
            }
            0x04 => {
                parsed(reader.read::<ComponentExternName<'_>>())?;
                parsed(reader.read::<ComponentTypeRef>())?;
            }
            tag => {
                let message = format!("load the component: it is damaged: {tag:#04x} starts no declaration of a type");
                return Err(Failure::new(Kind::LoadInvalid, message).hint("build or download it again"));
            }
        }
    }
    Ok(())
}
