//! `probe`: does what a test asks for, by way of the standard library as any program would. What it finds and where it
//! is stopped is the host's doing.

use cofferdam_tool_sdk::prelude::*;

/// Looks around in its sandbox.
#[tools]
mod probe {
    use std::ffi::{CString, c_char, c_int};
    use std::fs::{self, File, OpenOptions};
    use std::hash::{BuildHasher, RandomState};
    use std::io::{self, Read, Seek, SeekFrom, Write};
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

    /// Sleeps, and returns how long that took by its clock, in milliseconds.
    #[tool(effect = "read", asks("clock"))]
    pub fn slept(ms: u64) -> u64 {
        let start = std::time::Instant::now();
        std::thread::sleep(Duration::from_millis(ms));
        u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks so many times how much time is left.
    #[tool(effect = "read", asks("clock"))]
    pub fn hurry(times: u32) -> u64 {
        (0..times).map(|_| super::context::remaining_ms()).min().unwrap_or_default()
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
            "log" => log::warn(format!("it is {value}")),
            "path" => drop(std::fs::read(format!("/data/../{value}"))),
            "progress" => progress::report(0.5, format!("{}{value}", "x".repeat(190))),
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
        Ok(make_link(&target, &link)?)
    }

    /// Something to do with files. What is written is always `text`, at `at` where it says where.
    #[derive(Clone, Debug, ToolType)]
    pub struct Step {
        pub verb: Verb,
        pub path: String,
        /// The other path, where there are two.
        pub to: Option<String>,
        pub text: Option<String>,
        pub at: Option<u64>,
        /// How often; `path` then gets a number at its end.
        pub times: Option<u32>,
    }

    /// What to do.
    #[derive(Clone, Copy, Debug, ToolType)]
    pub enum Verb {
        /// Opens for reading, and reads to the end.
        Read,
        /// Opens, made or emptied, and writes.
        Write,
        /// Opens at its end, and writes.
        Append,
        /// Opens without making it, goes to `at`, and writes.
        Patch,
        /// Sets the length to `at`.
        Resize,
        /// Opens for reading, and sets the time of the last change to `at` seconds since 1970.
        Touch,
        MakeDir,
        RemoveDir,
        Remove,
        Rename,
        /// Makes a hard link.
        Link,
        /// Makes a symbolic link to `path`.
        Symlink,
        /// How many bytes there are, links followed.
        Size,
        /// Counts what a directory holds.
        Count,
        /// Makes a directory and goes on in it, as deep as `times`.
        Deepen,
        /// Opens for reading, and keeps it open to the end of the call.
        Hold,
    }

    /// Does one thing after another, whatever becomes of each. Returns what each brought: `ok …` or the error.
    #[tool(effect = "once", asks("files.read", "files.write"))]
    pub fn files(steps: Vec<Step>) -> Vec<String> {
        let mut held = Vec::new();
        steps.iter().map(|step| told(repeated(step, &mut held))).collect()
    }

    /// Does the same, where nothing may be written.
    #[tool(effect = "read", asks("files.read"))]
    pub fn glance(steps: Vec<Step>) -> Vec<String> {
        files(steps)
    }

    /// Does the same, and then does not return well: `fail`, `trap`, `spin` or `sleep`.
    #[tool(effect = "once", asks("files.read", "files.write"))]
    pub fn files_then(steps: Vec<Step>, end: String) -> Result<Vec<String>, ToolError> {
        let told = files(steps);
        match end.as_str() {
            "fail" => Err(ToolError::new("probe.fails", told.join("; "))),
            "trap" => std::process::abort(),
            "spin" => loop {
                std::hint::spin_loop();
            },
            "sleep" => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            _ => Ok(told),
        }
    }

    fn told(result: io::Result<String>) -> String {
        match result {
            Ok(text) => format!("ok {text}").trim_end().to_owned(),
            Err(error) => format!("{:?}: {error}", error.kind()),
        }
    }

    fn repeated(step: &Step, held: &mut Vec<File>) -> io::Result<String> {
        let Some(times) = step.times.filter(|_| !matches!(step.verb, Verb::Deepen)) else { return done(step, held) };
        for n in 0..times {
            done(&Step { path: format!("{}{n}", step.path), ..step.clone() }, held)?;
        }
        Ok(times.to_string())
    }

    fn done(step: &Step, held: &mut Vec<File>) -> io::Result<String> {
        let path = &step.path;
        let (to, text) = (step.to.clone().unwrap_or_default(), step.text.clone().unwrap_or_default());
        let (at, nothing) = (step.at.unwrap_or_default(), |()| String::new());
        match step.verb {
            Verb::Read => fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            Verb::Write => fs::write(path, text).map(nothing),
            Verb::Append => OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes()).map(nothing),
            Verb::Patch => {
                let mut file = OpenOptions::new().write(true).open(path)?;
                file.seek(SeekFrom::Start(at))?;
                file.write_all(text.as_bytes()).map(nothing)
            }
            Verb::Resize => OpenOptions::new().write(true).open(path)?.set_len(at).map(nothing),
            Verb::Touch => {
                File::open(path)?.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(at)).map(nothing)
            }
            Verb::MakeDir => fs::create_dir(path).map(nothing),
            Verb::RemoveDir => fs::remove_dir(path).map(nothing),
            Verb::Remove => fs::remove_file(path).map(nothing),
            Verb::Rename => fs::rename(path, to).map(nothing),
            Verb::Link => fs::hard_link(path, to).map(nothing),
            Verb::Symlink => make_link(path, &to).map(nothing),
            Verb::Size => fs::metadata(path).map(|found| found.len().to_string()),
            Verb::Count => fs::read_dir(path)?.try_fold(0, |n, entry| entry.map(|_| n + 1)).map(|n: u64| n.to_string()),
            Verb::Deepen => {
                let mut path = path.clone();
                for n in 0..step.times.unwrap_or_default() {
                    path += "/d";
                    fs::create_dir(&path).map_err(|e| io::Error::new(e.kind(), format!("{e} at depth {n}")))?;
                }
                Ok(String::new())
            }
            Verb::Hold => File::open(path).map(|file| {
                held.push(file);
                String::new()
            }),
        }
    }

    fn make_link(target: &str, link: &str) -> io::Result<()> {
        let (target, link) = (CString::new(target)?, CString::new(link)?);
        #[expect(unsafe_code, reason = "both are C strings that live until it returns")]
        let failed = unsafe { symlink(target.as_ptr(), link.as_ptr()) } != 0;
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
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
