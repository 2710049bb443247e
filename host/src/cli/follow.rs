//! Follows a run of this process: shows its signals, asks the person, and passes on what the person says.

use crate::domain::{Event, Fact, Failure, Kind, RunId};
use crate::host::{ApprovalView, Choice, Host, Message, RunHandle, RunReport, Signal};

use super::Session;
use super::approval::Length;
use super::ask::{self, Ask, Matter, Reply};
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
        let screen = Screen::new(&session.output, handle.run());
        Self { session, host, handle, screen, ask: is_asking.then(Ask::default), is_stopping: false }
    }

    /// Tells the follower of what the run has already.
    pub(super) fn knowing(mut self, before: &RunReport) -> Self {
        self.screen.know(&before.steps);
        self.screen.know_trace(before.trace_id);
        self
    }

    /// Asks what the planner of the run asked before this process took it.
    pub(super) fn asking(mut self, question: Option<(u32, String)>) -> Self {
        if let Some((turn, text)) = question {
            let run = self.handle.run().clone();
            self.wanted(Matter::Question { run, turn, text });
        }
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
                Next::Signal(Some(signal)) => self.signal(*signal).await?,
                Next::Line(None) if self.is_questioned() => return self.leave().await,
                Next::Line(line) => self.line(line).await?,
                Next::Stop => self.stop().await?,
            }
        }
        self.screen.close();
        self.handle.finished().await
    }

    async fn next(&mut self, stop: &mut Stop) -> Next {
        let ask = self.ask.as_mut().filter(|ask| ask.open().is_some());
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

    /// Nobody is left to answer: the run waits in its log, where `resume` finds it.
    async fn leave(mut self) -> Result<RunReport, Failure> {
        self.screen.close();
        self.host.show(self.handle.run()).await
    }

    async fn signal(&mut self, signal: Signal) -> Result<(), Failure> {
        self.screen.show(&signal)?;
        match signal {
            Signal::ApprovalWanted(view) => self.wanted(Matter::Approval(view)),
            Signal::Event(event) => self.event(&event).await?,
            Signal::Progress { .. } => {}
        }
        Ok(())
    }

    /// Asks what the planner asked. A decision or an answer may come from elsewhere while its question is open here.
    async fn event(&mut self, event: &Event) -> Result<(), Failure> {
        let Some(ask) = &mut self.ask else { return Ok(()) };
        let was_open = match &event.fact {
            Fact::ApprovalDecided { step, .. } => ask.withdraw(&event.run, step),
            Fact::QuestionAnswered { .. } => ask.withdraw_questions(&event.run),
            Fact::Asked { turn, .. } => {
                if let Some(text) = self.host.show(&event.run).await?.question {
                    let (run, turn) = (event.run.clone(), *turn);
                    self.wanted(Matter::Question { run, turn, text });
                }
                false
            }
            _ => false,
        };
        if was_open {
            self.ask_next();
        }
        Ok(())
    }

    fn wanted(&mut self, matter: Matter) {
        if self.ask.as_mut().is_some_and(|ask| ask.add(matter)) {
            self.ask_next();
        }
    }

    /// Shows the question that is open now; without one, bars are drawn again.
    fn ask_next(&mut self) {
        match self.ask.as_ref().and_then(Ask::open) {
            Some(_) => self.show_question(Length::Short),
            None => self.screen.go_on(),
        }
    }

    /// Shows the open question. What was typed before it stood there does not answer it.
    fn show_question(&mut self, length: Length) {
        let Some(ask) = &mut self.ask else { return };
        if let Some(matter) = ask.open() {
            self.screen.ask(&matter.question(length));
            ask.listen();
        }
    }

    fn is_questioned(&self) -> bool {
        matches!(self.ask.as_ref().and_then(Ask::open), Some(Matter::Question { .. }))
    }

    async fn line(&mut self, line: Option<String>) -> Result<(), Failure> {
        if self.is_questioned() {
            return self.answer(line.unwrap_or_default().trim()).await;
        }
        // A terminal that is gone cannot say yes.
        let reply = line.as_deref().map_or(Reply::Decided(Choice::Reject), ask::reply);
        match reply {
            Reply::Decided(choice) => self.decide(choice).await?,
            Reply::Details => self.show_question(Length::Full),
            Reply::Unclear => self.screen.ask("y, n or d? "),
        }
        Ok(())
    }

    async fn decide(&mut self, choice: Choice) -> Result<(), Failure> {
        let Some(Matter::Approval(view)) = self.ask.as_mut().and_then(Ask::take) else { return Ok(()) };
        let ApprovalView { run, step, binding, .. } = *view;
        self.send(&run, Message::Decide { step, binding, choice, by: self.session.by(None), reason: None }).await
    }

    async fn answer(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            self.screen.ask("an answer, please (Ctrl-C stops the run): ");
            return Ok(());
        }
        let Some(Matter::Question { run, turn, .. }) = self.ask.as_mut().and_then(Ask::take) else { return Ok(()) };
        self.send(&run, Message::Answer { turn, text: text.to_owned(), by: self.session.by(None) }).await
    }

    /// Passes on what the person said, and asks the next thing.
    async fn send(&mut self, run: &RunId, message: Message) -> Result<(), Failure> {
        let sent = self.host.send(run, message).await;
        self.too_late(sent)?;
        self.ask_next();
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), Failure> {
        if self.is_stopping {
            tell("left at once; what was under way is settled by `resume`");
            std::process::exit(i32::from(Code::CANCELLED.number()));
        }
        self.is_stopping = true;
        self.screen
            .say("stopping the calls that run; one that was writing may have written a part (again: leave at once)");
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
