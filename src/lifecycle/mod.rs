//! From ready to drained: what a process says of itself, and how it ends.

use tokio::sync::watch;

/// What a process says of itself.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Phase {
    /// It takes no calls yet.
    #[default]
    Starting,
    /// It takes calls.
    Ready,
    /// It finishes the calls that it has, and takes no new connections.
    Draining,
    /// It ends, whatever is left.
    Stopped,
}

/// The phase of this process. A clone is the same one.
///
/// # Examples
/// ```
/// use mainstay::lifecycle::{Lifecycle, Phase};
///
/// let lifecycle = Lifecycle::default();
/// lifecycle.ready();
/// assert_eq!(lifecycle.phase(), Phase::Ready);
/// let work = lifecycle.work();
/// lifecycle.drain();
/// assert_eq!(work.phase(), Phase::Draining);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
}

/// The phase as those at work see it.
#[derive(Clone, Debug)]
pub struct Work {
    phase: watch::Receiver<Phase>,
}

impl Lifecycle {
    /// Where it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Takes calls from now on.
    pub fn ready(&self) {
        self.reach(Phase::Ready);
    }

    /// Takes no more, and lets those at work finish.
    pub fn drain(&self) {
        self.reach(Phase::Draining);
    }

    /// Ends, whatever is left.
    pub fn stop(&self) {
        self.reach(Phase::Stopped);
    }

    // Only ever forward.
    fn reach(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let later = phase > *current;
            *current = phase.max(*current);
            later
        });
    }

    /// Makes a view for somebody at work.
    #[must_use]
    pub fn work(&self) -> Work {
        Work { phase: self.phase.subscribe() }
    }
}

impl Work {
    /// Where it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits until `phase` is reached.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub async fn reached(&mut self, phase: Phase) {
        // A lifecycle that is gone reaches no phase any more; whoever waits for one should end.
        let _ = self.phase.wait_for(|current| *current >= phase).await;
    }
}
