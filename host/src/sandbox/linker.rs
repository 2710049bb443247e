//! What a guest's imports are bound to.
//!
//! The floor of every std program (`wasi:io`, `clocks`, `random`, `cli`, `filesystem`) is linked, and denies all that the
//! grant does not give. `cofferdam:tool/context` gives no power and is always there; `log`, `progress`, the three kinds of
//! state and `wasi:http` are linked when granted. A component has one set of imports for all of its functions, so they are linked too where the function
//! called does not ask for them: they refuse it then. Everything else, sockets included, is not here at all.

use wasmtime::Engine;
use wasmtime::component::{HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings as wasi;
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi_io::bindings::wasi::io;

use crate::domain::{Ask, StateScope};
use crate::policy::Call;
use crate::sandbox::capabilities::bindings::cofferdam::tool;
use crate::sandbox::capabilities::files::{Files, HasFiles};
use crate::sandbox::capabilities::http;
use crate::sandbox::capabilities::poll::{HasPolls, Polls};
use crate::sandbox::state::GuestState;

/// The parts of a call that decide what is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Linked {
    log: bool,
    progress: bool,
    http: bool,
    session: bool,
    user: bool,
    workflow: bool,
}

impl Linked {
    pub(super) fn of(call: &Call) -> Self {
        let (grant, asks) = (call.grant(), &call.tool().tool().asks);
        let keeps = |scope| grant.state.contains_key(&scope) || !asks.contains(&Ask::of_state(scope));
        Self {
            log: grant.log || !asks.contains(&Ask::Log),
            progress: grant.progress || !asks.contains(&Ask::Progress),
            http: !grant.http.is_empty() || !asks.contains(&Ask::Http),
            session: keeps(StateScope::Session),
            user: keeps(StateScope::User),
            workflow: keeps(StateScope::Workflow),
        }
    }
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// Every host function gets at the guest's state through here, which is how a host call is told from the crossings that
/// wasmtime makes of its own (interrupts, growing memory).
pub(super) fn entered(state: &mut GuestState) -> &mut GuestState {
    state.is_host_call = true;
    state
}

fn table(state: &mut GuestState) -> &mut ResourceTable {
    entered(state).ctx().table
}

/// Makes the linker for guests with `linked`.
///
/// # Errors
/// Two definitions of one name: a mistake in this file.
pub(super) fn linker(engine: &Engine, linked: Linked) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    floor(&mut linker)?;
    tool::context::add_to_linker::<_, HasSelf<_>>(&mut linker, entered)?;
    if linked.log {
        tool::log::add_to_linker::<_, HasSelf<_>>(&mut linker, entered)?;
    }
    if linked.progress {
        tool::progress::add_to_linker::<_, HasSelf<_>>(&mut linker, entered)?;
    }
    tool::state_types::add_to_linker::<_, HasSelf<_>>(&mut linker, entered)?;
    if linked.session {
        tool::state_session::add_to_linker::<_, HasSelf<_>>(&mut linker, entered)?;
    }
    if linked.user {
        tool::state_user::add_to_linker::<_, HasSelf<_>>(&mut linker, entered)?;
    }
    if linked.workflow {
        tool::state_workflow::add_to_linker::<_, HasSelf<_>>(&mut linker, entered)?;
    }
    if linked.http {
        http::add_to_linker(&mut linker)?;
    }
    Ok(linker)
}

fn floor(l: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    type State = GuestState;
    io::error::add_to_linker::<State, HasTable>(l, table)?;
    io::poll::add_to_linker::<State, HasPolls>(l, |s| Polls(entered(s)))?;
    io::streams::add_to_linker::<State, HasTable>(l, table)?;
    wasi::clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, |s| entered(s).clocks())?;
    wasi::clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, |s| entered(s).clocks())?;
    wasi::random::random::add_to_linker::<State, WasiRandom>(l, |s| entered(s).wasi.random())?;
    wasi::random::insecure::add_to_linker::<State, WasiRandom>(l, |s| entered(s).wasi.random())?;
    wasi::random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |s| entered(s).wasi.random())?;
    wasi::cli::exit::add_to_linker::<State, WasiCli>(l, |s| entered(s).cli())?;
    wasi::cli::environment::add_to_linker::<State, WasiCli>(l, |s| entered(s).cli())?;
    wasi::cli::stdin::add_to_linker::<State, WasiCli>(l, |s| entered(s).cli())?;
    wasi::cli::stdout::add_to_linker::<State, WasiCli>(l, |s| entered(s).cli())?;
    wasi::cli::stderr::add_to_linker::<State, WasiCli>(l, |s| entered(s).cli())?;
    wasi::cli::terminal_input::add_to_linker::<State, WasiCli>(l, |s| entered(s).cli())?;
    wasi::cli::terminal_output::add_to_linker::<State, WasiCli>(l, |s| entered(s).cli())?;
    wasi::cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, |s| entered(s).cli())?;
    wasi::cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, |s| entered(s).cli())?;
    wasi::cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, |s| entered(s).cli())?;
    wasi::filesystem::preopens::add_to_linker::<State, HasFiles>(l, |s| Files(entered(s)))?;
    wasi::filesystem::types::add_to_linker::<State, HasFiles>(l, |s| Files(entered(s)))
}
