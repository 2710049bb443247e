//! Makes [`VerifiedTool`]s: tools whose bytes were read, whose contract was derived, and whose schemas are compiled.
//!
//! Promises: the bytes, the digest and the contract of a verified component belong together, for it is read once and
//! cannot be changed. Leaves granting to `policy` and compiling to `sandbox`.

use std::fmt;
use std::fs::{Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use jsonschema::{Draft, PatternOptions, Validator};

use crate::domain::{Contract, Digest, Failure, Json, Kind, ToolContract, ToolName};

use super::describe::{read, too_large};

/// Errors that one failure lists: enough for a model to repair its arguments in one turn.
const ERRORS_SHOWN_MAX: usize = 8;
/// Characters of one error: it may name what the value should have been, and what it has too much.
const ERROR_CHARS_MAX: usize = 240;
/// Characters of a JSON pointer: keys may be as long as the value.
const POINTER_CHARS_MAX: usize = 120;

/// A file that may be a component.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What its user calls it.
    pub name: String,
    pub path: PathBuf,
}

/// Bounds of reading.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a component's file. A CPython component has 18 MB.
    pub file_bytes_max: u64,
    /// Bytes of memory that a core module may start with.
    pub memory_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { file_bytes_max: 64 * 1024 * 1024, memory_bytes_max: 64 * 1024 * 1024 }
    }
}

/// What is expected of a component before it is read.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The digest that was pinned, if any.
    pub digest: Option<Digest>,
}

/// A component that was read: its bytes, and its contract.
pub struct VerifiedComponent {
    contract: Contract,
    bytes: Arc<[u8]>,
    /// One for each tool of the contract, in its order.
    checks: Vec<Checks>,
}

struct Checks {
    input: Validator,
    output: Validator,
}

/// A tool of a component that was read. Cheap to clone.
#[derive(Clone)]
pub struct VerifiedTool {
    component: Arc<VerifiedComponent>,
    // Invariant: an index of `component.contract.tools`.
    index: usize,
}

/// Reads the file of `candidate` and derives its contract.
///
/// # Errors
/// `data.not_found`, `host.storage`; `load.denied` where the digest is not the pinned one; and those of [`read`].
pub fn verify(candidate: Candidate, trust: &Trust, options: &Options) -> Result<Arc<VerifiedComponent>, Failure> {
    let bytes = read_file(&candidate, options)?;
    let digest = Digest::of(&bytes);
    if let Some(pinned) = trust.digest.filter(|pinned| *pinned != digest) {
        let name = &candidate.name;
        return Err(Failure::new(
            Kind::LoadDenied,
            format!("load `{name}`: its digest is {digest}, and the pinned one is {pinned}"),
        )
        .hint("if the change is wanted, look at what changed and pin the new digest"));
    }
    // Where its user has no name for it, its package may.
    let name = Some(candidate.name.as_str()).filter(|name| !name.is_empty());
    VerifiedComponent::new(bytes, name, options).map(Arc::new)
}

fn read_file(candidate: &Candidate, options: &Options) -> Result<Vec<u8>, Failure> {
    // Without waiting: a FIFO would hold the host until someone writes to it.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let opened = OpenOptions::new().read(true).custom_flags(nonblock).open(&candidate.path);
    let file = opened.map_err(|e| unreadable(candidate, &e))?;
    let metadata = file.metadata().map_err(|e| unreadable(candidate, &e))?;
    regular(candidate, &metadata)?;
    if metadata.len() > options.file_bytes_max {
        return Err(too_large(metadata.len(), options));
    }
    // One byte more than allowed: the file may grow while it is read.
    let mut bytes = Vec::new();
    let mut bounded = file.take(options.file_bytes_max.saturating_add(1));
    bounded.read_to_end(&mut bytes).map_err(|e| unreadable(candidate, &e))?;
    Ok(bytes)
}

fn regular(candidate: &Candidate, metadata: &Metadata) -> Result<(), Failure> {
    let kind = metadata.file_type();
    let found = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () => "neither a file nor a directory",
    };
    let message = format!("load `{}`: expected a regular file, found {found}", candidate.name);
    Err(Failure::new(Kind::LoadInvalid, message)
        .hint("give the path of the component's `.wasm` file")
        .detail(candidate.path.display()))
}

/// Names the component to everyone, and its path to the operator only.
fn unreadable(candidate: &Candidate, error: &std::io::Error) -> Failure {
    let kind = if error.kind() == ErrorKind::NotFound { Kind::DataNotFound } else { Kind::HostStorage };
    Failure::new(kind, format!("open the file of `{}`: {error}", candidate.name))
        .hint("check its path and permissions")
        .detail(candidate.path.display())
}

impl VerifiedComponent {
    /// Reads `bytes`; `name` is what their user calls them.
    ///
    /// # Errors
    /// Those of [`read`].
    pub fn new(bytes: impl Into<Arc<[u8]>>, name: Option<&str>, options: &Options) -> Result<Self, Failure> {
        let bytes = bytes.into();
        let contract = read(&bytes, name, options)?;
        let checks = contract.tools.iter().map(Checks::new).collect::<Result<_, _>>()?;
        Ok(Self { contract, bytes, checks })
    }

    /// Returns the contract.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Returns the file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the digest of the file's bytes.
    pub fn digest(&self) -> &Digest {
        &self.contract.digest
    }

    /// Returns its tools, sorted by name.
    pub fn tools(self: &Arc<Self>) -> impl Iterator<Item = VerifiedTool> {
        (0..self.contract.tools.len()).map(|index| VerifiedTool { component: Arc::clone(self), index })
    }
}

impl fmt::Debug for VerifiedComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedComponent({}, {:?}, {} bytes)", self.contract.component, self.digest(), self.bytes.len())
    }
}

impl VerifiedTool {
    /// Returns the contract of its component.
    pub fn contract(&self) -> &Contract {
        &self.component.contract
    }

    /// Returns its own part of the contract.
    pub fn tool(&self) -> &ToolContract {
        &self.component.contract.tools[self.index]
    }

    /// Returns its name.
    pub fn name(&self) -> &ToolName {
        &self.tool().name
    }

    /// Returns the digest of its component.
    pub fn digest(&self) -> &Digest {
        self.component.digest()
    }

    /// Returns the bytes of its component.
    pub fn bytes(&self) -> &[u8] {
        &self.component.bytes
    }

    /// Returns each place of `input` that does not fit the input schema, as a JSON pointer, and what is wrong there; the
    /// first few.
    pub fn misfits(&self, input: &Json) -> Vec<(String, String)> {
        let errors = self.component.checks[self.index].input.iter_errors(input).take(ERRORS_SHOWN_MAX);
        let misfit = |error: jsonschema::ValidationError<'_>| {
            // Masked: as in a failure.
            (error.instance_path().as_str().to_owned(), cut(&error.masked().to_string(), ERROR_CHARS_MAX))
        };
        errors.map(misfit).collect()
    }

    /// Checks arguments against the input schema.
    ///
    /// # Errors
    /// `data.input_invalid`, listing where they do not fit.
    pub fn check_input(&self, input: &Json) -> Result<(), Failure> {
        let errors = errors(&self.component.checks[self.index].input, input);
        if errors.is_empty() {
            return Ok(());
        }
        let message = format!("call `{}`: its arguments do not fit its schema\n{}", self.name(), errors.join("\n"));
        Err(Failure::new(Kind::DataInput, message).hint("change the arguments where the errors point"))
    }

    /// Checks a result against the output schema.
    ///
    /// # Errors
    /// `tool.contract`, listing where it does not fit.
    pub fn check_output(&self, output: &Json) -> Result<(), Failure> {
        let errors = errors(&self.component.checks[self.index].output, output);
        if errors.is_empty() {
            return Ok(());
        }
        let message = format!("call `{}`: its result does not fit its schema\n{}", self.name(), errors.join("\n"));
        Err(Failure::new(Kind::ToolContract, message).hint("report it to the tool's author"))
    }
}

impl fmt::Debug for VerifiedTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedTool({}, {:?})", self.name(), self.digest())
    }
}

impl Checks {
    fn new(tool: &ToolContract) -> Result<Self, Failure> {
        let compiled = |schema| {
            compile(schema).map_err(|why| {
                Failure::new(Kind::HostBug, format!("compile the schemas of `{}`", tool.name)).detail(why)
            })
        };
        Ok(Self { input: compiled(&tool.input_schema)?, output: compiled(&tool.output_schema)? })
    }
}

/// Compiles a schema: formats on, references to other documents refused, patterns matched in linear time.
fn compile(schema: &Json) -> Result<Validator, String> {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .offline()
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| error.masked().to_string())
}

fn errors(validator: &Validator, value: &Json) -> Vec<String> {
    let errors = validator.iter_errors(value).take(ERRORS_SHOWN_MAX).map(|error| {
        let pointer = error.instance_path().as_str();
        let place = if pointer.is_empty() { "/" } else { pointer };
        // Masked: what the value is may be large or secret; what it should be is in the schema.
        format!("at {}: {}", cut(place, POINTER_CHARS_MAX), cut(&error.masked().to_string(), ERROR_CHARS_MAX))
    });
    errors.collect()
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
