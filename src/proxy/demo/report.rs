//! What the demo prints: a table, the same figures for programs, and in words only what the figures say.

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::proxy::demo::load::Tally;
use crate::proxy::demo::scrape::Counts;

/// How the same load went both ways.
pub(super) struct Report {
    pub(super) direct: Figures,
    pub(super) mainstay: Figures,
}

/// One column of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    calls: usize,
    failed: usize,
    p50: Duration,
    p99: Duration,
    p999: Duration,
    counts: Option<Counts>,
}

impl Figures {
    /// Takes the figures of a load. `counts` are the proxy's own, if there was a proxy.
    pub(super) fn new(tally: &Tally, counts: Option<Counts>) -> Self {
        Self {
            calls: tally.calls(),
            failed: tally.failed(),
            p50: tally.percentile(0.5),
            p99: tally.percentile(0.99),
            p999: tally.percentile(0.999),
            counts,
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn success_rate(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { (self.calls - self.failed) as f64 / self.calls as f64 }
    }

    // A plain client makes one attempt for each call.
    fn attempts_per_call(&self) -> f64 {
        self.counts.map_or(1.0, |counts| counts.attempts_per_call())
    }

    fn count(&self, pick: impl FnOnce(Counts) -> u64) -> String {
        self.counts.map_or_else(|| "-".to_owned(), |counts| pick(counts).to_string())
    }

    fn to_json(self) -> Value {
        json!({
            "calls": self.calls,
            "failed": self.failed,
            "success_rate": self.success_rate(),
            "p50_ms": millis(self.p50),
            "p99_ms": millis(self.p99),
            "p999_ms": millis(self.p999),
            "attempts_per_call": self.attempts_per_call(),
            "retries": self.counts.map(|counts| counts.retries),
            "ejections": self.counts.map(|counts| counts.ejections),
            "breaker_trips": self.counts.map(|counts| counts.breaker_trips),
        })
    }
}

impl Report {
    /// The figures as one object.
    pub(super) fn to_json(&self) -> Value {
        json!({ "direct": self.direct.to_json(), "mainstay": self.mainstay.to_json() })
    }

    /// Says in words what the table says, and no more.
    pub(super) fn summary(&self) -> Vec<String> {
        let Self { direct, mainstay } = self;
        if direct.calls == 0 || mainstay.calls == 0 {
            return vec!["Too few calls to say anything.".to_owned()];
        }
        let mut lines = vec![
            format!(
                "Directly, {} of {} calls failed; through Mainstay, {} of {}.",
                direct.failed, direct.calls, mainstay.failed, mainstay.calls
            ),
            self.verdict(),
            self.tail(),
        ];
        lines.extend(self.price());
        lines
    }

    fn verdict(&self) -> String {
        let (before, after) = (1.0 - self.direct.success_rate(), 1.0 - self.mainstay.success_rate());
        if after > before {
            return "Mainstay made it worse: more calls failed than without it.".to_owned();
        }
        if self.direct.failed == 0 {
            return "Nothing failed either way, so there was nothing to save.".to_owned();
        }
        if self.mainstay.failed == 0 {
            return "Mainstay saved every call that would have failed.".to_owned();
        }
        let saved = 100.0 * (1.0 - after / before);
        if saved < 1.0 {
            return "Mainstay saved no calls worth speaking of.".to_owned();
        }
        format!("Mainstay saved {saved:.1}% of the calls that would have failed.")
    }

    fn tail(&self) -> String {
        let (before, after) = (millis(self.direct.p99), millis(self.mainstay.p99));
        let (word, factor) = if after <= before { ("shorter", before / after) } else { ("longer", after / before) };
        if factor < 1.1 {
            return format!("The slowest 1% of the calls took about as long: over {before:.0} ms and {after:.0} ms.");
        }
        format!(
            "The slowest 1% of the calls took over {before:.0} ms, and {after:.0} ms with it: {factor:.1} times {word}."
        )
    }

    fn price(&self) -> Option<String> {
        let counts = self.mainstay.counts?;
        let extra = 100.0 * (counts.attempts_per_call() - 1.0);
        let mut line = format!("It sent {extra:.1}% more requests than there were calls");
        if counts.ejections > 0 {
            line += &format!(", took endpoints out of the balance {}", times(counts.ejections));
        }
        if counts.breaker_trips > 0 {
            line += &format!(", opened a breaker {}", times(counts.breaker_trips));
        }
        let (before, after) = (millis(self.direct.p50), millis(self.mainstay.p50));
        line += &format!("; the median call went from {before:.1} ms to {after:.1} ms.");
        Some(line)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direct, mainstay } = self;
        writeln!(f, "{:<20}{:>12}{:>20}", "", "direct", "through mainstay")?;
        let mut row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
            writeln!(f, "{name:<20}{:>12}{:>20}", cell(direct), cell(mainstay))
        };
        row("calls", &|figures| figures.calls.to_string())?;
        row("success rate", &|figures| percent(figures.success_rate()))?;
        row("p50", &|figures| format!("{:.1} ms", millis(figures.p50)))?;
        row("p99", &|figures| format!("{:.1} ms", millis(figures.p99)))?;
        row("p99.9", &|figures| format!("{:.1} ms", millis(figures.p999)))?;
        row("attempts per call", &|figures| format!("{:.2}", figures.attempts_per_call()))?;
        row("retries", &|figures| figures.count(|counts| counts.retries))?;
        row("ejections", &|figures| figures.count(|counts| counts.ejections))?;
        row("breaker trips", &|figures| figures.count(|counts| counts.breaker_trips))
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Rounds down, so that only a perfect run prints 100%.
fn percent(rate: f64) -> String {
    format!("{:.2}%", (rate * 10_000.0).floor() / 100.0)
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(failed: usize, p99: u64, counts: Option<Counts>) -> Figures {
        let p99 = Duration::from_millis(p99);
        Figures { calls: 1000, failed, p50: Duration::from_millis(4), p99, p999: 2 * p99, counts }
    }

    fn report(direct: usize, mainstay: usize) -> Report {
        let counts = Counts { calls: 1000, attempts: 1100, retries: 100, ejections: 1, breaker_trips: 2 };
        Report { direct: figures(direct, 600, None), mainstay: figures(mainstay, 60, Some(counts)) }
    }

    #[test]
    fn the_words_follow_the_figures() {
        assert!(report(150, 0).verdict().contains("every call"));
        assert!(report(150, 3).verdict().contains("98.0%"));
        assert!(report(3, 4).verdict().contains("worse"));
        assert!(report(0, 0).verdict().contains("nothing to save"));
        assert!(report(150, 0).tail().contains("10.0 times shorter"));
        let price = report(150, 0).price().expect("there are counts");
        assert!(price.contains("10.0% more") && price.contains("once") && price.contains("2 times"), "{price}");
    }

    #[test]
    fn only_a_perfect_run_prints_as_perfect() {
        assert_eq!(percent(0.999_99), "99.99%");
        assert_eq!(percent(1.0), "100.00%");
    }

    #[test]
    fn the_table_has_a_row_for_each_figure() {
        let table = report(150, 3).to_string();
        expect_test::expect![[r#"
                                      direct    through mainstay
            calls                       1000                1000
            success rate              85.00%              99.70%
            p50                       4.0 ms              4.0 ms
            p99                     600.0 ms             60.0 ms
            p99.9                  1200.0 ms            120.0 ms
            attempts per call           1.00                1.10
            retries                        -                 100
            ejections                      -                   1
            breaker trips                  -                   2
        "#]]
        .assert_eq(&table);
    }
}
