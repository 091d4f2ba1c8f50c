//! The Prometheus text, read.

use std::collections::BTreeMap;

use crate::client::call;
use crate::client::get;
use crate::fixture::Proxy;

/// One scrape.
pub(crate) struct Metrics {
    pub(crate) text: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    /// Scrapes a proxy.
    pub(crate) async fn of(proxy: &Proxy) -> Self {
        let answer = call(proxy.admin, get("/metrics")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.field("content-type")),
            (200, "text/plain; version=0.0.4; charset=utf-8")
        );
        let samples =
            answer.body.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(sample).collect();
        Self { text: answer.body, samples }
    }

    /// The sum of all samples with this name.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.with(name, &[])
    }

    /// The sum of all samples with this name that have these labels.
    pub(crate) fn with(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| found.get(*key).is_some_and(|found| found == value))
        };
        self.samples
            .iter()
            .filter(|(found, labels, _)| found == name && wanted(labels))
            .map(|(_, _, value)| value)
            .sum()
    }

    /// The names of all samples.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().map(|(name, _, _)| name.as_str())
    }
}

/// Reads `name{key="value",...} number`. Labels here hold no quotes and no commas.
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    let Some((name, labels)) = series.split_once('{') else { return (series.to_owned(), BTreeMap::new(), value) };
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("no labels: {line}"));
    let label = |label: &str| {
        let (key, value) = label.split_once('=').unwrap_or_else(|| panic!("no label: {line}"));
        (key.to_owned(), value.trim_matches('"').to_owned())
    };
    (name.to_owned(), labels.split(',').map(label).collect(), value)
}
