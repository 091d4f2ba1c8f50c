//! From the document's words to the policies' configs, which alone know what is in range.

use crate::error::ConfigError;
use crate::policy::BackoffConfig;
use crate::policy::BreakerConfig;
use crate::policy::BudgetConfig;
use crate::policy::OutlierConfig;
use crate::policy::RetryConfig;
use crate::policy::Schedule;
use crate::policy::WindowConfig;

use super::Backoff;
use super::Breaker;
use super::Budget;
use super::OpenFor;
use super::Outlier;
use super::Retry;

/// As the default window of a breaker: fine enough, and 160 bytes.
const BUCKETS: u32 = 10;

impl From<&Breaker> for BreakerConfig {
    fn from(breaker: &Breaker) -> Self {
        Self {
            window: WindowConfig::Time { period: breaker.window, buckets: BUCKETS },
            failure_rate: breaker.failure_rate,
            min_calls: breaker.min_calls,
            consecutive: breaker.consecutive_failures,
            open_for: (&breaker.open_for).into(),
            half_open_permits: breaker.half_open_permits,
            ..Self::default()
        }
    }
}

impl From<&OpenFor> for crate::policy::OpenFor {
    fn from(open_for: &OpenFor) -> Self {
        Self { start: open_for.start, max: open_for.max, ..BreakerConfig::default().open_for }
    }
}

impl From<&Budget> for BudgetConfig {
    fn from(budget: &Budget) -> Self {
        Self { ratio: budget.ratio, min_per_second: budget.min_per_second, ..Self::default() }
    }
}

impl From<&Outlier> for OutlierConfig {
    fn from(outlier: &Outlier) -> Self {
        Self {
            consecutive_failures: outlier.consecutive_failures,
            interval: outlier.interval,
            base_ejection_time: outlier.base_ejection_time,
            max_ejection_time: outlier.max_ejection_time,
            max_ejection_percent: outlier.max_ejection_percent,
            ..Self::default()
        }
    }
}

impl From<&Backoff> for BackoffConfig {
    fn from(backoff: &Backoff) -> Self {
        let schedule = Schedule::Exponential { base: backoff.base, factor: 2.0, max: backoff.max };
        Self { schedule, ..Self::default() }
    }
}

impl From<&Retry> for RetryConfig {
    fn from(retry: &Retry) -> Self {
        Self {
            max_attempts: retry.max_attempts,
            on: retry.on.clone(),
            backoff: (&retry.backoff).into(),
            ..Self::default()
        }
    }
}

impl Breaker {
    /// Lists all that is out of range.
    pub(crate) fn problems(&self) -> Vec<ConfigError> {
        all(self.clone(), &|breaker| BreakerConfig::from(breaker).validate(), &|breaker, field| {
            let Self { failure_rate, min_calls, window, consecutive_failures, open_for, half_open_permits } =
                Self::default();
            match field {
                "failure_rate" => breaker.failure_rate = failure_rate,
                "min_calls" => breaker.min_calls = min_calls,
                "window.period" => breaker.window = window,
                "consecutive" => breaker.consecutive_failures = consecutive_failures,
                "open_for.start" | "open_for.max" => breaker.open_for = open_for,
                "half_open_permits" => breaker.half_open_permits = half_open_permits,
                _ => return false,
            }
            true
        })
    }
}

impl Budget {
    /// Lists all that is out of range: only one field can be.
    pub(crate) fn problems(&self) -> Vec<ConfigError> {
        BudgetConfig::from(self).validate().err().into_iter().collect()
    }
}

impl Outlier {
    /// Lists all that is out of range.
    pub(crate) fn problems(&self) -> Vec<ConfigError> {
        all(self.clone(), &|outlier| OutlierConfig::from(outlier).validate(), &|outlier, field| {
            let defaults = Self::default();
            match field {
                "consecutive_failures" => outlier.consecutive_failures = defaults.consecutive_failures,
                "interval" => outlier.interval = defaults.interval,
                "base_ejection_time" | "max_ejection_time" => {
                    outlier.base_ejection_time = defaults.base_ejection_time;
                    outlier.max_ejection_time = defaults.max_ejection_time;
                }
                "max_ejection_percent" => outlier.max_ejection_percent = defaults.max_ejection_percent,
                _ => return false,
            }
            true
        })
    }
}

impl Retry {
    /// Lists all that is out of a policy's range.
    pub(crate) fn problems(&self) -> Vec<ConfigError> {
        all(self.clone(), &|retry| RetryConfig::from(retry).validate(), &|retry, field| {
            let Self { max_attempts, on, backoff, .. } = Self::default();
            match field {
                "max_attempts" => retry.max_attempts = max_attempts,
                "on" => retry.on = on,
                "backoff.base" | "backoff.max" => retry.backoff = backoff,
                _ => return false,
            }
            true
        })
    }
}

// A policy names the first field that is wrong. With that one `reset` to its default it names the next; a field that
// `reset` does not know ends it.
fn all<T>(
    mut settings: T,
    validate: &dyn Fn(&T) -> Result<(), ConfigError>,
    reset: &dyn Fn(&mut T, &str) -> bool,
) -> Vec<ConfigError> {
    let mut problems = Vec::new();
    while let Err(problem) = validate(&settings) {
        let goes_on = reset(&mut settings, problem.field());
        problems.push(in_words_of_the_document(problem));
        if !goes_on {
            break;
        }
    }
    problems
}

fn in_words_of_the_document(problem: ConfigError) -> ConfigError {
    let field = match problem.field() {
        "window.period" => "window",
        "consecutive" => "consecutive_failures",
        field => field,
    };
    let allowed = problem.allowed().replace("`consecutive`", "`consecutive_failures`");
    ConfigError::new(field, problem.value(), allowed)
}
