//! Follows a run of this process: shows its signals, asks the person, and passes on what the person says.

use crate::domain::{Decision, Event, Fact, Failure, Kind};
use crate::host::{ApprovalView, Host, Message, RunHandle, RunReport, Signal, StepReport};

use super::Session;
use super::ask::{self, Ask, Reply};
use super::exit::Code;
use super::output::tell;
use super::screen::Screen;
use super::stop::Stop;

/// One run that is followed to where it stops.
pub(super) struct Follow<'a> {
    session: &'a Session,
    host: &'a Host,
    handle: RunHandle,
    screen: Screen,
    /// `None` where nobody is asked.
    ask: Option<Ask>,
    is_stopping: bool,
}

/// What came first.
enum Next {
    Signal(Option<Box<Signal>>),
    Line(Option<String>),
    Stop,
}

impl<'a> Follow<'a> {
    /// Makes a follower; it asks at the terminal if `is_asking`.
    pub(super) fn new(session: &'a Session, host: &'a Host, handle: RunHandle, is_asking: bool) -> Self {
        let screen = Screen::new(&session.output);
        Self { session, host, handle, screen, ask: is_asking.then(Ask::default), is_stopping: false }
    }

    /// Tells the follower of steps that the run has already.
    pub(super) fn knowing(mut self, steps: &[StepReport]) -> Self {
        self.screen.know(steps);
        self
    }

    /// Follows the run until it ends or is left suspended.
    ///
    /// # Errors
    /// Those of the run's owner, such as a log that cannot be written.
    pub(super) async fn until_it_stops(mut self) -> Result<RunReport, Failure> {
        let mut stop = Stop::listen()?;
        loop {
            match self.next(&mut stop).await {
                Next::Signal(None) => break,
                Next::Signal(Some(signal)) => self.signal(*signal)?,
                Next::Line(line) => self.line(line).await?,
                Next::Stop => self.stop().await?,
            }
        }
        self.screen.close();
        self.handle.finished().await
    }

    async fn next(&mut self, stop: &mut Stop) -> Next {
        let ask = self.ask.as_mut().filter(|ask| ask.is_open());
        let line = async {
            match ask {
                Some(ask) => ask.line().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.asked() => Next::Stop,
            signal = self.handle.signal() => Next::Signal(signal.map(Box::new)),
            line = line => Next::Line(line),
        }
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Failure> {
        self.screen.show(&signal)?;
        match signal {
            Signal::ApprovalWanted(view) => self.wanted(view),
            Signal::Event(event) => self.decided(&event),
            Signal::Progress { .. } => {}
        }
        Ok(())
    }

    fn wanted(&mut self, view: ApprovalView) {
        if let Some(question) = self.ask.as_mut().and_then(|ask| ask.add(view)) {
            self.screen.ask(&question);
        }
    }

    /// A decision may come from elsewhere while the question is open here.
    fn decided(&mut self, event: &Event) {
        let Fact::ApprovalDecided { step, .. } = &event.fact else { return };
        if self.ask.as_mut().is_some_and(|ask| ask.withdraw(step)) {
            self.ask_next();
        }
    }

    fn ask_next(&mut self) {
        match self.ask.as_mut().and_then(Ask::question) {
            Some(question) => self.screen.ask(&question),
            None => self.screen.go_on(),
        }
    }

    async fn line(&mut self, line: Option<String>) -> Result<(), Failure> {
        // A terminal that is gone cannot say yes.
        let reply = line.as_deref().map_or(Reply::Decided(Decision::Reject), ask::reply);
        match reply {
            Reply::Decided(decision) => self.decide(decision).await?,
            Reply::Details => {
                if let Some(details) = self.ask.as_ref().and_then(Ask::details) {
                    self.screen.ask(&details);
                }
            }
            Reply::Unclear => self.screen.ask("y, n or d? "),
        }
        Ok(())
    }

    async fn decide(&mut self, decision: Decision) -> Result<(), Failure> {
        let Some(view) = self.ask.as_mut().and_then(Ask::take) else { return Ok(()) };
        let message = Message::Decide {
            step: view.step,
            binding: view.binding,
            decision,
            by: self.session.by(None),
            reason: None,
        };
        let sent = self.host.send(self.handle.run(), message).await;
        self.too_late(sent)?;
        self.ask_next();
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), Failure> {
        if self.is_stopping {
            tell("stopped at once; what was under way is settled by `resume`");
            std::process::exit(i32::from(Code::CANCELLED.number()));
        }
        self.is_stopping = true;
        self.screen.say("stopping: what runs is ended first (again: at once)");
        let sent = self.handle.cancel(&self.session.by(None)).await;
        self.too_late(sent)
    }

    /// What a person said may arrive after the run has moved on: that is told, and harms nothing.
    fn too_late(&self, sent: Result<(), Failure>) -> Result<(), Failure> {
        match sent {
            Err(failure) if failure.kind == Kind::DataConflict => {
                self.screen.say("too late: the run has moved on");
                Ok(())
            }
            sent => sent,
        }
    }
}
