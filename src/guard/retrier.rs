//! The retry policy and its budget as a handle.

use std::fmt;
use std::sync::Arc;

use crate::error::ConfigError;
use crate::event::Event;
use crate::event::Observer;
use crate::event::Scope;
use crate::event::Stop;
use crate::guard::Listener;
use crate::outcome::Ending;
use crate::outcome::Outcome;
use crate::policy::Attempt;
use crate::policy::Budget;
use crate::policy::BudgetConfig;
use crate::policy::Decision;
use crate::policy::RetryConfig;
use crate::policy::RetryState;
use crate::rng::Rng;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering;
use crate::sync::lock;
use crate::time::Instant;

/// Decides whether a call is tried again, within a budget that all calls of a target share.
///
/// A clone is the same retrier; `layer()` makes a tower layer of it. Several retriers, one for each route, can share
/// one budget: [`with_policy`](Self::with_policy).
///
/// Events: [`Event::RetryScheduled`] and [`Event::RetryDenied`], when an attempt has ended.
///
/// # Examples
/// ```
/// use mainstay::guard::{Retrier, RetrierConfig};
/// use mainstay::policy::{Condition, RetryConfig};
///
/// # fn main() -> Result<(), mainstay::ConfigError> {
/// let retrier = Retrier::new("orders", RetrierConfig {
///     retry: RetryConfig { on: [Condition::Unavailable].into_iter().collect(), ..RetryConfig::default() },
///     ..RetrierConfig::default()
/// })?;
/// let layer = retrier.layer();
/// assert_eq!(retrier.running(), 0);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Retrier {
    policy: Arc<RetryConfig>,
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    budget: Option<Mutex<Budget>>,
    max_running: u32,
    running: AtomicU32,
    rng: Rng,
    listener: Listener,
}

/// The settings of a [`Retrier`].
#[derive(Clone, Debug, PartialEq)]
pub struct RetrierConfig {
    /// Which attempts are repeated, how often and after how long. Default: only those that provably never reached an
    /// application.
    pub retry: RetryConfig,
    /// How much extra load retries may make; `None` for no bound. Default: 20% of the calls that succeed, and 10 a
    /// second.
    pub budget: Option<BudgetConfig>,
    /// How many retries may run or wait at once, in addition to the budget. Default: no bound.
    pub max_retries: u32,
}

impl Default for RetrierConfig {
    fn default() -> Self {
        Self { retry: RetryConfig::default(), budget: Some(BudgetConfig::default()), max_retries: u32::MAX }
    }
}

impl Retrier {
    /// Makes a retrier with a full budget.
    ///
    /// # Errors
    /// If a setting is out of its range.
    pub fn new(name: impl Into<Arc<str>>, config: RetrierConfig) -> Result<Self, ConfigError> {
        Self::build(name.into(), config, Listener::default(), Rng::unseeded())
    }

    /// Makes a retrier that tells `observer` what happens.
    ///
    /// # Errors
    /// If a setting is out of its range.
    pub fn observed(
        name: impl Into<Arc<str>>,
        config: RetrierConfig,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ConfigError> {
        Self::build(name.into(), config, Listener::new(observer), Rng::unseeded())
    }

    /// Makes a retrier whose back-off is the same in every run.
    ///
    /// # Errors
    /// If a setting is out of its range.
    pub fn seeded(name: impl Into<Arc<str>>, config: RetrierConfig, seed: u64) -> Result<Self, ConfigError> {
        Self::build(name.into(), config, Listener::default(), Rng::with_seed(seed))
    }

    pub(crate) fn build(
        name: Arc<str>,
        config: RetrierConfig,
        listener: Listener,
        rng: Rng,
    ) -> Result<Self, ConfigError> {
        config.retry.validate()?;
        let budget = config.budget.map(Budget::new).transpose()?.map(Mutex::new);
        let (max_running, running) = (config.max_retries, AtomicU32::new(0));
        let shared = Arc::new(Shared { name, budget, max_running, running, rng, listener });
        Ok(Self { policy: Arc::new(config.retry), shared })
    }

    /// Makes a retrier with another policy that shares the name, the budget and the bound of this one.
    ///
    /// # Errors
    /// If a setting is out of its range.
    pub fn with_policy(&self, retry: RetryConfig) -> Result<Self, ConfigError> {
        retry.validate()?;
        Ok(Self { policy: Arc::new(retry), shared: self.shared.clone() })
    }

    /// The name it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// How many retries run or wait now.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.shared.running.load(Ordering::Relaxed)
    }

    /// How many retries the budget allows now; nothing if there is no budget.
    #[must_use]
    pub fn balance(&self, now: Instant) -> Option<u64> {
        self.shared.budget.as_ref().map(|budget| lock(budget).balance(now))
    }

    /// Decides what follows an attempt that ended.
    ///
    /// `permit` is the place of the retry that just ended, if it was one; a new retry gets a new place.
    #[inline]
    pub fn decide(
        &self,
        now: Instant,
        deadline: Option<Instant>,
        state: &mut RetryState,
        attempt: &Attempt,
    ) -> (Decision, Option<RetryPermit>) {
        let outcome = attempt.ending.outcome;
        if outcome == Outcome::Success {
            self.deposit(now);
        }
        let number = state.attempts();
        let decided = match state.decide(&self.policy, now, deadline, self.shared.rng.next(), attempt) {
            Decision::Again { after, transparent: true } => (Decision::Again { after, transparent: true }, None),
            Decision::Again { after, transparent: false } => match self.withdraw(now) {
                Some(permit) => (Decision::Again { after, transparent: false }, Some(permit)),
                None => (Decision::Done(Stop::BudgetSpent), None),
            },
            done @ Decision::Done(_) => (done, None),
        };
        self.tell(outcome, number, decided.0);
        decided
    }

    /// Tells whether the policy repeats attempts that end like this.
    pub(crate) fn repeats(&self, ending: &Ending) -> bool {
        self.policy.on.matches(ending)
    }

    /// Hears how a call ended whose response was handed on before that was known.
    #[inline]
    pub(crate) fn committed(&self, now: Instant, attempt: u32, outcome: Outcome) {
        match outcome {
            Outcome::Success => self.deposit(now),
            Outcome::Failure(_) => self.tell(outcome, attempt, Decision::Done(Stop::Committed)),
            Outcome::Cancelled | Outcome::Rejected => {}
        }
    }

    #[inline]
    fn deposit(&self, now: Instant) {
        if let Some(budget) = &self.shared.budget {
            lock(budget).deposit(now);
        }
    }

    fn withdraw(&self, now: Instant) -> Option<RetryPermit> {
        let shared = &self.shared;
        let taken = shared.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |running| {
            (running < shared.max_running).then(|| running + 1)
        });
        taken.ok()?;
        let permit = RetryPermit(shared.clone());
        match &shared.budget {
            Some(budget) => lock(budget).withdraw(now).then_some(permit),
            None => Some(permit),
        }
    }

    #[inline]
    fn tell(&self, outcome: Outcome, attempt: u32, decision: Decision) {
        if self.shared.listener.is_deaf() {
            return;
        }
        let event = match decision {
            Decision::Done(Stop::Succeeded) => return,
            Decision::Done(stop) => Event::RetryDenied { outcome, attempt, stop },
            Decision::Again { after, transparent } => Event::RetryScheduled { outcome, attempt, after, transparent },
        };
        self.shared.listener.hear(&Scope::new(&self.shared.name), &event);
    }
}

impl fmt::Debug for Retrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrier")
            .field("name", &self.shared.name)
            .field("policy", &self.policy)
            .field("running", &self.running())
            .finish_non_exhaustive()
    }
}

/// The place of one retry, from the decision to its end.
pub struct RetryPermit(Arc<Shared>);

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for RetryPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RetryPermit").field(&self.0.name).finish()
    }
}
