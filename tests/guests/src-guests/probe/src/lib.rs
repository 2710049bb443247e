//! `probe`: does what a test asks for, by way of the standard library as any program would. What it finds and where it
//! is stopped is the host's doing.

use cofferdam_tool_sdk::prelude::*;

/// Looks around in its sandbox.
#[tools]
mod probe {
    use std::ffi::{CString, c_char, c_int};
    use std::hash::{BuildHasher, RandomState};
    use std::io::{Read, Write};
    use std::time::{Duration, SystemTime};

    unsafe extern "C" {
        // wasi-libc's: the standard library has no stable way to make a link on this target.
        fn symlink(target: *const c_char, link: *const c_char) -> c_int;
    }

    /// Sleeps.
    #[tool(effect = "pure")]
    pub fn sleep(
        /// How long, in milliseconds.
        ms: u64,
    ) {
        std::thread::sleep(Duration::from_millis(ms));
    }

    /// Prints a line to standard output, and one to standard error.
    #[tool(effect = "pure")]
    pub fn print(text: String) {
        println!("{text}");
        eprintln!("{text}");
    }

    /// Returns what the process knows of its surroundings: environment, arguments, working directory.
    #[tool(effect = "pure")]
    pub fn surroundings() -> Vec<String> {
        let variables = std::env::vars().map(|(name, value)| format!("{name}={value}"));
        let folder = std::env::current_dir().map(|folder| folder.display().to_string());
        variables.chain(std::env::args()).chain(folder).collect()
    }

    /// Returns all that it finds of itself: variables, arguments, working directory, program, standard input.
    #[tool(asks("env", "secrets"))]
    pub fn inside() -> Vec<String> {
        let mut input = String::new();
        let read = std::io::stdin().read_to_string(&mut input).map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(-1));
        let program = std::env::current_exe().map_or("none".to_owned(), |path| path.display().to_string());
        let mut found: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
        found.extend(std::env::args().map(|argument| format!("argument {argument}")));
        found.extend(std::env::current_dir().map(|folder| format!("folder {}", folder.display())));
        found.extend([format!("program {program}"), format!("input {read} {input}")]);
        found
    }

    /// Tells the value of a variable in the way that is asked for.
    #[tool(asks("env", "secrets", "log", "progress", "files.read"))]
    pub fn leak(variable: String, way: String) -> Result<Vec<String>, ToolError> {
        let value = std::env::var(&variable).unwrap_or_default();
        let (first, second) = value.split_at(value.len() / 2);
        match way.as_str() {
            "result" => return Ok(vec![format!("<{value}>"), "plain".to_owned()]),
            "error" => return Err(ToolError::new(&value, format!("{}{value}", "x".repeat(4_000)))),
            "panic" => panic!("it is {value}"),
            "log" => log::warn(&format!("it is {value}")),
            "path" => drop(std::fs::read(format!("/data/../{value}"))),
            "progress" => progress::report(0.5, &format!("{}{value}", "x".repeat(190))),
            "print" => {
                print!("it is {first}");
                drop(std::io::stdout().flush());
                println!("{second}");
                eprintln!("{first}");
                eprintln!("{second}");
            }
            _ => return Err(ToolError::input("there is no such way")),
        }
        Ok(Vec::new())
    }

    /// Answers with an error of this text.
    #[tool(effect = "pure")]
    pub fn refuse(text: String) -> Result<(), ToolError> {
        Err(ToolError::new("probe.refused", text))
    }

    /// Prints so many lines of a kilobyte to standard output and error.
    #[tool(effect = "pure")]
    pub fn flood(lines: u32) {
        let line = "x".repeat(1_023);
        for _ in 0..lines {
            println!("{line}");
            eprintln!("{line}");
        }
    }

    /// Returns the time of day, in milliseconds since 1970.
    #[tool(effect = "read", asks("clock"))]
    pub fn now() -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns a random number.
    #[tool(effect = "read", asks("random"))]
    pub fn random(
        /// Makes one call differ from another.
        salt: u64,
    ) -> u64 {
        RandomState::new().hash_one(salt)
    }

    /// Logs a line and reports progress.
    #[tool(effect = "pure", asks("log", "progress"))]
    pub fn say(text: String) {
        log::info(&text);
        progress::report(0.5, &text);
    }

    /// Logs a line, though it does not ask for the log.
    #[tool(effect = "pure")]
    pub fn blurt(text: String) {
        log::info(&text);
    }

    /// Returns run, step, attempt and key of this call, and the milliseconds left.
    #[tool(asks("files.read"))]
    pub fn context() -> Vec<String> {
        let call = super::context::get();
        let left = super::context::remaining_ms().to_string();
        vec![call.run_id, call.step_id, call.attempt.to_string(), call.idempotency_key, left]
    }

    /// Makes a symbolic link.
    #[tool(effect = "once", asks("files.write"))]
    pub fn link(target: String, link: String) -> Result<(), ToolError> {
        let text = |path: String| CString::new(path).map_err(|_| ToolError::input("a path holds a NUL"));
        let (target, link) = (text(target)?, text(link)?);
        #[expect(unsafe_code, reason = "both are C strings that live until it returns")]
        let failed = unsafe { symlink(target.as_ptr(), link.as_ptr()) } != 0;
        if failed { Err(std::io::Error::last_os_error().into()) } else { Ok(()) }
    }

    /// Ends the program.
    #[tool(effect = "pure")]
    pub fn exit(code: i32) {
        std::process::exit(code);
    }

    /// Panics.
    #[tool(effect = "pure")]
    pub fn panic(message: String) {
        panic!("{message}");
    }
}
