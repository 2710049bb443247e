//! Every event of a simulated run is one that the machine wanted where it stands, whatever died on the way.

use cofferdam::domain::{Event, Fact};
use cofferdam::orchestrator::{Refold, recovered};
use cofferdam::store::EventLog;

/// Folds the events of a run again.
pub async fn hold(log: &dyn EventLog, events: &[Event], seed: &str) {
    let (first, rest) = events.split_first().expect("there are events");
    let mut refold = Refold::of(first).expect("it is a run");
    for event in rest {
        if let Fact::RunClaimed { .. } = event.fact {
            refold.expect(recovered(log, refold.run()).await.expect("the journals are read"));
        }
        let wanted = refold.take(event).expect("it follows");
        assert!(wanted.is_none(), "{seed}: event {} is {:?}, wanted {wanted:?}", event.seq, event.fact);
    }
}
